package chaos

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// KillInRestart kills a data node, starts it, and kills it again when it has
// come through a start phase: a machine that dies once more while it recovers.
//
// The survivors never counted on a node that is still starting, so that its
// second death costs them no arbitration and no data; the take-over begins anew.
// What it had copied is of no use, or only in part. A second death in the phases
// to 4 comes while it reads its own disk; after 4 it has begun to copy from its
// peer (phase 5), which must clean up. The other way round, a starting node
// shuts down when another data node dies (exit code 2308).
//
// Effect: the cluster counts the node as failed after the second kill.
const KillInRestart Kind = "kill-in-restart"

func describeKillInRestart() Description {
	return Description{
		Kind:    KillInRestart,
		Summary: "SIGKILL of a data node, a start, and SIGKILL again after a start phase",
		Source:  "NdbRestarts.cpp, RestartNFDuringNR; MySQL manual, \"Summary of NDB Cluster Start Phases\"",
		Roles:   onData(),
		Single:  true,
		Settings: []Setting{
			number("phase", "the start phase after which it is killed again", "", 1, 8, 4, func(s *Settings) *int { return &s.Phase }),
		},
		Needs:   []Capability{Killer, Observer},
		Nearest: Kill,
		Expect: func(t topology.Topology, p Planned) string {
			return fmt.Sprintf("noticed within milliseconds; %s; the second death, after start phase %d, costs the survivors nothing", expectLoss(t, p.Nodes), p.Settings.Phase)
		},
		loses: losesAll,
		build: func(s site) Fault { return &killInRestart{site: s} },
	}
}

type killInRestart struct {
	site
	started time.Time // for the evidence only
}

func (f *killInRestart) Inject(ctx context.Context) error {
	return f.onNodes(func(id topology.ID) error { return f.kill(ctx, id) })
}

func (f *killInRestart) Stages() []Stage {
	return []Stage{
		{
			What:  "counted as failed",
			Await: f.site.AwaitEffect,
			Act: func(ctx context.Context) error {
				f.started = time.Now()
				return f.onNodes(func(id topology.ID) error { return f.target.StartNode(ctx, id) })
			},
		},
		{
			What: fmt.Sprintf("start phase %d completed", f.p.Settings.Phase),
			Await: func(ctx context.Context) (reference.Evidence, error) {
				observer, err := offers[reference.Observer](f.site, Observer)
				if err != nil {
					return reference.Evidence{}, err
				}
				return observer.AwaitEvent(ctx, f.started, func(e reference.ClusterEvent) bool {
					return e.Name == "StartPhaseCompleted" && e.Node == f.p.Nodes[0].ID && e.Fields["phase"] == strconv.Itoa(f.p.Settings.Phase)
				})
			},
			Act: func(ctx context.Context) error {
				return f.onNodes(func(id topology.ID) error { return f.kill(ctx, id) })
			},
		},
	}
}
