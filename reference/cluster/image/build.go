package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
)

const (
	baseOfficial = "debian:sid"
	baseOwn      = "mailbench/base:sid"
)

// Progress is how far a build has come.
type Progress struct {
	Step, Steps int    // of the Dockerfile, from 1
	Command     string // what the step runs
	Percent     int    // of the compiler's work in this step, -1 if it does not compile
}

// String is one line of at most 79 columns.
func (p Progress) String() string {
	line := fmt.Sprintf("image: step %d/%d %s", p.Step, p.Steps, p.Command)
	tail := ""
	if p.Percent >= 0 {
		tail = fmt.Sprintf(" compiling %d %%", p.Percent)
	}
	if room := 79 - len(tail); len(line) > room {
		line = line[:room]
	}
	return line + tail
}

// BuildError says which step of a build failed and where its output is.
type BuildError struct {
	Step string
	Log  string
	Err  error
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("building the image failed at %s: %v\n  the whole output is in %s", e.Step, e.Err, e.Log)
}

// Unwrap returns the cause.
func (e *BuildError) Unwrap() error { return e.Err }

// build makes the image from the embedded folder.
func build(ctx context.Context, c *client.Client, o Options) (Found, error) {
	recipe, hash := o.Kind.recipe(), o.Kind.Hash()
	if err := checkDisk(ctx, c, recipe.diskNeeded); err != nil {
		return Found{}, err
	}
	log, err := openLog(o.LogPath, hash)
	if err != nil {
		return Found{}, fmt.Errorf("open the build's log: %w", err)
	}
	defer log.Close()
	o.Announce("image: the build's whole output goes to " + log.Name())

	base, frozen, err := findBase(ctx, c, o, log)
	if err != nil {
		return Found{}, &BuildError{Step: "the base image", Log: log.Name(), Err: err}
	}
	name := recipe.repository + ":" + hash
	o.Announce(fmt.Sprintf("image: building %s from %s; %s, once", name, base, recipe.effort))
	options := ""
	if frozen {
		// The package index that made the base may be a frozen copy whose validity
		// has run out; a base that was pulled needs no such leniency.
		options = "-o Acquire::Check-Valid-Until=false"
	}
	last, err := runBuild(ctx, c, o, log, name, map[string]*string{"BASE": &base, "APT_OPTIONS": &options})
	if err != nil {
		return Found{}, &BuildError{Step: last, Log: log.Name(), Err: err}
	}
	id, err := inspect(ctx, c, name)
	if err != nil {
		return Found{}, &BuildError{Step: "the finished image", Log: log.Name(), Err: err}
	}
	o.Announce(fmt.Sprintf("image: built %s", name))
	return Found{Name: name, ID: id, How: "built"}, nil
}

// openLog makes the file at path. If path is empty the file is one that neither
// another user nor another build writes: in the user's cache folder, or among
// the temporary files of a user without a cache folder that can be written.
func openLog(path, hash string) (*os.File, error) {
	if path != "" {
		return create(path)
	}
	name := fmt.Sprintf("image-build-%s-%d", hash, os.Getpid())
	cache, err := os.UserCacheDir()
	if err == nil {
		var log *os.File
		if log, err = create(filepath.Join(cache, "mailbench", name+".log")); err == nil {
			return log, nil
		}
	}
	log, tempErr := os.CreateTemp("", "mailbench-"+name+"-*.log")
	if tempErr != nil {
		return nil, fmt.Errorf("%w; and %w", err, tempErr)
	}
	return log, nil
}

func create(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.Create(path)
}

// checkDisk refuses to start a build that the engine's disk cannot hold. An
// engine elsewhere, whose disk cannot be seen, is given the benefit of doubt.
func checkDisk(ctx context.Context, c *client.Client, needed uint64) error {
	info, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return fmt.Errorf("ask the engine where it keeps images: %w", err)
	}
	var fsStat syscall.Statfs_t
	if err := syscall.Statfs(info.Info.DockerRootDir, &fsStat); err != nil {
		return nil
	}
	if free := fsStat.Bavail * uint64(fsStat.Bsize); free < needed {
		return fmt.Errorf("building the image needs %d GiB in %s, which has %.1f GiB free; "+
			"make room (docker system prune)",
			needed>>30, info.Info.DockerRootDir, float64(free)/(1<<30))
	}
	return nil
}

// findBase returns a Debian sid base image, and whether it was made here.
func findBase(ctx context.Context, c *client.Client, o Options, log io.Writer) (name string, frozen bool, err error) {
	if _, err := pulled(ctx, c, baseOfficial, o.Announce); err == nil {
		return baseOfficial, false, nil
	} else if ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	if _, err := inspect(ctx, c, baseOwn); err == nil {
		o.Announce(fmt.Sprintf("image: %s is there", baseOwn))
		return baseOwn, true, nil
	}
	if err := makeBase(ctx, c, o, log); err != nil {
		return "", false, err
	}
	return baseOwn, true, nil
}

// hostCommand is a command that is asked to end when ctx does, and killed only
// if it does not: mmdebstrap has a folder to remove, and a package manager that
// is killed leaves packages half configured.
func hostCommand(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	return command
}

// makeBase makes a minimal Debian sid with mmdebstrap and imports it.
func makeBase(ctx context.Context, c *client.Client, o Options, log io.Writer) error {
	if err := ensureMmdebstrap(ctx, o, log); err != nil {
		return err
	}
	o.Announce(fmt.Sprintf("image: making %s with mmdebstrap; some 20 seconds", baseOwn))
	command := hostCommand(ctx, "mmdebstrap", "--variant=minbase",
		`--aptopt=Acquire::Check-Valid-Until "false"`, "sid", "-")
	command.Stderr = log
	output, err := command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run mmdebstrap: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("run mmdebstrap: %w", err)
	}
	imported, importErr := c.ImageImport(ctx, client.ImageImportSource{Source: output, SourceName: "-"}, baseOwn,
		client.ImageImportOptions{Changes: []string{"LABEL " + engine.LabelBase + "=sid"}})
	if importErr == nil {
		_, importErr = io.Copy(log, imported)
		importErr = errors.Join(importErr, imported.Close())
	} else {
		_ = command.Cancel()
	}
	if err := command.Wait(); err != nil {
		// A half-made base must not be found by the next build.
		_, _ = c.ImageRemove(context.WithoutCancel(ctx), baseOwn, client.ImageRemoveOptions{})
		return errors.Join(fmt.Errorf("mmdebstrap: %w", err), importErr)
	}
	if importErr != nil {
		return fmt.Errorf("import the base image: %w", importErr)
	}
	return nil
}

// ensureMmdebstrap installs mmdebstrap where it is missing and may be
// installed. It is the only thing that mailbench installs on a host.
func ensureMmdebstrap(ctx context.Context, o Options, log io.Writer) error {
	if _, err := exec.LookPath("mmdebstrap"); err == nil {
		return nil
	}
	const advice = "mmdebstrap is needed to make the base image, since %s cannot be pulled; " +
		"install it (Debian: apt-get install mmdebstrap)"
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf(advice, baseOfficial)
	}
	o.Announce("image: installing mmdebstrap on this host, to make the base image")
	for _, arguments := range [][]string{{"update", "-q"}, {"install", "-qy", "--no-install-recommends", "mmdebstrap"}} {
		command := hostCommand(ctx, "apt-get", arguments...)
		// A terminal's interrupt goes to a whole process group, and would stop the
		// dpkg that apt-get runs in the middle of a package.
		command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		command.Stdout, command.Stderr = log, log
		if err := command.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w; "+advice, arguments[0], err, baseOfficial)
		}
	}
	return nil
}

// runBuild runs the engine's builder and returns the step that it reached.
func runBuild(ctx context.Context, c *client.Client, o Options, log io.Writer, tag string, args map[string]*string) (last string, err error) {
	last = "its start"
	archive, err := contextArchive(o.Kind.recipe().folder)
	if err != nil {
		return last, err
	}
	result, err := c.ImageBuild(ctx, archive, client.ImageBuildOptions{
		Tags:      []string{tag},
		BuildArgs: args,
		Labels:    map[string]string{engine.LabelImage: o.Kind.Hash()},
		Remove:    true, ForceRemove: true,
	})
	if err != nil {
		return last, err
	}
	defer result.Body.Close()
	var tracker stepTracker
	for message, err := range messages(result.Body) {
		if err != nil {
			return tracker.name(), fmt.Errorf("read the builder's output: %w", err)
		}
		fmt.Fprint(log, message.Stream)
		if message.Error != nil {
			fmt.Fprintln(log, message.Error.Message)
			return tracker.name(), message.Error
		}
		if tracker.read(message.Stream) && o.Progress != nil {
			o.Progress(tracker.Progress)
		}
	}
	return tracker.name(), ctx.Err()
}

// contextArchive packs the image folder as the builder wants it.
func contextArchive(folder fs.FS) (io.Reader, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	err := fs.WalkDir(folder, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(folder, path)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = archive.Write(data)
		return err
	})
	return &buffer, errors.Join(err, archive.Close())
}

var (
	stepLine    = regexp.MustCompile(`^Step (\d+)/(\d+) : (.*)`)
	compileLine = regexp.MustCompile(`^\[(\d+)/(\d+)\] `)
)

// stepTracker follows a build by the lines that the builder and Ninja print.
type stepTracker struct{ Progress }

// read takes some output and says whether the progress has changed.
func (t *stepTracker) read(stream string) (changed bool) {
	for line := range strings.Lines(stream) {
		if m := stepLine.FindStringSubmatch(line); m != nil {
			t.Step, t.Steps = number(m[1]), number(m[2])
			t.Command, t.Percent = strings.Join(strings.Fields(m[3]), " "), -1
			changed = true
		} else if m := compileLine.FindStringSubmatch(line); m != nil && number(m[2]) > 0 {
			percent := number(m[1]) * 100 / number(m[2])
			changed = changed || percent != t.Percent
			t.Percent = percent
		}
	}
	return changed
}

// name says where the build stands, for an error.
func (t *stepTracker) name() string {
	if t.Steps == 0 {
		return "its start"
	}
	return fmt.Sprintf("step %d of %d (%.60s)", t.Step, t.Steps, t.Command)
}

// number reads digits that a pattern has matched; more than fit count as 0.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// messages decodes the builder's stream.
func messages(r io.Reader) func(yield func(jsonstream.Message, error) bool) {
	return func(yield func(jsonstream.Message, error) bool) {
		decoder := json.NewDecoder(r)
		for {
			var m jsonstream.Message
			err := decoder.Decode(&m)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}
