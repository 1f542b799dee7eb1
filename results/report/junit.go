package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/results"
)

// JUnit's elements, as CI systems read them: the common part of what Ant wrote
// and what others made of it (github.com/testmoapp/junitxml).
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr,omitempty"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit writes what run found as JUnit XML: a suite of the run's objectives, and
// one a fault with a case an objective, which fails if the fault alone took more
// than the whole budget. Nothing passes of a run that is inconclusive: an error
// says why it is, and what did not fail is skipped.
func JUnit(w io.Writer, run *results.Run) error {
	all := junitSuites{Name: "mailbench " + run.Scenario, Time: "0.000000"}
	if run.End != nil {
		all.Time = seconds(run.End.AtUS)
	}
	all.Suites = append(all.Suites, runSuite(run), objectiveSuite(run))
	for _, f := range run.Faults {
		all.Suites = append(all.Suites, faultSuite(run, &f))
	}
	for i := range all.Suites {
		s := &all.Suites[i]
		for k := range s.Cases {
			c := &s.Cases[k]
			if len(run.Reasons) > 0 && c.Failure == nil && c.Error == nil {
				c.Skipped = &junitMessage{Message: "the run is inconclusive"}
			}
		}
	}
	return all.write(w)
}

// write counts the cases and encodes them.
func (all *junitSuites) write(w io.Writer) error {
	for i := range all.Suites {
		s := &all.Suites[i]
		for _, c := range s.Cases {
			s.Tests++
			switch {
			case c.Failure != nil:
				s.Failures++
			case c.Error != nil:
				s.Errors++
			case c.Skipped != nil:
				s.Skipped++
			}
		}
		all.Tests, all.Failures, all.Errors, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors, all.Skipped+s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func runSuite(run *results.Run) junitSuite {
	reliable := junitCase{Name: "the run can be relied upon", Class: run.Scenario}
	if len(run.Reasons) > 0 {
		reliable.Error = &junitMessage{Message: run.Reasons[0], Type: string(results.Inconclusive), Text: strings.Join(run.Reasons, "\n")}
	}
	ledger := junitCase{Name: "every acknowledged write is there", Class: run.Scenario}
	switch l := run.Ledger; {
	case l == nil:
		ledger.Skipped = &junitMessage{Message: "not read back"}
	case l.Broken() > 0:
		ledger.Failure = &junitMessage{
			Message: fmt.Sprintf("%s of %s do not hold what was acknowledged", count(l.Broken()), plural(l.Acknowledged, "key")), Type: string(results.DataLoss),
		}
	}
	answers := junitCase{Name: "no answer contradicts what was acknowledged", Class: run.Scenario}
	switch l := run.Ledger; {
	case l == nil:
		answers.Skipped = &junitMessage{Message: "not known: the ledger was not read back"}
	case l.Violations.Total() > 0:
		answers.Failure = &junitMessage{Message: violations(&l.Violations), Type: string(results.DataLoss)}
	}
	return junitSuite{Name: "run", Cases: []junitCase{reliable, ledger, answers}}
}

func objectiveSuite(run *results.Run) junitSuite {
	s := junitSuite{Name: "objectives"}
	for _, o := range run.Objectives {
		c := junitCase{Name: o.Name, Class: run.Scenario + ".objectives"}
		switch {
		case o.Total == 0:
			c.Skipped = &junitMessage{Message: "no events"}
		case o.Verdict == results.Violated && len(run.Reasons) == 0:
			c.Failure = &junitMessage{
				Message: fmt.Sprintf("%s good, %s wanted: %s of %s bad, %s of the budget",
					exactPercent(share(o.Good, o.Total)), exactPercent(o.Target), count(o.Bad), count(o.Total), percent(o.BudgetSpent)),
				Type: string(results.Violated),
			}
		}
		s.Cases = append(s.Cases, c)
	}
	return s
}

func faultSuite(run *results.Run, f *results.FaultResult) junitSuite {
	s := junitSuite{Name: "fault " + f.ID}
	took := ""
	if f.Spans.Redundant != nil {
		took = seconds(*f.Spans.Redundant)
	}
	for i, b := range f.Budgets {
		c := junitCase{
			Name: b.Objective, Class: run.Scenario + "." + f.ID, Time: took,
			Output: fmt.Sprintf("%s of %s: %s bad events, %s of the budget; outage %s, redundant after %s",
				f.Kind, f.Target, count(b.Bad), percent(b.BudgetSpent), outage(worst(*f)), microsOr(f.Spans.Redundant)),
		}
		switch o := run.Objectives[i]; {
		case f.InjectedAtUS == nil:
			c.Skipped = &junitMessage{Message: "the fault was not injected"}
		case len(run.Reasons) == 0 && o.Verdict == results.Violated && (b.BudgetSpent == nil || *b.BudgetSpent > 1_000_000):
			c.Failure = &junitMessage{
				Message: fmt.Sprintf("the fault alone took %s of the budget with %s bad events", percent(b.BudgetSpent), count(b.Bad)),
				Type:    string(results.Violated),
			}
		}
		s.Cases = append(s.Cases, c)
	}
	return s
}

// seconds writes microseconds as JUnit wants times.
func seconds(us int64) string {
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	return sign + strconv.FormatInt(us/1_000_000, 10) + "." + fmt.Sprintf("%06d", us%1_000_000)
}
