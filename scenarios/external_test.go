package scenarios

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/external"
	"github.com/mailbench/mailbench/reference/topology"
)

// staging is an external cluster with only what is required.
const staging = least + `cluster: external
external:
  name: mail-staging
  management: {id: 1, host: admin1, address: mgm.example.org:1186}
  data_nodes: [{id: 2, host: cyrus1}, {id: 3, host: cyrus2}]
  sql: [{id: 10, host: mta1, address: 10.0.0.1:3306}]
`

func TestAnExternalClusterIsLaidOutAsItIsDescribed(t *testing.T) {
	const text = least + `cluster: external
external:
  name: mail-staging
  management: {id: 49, host: admin1, address: "[fd00::1]:1186"}
  replicas: 2
  data_nodes:
  - {id: 1, host: cyrus1, group: 1}
  - {id: 2, host: cyrus2, group: 0}
  - {id: 3, host: cyrus3, group: 1}
  - {id: 4, host: cyrus4, group: 0}
  sql:
  - {id: 53, host: mta2, address: mta2.example.org:3307}
  - {id: 51, host: webmail1, address: 10.0.0.1:3306}
  user: load
  password_file: ./secret
  database: load_test
  tls: none
faults:
- kind: command
  target: preferred:webmail1
  at: 1s
  inject: [/sbin/port, "a  b", "7", ""]
  recover: [port, up]
  limit: 5s
`
	s, err := Parse("folder/staging.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := s.Topology()
	if err != nil {
		t.Fatal(err)
	}
	want := []topology.Node{
		{ID: 49, Name: "mgm1", Role: topology.Management, Host: "admin1", Group: -1},
		{ID: 1, Name: "data1", Role: topology.Data, Host: "cyrus1", Group: 1},
		{ID: 2, Name: "data2", Role: topology.Data, Host: "cyrus2", Group: 0},
		{ID: 3, Name: "data3", Role: topology.Data, Host: "cyrus3", Group: 1},
		{ID: 4, Name: "data4", Role: topology.Data, Host: "cyrus4", Group: 0},
		{ID: 53, Name: "sql1", Role: topology.SQL, Host: "mta2", Group: -1},
		{ID: 51, Name: "sql2", Role: topology.SQL, Host: "webmail1", Group: -1},
	}
	if !reflect.DeepEqual(layout.Nodes, want) || layout.Replicas != 2 {
		t.Errorf("the topology is %+v", layout)
	}
	if s.External.passwordPath != filepath.Join("folder", "secret") {
		t.Errorf("the password is read from %s", s.External.passwordPath)
	}
	if c := s.Clients[1]; c.Name != "webmail1" || c.Kind != Webmail || !reflect.DeepEqual(c.Nodes, []string{"sql2", "sql1"}) {
		t.Errorf("the client on the second SQL node's host is %+v", c)
	}
	wantSettings := chaos.Settings{Inject: []string{"/sbin/port", "a  b", "7", ""}, Recover: []string{"port", "up"}, Limit: 5 * time.Second}
	if f := s.Faults[0]; !reflect.DeepEqual(f.Settings, wantSettings) {
		t.Errorf("the fault's programs are %+v", f.Settings)
	}
	again, err := Parse("folder/staging.yaml", s.YAML())
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("written out it reads as %+v, %v\n%s", again, err, s.YAML())
	}

	// A recording is for other machines, and holds no password or way to one.
	recorded := string(s.recorded().Scenario)
	if !strings.Contains(recorded, "password_file: none") || strings.Contains(recorded, "secret") || strings.Contains(recorded, "topology:") {
		t.Errorf("the recording holds\n%s", recorded)
	}
	// Heal needs nothing of it but the cluster.
	broken := strings.Replace(string(s.YAML()), "faults:\n", "no such field: 1\nfaults:\n", 1)
	if healed, err := (&File{Name: "folder/staging.yaml", Data: []byte(broken)}).external(); err != nil || !reflect.DeepEqual(healed.External, s.External) {
		t.Errorf("for heal it reads as %+v, %v", healed, err)
	}
	if _, err := (&File{Name: "t.yaml", Data: []byte(least)}).external(); err == nil || !strings.Contains(err.Error(), "its cluster is not external") {
		t.Errorf("a cluster in containers: %v", err)
	}
}

func TestPasswords(t *testing.T) {
	folder := t.TempDir()
	for _, row := range []struct {
		sentence, variable, file, want, wrong string
	}{
		{"a file holds it, with the newline that editors add", "", "hunter2 \n", "hunter2 ", ""},
		{"the variable goes before", "swordfish", "hunter2\n", "swordfish", ""},
		{"a file that is empty is a mistake", "", "\n", "", "must hold the password in one line"},
		{"so are two lines", "", "hunter2\nhunter3\n", "", "must hold the password in one line"},
		{"and what can be none", "", strings.Repeat("x", maxPassword+1), "", "longer than the 1024 bytes"},
		{"a file that is not there", "", "-", "", "no such file or directory; or give the password as MAILBENCH_EXTERNAL_PASSWORD"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Setenv(PasswordVariable, row.variable)
			path := filepath.Join(folder, "secret")
			_ = os.Remove(path) // there may be none
			if row.file != "-" {
				if err := os.WriteFile(path, []byte(row.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a, err := External{User: "load", Database: "mail", PasswordFile: "secret", passwordPath: path, TLS: TLSVerified}.account()
			if a.Password != row.want || (err == nil) != (row.wrong == "") || err != nil && !strings.Contains(err.Error(), row.wrong) {
				t.Errorf("password %q, %v", a.Password, err)
			}
			if a.TLS == nil || a.TLS.InsecureSkipVerify {
				t.Error("the server's certificate is not looked at")
			}
		})
	}
}

// TestWhereTheJournalIs holds what heal does where the run's machine or folder is
// another.
func TestWhereTheJournalIs(t *testing.T) {
	here, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, row := range []struct {
		sentence string
		mark     external.Mark
		want     string
	}{
		{"here", external.Mark{RunID: "r", Machine: here, Journal: filepath.Join(folder, "journal.jsonl")}, ""},
		{"on another machine", external.Mark{RunID: "r", Machine: here + "x", Journal: "/runs/r/journal.jsonl"}, "is on machine " + here + "x, /runs/r/journal.jsonl: heal there, or bring it here"},
		{"nowhere any more", external.Mark{RunID: "r", Machine: here, Journal: filepath.Join(folder, "gone", "journal.jsonl")}, "the journal of run r is gone"},
	} {
		path, err := notedJournal(row.mark)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) || err == nil && path != row.mark.Journal {
			t.Errorf("%s: %s, %v", row.sentence, path, err)
		}
	}
}
