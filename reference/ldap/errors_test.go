package ldap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/ndberr"
)

func TestJudge(t *testing.T) {
	answer := func(code uint16) error { return goldap.NewError(code, errors.New("whatever")) }
	again := func(c ndberr.Class, e ndberr.Effect) ndberr.Result {
		return ndberr.Result{Class: c, Effect: e, Retryable: true}
	}
	permanent := ndberr.Result{Class: ndberr.Permanent, Effect: ndberr.NotApplied}
	for _, row := range []struct {
		sentence string
		err      error
		want     ndberr.Result
	}{
		{"no error is none", nil, ndberr.Result{}},
		{"a busy server is asked again", answer(goldap.LDAPResultBusy), again(ndberr.Temporary, ndberr.NotApplied)},
		{"one that ends, too", answer(goldap.LDAPResultUnavailable), again(ndberr.ShuttingDown, ndberr.NotApplied)},
		{"one that takes no writes sends elsewhere", answer(goldap.LDAPResultReferral), again(ndberr.NotReady, ndberr.NotApplied)},
		{"or is unwilling", answer(goldap.LDAPResultUnwillingToPerform), again(ndberr.NotReady, ndberr.NotApplied)},
		{"a directory that is not there may come", answer(goldap.LDAPResultNoSuchObject), again(ndberr.NotReady, ndberr.NotApplied)},
		{"who knows what befell the server", answer(goldap.LDAPResultOther), again(ndberr.Temporary, ndberr.MayHaveBeen)},
		{"what is not permitted stays so", answer(goldap.LDAPResultInsufficientAccessRights), permanent},
		{"what breaks the schema, too", answer(goldap.LDAPResultObjectClassViolation), permanent},
		{"a connection that broke may have carried the request", answer(goldap.ErrorNetwork), again(ndberr.Broken, ndberr.MayHaveBeen)},
		{"whatever the library calls it", errors.New("unable to read LDAP response packet"), again(ndberr.Broken, ndberr.MayHaveBeen)},
		{"even end of file", io.EOF, again(ndberr.Broken, ndberr.MayHaveBeen)},
		{"an answer that cannot be read", answer(goldap.ErrorUnexpectedResponse), again(ndberr.Broken, ndberr.MayHaveBeen)},
		{"a connection that was lost before sent nothing", notSent, again(ndberr.Broken, ndberr.NotApplied)},
		{"a late answer is a time-out", fmt.Errorf("%w (%w)", context.DeadlineExceeded, answer(goldap.ErrorNetwork)), again(ndberr.Timeout, ndberr.MayHaveBeen)},
		{"an interrupted run asks nobody again", context.Canceled, ndberr.Result{Class: ndberr.Timeout, Effect: ndberr.MayHaveBeen}},
		{"input that was refused stays refused", fmt.Errorf("too long: %w", fs.ErrInvalid), permanent},
		{"there is no greylist anywhere", ErrNoGreylist, permanent},
		{"nor a user", ErrNoUser, permanent},
		{"an entry that others change is like a lock", ErrConflict, again(ndberr.LockTimeout, ndberr.NotApplied)},
	} {
		if got := ndberr.Classify(judge(row.err)); got != row.want {
			t.Errorf("%s: got %v (again: %v), want %v (again: %v)", row.sentence, got, got.Retryable, row.want, row.want.Retryable)
		}
	}
	for _, refusal := range [...]error{accounts.ErrExists, accounts.ErrNotFound, accounts.ErrState} {
		if verdict, err := accounts.VerdictOf(judge(fmt.Errorf("an address: %w", refusal))); verdict == accounts.NoAnswer || err != nil {
			t.Errorf("%v is an answer, but became %v, %v", refusal, verdict, err)
		}
	}
}
