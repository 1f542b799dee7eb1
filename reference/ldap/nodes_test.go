package ldap

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

func TestContextCSN(t *testing.T) {
	const (
		early  = "20260101000000.000001Z#000000#001#000000"
		late   = "20260101000000.000002Z#000000#001#000000"
		later  = "20260101000000.000002Z#000001#001#000000"
		second = "20260101000000.000000Z#000000#002#000000"
	)
	for _, row := range []struct {
		sentence    string
		have, other []string
		want        bool
	}{
		{"nothing has all of nothing", nil, nil, true},
		{"the same is all", []string{early, second}, []string{second, early}, true},
		{"more is all", []string{late, second}, []string{early}, true},
		{"within a microsecond the count decides", []string{late}, []string{later}, false},
		{"an earlier change is not all", []string{early, second}, []string{late, second}, false},
		{"nothing of a provider is not all", []string{late}, []string{early, second}, false},
	} {
		have, err := parseContextCSN(row.have)
		if err != nil {
			t.Fatal(err)
		}
		other, err := parseContextCSN(row.other)
		if err != nil {
			t.Fatal(err)
		}
		if got := have.covers(other); got != row.want {
			t.Errorf("%s: got %v", row.sentence, got)
		}
		if both := latest(have, other); !both.covers(have) || !both.covers(other) {
			t.Errorf("%s: %v does not cover both", row.sentence, both)
		}
	}
	if _, err := parseContextCSN([]string{"20260101000000Z"}); err == nil {
		t.Error("a time alone is taken for a CSN")
	}
}

func FuzzParseContextCSN(f *testing.F) {
	f.Add("20260101000000.000001Z#000000#001#000000", "20260101000000.000001Z#000000#002#000000")
	f.Add("", "###")
	f.Fuzz(func(t *testing.T, a, b string) {
		c, err := parseContextCSN([]string{a, b})
		if err == nil && !c.covers(c) {
			t.Errorf("%v does not cover itself", c)
		}
	})
}

func TestEvent(t *testing.T) {
	n, dead := topology.Node{ID: 4, Name: "ldap1"}, errors.New("connection refused")
	for _, row := range []struct {
		sentence string
		wasDown  bool
		err      error
		name     string // "" for none
	}{
		{"a provider that answers on is no news", false, nil, ""},
		{"one that does not any more is", false, dead, EventDown},
		{"once", true, dead, ""},
		{"one that comes back is news", true, nil, EventUp},
	} {
		e, changed := event(n, row.wasDown, row.err)
		if changed != (row.name != "") || changed && (e.Name != row.name || e.Node != 4) {
			t.Errorf("%s: %+v, %v", row.sentence, e, changed)
		}
		if told := e.Fields["error"] != ""; changed && told != (row.err != nil) {
			t.Errorf("%s: fields %v", row.sentence, e.Fields)
		}
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, looks := time.Now(), 0
		e, err := await(t.Context(), "source", func() (string, error) {
			if looks++; looks < 3 {
				return "", errors.New("not yet")
			}
			return "detail", nil
		})
		if err != nil || e.Source != "source" || e.Detail != "detail" || e.At.Sub(began) != 2*awaitEvery {
			t.Errorf("evidence %+v, %v after %v", e, err, e.At.Sub(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = await(ctx, "source", func() (string, error) { return "", errors.New("ldap2 is behind") })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ldap2 is behind") {
			t.Errorf("error %v does not say what was in the way", err)
		}
	})
}
