package ldap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// start runs two providers of the test's own until it ends.
func start(t testing.TB) *Target {
	t.Helper()
	docker := clustertest.Alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	found, err := image.Find(ctx, docker, image.Options{Kind: image.Programs, Announce: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	target := New(docker, Spec{
		RunID: fmt.Sprintf("test-ldap-%d", os.Getpid()), Topology: providers(), Image: found.ID,
		Announce: func(line string) { t.Log(line) },
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := target.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := target.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return target
}

func connected(t testing.TB, target *Target, n topology.Node) reference.Session {
	t.Helper()
	s, err := target.Connect(t.Context(), n.ID, reference.ConnectOptions{ConnectTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestDirectory runs real slapds: what they answer, what they store, and what
// becomes of that when one dies.
func TestDirectory(t *testing.T) {
	target := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	first, second := target.Topology().Nodes[0], target.Topology().Nodes[1]

	c := generate(1, 300)
	loader, closeLoader, err := target.Loader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(loader.LoadRoutes(ctx, c.routes), loader.LoadAccounts(ctx, c.accounts), loader.LoadPreferences(ctx, c.preferences), closeLoader()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := target.Loader(ctx); !errors.Is(err, ErrFilled) {
		t.Errorf("a second load: %v", err)
	}
	version, err := target.Version(ctx)
	if err != nil {
		t.Error(err)
	}
	t.Log("version: ", version)

	sessions := map[topology.ID]reference.Session{first.ID: connected(t, target, first), second.ID: connected(t, target, second)}
	for _, n := range target.Topology().Nodes {
		agree(t, ctx, n.Name, sessions[n.ID], c)
	}
	changeAccounts(t, ctx, sessions[first.ID], c)

	owner := c.accounts[0].Login
	writeAtOnce(t, ctx, target, first, owner)
	if err := sessions[first.ID].Set(ctx, owner, "theme", "dark"); err != nil {
		t.Error(err)
	}
	if err := target.AwaitReplicated(ctx, second.ID); err != nil {
		t.Error(err)
	}
	if got := reads(ctx, sessions[second.ID], owner, "theme"); got != "dark" {
		t.Errorf("a preference that has been replicated is %q at the other provider", got)
	}
	if _, err := target.AwaitRedundant(ctx, first.ID); err != nil {
		t.Error(err)
	}
	if usage := target.Usage(ctx); usage[first.Name].CPU == 0 || usage[second.Name].Memory == 0 {
		t.Errorf("usage %v", usage)
	}

	frozen(t, ctx, target, first, owner)
	_, err = connect(ctx, first, target.Address(first), clientDN, "wrong", reference.ConnectOptions{})
	if r := ndberr.Classify(err); r.Class != ndberr.Permanent || r.Retryable {
		t.Errorf("a wrong password: %v, which is %v", err, r)
	}

	events := make(chan reference.ClusterEvent, 100)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go func() { _ = target.Watch(watching, func(e reference.ClusterEvent) { events <- e }) }()
	told := func(name string) {
		t.Helper()
		select {
		case e := <-events:
			if e.Name != name || e.Node != first.ID {
				t.Errorf("event %+v, want %s", e, name)
			}
		case <-ctx.Done():
			t.Fatalf("no event %s", name)
		}
	}

	if err := target.Kill(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := target.AwaitDown(ctx, first.ID); err != nil {
		t.Error(err)
	}
	told(EventDown)
	_, err = sessions[first.ID].Route(ctx, owner)
	if r := ndberr.Classify(err); r.Class != ndberr.Broken || !r.Retryable {
		t.Errorf("a session with a dead provider: %v, which is %v", err, r)
	}
	_, err = target.Connect(ctx, first.ID, reference.ConnectOptions{ConnectTimeout: time.Second})
	if r := ndberr.Classify(err); r.Class != ndberr.Connect || !r.Retryable {
		t.Errorf("a connection with a dead provider: %v, which is %v", err, r)
	}
	if err := sessions[second.ID].Set(ctx, owner, "theme", "light"); err != nil {
		t.Errorf("the survivor takes no writes: %v", err)
	}
	if a, err := sessions[second.ID].Route(ctx, "nobody@example.edu"); err != nil || a.Verdict != routing.Unknown {
		t.Errorf("the survivor answers %v, %v", a, err)
	}
	if runs, err := target.Runs(ctx, first.ID); err != nil || runs {
		t.Errorf("the dead provider runs: %v, %v", runs, err)
	}

	if err := target.StartNode(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []func(context.Context, topology.ID) (reference.Evidence, error){target.AwaitUp, target.AwaitRedundant} {
		evidence, err := wait(ctx, first.ID)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(evidence.Source, evidence.Detail)
	}
	told(EventUp)
	again := connected(t, target, first)
	if got := reads(ctx, again, owner, "theme"); got != "light" {
		t.Errorf("after its restart the provider reads %q, which is not what was written meanwhile", got)
	}
	if err := again.Set(ctx, owner, "theme", "again"); err != nil {
		t.Error(err)
	}
	eventually(t, ctx, "a write at the provider that came back reaches the other", func() bool { return reads(ctx, sessions[second.ID], owner, "theme") == "again" })

	if err := errors.Join(target.Kill(ctx, first.ID), target.EmptyDisk(ctx, first.ID), target.StartNode(ctx, first.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := target.AwaitRedundant(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	anew := connected(t, target, first)
	if got := reads(ctx, anew, owner, "theme"); got != "again" {
		t.Errorf("a provider with an empty disk has fetched %q", got)
	}
	if a, err := anew.Route(ctx, c.routes[4].Address); err != nil || a.Verdict != routing.Local {
		t.Errorf("a provider with an empty disk answers %v, %v", a, err)
	}
}

// agree compares all answers of a provider with the decision model's.
func agree(t *testing.T, ctx context.Context, name string, s reference.Session, c content) {
	t.Helper()
	rows := c.rows()
	for _, address := range c.asked() {
		got, err := s.Route(ctx, address)
		if want := c.decide(rows, address); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: route of %q: got %+v, %v; want %+v", name, address, got, err, want)
		}
	}
	likes := c.likes()
	for _, a := range c.accounts {
		got, err := s.Account(ctx, a.Login)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: account: got %+v, %v; want %+v", name, got, err, a)
		}
		liked, err := s.Read(ctx, a.Login)
		if err != nil || !maps.Equal(liked, likes[a.Login]) {
			t.Errorf("%s: preferences of %q: got %q, %v; want %q", name, a.Login, liked, err, likes[a.Login])
		}
	}
	if _, err := s.Check(ctx, greylist.Request{}); !errors.Is(err, ErrNoGreylist) || ndberr.Classify(err).Retryable {
		t.Errorf("%s: greylist: %v", name, err)
	}
	if err := s.Set(ctx, "nobody@example.edu", "k", "v"); !errors.Is(err, ErrNoUser) || ndberr.Classify(err).Effect != ndberr.NotApplied {
		t.Errorf("%s: a preference of nobody: %v", name, err)
	}
}

// changeAccounts makes each kind of change, each twice, and compares with the
// decision model.
func changeAccounts(t *testing.T, ctx context.Context, s reference.Session, c content) {
	t.Helper()
	var (
		login = "new@example.edu"
		id    byte
		model *accounts.Account
	)
	for _, row := range []struct {
		sentence string
		change   accounts.Change
		want     error
	}{
		{"an account is made", accounts.Change{Action: accounts.Create, Account: accounts.Account{Backend: "cyrus1", FullName: "New"}}, nil},
		{"but not twice", accounts.Change{Action: accounts.Create, Account: accounts.Account{Backend: "cyrus2"}}, accounts.ErrExists},
		{"it gets an alias", accounts.Change{Action: accounts.AddAlias, Alias: "other@example.edu"}, nil},
		{"but not somebody else's address", accounts.Change{Action: accounts.AddAlias, Alias: c.accounts[0].Login}, accounts.ErrExists},
		{"it is suspended", accounts.Change{Action: accounts.Suspend}, nil},
		{"and not suspended again", accounts.Change{Action: accounts.Suspend}, accounts.ErrState},
		{"it is resumed", accounts.Change{Action: accounts.Resume}, nil},
		{"it forwards", accounts.Change{Action: accounts.SetForward, Targets: []string{"b@example.com", "a@example.com"}, KeepCopy: true}, nil},
		{"it moves", accounts.Change{Action: accounts.BeginMove, Backend: "cyrus3"}, nil},
		{"and stays", accounts.Change{Action: accounts.AbortMove}, nil},
		{"it moves again", accounts.Change{Action: accounts.BeginMove, Backend: "cyrus3"}, nil},
		{"and arrives", accounts.Change{Action: accounts.FinishMove}, nil},
		{"it loses its alias", accounts.Change{Action: accounts.RemoveAlias, Alias: "other@example.edu"}, nil},
		{"which it has not any more", accounts.Change{Action: accounts.RemoveAlias, Alias: "other@example.edu"}, accounts.ErrNotFound},
		{"it gets another name", accounts.Change{Action: accounts.Rename, NewLogin: "newer@example.edu", KeepOld: true}, nil},
		{"and its old one back", accounts.Change{Action: accounts.Rename, NewLogin: "new@example.edu"}, nil},
		{"it is closed", accounts.Change{Action: accounts.Close}, nil},
	} {
		id++
		row.change.ID, row.change.At, row.change.Login = [16]byte{1, id}, time.Unix(1000+int64(id), 0), login
		for range 2 { // once, however often it is sent
			if err := s.Change(ctx, row.change); !errors.Is(err, row.want) {
				t.Errorf("%s: got %v, want %v", row.sentence, err, row.want)
			}
		}
		if row.change.Action == accounts.Create {
			if err := s.Set(ctx, login, "kept", "yes"); err != nil {
				t.Error(err)
			}
		}
		if row.want == nil {
			after, err := accounts.Apply(model, row.change)
			if err != nil {
				t.Fatal(err)
			}
			model, login = &after, after.Login
		}
		got, err := s.Account(ctx, login)
		if err != nil || !reflect.DeepEqual(got, *model) {
			t.Errorf("%s: got %+v, %v; want %+v", row.sentence, got, err, *model)
		}
		for _, want := range model.Rows() {
			answer, err := s.Route(ctx, want.Address)
			if decided := routing.Decide(want.Address, &want, nil); err != nil || !reflect.DeepEqual(answer, decided) {
				t.Errorf("%s: route of %s: got %+v, %v; want %+v", row.sentence, want.Address, answer, err, decided)
			}
		}
		if got := reads(ctx, s, login, "kept"); got != "yes" {
			t.Errorf("%s: its preference is %q", row.sentence, got)
		}
	}
	if _, err := s.Account(ctx, "newer@example.edu"); !errors.Is(err, accounts.ErrNotFound) {
		t.Errorf("a name that was given up: %v", err)
	}
}

// writeAtOnce has several sessions write preferences of one user: none is lost,
// as each is written only over the entry that was read.
func writeAtOnce(t *testing.T, ctx context.Context, target *Target, n topology.Node, owner string) {
	t.Helper()
	const writers, keys = 4, 10
	var group sync.WaitGroup
	for w := range writers {
		s := connected(t, target, n)
		group.Go(func() {
			for k := range keys {
				key := fmt.Sprintf("%d-%d", w, k)
				err := ErrConflict
				for errors.Is(err, ErrConflict) { // as a client tries again
					err = s.Set(ctx, owner, key, key)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	all, err := connected(t, target, n).Read(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for k := range keys {
			if key := fmt.Sprintf("%d-%d", w, k); all[key] != key {
				t.Errorf("preference %s, which was acknowledged, is %q", key, all[key])
			}
		}
	}
}

// frozen has a provider fall silent: whoever asks it gets no answer in time, and
// whether it writes what it was sent is not known.
func frozen(t *testing.T, ctx context.Context, target *Target, n topology.Node, owner string) {
	t.Helper()
	s := connected(t, target, n)
	if err := target.Freeze(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := s.Set(short, owner, "frozen", "maybe")
	if r := ndberr.Classify(err); r.Class != ndberr.Timeout || r.Effect != ndberr.MayHaveBeen || !r.Retryable {
		t.Errorf("a write to a frozen provider: %v, which is %v", err, r)
	}
	err = s.Set(ctx, owner, "frozen", "never")
	if r := ndberr.Classify(err); r.Class != ndberr.Broken || r.Effect != ndberr.NotApplied {
		t.Errorf("a write in a session that is lost: %v, which is %v", err, r)
	}
	_, err = target.Connect(ctx, n.ID, reference.ConnectOptions{ConnectTimeout: 200 * time.Millisecond})
	if r := ndberr.Classify(err); r.Class != ndberr.Connect || !r.Retryable {
		t.Errorf("a connection with a frozen provider: %v, which is %v", err, r)
	}
	if err := target.Thaw(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := target.AwaitRedundant(ctx, n.ID); err != nil {
		t.Error(err)
	}
}

func reads(ctx context.Context, s reference.Session, user, key string) string {
	likes, err := s.Read(ctx, user)
	if err != nil {
		return err.Error()
	}
	return likes[key]
}

func eventually(t *testing.T, ctx context.Context, sentence string, holds func() bool) {
	t.Helper()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time", sentence)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
