package ldap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// How often providers are asked: by who waits for one, and by Watch.
const (
	awaitEvery = 20 * time.Millisecond
	watchEvery = 200 * time.Millisecond
)

// The events that Watch tells. slapd itself tells nobody of others.
const (
	EventDown = "DIRECTORY_DOWN" // a provider does not answer any more; field "error"
	EventUp   = "DIRECTORY_UP"   // a provider answers again
)

// Watch implements [reference.Target] by asking each provider five times a
// second. At first it takes them to be up.
func (t *Target) Watch(ctx context.Context, sink func(reference.ClusterEvent)) error {
	down := map[topology.ID]bool{}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		for _, n := range t.spec.Topology.Nodes {
			err := t.visit(ctx, n, answers)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if e, changed := event(n, down[n.ID], err); changed {
				e.At = time.Now()
				sink(e)
			}
			down[n.ID] = err != nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// event is what a look at a provider that was down, or was not, has to tell.
func event(n topology.Node, wasDown bool, err error) (e reference.ClusterEvent, changed bool) {
	e = reference.ClusterEvent{Name: EventUp, Node: n.ID, Source: n.ID}
	if err != nil {
		e.Name, e.Fields = EventDown, map[string]string{"error": err.Error()}
	}
	return e, wasDown != (err != nil)
}

// answers fails unless a provider has its directory.
func answers(s *session) error {
	_, err := s.lookup(suffix, goldap.ScopeBaseObject, "(objectClass=*)", "o")
	return err
}

// AwaitDown implements [reference.Nodes]. No provider counts others as failed:
// a node is down when it does not answer an administrator within 2 s, or refuses
// to.
func (t *Target) AwaitDown(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, err := t.node(id)
	if err != nil {
		return reference.Evidence{}, err
	}
	return await(ctx, "LDAP bind", func() (string, error) {
		err := t.visit(ctx, n, answers)
		if err == nil {
			return "", fmt.Errorf("%s answers", n.Name)
		}
		return err.Error(), nil
	})
}

// AwaitUp implements [reference.Nodes]: the node answers.
func (t *Target) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, err := t.node(id)
	if err != nil {
		return reference.Evidence{}, err
	}
	return await(ctx, "LDAP search", func() (string, error) {
		return n.Name + " answers", t.visit(ctx, n, answers)
	})
}

// AwaitRedundant implements [reference.Nodes]: every provider has taken a write
// since the call, and has everything that any of them had then, by contextCSN.
// That shows that each reads from all others.
// Where it is in vain, the error says which processes have ended as well.
func (t *Target) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	if _, err := t.node(id); err != nil {
		return reference.Evidence{}, err
	}
	evidence, err := t.awaitRedundant(ctx)
	if err == nil {
		return evidence, nil
	}
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	return evidence, errors.Join(err, t.Ended(looking))
}

// lookTimeout bounds the look at all providers' processes after a wait was in
// vain.
const lookTimeout = 5 * time.Second

func (t *Target) awaitRedundant(ctx context.Context) (reference.Evidence, error) {
	for _, n := range t.spec.Topology.Nodes {
		written := fmt.Sprint(time.Now().UnixNano())
		_, err := await(ctx, "LDAP modify", func() (string, error) {
			return "", t.visit(ctx, n, func(s *session) error {
				m := goldap.NewModifyRequest(heartbeatDN(n), nil)
				m.Replace("description", []string{written})
				return s.conn.Modify(m)
			})
		})
		if err != nil {
			return reference.Evidence{}, err
		}
	}
	return t.awaitCSN(ctx, t.spec.Topology.Nodes)
}

// AwaitReplicated waits until a provider has all that was acknowledged by any
// before the call. All must answer: what only a dead one has is not known.
func (t *Target) AwaitReplicated(ctx context.Context, id topology.ID) error {
	n, err := t.node(id)
	if err != nil {
		return err
	}
	_, err = t.awaitCSN(ctx, []topology.Node{n})
	return err
}

// awaitCSN waits until nodes have all that any provider has when all were asked
// first.
func (t *Target) awaitCSN(ctx context.Context, nodes []topology.Node) (reference.Evidence, error) {
	var want contextCSN
	return await(ctx, "contextCSN", func() (string, error) {
		if want == nil {
			have, err := t.contextCSNs(ctx, t.spec.Topology.Nodes)
			if err != nil {
				return "", err
			}
			want = latest(slices.Collect(maps.Values(have))...)
		}
		have, err := t.contextCSNs(ctx, nodes)
		if err != nil {
			return "", err
		}
		for _, name := range slices.Sorted(maps.Keys(have)) {
			if !have[name].covers(want) {
				return "", fmt.Errorf("%s has %s, but not yet all of %s", name, have[name], want)
			}
		}
		return strings.Join(slices.Sorted(maps.Keys(have)), " and ") + " have " + want.String(), nil
	})
}

// contextCSNs asks how far nodes are, by their names.
func (t *Target) contextCSNs(ctx context.Context, nodes []topology.Node) (map[string]contextCSN, error) {
	have := map[string]contextCSN{}
	for _, n := range nodes {
		err := t.visit(ctx, n, func(s *session) (err error) { have[n.Name], err = readContextCSN(s); return err })
		if err != nil {
			return nil, err
		}
	}
	return have, nil
}

// await asks until there is evidence, or ctx ends; then the error says what was
// still in the way.
func await(ctx context.Context, source string, ask func() (detail string, err error)) (reference.Evidence, error) {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		detail, err := ask()
		if ctx.Err() != nil {
			return reference.Evidence{}, fmt.Errorf("%w; the last look: %w", context.Cause(ctx), orNothing(err))
		}
		if err == nil {
			return reference.Evidence{At: time.Now(), Source: source, Detail: detail}, nil
		}
		select {
		case <-ctx.Done():
			return reference.Evidence{}, fmt.Errorf("%w; the last look: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func orNothing(err error) error {
	if err == nil {
		return errors.New("it came too late")
	}
	return err
}

// contextCSN is how far a provider is: the last change that it has of each
// provider's own, by that provider's serverID in hexadecimal (OpenLDAP
// Administrator's Guide, section "Syncrepl Details").
type contextCSN map[string]string

func readContextCSN(s *session) (contextCSN, error) {
	found, err := s.lookup(suffix, goldap.ScopeBaseObject, "(objectClass=*)", "contextCSN")
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d entries are called %s, want 1", len(found), suffix)
	}
	return parseContextCSN(found[0].values["contextCSN"])
}

func parseContextCSN(values []string) (contextCSN, error) {
	c := contextCSN{}
	for _, value := range values {
		parts := strings.Split(value, "#") // time, count, serverID, modification
		if len(parts) != 4 {
			return nil, fmt.Errorf("contextCSN %q has %d parts, want 4", value, len(parts))
		}
		c[parts[2]] = value
	}
	return c, nil
}

// covers says whether a provider that is so far has all that another has. The
// CSNs of one serverID sort as texts.
func (c contextCSN) covers(other contextCSN) bool {
	for id, csn := range other {
		if c[id] < csn {
			return false
		}
	}
	return true
}

// latest covers all of them, and no more.
func latest(all ...contextCSN) contextCSN {
	last := contextCSN{}
	for _, c := range all {
		for id, csn := range c {
			last[id] = max(last[id], csn)
		}
	}
	return last
}

func (c contextCSN) String() string {
	return strings.Join(slices.Sorted(maps.Values(c)), " ")
}
