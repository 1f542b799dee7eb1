package scenarios

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/workload"
	"github.com/mailbench/mailbench/workload/maillog"
)

// ImportOptions say which logs ImportTrace reads and where the trace goes.
type ImportOptions struct {
	Logs        []string
	Format      string // as maillog.ParseFormat takes it
	Zone        string // name in the time zone database; "" is UTC
	Year        int    // 0 if files and lines tell
	RetryWindow time.Duration
	OurDomains  []string
	// KeyFile holds the key of the pseudonyms; "" draws one for this import only.
	KeyFile      string
	NoPseudonyms bool
	Subdomains   bool
	Seed         uint64 // of the retries in a replay
	Out          string // path of the file, StandardOutput for Stdout; "" only reports
	Force        bool
	Stdout       io.Writer
	Progress     io.Writer // takes the report
}

// importProfile is the day model that the header of an imported trace names.
const importProfile = "berkeley-2008"

// maxKey is the longest key file, in bytes.
const maxKey = 64 << 10

// ImportTrace makes a trace of mail logs and reports what is in them. A file
// appears under its name only when it is whole.
func ImportTrace(ctx context.Context, o ImportOptions) error {
	options := maillog.Options{Year: o.Year, RetryWindow: o.RetryWindow, OurDomains: o.OurDomains}
	var err error
	if options.Format, err = maillog.ParseFormat(o.Format); err != nil {
		return &InputError{Msg: err.Error()}
	}
	if options.Zone, err = time.LoadLocation(o.Zone); err != nil {
		return &InputError{Msg: fmt.Sprintf("zone %q is not in the time zone database; give one such as America/Los_Angeles", o.Zone), Cause: err}
	}
	// Logs may take minutes to read; what would be refused then is refused now.
	if o.Out != "" && o.Out != StandardOutput && !o.Force {
		if _, err := os.Lstat(o.Out); err == nil {
			return &ExistsError{o.Out}
		}
	}
	if o.Out != "" && o.Out != StandardOutput {
		if info, err := os.Stat(filepath.Dir(o.Out)); err != nil || !info.IsDir() {
			return fmt.Errorf("write %s: there is no folder %s; make it, or name another file", o.Out, filepath.Dir(o.Out))
		}
	}
	if !o.NoPseudonyms {
		key, err := pseudonymKey(o.KeyFile)
		if err != nil {
			return err
		}
		options.Pseudonyms = maillog.NewPseudonyms(key, o.OurDomains, o.Subdomains)
	}
	logs, err := maillog.Open(o.Logs, options)
	if err != nil {
		return importError(err)
	}
	defer logs.Close() // only read
	report, err := logs.Scan(ctx)
	if report != nil {
		if writing := report.WriteText(o.Progress); err == nil && writing != nil {
			return fmt.Errorf("write the report: %w", writing)
		}
	}
	if err != nil || o.Out == "" {
		return importError(err)
	}

	// What logs do not tell comes from a profile.
	profile, err := workload.BuiltinProfile(importProfile)
	if err != nil {
		return err
	}
	population := workload.DefaultPopulation(o.Seed)
	population.Peers = &profile.Peers
	header := workload.TraceHeader{Seed: o.Seed, Profile: profile, Population: population, Origin: origin(o, report)}
	var totals workload.TraceTotals
	write := func(w io.Writer) error {
		trace, err := workload.NewTraceWriter(w, header)
		if err != nil {
			return err
		}
		for item, err := range logs.Items(ctx) {
			if err != nil {
				return importError(err)
			}
			if err := trace.Write(item); err != nil {
				return err
			}
		}
		totals, err = trace.Close()
		return err
	}
	if err := writeTo(o.Out, o.Stdout, o.Force, write); err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.Progress, "trace          %12d   messages, %s first tries, %s bytes, sha256 %s\n", totals.Messages, thousands(totals.Tries), thousands(totals.Bytes), totals.SHA256)
	return err
}

// origin says where a trace comes from. File names stay out: they may tell whose
// logs they were.
func origin(o ImportOptions, r *maillog.Report) string {
	names := "pseudonyms under a key that was not kept"
	switch {
	case o.NoPseudonyms:
		names = "no pseudonyms: the addresses are those of the logs"
	case o.KeyFile != "":
		names = "pseudonyms under a key file"
	}
	return fmt.Sprintf("imported from %d log(s), %d lines, of which %d were understood; first message %s, last %s; time counts from %s; %s",
		len(o.Logs), r.Lines, r.Understood(), r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), r.Midnight.Format(time.RFC3339), names)
}

// pseudonymKey reads the key, or draws one.
func pseudonymKey(path string) ([]byte, error) {
	if path == "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails (crypto/rand)
		return key, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &InputError{Msg: "key file: " + err.Error(), Cause: err}
	}
	defer f.Close() // only read
	key, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, &InputError{Msg: "key file: " + err.Error(), Cause: err}
	}
	key = bytes.TrimRight(key, "\r\n")
	if len(key) < maillog.KeyLength || len(key) > maxKey {
		return nil, &InputError{File: path, Msg: fmt.Sprintf("the key has %d bytes, must have from %d to %d; make one with: openssl rand -hex 32", len(key), maillog.KeyLength, maxKey)}
	}
	return key, nil
}

// importError makes a mistake in a log one in the input.
func importError(err error) error {
	var input *maillog.InputError
	if errors.As(err, &input) {
		return &InputError{Msg: err.Error(), Cause: err}
	}
	return err
}
