package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/preferences"
)

var (
	busy   = &mysql.MySQLError{Number: 1297, Message: "Got temporary error 701 'System busy with other schema operation' from NDBCLUSTER"}
	syntax = &mysql.MySQLError{Number: 1064, Message: "You have an error in your SQL syntax"}
)

func TestRetry(t *testing.T) {
	for _, c := range []struct {
		sentence string
		errors   []error // of each try; the last one for ever
		tries    int
		want     error
	}{
		{"what succeeds is tried once", []error{nil}, 1, nil},
		{"what fails for good is tried once", []error{syntax}, 1, syntax},
		{"what is busy is tried until it succeeds", []error{busy, busy, busy, nil}, 4, nil},
		{"a failure for good ends the tries", []error{busy, syntax}, 2, syntax},
		// 50, 100, 200, 400, 800 ms and then a second each make 13 tries in 10 s.
		{"the context ends the tries", []error{busy}, 14, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			tries := 0
			err := retry(ctx, "try", func() error {
				tries++
				return c.errors[min(tries, len(c.errors))-1]
			})
			if tries != c.tries || !errors.Is(err, c.want) {
				t.Errorf("%s: got %d tries and %v, want %d and %v", c.sentence, tries, err, c.tries, c.want)
			}
			if errors.Is(c.want, context.DeadlineExceeded) && !errors.Is(err, busy) {
				t.Errorf("%s: %v does not hold the last error", c.sentence, err)
			}
		})
	}
}

func TestChunked(t *testing.T) {
	row := func(size int) []byte { return bytes.Repeat([]byte("x"), size) }
	rows := func(n, size int) (all [][]byte) {
		for range n {
			all = append(all, row(size))
		}
		return all
	}
	for _, c := range []struct {
		sentence string
		rows     [][]byte
		want     []int // rows a chunk
	}{
		{"no rows make no chunk", nil, nil},
		{"500 rows fit", rows(chunkRows, 1), []int{chunkRows}},
		{"the 501st starts a new one", rows(chunkRows+1, 1), []int{chunkRows, 1}},
		{"a chunk has at most 1 MiB", rows(5, chunkBytes/2), []int{2, 2, 1}},
		{"a row that is too big stands alone", append(rows(1, 2*chunkBytes), row(1), row(1)), []int{1, 2}},
	} {
		var got []int
		for chunk := range chunked(c.rows, func(b []byte) []any { return []any{b, int64(1)} }) {
			got = append(got, len(chunk))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", c.sentence, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, o := range []Options{{}, {Database: "a b"}, {Database: "a`; DROP"}, {Database: "a", Engine: "X Y"}} {
		if err := Install(t.Context(), []Admin{{Name: "sql1"}}, o); err == nil {
			t.Errorf("Install takes %+v", o)
		}
		if _, err := NewLoader([]Admin{{Name: "sql1"}}, o); err == nil {
			t.Errorf("NewLoader takes %+v", o)
		}
	}
	if err := Install(t.Context(), nil, Options{Database: "a"}); err == nil {
		t.Error("Install takes no node for enough")
	}
	l, err := NewLoader([]Admin{{Name: "sql1"}}, Options{Database: "a"}) // no DB: nothing may be sent
	if err != nil {
		t.Fatal(err)
	}
	err = l.LoadPreferences(t.Context(), []preferences.Row{{User: "u", Key: "k"}, {User: "", Key: "k"}})
	if !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a row without a user: got %v", err)
	}
}
