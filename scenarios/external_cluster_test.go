package scenarios_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
)

// somebodysCluster starts a cluster as its administrator has it: nothing of
// mailbench's is in it but a database mail, which stands for somebody's.
func somebodysCluster(t *testing.T, docker *client.Client) *cluster.Cluster {
	t.Helper()
	found, err := image.Find(t.Context(), docker, image.Options{Name: os.Getenv("MAILBENCH_IMAGE"), Announce: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := clustertest.Topology()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.New(docker, cluster.Spec{
		RunID: "external", Topology: layout, Image: found.ID, Account: cluster.DefaultAccount(),
		Announce: func(line string) { t.Log(line) },
	})
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// released are the statements of docs/external.md by which an administrator
// releases a cluster; the last one is what a test may leave out.
var released = []string{
	"CREATE USER 'loadtest'@'%' IDENTIFIED BY 'not a secret'",
	"GRANT NDB_STORED_USER ON *.* TO 'loadtest'@'%'",
	"GRANT ALL ON mailbench_mail.* TO 'loadtest'@'%'",
	"GRANT SELECT ON ndbinfo.* TO 'loadtest'@'%'",
	"CREATE DATABASE mailbench_guard",
	"CREATE TABLE mailbench_guard.clusters (name VARCHAR(63) NOT NULL PRIMARY KEY) ENGINE=NDBCLUSTER",
	"GRANT SELECT ON mailbench_guard.* TO 'loadtest'@'%'",
	"INSERT INTO mailbench_guard.clusters (name) VALUES ('mail-staging')",
}

// TestExternalCluster treats a cluster of the test's as one that somebody else
// runs: nothing happens to it before its guard agrees, a run breaks it through the
// management server and by programs, and a harness that is killed is healed after.
func TestExternalCluster(t *testing.T) {
	docker := clustertest.Alone(t)
	c := somebodysCluster(t, docker)
	folder := t.TempDir()
	admin := map[string]*sql.DB{}
	file := `
name: staging
hypothesis: A cluster that somebody else runs loses a data node in order.
cluster: external
external:
  name: mail-staging
  database: mailbench_mail
  user: loadtest
  password_file: ./secret
`
	for _, n := range c.Topology().Nodes {
		switch n.Role {
		case topology.Management:
			file += fmt.Sprintf("  management: {id: %d, host: %s, address: %s}\n  data_nodes:\n", n.ID, n.Host, c.Address(n))
		case topology.Data:
			file += fmt.Sprintf("  - {id: %d, host: %s}\n", n.ID, n.Host)
			if n.Name == "data2" {
				file += "  sql:\n"
			}
		case topology.SQL:
			file += fmt.Sprintf("  - {id: %d, host: %s, address: %s}\n", n.ID, n.Host, c.Address(n))
			admin[n.Name] = sqlnode.Open(c.Address(n), cluster.DefaultAccount())
			defer admin[n.Name].Close()
		}
	}
	flag := filepath.Join(folder, "flag")
	file += fmt.Sprintf(`
population: {accounts: 1000}
workload: {duration: 75s, messages_per_day: 300000} # few: the test is not about speed
faults:
  - {kind: stop, target: data2, at: 3s, hold: 3s}
  - kind: command
    target: sql2
    at: 1s
    hold: 2s
    after: redundant
    inject: [touch, %[1]s]
    recover: [rm, -f, %[1]s]
    effect: [test, -e, %[1]s]
    redundant: [test, "!", -e, %[1]s]
`, flag)
	path := filepath.Join(folder, "staging.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, file)
	write(filepath.Join(folder, "secret"), "not a secret\n")
	load := func(overrides ...scenarios.Override) *scenarios.Plan {
		t.Helper()
		text, err := scenarios.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := text.Scenario(overrides...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := scenarios.NewPlan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	do := func(statement string) {
		t.Helper()
		if _, err := admin["sql1"].ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	// databases are those that a SQL node shows, with the number of their routines.
	databases := func(node string) string {
		t.Helper()
		rows, err := admin[node].QueryContext(t.Context(), "SELECT schema_name, (SELECT COUNT(*) FROM information_schema.routines r WHERE r.routine_schema = s.schema_name) FROM information_schema.schemata s ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			var name string
			var routines int
			if err := rows.Scan(&name, &routines); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %d", name, routines))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, ", ")
	}
	run := func(name, confirmed string, p *scenarios.Plan) (string, *results.Run, error) {
		dir := filepath.Join(folder, name)
		var progress bytes.Buffer
		conductor := scenarios.Conductor{Dir: dir, Version: "test", Progress: &progress, Confirmed: confirmed, AllowCommands: true}
		run, err := conductor.Run(t.Context(), p)
		return progress.String(), run, err
	}

	refuse := func(what, confirmed, want string, overrides ...scenarios.Override) {
		t.Helper()
		before := databases("sql1")
		progress, _, err := run("refused", confirmed, load(overrides...))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %q", what, err, want)
		}
		if after := databases("sql1"); after != before {
			t.Errorf("%s: the cluster holds %s, it held %s", what, after, before)
		}
		if _, err := os.Stat(filepath.Join(folder, "refused")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a run directory is left (%v)\n%s", what, err, progress)
		}
	}
	refuse("nobody has named the cluster", "", "--i-know-this-cluster mail-staging")
	refuse("another one was named", "mail-production", `names "mail-production", but the scenario's cluster is mail-staging`)
	refuse("no account lets us in", "mail-staging", "sql1 does not answer: Error 1045")
	for _, statement := range released[:4] {
		do(statement)
	}
	refuse("there is no guard table", "mail-staging", "sql1 shows loadtest no guard table mailbench_guard.clusters")
	do(released[4])
	do("CREATE TABLE mailbench_guard.clusters (name VARCHAR(63) NOT NULL PRIMARY KEY) ENGINE=InnoDB")
	do("INSERT INTO mailbench_guard.clusters (name) VALUES ('mail-staging')")
	do(released[6])
	refuse("one SQL node's guard is not the cluster's", "mail-staging", "has the engine InnoDB: it must be NDB")
	do("DROP TABLE mailbench_guard.clusters")
	do(released[5])
	do("INSERT INTO mailbench_guard.clusters (name) VALUES ('Mail-Staging')")
	refuse("the guard does not hold that very name", "mail-staging", "does not hold mail-staging")
	do("DELETE FROM mailbench_guard.clusters")
	do(released[7])
	swap := []scenarios.Override{{Path: "external.data_nodes[0].id", Value: "200"}}
	if _, err := (&scenarios.File{Name: path, Data: []byte(file)}).Scenario(swap...); err == nil {
		t.Error("no data node has id 200")
	}
	refuse("its nodes are others", "mail-staging", "knows the data nodes 2, 3, the scenario's external.data_nodes are 2, 9", scenarios.Override{Path: "external.data_nodes[1].id", Value: "9"})
	refuse("a SQL node is another one", "mail-staging", "sql2 is node 5, the scenario's external.sql has id 7", scenarios.Override{Path: "external.sql[1].id", Value: "7"})
	refuse("the account may not make that database", "mail-staging", "Access denied for user 'loadtest'@'%' to database 'other'", scenarios.Override{Path: "external.database", Value: "other"})
	do("GRANT ALL ON mail.* TO 'loadtest'@'%'")
	refuse("the database is somebody's", "mail-staging", "a database mail that is not of mailbench's making", scenarios.Override{Path: "external.database", Value: "mail"})
	do("REVOKE ALL ON mail.* FROM 'loadtest'@'%'")
	refuse("a fault that nobody can make there", "mail-staging", "kill needs a target that can kill a node's process (Killer), and this one cannot; the nearest fault is crash", scenarios.Override{Path: "faults", Value: "[{kind: kill, target: data2, at: 1s}]"})
	refuse("a fault of a SQL node", "mail-staging", "no other fault is near but command", scenarios.Override{Path: "faults", Value: "[{kind: stop, target: sql2, at: 1s}]"})
	refuse("a fault made through SQL", "mail-staging", "never through SQL", scenarios.Override{Path: "faults", Value: "[{kind: memory-full, target: sql2, at: 1s}]"})
	if t.Failed() {
		t.FailNow()
	}

	before1, before2 := databases("sql1"), databases("sql2")
	var checked bytes.Buffer
	if err := scenarios.CheckExternal(t.Context(), load(), &checked); err != nil {
		t.Fatal(err)
	}
	progress, recording, err := run("run", "mail-staging", load())
	t.Log(progress)
	if err != nil {
		t.Fatal(err)
	}
	untouched := func(what string) {
		t.Helper()
		for node, before := range map[string]string{"sql1": before1, "sql2": before2} {
			if after := databases(node); after != before {
				t.Errorf("%s: %s holds %s, it held %s", what, node, after, before)
			}
		}
		if _, err := os.Stat(flag); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the program's fault is left", what)
		}
		for _, n := range c.Topology().Nodes {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, err := c.AwaitUp(ctx, n.ID); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			cancel()
		}
	}
	untouched("after a run")
	if len(recording.Faults) != 2 {
		t.Fatalf("%d faults, want 2", len(recording.Faults))
	}
	for _, f := range recording.Faults {
		if f.InjectedAtUS == nil || f.EffectiveAtUS == nil || f.RecoveredAtUS == nil || f.RedundantAtUS == nil {
			t.Errorf("fault %s lacks a step: %+v", f.ID, f)
		}
	}
	recorded, err := os.ReadFile(filepath.Join(folder, "run", "scenario.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(recorded); strings.Contains(text, "secret") || !strings.Contains(text, "password_file: none") || !strings.Contains(text, "cluster: external") {
		t.Errorf("the recording holds the scenario\n%s", text)
	}

	// A harness that is killed while a node is down.
	binary := filepath.Join(folder, "mailbench")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/mailbench").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	harness := exec.Command(binary, "run", path, "--allow-commands", "--i-know-this-cluster", "mail-staging", "--out", filepath.Join(folder, "killed"), "--set", "faults[0].hold=30s")
	killAt(t, harness, "f1-stop-data2 effective")
	if _, _, err := run("second", "mail-staging", load()); err == nil || !strings.Contains(err.Error(), "it is not whole") {
		t.Errorf("a run on what another one has left: %v", err)
	}
	heal := func(args ...string) (string, int) {
		t.Helper()
		heal := exec.Command(binary, append([]string{"heal", "--scenario", filepath.Join(folder, "killed", "scenario.yaml")}, args...)...)
		heal.Env = append(os.Environ(), "MAILBENCH_EXTERNAL_PASSWORD=not a secret")
		out, err := heal.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), heal.ProcessState.ExitCode()
	}
	if out, code := heal(); code != 64 {
		t.Errorf("heal without the name exits with %d: %s", code, out)
	}
	out, code := heal("--i-know-this-cluster", "mail-staging")
	if code != 0 || !strings.Contains(out, "f1-stop-data2 on data2: undone; takes part again") || !strings.Contains(out, "dropped database mailbench_mail") {
		t.Errorf("heal exits with %d: %s", code, out)
	}
	untouched("after heal")
	if out, code := heal("--i-know-this-cluster", "mail-staging"); code != 0 || !strings.Contains(out, "nothing to heal") {
		t.Errorf("heal exits with %d the second time: %s", code, out)
	}
}
