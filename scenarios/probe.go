package scenarios

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// How the SQL nodes of a cluster without clients are asked: lightly, and for long
// enough before a fault to know what is usual.
const (
	probeEvery   = 250 * time.Millisecond
	probeTimeout = 2 * time.Second
	probeLead    = 5 * time.Second
)

// prober asks every SQL node, in place of clients where there are none.
type prober struct {
	nodes  []topology.Node
	ask    func(ctx context.Context, node topology.ID, number int) error
	record func(*workload.Sample)
	anchor time.Time
}

// askRoute connects anew, as Exim does, and reads a route that is not there, a
// different one each time: so every data node is asked.
func askRoute(target reference.Target) func(context.Context, topology.ID, int) error {
	return func(ctx context.Context, node topology.ID, number int) error {
		session, err := target.Connect(ctx, node, reference.ConnectOptions{ConnectTimeout: probeTimeout, ReadTimeout: probeTimeout})
		if err != nil {
			return &ndberr.ConnectError{Err: err}
		}
		defer session.Close() // it was only read from
		_, err = session.Route(ctx, fmt.Sprintf("probe-%d@probe.invalid", number))
		return err
	}
}

// run asks until ctx ends. A question that is not answered keeps no other one
// from being asked; a time-out bounds how many there are.
func (p prober) run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for number := 0; ; number++ {
		for _, n := range p.nodes {
			asking.Go(func() { p.probe(ctx, n.ID, number) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p prober) probe(ctx context.Context, node topology.ID, number int) {
	a := workload.Attempt{Node: node, Dispatched: time.Since(p.anchor)}
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := p.ask(bounded, node, number)
	if ctx.Err() != nil {
		return // it was the end of the command that cut it short
	}
	a.Ended, a.Result = time.Since(p.anchor), ndberr.Classify(err)
	p.record(&workload.Sample{Operation: reference.Route, Attempts: []workload.Attempt{a}})
}

// eventSinks hand an event to each.
type eventSinks []chaos.EventSink

func (s eventSinks) Event(e chaos.Event) {
	for _, one := range s {
		one.Event(e)
	}
}
