package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
)

const (
	dataDirectory = "/var/lib/mysql-cluster"
	sqlDirectory  = "/var/lib/mysql"
	configPath    = "/etc/mailbench/config.ini"
	accountsPath  = "/etc/mailbench/accounts.sql"
)

// command is what a node's container runs. It replaces an image's entrypoint,
// so that our own image and the official one behave alike.
func command(n topology.Node, management netip.Addr, serverOptions map[string]string) []string {
	connect := fmt.Sprintf("--ndb-connectstring=%s:%d", management, managementPort)
	id := fmt.Sprintf("--ndb-nodeid=%d", n.ID)
	var script string
	switch n.Role {
	case topology.Management:
		// Without a configuration cache a changed config.ini is never ignored.
		script = strings.Join([]string{
			"mkdir -p " + dataDirectory,
			fmt.Sprintf("exec ndb_mgmd --nodaemon --skip-config-cache --config-file=%s %s", configPath, id),
		}, " && ")
	case topology.Data:
		// PID 1 is the angel, which starts the real process as its child: killing
		// PID 1 kills both.
		script = strings.Join([]string{
			"mkdir -p " + dataDirectory,
			// What an emptying that was cut short has left.
			fmt.Sprintf("rm -rf %s/%s", dataDirectory, emptiedFiles),
			// A node without a file system, new or emptied, makes one.
			fmt.Sprintf("if [ -d %s/ndb_%d_fs ]; then initial=; else initial=--initial; fi", dataDirectory, n.ID),
			fmt.Sprintf("exec ndbmtd --nodaemon $initial %s %s --connect-retries=120 --connect-retry-delay=1", connect, id),
		}, " && ")
	case topology.SQL:
		script = sqlScript(connect, id, int(n.ID), serverOptions)
	}
	return []string{"sh", "-ec", script}
}

// sqlScript runs a SQL node of the cluster.
func sqlScript(connect, id string, serverID int, options map[string]string) string {
	all := map[string]string{
		"innodb-buffer-pool-size": "32M", // accounts live in InnoDB, mail data does not
		"ndb-wait-connected":      "90",
		"ndb-wait-setup":          "90",
	}
	maps.Copy(all, options)
	return serverScript(serverID, []string{"--ndbcluster", "--skip-log-bin", connect, id}, all)
}

// SQLProcess is what a node runs that is a mysqld without NDB: flags are whole
// words, options by their names without leading dashes, which take the place of
// those that every server of ours has. accounts creates the accounts, one
// statement a line, when the empty data directory is initialised.
func SQLProcess(serverID int, flags []string, options map[string]string, accounts string) Process {
	return Process{
		Command:   []string{"sh", "-ec", serverScript(serverID, flags, options)},
		Directory: sqlDirectory,
		Files:     serverFiles(accounts),
	}
}

func serverFiles(accounts string) map[string]string {
	return map[string]string{accountsPath: accounts}
}

// serverScript initialises the data directory where it is empty and then runs the
// server. Accounts are created while it initialises, apart from the cluster: a
// server that joins a cluster drops accounts that the cluster does not know.
func serverScript(serverID int, flags []string, options map[string]string) string {
	initialise := fmt.Sprintf(
		"mysqld --no-defaults --user=mysql --datadir=%[1]s --initialize-insecure --init-file=%[2]s "+
			"--innodb-buffer-pool-size=32M --innodb-redo-log-capacity=8M",
		sqlDirectory, accountsPath)
	all := map[string]string{
		"socket":             "/run/mysqld/mysqld.sock",
		"port":               fmt.Sprint(sqlPort),
		"server-id":          fmt.Sprint(serverID),
		"secure-file-priv":   "",
		"max-connections":    "500",
		"performance-schema": "OFF",
		"loose-mysqlx":       "OFF",
	}
	maps.Copy(all, options)
	run := append([]string{"exec mysqld --no-defaults --user=mysql --datadir=" + sqlDirectory, "--skip-name-resolve"}, flags...)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		run = append(run, fmt.Sprintf("--%s=%s", name, quote(all[name])))
	}
	return fmt.Sprintf("mkdir -p %[1]s /run/mysqld && chown mysql:mysql %[1]s /run/mysqld\n"+
		// The marker is written last: a server that was killed while it initialised
		// starts over.
		"if [ ! -e %[1]s/initialised ]; then find %[1]s -mindepth 1 -delete; %[2]s; touch %[1]s/initialised; fi\n%[3]s",
		sqlDirectory, initialise, strings.Join(run, " "))
}

// quote makes a word that the shell takes as it is.
func quote(word string) string {
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// accountsSQL creates the account that the harness uses; one statement a line,
// as the server's init file wants it.
func accountsSQL(a Account) string {
	return fmt.Sprintf("CREATE USER '%[1]s'@'%%' IDENTIFIED BY '%[2]s';\nGRANT ALL ON *.* TO '%[1]s'@'%%' WITH GRANT OPTION;\n",
		a.User, a.Password)
}
