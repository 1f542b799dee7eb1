package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Command makes and takes back a fault by programs that the scenario names: a
// switch's port, a hypervisor's power button, a script of the administrator's. It
// is for what no other kind can do on a target.
//
// The programs run on the harness's machine, once for each node at the same time,
// with no shell between. They learn from their environment what they are for:
// MAILBENCH_STEP (inject, recover, effect or redundant), MAILBENCH_FAULT,
// MAILBENCH_NODE, MAILBENCH_NODE_ID, MAILBENCH_ROLE and MAILBENCH_HOST. Exit status
// 0 is success; of the probes, that it is so. A program that takes longer than the
// limit is killed, and what it has started in its process group with it.
//
// Recover must do no harm when there is nothing to take back, when it runs twice,
// or after half an inject: heal runs it from the journal alone, perhaps in another
// working directory and without the shell's settings of the run.
//
// The plan takes the fault for the loss of its nodes, as nobody can tell what a
// program does.
//
// Effect: the cluster counts every node as failed, or the probe effect says so of
// every node, or the clients feel it. Redundant is as for any fault and, where
// there is such a probe, that it says so of every node; before the injection, too.
const Command Kind = "command"

func describeCommand() Description {
	return Description{
		Kind:    Command,
		Summary: "programs of the scenario's, run on the harness's machine",
		Source:  "the scenario; mailbench, docs/external.md",
		Roles:   onAny(),
		Settings: []Setting{
			settingProgram(stepInject, "the program, with its arguments, that makes the fault", func(s *Settings) *[]string { return &s.Inject }).required(),
			settingProgram(stepRecover, "the one that takes it back, and does no harm where there is nothing to take back", func(s *Settings) *[]string { return &s.Recover }).required(),
			settingProgram(stepEffect, "one that succeeds once the fault has taken effect", func(s *Settings) *[]string { return &s.Effect }).orNothing("the cluster says so, or the clients feel it"),
			settingProgram(stepRedundant, "one that succeeds while nothing of the fault is left", func(s *Settings) *[]string { return &s.Redundant }).orNothing("the cluster alone says so"),
			settingLimit(),
		},
		Felt: true,
		Expect: func(t topology.Topology, p Planned) string {
			return "what the program makes of it; at the worst " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return &command{site: s, programs: machine{}} },
	}
}

// The steps that programs are for, which are the names of their settings.
const (
	stepInject    = "inject"
	stepRecover   = "recover"
	stepEffect    = "effect"
	stepRedundant = "redundant"
)

const (
	maxWords = 64
	maxWord  = 1000 // bytes
	// The longest limit is well within Timeouts.Act.
	minLimit, defaultLimit, maxLimit = time.Second, 30 * time.Second, 60 * time.Second

	probePoll = time.Second // between two runs of a probe
	maxSaid   = 4096        // bytes of a program's output that are kept, the last
	endGrace  = time.Second / 2
)

func settingProgram(name, doc string, field func(*Settings) *[]string) Setting {
	return Setting{
		Name: name, Doc: doc, Range: fmt.Sprintf("1 to %d words, the first an absolute path or a program of PATH", maxWords),
		isSet: func(s Settings) bool { return len(*field(&s)) > 0 },
		wrong: func(s Settings) bool { return wrongProgram(*field(&s)) },
	}
}

// wrongProgram refuses a path that means another file in another working
// directory, as heal may have.
func wrongProgram(argv []string) bool {
	if len(argv) > maxWords || argv[0] == "" || strings.Contains(argv[0], "/") && !filepath.IsAbs(argv[0]) {
		return true
	}
	for _, word := range argv {
		if len(word) > maxWord || strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return true
		}
	}
	return false
}

func settingLimit() Setting {
	return Setting{
		Name: "limit", Doc: "how long each of the programs may run", Range: fmt.Sprintf("%s to %s", minLimit, maxLimit), Default: defaultLimit.String(),
		isSet:   func(s Settings) bool { return s.Limit != 0 },
		wrong:   func(s Settings) bool { return s.Limit < minLimit || s.Limit > maxLimit },
		resolve: func(s *Settings) { s.Limit = defaultLimit },
	}
}

// namedProgram is a program and the step that it is for.
type namedProgram struct {
	name string
	argv []string
}

// commands are the programs that are set.
func (s Settings) commands() []namedProgram {
	var set []namedProgram
	for _, c := range []namedProgram{{stepInject, s.Inject}, {stepRecover, s.Recover}, {stepEffect, s.Effect}, {stepRedundant, s.Redundant}} {
		if len(c.argv) > 0 {
			set = append(set, c)
		}
	}
	return set
}

// quoted shows each word for itself.
func quoted(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = fmt.Sprintf("%q", word)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// Programs are the programs that a plan runs, as it prints them; none unless it
// has faults of the kind Command.
func (p Plan) Programs() []string {
	var lines []string
	for _, f := range p.Steps {
		for _, c := range f.Settings.commands() {
			lines = append(lines, fmt.Sprintf("%s: %s %s", f.ID, c.name, quoted(c.argv)))
		}
	}
	return lines
}

// programs finds and runs programs.
type programs interface {
	find(name string) error
	// run returns the last that the program printed.
	run(ctx context.Context, argv, environment []string) (said string, err error)
}

type command struct {
	site
	programs programs
}

func (f *command) Check(ctx context.Context) error {
	if err := f.site.Check(ctx); err != nil {
		return err
	}
	for _, c := range f.p.Settings.commands() {
		if err := f.programs.find(c.argv[0]); err != nil {
			return fmt.Errorf("the program that %s names cannot be run here: %w", c.name, err)
		}
	}
	return nil
}

func (f *command) Inject(ctx context.Context) error {
	return f.each(ctx, stepInject, f.p.Settings.Inject)
}

func (f *command) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f *command) Undo(ctx context.Context) error {
	if argv := f.p.Settings.Recover; len(argv) == 0 || wrongProgram(argv) {
		return fmt.Errorf("%w: nothing says which program takes the fault back", ErrNeedsPerson)
	}
	return f.each(ctx, stepRecover, f.p.Settings.Recover)
}

func (f *command) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	if len(f.p.Settings.Effect) == 0 {
		return f.site.AwaitEffect(ctx)
	}
	return first(ctx, f.site.AwaitEffect, func(ctx context.Context) (reference.Evidence, error) {
		return f.probe(ctx, stepEffect, f.p.Settings.Effect)
	})
}

func (f *command) AwaitRedundant(ctx context.Context) (reference.Evidence, error) {
	evidence, err := f.site.AwaitRedundant(ctx)
	if err != nil || len(f.p.Settings.Redundant) == 0 {
		return evidence, err
	}
	return f.probe(ctx, stepRedundant, f.p.Settings.Redundant)
}

// each runs a program for every node. What the target has heard of it before
// proves nothing after.
func (f *command) each(ctx context.Context, step string, argv []string) error {
	return f.act(f.p.Nodes, func(n topology.Node) error {
		if target, ok := f.target.(reference.Forgetter); ok {
			target.Forget(n.ID)
		}
		_, err := f.run(ctx, step, argv, n)
		return err
	})
}

// probe runs a program again and again until it succeeds for every node.
func (f *command) probe(ctx context.Context, step string, argv []string) (reference.Evidence, error) {
	return f.all(ctx, f.p.Nodes, func(ctx context.Context, id topology.ID) (reference.Evidence, error) {
		n, _ := f.target.Topology().ByID(id)
		for {
			said, err := f.run(ctx, step, argv, n)
			if err == nil {
				return reference.Evidence{At: time.Now(), Source: "command", Detail: detail(argv[0], said)}, nil
			}
			if waitErr := sleepUntil(ctx, time.Now().Add(probePoll)); waitErr != nil {
				return reference.Evidence{}, errors.Join(waitErr, err)
			}
		}
	})
}

func detail(program, said string) string {
	if said == "" {
		return filepath.Base(program) + " succeeded"
	}
	return filepath.Base(program) + ": " + said
}

// run runs a program for one node, within the limit.
func (f *command) run(ctx context.Context, step string, argv []string, n topology.Node) (said string, err error) {
	limit := f.p.Settings.Limit
	if limit <= 0 || limit > maxLimit {
		limit = defaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was killed after %s", limit))
	defer cancel()
	said, err = f.programs.run(ctx, argv, []string{
		"MAILBENCH_STEP=" + step, "MAILBENCH_FAULT=" + f.p.ID,
		"MAILBENCH_NODE=" + n.Name, fmt.Sprintf("MAILBENCH_NODE_ID=%d", n.ID), "MAILBENCH_ROLE=" + string(n.Role), "MAILBENCH_HOST=" + n.Host,
	})
	if err == nil {
		return said, nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if said != "" {
		err = fmt.Errorf("%w; it said: %s", err, said)
	}
	return said, fmt.Errorf("run %s of %s for node %s: %s: %w", step, f.p.ID, n.Name, quoted(argv), err)
}

// machine is the harness's own.
type machine struct{}

func (machine) find(name string) error {
	_, err := exec.LookPath(name)
	return err
}

// run runs a program in a process group of its own, so that an interrupt at the
// terminal does not reach it, and that what it has started ends with it.
func (machine) run(ctx context.Context, argv, environment []string) (string, error) {
	var said tail
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = "/" // the same for the run and for heal
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = endGrace
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MAILBENCH_") { // which may hold a password
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, environment...)
	err := c.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it succeeded, and left something running that holds its output
		err = nil
	}
	return said.line(), err
}

// tail keeps the last bytes that are written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-maxSaid):]...)
	t.kept = t.kept[max(0, len(t.kept)-maxSaid):]
	return len(p), nil
}

// line is what was kept in one line that is safe to print.
func (t *tail) line() string {
	const shown = 500
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(bytes.ToValidUTF8(t.kept, []byte("?"))))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > shown {
		text = "…" + string(runes[len(runes)-shown:])
	}
	return text
}
