package ldap

import (
	"bytes"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"text/template"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/topology"
)

//go:embed slapd/slapd.conf.tmpl
var configText string

//go:embed slapd/mailbench.schema
var schemaText string

//go:embed slapd/start.sh
var startScript string

const (
	port      = 389
	directory = "/var/lib/ldap"
	basePath  = "/etc/mailbench/base.ldif"
	loadFile  = "load.ldif" // in directory: what the next start is to fill it from

	// The directory is reachable from this machine only, and lives no longer than
	// its run.
	adminDN       = "cn=admin," + suffix // replicates, watches and may do everything
	adminPassword = "mailbench-admin"
	clientDN      = "cn=mail," + suffix // what MTAs and webmails log in as
	password      = "mailbench"
)

// provider is one server, as the configuration of another knows it.
type provider struct {
	ID      int // its serverID, 1 to 4095, and the rid of those who read from it
	Address netip.AddrPort
}

// configTemplate cannot fail: it is the embedded one.
var configTemplate = template.Must(template.New("slapd.conf").Parse(configText))

// config writes slapd.conf for one provider: all others are read from.
func config(t topology.Topology, of topology.Node, address func(host string) netip.Addr) string {
	data := struct {
		Name, AdminPassword, Directory string
		ID                             int
		Others                         []provider
	}{Name: of.Name, AdminPassword: adminPassword, Directory: directory}
	for i, n := range t.Nodes {
		if n.ID == of.ID {
			data.ID = i + 1
			continue
		}
		data.Others = append(data.Others, provider{i + 1, netip.AddrPortFrom(address(n.Host), port)})
	}
	var b bytes.Buffer
	_ = configTemplate.Execute(&b, data) // a test shows that it has what it asks for
	return b.String()
}

// baseEntries are what a directory has before any mail: its units, who may log
// in, and an entry for each provider to write to, to prove that it can.
func baseEntries(t topology.Topology) []entry {
	all := []entry{
		{suffix, map[string][]string{attrClass: {"organization"}, "o": {"mailbench"}}},
		{clientDN, map[string][]string{attrClass: {"applicationProcess", "simpleSecurityObject"}, "cn": {"mail"}, "userPassword": {password}}},
	}
	for _, unit := range append(slices.Clone(units[:]), "heartbeats") {
		all = append(all, entry{"ou=" + unit + "," + suffix, map[string][]string{attrClass: {"organizationalUnit"}, "ou": {unit}}})
	}
	for _, n := range t.Nodes {
		all = append(all, entry{heartbeatDN(n), map[string][]string{attrClass: {"applicationProcess"}, "cn": {n.Name}}})
	}
	return all
}

func heartbeatDN(n topology.Node) string {
	return fmt.Sprintf("cn=%s,ou=heartbeats,%s", n.Name, suffix)
}

// process is what a provider's container runs.
func process(t topology.Topology, n topology.Node, born time.Time, address func(host string) netip.Addr) cluster.Process {
	return cluster.Process{
		Command:   []string{"sh", "/etc/mailbench/start.sh", directory, basePath},
		Directory: directory,
		Files: map[string]string{
			"/etc/mailbench/start.sh":         startScript,
			"/etc/mailbench/slapd.conf":       config(t, n, address),
			"/etc/mailbench/mailbench.schema": schemaText,
			basePath:                          string(ldif(baseEntries(t), stamp{born, 1})),
		},
	}
}
