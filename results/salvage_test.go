package results

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWhatIsLeftOfARecordingNeverPasses spoils a recording that passes.
func TestWhatIsLeftOfARecordingNeverPasses(t *testing.T) {
	replace := func(file string, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(file string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	halve := func(file string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil {
				err = os.Truncate(filepath.Join(dir, file), int64(len(b)/2))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct {
		sentence string
		spoil    func(t *testing.T, dir string)
		reason   string
	}{
		{"samples are missing", remove(SamplesFile), "samples.mbs is missing"},
		{"samples are cut short", halve(SamplesFile), "samples.mbs is cut short at byte "},
		{"samples are another file", replace(SamplesFile, "PK\x03\x04 and so on"), "samples.mbs cannot be read, or not beyond this: byte 0: not a file of samples"},
		{"samples are of another version", replace(SamplesFile, "MBSAMPLE\x03\x00\x00\x00"), "version 3 of the sample format is not known"},
		{"a byte of the samples is another", func(t *testing.T, dir string) {
			path := filepath.Join(dir, SamplesFile)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[100] ^= 1
			replace(SamplesFile, string(b))(t, dir)
		}, "samples.mbs cannot be read, or not beyond this: block at byte 12: payload does not match its checksum"},
		{"events are missing", remove(EventsFile), "events.jsonl is missing"},
		{"events are cut short", halve(EventsFile), "events.jsonl is cut short at byte "},
		{"events are another file", replace(EventsFile, "hello\n"), "events.jsonl cannot be read, or not beyond this: line 1 at byte 0: "},
		{"an event is out of time", replace(EventsFile, "{\"at_us\":9000000000000000000}\n"), "out of range"},
		{"counters are missing", remove(CountersFile), "counters.jsonl is missing"},
		{"counters are a directory", func(t *testing.T, dir string) {
			remove(CountersFile)(t, dir)
			if err := os.Mkdir(filepath.Join(dir, CountersFile), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "counters.jsonl cannot be read, or not beyond this: "},
		{"the ledger is missing", remove(LedgerFile), "ledger.jsonl is missing"},
		{"the ledger does not add up", replace(LedgerFile, "{\"summary\":{\"triplet\":{\"acknowledged\":1,\"lost\":1}}}\n"), "does not fit its rows"},
		{"costs are cut short", halve(CostsFile), "costs.jsonl is cut short at byte "},
		{"costs are another file", replace(CostsFile, "hello\n"), "costs.jsonl cannot be read, or not beyond this: line 1 at byte 0: "},
		{"costs do not make sense", replace(CostsFile, "{\"path\":\"dns\"}\n"), `path "dns" is none that there is`},
		{"the ledger has other verdicts", replace(LedgerFile, "{\"kind\":\"account\",\"user\":\"u\",\"key\":\"k\",\"verdict\":\"odd\"}\n"), `ledger verdict "odd"`},
	} {
		dir := t.TempDir()
		m := testManifest(t)
		m.Objectives = m.Objectives[:1]
		twoKills(t, dir, m, completed)
		if run := mustJudge(t, dir); run.Verdict != Pass {
			t.Fatalf("the whole recording is %s: %v", run.Verdict, run.Reasons)
		}
		row.spoil(t, dir)
		r, err := Salvage(dir)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		run, err := Judge(r)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		told := slices.ContainsFunc(run.Reasons, func(reason string) bool { return strings.Contains(reason, row.reason) })
		if run.Verdict != Inconclusive || !told {
			t.Errorf("%s: the verdict is %s, for %q", row.sentence, run.Verdict, run.Reasons)
		}
		if bytes.Contains(encode(t, run), []byte(dir)) {
			t.Errorf("%s: run.json holds a path of this machine: %q", row.sentence, run.Reasons)
		}
		if err := writeHlog(new(bytes.Buffer), r); err != nil {
			t.Errorf("%s: latency.hlog: %v", row.sentence, err)
		}
	}
}

// TestALossThatWasSeenStays keeps the gravest verdict where the ledger ends
// early.
func TestALossThatWasSeenStays(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	if err := os.WriteFile(filepath.Join(dir, LedgerFile), []byte("{\"kind\":\"preference\",\"user\":\"u\",\"key\":\"k\",\"verdict\":\"lost\"}\nhello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Salvage(dir)
	if err != nil {
		t.Fatal(err)
	}
	if run, err := Judge(r); err != nil || run.Verdict != DataLoss || len(run.Reasons) == 0 {
		t.Errorf("%+v, %v", run, err)
	}
}

func TestNothingIsSalvagedWithoutAManifest(t *testing.T) {
	for sentence, content := range map[string]string{
		"none":           "",
		"another schema": `{"schema":"mailbench.manifest/v2"}`,
		"no JSON":        `{`,
	} {
		dir := t.TempDir()
		if content != "" {
			if err := os.WriteFile(filepath.Join(dir, ManifestFile), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Salvage(dir)
		if err == nil || !strings.Contains(err.Error(), ManifestFile) || content == "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got error %v", sentence, err)
		}
	}
}
