package mgm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Silence is how long a server may send nothing to a listener before it counts
// as dead or frozen. It sends "<PING>" about every 500 ms.
const Silence = 3 * time.Second

// Level asks for the events of a category up to a threshold.
type Level struct {
	Category string // such as "NODERESTART", or its number in include/mgmapi/mgmapi_config_parameters.h
	Max      int    // 0 to 15: events whose threshold is not above it
}

// Filter says which events a listener wants. It must not be empty.
type Filter []Level

// DefaultFilter asks for what tells how a node goes down, what the cluster
// decides, how the node comes back, and for global checkpoints. Higher levels
// add events for each table fragment (thresholds: EventLogger.cpp).
func DefaultFilter() Filter {
	return Filter{
		{"STARTUP", 4}, {"SHUTDOWN", 4}, {"NODERESTART", 8}, {"CONNECTION", 8}, {"CHECKPOINT", 10}, {"ERROR", 8},
		{"257", 15}, // WARNING has no name in the protocol
	}
}

// String spells a filter as the protocol does.
func (f Filter) String() string {
	levels := make([]string, len(f))
	for i, l := range f {
		levels[i] = l.Category + "=" + strconv.Itoa(l.Max)
	}
	return strings.Join(levels, " ")
}

// validate refuses what would make another request of the filter.
func (f Filter) validate() error {
	if len(f) == 0 {
		return errors.New("the event filter is empty; use DefaultFilter")
	}
	for _, l := range f {
		if l.Category == "" || strings.ContainsAny(l.Category, " ,=:\"\r\n") || l.Max < 0 || l.Max > 15 {
			return fmt.Errorf("event filter %q=%d: want a category's name and a level from 0 to 15", l.Category, l.Max)
		}
	}
	if n := len(f.String()); n > maxValue {
		return fmt.Errorf("the event filter has %d bytes, the server takes %d; name fewer categories", n, maxValue)
	}
	return nil
}

// SilentError says that a listener heard nothing for too long.
type SilentError struct {
	Address string
	After   time.Duration
}

func (e *SilentError) Error() string {
	return fmt.Sprintf("management server %s was silent for %v: it is dead, frozen or cut off; dial again", e.Address, e.After)
}

// Listen hands the events of the cluster to sink, one after the other, until
// ctx ends or the connection is lost. It never returns nil: the error is ctx's
// own, a *SilentError when no line came for Silence, a *TLSRequiredError, a
// *CommandError when the server refused the filter, or another. Events that
// happen while nobody listens are lost.
//
// While sink runs nothing is read; it must be quick.
func Listen(ctx context.Context, address string, o Options, filter Filter, sink func(Event)) error {
	return listen(ctx, address, o, filter, sink, func() {})
}

// listen calls subscribed when the server has begun to send events.
func listen(ctx context.Context, address string, o Options, filter Filter, sink func(Event), subscribed func()) error {
	const command = "listen event"
	if err := filter.validate(); err != nil {
		return err
	}
	c, err := Dial(ctx, address, o)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	defer c.Close()
	b, err := c.call(ctx, command, []pair{{"parsable", "1"}, {"filter", filter.String()}}, command)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case b.value("result") != "0":
		return &CommandError{Address: address, Command: command, Message: b.value("msg")}
	}
	subscribed()

	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	for {
		err := c.nextEvent(sink)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isTimeout(err):
			return &SilentError{Address: address, After: Silence}
		case err != nil:
			return fmt.Errorf("management server %s: events: %w", address, err)
		}
	}
}

// nextEvent reads to the end of the next event, or past a ping.
func (c *Client) nextEvent(sink func(Event)) error {
	hush := func() { c.conn.SetReadDeadline(time.Now().Add(Silence)) }
	hush()
	line, err := readLine(c.in)
	at := time.Now()
	switch {
	case err != nil:
		return err
	case line == "" || line == "<PING>":
		return nil
	case line != "log event reply":
		return fmt.Errorf("unexpected line %q", line)
	}
	pairs, err := readPairs(c.in, hush)
	if err != nil {
		return err
	}
	e, err := parseEvent(at, pairs)
	if err != nil {
		return err
	}
	sink(e)
	return nil
}

// Bounds of the pause before Follow dials again; it doubles between them.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// Follow listens as Listen does and dials again when the connection is lost,
// after 100 ms at first and 2 s at the most. It calls onGap once for each time
// without events, with the error that began it, be it a stream that ended or a
// first dial that failed. sink and onGap are called from the same goroutine.
//
// It returns ctx's error when ctx ends, and at once what no dialling mends: a
// filter that is wrong, a *CommandError or a *TLSRequiredError.
func Follow(ctx context.Context, address string, o Options, filter Filter, sink func(Event), onGap func(error)) error {
	if err := filter.validate(); err != nil {
		return err
	}
	backoff, inGap := minBackoff, false
	for {
		err := listen(ctx, address, o, filter, sink, func() { backoff, inGap = minBackoff, false })
		var refused *CommandError
		var tls *TLSRequiredError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused), errors.As(err, &tls):
			return err
		}
		if !inGap {
			inGap = true
			onGap(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}
