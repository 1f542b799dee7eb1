package workload

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// fakeTarget answers as its script says; nil parts of the script succeed.
type fakeTarget struct {
	connect func(ctx context.Context, node topology.ID) error
	ask     func(ctx context.Context, node topology.ID, op reference.Operation) error
	route   routing.Verdict
	grey    greylist.Verdict

	mu       sync.Mutex
	log      []string // "connect 1", "route 1", "close 1"
	open     int
	requests []greylist.Request
}

func (f *fakeTarget) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fakeTarget) Connect(ctx context.Context, node topology.ID, _ reference.ConnectOptions) (reference.Session, error) {
	f.note("connect %d", node)
	if f.connect != nil {
		if err := f.connect(ctx, node); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	f.open++
	f.mu.Unlock()
	return &fakeSession{f, node}, nil
}

type fakeSession struct {
	*fakeTarget
	node topology.ID
}

func (s *fakeSession) do(ctx context.Context, op reference.Operation) error {
	s.note("%s %d", op, s.node)
	if s.ask == nil {
		return nil
	}
	return s.ask(ctx, s.node, op)
}

func (s *fakeSession) Change(ctx context.Context, _ accounts.Change) error {
	return s.do(ctx, reference.ChangeAccount)
}

func (s *fakeSession) Account(context.Context, string) (accounts.Account, error) {
	return accounts.Account{}, errors.New("no client asks for an account")
}

func (s *fakeSession) Route(ctx context.Context, _ string) (routing.Answer, error) {
	return routing.Answer{Verdict: s.route, Backend: "cyrus1", Greylist: true}, s.do(ctx, reference.Route)
}

func (s *fakeSession) Check(ctx context.Context, r greylist.Request) (greylist.Answer, error) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	return greylist.Answer{Verdict: s.grey}, s.do(ctx, reference.CheckGreylist)
}

func (s *fakeSession) Read(ctx context.Context, _ string) (map[string]string, error) {
	return map[string]string{"language": "en_US"}, s.do(ctx, reference.ReadPreferences)
}

func (s *fakeSession) Set(ctx context.Context, _, _, _ string) error {
	return s.do(ctx, reference.SetPreference)
}

func (s *fakeSession) Delete(context.Context, string, string) error {
	return errors.New("fake: the replay deletes no preference")
}

func (s *fakeSession) Close() error {
	s.note("close %d", s.node)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	return nil
}

var (
	errRefused   = errors.New("connection refused")
	errBroken    = mysql.ErrInvalidConn
	errTemporary = &mysql.MySQLError{Number: 1297, Message: "Got temporary error 4010 'Node failure caused abort of transaction' from NDBCLUSTER"}
	errNoAnswer  = &mysql.MySQLError{Number: 1297, Message: "Got temporary error 4012 'Request ndbd time-out, maybe due to high load or communication problems' from NDBCLUSTER"}
	errCommitted = &mysql.MySQLError{Number: 1297, Message: "Got temporary error 4115 'Transaction was committed but all read information was not received due to node crash' from NDBCLUSTER"}
	errSyntax    = &mysql.MySQLError{Number: 1064, Message: "You have an error in your SQL syntax"}
)

// samples is a recorder that keeps copies.
type samples struct {
	mu   sync.Mutex
	all  []Sample
	acks []Acknowledged
	seen []Seen
}

func (s *samples) Record(r *Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := *r
	kept.Attempts = slices.Clone(r.Attempts)
	s.all = append(s.all, kept)
}

func (s *samples) Acknowledge(a Acknowledged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = append(s.acks, a)
}

func (s *samples) Saw(r Seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
}

// told is each sample in words: "route ok 1" is the operation, the outcome, and
// the nodes of the attempts.
func (s *samples) told() []string {
	var told []string
	for _, r := range s.all {
		words := r.Operation.String() + " " + r.Outcome.String()
		for _, a := range r.Attempts {
			words += fmt.Sprintf(" %d", a.Node)
		}
		told = append(told, words)
	}
	return told
}

func mta(nodes ...topology.ID) Client {
	return Client{Name: "mta1", Kind: MTA, Nodes: nodes, Habit: PerMessage, Policy: Policy{
		ConnectTimeout: 2 * time.Second, ReadTimeout: 3 * time.Second, Attempts: len(nodes), Backoff: 50 * time.Millisecond, Avoid: time.Second,
	}}
}

func webmail(nodes ...topology.ID) Client {
	c := mta(nodes...)
	c.Name, c.Kind, c.Habit = "webmail1", Webmail, Persistent
	return c
}

// quietModel has legitimate mail with one recipient, and logins that save two
// keys, in the first hour of the day only: n messages a minute and logins for
// each of newReplay's 60 accounts. Without messages a minute there is one in
// the hour's last minute, for a model must have some.
func quietModel(perMinute, loginsPerMille int64) Model {
	m := Berkeley2008()
	m.Bursts = 0
	m.MessagesPerDay, m.SpamPPM, m.LoginsPerMille, m.SavingPPM = max(60*perMinute, 1), 0, loginsPerMille, million
	m.LegitimateByHour, m.JobsPerDay = [24]int64{1000}, 0
	m.LegitimateRecipients = []int64{million}
	m.KeysPerSave = 2
	return m
}

func newReplay(t *testing.T, m Model, w Window, target Connector, out *samples, clients ...Client) *Replay {
	t.Helper()
	tr, err := NewTrace(1, m, Population{Seed: 1, Accounts: 60, Domain: DefaultDomain, Backends: BackendNames(2)}, w)
	if err != nil {
		t.Fatal(err)
	}
	return &Replay{
		Trace: tr, Clients: clients, Target: target, Recorder: out, Ledger: out,
		Anchor: time.Now(), Start: time.Second, Speed: 1, Day: time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC),
		MaxInFlight: 100, Drain: time.Minute,
	}
}

// TestOneMessageOrLogin follows single sessions through all that may befall
// them. Scripts are one error an ask or connection, in order, then success.
func TestOneMessageOrLogin(t *testing.T) {
	failOpen := mta(1, 2)
	failOpen.Policy.FailOpen = true
	rounds := mta(1, 2)
	rounds.Policy.Attempts = 5
	type ack struct {
		op               reference.Operation
		certain, lingers bool
	}
	checked, saved := ack{reference.CheckGreylist, true, false}, ack{reference.SetPreference, true, false}
	for _, row := range []struct {
		sentence string
		client   Client
		route    routing.Verdict
		grey     greylist.Verdict
		refused  []topology.ID // nodes that refuse connections
		asked    []error       // what each statement meets
		want     []string
		acks     []ack
	}{
		{"a known triplet passes and the message is routed once more at its delivery", mta(1, 2), routing.Local, greylist.Pass, nil, nil,
			[]string{"route ok 1", "check ok 1", "deliver ok 1"}, []ack{checked}},
		{"a new triplet is deferred and nothing is delivered", mta(1, 2), routing.Local, greylist.New, nil, nil,
			[]string{"route ok 1", "check ok 1"}, []ack{checked}},
		{"an unknown recipient is rejected and not greylisted", mta(1, 2), routing.Unknown, greylist.New, nil, nil,
			[]string{"route ok 1"}, nil},
		{"a client whose node refuses connections asks the next one, each time anew", mta(1, 2), routing.Local, greylist.Pass, []topology.ID{1}, nil,
			[]string{"route retried 1 2", "check retried 1 2", "deliver retried 1 2"}, []ack{checked}},
		{"with all nodes down there is no route, so greylisting is not asked", mta(1, 2), routing.Local, greylist.Pass, []topology.ID{1, 2}, nil,
			[]string{"route failed 1 2"}, nil},
		{"a client goes round its nodes until its attempts are used up", rounds, routing.Local, greylist.Pass, []topology.ID{1, 2}, nil,
			[]string{"route failed 1 2 1 2 1"}, nil},
		{"a lost connection is tried elsewhere, and not made anew before the delivery", mta(1, 2), routing.Local, greylist.Pass, nil, []error{errBroken},
			[]string{"route retried 1 2", "check retried 1 2", "deliver ok 1"}, []ack{checked}},
		{"a temporary error is tried elsewhere, also for a write", mta(1, 2), routing.Local, greylist.New, nil, []error{nil, errTemporary},
			[]string{"route ok 1", "check retried 1 2"}, []ack{checked}},
		{"an error that would come again is tried elsewhere, too", mta(1, 2), routing.Local, greylist.New, nil, []error{errSyntax, errSyntax},
			[]string{"route failed 1 2"}, nil},
		{"a webmail machine does not try it elsewhere", webmail(1, 2), 0, 0, nil, []error{nil, errSyntax},
			[]string{"read ok 1", "set failed 1"}, nil},
		{"a greylist check that was aborted everywhere fails closed", mta(1, 2), routing.Local, greylist.Pass, nil, []error{nil, errTemporary, errTemporary},
			[]string{"route ok 1", "check failed 1 2"}, nil},
		{"a greylist check that was aborted everywhere fails open where the client says so", failOpen, routing.Local, greylist.New, nil, []error{nil, errTemporary, errTemporary},
			[]string{"route ok 1", "check degraded 1 2", "deliver ok 1"}, nil},
		{"a greylist check without an answer may have happened", mta(1, 2), routing.Local, greylist.Pass, nil, []error{nil, errTemporary, errNoAnswer},
			[]string{"route ok 1", "check unknown 1 2"}, []ack{{reference.CheckGreylist, false, true}}},
		{"a later attempt that failed for certain does not undo an earlier one", mta(1, 2), routing.Local, greylist.Pass, nil, []error{nil, errBroken, errTemporary},
			[]string{"route ok 1", "check unknown 1 2"}, []ack{{reference.CheckGreylist, false, true}}},
		{"a greylist check that committed without its answer is asked again", mta(1, 2), routing.Local, greylist.New, nil, []error{nil, errCommitted},
			[]string{"route ok 1", "check retried 1 2"}, []ack{{reference.CheckGreylist, true, true}}},

		{"a greylist check that committed without its answer, and then was aborted, has happened", mta(1, 2), routing.Local, greylist.New, nil, []error{nil, errCommitted, errTemporary},
			[]string{"route ok 1", "check unknown 1 2"}, []ack{{reference.CheckGreylist, false, true}}},

		{"a login reads and saves", webmail(1, 2), 0, 0, nil, nil,
			[]string{"read ok 1", "set ok 1", "set ok 1"}, []ack{saved, saved}},
		{"a login without preferences shows defaults and has no form to save", webmail(1, 2), 0, 0, []topology.ID{1, 2}, nil,
			[]string{"read degraded 1 2"}, nil},
		{"a save that committed without its answer is saved", webmail(1, 2), 0, 0, nil, []error{nil, errCommitted},
			[]string{"read ok 1", "set ok 1", "set ok 1"}, []ack{saved, saved}},
		{"a save that was aborted everywhere fails, and the page ends", webmail(1, 2), 0, 0, nil, []error{nil, errTemporary, errTemporary},
			[]string{"read ok 1", "set failed 1 2"}, nil},
		{"a save without an answer may have happened, and the page ends", webmail(1, 2), 0, 0, nil, []error{nil, errBroken, errNoAnswer},
			[]string{"read ok 1", "set unknown 1 2"}, []ack{{reference.SetPreference, false, true}}},
		{"a save that was answered after a lost connection is saved, and its first statement may yet take effect", webmail(1, 2), 0, 0, nil, []error{nil, errBroken},
			[]string{"read ok 1", "set retried 1 2", "set ok 1"}, []ack{{reference.SetPreference, true, true}, saved}},
		{"a save that was answered after one that was aborted leaves nothing behind", webmail(1, 2), 0, 0, nil, []error{nil, errTemporary},
			[]string{"read ok 1", "set retried 1 2", "set ok 1"}, []ack{saved, saved}},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked, out := 0, &samples{}
			target := &fakeTarget{
				route: row.route, grey: row.grey,
				connect: func(_ context.Context, node topology.ID) error {
					if slices.Contains(row.refused, node) {
						return errRefused
					}
					return nil
				},
				ask: func(context.Context, topology.ID, reference.Operation) error {
					if asked++; asked <= len(row.asked) {
						return row.asked[asked-1]
					}
					return nil
				},
			}
			model := quietModel(1, 0) // one message a minute
			if row.client.Kind == Webmail {
				model = quietModel(0, 1000) // one login a minute
			}
			r := newReplay(t, model, Window{0, time.Minute}, target, out, row.client)
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", row.sentence, err)
			}
			told := out.told()
			if !reflect.DeepEqual(told, row.want) {
				t.Errorf("%s: got %q, want %q", row.sentence, told, row.want)
			}
			turnedAway, sets := int64(0), int64(0)
			for _, op := range told {
				if strings.HasPrefix(op, "route failed") {
					turnedAway++
				}
				if strings.HasPrefix(op, "set ") {
					sets++
				}
			}
			if stats.ChecksNotAsked != turnedAway || row.client.Kind == Webmail && sets+stats.SavesNotAsked != 2 {
				t.Errorf("%s: %d checks and %d saves were not asked, by the stats", row.sentence, stats.ChecksNotAsked, stats.SavesNotAsked)
			}
			var acks []ack
			for _, a := range out.acks {
				acks = append(acks, ack{a.Operation, a.Certain, a.Lingers})
			}
			if !reflect.DeepEqual(acks, row.acks) {
				t.Errorf("%s: acknowledged %v, want %v", row.sentence, acks, row.acks)
			}
			if target.open != 0 {
				t.Errorf("%s: %d sessions are left open", row.sentence, target.open)
			}
			if stats.InFlight() != 0 || stats.Started != 1 {
				t.Errorf("%s: stats %+v", row.sentence, stats)
			}
		})
	}
}

func TestProcessesOfAnMTAConnectForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Local, grey: greylist.Pass}
		r := newReplay(t, quietModel(1, 0), Window{0, 2 * time.Minute}, target, out, mta(1, 2))
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		message := []string{
			"connect 1", "route 1", "check 1", "close 1", // the process that receives
			"connect 1", "route 1", "close 1", // the process that delivers
		}
		if want := append(message, message...); !reflect.DeepEqual(target.log, want) {
			t.Errorf("two messages made %q, want %q", target.log, want)
		}
	})
}

func TestPersistentClientReturnsToItsPreferredNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		out, target := &samples{}, &fakeTarget{}
		down := func() bool {
			at := time.Since(begin)
			return at >= 10*time.Minute && at < 20*time.Minute
		}
		target.connect = func(_ context.Context, node topology.ID) error {
			if node == 1 && down() {
				return errRefused
			}
			return nil
		}
		target.ask = func(_ context.Context, node topology.ID, _ reference.Operation) error {
			if node == 1 && down() {
				return errBroken
			}
			return nil
		}
		client := webmail(1, 2)
		client.Policy.Avoid = 5 * time.Minute
		model := quietModel(0, 1000) // a login a minute
		model.SavingPPM = 0
		r := newReplay(t, model, Window{0, 30 * time.Minute}, target, out, client)
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, line := range target.log {
			count[line]++
		}
		// Node 1 is connected before its death and after; in between it breaks
		// once, refuses once or twice, and is left alone for five minutes each.
		if count["connect 1"] < 4 || count["connect 1"] > 5 || count["connect 2"] != 1 {
			t.Errorf("connections %v, want few to node 1 and one to node 2", count)
		}
		if told := out.told(); told[0] != "read ok 1" || told[len(told)-1] != "read ok 1" || !slices.Contains(told, "read ok 2") || !slices.Contains(told, "read retried 1 2") {
			t.Errorf("ops went %q, want first and last to node 1, and some straight to node 2 in between", told)
		}
		if target.open != 0 {
			t.Errorf("%d sessions are left open", target.open)
		}
	})
}

// A process does not connect again to a node whose session it has lost.
func TestSilentNodeCostsTheReadTimeoutAndTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Local, grey: greylist.New}
		target.ask = func(ctx context.Context, node topology.ID, _ reference.Operation) error {
			if node == 2 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		r := newReplay(t, quietModel(1, 0), Window{0, time.Minute}, target, out, mta(1, 2))
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		route := out.all[0]
		if a := route.Attempts[0]; a.Ended-a.Dispatched != 3*time.Second || a.Result.Class != ndberr.Timeout {
			t.Errorf("the first attempt was %+v, want a timeout after 3 s", a)
		}
		if route.Outcome != Retried || route.Service() != 3*time.Second {
			t.Errorf("the route was %s after %v, want retried after 3 s", route.Outcome, route.Service())
		}
		// The check was intended 10 ms after the route and had to wait for it.
		if check := out.all[1]; check.Queue() != 3*time.Second-recipientStep/2 {
			t.Errorf("the check waited %v, want 2.99 s", check.Queue())
		}
		want := []string{"connect 1", "route 1", "close 1", "connect 2", "route 2", "check 2", "close 2"}
		if !reflect.DeepEqual(target.log, want) {
			t.Errorf("got %q, want %q", target.log, want)
		}
	})
}

func TestSilentConnectionCostsTheConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{}
		target.connect = func(ctx context.Context, _ topology.ID) error {
			<-ctx.Done()
			return ctx.Err()
		}
		client := mta(1, 2)
		client.Policy.Attempts = 5
		r := newReplay(t, quietModel(1, 0), Window{0, time.Minute}, target, out, client)
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Five attempts of 2 s, a pause of 50 ms after the first round over two
		// nodes and of 100 ms after the second.
		if s := out.all[0]; s.Service() != 10*time.Second+150*time.Millisecond || s.Attempts[0].Result.Class != ndberr.Connect {
			t.Errorf("got %+v, want five connections in vain in 10.15 s", s)
		}
	})
}

func TestSessionIsKeptOnlyAfterTheDatabasesOwnAnswer(t *testing.T) {
	for _, row := range []struct {
		sentence string
		err      error
		close    bool
	}{
		{"a temporary error of the cluster leaves the connection whole", errTemporary, false},
		{"so does an error in the statement", errSyntax, false},
		{"a lost connection is lost", errBroken, true},
		{"an answer that comes too late would be taken for the next one's", context.DeadlineExceeded, true},
		{"what is not understood is not trusted", errors.New("strange"), true},
		{"a server that shuts down cuts the connection", &mysql.MySQLError{Number: 1053, Message: "Server shutdown in progress"}, true},
		{"a server that has killed the connection cuts it", &mysql.MySQLError{Number: 4031, Message: "The client was disconnected by the server because of inactivity."}, true},
	} {
		if got := mustClose(ndberr.Classify(row.err)); got != row.close {
			t.Errorf("%s: close is %t after %v", row.sentence, got, row.err)
		}
	}
}

func TestIntendedTimes(t *testing.T) {
	for _, row := range []struct {
		sentence string
		speed    int
		stall    bool // statements sent in the first 20 s of wall time end then
	}{
		{"as in the trace at speed 1", 1, false},
		{"nearer to each other at speed 60", 60, false},
		{"the same during a stall, and ops are late", 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			out, target := &samples{}, &fakeTarget{route: routing.Local, grey: greylist.New}
			if row.stall {
				target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
					sleep(ctx, 20*time.Second-time.Since(begin))
					return ctx.Err()
				}
			}
			client := mta(1)
			client.Policy.ReadTimeout = time.Minute
			from := 20*time.Second + 7*time.Microsecond
			r := newReplay(t, quietModel(30, 0), Window{from, 10 * time.Minute}, target, out, client)
			r.Speed = row.speed
			if row.stall {
				r.MaxInFlight = 3
			}
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := int64(len(out.all)); n != 2*r.Trace.Messages() || n < 500 {
				t.Fatalf("%s: %d ops of %d messages, want two each", row.sentence, n, r.Trace.Messages())
			}
			late := 0
			for _, s := range out.all {
				m := r.Trace.(*Trace).Message(s.Message)
				want := time.Second + (m.At-from)/time.Duration(row.speed)
				if s.Operation == reference.CheckGreylist {
					want += recipientStep / 2
				}
				if s.Intended != want || s.Virtual != m.At {
					t.Fatalf("%s: op of message %d is intended at %v (virtual %v), want %v (%v)", row.sentence, s.Message, s.Intended, s.Virtual, want, m.At)
				}
				if s.Queue() < 0 {
					t.Fatalf("%s: op of message %d was dispatched %v early", row.sentence, s.Message, -s.Queue())
				}
				if s.Queue() > 0 {
					late++
				}
			}
			if (late > 0) != row.stall || (stats.Waited > 0) != row.stall {
				t.Errorf("%s: %d ops late, %d sessions waited", row.sentence, late, stats.Waited)
			}
			for _, q := range target.requests {
				if q.Now.Before(r.Day.Add(from)) || !q.Now.Before(r.Day.Add(from+10*time.Minute)) {
					t.Fatalf("%s: greylisting was asked for %v, out of the virtual window", row.sentence, q.Now)
				}
			}
		})
	}
}

func TestSessionsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Unknown}
		target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
			sleep(ctx, time.Second)
			return nil
		}
		r := newReplay(t, quietModel(600, 0), Window{0, time.Minute}, target, out, mta(1)) // 10 a second, of 1 s each
		r.MaxInFlight, r.Drain = 4, time.Hour
		most := int64(0)
		watching, stop := context.WithCancel(t.Context())
		go func() {
			for sleep(watching, 100*time.Millisecond) {
				most = max(most, r.Stats().InFlight())
			}
		}()
		stats, err := r.Run(t.Context())
		stop()
		synctest.Wait()
		if err != nil || stats.Ended != 600 {
			t.Fatalf("stats %+v, error %v, want all 600 sessions over", stats, err)
		}
		if most != 4 || stats.Waited < 500 {
			t.Errorf("%d sessions were under way at most and %d waited, want 4 and nearly all", most, stats.Waited)
		}
		// Four at a time for 1 s each: the last ends after about 150 s.
		if last := out.all[len(out.all)-1]; last.Response() < 80*time.Second {
			t.Errorf("the last op took %v from its intended time: its lateness is hidden", last.Response())
		}
	})
}

// What could not be started by the end of the drain is given up: it would fall
// upon a cluster that has long recovered.
func TestABacklogIsGivenUpAfterTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		out, target := &samples{}, &fakeTarget{route: routing.Unknown}
		target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
			sleep(ctx, time.Second)
			return nil
		}
		r := newReplay(t, quietModel(600, 0), Window{0, time.Minute}, target, out, mta(1)) // 10 a second, of 1 s each
		r.MaxInFlight, r.Drain = 4, 20*time.Second
		stats, err := r.Run(t.Context())
		if !errors.Is(err, errOverrun) {
			t.Errorf("error %v, want that of an overrun", err)
		}
		if took := time.Since(begin); took > time.Second+time.Minute+2*r.Drain {
			t.Errorf("the replay took %v", took)
		}
		if stats.Started >= 600 || stats.Ended != stats.Started || int64(len(out.all)) != stats.Ended {
			t.Errorf("stats %+v and %d samples: what was started must end and be recorded, the rest be left", stats, len(out.all))
		}
	})
}

func TestEndOfTheContext(t *testing.T) {
	for _, row := range []struct {
		sentence string
		each     time.Duration // that a statement takes
		cutShort int64
		outcome  Outcome
	}{
		{"sessions under way end within the drain", 5 * time.Second, 0, OK},
		{"sessions that go on for longer are cut short", time.Hour, 1, Failed},
	} {
		synctest.Test(t, func(t *testing.T) {
			out, target := &samples{}, &fakeTarget{route: routing.Unknown}
			target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
				if !sleep(ctx, row.each) {
					return ctx.Err()
				}
				return nil
			}
			client := mta(1)
			client.Policy.ReadTimeout = 2 * time.Hour
			r := newReplay(t, quietModel(1, 0), Window{0, 20 * time.Minute}, target, out, client)
			r.Drain = 30 * time.Second
			cause := errors.New("somebody pressed a key")
			ctx, cancel := context.WithCancelCause(t.Context())
			first := time.Second + r.Trace.(*Trace).Message(0).At
			time.AfterFunc(first+time.Second, func() { cancel(cause) })
			begin := time.Now()
			stats, err := r.Run(ctx)
			if !errors.Is(err, cause) {
				t.Errorf("%s: error %v does not wrap the cause", row.sentence, err)
			}
			if stats.Started != 1 || stats.Ended != 1 || stats.CutShort != row.cutShort {
				t.Errorf("%s: stats %+v", row.sentence, stats)
			}
			if len(out.all) != 1 || out.all[0].Outcome != row.outcome {
				t.Errorf("%s: samples %q, want one that is %s", row.sentence, out.told(), row.outcome)
			}
			if took, want := time.Since(begin), first+min(row.each, time.Second+r.Drain); took != want {
				t.Errorf("%s: the replay ended after %v, want %v", row.sentence, took, want)
			}
			if target.open != 0 {
				t.Errorf("%s: %d sessions are left open", row.sentence, target.open)
			}
		})
	}
}

func TestRecipientsAreAskedOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Local, grey: greylist.Pass}
		model := quietModel(1, 0)
		model.LegitimateRecipients = []int64{0, 0, million}
		r := newReplay(t, model, Window{0, time.Minute}, target, out, mta(1))
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, begin := r.Trace.(*Trace).Message(0), out.all[0].Intended
		var got []string
		for _, s := range out.all {
			got = append(got, fmt.Sprintf("%s %d at %v", s.Operation, s.Recipient, s.Intended-begin))
		}
		want := []string{
			"route 0 at 0s", "check 0 at 10ms", "route 1 at 20ms", "check 1 at 30ms", "route 2 at 40ms", "check 2 at 50ms",
			"deliver 0 at 260ms", "deliver 1 at 265ms", "deliver 2 at 270ms",
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for i, q := range target.requests {
			if want := (greylist.Request{Client: m.Client, Sender: m.Sender, Recipient: m.Recipients[i], Now: r.Day.Add(m.At)}); q != want {
				t.Errorf("request %d is %+v, want %+v", i, q, want)
			}
			a := out.acks[i]
			if r := out.seen[i]; r.User != m.Recipients[i] || r.Operation != reference.Route || r.Route.Backend != "cyrus1" || int(r.Recipient) != i {
				t.Errorf("saw %+v, want the route of %s", r, m.Recipients[i])
			}
			if a.User != m.Recipients[i] || a.Request != q || a.Decision.Verdict != target.grey || !a.Certain {
				t.Errorf("acknowledged %+v, want the passing of %+v", a, q)
			}
		}
	})
}

func TestSavesAreAcknowledgedWithTheirValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{}
		target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
			sleep(ctx, time.Millisecond)
			return nil
		}
		r := newReplay(t, quietModel(0, 1000), Window{0, time.Minute}, target, out, webmail(1))
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, begin := r.Trace.(*Trace).Action(0), out.all[0].Intended
		for k, save := range a.Saves {
			at := begin + saveAfter + time.Duration(k)*saveStep
			want := Acknowledged{
				Op:   Op{Operation: reference.SetPreference, Message: a.Number, Recipient: uint16(k), Node: 1, Asked: at, At: at + time.Millisecond},
				User: a.User, Key: save.Key, Value: save.Value, Dispatched: at, Certain: true,
			}
			if out.acks[k] != want {
				t.Errorf("acknowledged %+v, want %+v", out.acks[k], want)
			}
			if s := out.all[1+k]; s.Answer != uint8(preferences.Saved) || int(s.Recipient) != k {
				t.Errorf("save %d is recorded as %+v", k, s)
			}
		}
		if len(out.seen) != 1 || out.seen[0].User != a.User || out.seen[0].Preferences["language"] != "en_US" {
			t.Errorf("saw %+v, want the preferences of %s", out.seen, a.User)
		}
		if want := []string{"connect 1", "read 1", "set 1", "set 1", "close 1"}; !reflect.DeepEqual(target.log, want) {
			t.Errorf("got %q, want one session for all: %q", target.log, want)
		}
	})
}

// TestJobs does jobs of each kind, and meets what a change may meet.
func TestJobs(t *testing.T) {
	for _, row := range []struct {
		sentence string
		changes  []error // what the database answers, one change after another
		kind     accounts.Action
		told     []string
		answers  []accounts.Verdict
		acks     []Acknowledged // without times
		notAsked int64
	}{
		{"a new account", nil, accounts.Create, []string{"change ok 1"}, []accounts.Verdict{accounts.Changed},
			[]Acknowledged{{Key: AccountHome, Value: "on %s", Certain: true}}, 0},
		{"a forward", nil, accounts.SetForward, []string{"change ok 1"}, []accounts.Verdict{accounts.Changed},
			[]Acknowledged{{Key: AccountForward, Value: "%s", Certain: true}}, 0},
		{"a move has two steps", nil, accounts.BeginMove, []string{"change ok 1", "change ok 1"}, []accounts.Verdict{accounts.Changed, accounts.Changed},
			[]Acknowledged{{Key: AccountHome, Value: "moving to %s", Certain: true}, {Key: AccountHome, Value: "on %s", Certain: true}}, 0},
		{"a move that is refused has none", []error{accounts.ErrState}, accounts.BeginMove, []string{"change ok 1"}, []accounts.Verdict{accounts.BadState}, nil, 1},
		{"a change that was aborted is made elsewhere", []error{errTemporary}, accounts.Create, []string{"change retried 1 2"}, []accounts.Verdict{accounts.Changed},
			[]Acknowledged{{Key: AccountHome, Value: "on %s", Certain: true}}, 0},
		{"a change that committed without its answer is not sent again", []error{errCommitted}, accounts.Create, []string{"change ok 1"}, []accounts.Verdict{accounts.NoAnswer},
			[]Acknowledged{{Key: AccountHome, Value: "on %s", Certain: true}}, 0},
		{"a change that has no answer may have happened, and the job ends", []error{errBroken, errNoAnswer}, accounts.BeginMove, []string{"change unknown 1 2"}, []accounts.Verdict{accounts.NoAnswer},
			[]Acknowledged{{Key: AccountHome, Value: "moving to %s"}}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			out, target := &samples{}, &fakeTarget{}
			asked := 0
			target.ask = func(context.Context, topology.ID, reference.Operation) error {
				if asked++; asked <= len(row.changes) {
					return row.changes[asked-1]
				}
				return nil
			}
			model := quietModel(0, 0)
			model.JobsPerDay = 60 * 60 // one a second
			// The first job of the kind is alone in its window.
			all := newReplay(t, model, Window{0, time.Minute}, target, out, mta(1, 2), webmail(1, 2)).Trace.(*Trace)
			var job Job
			for n := uint64(0); len(job.Changes) == 0 || job.Changes[0].Action != row.kind; n++ {
				job = all.Job(n)
			}
			r := newReplay(t, model, Window{job.At, time.Microsecond}, target, out, mta(1, 2), webmail(1, 2))
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if told := out.told(); !reflect.DeepEqual(told, row.told) {
				t.Errorf("%s: got %q, want %q", row.sentence, told, row.told)
			}
			for k, s := range out.all {
				if s.Answer != uint8(row.answers[k]) || int(s.Recipient) != k || s.Intended != out.all[0].Intended+time.Duration(k)*changeStep {
					t.Errorf("%s: change %d is recorded as %+v", row.sentence, k, s)
				}
			}
			c := job.Changes[0]
			to := c.Account.Backend + c.Backend + strings.Join(c.Targets, ",")
			for k, want := range row.acks {
				if k >= len(out.acks) {
					t.Fatalf("%s: %d writes are acknowledged", row.sentence, len(out.acks))
				}
				got := out.acks[k]
				if got.Operation != reference.ChangeAccount || got.User != c.Login || got.Key != want.Key || got.Value != fmt.Sprintf(want.Value, to) || got.Certain != want.Certain {
					t.Errorf("%s: acknowledged %+v, want %+v of %s", row.sentence, got, want, to)
				}
			}
			if len(out.acks) != len(row.acks) || stats.ChangesNotAsked != row.notAsked {
				t.Errorf("%s: %d writes are acknowledged and %d changes not asked, want %d and %d", row.sentence, len(out.acks), stats.ChangesNotAsked, len(row.acks), row.notAsked)
			}
		})
	}
}

// TestPathsThatAreLeftOut replays ten minutes of messages, all of which greylisting
// would put off, logins and jobs, with some of the paths.
func TestPathsThatAreLeftOut(t *testing.T) {
	all := []reference.Operation{
		reference.Route, reference.CheckGreylist, reference.RouteDelivery, reference.ReadPreferences, reference.SetPreference, reference.ChangeAccount,
	}
	for _, row := range []struct {
		sentence string
		paths    []reference.Path
		asked    []reference.Operation
	}{
		{"without a list all are asked, and what is put off is not delivered", nil,
			[]reference.Operation{reference.Route, reference.CheckGreylist, reference.ReadPreferences, reference.SetPreference, reference.ChangeAccount}},
		{"without greylisting who has a route is accepted at once", []reference.Path{reference.Routing, reference.Preferences, reference.Accounts},
			[]reference.Operation{reference.Route, reference.RouteDelivery, reference.ReadPreferences, reference.SetPreference, reference.ChangeAccount}},
		{"without preferences nobody logs in", []reference.Path{reference.Routing, reference.Greylist, reference.Accounts},
			[]reference.Operation{reference.Route, reference.CheckGreylist, reference.ChangeAccount}},
		{"without accounts the staff rests", []reference.Path{reference.Routing, reference.Greylist, reference.Preferences},
			[]reference.Operation{reference.Route, reference.CheckGreylist, reference.ReadPreferences, reference.SetPreference}},
		{"with routing alone nothing is written", []reference.Path{reference.Routing},
			[]reference.Operation{reference.Route, reference.RouteDelivery}},
	} {
		synctest.Test(t, func(t *testing.T) {
			out := &samples{}
			model := quietModel(10, 1000)
			model.JobsPerDay = 60 * 60
			r := newReplay(t, model, Window{0, 10 * time.Minute}, &fakeTarget{route: routing.Local, grey: greylist.New}, out, mta(1, 2), webmail(1, 2))
			r.Paths = row.paths
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if stats.Ended != stats.Offered || stats.InFlight() != 0 {
				t.Errorf("%s: of %d sessions %d ended", row.sentence, stats.Offered, stats.Ended)
			}
			asked := map[reference.Operation]bool{}
			for _, s := range out.all {
				asked[s.Operation] = true
			}
			for _, op := range all {
				if want := slices.Contains(row.asked, op); asked[op] != want {
					t.Errorf("%s: %s is asked: %t, want %t", row.sentence, op, asked[op], want)
				}
			}
		})
	}
}

// TestJobsAreWhatTheModelAllows does all jobs of a day in the decision model.
func TestJobsAreWhatTheModelAllows(t *testing.T) {
	m := Berkeley2008()
	m.Bursts = 0
	m.JobsPerDay = 20_000
	p := Population{Seed: 5, Accounts: 3000, Domain: DefaultDomain, Backends: BackendNames(4)}
	tr, err := NewTrace(5, m, p, Window{0, 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC)
	world, ids, done := map[string]accounts.Account{}, map[[16]byte]bool{}, map[string]int{}
	for a := range p.AccountRows(day) {
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		world[a.Login] = a
	}
	for n := range uint64(m.JobsPerDay) {
		for _, c := range tr.Job(n).Changes {
			c.At = day
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			if ids[c.ID] {
				t.Fatalf("two changes have the id %x", c.ID)
			}
			ids[c.ID] = true
			var before *accounts.Account
			if a, ok := world[c.Login]; ok {
				before = &a
			}
			after, err := accounts.Apply(before, c)
			verdict, failed := accounts.VerdictOf(err)
			if failed != nil {
				t.Fatal(failed)
			}
			done[c.Action.String()+" "+verdict.String()]++
			if err != nil {
				break
			}
			world[after.Login] = after
			if key, value := promise(c, tr.Job(n).Changes[0].Backend); AccountValues(after)[key] != value {
				t.Fatalf("%+v promises %s %q, and the account is %+v", c, key, value, after)
			}
		}
	}
	// A move to where an account is already is made a forward, unless it has only
	// moved there since the day began: then it is refused.
	begun, refused, finished := done["begin_move changed"], done["begin_move bad state"], done["finish_move changed"]
	creates, forwards := done["create changed"], done["set_forward changed"]
	near := func(n, want int) bool { return n > want-want/20 && n < want+want/20 }
	if !near(creates, 10_000) || !near(begun+refused, 4_500) || !near(forwards, 5_500) || begun != finished || creates+begun+refused+forwards != 20_000 {
		t.Errorf("of 20,000 jobs half should be new accounts, 30 %% less a fourth moves, the rest forwards: %v", done)
	}
}

func TestReplayNamesWhatIsWrong(t *testing.T) {
	for _, row := range []struct {
		field string
		spoil func(*Replay)
	}{
		{"Trace", func(r *Replay) { r.Trace = nil }},
		{"Target", func(r *Replay) { r.Target = nil }},
		{"Recorder", func(r *Replay) { r.Recorder = nil }},
		{"Anchor", func(r *Replay) { r.Anchor = time.Time{} }},
		{"Day", func(r *Replay) { r.Day = time.Time{} }},
		{"must hold routing", func(r *Replay) { r.Paths = []reference.Path{reference.Preferences} }},
		{"Speed", func(r *Replay) { r.Speed = 0 }},
		{"MaxInFlight", func(r *Replay) { r.MaxInFlight = 0 }},
		{"Drain", func(r *Replay) { r.Drain = 0 }},
		{"Rest is set", func(r *Replay) { r.Rest = func(int) {} }},
		{"Clients", func(r *Replay) { r.Clients = nil }},
		{"no MTA", func(r *Replay) { r.Clients = r.Clients[1:] }},
		{"no webmail machine", func(r *Replay) { r.Clients = r.Clients[:1] }},
		{"mta1: Kind", func(r *Replay) { r.Clients[0].Kind = "imap" }},
		{"mta1: Nodes", func(r *Replay) { r.Clients[0].Nodes = nil }},
		{"mta1: Habit", func(r *Replay) { r.Clients[0].Habit = 0 }},
		{"mta1: Policy.ConnectTimeout", func(r *Replay) { r.Clients[0].Policy.ConnectTimeout = 0 }},
		{"mta1: Policy.ReadTimeout", func(r *Replay) { r.Clients[0].Policy.ReadTimeout = -1 }},
		{"mta1: Policy.Attempts", func(r *Replay) { r.Clients[0].Policy.Attempts = 0 }},
		{"mta1: Policy.Backoff", func(r *Replay) { r.Clients[0].Policy.Backoff = -1 }},
		{"mta1: Policy.Avoid", func(r *Replay) { r.Clients[0].Policy.Avoid = -1 }},
	} {
		r := newReplay(t, quietModel(1, 1000), Window{0, time.Minute}, &fakeTarget{}, &samples{}, mta(1), webmail(1))
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		row.spoil(r)
		if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), row.field) {
			t.Errorf("bad %s: error %v does not name it", row.field, err)
		}
	}
}

// nullTarget answers at once.
type nullTarget struct{}

func (nullTarget) Connect(context.Context, topology.ID, reference.ConnectOptions) (reference.Session, error) {
	return nullTarget{}, nil
}

func (nullTarget) Change(context.Context, accounts.Change) error { return nil }

func (nullTarget) Account(context.Context, string) (accounts.Account, error) {
	return accounts.Account{}, nil
}

func (nullTarget) Route(context.Context, string) (routing.Answer, error) {
	return routing.Answer{Verdict: routing.Local, Backend: "cyrus1"}, nil
}

func (nullTarget) Check(context.Context, greylist.Request) (greylist.Answer, error) {
	return greylist.Answer{Verdict: greylist.New}, nil
}
func (nullTarget) Read(context.Context, string) (map[string]string, error) { return nil, nil }
func (nullTarget) Set(context.Context, string, string, string) error       { return nil }
func (nullTarget) Delete(context.Context, string, string) error            { return nil }
func (nullTarget) Close() error                                            { return nil }

type discard struct{}

func (discard) Record(*Sample) {}

func benchmarkedReplay(b *testing.B, w Window, out Recorder) *Replay {
	tr, err := NewTrace(1, Berkeley2008(), DefaultPopulation(1), w)
	if err != nil {
		b.Fatal(err)
	}
	return &Replay{
		Trace: tr, Clients: []Client{mta(1, 2), webmail(1, 2)}, Target: nullTarget{}, Recorder: out,
		Anchor: time.Now(), Speed: 1, Day: time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC), MaxInFlight: 1000, Drain: time.Minute,
	}
}

// BenchmarkReplay is the generator's own cost: everything is overdue, so that
// nothing waits.
func BenchmarkReplay(b *testing.B) {
	var ops int64
	for b.Loop() {
		r := benchmarkedReplay(b, Window{11 * time.Hour, 5 * time.Minute}, discard{})
		r.Start, r.Drain = -time.Hour, 2*time.Hour
		stats, err := r.Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range stats.Ops {
			ops += n
		}
	}
	b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "ops/s")
}
