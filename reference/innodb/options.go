package innodb

import (
	"fmt"
	"maps"

	"github.com/mailbench/mailbench/reference/sqlnode"
)

const (
	port     = 3306
	database = "mail"
)

// The accounts are alike on both servers. The servers are reachable from this
// machine only, and live no longer than their run.
const (
	adminUser   = "mailbench"
	clientUser  = "mail" // without CONNECTION_ADMIN, so that offline_mode keeps it out
	replicaUser = "replica"
	password    = "mailbench"
)

func adminAccount() sqlnode.Account {
	return sqlnode.Account{User: adminUser, Password: password, Database: database}
}

func clientAccount() sqlnode.Account {
	return sqlnode.Account{User: clientUser, Password: password, Database: database}
}

// accountsSQL makes the accounts; one statement a line, as the server's init file
// wants it. It runs while each server initialises, apart from replication.
func accountsSQL() string {
	text := ""
	for _, user := range []string{adminUser, clientUser, replicaUser} {
		text += fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY '%s';\n", user, password)
	}
	return text +
		fmt.Sprintf("GRANT ALL ON *.* TO '%s'@'%%' WITH GRANT OPTION;\n", adminUser) +
		fmt.Sprintf("GRANT ALL ON %s.* TO '%s'@'%%';\n", database, clientUser) +
		fmt.Sprintf("GRANT REPLICATION SLAVE ON *.* TO '%s'@'%%';\n", replicaUser)
}

// flags are the words that load the plugins of semi-synchronous replication, one
// for each end, since each server may have either part.
func flags() []string {
	return []string{"--plugin-load-add=semisync_source.so", "--plugin-load-add=semisync_replica.so"}
}

// options are mysqld's, for a server that may use that much memory (MiB, 0 for no
// limit). own are a scenario's, which come before ours.
func options(memoryMiB int, own map[string]string) map[string]string {
	all := map[string]string{
		// A server that has just started takes no writes and lets no client in, until
		// the steward knows what it lacks.
		"super-read-only":    "ON",
		"offline-mode":       "ON",
		"skip-replica-start": "ON",

		"log-bin":                  "binlog",
		"gtid-mode":                "ON",
		"enforce-gtid-consistency": "ON",
		"relay-log-recovery":       "ON",

		// An acknowledged write is on two machines before its client hears of it, as in
		// NDB. Alone, a server waits for nobody.
		"rpl-semi-sync-source-enabled":         "ON",
		"rpl-semi-sync-replica-enabled":        "ON",
		"rpl-semi-sync-source-wait-point":      "AFTER_SYNC",
		"rpl-semi-sync-source-wait-no-replica": "OFF",

		// The disk follows within a second or so, as NDB's does within two
		// (TimeBetweenGlobalCheckpoints): what two machines have in memory need not wait
		// for it. A dead process loses nothing by this, a dead machine may.
		"innodb-flush-log-at-trx-commit": "2",
		"sync-binlog":                    "0",

		"innodb-buffer-pool-size":    fmt.Sprintf("%dM", bufferPoolMiB(memoryMiB)),
		"innodb-redo-log-capacity":   "256M",
		"replica-parallel-workers":   "4",
		"replica-net-timeout":        "4", // seconds; a heartbeat comes every half of it
		"binlog-expire-logs-seconds": "0", // who lacks anything gets it from there, however old
	}
	maps.Copy(all, own)
	return all
}

// bufferPoolMiB is half of the memory that a server may use: sessions, the binary
// log's cache and the kernel's cache of files take of the other half.
func bufferPoolMiB(memoryMiB int) int {
	const unbounded, least = 512, 32
	if memoryMiB == 0 {
		return unbounded
	}
	return max(memoryMiB/2, least)
}
