package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"gotest.tools/v3/golden"
)

var (
	matrixOn   = flag.Bool("heal.matrix", false, "go through all of the heal matrix that has no row of the seed yet")
	matrixName = flag.String("heal.name", "heal-matrix", "the cluster of the heal matrix")
	matrixOnly = flag.String("heal.only", "", "the cases of the heal matrix that this matches: KIND TARGET STEP")
	matrixSeed = flag.Uint64("heal.seed", 1, "what draws when the harness is killed")
)

const (
	healRows   = "../../results/faults/heal.jsonl"
	healSchema = "mailbench.heal/v1"
)

// What became of a case.
const (
	restored    = "restored"
	needsPerson = "needs a person"
	notRestored = "not restored" // and did not say so
	cannotBe    = "not to be made here"
	tooQuick    = "over before the kill" // ten times: what was to be killed takes milliseconds
)

// healRow is a line of results/faults/heal.jsonl: one case, once.
type healRow struct {
	Schema   string     `json:"schema"`
	Kind     chaos.Kind `json:"kind"`
	Target   string     `json:"target"`
	Set      []string   `json:"set,omitempty"`
	By       string     `json:"by"`   // the command that was killed, or whose heal was
	Step     string     `json:"step"` // of the journal, before the kill; "heal" for a heal that was killed
	KilledMS int64      `json:"killed_after_ms"`
	Verdict  string     `json:"verdict"`
	Said     []string   `json:"heal,omitempty"`
	HealMS   int64      `json:"heal_ms,omitempty"`
	Again    []string   `json:"second_heal,omitempty"`
	Why      string     `json:"why,omitempty"` // it is not restored, or cannot be made
	Seed     uint64     `json:"seed"`
	Version  string     `json:"mailbench"`
	Database string     `json:"database"`
	At       time.Time  `json:"at"`
}

// matrixCase is one case of the matrix.
type matrixCase struct {
	healCase
	step string
}

func (c matrixCase) by() string {
	if c.run {
		return "run --keep"
	}
	return "chaos inject"
}

func (c matrixCase) is(r healRow) bool {
	return r.Kind == c.kind && r.Target == c.target && slices.Equal(r.Set, c.set) && r.By == c.by() &&
		(r.Step == c.step || r.Verdict == cannotBe)
}

func (c matrixCase) String() string {
	if c.run {
		return fmt.Sprintf("%s %s %s in a run", c.kind, c.target, c.step)
	}
	return fmt.Sprintf("%s %s %s", c.kind, c.target, c.step)
}

// matrix lists all cases: those on unbounded disks first, and what every fault
// has before what an interrupt or another heal adds.
func matrix(t *testing.T) []matrixCase {
	t.Helper()
	var all []matrixCase
	for _, c := range healCases() {
		for _, step := range c.steps(t) {
			all = append(all, matrixCase{c, step})
		}
	}
	rank := func(c matrixCase) (n int) {
		if c.disk {
			n++
		}
		switch c.step {
		case chaos.JournalUndo:
			return n + 10
		case stepHealing:
			return n + 20
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b matrixCase) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

// readHealRows reads the committed rows.
func readHealRows(t *testing.T) []healRow {
	t.Helper()
	text, err := os.ReadFile(healRows)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var rows []healRow
	number := 0
	for line := range bytes.Lines(text) {
		number++
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		var r healRow
		if err := decoder.Decode(&r); err != nil || r.Schema != healSchema {
			t.Fatalf("%s:%d: no row of %s: %v", healRows, number, healSchema, err)
		}
		rows = append(rows, r)
	}
	return rows
}

// due says whether a case has no row of a seed yet, or none but failures.
func due(c matrixCase, rows []healRow, seed uint64) bool {
	return !slices.ContainsFunc(rows, func(r healRow) bool { return c.is(r) && r.Seed == seed && r.Verdict != notRestored })
}

// TestHealMatrix goes through the cases that have no row of the seed, on a cluster of its own
// that others may run beside, and writes a row for each. A case that failed keeps
// its row, and is tried again the next time.
func TestHealMatrix(t *testing.T) {
	if !*matrixOn {
		t.Skip("takes an hour or two: make heal-matrix")
	}
	only, err := regexp.Compile(*matrixOnly)
	if err != nil {
		t.Fatal(err)
	}
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	h := newHealer(t, docker, *matrixName)
	version, err := codeVersion()
	if err != nil {
		t.Fatal(err)
	}
	var database string
	running, bounded := false, false
	for _, c := range matrix(t) {
		// Another process may be at the rest of the matrix.
		if !only.MatchString(c.String()) || !due(c, readHealRows(t), *matrixSeed) {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			if !c.run && (!running || bounded != c.disk) {
				if err := h.up(t.Context(), c.disk); err != nil {
					t.Fatal(err)
				}
				running, bounded = true, c.disk
			}
			if running {
				if target, err := cluster.Attach(t.Context(), docker, h.name); err != nil {
					t.Fatal(err)
				} else if database, err = target.Version(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			hash := fnv.New64a()
			fmt.Fprint(hash, c.kind, " ", c.target, " ", c.step)
			after := c.after(rand.New(rand.NewPCG(*matrixSeed, hash.Sum64())), c.step)
			r := healRow{
				Schema: healSchema, Kind: c.kind, Target: c.target, Set: c.set, By: c.by(), Step: c.step,
				Seed: *matrixSeed, Version: version, Database: database, At: time.Now().UTC().Truncate(time.Second),
			}
			o := h.kill(t.Context(), c.healCase, c.step, after)
			r.KilledMS, r.HealMS, r.Said, r.Again = o.killed.Milliseconds(), o.took.Milliseconds(), lines(o.said), lines(o.again)
			switch {
			case o.refused != "":
				r.Verdict, r.Why = cannotBe, o.refused
			case o.err == nil:
				r.Verdict = restored
			case errors.Is(o.err, errDone):
				r.Verdict = tooQuick
			case strings.Contains(o.said, chaos.ErrNeedsPerson.Error()):
				r.Verdict = needsPerson
			default:
				r.Verdict, r.Why = notRestored, o.err.Error()
				running = false // the next case has a cluster that is known to be whole
				t.Error(o.err)
			}
			t.Logf("%s, killed %v after the step, healed in %v", r.Verdict, o.killed.Round(time.Millisecond), o.took.Round(time.Millisecond))
			if err := appendHealRow(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// codeVersion is that of the code, whatever rows have come to it.
func codeVersion() (string, error) {
	version, err := exec.Command("git", "describe", "--always").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the version: %w", err)
	}
	if exec.Command("git", "diff", "--quiet", "HEAD", "--", ":/*.go", ":/*.sql", ":/*.yaml", ":/go.*").Run() != nil {
		version = append(bytes.TrimSpace(version), "-dirty"...)
	}
	return string(bytes.TrimSpace(version)), nil
}

func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(line string) bool { return line == "" })
}

// appendHealRow writes a row in one piece, as two processes may write.
func appendHealRow(r healRow) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(healRows), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(healRows, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

const (
	healPage  = "../../docs/faults.md"
	healBegin = "<!-- generated from results/faults/heal.jsonl: go test ./cmd/mailbench -run HealMatrix -update -->\n"
	healEnd   = "<!-- end of the generated part -->\n"
)

// TestFaultsPageHoldsTheHealMatrix holds the summary of the rows true.
func TestFaultsPageHoldsTheHealMatrix(t *testing.T) {
	text, err := os.ReadFile(healPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), healBegin)
	_, after, ends := strings.Cut(rest, healEnd)
	if !begins || !ends {
		t.Fatalf("%s has no summary of the heal matrix", healPage)
	}
	want := before + healBegin + healSummary(matrix(t), readHealRows(t)) + healEnd + after
	switch {
	case string(text) == want:
	case golden.FlagUpdate():
		if err := os.WriteFile(healPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is out of date; run go test ./cmd/mailbench -run HealMatrix -update", healPage)
	}
}

// healSummary counts the rows by kind.
func healSummary(cases []matrixCase, rows []healRow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| kind | on | cases | without a row | kills | %s | %s | %s | heal took, median | at most |\n|---|---|---|---|---|---|---|---|---|---|\n",
		restored, needsPerson, notRestored)
	var all, missing, kills, failures int
	for _, d := range chaos.Catalogue() {
		var on []string
		var took []int64
		var n, left, failed, good, person int
		why := ""
		for _, c := range cases {
			if c.kind != d.Kind {
				continue
			}
			n++
			where := "`" + c.target + "`"
			if c.run {
				where += " in a run"
			}
			if !slices.Contains(on, where) {
				on = append(on, where)
			}
			if !slices.ContainsFunc(rows, c.is) {
				left++
			}
			for _, r := range rows {
				switch {
				case !c.is(r):
				case r.Verdict == notRestored:
					failed++
				case r.Verdict == needsPerson:
					person++
				case r.Verdict == cannotBe:
					why = cannotBe
				case r.Verdict == tooQuick:
				default:
					good++
					took = append(took, r.HealMS)
				}
			}
		}
		all, missing, kills, failures = all+n, missing+left, kills+good+person+failed, failures+failed
		if why != "" {
			fmt.Fprintf(&b, "| `%s` | %s | %d | %s | | | | | | |\n", d.Kind, strings.Join(on, ", "), n, why)
			continue
		}
		median, most := "", ""
		if len(took) > 0 {
			slices.Sort(took)
			median, most = seconds(took[(len(took)-1)/2]), seconds(took[len(took)-1])
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d | %d | %d | %d | %d | %d | %s | %s |\n",
			d.Kind, strings.Join(on, ", "), n, left, good+person+failed, good, person, failed, median, most)
	}
	fmt.Fprintf(&b, "\n%d kills in %d cases; %d cases have no row. %d rows are of failures, and say why", kills, all, missing, failures)
	if open := unmended(cases, rows); len(open) > 0 {
		fmt.Fprintf(&b, "; still failing: %s.\n", strings.Join(open, ", "))
	} else {
		b.WriteString("; the last row of every case is of none.\n")
	}
	for _, r := range rows {
		switch r.Verdict {
		case tooQuick:
			fmt.Fprintf(&b, "\n`%s` on `%s`, step `%s`: %s.\n", r.Kind, r.Target, r.Step, tooQuick)
		case cannotBe:
			fmt.Fprintf(&b, "\n`%s`, %s: %s\n", r.Kind, r.Verdict, strings.Join(lines(r.Why), " "))
		}
	}
	b.WriteByte('\n')
	return b.String()
}

// unmended are the cases whose last row is a failure.
func unmended(cases []matrixCase, rows []healRow) (open []string) {
	for _, c := range cases {
		last := ""
		for _, r := range rows {
			if c.is(r) {
				last = r.Verdict
			}
		}
		if last == notRestored {
			open = append(open, c.String())
		}
	}
	return open
}

func seconds(ms int64) string { return fmt.Sprintf("%d.%d s", ms/1000, ms%1000/100) }
