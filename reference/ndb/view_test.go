package ndb

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

func TestPresident(t *testing.T) {
	data := func(id topology.ID, dynamic int, status mgm.Status) mgm.NodeStatus {
		return mgm.NodeStatus{ID: id, Type: mgm.DataNode, Status: status, DynamicID: dynamic}
	}
	for _, row := range []struct {
		sentence string
		nodes    []mgm.NodeStatus
		want     topology.ID
	}{
		{"nobody leads nobody", nil, 0},
		{"who joined first leads", []mgm.NodeStatus{data(2, 2, mgm.Started), data(3, 1, mgm.Started)}, 3},
		{"a node that starts does not lead", []mgm.NodeStatus{data(2, 1, mgm.Starting), data(3, 2, mgm.Started)}, 3},
		{"a node without contact does not lead", []mgm.NodeStatus{data(2, 0, mgm.Started), data(4, 9, mgm.Started)}, 4},
		{"who won the first election leads, and shows -1", []mgm.NodeStatus{data(2, 2, mgm.Started), data(3, -1, mgm.Started)}, 3},
		{"a SQL node does not lead", []mgm.NodeStatus{{ID: 6, Type: mgm.APINode, Status: mgm.Connected, DynamicID: 1}}, 0},
	} {
		status := map[topology.ID]mgm.NodeStatus{}
		for _, n := range row.nodes {
			status[n.ID] = n
		}
		if id, ok := president(status); id != row.want || ok != (row.want != 0) {
			t.Errorf("%s: node %d, %v", row.sentence, id, ok)
		}
	}
}

// TestEventsAreRemembered: an event that came before it was waited for counts if
// it is not older than asked for; one that comes later wakes who waits.
func TestEventsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		layout, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
		if err != nil {
			t.Fatal(err)
		}
		c := New(layout, nil, sqlnode.Account{}, schema.Options{})
		c.watch.enter(1)
		tell := func(name string) time.Time {
			now := time.Now()
			c.watch.remember(reference.ClusterEvent{At: now, Name: name, Node: 2})
			return now
		}
		named := func(name string) func(reference.ClusterEvent) bool {
			return func(e reference.ClusterEvent) bool { return e.Name == name }
		}
		await := func(since time.Time, name string) (reference.Evidence, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return c.AwaitEvent(ctx, since, named(name))
		}
		old := tell("checkpoint")
		time.Sleep(time.Second)
		second := tell("checkpoint")
		if e, err := await(old.Add(1), "checkpoint"); err != nil || !e.At.Equal(second) || e.Detail != "checkpoint of data1" {
			t.Errorf("the later of two: %+v, %v", e, err)
		}
		if e, err := await(old, "checkpoint"); err != nil || !e.At.Equal(old) {
			t.Errorf("the earlier of two: %+v, %v", e, err)
		}
		if e, err := await(second.Add(1), "checkpoint"); err == nil {
			t.Errorf("what came too early must not count: %+v", e)
		}
		go func() {
			time.Sleep(3 * time.Second)
			tell("other")
			tell("later")
		}()
		if e, err := await(time.Now(), "later"); err != nil || e.Detail != "later of data1" {
			t.Errorf("one that comes while it is waited for: %+v, %v", e, err)
		}
		time.Sleep(2 * rememberFor)
		tell("new")
		if events, next, _ := c.watch.recall(0); len(events) != 1 || next != 5 {
			t.Errorf("after two minutes %d events are remembered, the next is number %d; want 1 and 5", len(events), next)
		}
		for i := range 2 * rememberMax {
			tell(fmt.Sprint(i))
		}
		if events, _, _ := c.watch.recall(0); len(events) != rememberMax || events[0].Name != fmt.Sprint(rememberMax) {
			t.Errorf("%d events are remembered, want %d", len(events), rememberMax)
		}
	})
}

func TestEventsThatSayANodeWentOrCame(t *testing.T) {
	for _, row := range []struct {
		sentence     string
		role         topology.Role
		event        int
		up, relevant bool
	}{
		{"a data node that has finished its start is up", topology.Data, eventStartCompleted, true, true},
		{"a data node that connects is not up yet", topology.Data, eventConnected, true, false},
		{"a SQL node that connects is up", topology.SQL, eventConnected, true, true},
		{"a failure report means down", topology.Data, eventNodeFailure, false, true},
		{"a data node that the management server lost may yet live", topology.Data, eventDisconnected, false, false},
		{"a disconnected SQL node is down", topology.SQL, eventDisconnected, false, true},
		{"a checkpoint says nothing", topology.Data, 4, false, false},
	} {
		up, relevant := says(row.role, row.event)
		if relevant != row.relevant || (relevant && up != row.up) {
			t.Errorf("%s: says(%s, %d) = %v, %v", row.sentence, row.role, row.event, up, relevant)
		}
	}
}
