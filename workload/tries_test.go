package workload

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// greylisting is a target that knows every address and greylists by the decision
// model. While down says so, no node lets anybody in.
type greylisting struct {
	mu    sync.Mutex
	model *greylist.Memory
	down  func() bool
}

func newGreylisting() *greylisting {
	return &greylisting{model: greylist.NewMemory(greylist.DefaultPolicy(), nil)}
}

func (g *greylisting) Connect(context.Context, topology.ID, reference.ConnectOptions) (reference.Session, error) {
	if g.down != nil && g.down() {
		return nil, errRefused
	}
	return greylistingSession{&fakeSession{fakeTarget: &fakeTarget{}}, g}, nil
}

type greylistingSession struct {
	*fakeSession
	g *greylisting
}

func (s greylistingSession) Route(context.Context, string) (routing.Answer, error) {
	if s.g.down != nil && s.g.down() {
		return routing.Answer{}, errBroken
	}
	return routing.Answer{Verdict: routing.Local, Backend: "cyrus1", Greylist: true}, nil
}

func (s greylistingSession) Check(ctx context.Context, r greylist.Request) (greylist.Answer, error) {
	if s.g.down != nil && s.g.down() {
		return greylist.Answer{}, errBroken
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	return s.g.model.Check(ctx, r)
}

// hourOfMail has 10 messages a minute of one recipient each, in the first hour.
func hourOfMail(spamPPM int64) Model {
	m := quietModel(10, 0)
	m.SpamPPM, m.UnknownPPM = spamPPM, 0
	m.SpamRecipients = []int64{million}
	return m
}

// TestPeersComeBack holds that who was deferred comes back when its schedule
// says, from where it says, as often as it is deferred, and nobody else does.
func TestPeersComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, newGreylisting()
		r := newReplay(t, hourOfMail(0), Window{Duration: 3 * time.Hour}, target, out, mta(1), mta(2))
		r.ClosedLoop = true
		stats, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		// The same by hand: whose check defers comes back.
		type asked struct {
			message uint64
			try     uint16
			at      time.Duration
		}
		want, left, gaveUp := map[asked]greylist.Verdict{}, int64(0), int64(0)
		model, queue := greylist.NewMemory(greylist.DefaultPolicy(), nil), []*Try{}
		for item := range r.Trace.All() {
			queue = append(queue, firstTry(item.Message))
		}
		for len(queue) > 0 {
			slices.SortStableFunc(queue, func(a, b *Try) int { return int(a.At - b.At) })
			try := queue[0]
			queue = queue[1:]
			a, err := model.Check(t.Context(), greylist.Request{
				Client: try.Client, Sender: try.Message.Sender, Recipient: try.Message.Recipients[0], Now: r.Day.Add(try.At),
			})
			if err != nil {
				t.Fatal(err)
			}
			want[asked{try.Message.Number, uint16(try.Number), try.At}] = a.Verdict
			if !a.Verdict.Defers() {
				continue
			}
			switch at, client, ok := r.Trace.Retry(try.Message, try.Number+1); {
			case !ok:
				gaveUp++
			case at >= 3*time.Hour:
				left++
			default:
				queue = append(queue, &Try{Message: try.Message, Number: try.Number + 1, Recipients: []int{0}, At: at, Client: client})
			}
		}

		got, later := map[asked]greylist.Verdict{}, int64(0)
		for _, s := range out.all {
			if s.Operation == reference.Route && s.Intended != time.Second+s.Virtual {
				t.Errorf("try %d of message %d was intended at %v, want %v", s.Try, s.Message, s.Intended, time.Second+s.Virtual)
			}
			if s.Operation == reference.CheckGreylist {
				got[asked{s.Message, s.Try, s.Virtual}] = greylist.Verdict(s.Answer)
				later += int64(min(s.Try, 1))
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d questions were asked, want %d", len(got), len(want))
			for q, v := range want {
				if got[q] != v {
					t.Fatalf("try %d of message %d at %v was answered %v, want %v", q.try, q.message, q.at, got[q], v)
				}
			}
		}
		if stats.Tries != later || stats.TriesLeft != left || stats.GivenUp != gaveUp || later < 200 {
			t.Errorf("%+v; want %d tries, more than 200, %d left and %d given up", stats, later, left, gaveUp)
		}
		if stats.Started != stats.Offered || stats.Started != r.Trace.Messages()+stats.Tries {
			t.Errorf("of %d sessions offered %d started, want %d messages and %d tries", stats.Offered, stats.Started, r.Trace.Messages(), stats.Tries)
		}
	})
}

// TestOpenLoopOfGreylisting holds that without the closed loop nobody comes back
// but those that Later names.
func TestOpenLoopOfGreylisting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &samples{}
		r := newReplay(t, hourOfMail(0), Window{Duration: time.Hour}, newGreylisting(), out, mta(1))
		m := r.Trace.(*Trace).Message(0)
		for _, at := range []time.Duration{10 * time.Minute, 20 * time.Minute, 2 * time.Hour} {
			r.Later = append(r.Later, &Try{Message: &m, Number: 3, Recipients: []int{0}, At: at, Client: m.Client})
		}
		stats, err := r.Run(t.Context())
		if err != nil || stats.Tries != 2 || stats.GivenUp != 0 {
			t.Errorf("%d tries were made, want the 2 within the window (%v)", stats.Tries, err)
		}
		for _, s := range out.all {
			if (s.Try == 3) != (s.Try > 0) {
				t.Errorf("try %d of message %d was made", s.Try, s.Message)
			}
		}
	})
}

// TestSecondWave has the whole database fail for ten minutes, at ten virtual
// seconds a second. All that comes meanwhile is put off, and comes back as the
// schedules of its senders predict.
func TestSecondWave(t *testing.T) {
	const from, to = 20 * time.Minute, 30 * time.Minute // virtual
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, newGreylisting()
		model := hourOfMail(500_000)
		model.MessagesPerDay = 60 * 200
		r := newReplay(t, model, Window{Duration: 2 * time.Hour}, target, out, mta(1), mta(2))
		r.ClosedLoop, r.Speed = true, 10
		virtual := func() time.Duration { return (time.Since(r.Anchor) - r.Start) * 10 }
		target.down = func() bool { return virtual() >= from && virtual() < to }
		stats, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		// Who was put off by the outage, by minute of the first try after it.
		predicted, put := map[int]int{}, 0
		for item := range r.Trace.All() {
			// A message whose first try came in the outage. Those whose later try did
			// are left to the sum below.
			if item.At < from || item.At >= to {
				continue
			}
			put++
			for try := 1; ; try++ {
				at, _, ok := r.Trace.Retry(item.Message, try)
				if !ok {
					break
				}
				if at >= to {
					predicted[int(at/time.Minute)]++
					break
				}
			}
		}
		wave := map[int]int{}
		firstAfter := map[uint64]bool{}
		inOutage := map[uint64]bool{}
		for _, s := range out.all {
			if s.Operation != reference.Route {
				continue
			}
			if s.Try == 0 && s.Virtual >= from && s.Virtual < to {
				inOutage[s.Message] = true
				if s.Outcome != Failed {
					t.Errorf("message %d was answered in the outage: %v", s.Message, s.Outcome)
				}
			}
			if s.Try > 0 && s.Virtual >= to && inOutage[s.Message] && !firstAfter[s.Message] {
				firstAfter[s.Message] = true
				wave[int(s.Virtual/time.Minute)]++
			}
		}
		if len(inOutage) != put || !maps.Equal(wave, predicted) {
			t.Errorf("of %d messages of the outage came back %v a minute; predicted are %d messages and %v", len(inOutage), wave, put, predicted)
		}
		if len(firstAfter) < put/4 || len(firstAfter) == put {
			t.Errorf("%d of %d messages came back: spammers should not, and others should", len(firstAfter), put)
		}
		t.Logf("%d messages came in the outage, %d of them came back by %v: %s; %+v", put, len(firstAfter), 2*time.Hour, minutes(wave), stats)
	})
}

func minutes(counts map[int]int) string {
	var text string
	for _, m := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf("%d:%d ", m, counts[m])
	}
	return text
}

// TestOverflow shows what each policy does with more sessions than may be under
// way: the target is silent for two minutes.
func TestOverflow(t *testing.T) {
	for _, c := range []struct {
		policy                           Overflow
		wantWaited, wantPutOff, wantDrop bool
	}{
		{OverflowWait, true, false, false},
		{OverflowPutOff, false, true, true}, // webmail cannot be put off
		{OverflowDrop, false, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			out := &samples{}
			target := &fakeTarget{route: routing.Local, grey: greylist.Pass}
			r := newReplay(t, quietModel(10, 60_000), Window{Duration: time.Hour}, target, out, mta(1), webmail(1))
			silent := func() bool { at := time.Since(r.Anchor); return at > 5*time.Minute && at < 7*time.Minute }
			target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
				if silent() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			r.MaxInFlight, r.Overflow, r.ClosedLoop = 1, c.policy, true
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (stats.Waited > 0) != c.wantWaited || (stats.PutOff > 0) != c.wantPutOff || (stats.Dropped > 0) != c.wantDrop {
				t.Errorf("%v: %d waited, %d were put off, %d were dropped", c.policy, stats.Waited, stats.PutOff, stats.Dropped)
			}
			if stats.Started+stats.PutOff+stats.Dropped != stats.Offered {
				t.Errorf("%v: of %d sessions %d started, %d were put off and %d dropped: the sum is another", c.policy, stats.Offered, stats.Started, stats.PutOff, stats.Dropped)
			}
			if c.policy == OverflowPutOff && stats.Tries == 0 {
				t.Error("nobody who was put off came back")
			}
		})
	}
}

func TestTriesAreOrdered(t *testing.T) {
	var q tries
	for _, at := range []time.Duration{5, 3, 9, 3, 1} {
		q.add(&Try{Message: &Message{Number: uint64(10 - at)}, At: at})
	}
	q.add(&Try{Message: &Message{Number: 1}, At: 3, Client: netip.Addr{}})
	var got []time.Duration
	for q.first() != nil {
		first := q.first()
		if taken := q.take(); taken != first {
			t.Errorf("took %v, the first was %v", taken, first)
		} else {
			got = append(got, taken.At*100+time.Duration(taken.Message.Number))
		}
	}
	if want := []time.Duration{109, 301, 307, 307, 505, 901}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
	if q.len() != 0 {
		t.Error("tries are left")
	}
}
