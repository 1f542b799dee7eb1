package ldap

import (
	"context"
	"errors"
	"io/fs"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/ndberr"
)

// Why a directory does not do what it is asked.
var (
	// ErrNoGreylist is in the error of every greylist check: triplets come and go by
	// the million, and a directory is made to be read. What is loaded of them is
	// dropped. A comparison leaves the path out.
	ErrNoGreylist = errors.New("a directory holds no greylist")
	// ErrNoUser says that there is neither account nor mailbox of that login, so
	// that there is no entry in which a preference could stand.
	ErrNoUser = errors.New("nobody has this login")
	// ErrConflict says that an entry was changed by others each time that it was
	// read and then to be written.
	ErrConflict = errors.New("the entry is changed all the time by others")
)

// meanings says what the result codes of RFC 4511 appendix A mean for an
// operation, where it is not that the same would fail again. No code but those is
// worth another try.
var meanings = map[uint16]ndberr.Result{
	goldap.LDAPResultOperationsError:    {Class: ndberr.Temporary, Effect: ndberr.NotApplied, Retryable: true},
	goldap.LDAPResultTimeLimitExceeded:  {Class: ndberr.Temporary, Effect: ndberr.NotApplied, Retryable: true},
	goldap.LDAPResultAdminLimitExceeded: {Class: ndberr.Temporary, Effect: ndberr.NotApplied, Retryable: true},
	goldap.LDAPResultBusy:               {Class: ndberr.Temporary, Effect: ndberr.NotApplied, Retryable: true},
	goldap.LDAPResultUnavailable:        {Class: ndberr.ShuttingDown, Effect: ndberr.NotApplied, Retryable: true},
	// A provider that takes no writes sends elsewhere, or says that it is unwilling
	// (slapd.conf(5), updateref, readonly).
	goldap.LDAPResultReferral:           {Class: ndberr.NotReady, Effect: ndberr.NotApplied, Retryable: true},
	goldap.LDAPResultUnwillingToPerform: {Class: ndberr.NotReady, Effect: ndberr.NotApplied, Retryable: true},
	// The base of a search: the directory is not there yet.
	goldap.LDAPResultNoSuchObject: {Class: ndberr.NotReady, Effect: ndberr.NotApplied, Retryable: true},
	// Whatever else befell the server: a full disk, a database without space.
	goldap.LDAPResultOther: {Class: ndberr.Temporary, Effect: ndberr.MayHaveBeen, Retryable: true},
}

// judge says what an operation's error means for whoever sent it, and lets
// errors pass that need no judgement: answers, input that was refused, and ends
// of contexts.
func judge(err error) error {
	for _, plain := range [...]error{
		fs.ErrInvalid, accounts.ErrNotFound, accounts.ErrExists, accounts.ErrState, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, plain) {
			return err
		}
	}
	var judged *ndberr.JudgedError
	if err == nil || errors.As(err, &judged) {
		return err
	}
	return &ndberr.JudgedError{Result: meaning(err), Err: err}
}

func meaning(err error) ndberr.Result {
	permanent := ndberr.Result{Class: ndberr.Permanent, Effect: ndberr.NotApplied}
	switch code, answered := resultCode(err); {
	case errors.Is(err, ErrConflict):
		return ndberr.Result{Class: ndberr.LockTimeout, Effect: ndberr.NotApplied, Retryable: true}
	case errors.Is(err, ErrNoGreylist), errors.Is(err, ErrNoUser):
		return permanent
	case !answered: // the library does not tell what broke the connection
		return ndberr.Result{Class: ndberr.Broken, Effect: ndberr.MayHaveBeen, Retryable: true}
	default:
		if m, ok := meanings[code]; ok {
			return m
		}
		return permanent
	}
}

// firstOfLibrary is where the library's own codes begin, which no server sends.
const firstOfLibrary = goldap.ErrorNetwork

// resultCode is what a server answered.
func resultCode(err error) (code uint16, answered bool) {
	var e *goldap.Error
	if errors.As(err, &e) && e.ResultCode < firstOfLibrary {
		return e.ResultCode, true
	}
	return 0, false
}

// isCode says whether a server answered with that code.
func isCode(err error, code uint16) bool {
	got, answered := resultCode(err)
	return answered && got == code
}

// notSent is the error of an operation on a connection that was lost before.
var notSent = &ndberr.JudgedError{
	Result: ndberr.Result{Class: ndberr.Broken, Effect: ndberr.NotApplied, Retryable: true},
	Err:    errors.New("the session's connection is lost; connect again"),
}
