package exim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"time"
)

// replyTimeout is what a client allows for one answer. RFC 5321 section 4.5.3.2
// asks for 5 minutes; a test that waits for so long hangs.
const replyTimeout = 60 * time.Second

// reply is an answer of the server's.
type reply struct {
	Code int
	Text string // of a RCPT command: with the enhanced code
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.Code, r.Text) }

// message is one envelope and a subject that tells it apart.
type message struct {
	From    string
	To      []string
	Subject string
	Header  string // more header lines, each ended by \r\n
}

// answers are what the server said to a message.
type answers struct {
	Mail, Data reply
	Recipients []reply
	AtData     bool // the end of the data was sent: an error says nothing of what became of it
}

// send offers a message in a session of its own, and its text only if a
// recipient was accepted.
func send(ctx context.Context, address string, m message) (a answers, err error) {
	dialer := net.Dialer{Timeout: replyTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := textproto.NewConn(conn)
	read := func() (reply, error) {
		if ctx.Err() == nil {
			_ = conn.SetReadDeadline(time.Now().Add(replyTimeout))
		}
		code, text, err := c.ReadResponse(0)
		return reply{code, text}, err
	}
	ask := func(format string, args ...any) (reply, error) {
		if err := c.PrintfLine(format, args...); err != nil {
			return reply{}, err
		}
		return read()
	}
	greeting, err := read()
	if err != nil || greeting.Code != 220 {
		return a, errors.Join(fmt.Errorf("the greeting is %v", greeting), err)
	}
	if hello, err := ask("EHLO peer.test"); err != nil || hello.Code != 250 {
		return a, errors.Join(fmt.Errorf("the answer to EHLO is %v", hello), err)
	}
	if a.Mail, err = ask("MAIL FROM:<%s>", m.From); err != nil {
		return a, err
	}
	accepted := false
	if a.Mail.Code == 250 {
		for _, to := range m.To {
			r, err := ask("RCPT TO:<%s>", to)
			if err != nil {
				return a, err
			}
			a.Recipients = append(a.Recipients, r)
			accepted = accepted || r.Code == 250
		}
	}
	if accepted {
		if a.Data, err = ask("DATA"); err != nil || a.Data.Code != 354 {
			return a, err
		}
		text := c.DotWriter()
		fmt.Fprintf(text, "From: <%s>\r\nSubject: %s\r\n%s\r\ntext\r\n", m.From, m.Subject, m.Header)
		a.AtData = true
		if err := text.Close(); err != nil {
			return a, err
		}
		if a.Data, err = read(); err != nil {
			return a, err
		}
	}
	// Exim answers QUIT 200 ms later unless the client has closed its side.
	if err := c.PrintfLine("QUIT"); err == nil {
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		_, _ = read() // what had to be said was said
	}
	return a, nil
}
