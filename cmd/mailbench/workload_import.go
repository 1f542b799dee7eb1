package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload/maillog"
)

func newWorkloadImport() *cobra.Command {
	var (
		o      scenarios.ImportOptions
		report bool
	)
	c := &cobra.Command{
		Use:   "import --out FILE LOG...",
		Short: "make a trace of real logs: Postgrey, Exim, Postfix",
		Long: `Make a trace of the mail that real servers have logged. Logs are plain or packed
with gzip, from syslog (RFC 3164, RFC 3339 or RFC 5424) or bare, and given in any
order: rotated ones, and those of several hosts, are put together by time.

postgrey  its log: every triplet, with what was answered. The best there is.
exim      main log and reject log, both if you can: only the reject log names the
          recipients of what is refused after DATA. Set in Exim
            log_selector = +received_recipients
          or the recipients of accepted mail are taken from the deliveries, as far
          as they begin within 120 s. Of use too: +millisec (order within a
          second), +pid, +received_sender. host_lookup does not matter.
postfix   mail.log: NOQUEUE rejects, and client=, from= and to= of what is taken.
auto      each line for what it is. What two of them tell of is counted once.

Retries of a triplet (client's /24 or /64, sender, recipient) within the retry
window fold into its first try; the trace holds first tries, and whether and how
the sender came back. Mail of authenticated users and of the machine itself is
left out, and with --our-domain accepted mail to other domains.

Addresses are replaced by a keyed hash, in such a way that domains, popularity,
networks and what greylisting sees stay as they are. Times stay too. The key is
drawn anew for each import unless --key-file holds one. See docs/import.md.

Logs without years: the year is the latest that fits the time when the file was
last written, or --year for the first line of each. Without --zone, dates without
a zone are in UTC.`,
		Example: `  mailbench workload import --out monday.mbt --zone America/Los_Angeles --our-domain berkeley.edu mail.log.2.gz mail.log.1
  mailbench workload import --format exim --out day.mbt mainlog rejectlog
  mailbench workload import --report mail.log`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			_, formatError := maillog.ParseFormat(o.Format)
			_, zoneError := time.LoadLocation(o.Zone)
			switch {
			case report && o.Out != "":
				return usageError{errors.New("--report writes no trace: leave --out away, or --report")}
			case !report && o.Out == "":
				return usageError{errors.New("--out is missing: name the file to write, - for standard output, or give --report to look only")}
			case formatError != nil:
				return usageError{fmt.Errorf("--%w", formatError)}
			case zoneError != nil:
				return usageError{fmt.Errorf("--zone is %q, must be a name of the time zone database, such as America/Los_Angeles", o.Zone)}
			case o.Year != 0 && (o.Year < 1970 || o.Year > 2199):
				return usageError{fmt.Errorf("--year is %d, must be from 1970 to 2199", o.Year)}
			case o.RetryWindow < time.Minute || o.RetryWindow > maillog.MaxRetryWindow:
				return usageError{fmt.Errorf("--retry-window is %v, must be from 1m to %v", o.RetryWindow, maillog.MaxRetryWindow)}
			case slices.ContainsFunc(o.OurDomains, func(d string) bool { return strings.Trim(d, ".") == "" || strings.ContainsAny(d, "@ ") }):
				return usageError{fmt.Errorf("--our-domain is %q, must be domains, such as calmail.example", strings.Join(o.OurDomains, ","))}
			case o.NoPseudonyms && (o.KeyFile != "" || o.Subdomains):
				return usageError{errors.New("--no-pseudonyms needs neither --key-file nor --subdomains")}
			}
			o.Logs = args
			// With --report the report is the result.
			o.Stdout, o.Progress = c.OutOrStdout(), c.ErrOrStderr()
			if report {
				o.Progress = c.OutOrStdout()
			}
			return scenarios.ImportTrace(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Format, "format", "auto", "auto, postgrey, exim or postfix")
	f.StringVar(&o.Out, "out", "", "file to write, - for standard output")
	f.BoolVar(&o.Force, "force", false, "replace a file that is there")
	f.BoolVar(&report, "report", false, "only say what is in the logs, on standard output")
	f.StringVar(&o.Zone, "zone", "UTC", "time zone of dates that name none, such as America/Los_Angeles")
	f.IntVar(&o.Year, "year", 0, "year of the first line of each log, where dates name none (default: from the file's time)")
	f.DurationVar(&o.RetryWindow, "retry-window", 48*time.Hour, "how long after a deferral the same triplet is a retry")
	f.StringSliceVar(&o.OurDomains, "our-domain", nil, "a domain of ours, with those below it; may be repeated")
	f.StringVar(&o.KeyFile, "key-file", "", "file with the key of the pseudonyms, 16 bytes or more (default: a new one, which is not kept)")
	f.BoolVar(&o.Subdomains, "subdomains", false, "keep in pseudonyms which domains are below which")
	f.BoolVar(&o.NoPseudonyms, "no-pseudonyms", false, "keep addresses as they are: the trace then holds personal data")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the retries in a replay")
	return c
}
