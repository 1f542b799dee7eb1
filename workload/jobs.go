package workload

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
)

// Job is what the staff does to one account: a new account, a move to another
// backend, or a forward with a copy. Its changes follow each other, and the rest
// is left when one is refused or has no answer.
type Job struct {
	Number  uint64        // in the day, from 0, counted apart from messages and actions
	At      time.Duration // virtual time since midnight, in whole microseconds
	Changes []accounts.Change
}

// Job makes job number of the day, in the window or not, without those before
// it. It is the zero Job if the day has fewer.
func (t *Trace) Job(number uint64) Job {
	minute, ok := minuteOf(&t.jobStarts, number)
	if !ok {
		return Job{}
	}
	return t.job(number, t.arrivalAt(streamJobArrival, number, minute))
}

func (t *Trace) job(number uint64, at time.Duration) Job {
	d := newDraws(t.seed, streamJob, number)
	p := t.population
	kind, account := int64(d.below(million)), d.below(p.Accounts)
	login, backend := p.Address(account), p.Backends[d.below(len(p.Backends))]
	j := Job{Number: number, At: at}
	switch {
	case kind < t.model.NewAccountPPM:
		// No account and no guess has this name.
		text := strconv.FormatUint(number, 10)
		j.Changes = []accounts.Change{{
			Action: accounts.Create, Login: "new" + text + "@" + p.Domain,
			Account: accounts.Account{FullName: "New " + text, Backend: backend},
		}}
	case kind < t.model.NewAccountPPM+t.model.MovePPM && backend != p.Backend(account):
		j.Changes = []accounts.Change{
			{Action: accounts.BeginMove, Login: login, Backend: backend},
			{Action: accounts.FinishMove, Login: login},
		}
	default:
		// No two jobs of a day forward to the same address, so that a lost write
		// shows.
		target := "f" + strconv.FormatUint(number, 10) + "@d" + strconv.Itoa(d.below(t.senders.Domains)) + ".example"
		j.Changes = []accounts.Change{{Action: accounts.SetForward, Login: login, Targets: []string{target}, KeepCopy: true}}
	}
	for i := range j.Changes {
		// Never 0, which is no id: number counts from 1 here.
		binary.BigEndian.PutUint64(j.Changes[i].ID[:], t.seed)
		binary.BigEndian.PutUint64(j.Changes[i].ID[8:], (number+1)<<8|uint64(i))
	}
	return j
}

func (j Job) appendCanonical(text func(string), number func(int)) {
	number(len(j.Changes))
	for _, c := range j.Changes {
		text(c.Action.String())
		text(c.Login)
		text(c.Account.Backend)
		text(c.Backend)
		number(len(c.Targets))
		for _, target := range c.Targets {
			text(target)
		}
	}
}

// What an acknowledged change of an account was about (Acknowledged.Key).
const (
	AccountHome    = "account home"    // the backend, and where a move leads to
	AccountForward = "account forward" // the addresses that mail is forwarded to
)

// AccountValues are what an account says for each key of Acknowledged.
func AccountValues(a accounts.Account) map[string]string {
	return map[string]string{
		AccountHome:    home(a.Backend, a.MovingTo),
		AccountForward: routing.JoinTargets(a.Targets),
	}
}

func home(backend, movingTo string) string {
	if movingTo == "" {
		return "on " + backend
	}
	return "moving to " + movingTo
}

// promise is what a change promises when it is acknowledged. to is where the job
// moves the account.
func promise(c accounts.Change, to string) (key, value string) {
	switch c.Action {
	case accounts.Create:
		return AccountHome, home(c.Account.Backend, "")
	case accounts.BeginMove:
		return AccountHome, home("", to)
	case accounts.FinishMove:
		return AccountHome, home(to, "")
	default:
		return AccountForward, routing.JoinTargets(c.Targets)
	}
}
