package maillog

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
)

// syslog takes what programs write to /dev/log into a file, as a daemon of RFC
// 3164 does.
const syslog = `use IO::Socket::UNIX; $| = 1; unlink "/dev/log";
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "/dev/log") or die $!; chmod 0666, "/dev/log";
open my $f, ">>", "/var/log/mail.log" or die $!; $f->autoflush(1);
while (defined $s->recv(my $m, 65536)) { $m =~ s/^<\d+>//; $m =~ s/\0*\n*\z//; print $f substr($m, 0, 16), "mx1 ", substr($m, 16), "\n" }`

// TestRealEximAndPostgrey imports what today's Exim and Postgrey log, together
// and one by one, of a greylisted message, its retry and an unknown user.
func TestRealEximAndPostgrey(t *testing.T) {
	p := programstest.Start(t, clustertest.Shared(t), programstest.Options{Name: "maillog"})
	for _, name := range []string{"talk.pl", "exim.conf"} {
		content, err := os.ReadFile("testdata/make/" + name)
		assert.NilError(t, err)
		if name == "exim.conf" {
			content = append([]byte("LOGPATH = /tmp/log/%slog\nSPOOL = /tmp/spool\nSELECTORS = +received_recipients\n"), content...)
			p.Write(t, "/etc/exim4/exim4.conf", 0o644, content)
			continue
		}
		p.Write(t, "/root/talk.pl", 0o644, content)
	}
	p.Write(t, "/root/syslog.pl", 0o644, []byte(syslog))
	p.Run(t, "sh", "-ec", `install -d -m 777 /tmp/mail; install -d -o Debian-exim -g Debian-exim /tmp/log /tmp/spool; install -d -o postgrey -g postgrey /run/pg
perl /root/syslog.pl >/tmp/syslog.out 2>&1 & until [ -S /dev/log ]; do sleep 0.1; done
postgrey --unix=/run/pg/sock --daemonize --delay=2 --hostname=mx1.calmail.example --dbdir=/var/lib/postgrey --pidfile=/run/pg/pid
until [ -S /run/pg/sock ]; do sleep 0.1; done; chmod 666 /run/pg/sock`)
	const session = `printf '%s\n' 'alice@far.example|ann@calmail.example,nobody@calmail.example|hello' |
perl /root/talk.pl mail.far.example 192.0.2.10 exim4 -oMa 192.0.2.10.4711 -oMs mail.far.example -odi -bs`
	p.Run(t, "sh", "-ec", session+"; sleep 3; "+session)

	logs := map[string]string{}
	for _, name := range []string{"/tmp/log/mainlog", "/tmp/log/rejectlog", "/var/log/mail.log"} {
		logs[name] = write(t, name[strings.LastIndexByte(name, '/')+1:], p.Run(t, "cat", name))
	}
	for _, row := range []struct {
		sentence string
		files    []string
		want     string // recipients of each first try
	}{
		{"Postgrey, which is not asked about unknown users", []string{"/var/log/mail.log"}, "ann@calmail.example; "},
		{"Exim", []string{"/tmp/log/mainlog", "/tmp/log/rejectlog"}, "ann@calmail.example nobody@calmail.example; nobody@calmail.example; "},
		{"both", []string{"/var/log/mail.log", "/tmp/log/mainlog", "/tmp/log/rejectlog"}, "ann@calmail.example nobody@calmail.example; nobody@calmail.example; "},
	} {
		var files []string
		for _, f := range row.files {
			files = append(files, logs[f])
		}
		r, messages := importAll(t, files, Options{})
		got := ""
		for _, m := range messages {
			got += strings.Join(m.Recipients, " ") + "; "
			assert.Equal(t, m.Client.String()+" "+m.Sender, "192.0.2.10 alice@far.example", row.sentence)
		}
		assert.Equal(t, got, row.want, "%s: %s", row.sentence, describe(r, messages))
		assert.Equal(t, r.Understood(), r.Lines, "%s: %s", row.sentence, fmt.Sprint(r.Samples))
		assert.Equal(t, r.CameBack, int64(1), row.sentence)
		assert.Assert(t, messages[0].Legitimate && messages[0].Schedule != 0, row.sentence)
	}
}
