package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCommandLine holds exit codes and messages of commands that need no engine.
func TestCommandLine(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("name: wrong\nhypothesis: Nothing.\nworkload:\n  duration: 90 parsecs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	programs := filepath.Join(t.TempDir(), "programs.yaml")
	if err := os.WriteFile(programs, []byte("name: programs\nhypothesis: Nothing.\nfaults:\n  - {kind: command, target: data1, at: 1s, inject: [/bin/cut, port], recover: [/bin/true]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Nothing listens there: what is refused without a word to it is refused first.
	staging := filepath.Join(t.TempDir(), "staging.yaml")
	if err := os.WriteFile(staging, []byte(`name: staging
hypothesis: Nothing.
cluster: external
external:
  name: mail-staging
  management: {id: 1, host: admin1, address: 127.0.0.1:9}
  data_nodes: [{id: 2, host: cyrus1}, {id: 3, host: cyrus2}]
  sql: [{id: 4, host: mta1, address: 127.0.0.1:9}, {id: 5, host: webmail1, address: 127.0.0.1:10}]
faults:
  - {kind: stop, target: data2, at: 1s}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "manifest.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "manifest.json"), []byte(`{"schema": "mailbench.manifest/v1"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	// Nothing listens there: the discard port of this machine.
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
	for _, row := range []struct {
		sentence string
		args     string
		code     int
		stdout   string
		stderr   string
	}{
		{"help is no mistake", "--help", 0, "Usage:", ""},
		{"no command shows the help", "", 0, "Usage:", ""},
		{"the version names itself", "version", 0, "mailbench unknown go", ""},
		{"an unknown command names the near one", "rum peak-hour", 64, "", "did you mean run?"},
		{"an unknown subcommand is refused", "cluster upp", 64, "", "did you mean up?"},
		{"an unknown flag is refused", "run --sped 3 peak-hour", 64, "", "unknown flag: --sped"},
		{"a scenario must be named", "run", 64, "", "usage: mailbench run SCENARIO"},
		{"an unknown scenario names the near one", "run peek-hour", 65, "", "did you mean peak-hour?"},
		{"a file that is not there", "run ./no-such.yaml", 65, "", "no such file"},
		{"a wrong unit names file, line and column", "run " + wrong, 65, "", "wrong.yaml:4:13: workload.duration"},
		{"an override that does not fit names itself", "plan peak-hour --set workload.speed=fast", 65, "", "--set workload.speed=fast"},
		{"a flag that does not fit names itself", "plan peak-hour --speed 0", 65, "", "--speed 0"},
		{"an override without a value is a usage error", "plan peak-hour --set workload.speed", 64, "", "must be path=value"},
		{"progress has four forms", "run smoke --progress loud", 64, "", "must be auto, plain, json or none"},
		{"progress of a fault table, too", "chaos table smoke --progress loud", 64, "", "must be auto, plain, json or none"},
		{"a run of a fault table has room for a fault", "chaos table smoke --longest 1m", 64, "", "--longest is 1m0s, must be 3m to 24h"},
		{"rows of two scenarios of one name could not be told apart", "chaos table smoke smoke", 64, "", "could not be told apart"},
		{"a run directory that holds a run", "run smoke --out " + taken, 64, "", "name another run directory"},
		{"a series where a run is", "run smoke --repeat 2 --out " + taken, 64, "", "name another run directory"},
		{"a series of none", "run smoke --repeat 0", 64, "", "must be 1 to 1000"},
		{"validate says that a scenario is right", "scenarios validate peak-hour", 0, "is right", ""},
		{"validate says what is wrong", "scenarios validate " + wrong, 65, "", "workload.duration"},
		{"a plan shows hashes and faults", "plan peak-hour", 0, "f2-kill-sql1", ""},
		{"a plan offers a 4M day's peak", "plan peak-hour", 0, "(101.9/s)", ""},
		{"a plan tells what is expected and why", "plan smoke", 0, "source   Dbdih", ""},
		{"the catalogue of faults", "chaos list", 0, "noisy-neighbour", ""},
		{"one fault with its settings", "chaos list loss", 0, "loss: share of the packets that are lost", ""},
		{"no such fault", "chaos list los", 64, "", "did you mean loss?"},
		{"a fault by hand that is none", "chaos inject kil data2", 64, "", "did you mean kill?"},
		{"a fault by hand without a unit", "chaos inject kill data2 --hold 10", 64, "", "--hold 10: hold: must be a time with its unit"},
		{"only the nodes' image may be another", "cluster image --programs --image mine", 64, "", "cannot be given with --programs"},
		{"programs of a scenario are a person's to allow", "run " + programs, 64, "", "f1-command-data1: inject [\"/bin/cut\", \"port\"]"},
		{"who has allowed them needs an engine yet", "run --allow-commands --out " + filepath.Join(t.TempDir(), "allowed") + " " + programs, 69, "", "no container engine answers"},
		{"a plan shows them", "plan " + programs, 0, "recover [\"/bin/true\"]", ""},
		{"an external cluster is planned without a word to it", "plan " + staging, 0, "data2, data node 3 on host cyrus2", ""},
		{"an external cluster must be named", "run " + staging, 64, "", "--i-know-this-cluster mail-staging"},
		{"by its own name", "run --i-know-this-cluster mail-production " + staging, 64, "", "the scenario's cluster is mail-staging"},
		{"and must be there", "run --i-know-this-cluster mail-staging " + staging, 69, "", "management server 127.0.0.1:9: dial"},
		{"to be looked at, too", "plan --check " + staging, 69, "", "external cluster mail-staging is left alone"},
		{"a cluster of the harness's own has no such name", "run --i-know-this-cluster smoke smoke", 64, "", "this one starts its own"},
		{"no image is external", "run --image mine --i-know-this-cluster mail-staging " + staging, 64, "", "--image names what containers run"},
		{"to heal an external cluster it must be named", "heal --scenario " + staging, 64, "", "--i-know-this-cluster mail-staging"},
		{"a name alone does not say where it is", "heal --i-know-this-cluster mail-staging", 64, "", "name its scenario with --scenario"},
		{"one of both kinds is healed", "heal --name manual --scenario " + staging, 64, "", "choose one"},
		{"a scenario of containers is not healed so", "heal --scenario peak-hour", 65, "", "its cluster is not external"},
		{"no engine", "run smoke --out " + filepath.Join(t.TempDir(), "run"), 69, "", "no container engine answers"},
		{"no engine for a cluster by hand", "cluster status", 69, "", "apt-get install docker.io"},
		{"no engine to check a plan with", "plan smoke --check", 69, "f1-kill-data2", "no container engine answers"},
		{"no engine for a fault by hand", "chaos inject kill data2", 69, "", "no container engine answers"},
		{"no engine to heal", "heal", 69, "", "no container engine answers"},
		{"a run directory that is none", "report " + t.TempDir(), 65, "", "manifest.json"},
		{"an address that cannot be listened at", "run smoke --listen 127.0.0.1:notaport --out " + filepath.Join(t.TempDir(), "run"), 64, "", "name another address"},
		{"what is left of a recording never passes", "report " + damaged, 4, "samples.mbs is missing", ""},
		{"the page of what is left", "report --format html " + damaged, 4, "<!doctype html>", ""},
		{"a gate without a base", "gate " + damaged, 64, "", "--baseline PATH, to compare, and --update NAME"},
		{"two sides in few segments", "gate ab smoke --pairs 0", 64, "", "--pairs is 0, must be 1 to 1000"},
		{"segments have whole seconds", "gate ab smoke --segment 2500ms", 64, "", "--segment is 2.5s, must be whole seconds from 5s to 1h"},
		{"what settles leaves something to compare", "gate ab smoke --settle 15s", 64, "", "--settle is 15s, must be 0s to half of --segment"},
		{"an effect has a statistic that there is", "gate ab smoke --effect p42=5%", 64, "", "there is no statistic p42; there are p50, p90"},
		{"an effect is a share", "gate ab smoke --effect p99=5", 64, "", "such as p99=20%"},
		{"a side's field that does not fit names itself", "gate ab smoke --candidate workload.speed=fast", 65, "", "--candidate workload.speed=fast"},
		{"two sides have no faults of the scenario", "gate ab smoke --out " + filepath.Join(t.TempDir(), "ab"), 64, "", "--set 'faults=[]'"},
		{"two sides are offered the same", "gate ab smoke --set faults=[] --candidate seed=2 --out " + filepath.Join(t.TempDir(), "ab"), 64, "", "not offered the same load"},
		{"two sides need an engine", "gate ab smoke --set faults=[] --out " + filepath.Join(t.TempDir(), "ab"), 69, "", "no container engine answers"},
		{"a self-test of no round", "gate self-test --rounds 0", 64, "", "--rounds is 0, must be 1 to 100"},
		{"a self-test needs an engine", "gate self-test --out " + filepath.Join(t.TempDir(), "self"), 69, "", "no container engine answers"},
		{"a capacity is of a scenario", "capacity", 64, "", "takes a SCENARIO, or --resume DIR"},
		{"or goes on with one search, not both", "capacity capacity --resume " + taken, 64, "", "takes a SCENARIO, or --resume DIR"},
		{"a search that never began", "capacity --resume " + taken, 64, "", "holds no search that began"},
		{"a search goes on as it was begun", "capacity --resume " + taken + " --resolution 2%", 64, "", "leave --resolution out"},
		{"rates differ by a share", "capacity capacity --resolution 5", 64, "", "--resolution is 5, must be 1% to 50%"},
		{"a step has its least length", "capacity capacity --min-step 1s", 64, "", "--min-step is 1s, must be 5s to --max-step"},
		{"a regime that there is none of", "capacity capacity --duration 5m --regime broken --out " + filepath.Join(t.TempDir(), "search"), 64, "", "must be healthy, short:NODE or rejoining:NODE"},
		{"a regime of a node that there is none of", "capacity capacity --duration 5m --regime short:data9 --out " + filepath.Join(t.TempDir(), "search"), 64, "", "no node is called"},
		{"a regime in which nobody is served", "capacity capacity --duration 5m --regime short:role:data --out " + filepath.Join(t.TempDir(), "search"), 64, "", "regime short:role:data"},
		{"a search needs an engine", "capacity capacity --duration 5m --regime healthy --out " + filepath.Join(t.TempDir(), "search"), 69, "", "no container engine answers"},
		{"a curve is over numbers of nodes", "capacity curve capacity", 64, "", "--sql-nodes or --data-nodes"},
		{"each node of a curve has an MTA", "capacity curve capacity --sql-nodes 1,24", 64, "", "--sql-nodes 24: must be a divisor of 12, the number of the scenario's MTAs"},
		{"each node of a curve has as many MTAs", "capacity curve capacity --sql-nodes 3,5", 64, "", "--sql-nodes 5: must be a divisor of 12, the number of the scenario's MTAs"},
		{"a system that there is none of", "capacity compare comparison --system oracle", 65, "", "system"},
		{"the key of a cache needs none", "cluster image --hash", 0, "", ""},
		{"a format that is none", "report --format pdf .", 64, "", "must be text, markdown"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			began := time.Now()
			code := execute(t.Context(), strings.Fields(row.args), &stdout, &stderr)
			if code != row.code {
				t.Errorf("exit code %d, want %d\nstderr: %s", code, row.code, &stderr)
			}
			if !strings.Contains(stdout.String(), row.stdout) {
				t.Errorf("stdout lacks %q:\n%s", row.stdout, &stdout)
			}
			if !strings.Contains(stderr.String(), row.stderr) {
				t.Errorf("stderr lacks %q:\n%s", row.stderr, &stderr)
			}
			// The promise to a user without an engine; far from the usual milliseconds.
			if took := time.Since(began); row.code == 69 && took > 5*time.Second {
				t.Errorf("it took %v to say that there is no engine, want 5 s at the most", took)
			}
		})
	}
}

func TestNoVariableTurnsHealElsewhere(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
	t.Setenv("MAILBENCH_SCENARIO", "peak-hour")
	t.Setenv("MAILBENCH_JOURNAL", "journal.jsonl")
	t.Setenv("MAILBENCH_I_KNOW_THIS_CLUSTER", "mail-staging")
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"heal"}, &stdout, &stderr); code != 69 || !strings.Contains(stderr.String(), "no container engine answers") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
}

func TestNoVariableAllowsPrograms(t *testing.T) {
	t.Setenv("MAILBENCH_ALLOW_COMMANDS", "true")
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
	file := filepath.Join(t.TempDir(), "programs.yaml")
	if err := os.WriteFile(file, []byte("name: programs\nhypothesis: Nothing.\nfaults:\n  - {kind: command, target: data1, at: 1s, inject: [/bin/true], recover: [/bin/true]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"run", file}, &stdout, &stderr); code != 64 || !strings.Contains(stderr.String(), "--allow-commands") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
}

func TestEnvironmentStandsInForFlags(t *testing.T) {
	for _, row := range []struct {
		sentence, value, args string
		code                  int
		stdout, stderr        string
	}{
		{"a variable sets a flag", "41", "plan smoke", 0, "seed        41", ""},
		{"a flag on the command line wins", "41", "plan smoke --seed 42", 0, "seed        42", ""},
		{"a variable that does not fit is named", "many", "plan smoke", 64, "", "MAILBENCH_SEED"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Setenv("MAILBENCH_SEED", row.value)
			var stdout, stderr bytes.Buffer
			if code := execute(t.Context(), strings.Fields(row.args), &stdout, &stderr); code != row.code {
				t.Errorf("exit code %d, want %d", code, row.code)
			}
			if !strings.Contains(stdout.String(), row.stdout) || !strings.Contains(stderr.String(), row.stderr) {
				t.Errorf("stdout:\n%s\nstderr:\n%s", &stdout, &stderr)
			}
		})
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestAReaderThatHasSeenEnough(t *testing.T) {
	var stderr bytes.Buffer
	if code := execute(t.Context(), []string{"plan", "smoke"}, closedPipe{}, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want silence", code, &stderr)
	}
}
