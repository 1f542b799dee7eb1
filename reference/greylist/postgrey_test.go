package greylist_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/greylist"
)

// postgrey is Debian's Postgrey, running in a container beside the cluster.
type postgrey struct {
	container *programstest.Container
	address   string
}

const (
	postgreyDirectory = "/var/lib/oracle"
	postgreyPort      = 10023
)

// startPostgrey starts Postgrey with whitelists in the format of its files. Its
// texts are changed such that its answers hold the numbers that they are about.
func startPostgrey(t testing.TB, clients, recipients string, more ...string) postgrey {
	t.Helper()
	p := postgrey{container: programstest.Start(t, clustertest.Shared(t), programstest.Options{Name: "postgrey"})}
	p.address = netip.AddrPortFrom(p.container.Address, postgreyPort).String()
	p.container.Write(t, "/etc/oracle/clients", 0o644, []byte(clients))
	p.container.Write(t, "/etc/oracle/recipients", 0o644, []byte(recipients))
	p.container.Run(t, "install", "-d", "-o", "postgrey", "-g", "postgrey", postgreyDirectory)
	p.container.Run(t, append([]string{"postgrey", "--daemonize", "--quiet", fmt.Sprintf("--inet=0.0.0.0:%d", postgreyPort),
		"--dbdir=" + postgreyDirectory, "--pidfile=/run/oracle.pid", "--hostname=oracle.test",
		"--greylist-text=wait=%s", "--x-greylist-header=delayed=%t",
		"--whitelist-clients=/etc/oracle/clients", "--whitelist-recipients=/etc/oracle/recipients"}, more...)...)
	return p
}

// stop ends the daemon, so that its files are whole.
func (p postgrey) stop(t testing.TB) {
	t.Helper()
	p.container.Run(t, "sh", "-ec", "kill $(cat /run/oracle.pid); while kill -0 $(cat /run/oracle.pid) 2>/dev/null; do sleep 0.1; done")
}

// policy is one connection to Postgrey, in the protocol of Postfix's policy
// delegation (Postfix, SMTPD_POLICY_README).
type policy struct {
	conn  net.Conn
	reply *bufio.Reader
}

// connect waits for the daemon to listen.
func (p postgrey) connect(t testing.TB) *policy {
	t.Helper()
	for tries := 0; ; tries++ {
		conn, err := net.DialTimeout("tcp", p.address, 2*time.Second)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return &policy{conn, bufio.NewReader(conn)}
		}
		if tries == 50 {
			t.Fatalf("Postgrey does not listen: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// check asks as greylist_check is asked, and takes the answer apart.
func (p *policy) check(r greylist.Request, more ...string) (defers bool, wait, delayed time.Duration, err error) {
	answer, err := p.ask(append([]string{
		"client_address=" + r.Client.String(), "client_name=" + r.ClientName, "sender=" + r.Sender, "recipient=" + r.Recipient,
		fmt.Sprintf("policy_test_time=%d", r.Now.Unix()),
	}, more...)...)
	if err != nil {
		return false, 0, 0, err
	}
	seconds := func(text string) time.Duration {
		n, failed := strconv.ParseInt(text, 10, 64)
		if failed != nil {
			err = fmt.Errorf("Postgrey answered %q", answer)
		}
		return time.Duration(n) * time.Second
	}
	if text, ok := strings.CutPrefix(answer, "action=DEFER_IF_PERMIT wait="); ok {
		return true, seconds(text), 0, err
	}
	if text, ok := strings.CutPrefix(answer, "action=PREPEND delayed="); ok {
		return false, 0, seconds(text), err
	}
	if answer != "action=DUNNO" {
		err = fmt.Errorf("Postgrey answered %q", answer)
	}
	return false, 0, 0, err
}

// ask sends attributes and returns the answer's line.
func (p *policy) ask(attributes ...string) (string, error) {
	_ = p.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(p.conn, "request=smtpd_access_policy\n%s\n\n", strings.Join(attributes, "\n")); err != nil {
		return "", err
	}
	line, err := p.reply.ReadString('\n')
	if err == nil {
		_, err = p.reply.ReadString('\n')
	}
	if err != nil {
		return "", fmt.Errorf("Postgrey hung up: %w", err)
	}
	return strings.TrimSpace(line), nil
}

const dump = `use BerkeleyDB;
for my $f ("postgrey.db", "postgrey_clients.db") {
  tie my %h, "BerkeleyDB::Btree", -Filename => "$ARGV[0]/$f", -Flags => DB_RDONLY or die "$f: $! $BerkeleyDB::Error";
  while (my ($k, $v) = each %h) { print "$f ", unpack("H*", $k), " $v\n" }
}`

// rows reads what a stopped Postgrey has stored, under the keys of the table.
func (p postgrey) rows(t testing.TB) map[greylist.Key]greylist.State {
	t.Helper()
	rows := map[greylist.Key]greylist.State{}
	for line := range strings.Lines(p.container.Run(t, "perl", "-e", dump, postgreyDirectory)) {
		var (
			file, hexKey string
			a, b         int64
		)
		if _, err := fmt.Sscanf(line, "%s %s %d,%d", &file, &hexKey, &a, &b); err != nil {
			t.Fatalf("Postgrey has stored %q: %v", line, err)
		}
		text, err := hex.DecodeString(hexKey)
		if err != nil {
			t.Fatal(err)
		}
		if file == "postgrey_clients.db" {
			rows[greylist.ClientKey(netip.MustParseAddr(string(text)))] = greylist.State{Seen: true, Credits: a, Last: b}
			continue
		}
		// "192.0.2.0/sender/recipient", with the sender as it counts.
		network, rest, _ := strings.Cut(string(text), "/")
		address := netip.MustParseAddr(network).AsSlice()
		sum := sha256.Sum256([]byte(hex.EncodeToString(address[:map[int]int{4: 3, 16: 8}[len(address)]]) + "/" + rest))
		key := greylist.Key{0xff}
		copy(key[1:], sum[:])
		rows[key] = greylist.State{Seen: true, First: a, Last: b}
	}
	return rows
}
