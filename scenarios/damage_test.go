package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
)

// damaged is a load whose peers come back within it: a minute is three quarters of an hour.
const damaged = `
name: damaged
hypothesis: Whatever damages the database, the ledger finds it.
population: {accounts: 1000}
workload:
  messages_per_day: 60000
  account_jobs_per_day: 10000
  duration: 80s
  speed: 45
clients:
  - {name: mta1, kind: mta, nodes: [sql1, sql2]}
  - {name: webmail1, kind: webmail, nodes: [sql2, sql1]}
bounds: {lag_p999: 30s} # it is about what is found, not about when
`

// damage is done in the middle of the load, each to a part of the rows.
var damage = []string{
	"UPDATE route SET backend = IF(backend = 'cyrus1', 'cyrus2', 'cyrus1') WHERE kind = 'mailbox' AND CRC32(address) % 4 = 0",
	"UPDATE userprefs SET prefval = 'somebody else' WHERE prefkey = 'full_name'",
	"DELETE FROM userprefs WHERE prefkey NOT IN ('full_name', 'language', 'chosen_theme', 'show_num', 'left_refresh', 'show_html_default')",
	// Half of the clients have a credit less, the others are whitelisted.
	"UPDATE greylist SET credits = IF(ASCII(RIGHT(k, 1)) % 2, credits + 7, credits - 1) WHERE credits > 0",
	// Some triplets that wait are forgotten.
	"DELETE FROM greylist WHERE credits = 0 AND last_seen - first_seen < 300 AND ASCII(RIGHT(k, 1)) < 64",
	// Some that have passed are as they were at first.
	"UPDATE greylist SET last_seen = first_seen WHERE credits = 0 AND last_seen - first_seen >= 300 AND ASCII(RIGHT(k, 1)) > 127",
}

// TestPlantedDamageIsFound damages the tables of a real cluster under load, with
// nothing but SQL, and sees every kind of damage in the judged run.
func TestPlantedDamageIsFound(t *testing.T) {
	docker := clustertest.Alone(t)
	dir := filepath.Join(t.TempDir(), "run")
	var once sync.Once
	planted := make(chan error, 1)
	progress := &until{text: "run: damaged for", cancel: func() {
		once.Do(func() {
			go func() {
				time.Sleep(20 * time.Second) // some of the load is over, most is to come
				planted <- plant(t.Context(), docker)
			}()
		})
	}}
	conductor := scenarios.Conductor{Dir: dir, Version: "test", Progress: progress, Image: os.Getenv("MAILBENCH_IMAGE")}
	run, err := conductor.Run(t.Context(), plan(t, damaged))
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress.all)
	}
	nothingLeft(t, docker)
	select {
	case err := <-planted:
		if err != nil {
			t.Fatalf("%v\n%s", err, &progress.all)
		}
	default:
		t.Fatalf("nothing was damaged\n%s", &progress.all)
	}
	if run.Verdict != results.DataLoss {
		t.Errorf("the verdict is %s, want data_loss (%v)", run.Verdict, run.Reasons)
	}
	l := run.Ledger
	if l == nil {
		t.Fatal("no ledger")
	}
	for what, n := range map[string]int64{
		"triplets lost": l.Kinds[results.Triplet].Lost, "triplets stale": l.Kinds[results.Triplet].Stale, "credits broken": l.Kinds[results.Credit].Lost + l.Kinds[results.Credit].Stale,
		"preferences lost": l.Kinds[results.Preference].Lost, "triplets verified": l.Kinds[results.Triplet].Verified, "accounts verified": l.Kinds[results.AccountKey].Verified,
		"wrong routes": l.Violations.WrongRoute, "deferred again": l.Violations.DeferredAgain, "let through": l.Violations.LetThrough, "wrong preferences": l.Violations.WrongPreference,
	} {
		if n == 0 {
			t.Errorf("no %s", what)
		}
	}
	if n := len(l.ReadBacks); n != 2 {
		t.Errorf("%d readings, want one through each SQL node: %+v", n, l.ReadBacks)
	}
	if l.Unknown > 0 || l.Allowed > 0 || l.Violations.Allowed > 0 {
		t.Errorf("nothing excuses this: %+v", l)
	}
	t.Logf("%+v", l)
}

// plant damages the cluster of the only run that there is.
func plant(ctx context.Context, docker *client.Client) error {
	runs, err := cluster.List(ctx, docker)
	if err != nil {
		return err
	}
	for _, info := range runs {
		if info.RunID == clustertest.RunID {
			continue
		}
		c, err := cluster.Attach(ctx, docker, info.RunID)
		if err != nil {
			return err
		}
		db, err := c.OpenAdmin(c.Topology().ByRole(topology.SQL)[0].ID)
		if err != nil {
			return err
		}
		defer db.Close()
		for _, statement := range damage {
			for try := 0; ; try++ { // rows that ops hold locks on
				if _, err = db.ExecContext(ctx, statement); err == nil {
					break
				}
				if try == 20 {
					return fmt.Errorf("%s: %w", statement, err)
				}
			}
		}
		return nil
	}
	return errors.New("no run is there")
}
