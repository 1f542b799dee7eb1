package results

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func collect[T any](t testing.TB, seq func(func(T, error) bool)) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func open(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordingComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "run")
	m := testManifest(t)
	rec, err := Create(dir, m, Inputs{Scenario: []byte("name: x\n"), Profile: []byte("name: y\n")})
	if err != nil {
		t.Fatal(err)
	}
	event := chaos.Event{
		At: 3 * sec, Kind: chaos.KindFault, Name: chaos.StepInjected, Fault: "f1", Node: "sql1",
		Fields: map[string]string{"kind": "kill-node", "at": "3s"},
	}
	row := CounterRow{1, 2, 3, 4, 5, 6, 7, 8, map[string]NodeUsage{"data1": {CPUUS: 9, MemoryBytes: 10}}, map[string]Fill{"data1": {1, 2, 3, 4}}, nil, &Noise{11, 12, -13, 14, 15}}
	samples := truncateTimes(realistic(3 * blockSamples / 2))
	for i := range samples {
		s := samples[i]
		s.Attempts = append([]workload.Attempt(nil), s.Attempts...)
		rec.Record(&s)
		s.Attempts[0].Node = 99 // the recording must have its own copy
	}
	rec.Event(event)
	rec.Counter(row)
	lost := LedgerRow{Kind: Preference, User: "bert", Key: "theme", Verdict: Lost, Node: "sql1", ReadUS: 5, AcknowledgedUS: new(int64), Wanted: "dark"}
	saw := Violation{Violation: WrongRoute, Operation: "route", Message: 1, User: "u", Node: "sql1", AtUS: 7, Wanted: "local", Found: "unknown"}
	read := ReadBack{After: "kill-1", Node: "sql1", AtUS: 4, TookUS: 2, Keys: 2, Broken: 1}
	rec.LedgerRow(lost)
	rec.Violation(saw)
	rec.ReadBack(read)
	rec.LedgerSummary(LedgerSummary{Preference: {Acknowledged: 2, Verified: 1, Lost: 1}})
	if err := rec.Close(EndOfRun{At: 4 * sec, Reason: Interrupted}); err != nil {
		t.Fatal(err)
	}

	r := open(t, dir)
	m.Schema = ManifestSchema
	if got := r.Manifest(); !reflect.DeepEqual(got, m) {
		t.Errorf("manifest is %+v, want %+v", got, m)
	}
	if got := collect(t, r.Samples()); !reflect.DeepEqual(got, samples) {
		t.Errorf("%d samples are not the %d recorded", len(got), len(samples))
	}
	end := chaos.Event{At: 4 * sec, Kind: kindEnd, Name: "interrupted", Fields: map[string]string{"samples": "6144"}}
	if got, want := collect(t, r.Events()), []chaos.Event{event, end}; !reflect.DeepEqual(got, want) {
		t.Errorf("events are %+v, want %+v", got, want)
	}
	if got, want := collect(t, r.Counters()), []CounterRow{row}; !reflect.DeepEqual(got, want) {
		t.Errorf("counters are %+v, want %+v", got, want)
	}
	ledger, err := r.Ledger()
	if err != nil || !reflect.DeepEqual(ledger.Rows, []LedgerRow{lost}) || !reflect.DeepEqual(ledger.Violations, []Violation{saw}) ||
		!reflect.DeepEqual(ledger.ReadBacks, []ReadBack{read}) || *ledger.Summary[Preference] != (LedgerCounts{Acknowledged: 2, Verified: 1, Lost: 1}) || len(ledger.Summary) != len(LedgerKinds) {
		t.Errorf("ledger is %+v, %v", ledger, err)
	}
	if len(r.Truncated()) != 0 {
		t.Errorf("truncated: %v", r.Truncated())
	}
	if b, err := os.ReadFile(filepath.Join(dir, ProfileFile)); err != nil || string(b) != "name: y\n" {
		t.Errorf("the profile is %q (%v)", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, ScenarioFile)); err != nil || string(b) != "name: x\n" {
		t.Errorf("scenario is %q, %v", b, err)
	}
}

func TestRecordFromManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	rec, err := Create(dir, testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	const workers, each = 8, 5000
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				s := op(uint64(w*each+i), reference.Route, 1, sql1, time.Duration(i)*ms, ms)
				rec.Record(&s)
				if i%1000 == 0 {
					rec.Event(step(0, "f", "n", chaos.StepInjected))
					rec.Counter(CounterRow{})
					rec.LedgerRow(LedgerRow{Kind: Triplet, Key: strconv.Itoa(w*each + i), Verdict: Lost})
				}
			}
		})
	}
	wg.Wait()
	if err := rec.Close(completed); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	seen := map[uint64]bool{}
	for _, s := range collect(t, r.Samples()) {
		seen[s.Message] = true
	}
	if len(seen) != workers*each {
		t.Errorf("%d different samples, want %d", len(seen), workers*each)
	}
	if n := len(collect(t, r.Events())); n != workers*5+1 {
		t.Errorf("%d events", n)
	}
	if n := len(collect(t, r.Counters())); n != workers*5 {
		t.Errorf("%d rows of counters", n)
	}
	if ledger, err := r.Ledger(); err != nil || len(ledger.Rows) != workers*5 {
		t.Errorf("ledger %+v, %v", ledger, err)
	}
}

func TestCrashLosesAtMostTheLastSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		rec, err := Create(dir, testManifest(t), Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Close(completed)
		s := op(1, reference.Route, 1, sql1, 0, ms)
		rec.Record(&s)
		rec.Event(step(0, "f1", "sql1", chaos.StepInjected))
		if n := len(collect(t, open(t, dir).Events())); n != 1 {
			t.Errorf("%d events at once, want 1", n)
		}
		time.Sleep(flushEvery)
		synctest.Wait()
		if n := len(collect(t, open(t, dir).Samples())); n != 1 {
			t.Errorf("%d samples a second later, want 1", n)
		}
		rec.Record(&s)
		time.Sleep(flushEvery)
		synctest.Wait()
		if n := len(collect(t, open(t, dir).Samples())); n != 2 {
			t.Errorf("%d samples two seconds later, want 2", n)
		}
	})
}

// slowDisk takes what is written when it is told to.
type slowDisk struct {
	gate chan struct{}
	w    io.Writer
}

func (d slowDisk) Write(b []byte) (int, error) {
	<-d.gate
	return d.w.Write(b)
}

func TestRecordWaitsForASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		rec, err := Create(dir, testManifest(t), Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		disk := slowDisk{make(chan struct{}), rec.samples.w}
		rec.samples.w = disk
		const n = (blocks + 1) * blockSamples
		recorded := make(chan struct{})
		go func() {
			s := op(1, reference.Route, 1, sql1, 0, ms)
			for range n {
				rec.Record(&s)
			}
			close(recorded)
		}()
		time.Sleep(3 * flushEvery) // flushes come due while Record waits
		synctest.Wait()
		select {
		case <-recorded:
			t.Error("Record took more samples than there is memory for")
		default:
		}
		close(disk.gate)
		<-recorded
		if err := rec.Close(completed); err != nil {
			t.Fatal(err)
		}
		if got := len(collect(t, open(t, dir).Samples())); got != n {
			t.Errorf("%d samples, want %d", got, n)
		}
	})
}

func TestRecordingThatMetAnErrorEndsAsFailed(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(*Recording)
		want string
	}{
		{"a sample without attempts", func(r *Recording) { r.Record(&workload.Sample{Message: 7, Operation: 1, Outcome: 1}) },
			"recording: sample of message 7 is not recorded: sample has 0 attempts"},
		{"a verdict that there is not", func(r *Recording) { r.LedgerRow(LedgerRow{Kind: Triplet, Verdict: "fine"}) },
			`recording: ledger verdict "fine" is none of`},
		{"the disk fails", func(r *Recording) {
			_ = r.samplesFile.Close()
			s := op(1, reference.Route, 1, sql1, 0, ms)
			for range 10 * blocks * blockSamples { // more than memory holds: Record must not wait for ever
				r.Record(&s)
			}
		}, "recording: write samples: "},
	} {
		dir := t.TempDir()
		rec, err := Create(dir, testManifest(t), Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		row.do(rec)
		err = rec.Close(completed)
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: Close returned %v, want %s", row.name, err, row.want)
		}
		if again := rec.Close(completed); again != err || rec.Err() != err {
			t.Errorf("%s: a second Close returned %v, Err %v", row.name, again, rec.Err())
		}
		events := collect(t, open(t, dir).Events())
		if end := events[len(events)-1]; end.Name != string(Failed) || end.Fields["error"] != err.Error() {
			t.Errorf("%s: recording ends with %+v", row.name, end)
		}
	}
}

func TestSampleAfterCloseIsAnError(t *testing.T) {
	rec, err := Create(t.TempDir(), testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(completed); err != nil {
		t.Fatal(err)
	}
	s := op(1, reference.Route, 1, sql1, 0, ms)
	rec.Record(&s)
	if rec.Err() == nil {
		t.Error("no error")
	}
}

func TestCreateRefuses(t *testing.T) {
	used := t.TempDir()
	twoKills(t, used, testManifest(t), completed)
	before := files(t, used)
	if _, err := Create(used, testManifest(t), Inputs{}); err == nil || !strings.Contains(err.Error(), "choose an empty directory") {
		t.Errorf("a directory in use: got error %v", err)
	}
	if !maps.Equal(files(t, used), before) {
		t.Error("the recording that was there has changed")
	}
	m := testManifest(t)
	m.Schema = "mailbench.manifest/v9"
	if _, err := Create(t.TempDir(), m, Inputs{}); err == nil || !strings.Contains(err.Error(), `must be "mailbench.manifest/v1"`) {
		t.Errorf("another schema: got error %v", err)
	}
}

// files returns the contents of a directory.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	contents := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		contents[e.Name()] = string(b)
	}
	return contents
}

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, row := range []struct {
		name, file, content, want string
	}{
		{"another schema", ManifestFile, `{"schema":"mailbench.manifest/v2"}`, `has schema "mailbench.manifest/v2", this program reads "mailbench.manifest/v1"`},
		{"no JSON", ManifestFile, `{`, "manifest.json: unexpected end of JSON input"},
		{"another sample format", SamplesFile, "MBSAMPLE\x03\x00\x00\x00", "version 3 of the sample format is not known"},
		{"other contents", SamplesFile, "PK\x03\x04 and so on", "byte 0: not a file of samples"},
		{"a bad event", EventsFile, "{\"at_us\":1}\n{\"at_us\":true}\n", "events.jsonl: line 2 at byte 12: "},
		{"an event out of time", EventsFile, "{\"at_us\":9000000000000000000}\n", "out of range"},
		{"an endless line", EventsFile, strings.Repeat(" ", maxLine+1), "longer than 1048576 bytes"},
		{"a ledger that does not add up", LedgerFile, "{\"summary\":{\"triplet\":{\"acknowledged\":1,\"lost\":1}}}\n", "does not fit its rows"},
		{"a ledger with other verdicts", LedgerFile, "{\"kind\":\"account\",\"user\":\"u\",\"key\":\"k\",\"verdict\":\"odd\"}\n", `ledger verdict "odd"`},
		{"a ledger with other kinds", LedgerFile, "{\"kind\":\"odd\",\"key\":\"k\",\"verdict\":\"lost\"}\n", `ledger kind "odd"`},
		{"a ledger with other violations", LedgerFile, "{\"saw\":{\"violation\":\"odd\"}}\n", `violation "odd"`},
	} {
		dir := t.TempDir()
		twoKills(t, dir, testManifest(t), completed)
		if err := os.WriteFile(filepath.Join(dir, row.file), []byte(row.content), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir)
		if err == nil {
			_, err = Judge(r)
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got error %v, want %s", row.name, err, row.want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "open recording: ") {
		t.Errorf("no recording: got error %v", err)
	}
}

func TestAlteredBlockNamesFileAndByte(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	path := filepath.Join(dir, SamplesFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Judge(open(t, dir)); err == nil || !strings.Contains(err.Error(), path+": block at byte 12: payload does not match") {
		t.Errorf("got error %v", err)
	}
}

func TestFeedGivesEveryTakerEverySample(t *testing.T) {
	dir := t.TempDir()
	rec, err := Create(dir, testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range realistic(3 * blocksBehind * blockSamples) {
		rec.Record(&s)
	}
	if err := rec.Close(completed); err != nil {
		t.Fatal(err)
	}
	want := collect(t, open(t, dir).Samples())
	var taken [3][]workload.Sample
	err = open(t, dir).Feed(
		func(s *workload.Sample) { taken[0] = append(taken[0], *s) },
		func(s *workload.Sample) { taken[1] = append(taken[1], *s) },
		func(s *workload.Sample) { taken[2] = append(taken[2], *s) },
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range taken {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("taker %d has %d samples, want those that Samples yields, %d", i, len(got), len(want))
		}
	}
}

// BenchmarkRecord is what Record costs the goroutines of a replay, one for each
// processor, while there is room in memory.
func BenchmarkRecord(b *testing.B) {
	samples := realistic(blockSamples)
	rec, err := Create(b.TempDir(), testManifest(b), Inputs{})
	if err != nil {
		b.Fatal(err)
	}
	workers := runtime.GOMAXPROCS(0)
	burst := (blocks - 1) * blockSamples / workers
	b.StopTimer()
	for done := 0; done < b.N; done += workers * burst {
		for room := 0; room < blocks-1; time.Sleep(ms) {
			rec.flush()
			rec.mu.Lock()
			room = len(rec.free)
			rec.mu.Unlock()
		}
		var wg sync.WaitGroup
		b.StartTimer()
		for range workers {
			wg.Go(func() {
				for i := range min(burst, b.N) {
					rec.Record(&samples[i%len(samples)])
				}
			})
		}
		wg.Wait()
		b.StopTimer()
	}
	if err := rec.Close(completed); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRecordToFile is how many samples a second reach a file, the work of
// the background included.
func BenchmarkRecordToFile(b *testing.B) {
	samples := realistic(100_000)
	dir := b.TempDir()
	rec, err := Create(dir, testManifest(b), Inputs{})
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			rec.Record(&samples[i%len(samples)])
		}
	})
	if err := rec.Close(completed); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	info, err := os.Stat(filepath.Join(dir, SamplesFile))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/sample")
	b.ReportMetric(float64(info.Size())/float64(b.N), "bytes/sample")
}

// BenchmarkWriteBlock is the background's share of the work.
func BenchmarkWriteBlock(b *testing.B) {
	samples := realistic(blockSamples)
	w, err := newBlockWriter(io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := w.write(samples); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(w.out))/blockSamples, "bytes/sample")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blockSamples, "ns/sample")
}

// The peers of BenchmarkRecordToFile: what other harnesses do with an op. Both
// keep less (a histogram forgets all but how often) or cost more (a line of
// JSON for each op).

func BenchmarkPeerHistogram(b *testing.B) {
	samples := realistic(100_000)
	histogram := hdrhistogram.New(1, maxLatencyUS, 3)
	var mu sync.Mutex
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			mu.Lock()
			_ = histogram.RecordValue(samples[i%len(samples)].Response().Microseconds()) // all are in range
			mu.Unlock()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}

func BenchmarkPeerJSONLines(b *testing.B) {
	samples := realistic(100_000)
	f, err := os.Create(filepath.Join(b.TempDir(), "samples.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<16)
	encoder := json.NewEncoder(out)
	var mu sync.Mutex
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			mu.Lock()
			err := encoder.Encode(&samples[i%len(samples)])
			mu.Unlock()
			if err != nil {
				b.Error(err)
			}
		}
	})
	if err := errors.Join(out.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}
