package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
)

// selfTested is the scenario that the gate proves itself on.
const selfTested = "smoke"

// selfTest is a difference between base and candidate that a gate must see, or must
// not see where there is none.
type selfTest struct {
	name     string
	want     results.Verdict
	by       Evidence
	latency  bool // takes as many pairs as latencies need
	override string
	schema   func() (name, text string, err error) // a changed file, nil for none
	sabotage func(context.Context, system) error
}

var selfTests = []selfTest{
	{name: "two equals", want: results.Pass, latency: true},
	{name: "2 ms of latency to sql1", want: results.Violated, by: ByLatency, latency: true, override: "links=[{node: sql1, delay: 2ms}]"},
	{name: "one more SELECT in greylist_check", want: results.Violated, by: ByCounters, schema: oneMoreSelect},
	{name: "one lost write", want: results.DataLoss, by: ByLedger, sabotage: loseWrite},
}

// SelfTested is one test of a self-test, recorded.
type SelfTested struct {
	Name string
	Dir  string
	Want results.Verdict
	By   Evidence // that must have told
}

// Evidence is what tells a gate that a candidate is worse.
type Evidence string

// The kinds of evidence.
const (
	NoEvidence Evidence = ""
	ByLatency  Evidence = "latencies"
	ByCounters Evidence = "counters"
	ByLedger   Evidence = "the ledger"
)

// SelfTest loads a base and a candidate in turn, on real clusters, for each test, so
// many rounds with another seed each. judge is told of each recording, below the
// conductor's directory. It ends at the first error.
func (c Conductor) SelfTest(ctx context.Context, rounds, pairs int, length, settle time.Duration, judge func(SelfTested) error) error {
	if err := checkFresh(c.Dir); err != nil {
		return err
	}
	dir := c.Dir
	for round := range rounds {
		for i, t := range selfTests {
			c.Dir = filepath.Join(dir, fmt.Sprintf("%03d", round*len(selfTests)+i+1))
			c.say("self-test: %s", t.name)
			if err := c.selfTest(ctx, t, round, pairs, length, settle, judge); err != nil {
				return fmt.Errorf("self-test, %s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (c Conductor) selfTest(ctx context.Context, t selfTest, round, pairs int, length, settle time.Duration, judge func(SelfTested) error) error {
	if !t.latency {
		pairs = 1
	}
	set := []string{}
	if t.override != "" {
		set = append(set, t.override)
	}
	if t.schema != nil {
		folder, err := changedSchema(t.schema)
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder) // each run directory has a copy
		set = append(set, "schema="+folder)
	}
	common := []string{
		"faults=[]", "seed=" + strconv.Itoa(round+1), "workload.duration=" + formatDuration(time.Duration(pairs)*length),
	}
	base, err := selfTestPlan(ctx, common)
	if err != nil {
		return err
	}
	defer base.Close() // only read
	candidate, err := selfTestPlan(ctx, append(common, set...))
	if err != nil {
		return err
	}
	defer candidate.Close() // only read
	if _, err := c.Interleave(ctx, Side{Plan: base}, Side{Plan: candidate, Set: set, sabotage: t.sabotage}, pairs, length, settle); err != nil {
		return err
	}
	return judge(SelfTested{Name: t.name, Dir: c.Dir, Want: t.want, By: t.by})
}

func selfTestPlan(ctx context.Context, set []string) (*Plan, error) {
	var overrides []Override
	for _, text := range set {
		o, err := ParseOverride(text)
		if err != nil {
			return nil, err
		}
		overrides = append(overrides, o)
	}
	return LoadPlan(ctx, selfTested, overrides...)
}

// oneMoreSelect is greylist_check with a statement that reads a row more.
func oneMoreSelect() (name, text string, err error) {
	const file, before = "greylist.sql", "SELECT MAX(IF(k = client_k, first_seen"
	own, err := schema.Text(file)
	if err != nil {
		return "", "", err
	}
	if strings.Count(own, before) != 1 {
		return "", "", fmt.Errorf("%s has not got the one statement that a SELECT is put before", file)
	}
	return file, strings.Replace(own, before, "SELECT COUNT(*) INTO first_s FROM greylist WHERE k = client_k; "+before, 1), nil
}

// changedSchema writes a changed file into a folder of its own.
func changedSchema(changed func() (name, text string, err error)) (folder string, err error) {
	name, text, err := changed()
	if err != nil {
		return "", err
	}
	if folder, err = os.MkdirTemp("", "mailbench-self-test-"); err != nil {
		return "", fmt.Errorf("make a folder for the changed schema: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
		return "", errors.Join(fmt.Errorf("write the changed schema: %w", err), os.RemoveAll(folder))
	}
	return folder, nil
}

// loseWrite deletes the triplet that was written last. Nobody has asked to.
func loseWrite(ctx context.Context, target system) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	admin, ok := target.(reference.Admin)
	if !ok {
		return errors.New("lose a write: the target has no administrator")
	}
	db, err := admin.OpenAdmin(target.Topology().ByRole(topology.SQL)[0].ID)
	if err != nil {
		return err
	}
	defer db.Close()
	// Triplets are keys that begin with 255, as greylist.Key has it; the others are
	// clients. Nothing of the population is as new as what the load wrote. A DELETE
	// that sorts would lock every row.
	var k []byte
	if err := db.QueryRowContext(ctx, "SELECT k FROM greylist WHERE ASCII(k) = 255 ORDER BY last_seen DESC, k LIMIT 1").Scan(&k); err != nil {
		return fmt.Errorf("lose a write: find one: %w", err)
	}
	done, err := db.ExecContext(ctx, "DELETE FROM greylist WHERE k = ?", k)
	if err != nil {
		return fmt.Errorf("lose a write: %w", err)
	}
	n, err := done.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("%d rows were deleted, must be 1", n)
	}
	if err != nil {
		return fmt.Errorf("lose a write: %w", err)
	}
	return nil
}
