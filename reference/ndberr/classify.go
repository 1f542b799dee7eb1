package ndberr

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// ConnectError says that no session came about: the dial, the greeting or the
// login failed, so that no statement can have been sent. Whoever opens a
// session wraps every failure in it; Classify cannot tell a lost greeting from
// a lost answer by any other means.
type ConnectError struct {
	Node    string // name of the node, such as "sql1"
	Address string // host:port that was dialled
	Err     error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to %s at %s: %v", e.Node, e.Address, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// JudgedError is an error of a system that is no MySQL, with what the package
// that knows the system says it means. Classify takes its word.
type JudgedError struct {
	Result Result
	Err    error
}

func (e *JudgedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *JudgedError) Unwrap() error { return e.Err }

// Classify judges the error of an attempt by the table of MySQL NDB Cluster.
// It returns the zero Result for nil.
func Classify(err error) Result { return mysqlNDB.Classify(err) }

// Meaning says in a few words what an NDB code means, by the table of MySQL NDB
// Cluster.
func Meaning(code uint16) string { return mysqlNDB.Meaning(code) }

// Classify judges the error of an attempt. It returns the zero Result for nil.
//
// It takes the statement for the whole transaction, or for its end: an error of
// a procedure counts as one before the procedure's COMMIT. What it does not
// know is Permanent, and may have been applied unless a server refused it.
//
// Cancelling the context is a Timeout that is not retryable: it is the harness
// that stopped to wait, because the run is interrupted, and no KILL reaches the
// server, which may go on to commit.
//
// The driver hides what broke a connection: a read that exceeds the DSN's
// readTimeout surfaces as mysql.ErrInvalidConn, so Broken. Bound an attempt
// with a context's deadline for it to be a Timeout.
func (t Table) Classify(err error) Result {
	var (
		judged  *JudgedError
		connect *ConnectError
		op      *net.OpError
		server  *mysql.MySQLError
		network net.Error
	)
	switch {
	case err == nil:
		return Result{}
	case errors.As(err, &judged):
		return judged.Result

	// Nothing was sent.
	case errors.As(err, &connect):
		return t.classifyConnect(connect.Err)
	case errors.As(err, &op) && op.Op == "dial":
		return t.classifyConnect(err)
	case op == nil && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH)):
		// From a dialer of someone else's; on a read, EHOSTUNREACH comes inside
		// a net.OpError and ends a connection that was in use.
		return t.classifyConnect(err)

	case errors.As(err, &server):
		return t.classifyServer(server)

	case errors.Is(err, context.Canceled):
		return Result{Class: Timeout, Effect: MayHaveBeen}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Result{Class: Timeout, Effect: MayHaveBeen, Retryable: true}

	// The driver returns ErrBadConn only if it has written nothing; ErrConnDone
	// is what database/sql makes of the next use of such a connection.
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		return Result{Class: Broken, Effect: NotApplied, Retryable: true}
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, io.ErrShortWrite), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, mysql.ErrMalformPkt), errors.Is(err, mysql.ErrPktSync), errors.Is(err, mysql.ErrPktSyncMul):
		return Result{Class: Broken, Effect: MayHaveBeen, Retryable: true}

	case errors.As(err, &network) && network.Timeout():
		return Result{Class: Timeout, Effect: MayHaveBeen, Retryable: true}
	case op != nil: // whatever else befell a connection in use
		return Result{Class: Broken, Effect: MayHaveBeen, Retryable: true}

	case errors.Is(err, mysql.ErrPktTooLarge), errors.Is(err, fs.ErrInvalid): // the driver or the path's client refused to send it
		return Result{Class: Permanent, Effect: NotApplied}
	default:
		return Result{Class: Permanent, Effect: MayHaveBeen}
	}
}

// classifyConnect judges a failure before a session existed.
func (t Table) classifyConnect(err error) Result {
	r := Result{Class: Connect, Effect: NotApplied, Retryable: true}
	var server *mysql.MySQLError
	switch {
	case errors.As(err, &server):
		r.MySQL = server.Number
		r.NDB, _ = parseNDB(server.Message)
		switch server.Number {
		case 1044, 1045, 1129, 1130, 1698: // account, password or host refused
			r.Class, r.Retryable = Permanent, false
		}
	case errors.Is(err, context.Canceled): // the run is interrupted
		r.Retryable = false
	case errors.Is(err, mysql.ErrNoTLS), errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrNativePassword),
		errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrUnknownPlugin), errors.Is(err, mysql.ErrOldProtocol):
		r.Class, r.Retryable = Permanent, false
	}
	return r
}

// classifyServer judges what a server answered.
func (t Table) classifyServer(err *mysql.MySQLError) Result {
	r := Result{Class: Permanent, Effect: NotApplied} // refused, for a reason not in the table
	if e, ok := t.server[err.Number]; ok {
		r = e.result
	}
	code, found := parseNDB(err.Message)
	switch e, known := t.ndb[code]; {
	case err.Number == errDuringCommit:
		// The number in the text is a handler error, not an NDB code.
		r.Effect = MayHaveBeen
		switch handler, _ := parseCommit(err.Message); handler {
		case handlerRolledBack:
			r.Effect = NotApplied
		case handlerNoConnection:
			r.Class, r.Retryable = NoCluster, true
		}
	case found && known:
		r = e.result
	case !found && (err.Number == errEngine || err.Number == errEngineTemporary):
		// Without its code it may be any, 4115 and 4009 among them.
		r.Effect = MayHaveBeen
	}
	r.MySQL, r.NDB = err.Number, code
	return r
}

// MySQL error numbers whose text matters, and handler errors in the text of
// errDuringCommit (include/my_base.h).
const (
	errDuringCommit     = 1180
	errEngine           = 1296
	errEngineTemporary  = 1297
	handlerRolledBack   = 125
	handlerNoConnection = 157
)

// Texts of sql/handler.cc (ER_GET_ERRMSG, ER_GET_TEMPORARY_ERRMSG) and of
// ER_ERROR_DURING_COMMIT. The engine calls itself ndbcluster in one place and
// NDB in another.
var (
	engineText = regexp.MustCompile(`(?is)^Got (?:temporary )?error (\d+) '.*' from NDB(?:CLUSTER)?$`)
	commitText = regexp.MustCompile(`(?is)^Got error (\d+)(?: -? ?['"].*['"])? during COMMIT$`)
)

// parseNDB finds the NDB code in the text of MySQL error 1296 or 1297.
func parseNDB(message string) (code uint16, ok bool) { return parseCode(engineText, message) }

// parseCommit finds the handler error in the text of MySQL error 1180.
func parseCommit(message string) (code uint16, ok bool) { return parseCode(commitText, message) }

func parseCode(text *regexp.Regexp, message string) (uint16, bool) {
	m := text.FindStringSubmatch(message)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 10, 16)
	if err != nil || n == 0 {
		return 0, false
	}
	return uint16(n), true
}
