package programstest_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/topology"
)

// TestContainerRunsProgramsBesideTheCluster runs every program once, and reaches
// a SQL node from where they run.
func TestContainerRunsProgramsBesideTheCluster(t *testing.T) {
	c := clustertest.Shared(t)
	p := programstest.Start(t, c, programstest.Options{
		Name: "self", Hosts: map[string]netip.Addr{"cyrus9.test": netip.MustParseAddr("127.0.1.9")},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	for _, row := range []struct {
		sentence string
		command  []string
		want     string // in stdout
		stderr   string
		code     int
	}{
		{"Exim knows MySQL", []string{"exim4", "-bV"}, " mysql ", "", 0},
		{"Postgrey is there", []string{"postgrey", "--version"}, "postgrey 1.", "", 0},
		{"slapd is there, and prints to the other stream", []string{"slapd", "-VV"}, "", "OpenLDAP: slapd", 0},
		{"sysbench is there", []string{"sysbench", "--version"}, "sysbench 1.", "", 0},
		{"a clock can be moved", []string{"faketime", "2008-04-14 12:00:00", "date", "+%Y"}, "2008", "", 0},
		{"a command may fail", []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, "out\n", "err\n", 7},
		{"no shell changes an argument", []string{"printf", "%s", `a'b"c\d $(x)`}, `a'b"c\d $(x)`, "", 0},
		{"a given name resolves", []string{"getent", "hosts", "cyrus9.test"}, "127.0.1.9", "", 0},
		{"a host of the cluster resolves", []string{"getent", "hosts", "mta1"}, "198.1", "", 0},
		{"another name does not", []string{"getent", "hosts", "www.example.org"}, "", "", 2},
	} {
		output, err := p.Exec(ctx, row.command...)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		if output.Code != row.code || !strings.Contains(output.Stdout, row.want) || !strings.Contains(output.Stderr, row.stderr) {
			t.Errorf("%s: %+v, want %q, %q and code %d", row.sentence, output, row.want, row.stderr, row.code)
		}
	}

	sql := c.Address(c.Topology().ByRole(topology.SQL)[0])
	host, port, _ := strings.Cut(sql, ":")
	// The greeting of a MySQL server holds the authentication plugin's name.
	p.Run(t, "perl", "-MIO::Socket::INET", "-e",
		`my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 10) or die $@; sysread $s, my $g, 200; $g =~ /caching_sha2_password/ or die $g`,
		host, port)

	p.Write(t, "/srv/new/file", 0o600, []byte("content\n"))
	if got := p.Run(t, "sh", "-c", "stat -c '%a %U' /srv/new/file; cat /srv/new/file"); got != "600 root\ncontent\n" {
		t.Errorf("the file that was written is %q", got)
	}
	if !p.Gateway.IsValid() || !strings.HasPrefix(p.Address.String(), "198.1") {
		t.Errorf("address %s, gateway %s", p.Address, p.Gateway)
	}

	short, cancelShort := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelShort()
	if _, err := p.Exec(short, "sleep", "60"); err == nil {
		t.Error("Exec must not outlive its context")
	}
}
