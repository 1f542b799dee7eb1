package ndberr

import "maps"

// Code is an error number and what it means, in a few words for a report.
type Code struct {
	Number  uint16
	Meaning string
}

// Rule says how a set of codes is judged.
type Rule struct {
	Class     Class
	Effect    Effect
	Retryable bool
	Source    string // where the judgement comes from
	Codes     []Code
}

// Table maps MySQL error numbers and NDB error codes to results. A Table does
// not change once it is made and may be shared. Its zero value knows no code.
type Table struct {
	server, ndb map[uint16]entry
}

type entry struct {
	result  Result
	meaning string
	source  string
}

// With returns a table that judges some codes differently: server are rules for
// MySQL error numbers, ndb for NDB codes. A later rule replaces an earlier one.
// RonDB, which reports node failures as MySQL 1205, is described in this way.
func (t Table) With(server, ndb []Rule) Table {
	return Table{server: extend(t.server, server), ndb: extend(t.ndb, ndb)}
}

func extend(old map[uint16]entry, rules []Rule) map[uint16]entry {
	entries := maps.Clone(old)
	if entries == nil {
		entries = map[uint16]entry{}
	}
	for _, r := range rules {
		for _, c := range r.Codes {
			entries[c.Number] = entry{
				result:  Result{Class: r.Class, Effect: r.Effect, Retryable: r.Retryable},
				meaning: c.Meaning,
				source:  r.Source,
			}
		}
	}
	return entries
}

// Meaning says in a few words what an NDB code means, "unknown code" for one
// that is not in the table.
func (t Table) Meaning(code uint16) string {
	if e, ok := t.ndb[code]; ok {
		return e.meaning
	}
	return "unknown code"
}

// Source names where the judgement of a result's code comes from, "" if the
// table does not know the code.
func (t Table) Source(r Result) string {
	if e, ok := t.ndb[r.NDB]; ok {
		return e.source
	}
	return t.server[r.MySQL].source
}

// MySQLNDB returns the table of MySQL NDB Cluster 9.7.
func MySQLNDB() Table { return mysqlNDB }

// mysqlNDB is never written to after it is made.
var mysqlNDB = Table{}.With(serverRules(), ndbRules())

// Sources that several rules share.
const (
	ndberrorCpp = "storage/ndb/src/ndbapi/ndberror.cpp"
	manual      = "MySQL Server Error Message Reference"
)

// serverRules judges MySQL error numbers. 1296 and 1297 stand here for messages
// whose NDB code is unknown; a known code decides before them.
func serverRules() []Rule {
	return []Rule{
		{
			Temporary, NotApplied, true, "sql/handler.cc, ER_GET_TEMPORARY_ERRMSG",
			[]Code{{1297, "temporary error of the storage engine"}},
		},
		{
			Permanent, NotApplied, false, "sql/handler.cc, ER_GET_ERRMSG",
			[]Code{{1296, "error of the storage engine"}},
		},
		{
			// A deadlock aborts the whole transaction; NDB itself never raises
			// 1213 or 3572, InnoDB does.
			LockTimeout, NotApplied, true, ndberrorCpp + ", HA_ERR_LOCK_WAIT_TIMEOUT",
			[]Code{
				{1205, "lock wait timed out"},
				{1213, "deadlock"},
				{3572, "lock not free and NOWAIT asked for"},
			},
		},
		{
			// A CALL can be interrupted after the COMMIT inside it.
			ShuttingDown, MayHaveBeen, true, manual,
			[]Code{
				{1053, "the server is shutting down"},
				{1317, "the server interrupted the statement"},
			},
		},
		{
			Broken, MayHaveBeen, true, manual,
			[]Code{{3169, "the server killed the session"}},
		},
		{
			// Not NDB's 4031. The server says so before it closes an idle
			// connection; the client reads it in place of its answer.
			Broken, NotApplied, true, manual + ", ER_CLIENT_INTERACTION_TIMEOUT",
			[]Code{{4031, "the server had closed the idle connection"}},
		},
		{
			Connect, NotApplied, true, manual,
			[]Code{
				{1040, "too many connections"},
				{1203, "too many connections of this account"},
				{1226, "a resource limit of this account is reached"},
			},
		},
		{
			// After a reconnect or the loss of its data directory a SQL node
			// serves before its tables are synchronized, and routines are never
			// distributed (MySQL manual, "Issues Exclusive to NDB Cluster").
			NotReady, NotApplied, true, "ha_ndbcluster.cc; mysql-test/include/ndb_not_readonly.inc",
			[]Code{
				{1036, "the SQL node is read-only until it has synchronized its schema"},
				{1049, "the SQL node has not got the database"},
				{1146, "the SQL node has not got the table"},
				{1305, "the SQL node has not got the routine"},
				{1412, "the table's definition has changed"},
			},
		},
		{
			// A replica takes no writes until it is promoted; the next node may.
			NotReady, NotApplied, true, manual + ", ER_OPTION_PREVENTS_STATEMENT, ER_READ_ONLY_MODE",
			[]Code{
				{1290, "the server is a replica and read-only"},
				{1836, "the server is a replica and read-only"},
			},
		},
		{
			Permanent, NotApplied, false, manual,
			[]Code{
				{1045, "access denied"},
				{1062, "duplicate key"},
				{1114, "table is full"},
				{1451, "foreign key: a child row exists"},
				{1452, "foreign key: no parent row"},
				{1622, "the engine cannot roll the statement back"},
			},
		},
		{
			// Its text carries a handler error, which decides before this rule.
			Permanent, MayHaveBeen, false, "sql/handler.cc, ER_ERROR_DURING_COMMIT",
			[]Code{{1180, "error during commit"}},
		},
	}
}

// ndbRules judges NDB codes. The class of NDB that stands behind a rule (NR for
// node recovery and so on) is in its source.
func ndbRules() []Rule {
	return []Rule{
		{
			// Counted as temporary by NDB, but the transaction IS committed.
			// Asking again would apply it twice, for certain.
			Committed, Applied, false, "storage/ndb/src/ndbapi/NdbTransaction.cpp, receiveTCKEY_FAILCONF",
			[]Code{{4115, "committed, but values read were lost with a node"}},
		},
		{
			NoAnswer, MayHaveBeen, true, ndberrorCpp + ", UR",
			[]Code{
				{4008, "no answer from a data node that is alive"},
				{4012, "no answer from the data nodes in time"},
			},
		},
		{
			// Not executed when met at the start of a transaction, unknown at
			// its commit; the message does not tell which.
			NoCluster, MayHaveBeen, true, ndberrorCpp + ", UR; HA_ERR_NO_CONNECTION",
			[]Code{
				{4009, "no data node can be reached"},
				{157, "no connection to the cluster"}, // handler error in the code's place
			},
		},
		{
			NoCluster, NotApplied, true, ndberrorCpp + ", HA_ERR_NO_CONNECTION",
			[]Code{{281, "refused: the cluster is shutting down"}},
		},
		{
			LockTimeout, NotApplied, true, ndberrorCpp + ", TO; HA_ERR_LOCK_WAIT_TIMEOUT",
			[]Code{
				{237, "the transaction had timed out when it was to commit"},
				{266, "lock wait timed out, perhaps a deadlock"},
				{274, "lock wait timed out in a scan"},
				{296, "scan timed out"},
				{297, "scan timed out"},
				{635, "lock not free and NOWAIT asked for"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", NR node recovery",
			[]Code{
				{250, "the node that held the lock died during a scan"},
				{286, "a node died, transaction aborted"},
				{499, "a scan could not be taken over"},
				{631, "a scan could not be taken over"},
				{786, "a node died, schema transaction aborted"},
				{1204, "the distribution changed: a node left or joined"},
				{1405, "event subscriptions busy with node recovery"},
				{1427, "an API node died as it subscribed"},
				{4002, "sending to the cluster failed"},
				{4007, "sending to a data node failed"},
				{4010, "the coordinator died, transaction aborted"},
				{4013, "timed out while a node failure was handled"},
				{4025, "the data node was dead when it was sent to"},
				{4027, "a node died, transaction aborted"},
				{4028, "a node died during a scan"},
				{4029, "a node died during a scan"},
				{4031, "the coordinator died, its heir aborted the transaction"},
				{4033, "sending to the cluster failed"},
				{4035, "cluster not available yet: a node is starting"},
				{4119, "a committed read met a dead node"},
				{20016, "a node died during a pushed-down query"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", NS node shutdown",
			[]Code{
				{270, "a node shut down during a scan"},
				{280, "a node shut down, transaction aborted"},
				{1223, "a node shut down during a read"},
				{4023, "a node shut down, transaction aborted"},
				{4030, "a node shut down, transaction aborted"},
				{4034, "a node shut down, transaction aborted"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", OL overload",
			[]Code{
				{410, "redo log full: the local checkpoint has not freed it yet"},
				{677, "undo buffer of indexes overloaded"},
				{701, "another schema operation is running"},
				{711, "no schema operation while a node restarts"},
				{891, "undo buffer of data overloaded"},
				{1221, "redo buffer full"},
				{1518, "disk overloaded"},
				{4006, "too many transactions at once"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", TR temporary resource",
			[]Code{
				{217, "coordinator out of a resource"},
				{218, "out of LongMessageBuffer"},
				{219, "coordinator out of a resource"},
				{221, "too many triggers fired at once"},
				{233, "coordinator out of operation records"},
				{234, "more operations than MaxNoOfConcurrentOperations"},
				{245, "more scans than MaxNoOfConcurrentScans"},
				{251, "coordinator out of fragment location records"},
				{273, "coordinator out of transaction marker buffer"},
				{275, "coordinator out of records to complete a transaction"},
				{279, "coordinator out of transaction markers"},
				{288, "coordinator out of index operations"},
				{289, "coordinator out of transaction buffer"},
				{291, "coordinator out of scan records"},
				{293, "coordinator out of attribute buffers"},
				{312, "out of LongMessageBuffer"},
				{414, "data manager out of a resource"},
				{418, "data manager out of LongMessageBuffer"},
				{419, "data manager out of LongMessageBuffer"},
				{488, "too many scans"},
				{489, "data manager out of scan records"},
				{490, "too many scans"},
				{748, "event table busy"},
				{780, "too many schema transactions"},
				{783, "too many schema operations"},
				{784, "schema transaction in another state"},
				{785, "object busy with another schema transaction"},
				{788, "schema operation lost when its transaction was taken over"},
				{805, "tuple manager out of LongMessageBuffer"},
				{830, "out of records to add a fragment"},
				{873, "tuple manager out of memory for ordered index data"},
				{899, "row id already taken"},
				{909, "tuple manager out of memory for an ordered scan"},
				{915, "no free index statistics operation"},
				{918, "index statistics update not prepared"},
				{919, "index statistics update not executed"},
				{921, "tuple manager out of memory for tuple copies"},
				{923, "out of undo buffer"},
				{924, "tuple manager out of memory for a stored procedure record"},
				{925, "tuple manager out of memory for a scan"},
				{926, "tuple manager out of memory for a scan"},
				{1217, "data manager out of operation records"},
				{1218, "send buffers of a data node full"},
				{1220, "redo log overloaded: its files are too small"},
				{1222, "data manager out of transaction markers"},
				{1234, "redo log overloaded: the disk is too slow"},
				{1350, "backup file exists already"},
				{1411, "event subscriptions busy with a subscriber"},
				{1413, "event subscriptions busy with a subscription"},
				{1414, "the event subscription still has subscribers"},
				{1420, "event subscriptions busy with a table"},
				{1501, "out of undo space"},
				{2810, "no space left on a data node's disk"},
				{2811, "a data node may not use its files"},
				{2815, "a data node cannot read its files"},
				{4021, "send buffer of the SQL node full"},
				{4022, "send buffer of the SQL node full"},
				{4032, "send buffer of the SQL node full"},
				{20000, "pushed-down query out of operation records"},
				{20006, "pushed-down query out of LongMessageBuffer"},
				{20008, "pushed-down query out of memory"},
				{20015, "pushed-down query out of row memory"},
				{21020, "out of records to create a foreign key"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", IT internal temporary",
			[]Code{
				{702, "sent to a node that is not the master"},
				{787, "schema transaction aborted"},
				{1703, "the failure of this node id is still being handled"},
				{1705, "not ready to give out node ids"},
			},
		},
		{
			Temporary, NotApplied, true, ndberrorCpp + ", TO that is no lock wait",
			[]Code{
				{4351, "building an index timed out"},
				{5024, "a node's shutdown did not begin in time"},
				{5025, "a node's shutdown did not end in time"},
			},
		},
		{
			// Usually seen as MySQL 1412 and 1146.
			NotReady, NotApplied, true, ndberrorCpp + ", HA_ERR_TABLE_DEF_CHANGED, HA_ERR_NO_SUCH_TABLE",
			[]Code{
				{241, "the table's definition has changed"},
				{284, "the coordinator does not know the table's definition"},
				{20021, "the table's definition has changed"},
				{283, "the table is being dropped"},
				{709, "no such table"},
				{710, "no such table"},
				{723, "no such table"},
				{910, "the index is being dropped"},
				{1226, "the table is being dropped"},
				{20019, "no such table"},
				{20020, "the table is being dropped"},
			},
		},
		{
			// 4350 only ever follows another error of the same transaction: that
			// one was reported, says whether to begin anew, and has aborted all.
			// A client that meets 4350 went on without rolling back, and so will
			// its retry: the defect shows as failed ops instead of as retries.
			Permanent, NotApplied, false, ndberrorCpp + ", IE",
			[]Code{{4350, "a statement was sent after the transaction had been aborted"}},
		},
		{
			Permanent, NotApplied, false, ndberrorCpp + ", CV, IS, AE",
			[]Code{
				{255, "foreign key: no parent row"},
				{256, "foreign key: a child row exists"},
				{261, "more operations in one transaction than allowed"},
				{299, "the cluster is in single user mode"},
				{623, "table is full"},
				{624, "table is full"},
				{625, "out of DataMemory for a hash index"},
				{630, "duplicate primary key"},
				{633, "a hash index has reached its size limit"},
				{827, "out of DataMemory"},
				{893, "duplicate unique key"},
				{902, "out of DataMemory for an ordered index"},
				{1233, "the table is read-only"},
			},
		},
	}
}
