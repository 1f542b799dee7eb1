package exim_test

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/programstest"
)

// delivery is one copy of a message that a backend took.
type delivery struct {
	Backend   string // address at which it came in
	Protocol  string // "lmtp" or "smtp"
	Sender    string
	Recipient string
	Subject   string
	Threshold string // X-Spam-Threshold
	Delayed   string // X-Greylist
	Lowest    string // X-Lowest, which a test may have Exim add
}

const (
	sinkEnvironment = "MAILBENCH_EXIM_SINK" // set where the test binary is to be the sink
	sinkPort        = "24"
	sinkControl     = "2401" // who connects gets every delivery, gob-encoded: JSON would change bytes
)

// TestMain lets the test binary play the backends: it runs in Exim's container,
// where each backend's name is a loopback address of its own.
func TestMain(m *testing.M) {
	if os.Getenv(sinkEnvironment) == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, serveSink())
	os.Exit(1)
}

// sink keeps what came in.
type sink struct {
	mu    sync.Mutex
	taken []delivery
}

func serveSink() error {
	s := &sink{}
	mail, err := net.Listen("tcp4", ":"+sinkPort)
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp4", ":"+sinkControl)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := control.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			encoder := gob.NewEncoder(conn)
			for _, d := range s.taken {
				_ = encoder.Encode(d) // the reader sees a cut-off stream
			}
			s.mu.Unlock()
			_ = conn.Close()
		}
	}()
	for {
		conn, err := mail.Accept()
		if err != nil {
			return err
		}
		go s.session(conn)
	}
}

// session speaks LMTP (RFC 2033) or SMTP, as the client greets. Recipients whose
// local part begins with "full" are deferred and with "refused" refused.
func (s *sink) session(conn net.Conn) {
	defer conn.Close()
	backend, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	protocol, sender, recipients := "", "", []string(nil)
	c := textproto.NewConn(conn)
	say := func(format string, args ...any) { _ = c.PrintfLine(format, args...) }
	say("220 sink")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "LHLO", "EHLO", "HELO":
			protocol = map[byte]string{'L': "lmtp", 'l': "lmtp"}[verb[0]]
			if protocol == "" {
				protocol = "smtp"
			}
			say("250 sink")
		case "MAIL":
			sender, recipients = path(rest), nil
			say("250 2.1.0 ok")
		case "RCPT":
			recipient := path(rest)
			switch {
			case strings.HasPrefix(recipient, "full"):
				say("452 4.2.2 full")
			case strings.HasPrefix(recipient, "refused"):
				say("550 5.2.0 refused")
			default:
				recipients = append(recipients, recipient)
				say("250 2.1.5 ok")
			}
		case "DATA":
			if len(recipients) == 0 {
				say("503 5.5.1 no recipients")
				continue
			}
			say("354 go on")
			data := textproto.NewReader(bufio.NewReader(c.DotReader()))
			header, err := data.ReadMIMEHeader()
			if err != nil && !errors.Is(err, io.EOF) {
				say("554 5.6.0 header: %v", err)
				return
			}
			if _, err := io.Copy(io.Discard, data.R); err != nil {
				return
			}
			s.mu.Lock()
			for _, r := range recipients {
				s.taken = append(s.taken, delivery{
					Backend: backend, Protocol: protocol, Sender: sender, Recipient: r, Subject: header.Get("Subject"),
					Threshold: strings.Join(header.Values("X-Spam-Threshold"), "|"), Delayed: header.Get("X-Greylist"), Lowest: header.Get("X-Lowest"),
				})
			}
			s.mu.Unlock()
			answers := 1
			if protocol == "lmtp" {
				answers = len(recipients) // RFC 2033 section 4.2: one for each recipient
			}
			for range answers {
				say("250 2.0.0 taken")
			}
		case "RSET":
			say("250 2.0.0 ok")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("500 5.5.1 %s is unknown", verb)
		}
	}
}

// path is what stands between the outermost angle brackets.
func path(s string) string {
	from, to := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if from < 0 || to < from {
		return s
	}
	return s[from+1 : to]
}

// startSink runs this test binary as the sink in p.
func startSink(t testing.TB, p *programstest.Container) {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p.Write(t, "/usr/local/bin/sink", 0o755, binary)
	p.Run(t, "sh", "-c", sinkEnvironment+"=1 setsid /usr/local/bin/sink </dev/null >/var/log/sink 2>&1 &")
	await(t, "the sink listens", func() error {
		_, err := taken(t.Context(), p)
		return err
	})
}

// taken returns what the sink in p has so far.
func taken(ctx context.Context, p *programstest.Container) ([]delivery, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(p.Address.String(), sinkControl))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var all []delivery
	decoder := gob.NewDecoder(conn)
	for {
		var d delivery
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
}

// await tries until check finds nothing wrong; what it waits for takes seconds
// at the most unless it never comes.
func await(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("never came: %s: %v", what, err)
}

// backends are the names that resolve in Exim's container.
func backends() map[string]netip.Addr {
	return map[string]netip.Addr{
		"cyrus1.test": netip.MustParseAddr("127.0.1.1"), "cyrus2.test": netip.MustParseAddr("127.0.1.2"),
		"cyrus3.test": netip.MustParseAddr("127.0.1.3"), "outside.test": netip.MustParseAddr("127.0.1.9"),
	}
}
