package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailbench/mailbench/reference"
)

// ErrUnhealed is what errors wrap when a fault may still be there. The command
// then exits with 75 and tells its caller to heal.
var ErrUnhealed = errors.New("left unhealed")

// Healing is what Heal did about one fault.
type Healing struct {
	Fault    Planned            // without its times
	Evidence reference.Evidence // that the nodes take part again
	Err      error              // why it may not
}

func (h Healing) String() string {
	if h.Err != nil {
		return fmt.Sprintf("%s on %s: not healed: %v", h.Fault.ID, h.Fault.Names(), h.Err)
	}
	return fmt.Sprintf("%s on %s: undone; takes part again (%s: %s)", h.Fault.ID, h.Fault.Names(), h.Evidence.Source, h.Evidence.Detail)
}

// Heal undoes every fault that the journal's entries leave open, the last one
// first, then waits until their nodes take part again. All are undone before
// any is awaited, as one node may wait for another. It goes on past a fault
// that cannot be undone, and says what it did about each. It is idempotent.
//
// The error wraps ErrUnhealed if a fault may still be there. A journal that
// cannot be written, or nil, keeps Heal from nothing: the injection stands in
// it, so that the worst to come is to undo in vain. Ctx bounds the whole.
func Heal(ctx context.Context, entries []Entry, faults func(Planned) (Fault, error), journal StepJournal) ([]Healing, error) {
	note := func(p Planned, step string) error {
		if journal == nil {
			return nil
		}
		return journal.Append(p, step)
	}
	open := OpenFaults(entries)
	slices.Reverse(open)

	var journalErr error
	done := make([]Healing, len(open))
	built := make([]Fault, len(open))
	for i, p := range open {
		done[i].Fault = p
		if built[i], done[i].Err = faults(p); done[i].Err != nil {
			continue
		}
		journalErr = errors.Join(journalErr, note(p, JournalUndo))
		if err := built[i].Undo(ctx); err != nil {
			done[i].Err = fmt.Errorf("undo: %w", err)
		}
	}
	var failed []error
	for i := range done {
		h := &done[i]
		if h.Err == nil {
			var err error
			for ends := 0; ; ends++ {
				h.Evidence, err = built[i].AwaitRecovered(ctx)
				if !errors.Is(err, ErrEnded) || ends == mostEnds {
					break
				}
				if undoErr := built[i].Undo(ctx); undoErr != nil {
					err = errors.Join(err, undoErr)
					break
				}
			}
			if err != nil {
				h.Err = fmt.Errorf("undone, but it does not take part again: %w", err)
			}
		}
		if h.Err != nil {
			failed = append(failed, fmt.Errorf("fault %s on %s: %w: %w", h.Fault.ID, h.Fault.Names(), ErrUnhealed, h.Err))
			continue
		}
		journalErr = errors.Join(journalErr, note(h.Fault, JournalHealed))
	}
	return done, errors.Join(append(failed, journalErr)...)
}

// HealOutside undoes, of the faults that the journal's entries leave open, those
// that programs have made outside of the cluster, the last one first: what is left
// to heal when the cluster is gone with all its nodes. It is idempotent. The error
// wraps ErrUnhealed if a fault may still be there. Journal may be nil.
func HealOutside(ctx context.Context, entries []Entry, journal StepJournal) ([]Planned, error) {
	var (
		undone   []Planned
		failures []error
		note     = func(p Planned, step string) {
			if journal != nil {
				failures = append(failures, journal.Append(p, step))
			}
		}
	)
	open := OpenFaults(entries)
	slices.Reverse(open)
	for _, p := range open {
		if p.Kind != Command {
			continue
		}
		note(p, JournalUndo)
		fault, err := Builder(nil, nil)(p)
		if err == nil {
			err = fault.Undo(ctx)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("fault %s on %s: %w: %w", p.ID, p.Names(), ErrUnhealed, err))
			continue
		}
		note(p, JournalHealed)
		undone = append(undone, p)
	}
	return undone, errors.Join(failures...)
}
