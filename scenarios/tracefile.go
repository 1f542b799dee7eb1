package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/workload"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// TraceOptions is what GenerateTrace makes and where it goes.
type TraceOptions struct {
	Seed     uint64
	Profile  string // name of a built-in one, or path of a file
	Accounts int    // of the population
	Window   workload.Window
	Workers  int    // 0 for as many as there are processors
	Out      string // path of the file, StandardOutput for Stdout
	Force    bool   // replace a file that is there
	Stdout   io.Writer
	Progress io.Writer
	Terminal bool // whether Progress is a terminal
}

// StandardOutput is the path that stands for standard output.
const StandardOutput = "-"

// ExistsError says that the file to be written is there already.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s is there already: name another file, or replace it with --force", e.Path)
}

// ParseTimeOfDay reads a time of day such as 14:00 or 14:00:30.
func ParseTimeOfDay(text string) (time.Duration, error) {
	var s Start
	if v, ok := startValue(&s).(strictyaml.Scalar); !ok || !v.Parse(&node{Kind: strictyaml.TextKind, Text: text}) || s.BusiestHour {
		return 0, fmt.Errorf("%s is no time of day such as 14:00 or 14:00:30", strictyaml.Quote(text))
	}
	return s.TimeOfDay, nil
}

// GenerateTrace makes a trace and writes it. A file appears under its name only
// when it is whole.
func GenerateTrace(ctx context.Context, o TraceOptions) error {
	text, err := ProfileText(o.Profile)
	if err != nil {
		return err
	}
	profile, err := workload.ParseProfile(o.Profile, text)
	if err != nil {
		return err
	}
	population := workload.DefaultPopulation(o.Seed)
	population.Accounts, population.Peers = o.Accounts, &profile.Peers
	t, err := workload.NewTrace(o.Seed, profile.Model, population, o.Window)
	if err != nil {
		return &InputError{Msg: err.Error()}
	}
	var totals workload.TraceTotals
	began := time.Now()
	write := func(w io.Writer) error {
		progress := newBar(o.Progress, o.Terminal)
		var err error
		totals, err = workload.WriteTrace(ctx, w, t, profile.Name, o.Workers, func(done, total int) {
			progress.draw("generate", "generate: "+virtualClock(o.Window.From+time.Duration(done)*time.Minute), int64(done), int64(total), "minutes")
		})
		return err
	}
	if err := writeTo(o.Out, o.Stdout, o.Force, write); err != nil {
		return err
	}
	fmt.Fprintf(o.Progress, "generate: %s messages, %s first tries in %.1f s; %s bytes, sha256 %s\n", thousands(totals.Messages), thousands(totals.Tries),
		time.Since(began).Seconds(), thousands(totals.Bytes), totals.SHA256)
	return nil
}

// ProfileText is the YAML of a built-in profile, or of a file: what has a folder
// or .yaml or .yml in it is a path. Its errors are of type *InputError.
func ProfileText(nameOrPath string) ([]byte, error) {
	if !isPath(nameOrPath) {
		text, err := workload.BuiltinProfileText(nameOrPath)
		if err != nil {
			return nil, &InputError{Msg: err.Error() + "; a file of yours is named by its path, such as ./mine.yaml", Cause: err}
		}
		return text, nil
	}
	text, err := readFile("profile", nameOrPath)
	if err != nil {
		return nil, &InputError{File: nameOrPath, Msg: err.Error(), Cause: err}
	}
	return text, nil
}

// writeTo writes a trace to the standard output or, whole, to a file.
func writeTo(out string, stdout io.Writer, force bool, write func(io.Writer) error) error {
	if out == StandardOutput {
		return write(stdout)
	}
	return writeWhole(out, force, write)
}

// writeWhole writes a file beside path, and gives it its name when it is whole.
func writeWhole(path string, force bool, write func(io.Writer) error) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write %s: %w", path, err)
	case !force:
		return &ExistsError{path}
	case !info.Mode().IsRegular():
		return fmt.Errorf("write %s: it is there and is not a regular file, which is not replaced", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	err = write(f)
	if err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if force {
		err = os.Rename(f.Name(), path)
	} else if err = os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return &ExistsError{path}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// OpenTrace opens a trace file, or the slice of it that begins at from and
// lasts for duration, where they are not nil. Its errors are of type *InputError.
func OpenTrace(path string, from, duration *time.Duration) (*workload.TraceFile, error) {
	f, err := workload.OpenTrace(path)
	if err != nil {
		return nil, &InputError{Msg: err.Error(), Cause: err}
	}
	if from == nil && duration == nil {
		return f, nil
	}
	w := f.Window()
	end := w.From + w.Duration
	if from != nil {
		w.From = *from
	}
	if w.Duration = end - w.From; duration != nil {
		w.Duration = *duration
	}
	s, err := f.Slice(w)
	if err != nil {
		_ = f.Close() // only read
		return nil, &InputError{Msg: err.Error(), Cause: err}
	}
	return s, nil
}

// InspectTrace reads a trace file, or a slice of it as OpenTrace, and says what
// is in it. Blocks draws the picture with block characters instead of ASCII.
func InspectTrace(ctx context.Context, w io.Writer, path string, from, duration *time.Duration, blocks bool) error {
	f, err := OpenTrace(path, from, duration)
	if err != nil {
		return err
	}
	defer f.Close()
	header := f.Header()
	known := header.Population.Has
	if header.Imported() {
		known = nil
	}
	stats, err := workload.StatsOf(ctx, f, known)
	if err != nil {
		var wrong *workload.TraceFileError
		if errors.As(err, &wrong) {
			return &InputError{Msg: err.Error(), Cause: err}
		}
		return fmt.Errorf("inspect %s: %w", path, err)
	}
	d := inspection{w: w, file: f, stats: stats, blocks: blocks}
	d.draw(path)
	return d.err
}
