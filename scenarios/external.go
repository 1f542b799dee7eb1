package scenarios

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/external"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// ClusterKind is whose cluster a scenario runs on.
type ClusterKind string

// The kinds of cluster.
const (
	ClusterContainers ClusterKind = "containers" // the harness starts and removes it
	ClusterExternal   ClusterKind = "external"   // somebody else runs it
)

// External is a cluster that somebody else runs.
type External struct {
	Name       string // in the cluster's guard table
	Management ExternalManagement
	Replicas   int
	DataNodes  []ExternalData // data1, data2, … in this order
	SQL        []ExternalSQL  // sql1, sql2, … in this order
	Database   string         // that is made for the mail data, and dropped
	User       string
	// PasswordFile is as it was written; "" for the environment alone.
	PasswordFile string
	TLS          TLSMode

	passwordPath string // from the working directory
}

// ExternalManagement is the management server.
type ExternalManagement struct {
	ID            topology.ID
	Host, Address string
}

// ExternalData is a data node.
type ExternalData struct {
	ID    topology.ID
	Host  string
	Group int
}

// ExternalSQL is a SQL node.
type ExternalSQL struct {
	ID            topology.ID
	Host, Address string
}

// TLSMode is how connections to SQL nodes are protected.
type TLSMode string

// The modes.
const (
	TLSNone     TLSMode = "none"
	TLSRequired TLSMode = "required" // as MySQL's REQUIRED: the certificate is not looked at
	TLSVerified TLSMode = "verified" // as MySQL's VERIFY_IDENTITY
)

// noGroup is a data node's group before it is known.
const noGroup = -1

func defaultExternal() External {
	return External{Replicas: 2, Database: "mail", User: "mailbench", TLS: TLSRequired}
}

func defaultExternalData() ExternalData { return ExternalData{Group: noGroup} }

func (e *External) fields() object {
	return object{
		{key: "name", value: nameValue(&e.Name), required: true, doc: "What its administrator has put into its guard table, and `--i-know-this-cluster` must repeat."},
		{key: "management", required: true, fallback: "see below", doc: "The management server, `mgm1`.", value: object{
			{key: "id", value: nodeIDValue(&e.Management.ID, 255), required: true, doc: "Its node id."},
			{key: "host", value: nameValue(&e.Management.Host), required: true, doc: "The machine, as faults and reports name it."},
			{key: "address", value: addressValue(&e.Management.Address), required: true, doc: "Where it serves, in plain text."},
		}},
		{key: "replicas", value: integerValue(&e.Replicas, 1, 4), doc: "Its `NoOfReplicas`."},
		{key: "data_nodes", required: true, doc: "All its data nodes: `data1`, `data2`, … in this order.",
			value: listValue[ExternalData]{p: &e.DataNodes, least: 1, most: 48, what: "data nodes", fresh: defaultExternalData,
				entry: func(n *ExternalData) value { return n.fields() }}},
		{key: "sql", required: true, doc: "The SQL nodes that are asked, of those that it has: `sql1`, `sql2`, … in this order.",
			value: listValue[ExternalSQL]{p: &e.SQL, least: 1, most: 48, what: "SQL nodes", fresh: func() ExternalSQL { return ExternalSQL{} },
				entry: func(n *ExternalSQL) value { return n.fields() }}},
		{key: "database", value: databaseValue(&e.Database), doc: "The database that a run makes for the mail data, and drops. One that is there is left alone and the run refused."},
		{key: "user", value: userValue(&e.User), doc: "The account, on every SQL node. docs/external.md says what it must be allowed."},
		{key: "password_file", value: orNone(&e.PasswordFile, pathValue(&e.PasswordFile)), doc: "A file that holds its password and nothing else, relative to the scenario file. `MAILBENCH_EXTERNAL_PASSWORD` goes before it. A recording never holds either."},
		{key: "tls", value: oneOf(&e.TLS, TLSNone, TLSRequired, TLSVerified), doc: "How connections to SQL nodes are protected: not at all; encrypted (MySQL's `REQUIRED`); encrypted, and the certificate is of that host and of an authority that the machine trusts (`VERIFY_IDENTITY`)."},
	}
}

func (n *ExternalData) fields() object {
	return object{
		{key: "id", value: nodeIDValue(&n.ID, 144), required: true, doc: "Its node id."},
		{key: "host", value: nameValue(&n.Host), required: true, doc: "The machine that it runs on, as faults and reports name it."},
		{key: "group", value: integerValue(&n.Group, 0, 143), fallback: "by `replicas`, in the order of the list", doc: "Its node group."},
	}
}

func (n *ExternalSQL) fields() object {
	return object{
		{key: "id", value: nodeIDValue(&n.ID, 255), required: true, doc: "Its node id; of several connections to the cluster, the first one's."},
		{key: "host", value: nameValue(&n.Host), required: true, doc: "The machine that it runs on; a client of that name prefers it."},
		{key: "address", value: addressValue(&n.Address), required: true, doc: "Where it serves clients."},
	}
}

func nodeIDValue(p *topology.ID, most int) value {
	return strictyaml.Scalar{
		What: fmt.Sprintf("a node id from 1 to %d", most),
		Parse: func(n *node) bool {
			id, err := strconv.ParseUint(n.Text, 10, 8)
			if n.Kind != strictyaml.NumberKind || err != nil || id < 1 || int(id) > most {
				return false
			}
			*p = topology.ID(id)
			return true
		},
		Form: func() *node { return strictyaml.PlainNode(fmt.Sprint(*p)) },
	}
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func addressValue(p *string) value {
	return strictyaml.Scalar{
		What: "an address with its port, such as mgm.example.org:1186, 10.0.0.1:3306 or [fd00::1]:3306",
		Parse: func(n *node) bool {
			host, port, err := net.SplitHostPort(n.Text)
			if n.Kind != strictyaml.TextKind || err != nil {
				return false
			}
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil || number == 0 {
				return false
			}
			if _, err := netip.ParseAddr(host); err != nil && !hostForm.MatchString(host) {
				return false
			}
			*p = n.Text
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	}
}

var databaseForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// systemDatabases are the server's own, and the guard's.
var systemDatabases = [...]string{"mysql", "sys", "ndbinfo", "performance_schema", "information_schema", external.GuardDatabase}

func databaseValue(p *string) value {
	return strictyaml.Text(p, "the name of a database: a-z, 0-9 and '_', from a letter on, at most 64 characters, and not one of the server's", func(s string) bool {
		return databaseForm.MatchString(s) && !slices.Contains(systemDatabases[:], s)
	})
}

var userForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,31}$`)

func userValue(p *string) value {
	return strictyaml.Text(p, "the name of an account: letters, digits, '_', '.' and '-', from a letter on, at most 32 characters", userForm.MatchString)
}

// external says that the scenario's cluster is somebody else's.
func (s *Scenario) external() bool { return s.Cluster == ClusterExternal }

// External says that the plan is for a cluster that somebody else runs.
func (p *Plan) External() bool { return p.Scenario.external() }

// sqlHosts are the hosts of the SQL nodes, in their order.
func (s *Scenario) sqlHosts() []string {
	if !s.external() {
		return s.TopologySpec.SQLHosts
	}
	var hosts []string
	for _, n := range s.External.SQL {
		hosts = append(hosts, n.Host)
	}
	return hosts
}

// fillExternal resolves what depends on whose cluster it is, and refuses the
// section that is of the other kind.
func (d *decoder) fillExternal(file string, s *Scenario) {
	if !d.Good("cluster") {
		s.Cluster = ClusterContainers
		return
	}
	if !s.external() {
		if _, ok := d.Written["external"]; ok {
			d.Reject("external", "must not be written unless cluster is %s", ClusterExternal)
		}
		return
	}
	if _, ok := d.Written["topology"]; ok {
		d.Reject("topology", "must not be written with cluster: %s: what runs there is not the harness's to lay out, limit or configure; its nodes stand in external", ClusterExternal)
	}
	s.TopologySpec = TopologySpec{}
	if _, ok := d.Written["external"]; !ok {
		d.Reject("cluster", "%s wants the section external, which says where it is", ClusterExternal)
		return
	}
	e := &s.External
	if e.PasswordFile != "" {
		e.passwordPath = d.pathFrom(file, "external.password_file", e.PasswordFile)
	}
	for i := range e.DataNodes {
		if n := &e.DataNodes[i]; n.Group == noGroup && e.Replicas > 0 {
			n.Group = i / e.Replicas
		}
	}
}

// checkExternal holds the nodes of an external cluster against each other.
func (d *decoder) checkExternal(s *Scenario) {
	e := s.External
	if !s.external() || !d.Good("external") {
		return
	}
	ids := map[topology.ID]string{e.Management.ID: "external.management"}
	unique := func(entry string, id topology.ID) {
		if other, ok := ids[id]; ok {
			d.Reject(entry+".id", "%d is already the id of %s", id, other)
			return
		}
		ids[id] = entry
	}
	members := map[int]int{}
	for i, n := range e.DataNodes {
		unique(fmt.Sprintf("external.data_nodes[%d]", i), n.ID)
		members[n.Group]++
	}
	for i, n := range e.SQL {
		unique(fmt.Sprintf("external.sql[%d]", i), n.ID)
	}
	d.Unique("external.sql", "host", len(e.SQL), func(i int) string { return e.SQL[i].Host })
	d.Unique("external.sql", "address", len(e.SQL), func(i int) string { return e.SQL[i].Address })
	for i, n := range e.DataNodes {
		if members[n.Group] != e.Replicas {
			d.Reject(fmt.Sprintf("external.data_nodes[%d]", i), "node group %d has %d data nodes, and external.replicas is %d: they must be as many", n.Group, members[n.Group], e.Replicas)
			return
		}
	}
}

// topology lays out what was described.
func (e External) topology() topology.Topology {
	t := topology.Topology{Replicas: e.Replicas, Nodes: []topology.Node{
		{ID: e.Management.ID, Name: "mgm1", Role: topology.Management, Host: e.Management.Host, Group: -1},
	}}
	for i, n := range e.DataNodes {
		t.Nodes = append(t.Nodes, topology.Node{ID: n.ID, Name: fmt.Sprintf("data%d", i+1), Role: topology.Data, Host: n.Host, Group: n.Group})
	}
	for i, n := range e.SQL {
		t.Nodes = append(t.Nodes, topology.Node{ID: n.ID, Name: fmt.Sprintf("sql%d", i+1), Role: topology.SQL, Host: n.Host, Group: -1})
	}
	return t
}

// PasswordVariable goes before a password file.
const PasswordVariable = "MAILBENCH_EXTERNAL_PASSWORD"

const maxPassword = 1024 // bytes

// account is how one logs in. A password is read here, when it is needed.
func (e External) account() (sqlnode.Account, error) {
	a := sqlnode.Account{User: e.User, Database: e.Database, Password: os.Getenv(PasswordVariable)}
	switch e.TLS {
	case TLSRequired:
		a.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // the scenario asks for no more
	case TLSVerified:
		a.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // the driver adds the name of the host
	}
	if a.Password != "" || e.PasswordFile == "" {
		return a, nil
	}
	text, err := readPassword(e.passwordPath)
	if err != nil {
		return a, &InputError{Msg: fmt.Sprintf("external.password_file: %v; or give the password as %s", err, PasswordVariable), Cause: err}
	}
	a.Password = text
	return a, nil
}

func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(text), "\r\n")
	switch {
	case len(text) > maxPassword:
		return "", fmt.Errorf("%s is longer than the %d bytes that a password may have", path, maxPassword)
	case password == "" || strings.ContainsAny(password, "\r\n"):
		return "", fmt.Errorf("%s must hold the password in one line", path)
	}
	return password, nil
}

// externalTarget describes the cluster of a scenario. It does not connect.
func (s *Scenario) externalTarget(spec external.Spec) (*external.Cluster, error) {
	if !s.external() {
		return nil, errors.New("the scenario's cluster is not external")
	}
	e := s.External
	var err error
	if spec.Account, err = e.account(); err != nil {
		return nil, err
	}
	spec.Name, spec.Topology, spec.Schema = e.Name, e.topology(), s.inputs.schema
	spec.Addresses = map[topology.ID]string{e.Management.ID: e.Management.Address}
	for _, n := range e.SQL {
		spec.Addresses[n.ID] = n.Address
	}
	return external.New(spec), nil
}

// mark says whose database a run makes, for heal. It finds the journal in the run
// directory.
func mark(runID, dir string) (external.Mark, error) {
	m := external.Mark{RunID: runID, Journal: filepath.Join(dir, JournalFile)}
	var err error
	if m.Machine, err = os.Hostname(); err != nil {
		return m, fmt.Errorf("which machine is this? %w", err)
	}
	return m, nil
}
