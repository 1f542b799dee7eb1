package main

import (
	"errors"
	"syscall"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/external"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
)

// The exit codes beside those of a verdict (results.ExitCode). They follow
// sysexits.h where it has one. 2 is never used: make and a Go panic exit with
// it, and neither may look like a verdict.
const (
	exitUsage       = 64 // the command line is wrong
	exitInput       = 65 // a scenario or another input file is wrong
	exitUnavailable = 69 // no engine, no image, no cluster, or they cannot make a fault
	exitInternal    = 70 // anything else
	exitUnhealed    = 75 // a cluster or a fault is left; run mailbench heal
	exitInterrupted = 130
)

// usageError is a mistake on the command line.
type usageError struct{ error }

// verdictError makes a command exit with a verdict's code. It prints nothing:
// the verdict has been shown.
type verdictError struct{ verdict results.Verdict }

func (verdictError) Error() string { return "" }

// readerGone says that an error is but the end of whoever read our output. Beside a
// verdict it is not: that is not for the reader alone.
func readerGone(err error) bool {
	var verdict verdictError
	return errors.Is(err, syscall.EPIPE) && !errors.As(err, &verdict)
}

// exitCode maps an error to the process's exit code. What is gravest for the
// next step comes first: something that is left behind must be healed.
func exitCode(err error) int {
	var (
		verdict     verdictError
		usage       usageError
		interrupted *scenarios.InterruptedError
		input       *scenarios.InputError
		recording   *report.UnreadableError
		name        *scenarios.NameError
		taken       *scenarios.TakenError
		exists      *scenarios.ExistsError
		noEngine    *engine.UnavailableError
		noImage     *image.UnavailableError
		noCluster   *scenarios.StartError
		cannot      *scenarios.CheckError
		busy        *scenarios.BusyError
		spec        *scenarios.SpecError
		noEffect    *scenarios.NoEffectError
		permission  *scenarios.PermissionError
		unconfirmed *external.UnconfirmedError
		refused     *external.RefusedError
		unfit       *gate.UnfitError
		mismatch    *gate.MismatchError
		sides       *scenarios.SidesError
		regime      *scenarios.RegimeError
		died        *scenarios.DiedError
		resume      *scenarios.ResumeError
		search      *scenarios.SearchError
	)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, chaos.ErrUnhealed):
		return exitUnhealed
	case errors.As(err, &interrupted):
		return exitInterrupted
	case errors.As(err, &verdict):
		return results.ExitCode(verdict.verdict)
	case errors.As(err, &usage), errors.As(err, &name), errors.As(err, &taken), errors.As(err, &exists), errors.As(err, &spec), errors.As(err, &permission), errors.As(err, &sides), errors.As(err, &regime), errors.As(err, &resume),
		errors.As(err, &unconfirmed):
		return exitUsage
	case errors.As(err, &input), errors.As(err, &recording), errors.As(err, &unfit), errors.As(err, &mismatch):
		return exitInput
	case errors.As(err, &noEffect), errors.As(err, &search):
		return results.ExitCode(results.Inconclusive)
	case errors.As(err, &noEngine), errors.As(err, &noImage), errors.As(err, &noCluster), errors.As(err, &cannot), errors.As(err, &busy),
		errors.As(err, &refused), errors.As(err, &died),
		errors.Is(err, cluster.ErrNoCluster):
		return exitUnavailable
	default:
		return exitInternal
	}
}
