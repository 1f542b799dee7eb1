package ndberr

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func server(number uint16, message string) error {
	return &mysql.MySQLError{Number: number, SQLState: [5]byte([]byte("HY000")), Message: message}
}

func temporary(code int) error {
	return server(1297, fmt.Sprintf("Got temporary error %d 'whatever' from NDBCLUSTER", code))
}

func engine(code int) error {
	return server(1296, fmt.Sprintf("Got error %d 'whatever' from NDBCLUSTER", code))
}

func connecting(err error) error {
	return fmt.Errorf("open a session: %w", &ConnectError{Node: "sql1", Address: "198.18.0.10:3306", Err: err})
}

type stalled struct{}

func (stalled) Error() string   { return "stalled" }
func (stalled) Timeout() bool   { return true }
func (stalled) Temporary() bool { return false }

func TestClassify(t *testing.T) {
	const again = true
	op := func(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }
	for _, c := range []struct {
		says string
		err  error
		want Result
	}{
		{"no error is success", nil, Result{}},

		{"a coordinator that died aborts the transaction", temporary(4010), Result{Temporary, NotApplied, 1297, 4010, again}},
		{"4115 is called temporary but has committed", temporary(4115), Result{Committed, Applied, 1297, 4115, false}},
		{"4008 leaves the outcome open", engine(4008), Result{NoAnswer, MayHaveBeen, 1296, 4008, again}},
		{"4012 leaves the outcome open", engine(4012), Result{NoAnswer, MayHaveBeen, 1296, 4012, again}},
		{"4009 is the loss of the cluster and may have met a commit", engine(4009), Result{NoCluster, MayHaveBeen, 1296, 4009, again}},
		{"157 is the same without NDB's code", engine(157), Result{NoCluster, MayHaveBeen, 1296, 157, again}},
		{"281 refuses before anything is done", engine(281), Result{NoCluster, NotApplied, 1296, 281, again}},
		{"266 in the text is a lock time-out", temporary(266), Result{LockTimeout, NotApplied, 1297, 266, again}},
		{"4350 follows an error that was reported before", engine(4350), Result{Permanent, NotApplied, 1296, 4350, false}},
		{"full memory stays full", engine(827), Result{Permanent, NotApplied, 1296, 827, false}},
		{"1297 with a code that is not in the table is temporary", temporary(9999), Result{Temporary, NotApplied, 1297, 9999, again}},
		{"1296 with a code that is not in the table is permanent", engine(9999), Result{Permanent, NotApplied, 1296, 9999, false}},
		{"1297 without a code could be 4115", server(1297, "Temporärer Fehler 4115"), Result{Temporary, MayHaveBeen, 1297, 0, again}},
		{"1296 without a code could be 4009", server(1296, ""), Result{Permanent, MayHaveBeen, 1296, 0, false}},
		{"an error is found inside others", fmt.Errorf("greylist: %w", temporary(286)), Result{Temporary, NotApplied, 1297, 286, again}},

		{"a lock wait or deadlock aborts all", server(1205, "Lock wait timeout exceeded"), Result{LockTimeout, NotApplied, 1205, 0, again}},
		{"InnoDB reports a deadlock of its own", server(1213, "Deadlock found"), Result{LockTimeout, NotApplied, 1213, 0, again}},
		{"a server that ends may interrupt a CALL after its COMMIT", server(1053, "Server shutdown in progress"), Result{ShuttingDown, MayHaveBeen, 1053, 0, again}},
		{"an interrupted statement too", server(1317, "Query execution was interrupted"), Result{ShuttingDown, MayHaveBeen, 1317, 0, again}},
		{"a lost routine comes back when it is installed", server(1305, "PROCEDURE mail.greylist does not exist"), Result{NotReady, NotApplied, 1305, 0, again}},
		{"a missing table comes back with the schema", server(1146, "Table doesn't exist"), Result{NotReady, NotApplied, 1146, 0, again}},
		{"a missing database comes back with the schema", server(1049, "Unknown database"), Result{NotReady, NotApplied, 1049, 0, again}},
		{"a read-only SQL node is still synchronizing", server(1036, "Table 't' is read only"), Result{NotReady, NotApplied, 1036, 0, again}},
		{"a changed definition is read again", server(1412, "Table definition has changed"), Result{NotReady, NotApplied, 1412, 0, again}},
		{"a duplicate key stays one", server(1062, "Duplicate entry"), Result{Permanent, NotApplied, 1062, 0, false}},
		{"a full table stays full", server(1114, "The table is full"), Result{Permanent, NotApplied, 1114, 0, false}},
		{"a number that is not in the table was refused", server(1064, "You have an error in your SQL syntax"), Result{Permanent, NotApplied, 1064, 0, false}},
		{"MySQL's 4031 is not NDB's: the idle connection was closed", server(4031, "The client was disconnected by the server because of inactivity."), Result{Broken, NotApplied, 4031, 0, again}},
		{"1180 with 125: aborted before", server(1180, "Got error 125 - 'Transaction has been rolled back' during COMMIT"), Result{Permanent, NotApplied, 1180, 0, false}},
		{"1180 with 157: the cluster was lost at the commit", server(1180, "Got error 157 - 'Could not connect to storage engine' during COMMIT"), Result{NoCluster, MayHaveBeen, 1180, 0, again}},
		{"1180 with anything else leaves the outcome open", server(1180, "Got error 5 during COMMIT"), Result{Permanent, MayHaveBeen, 1180, 0, false}},

		{"a refused dial sent nothing", op("dial", syscall.ECONNREFUSED), Result{Connect, NotApplied, 0, 0, again}},
		{"a dial that timed out sent nothing", op("dial", stalled{}), Result{Connect, NotApplied, 0, 0, again}},
		{"a bare refusal is one of a dial", syscall.ECONNREFUSED, Result{Connect, NotApplied, 0, 0, again}},
		{"an unreachable host cannot be dialled", fmt.Errorf("proxy: %w", syscall.EHOSTUNREACH), Result{Connect, NotApplied, 0, 0, again}},
		{"but on a read it ends a connection in use", op("read", syscall.EHOSTUNREACH), Result{Broken, MayHaveBeen, 0, 0, again}},
		{"a lost greeting sent nothing", connecting(mysql.ErrInvalidConn), Result{Connect, NotApplied, 0, 0, again}},
		{"a greeting that did not come in time sent nothing", connecting(context.DeadlineExceeded), Result{Connect, NotApplied, 0, 0, again}},
		{"a full server keeps its number", connecting(server(1040, "Too many connections")), Result{Connect, NotApplied, 1040, 0, again}},
		{"a server that ends sent no greeting", connecting(server(1053, "Server shutdown in progress")), Result{Connect, NotApplied, 1053, 0, again}},
		{"a login can meet NDB", connecting(temporary(4035)), Result{Connect, NotApplied, 1297, 4035, again}},
		{"another system's own judgement counts", fmt.Errorf("ldap1: %w", &JudgedError{Result{Class: NotReady, Effect: NotApplied, Retryable: true}, io.EOF}), Result{NotReady, NotApplied, 0, 0, again}},
		{"also of a connection that it refused", connecting(&JudgedError{Result{Class: Permanent, Effect: NotApplied}, io.EOF}), Result{Permanent, NotApplied, 0, 0, false}},
		{"a wrong password stays wrong", connecting(server(1045, "Access denied")), Result{Permanent, NotApplied, 1045, 0, false}},
		{"an account that the driver cannot log in stays so", connecting(mysql.ErrUnknownPlugin), Result{Permanent, NotApplied, 0, 0, false}},
		{"an interrupted run does not dial again", connecting(context.Canceled), Result{Connect, NotApplied, 0, 0, false}},
		{"1040 without the wrapper is a failed login all the same", server(1040, "Too many connections"), Result{Connect, NotApplied, 1040, 0, again}},

		{"the driver wrote nothing on a bad connection", driver.ErrBadConn, Result{Broken, NotApplied, 0, 0, again}},
		{"nor on one that is gone", sql.ErrConnDone, Result{Broken, NotApplied, 0, 0, again}},
		{"an invalid connection had been written to", mysql.ErrInvalidConn, Result{Broken, MayHaveBeen, 0, 0, again}},
		{"the end of the stream", io.EOF, Result{Broken, MayHaveBeen, 0, 0, again}},
		{"the end within a packet", io.ErrUnexpectedEOF, Result{Broken, MayHaveBeen, 0, 0, again}},
		{"a connection that we closed", net.ErrClosed, Result{Broken, MayHaveBeen, 0, 0, again}},
		{"a reset", op("read", syscall.ECONNRESET), Result{Broken, MayHaveBeen, 0, 0, again}},
		{"a broken pipe", op("write", syscall.EPIPE), Result{Broken, MayHaveBeen, 0, 0, again}},
		{"a packet out of order", mysql.ErrPktSync, Result{Broken, MayHaveBeen, 0, 0, again}},

		{"the client's deadline", context.DeadlineExceeded, Result{Timeout, MayHaveBeen, 0, 0, again}},
		{"the socket's deadline", op("read", os.ErrDeadlineExceeded), Result{Timeout, MayHaveBeen, 0, 0, again}},
		{"any network time-out", stalled{}, Result{Timeout, MayHaveBeen, 0, 0, again}},
		{"an interrupted run does not ask again", context.Canceled, Result{Timeout, MayHaveBeen, 0, 0, false}},

		{"the driver refuses a packet that is too large", mysql.ErrPktTooLarge, Result{Permanent, NotApplied, 0, 0, false}},
		{"an error of unknown kind may have come after the commit", errors.New("sql: Scan error"), Result{Permanent, MayHaveBeen, 0, 0, false}},
	} {
		t.Run(c.says, func(t *testing.T) {
			if got := Classify(c.err); got != c.want {
				t.Errorf("Classify(%v)\n got %v, retryable %v\nwant %v, retryable %v", c.err, got, got.Retryable, c.want, c.want.Retryable)
			}
		})
	}
}

// temporaryCodes are all codes that NDB 9.7.4 counts as temporary, 4115 apart
// (ndberror.cpp, classes NR, TR, OL, TO, NS, IT).
var temporaryCodes = []int{
	217, 218, 219, 221, 233, 234, 245, 250, 251, 270, 273, 275, 279, 280, 286, 288, 289, 291, 293, 312, 410, 414, 418, 419,
	488, 489, 490, 499, 631, 677, 701, 702, 711, 748, 780, 783, 784, 785, 786, 787, 788, 805, 830, 873, 891, 899, 909, 915,
	918, 919, 921, 923, 924, 925, 926, 1204, 1217, 1218, 1220, 1221, 1222, 1223, 1234, 1350, 1405, 1411, 1413, 1414, 1420,
	1427, 1501, 1518, 1703, 1705, 2810, 2811, 2815, 4002, 4006, 4007, 4010, 4013, 4021, 4022, 4023, 4025, 4027, 4028, 4029,
	4030, 4031, 4032, 4033, 4034, 4035, 4119, 4351, 5024, 5025, 20000, 20006, 20008, 20015, 20016, 21020,
}

// lockCodes are those of them that reach the client as MySQL 1205.
var lockCodes = []int{237, 266, 274, 296, 297, 635}

func TestEveryTemporaryCodeIsAbortedAndMayBeRetried(t *testing.T) {
	for class, codes := range map[Class][]int{Temporary: temporaryCodes, LockTimeout: lockCodes} {
		count := 0
		for _, e := range mysqlNDB.ndb {
			if e.result.Class == class {
				count++
			}
		}
		if count != len(codes) {
			t.Errorf("the table has %d codes of class %v, NDB has %d", count, class, len(codes))
		}
		for _, code := range codes {
			// By the table itself: a code that is missing would pass for
			// temporary through MySQL's number.
			got := mysqlNDB.ndb[uint16(code)].result
			if want := (Result{Class: class, Effect: NotApplied, Retryable: true}); got != want {
				t.Errorf("NDB %d is %v, retryable %v; want %v, retryable", code, got, got.Retryable, want)
			}
		}
	}
}

func TestRulesAreWhole(t *testing.T) {
	for name, rules := range map[string][]Rule{"server": serverRules(), "ndb": ndbRules()} {
		seen := map[uint16]bool{}
		for _, r := range rules {
			if r.Class == None || r.Source == "" || len(r.Codes) == 0 {
				t.Errorf("%s: rule %v of %q lacks class, source or codes", name, r.Class, r.Source)
			}
			if r.Effect == Applied && r.Retryable {
				t.Errorf("%s: rule %v repeats what has been applied", name, r.Class)
			}
			for _, c := range r.Codes {
				if seen[c.Number] {
					t.Errorf("%s: %d is in two rules", name, c.Number)
				}
				seen[c.Number] = true
				if c.Meaning == "" || c.Number == 0 {
					t.Errorf("%s: %d has no meaning", name, c.Number)
				}
			}
		}
	}
}

func TestTableWith(t *testing.T) {
	err := server(1205, "Lock wait timeout exceeded")
	rondb := MySQLNDB().With([]Rule{{
		Temporary, NotApplied, true, "logicalclocks/rondb PR #219", []Code{{1205, "lock wait or node failure"}},
	}}, nil)
	if got := rondb.Classify(err); got != (Result{Temporary, NotApplied, 1205, 0, true}) {
		t.Errorf("the new table says %v", got)
	}
	if got := rondb.Classify(temporary(4115)).Class; got != Committed {
		t.Errorf("the new table has lost 4115: %v", got)
	}
	if got := Classify(err).Class; got != LockTimeout {
		t.Errorf("the table that it was made from has changed: %v", got)
	}
	if got := (Table{}).Classify(server(1180, "Got error 157 during COMMIT")); got.OK() || got.Effect != MayHaveBeen {
		t.Errorf("an empty table takes an error for %v", got)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ says, got, want string }{
		{"a known code has a meaning", Meaning(4010), "the coordinator died, transaction aborted"},
		{"an unknown one says so", Meaning(9999), "unknown code"},
		{"a judgement names its source", MySQLNDB().Source(Classify(temporary(4115))), "storage/ndb/src/ndbapi/NdbTransaction.cpp, receiveTCKEY_FAILCONF"},
		{"a number's judgement too", MySQLNDB().Source(Classify(server(1053, ""))), manual},
		{"a result names all that is known", Classify(temporary(4010)).String(), "temporary, not_applied, MySQL 1297, NDB 4010"},
		{"a result of the network has no numbers", Classify(io.EOF).String(), "broken, may_have_been"},
		{"success is short", Result{}.String(), "ok"},
		{"a connect error says where", connecting(io.EOF).Error(), "open a session: connect to sql1 at 198.18.0.10:3306: EOF"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.says, c.got, c.want)
		}
	}
	seen := map[string]bool{None.String(): true}
	for _, class := range Classes {
		if name := class.String(); seen[name] || strings.HasPrefix(name, "class_") {
			t.Errorf("class %d is called %q", uint8(class), name)
		} else {
			seen[name] = true
		}
	}
	if len(seen) != int(Permanent)+1 {
		t.Errorf("Classes has %d names, there are %d classes", len(seen), Permanent+1)
	}
}

func TestParseNDB(t *testing.T) {
	for _, c := range []struct {
		says, message string
		code          uint16
		ok            bool
	}{
		{"temporary", "Got temporary error 4010 'Node failure caused abort of transaction' from NDBCLUSTER", 4010, true},
		{"not temporary", "Got error 4009 'Cluster Failure' from NDBCLUSTER", 4009, true},
		{"the engine's short name", "Got error 157 'Unknown error code' from NDB", 157, true},
		{"the engine's name in small letters", "Got error 157 'Unknown error code' from ndbcluster", 157, true},
		{"quotes and line ends in the text", "Got error 4350 'it's\nover' from NDBCLUSTER", 4350, true},
		{"another engine", "Got error 168 'Unknown (generic) error' from InnoDB", 0, false},
		{"a code that is no code", "Got error 99999 'x' from NDBCLUSTER", 0, false},
		{"zero is no code", "Got error 0 'No error' from NDBCLUSTER", 0, false},
		{"no text", "", 0, false},
	} {
		if code, ok := parseNDB(c.message); ok != c.ok || code != c.code {
			t.Errorf("%s: parseNDB(%q) = %d, %v", c.says, c.message, code, ok)
		}
	}
}

func FuzzParseNDB(f *testing.F) {
	for _, s := range []string{
		"Got temporary error 4010 'Node failure caused abort of transaction' from NDBCLUSTER",
		"Got error 4009 'Cluster Failure' from NDB",
		"Got error 125 - 'rolled back' during COMMIT",
		"Got error 125 during COMMIT",
		"Got error 65536 '' from NDB",
		"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, message string) {
		for _, number := range []uint16{errDuringCommit, errEngine, errEngineTemporary} {
			r := Classify(server(number, message))
			if r.OK() {
				t.Errorf("error %d with text %q passes for success", number, message)
			}
			if r.MySQL != number {
				t.Errorf("error %d with text %q is said to be %d", number, message, r.MySQL)
			}
			if r.NDB != 0 && !bytes.Contains([]byte(message), fmt.Appendf(nil, "%d", r.NDB)) {
				t.Errorf("code %d is not in %q", r.NDB, message)
			}
			if r.Effect == Applied && r.Class != Committed {
				t.Errorf("error %d with text %q counts as applied: %v", number, message, r)
			}
		}
	})
}
