package workload

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"gotest.tools/v3/golden"
)

// written is a trace as a file.
func written(t testing.TB, tr *Trace, workers int) []byte {
	t.Helper()
	var b bytes.Buffer
	totals, err := WriteTrace(t.Context(), &b, tr, "berkeley-2008", workers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if totals.Bytes != int64(b.Len()) || totals.Messages != tr.Messages() || totals.Actions != tr.Actions() || totals.Jobs != tr.Jobs() {
		t.Fatalf("totals are %+v of %d bytes, the trace has %d messages, %d actions and %d jobs", totals, b.Len(), tr.Messages(), tr.Actions(), tr.Jobs())
	}
	return b.Bytes()
}

// opened is a file of bytes.
func opened(b []byte) (*TraceFile, error) {
	return NewTraceFile("some.mbt", bytes.NewReader(b), int64(len(b)))
}

func TestTraceFilesOfASeedNeverChange(t *testing.T) {
	var b bytes.Buffer
	windows := []Window{
		{0, time.Minute},
		{11*time.Hour + 30*time.Second + 1, 3 * time.Minute},
		{23*time.Hour + 59*time.Minute, time.Minute},
		{10 * time.Hour, 20 * time.Minute},
	}
	if !testing.Short() {
		windows = append(windows, Window{0, 24 * time.Hour})
	}
	for i, w := range windows {
		tr := newTrace(t, w.From, w.Duration)
		var first []byte
		counts := []int{1, 2, 7}
		if w.Duration > time.Hour {
			counts = []int{3} // a whole day takes its time
		}
		for _, workers := range counts {
			file := written(t, tr, workers)
			if first == nil {
				first = file
			}
			if !bytes.Equal(file, first) {
				t.Fatalf("window %v: %d workers write another file than %d", w, workers, counts[0])
			}
		}
		f, err := opened(first)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := f.SHA256(), tr.SHA256(); got != want {
			t.Errorf("window %v: the file has the items %s, the trace %s", w, got, want)
		}
		line := fmt.Sprintf("from %v for %v: items %s, file %x\n", w.From, w.Duration, f.SHA256(), sha256.Sum256(first))
		if i < 4 {
			b.WriteString(line)
		} else {
			golden.Assert(t, line, "tracefile-day.golden", "every recorded trace would change with it")
		}
	}
	golden.AssertBytes(t, b.Bytes(), "tracefile.golden", "every recorded trace would change with it; the file's hash alone changes with the compressor")
}

func TestParallelYieldsWhatAllDoes(t *testing.T) {
	tr := newTrace(t, 11*time.Hour+30*time.Second, 3*time.Minute)
	want := slices.Collect(tr.All())
	for _, workers := range []int{1, 2, 7} {
		if got := slices.Collect(tr.Parallel(workers)); !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers make other items", workers)
		}
	}
	before := runtime.NumGoroutine()
	for range tr.Parallel(7) {
		break
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines are left when nobody wants more items", n-before)
	}
}

func TestTheSameItemsMakeTheSameFile(t *testing.T) {
	dense := Berkeley2008()
	dense.MessagesPerDay = 200_000_000 // more in a minute than a block holds
	sparse := Berkeley2008()
	sparse.MessagesPerDay = 20_000 // a minute may have none
	for _, row := range []struct {
		sentence string
		model    Model
		window   Window
	}{
		{"an ordinary morning", Berkeley2008(), Window{9*time.Hour + 30*time.Second, 10 * time.Minute}},
		{"a day of few messages", sparse, Window{0, 24 * time.Hour}},
		{"a minute of two blocks, and what follows", dense, Window{11*time.Hour + 50*time.Second, 72 * time.Second}},
	} {
		tr, err := NewTrace(1, row.model, DefaultPopulation(1), row.window)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(written(t, tr, 3), writeItems(t, tr.Header("berkeley-2008"), slices.Collect(tr.All()))) {
			t.Errorf("%s: several workers write another file than one who is handed the items", row.sentence)
		}
	}
}

// oddItems are items that no model makes and a log may.
func oddItems() []Item {
	message := func(number uint64, at time.Duration, client, sender string, schedule uint8, recipients ...string) Item {
		m := &Message{Number: number, At: at, Sender: sender, Recipients: recipients, Schedule: schedule}
		if client != "" {
			m.Client = netip.MustParseAddr(client)
		}
		return Item{At: at, Message: m}
	}
	hundred := make([]string, 100)
	for i := range hundred {
		hundred[i] = fmt.Sprintf("%03d@x", i)
	}
	minute := time.Minute
	action := &Action{Number: 1 << 63, At: minute + 7, User: "no domain", Saves: []Save{{"key", ""}, {"", strings.Repeat("v", 1<<16-1)}}}
	action.At = minute + 7*time.Microsecond
	job := &Job{Number: 9, At: 3 * minute, Changes: []accounts.Change{
		{ID: [16]byte{1, 15: 2}, Action: accounts.Create, Login: "new@x", Account: accounts.Account{
			Aliases: []string{"a@x", "b@x"}, FullName: "Ü", Affiliation: "staff", Backend: "cyrus1", QuotaMB: 1<<32 - 1,
			Targets: []string{"t@y"}, KeepCopy: true, NoGreylist: true, SpamThreshold: 7,
		}},
		{ID: [16]byte{3}, Action: accounts.Rename, Login: "new@x", NewLogin: "newer@x", KeepOld: true},
		{ID: [16]byte{4}, Action: accounts.AddAlias, Login: "newer@x", Alias: "c@x"},
		{ID: [16]byte{5}, Action: accounts.SetForward, Login: "newer@x", Targets: []string{"p@q", ""}, KeepCopy: true},
		{ID: [16]byte{6}, Action: accounts.BeginMove, Login: "newer@x", Backend: "cyrus2"},
	}}
	return []Item{
		message(1<<64-1, 0, "192.0.2.1", "", 0, "postmaster"),
		message(0, 0, "192.0.2.1", "", 1, "a@b@c"),
		message(7, time.Microsecond, "2001:db8::1", "a@b", 2, "@", "x@", "@y", "0@x", "00@x", "007@x", "1000000000@x", "999999999@x", "12345678901234567890@x"),
		message(7, time.Microsecond, "::ffff:192.0.2.1", "A@B", 2, "a@b"), // the same number twice, and IPv4 in IPv6
		message(8, minute-time.Microsecond, "", "é\x00\n@\xff", 3, hundred...),
		message(9, minute, "192.0.2.1", "a@b", 5, strings.Repeat("x", 1<<16-1)),
		{At: action.At, Action: action},
		{At: job.At, Job: job},
		{At: 30 * 24 * time.Hour, Action: &Action{At: 30 * 24 * time.Hour, User: "late@x"}},
	}
}

func writeItems(t testing.TB, h TraceHeader, items []Item) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewTraceWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if err := w.Write(item); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTraceFileGivesBackWhatWasWritten(t *testing.T) {
	imported := TraceHeader{Seed: 5, Origin: "a log", Profile: berkeley2008(), Population: DefaultPopulation(7)}
	many := make([]Item, 70_000) // more than a block of one minute holds
	for i := range many {
		at := time.Duration(i) * time.Microsecond
		many[i] = Item{At: at, Action: &Action{Number: uint64(i), At: at, User: "u"}}
	}
	tr := newTrace(t, 11*time.Hour, 90*time.Second)
	for _, row := range []struct {
		sentence string
		header   TraceHeader
		items    []Item
		window   Window
	}{
		{"a model's items", tr.Header("berkeley-2008"), slices.Collect(tr.All()), tr.Window()},
		{"items that no model makes, over a month", imported, oddItems(), Window{0, 30*24*time.Hour + time.Minute}},
		{"more than fits a block", imported, many, Window{0, time.Minute}},
		{"a window without mail", TraceHeader{Profile: berkeley2008(), Population: DefaultPopulation(1), Window: Window{time.Hour, time.Hour}}, nil, Window{time.Hour, time.Hour}},
	} {
		f, err := opened(writeItems(t, row.header, row.items))
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		got := slices.Collect(f.All())
		if !reflect.DeepEqual(got, row.items) || f.Err() != nil {
			t.Errorf("%s: %d items come back otherwise than the %d were written, error %v", row.sentence, len(got), len(row.items), f.Err())
		}
		if f.Window() != row.window {
			t.Errorf("%s: the window is %v, want %v", row.sentence, f.Window(), row.window)
		}
		if err := f.Verify(); err != nil {
			t.Errorf("%s: %v", row.sentence, err)
		}
		want := row.header
		want.Window, want.Population.Peers = row.window, &want.Profile.Peers
		if !reflect.DeepEqual(f.Header(), want) {
			t.Errorf("%s: the header is %+v, want %+v", row.sentence, f.Header(), want)
		}
	}
}

func TestWhatATraceFileCannotHold(t *testing.T) {
	header := TraceHeader{Profile: berkeley2008(), Population: DefaultPopulation(1), Window: Window{0, time.Hour}}
	message := func(change func(*Message)) []Item {
		m := &Message{Recipients: []string{"r"}}
		change(m)
		return []Item{{At: m.At, Message: m}}
	}
	job := func(c accounts.Change) []Item { return []Item{{Job: &Job{Changes: []accounts.Change{c}}}} }
	for _, row := range []struct {
		sentence string
		items    []Item
		want     string
	}{
		{"an item that is nothing", []Item{{}}, "must be a message"},
		{"an item that is two things", []Item{{Message: &Message{Recipients: []string{"r"}}, Action: &Action{}}}, "must be a message"},
		{"a message to nobody", message(func(m *Message) { m.Recipients = nil }), "has 0 recipients"},
		{"a message to more than any server takes", message(func(m *Message) { m.Recipients = make([]string, 10_001) }), "has 10001 recipients"},
		{"an address of more than 64 KiB", message(func(m *Message) { m.Sender = strings.Repeat("s", 1<<16) }), "65536 bytes"},
		{"a client with a zone", message(func(m *Message) { m.Client = netip.MustParseAddr("fe80::1%eth0") }), "zone"},
		{"a schedule that nobody knows", message(func(m *Message) { m.Schedule = 255 }), "schedule 255"},
		{"a time within a microsecond", message(func(m *Message) { m.At = 1 }), "whole microseconds"},
		{"a time before midnight", message(func(m *Message) { m.At = -time.Second }), "must come at 0"},
		{"a time of another item", []Item{{At: time.Second, Message: &Message{Recipients: []string{"r"}}}}, "its item at 1s"},
		{"a change that does nothing", job(accounts.Change{}), "action"},
		{"a change with a time", job(accounts.Change{Action: accounts.Close, At: time.Unix(1, 0)}), "does not keep"},
		{"a change with an account that it does not take", job(accounts.Change{Action: accounts.Close, Account: accounts.Account{Backend: "b"}}), "does not keep"},
		{"items out of order in a minute", append(message(func(m *Message) { m.At = time.Second }), message(func(*Message) {})...), "after one at 1s"},
		{"items out of order over minutes", append(message(func(m *Message) { m.At = 2 * time.Minute }), message(func(*Message) {})...), "after one at 2m0s"},
		{"an item that is not in the window", message(func(m *Message) { m.At = time.Hour }), "not in the window"},
	} {
		w, err := NewTraceWriter(io.Discard, header)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range row.items {
			err = errors.Join(err, w.Write(item))
		}
		_, closing := w.Close()
		if err = errors.Join(err, closing); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want one with %q", row.sentence, err, row.want)
		}
	}
	for _, row := range []struct {
		sentence string
		spoil    func(*TraceHeader)
		want     string
	}{
		{"a profile without a name", func(h *TraceHeader) { h.Profile.Name = "" }, "name"},
		{"an origin of 1001 bytes", func(h *TraceHeader) { h.Origin = strings.Repeat("o", 1001) }, "Origin"},
		{"a model out of its range", func(h *TraceHeader) { h.Profile.Model.SpamPPM = -1 }, "SpamPPM"},
		{"a population out of its range", func(h *TraceHeader) { h.Population.Accounts = 0 }, "Accounts"},
		{"a window that ends after a year", func(h *TraceHeader) { h.Window.Duration = 367 * 24 * time.Hour }, "Window"},
	} {
		h := header
		row.spoil(&h)
		if _, err := NewTraceWriter(io.Discard, h); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want one with %q", row.sentence, err, row.want)
		}
	}
	w, err := NewTraceWriter(io.Discard, TraceHeader{Profile: berkeley2008(), Population: DefaultPopulation(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err == nil {
		t.Error("a file without items and without a window is written")
	}
}

func TestSlicesOfATraceFile(t *testing.T) {
	begin := 11 * time.Hour
	f, err := opened(written(t, newTrace(t, begin, 5*time.Minute), 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		window   Window
	}{
		{"the whole", Window{begin, 5 * time.Minute}},
		{"whole minutes", Window{begin + time.Minute, 2 * time.Minute}},
		{"a part of a minute", Window{begin + 90*time.Second, 20 * time.Second}},
		{"minutes that are cut at both ends", Window{begin + 59*time.Second + time.Microsecond, 122 * time.Second}},
		{"a nanosecond in which nothing comes", Window{begin + time.Minute + 1, 1}},
	} {
		s, err := f.Slice(row.window)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		want := newTrace(t, row.window.From, row.window.Duration)
		if got := slices.Collect(s.All()); !reflect.DeepEqual(got, slices.Collect(want.All())) {
			t.Errorf("%s: it has %d items that are not those of the trace of that window", row.sentence, len(got))
		}
		if s.Messages() != want.Messages() || s.Actions() != want.Actions() || s.Jobs() != want.Jobs() || s.SHA256() != want.SHA256() || s.Window() != row.window {
			t.Errorf("%s: it counts %d messages, %d actions and %d jobs, want %d, %d and %d", row.sentence,
				s.Messages(), s.Actions(), s.Jobs(), want.Messages(), want.Actions(), want.Jobs())
		}
	}
	for _, w := range []Window{{begin - 1, time.Minute}, {begin, 6 * time.Minute}, {begin, 0}, {-1, 1}} {
		if _, err := f.Slice(w); err == nil {
			t.Errorf("the slice %v is not in the file, yet there is one", w)
		}
	}
}

// A file holds little of the whole at a time, and seeks.
func TestReadingASliceReadsLittleOfTheFile(t *testing.T) {
	b := written(t, newTrace(t, 8*time.Hour, time.Hour), 0)
	r := &countingReader{r: bytes.NewReader(b)}
	f, err := NewTraceFile("some.mbt", r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Slice(Window{8*time.Hour + 20*time.Minute, time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for range s.All() {
	}
	if r.n > int64(len(b))/5 {
		t.Errorf("reading one of 60 minutes reads %d of %d bytes", r.n, len(b))
	}
	if r.largest > int64(len(b))/20 {
		t.Errorf("%d of %d bytes are read at once", r.largest, len(b))
	}
}

type countingReader struct {
	r          io.ReaderAt
	n, largest int64
}

func (c *countingReader) ReadAt(b []byte, at int64) (int, error) {
	c.n, c.largest = c.n+int64(len(b)), max(c.largest, int64(len(b)))
	return c.r.ReadAt(b, at)
}

func TestRetriesFromAFile(t *testing.T) {
	tr := newTrace(t, 11*time.Hour, 10*time.Second)
	f, err := opened(written(t, tr, 1))
	if err != nil {
		t.Fatal(err)
	}
	retries := 0
	for item := range f.All() {
		if item.Message == nil {
			continue
		}
		for try := 1; try <= 3; try++ {
			at, client, ok := f.Retry(item.Message, try)
			wantAt, wantClient, wantOK := tr.Retry(item.Message, try)
			if at != wantAt || client != wantClient || ok != wantOK {
				t.Fatalf("try %d of message %d is at %v from %v, that of the trace at %v from %v", try, item.Message.Number, at, client, wantAt, wantClient)
			}
			if ok {
				retries++
			}
		}
	}
	if retries == 0 {
		t.Error("nobody comes back")
	}
}

// seal makes a file's checksums right again after its blocks were changed: one
// of a hostile writer, not of a bad disk.
func resealHeader(b []byte) []byte {
	end := tracePreamble + int(binary.LittleEndian.Uint32(b[tracePreamble-4:]))
	binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], castagnoli))
	return b
}

func resealTrailer(b []byte) []byte {
	t := b[len(b)-traceTrailer:]
	sum := len(t) - len(traceEnd) - 4
	binary.LittleEndian.PutUint32(t[sum:], crc32.Checksum(t[:sum], castagnoli))
	return b
}

func TestBadTraceFiles(t *testing.T) {
	whole := written(t, newTrace(t, 11*time.Hour, 2*time.Second), 1)
	two := written(t, newTrace(t, 11*time.Hour, 3*time.Minute), 1) // of two blocks
	blocks := func(b []byte) (offsets []int64) {
		f, err := opened(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range f.entries {
			offsets = append(offsets, e.offset)
		}
		return offsets
	}
	first := blocks(whole)[0]
	second := blocks(two)[1]
	changed := func(b []byte, at int64, to ...byte) []byte {
		b = slices.Clone(b)
		if at < 0 {
			at += int64(len(b))
		}
		copy(b[at:], to)
		return b
	}
	model := int64(bytes.Index(whole, []byte("messages_per_day")))
	for _, row := range []struct {
		sentence string
		file     []byte
		offset   int64
		want     string
	}{
		{"an empty file", nil, 0, "empty"},
		{"a text", []byte("From: somebody\n"), 0, "not a trace file"},
		{"binary garbage", bytes.Repeat([]byte{0x1f, 0x8b, 0, 0xff}, 100), 0, "not a trace file"},
		{"another file of this program", append([]byte("MBSAMPLE"), 1, 0, 0, 0), 0, "not a trace file"},
		{"a file of a later version", changed(whole, 8, 2), 8, "version 2"},
		{"a header that claims a GiB", changed(whole, 12, 0, 0, 0, 0x40), 12, "at most 1048576"},
		{"a file that ends within its magic", whole[:5], 5, "ends within its header"},
		{"a file that ends within its header", whole[:60], 60, "ends within its header"},
		{"a header that was altered", changed(whole, 20, 99), 0, "header does not match"},
		{"a profile with a field that is not known", resealHeader(changed(whole, model, 'X')), 16, "the program that wrote the file"},
		{"a file that ends within a block", whole[:first+100], first, "cut short"},
		{"a file that ends within its second block", two[:second+100], second, "the last whole block ends with an item at 11h1m59"},
		{"a file that ends within its trailer", whole[:len(whole)-1], int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "no whole trailer"},
		{"bytes after the end", append(slices.Clone(whole), 0), int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "no whole trailer"},
		{"a trailer that was altered", changed(whole, -traceTrailer, 1), int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "no whole trailer"},
		{"a trailer whose index lies elsewhere", resealTrailer(changed(whole, -traceTrailer+80, 1)), int64(len(whole)) - traceTrailer, "does not fit a file"},
		{"a trailer with other totals", resealTrailer(changed(whole, -traceTrailer+16, 1)), int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "does not fit the trailer"},
		{"a trailer with a window that the items are not in", resealTrailer(changed(whole, -traceTrailer+8, 1, 0, 0, 0, 0, 0, 0, 0)), int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "not in the file's window"},
		{"an index that was altered", changed(whole, -traceTrailer-1, 99), int64(len(whole)) - traceTrailer - int64(indexLength(whole)), "index does not match"},
		{"a block's header that was altered", changed(whole, first+9, 99), first, "header does not match"},
		{"a block that was altered", changed(whole, first+traceBlockHeader+50, 99, 98, 97), first, "block does not match"},
	} {
		f, err := opened(row.file)
		if err == nil {
			err = f.Verify()
		}
		var wrong *TraceFileError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: error %v, want one of the file", row.sentence, err)
			continue
		}
		if wrong.File != "some.mbt" || wrong.Offset != row.offset || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want one of byte %d with %q", row.sentence, err, row.offset, row.want)
		}
	}
}

func indexLength(b []byte) int {
	f, _ := decodeTraceFoot(b[len(b)-traceTrailer:])
	return int(f.indexLength)
}

func TestNoTruncationAndNoAlteredByteGoesUnseen(t *testing.T) {
	whole := written(t, newTrace(t, 11*time.Hour, 300*time.Millisecond), 1)
	refused := func(b []byte) error {
		f, err := opened(b)
		if err == nil {
			err = f.Verify()
		}
		var wrong *TraceFileError
		if err != nil && (!errors.As(err, &wrong) || wrong.Offset < 0 || wrong.Offset > int64(len(b))) {
			t.Fatalf("error %v does not name a byte of the file", err)
		}
		return err
	}
	if err := refused(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if refused(whole[:n]) == nil {
			t.Fatalf("the first %d of %d bytes pass for a whole file", n, len(whole))
		}
		altered := slices.Clone(whole)
		altered[n] ^= 1 << (n % 8)
		if refused(altered) == nil {
			t.Fatalf("byte %d of %d was altered, and nobody saw it", n, len(whole))
		}
	}
}

// A replay that a file feeds ends with its error.
func TestAFileThatChangesWhileItIsRead(t *testing.T) {
	b := written(t, newTrace(t, 11*time.Hour, 3*time.Minute), 1)
	f, err := opened(b)
	if err != nil {
		t.Fatal(err)
	}
	b[f.entries[1].offset+traceBlockHeader+5] ^= 1
	n := int64(0)
	for range f.All() {
		n++
	}
	if n != f.entries[0].items() {
		t.Errorf("%d items come from a file whose first block has %d and whose second is wrong", n, f.entries[0].items())
	}
	if err := f.Err(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", f.entries[1].offset)) {
		t.Errorf("error %v does not name the second block", err)
	}
}

func TestReplayOfAFileIsThatOfItsTrace(t *testing.T) {
	window := Window{11 * time.Hour, time.Second}
	var want []Sample
	for _, fromFile := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			out := &samples{}
			r := newReplay(t, Berkeley2008(), window, &fakeTarget{}, out, mta(1, 2), webmail(1, 2))
			if fromFile {
				f, err := opened(written(t, r.Trace.(*Trace), 2))
				if err != nil {
					t.Fatal(err)
				}
				r.Trace = f
			}
			if _, err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(out.all, func(a, b Sample) int {
				return cmp.Or(cmp.Compare(a.Intended, b.Intended), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Recipient, b.Recipient), cmp.Compare(a.Operation, b.Operation))
			})
			switch {
			case !fromFile:
				want = out.all
			case len(want) < 100 || !reflect.DeepEqual(out.all, want):
				t.Errorf("%d samples of the file are not the %d of the trace", len(out.all), len(want))
			}
		})
	}
}

func TestReplayEndsWithTheErrorOfItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplay(t, Berkeley2008(), Window{11 * time.Hour, time.Second}, &fakeTarget{}, &samples{}, mta(1), webmail(1))
		b := written(t, r.Trace.(*Trace), 1)
		f, err := opened(b)
		if err != nil {
			t.Fatal(err)
		}
		b[f.entries[0].offset+traceBlockHeader] ^= 1
		r.Trace = f
		var wrong *TraceFileError
		if _, err := r.Run(t.Context()); !errors.As(err, &wrong) {
			t.Errorf("error %v, want that of the file", err)
		}
	})
}

func TestOpenTrace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.mbt")
	if err := os.WriteFile(path, written(t, newTrace(t, 0, time.Second), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenTrace(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Verify(), f.Close()); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{dir, filepath.Join(dir, "none.mbt")} {
		if _, err := OpenTrace(wrong); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("error %v does not name %s", err, wrong)
		}
	}
}

func TestWriteTraceStops(t *testing.T) {
	tr := newTrace(t, 11*time.Hour, time.Hour)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err := WriteTrace(ctx, io.Discard, tr, "p", 2, func(done, total int) {
		if total != 60 {
			t.Errorf("an hour has %d minutes", total)
		}
		if done > 3 {
			cancel(enough)
		}
	})
	if !errors.Is(err, enough) {
		t.Errorf("error %v, want that of the context", err)
	}
	full := errors.New("disk full")
	if _, err := WriteTrace(t.Context(), &failingWriter{after: 2, err: full}, tr, "p", 2, nil); !errors.Is(err, full) {
		t.Errorf("error %v, want that of the disk", err)
	}
}

type failingWriter struct {
	after int
	err   error
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.after--; w.after < 0 {
		return 0, w.err
	}
	return len(b), nil
}

func TestStatsOf(t *testing.T) {
	message := func(at time.Duration, legitimate bool, client, sender string, schedule uint8, recipients ...string) Item {
		return Item{At: at, Message: &Message{At: at, Legitimate: legitimate, Client: netip.MustParseAddr(client), Sender: sender, Schedule: schedule, Recipients: recipients}}
	}
	second := time.Second
	f, err := opened(writeItems(t, TraceHeader{Profile: berkeley2008(), Population: DefaultPopulation(1)}, []Item{
		message(70*second, true, "192.0.2.1", "a@x", 1, "r", "s"),
		message(80*second, true, "192.0.2.1", "b@x", 1, "r"),
		message(90*second, false, "192.0.2.2", "", 0, "nobody"),
		{At: 130 * second, Action: &Action{At: 130 * second, Saves: []Save{{"k", "v"}}}},
		{At: 131 * second, Job: &Job{At: 131 * second}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := StatsOf(t.Context(), f, func(address string) bool { return address != "nobody" })
	if err != nil {
		t.Fatal(err)
	}
	want := &TraceStats{
		Window: Window{time.Minute, 2 * time.Minute}, Messages: 3, Tries: 4, Actions: 1, Jobs: 1, Saving: 1, Legitimate: 2, LegitimateT: 3,
		Unknown: 1, NullSenders: 1, Schedules: make([]int64, len(schedules)), Minutes: []MinuteStats{{3, 2}, {0, 0}},
		Clients:    Popularity{Total: 3, Distinct: 2, Top: []Appearances{{"192.0.2.1", 2}, {"192.0.2.2", 1}}},
		Domains:    Popularity{Total: 3, Distinct: 2, Top: []Appearances{{"x", 2}, {"", 1}}},
		Recipients: Popularity{Total: 4, Distinct: 3, Top: []Appearances{{"r", 2}, {"nobody", 1}, {"s", 1}}},
	}
	want.Schedules[0], want.Schedules[1] = 1, 2
	if !reflect.DeepEqual(got, want) {
		t.Errorf("stats are\n%+v, want\n%+v", got, want)
	}
	if got.Retrying() != 2 || got.Recipients.Share(2) != 3 || got.Recipients.Share(100) != 4 {
		t.Errorf("%d come back, the first two recipients have %d", got.Retrying(), got.Recipients.Share(2))
	}
	if got, err := StatsOf(t.Context(), f, nil); err != nil || got.Unknown != -1 {
		t.Errorf("nobody knows the recipients, yet %d are unknown (error %v)", got.Unknown, err)
	}
}

func TestPopulationHas(t *testing.T) {
	p := DefaultPopulation(1)
	for _, i := range []int{0, 7, p.Accounts - 1} {
		if !p.Has(p.Address(i)) {
			t.Errorf("account %d is not known", i)
		}
	}
	for _, address := range []string{"", "@", p.guess(5), "new1@" + p.Domain, "zoe0@" + p.Domain, "0@" + p.Domain, p.Address(p.Accounts), p.Address(1) + "x", "x" + p.Address(1)} {
		if p.Has(address) {
			t.Errorf("%q is known, and no account has it", address)
		}
	}
}

func FuzzTraceFile(f *testing.F) {
	f.Add(written(f, newTrace(f, 11*time.Hour, 100*time.Millisecond), 1))
	f.Add(writeItems(f, TraceHeader{Profile: berkeley2008(), Population: DefaultPopulation(1)}, oddItems()[:5]))
	f.Add([]byte(traceMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := opened(b)
		if err != nil {
			return
		}
		_ = file.Verify()
	})
}

// FuzzTraceBlock gives the decoder payloads whose checksums are right. What it
// takes must be written as the same items again.
func FuzzTraceBlock(f *testing.F) {
	seed := func(items []Item) {
		w, err := newTraceBlockWriter()
		if err != nil {
			f.Fatal(err)
		}
		b, e, err := w.encode(items)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(slices.Clone(b[traceBlockHeader:]), uint16(e.messages), uint32(e.tries), uint16(e.actions), uint16(e.jobs), e.first.Microseconds(), e.last.Microseconds())
	}
	seed(slices.Collect(newTrace(f, 11*time.Hour, 50*time.Millisecond).All()))
	seed(oddItems()[:5])
	seed(oddItems()[5:8])
	reader, err := newTraceBlockReader()
	if err != nil {
		f.Fatal(err)
	}
	writer, err := newTraceBlockWriter()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte, messages uint16, tries uint32, actions, jobs uint16, first, last int64) {
		h := make([]byte, traceBlockHeader)
		e := traceEntry{
			messages: int64(messages), tries: int64(tries), actions: int64(actions), jobs: int64(jobs),
			first: time.Duration(uint64(first)%uint64(maxTraceTime.Microseconds())) * time.Microsecond,
			last:  time.Duration(uint64(last)%uint64(maxTraceTime.Microseconds())) * time.Microsecond,
		}
		putTraceBlockHeader(h, e, payload)
		e, _, err := decodeTraceBlockHeader(h)
		if err != nil {
			return
		}
		items, err := reader.decode(payload, e)
		if err != nil {
			return
		}
		b, again, err := writer.encode(items)
		if err != nil {
			t.Fatal(err)
		}
		found, err := reader.decode(b[traceBlockHeader:], again)
		if err != nil || !reflect.DeepEqual(found, items) {
			t.Fatalf("items are not the same when they are written again: error %v", err)
		}
	})
}

// peakHeap samples the heap until the returned function is called, which gives
// the most that was in use, in MiB.
func peakHeap() func() float64 {
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			most = max(most, s.HeapInuse)
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() float64 {
		close(stop)
		return float64(<-peak) / (1 << 20)
	}
}

// reportDay reports what a benchmark of a trace made.
func reportDay(b *testing.B, peak, messages, tries, bytes float64) {
	b.ReportMetric(peak, "peak-MiB")
	b.ReportMetric(messages, "messages")
	b.ReportMetric(tries, "tries")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/day")
	if bytes > 0 {
		b.ReportMetric(bytes/tries, "bytes/try")
	}
}

func BenchmarkDayInMemory(b *testing.B) {
	tr := newTrace(b, 0, 24*time.Hour)
	var messages, tries int64
	peak := peakHeap()
	for b.Loop() {
		messages, tries = 0, 0
		for item := range tr.Parallel(0) {
			if m := item.Message; m != nil {
				messages++
				tries += int64(len(m.Recipients))
			}
		}
	}
	reportDay(b, peak(), float64(messages), float64(tries), 0)
}

func BenchmarkDayToFile(b *testing.B) {
	tr := newTrace(b, 0, 24*time.Hour)
	path := filepath.Join(b.TempDir(), "day.mbt")
	var totals TraceTotals
	peak := peakHeap()
	for b.Loop() {
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		totals, err = WriteTrace(b.Context(), f, tr, "berkeley-2008", 0, nil)
		if err := errors.Join(err, f.Close()); err != nil {
			b.Fatal(err)
		}
	}
	reportDay(b, peak(), float64(totals.Messages), float64(totals.Tries), float64(totals.Bytes))
}

func BenchmarkDayFromFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "day.mbt")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	totals, err := WriteTrace(b.Context(), f, newTrace(b, 0, 24*time.Hour), "berkeley-2008", 0, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	file, err := OpenTrace(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	peak := peakHeap()
	for b.Loop() {
		if err := file.Verify(); err != nil {
			b.Fatal(err)
		}
	}
	reportDay(b, peak(), float64(totals.Messages), float64(totals.Tries), float64(totals.Bytes))
}
