package results

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/chaos"
)

// LedgerKind says what a key of the ledger is of.
type LedgerKind string

// The kinds.
const (
	Triplet    LedgerKind = "triplet"    // of the greylist
	Credit     LedgerKind = "credit"     // a client's, of the auto-whitelist
	Preference LedgerKind = "preference" // one key of one user
	AccountKey LedgerKind = "account"    // where an account is, or where its mail goes on to
)

// LedgerKinds lists all kinds in the order in which reports show them.
var LedgerKinds = [...]LedgerKind{Triplet, Credit, Preference, AccountKey}

// LedgerVerdict says what became of a key with an acknowledged write.
type LedgerVerdict string

// The verdicts on a key.
const (
	Verified      LedgerVerdict = "verified"    // what was acknowledged last, or a later write, is there
	Lost          LedgerVerdict = "lost"        // nothing is there, or what nobody wrote
	Stale         LedgerVerdict = "stale"       // what an acknowledged write has replaced is there
	Resurrected   LedgerVerdict = "resurrected" // what an acknowledged write has removed is there
	LedgerUnknown LedgerVerdict = "unknown"     // the key could not be read
)

// Broken says that what was acknowledged is not there.
func (v LedgerVerdict) Broken() bool { return v == Lost || v == Stale || v == Resurrected }

// Worse is the graver of two verdicts on a key.
func Worse(a, b LedgerVerdict) LedgerVerdict {
	order := [...]LedgerVerdict{Verified, LedgerUnknown, Stale, Resurrected, Lost}
	if slices.Index(order[:], a) < slices.Index(order[:], b) {
		return b
	}
	return a
}

// LedgerRow is one key that did not hold what was acknowledged, as it was read
// through one SQL node, or that no SQL node could read.
type LedgerRow struct {
	Kind    LedgerKind    `json:"kind"`
	User    string        `json:"user,omitempty"` // of a preference or an account
	Key     string        `json:"key"`            // of a triplet its key in hexadecimal, of a credit the client's address
	Verdict LedgerVerdict `json:"verdict"`
	Node    string        `json:"node,omitempty"` // that it was read through
	ReadUS  int64         `json:"read_us"`        // when it was read, since the anchor
	// AcknowledgedUS is when the earliest of the writes ended that are not there;
	// absent if what was stored before the run is not.
	AcknowledgedUS *int64 `json:"acknowledged_us,omitempty"`
	Wanted         string `json:"wanted,omitempty"`
	Found          string `json:"found,omitempty"`
}

func (r *LedgerRow) owner() [3]string { return [3]string{string(r.Kind), r.User, r.Key} }

// ViolationKind says how an answer contradicts what was acknowledged.
type ViolationKind string

// The kinds of violation.
const (
	WrongRoute      ViolationKind = "wrong_route"      // mail would go elsewhere, or be refused
	DeferredAgain   ViolationKind = "deferred_again"   // a recipient that has waited was deferred, or has to wait anew
	LetThrough      ViolationKind = "let_through"      // a recipient that has to wait was not deferred
	WrongPreference ViolationKind = "wrong_preference" // another value, perhaps another user's, or none
)

// ViolationKinds lists all kinds in the order in which reports show them.
var ViolationKinds = [...]ViolationKind{WrongRoute, DeferredAgain, LetThrough, WrongPreference}

// Violation is an op whose answer contradicts what was acknowledged before it.
type Violation struct {
	Violation ViolationKind `json:"violation"`
	Operation string        `json:"operation"`
	Message   uint64        `json:"message"` // number of the message or of the webmail action
	Recipient uint16        `json:"recipient"`
	Try       uint16        `json:"try"`
	User      string        `json:"user"` // the address, or whose preferences were read
	Node      string        `json:"node"` // that answered
	AtUS      int64         `json:"at_us"`
	// AcknowledgedUS is as in LedgerRow.
	AcknowledgedUS *int64 `json:"acknowledged_us,omitempty"`
	Wanted         string `json:"wanted"`
	Found          string `json:"found"`
}

// ReadBack is one reading of all keys through one SQL node.
type ReadBack struct {
	After  string `json:"after"` // the fault after which it was, "" for the end of the run
	Node   string `json:"node"`
	AtUS   int64  `json:"at_us"` // when it began, since the anchor
	TookUS int64  `json:"took_us"`
	Keys   int64  `json:"keys"`   // that were read
	Broken int64  `json:"broken"` // of these, not as acknowledged
	Unread int64  `json:"unread"` // that were not read: the node did not answer, or the next fault or the end came before
}

// LedgerCounts counts keys. Acknowledged is the sum of the others.
type LedgerCounts struct {
	Acknowledged int64 `json:"acknowledged"`
	Verified     int64 `json:"verified"`
	Lost         int64 `json:"lost"`
	Stale        int64 `json:"stale"`
	Resurrected  int64 `json:"resurrected"`
	// Allowed are keys whose only missing writes are newer than the global
	// checkpoint that a restart of the whole cluster went back to. The recording
	// counts them as lost, stale or resurrected; only a Run tells them apart.
	Allowed int64 `json:"allowed"`
	Unknown int64 `json:"unknown"`
}

// Broken is how many keys do not hold what was acknowledged, and should.
func (c *LedgerCounts) Broken() int64 { return c.Lost + c.Stale + c.Resurrected }

func (c *LedgerCounts) of(v LedgerVerdict) *int64 {
	switch v {
	case Verified:
		return &c.Verified
	case Lost:
		return &c.Lost
	case Stale:
		return &c.Stale
	case Resurrected:
		return &c.Resurrected
	case LedgerUnknown:
		return &c.Unknown
	default:
		return nil
	}
}

func (c *LedgerCounts) add(v LedgerVerdict, n int64) error {
	of := c.of(v)
	if of == nil {
		return fmt.Errorf("ledger verdict %q is none of verified, lost, stale, resurrected, unknown", v)
	}
	*of += n
	c.Acknowledged += n
	return nil
}

func (c *LedgerCounts) fits() bool {
	return c.Acknowledged == c.Verified+c.Broken()+c.Allowed+c.Unknown
}

// LedgerSummary is what became of all keys, by kind: of a key that was read
// several times the worst.
type LedgerSummary map[LedgerKind]*LedgerCounts

// Add counts a key.
func (s LedgerSummary) Add(kind LedgerKind, v LedgerVerdict) error {
	if !slices.Contains(LedgerKinds[:], kind) {
		return fmt.Errorf("ledger kind %q is none of triplet, credit, preference, account", kind)
	}
	if s[kind] == nil {
		s[kind] = new(LedgerCounts)
	}
	return s[kind].add(v, 1)
}

// ledgerLine is a line of ledger.jsonl: one of these.
type ledgerLine struct {
	*LedgerRow
	Violation *Violation    `json:"saw,omitempty"`
	ReadBack  *ReadBack     `json:"read_back,omitempty"`
	Summary   LedgerSummary `json:"summary,omitempty"` // the last line
}

// Ledger is what a recording says of acknowledged writes.
type Ledger struct {
	Rows       []LedgerRow
	Violations []Violation
	ReadBacks  []ReadBack
	Summary    LedgerSummary // nil if the recording ended before the ledger was complete
}

// key is what all rows of one key say together.
type key struct {
	kind    LedgerKind
	verdict LedgerVerdict // the worst
	allowed bool          // each time that it was broken it may have been
}

// keys are those that have rows.
func (l *Ledger) keys(restores []Restore) map[[3]string]key {
	keys := map[[3]string]key{}
	for i := range l.Rows {
		r := &l.Rows[i]
		k, seen := keys[r.owner()]
		if !seen {
			k = key{r.Kind, Verified, true}
		}
		k.verdict = Worse(k.verdict, r.Verdict)
		k.allowed = k.allowed && (!r.Verdict.Broken() || mayBeLost(restores, r.AcknowledgedUS, r.ReadUS))
		keys[r.owner()] = k
	}
	return keys
}

// check finds what contradicts itself.
func (l *Ledger) check() error {
	for _, r := range l.Rows {
		if err := (LedgerSummary{}).Add(r.Kind, r.Verdict); err != nil {
			return err
		}
	}
	rows := LedgerSummary{}
	for _, k := range l.keys(nil) {
		if err := rows.Add(k.kind, k.verdict); err != nil {
			return err
		}
	}
	for _, v := range l.Violations {
		if !slices.Contains(ViolationKinds[:], v.Violation) {
			return fmt.Errorf("violation %q is none of wrong_route, deferred_again, let_through, wrong_preference", v.Violation)
		}
	}
	for kind, told := range l.Summary {
		seen := rows[kind]
		if seen == nil {
			seen = new(LedgerCounts)
		}
		if told == nil || !told.fits() || told.Allowed != 0 ||
			told.Lost != seen.Lost || told.Stale != seen.Stale || told.Resurrected != seen.Resurrected || told.Unknown != seen.Unknown {
			return fmt.Errorf("its summary of kind %s, %+v, does not fit its rows, which have %+v", kind, told, *seen)
		}
	}
	return nil
}

// LedgerResult is the ledger of a Run.
type LedgerResult struct {
	LedgerCounts
	Kinds      map[LedgerKind]LedgerCounts `json:"kinds"`
	Violations ViolationCounts             `json:"violations"`
	ReadBacks  []ReadBack                  `json:"read_backs"`
	Restores   []Restore                   `json:"restores"` // restarts of the whole cluster
}

// ViolationCounts counts ops whose answers contradict what was acknowledged.
type ViolationCounts struct {
	WrongRoute      int64 `json:"wrong_route"`
	DeferredAgain   int64 `json:"deferred_again"`
	LetThrough      int64 `json:"let_through"`
	WrongPreference int64 `json:"wrong_preference"`
	Allowed         int64 `json:"allowed"` // all kinds: what they miss is newer than the restored checkpoint
}

// Total is without those allowed.
func (c *ViolationCounts) Total() int64 {
	return c.WrongRoute + c.DeferredAgain + c.LetThrough + c.WrongPreference
}

func (c *ViolationCounts) of(kind ViolationKind) *int64 {
	switch kind {
	case WrongRoute:
		return &c.WrongRoute
	case DeferredAgain:
		return &c.DeferredAgain
	case LetThrough:
		return &c.LetThrough
	case WrongPreference:
		return &c.WrongPreference
	default:
		return nil
	}
}

// Restore is a restart of the whole cluster from disk.
type Restore struct {
	AtUS int64 `json:"at_us"`
	GCI  int64 `json:"gci"` // the global checkpoint that it went back to
	// DurableUS is until when acknowledged writes are certainly of that checkpoint
	// or an earlier one; null if no epoch tells.
	DurableUS *int64 `json:"durable_us"`
}

// systemRestart is the type of start in which all data nodes begin from their
// disks (NodeState::StartType of storage/ndb/include/kernel/NodeState.hpp).
const systemRestart = "1"

// SystemRestarts follows what data nodes say of their starts.
type SystemRestarts struct {
	starts map[string]string // type of start by node, as it was said last
}

// surePhase is from when a node knows what start it is: in its first phases it does
// not know yet whether others run, and says that it is a system restart.
const surePhase = 2

// Take returns the global checkpoint to which a node goes back, if an event says that
// it does so in a restart of the whole cluster. Each node says it separately.
func (s *SystemRestarts) Take(e chaos.Event) (gci int64, ok bool) {
	if s.starts == nil {
		s.starts = map[string]string{}
	}
	switch e.Name {
	case "StartPhaseCompleted":
		if phase, err := strconv.Atoi(e.Fields["phase"]); err == nil && phase >= surePhase {
			s.starts[e.Node] = e.Fields["starttype"]
		} else {
			delete(s.starts, e.Node)
		}
	case "StartREDOLog":
		gci, err := strconv.ParseInt(e.Fields["restorable_gci"], 10, 64)
		ok = err == nil && s.starts[e.Node] == systemRestart
		delete(s.starts, e.Node)
		return gci, ok
	}
	return 0, false
}

// restore gathers restarts of the whole cluster. What a node says for the first time
// within minutes belongs to the same restart as what others have said.
func (t *timeline) restore(e chaos.Event) {
	gci, ok := t.starts.Take(e)
	if !ok {
		return
	}
	const together = 2 * time.Minute
	if n := len(t.restores); n > 0 && e.At.Microseconds()-t.restores[n-1].AtUS < together.Microseconds() && !t.restored[e.Node] {
		t.restores[n-1].GCI = max(t.restores[n-1].GCI, gci)
		t.restored[e.Node] = true
		return
	}
	t.restores = append(t.restores, Restore{AtUS: e.At.Microseconds(), GCI: gci})
	t.restored = map[string]bool{e.Node: true}
}

// durable completes restores with the epochs that were learned before them.
func (t *timeline) durable(epochs []Epoch) {
	for i := range t.restores {
		x := &t.restores[i]
		for _, e := range epochs {
			if e.DispatchedUS < x.AtUS && e.GCI <= x.GCI && (x.DurableUS == nil || *x.DurableUS < e.DispatchedUS) {
				x.DurableUS = &e.DispatchedUS
			}
		}
	}
}

// mayBeLost says whether a write that ended at one time may rightly be missing at
// another: the whole cluster has restarted in between, and the write is not known
// to be of the checkpoint that was restored.
func mayBeLost(restores []Restore, acknowledged *int64, seen int64) bool {
	return acknowledged != nil && slices.ContainsFunc(restores, func(x Restore) bool {
		return *acknowledged < x.AtUS && x.AtUS < seen && x.DurableUS != nil && *acknowledged >= *x.DurableUS
	})
}

// judged is the ledger of a run; nil if nothing was written down of it.
func (l *Ledger) judged(restores []Restore) *LedgerResult {
	if l.Summary == nil && len(l.Rows)+len(l.Violations)+len(l.ReadBacks) == 0 {
		return nil
	}
	result := &LedgerResult{
		Kinds:     map[LedgerKind]LedgerCounts{},
		ReadBacks: append([]ReadBack{}, l.ReadBacks...), Restores: append([]Restore{}, restores...),
	}
	for kind, c := range l.Summary {
		result.Kinds[kind] = *c
	}
	for _, k := range l.keys(restores) {
		c := result.Kinds[k.kind]
		if l.Summary == nil { // a run that ended while the ledger was read back still knows its losses
			_ = c.add(k.verdict, 1) // check has seen each verdict
		}
		if k.verdict.Broken() && k.allowed {
			*c.of(k.verdict)--
			c.Allowed++
		}
		result.Kinds[k.kind] = c
	}
	for _, kind := range LedgerKinds {
		c := result.Kinds[kind]
		result.Acknowledged += c.Acknowledged
		result.Verified += c.Verified
		result.Lost += c.Lost
		result.Stale += c.Stale
		result.Resurrected += c.Resurrected
		result.Allowed += c.Allowed
		result.Unknown += c.Unknown
	}
	for _, v := range l.Violations {
		if mayBeLost(restores, v.AcknowledgedUS, v.AtUS) {
			result.Violations.Allowed++
			continue
		}
		*result.Violations.of(v.Violation)++
	}
	return result
}
