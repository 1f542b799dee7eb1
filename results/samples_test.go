package results

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/workload"
)

// odd are samples at the edges of what may be recorded, in whole microseconds.
func odd() []workload.Sample {
	far := time.Duration(maxTime)
	return []workload.Sample{
		op(math.MaxUint64, reference.Route, 1, sql1, 0, 0),
		{
			Message: 0, Recipient: math.MaxUint16, Try: math.MaxUint16, Operation: reference.SetPreference,
			Client: 255, Virtual: -far, Intended: far, Answer: 255, Outcome: workload.Unknown,
			Attempts: []workload.Attempt{
				{Node: 255, Dispatched: -far, Ended: far, Result: ndberr.Result{
					Class: 255, Effect: 255, MySQL: math.MaxUint16, NDB: math.MaxUint16, Retryable: true,
				}},
				{Node: 0, Dispatched: far, Ended: -far},
				{Result: ndberr.Result{Effect: ndberr.MayHaveBeen}},
			},
		},
		op(7, reference.CheckGreylist, 3, sql2, 5*sec, 1*sec),
	}
}

func TestSamplesComeBackAsTheyWere(t *testing.T) {
	for name, want := range map[string][]workload.Sample{"odd": odd(), "realistic": truncateTimes(realistic(5000)), "none": {}} {
		got, err := decodeSamples(encoded(nil, want))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: samples changed", name)
		}
	}
}

// truncateTimes drops what the format does not keep.
func truncateTimes(samples []workload.Sample) []workload.Sample {
	for i := range samples {
		s := &samples[i]
		s.Virtual = s.Virtual.Truncate(time.Microsecond)
		s.Intended = s.Intended.Truncate(time.Microsecond)
		for j := range s.Attempts {
			s.Attempts[j].Dispatched = s.Attempts[j].Dispatched.Truncate(time.Microsecond)
			s.Attempts[j].Ended = s.Attempts[j].Ended.Truncate(time.Microsecond)
		}
	}
	return samples
}

func TestSamplesThatCannotBeKept(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*workload.Sample)
		want   string
	}{
		{"no operation", func(s *workload.Sample) { s.Operation = 0 }, "operation 0 is not known"},
		{"an operation to come", func(s *workload.Sample) { s.Operation = 99 }, "operation 99 is not known"},
		{"an outcome to come", func(s *workload.Sample) { s.Outcome = 9 }, "outcome 9 is not known"},
		{"no attempt", func(s *workload.Sample) { s.Attempts = nil }, "sample has 0 attempts, must be 1 to 1000"},
		{"too many attempts", func(s *workload.Sample) { s.Attempts = make([]workload.Attempt, 1001) }, "sample has 1001 attempts, must be 1 to 1000"},
		{"virtual time overflows", func(s *workload.Sample) { s.Virtual = math.MaxInt64 }, "sample's times are out of range"},
		{"intended one too late", func(s *workload.Sample) { s.Intended = maxTime + 1 }, "sample's times are out of range"},
		{"dispatched one too early", func(s *workload.Sample) { s.Attempts[0].Dispatched = -maxTime - 1 }, "attempt's times are out of range"},
		{"end overflows", func(s *workload.Sample) { s.Attempts[0].Ended = math.MinInt64 }, "attempt's times are out of range"},
	} {
		s := op(1, reference.Route, 1, sql1, 0, 0)
		row.change(&s)
		if err := checkSample(&s); err == nil || err.Error() != row.want {
			t.Errorf("%s: got error %v, want %s", row.name, err, row.want)
		}
	}
}

// sampleFile is a file with a block for each of the given runs of samples.
func sampleFile(t testing.TB, runs ...[]workload.Sample) []byte {
	t.Helper()
	var b bytes.Buffer
	b.Write(samplesHeader())
	w, err := newBlockWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, samples := range runs {
		if err := w.write(samples); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// readFile counts the samples that a file yields before it ends: io.EOF for a
// whole file.
func readFile(t testing.TB, file []byte) (samples int, offset int64, err error) {
	t.Helper()
	r, err := newBlockReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.header(); err != nil {
		return 0, r.offset, err
	}
	for {
		block, err := r.next()
		if err != nil {
			return samples, r.offset, err
		}
		samples += len(block)
	}
}

func TestFileCutAnywhereKeepsItsWholeBlocks(t *testing.T) {
	all := realistic(60)
	first := sampleFile(t, all[:20])
	file := sampleFile(t, all[:20], all[20:])
	for size := range file {
		samples, _, err := readFile(t, file[:size])
		want, end := 0, errCut
		if size >= len(first) {
			want = 20
		}
		if size == len(first) || size == fileHeaderSize {
			end = io.EOF // a whole file with fewer blocks; the end event knows better
		}
		if samples != want || !errors.Is(err, end) {
			t.Fatalf("cut at %d of %d: %d samples and %v, want %d and %v", size, len(file), samples, err, want, end)
		}
	}
}

func TestEveryAlteredByteIsFound(t *testing.T) {
	all := realistic(60)
	second := int64(len(sampleFile(t, all[:20])))
	file := sampleFile(t, all[:20], all[20:])
	for i := range file {
		altered := bytes.Clone(file)
		altered[i] ^= 0x10
		samples, offset, err := readFile(t, altered)
		if err == io.EOF || errors.Is(err, errCut) || err == nil {
			t.Fatalf("byte %d altered: got %d samples and %v", i, samples, err)
		}
		if int64(i) >= second && (samples != 20 || offset != second) {
			t.Fatalf("byte %d altered: got %d samples and an error at byte %d, want 20 and byte %d", i, samples, offset, second)
		}
	}
}

func TestUnknownVersionIsAnError(t *testing.T) {
	file := sampleFile(t)
	file[len(samplesMagic)] = 3
	if _, _, err := readFile(t, file); err == nil || !strings.Contains(err.Error(), "version 3 of the sample format is not known") {
		t.Errorf("got error %v", err)
	}
}

// bomb is a block that is right in its checksums and says that it is small.
func bomb(t testing.TB, raw []byte, rawSize uint32) []byte {
	t.Helper()
	w, err := newBlockWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := w.zstd.EncodeAll(raw, nil)
	b := samplesHeader()
	h := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	h = binary.LittleEndian.AppendUint32(h, rawSize)
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(payload, castagnoli))
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	return append(append(b, h...), payload...)
}

func TestHostileBlocksAreRefused(t *testing.T) {
	for _, row := range []struct {
		name string
		file []byte
		want string
	}{
		{"64 MiB of zeros in a small payload", bomb(t, make([]byte, 64<<20), 100), "block at byte 12: decompress: "},
		{"a payload longer than it says", bomb(t, make([]byte, 100), 50), "it holds 100 bytes, its header says 50"},
		{"more samples than bytes", bomb(t, append([]byte{200, 1}, make([]byte, columns)...), 2+columns), "block of 16 bytes claims 200 samples"},
		{"more attempts than bytes", bomb(t, []byte{
			1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, // one sample, no attempts
			0, 0, 0, 1, 0, 0, 1, 0, 0, 99,
		}, 25), "sample claims 99 attempts"},
		{"a column longer than the block", bomb(t, append([]byte{1, 100}, make([]byte, columns-1)...), 1+columns), "column message claims 100 bytes, 0 are left"},
		{"a column with more than the samples", bomb(t, []byte{
			1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
			0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0,
		}, 30), "1 bytes of column message are left over after 1 samples"},
		{"bytes behind the last sample", bomb(t, append(encoded(nil, odd()), 0), uint32(len(encoded(nil, odd()))+1)), "1 bytes are left over"},
		{"a header that claims 4 GiB", bomb(t, nil, math.MaxUint32), "4294967295 uncompressed; at most"},
	} {
		if _, _, err := readFile(t, row.file); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got error %v, want %s", row.name, err, row.want)
		}
	}
}

func FuzzDecodeSamples(f *testing.F) {
	f.Add(encoded(nil, odd()))
	f.Add(encoded(nil, realistic(3)))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := decodeSamples(b)
		if err != nil {
			return
		}
		again, err := decodeSamples(encoded(nil, samples))
		if err != nil || !reflect.DeepEqual(samples, again) {
			t.Fatalf("samples changed on their way: %v", err)
		}
		for i := range samples {
			_, _, _ = samples[i].Queue(), samples[i].Service(), samples[i].Response()
		}
	})
}

func FuzzReadSampleFile(f *testing.F) {
	f.Add(sampleFile(f, odd(), realistic(10)))
	f.Add(bomb(f, make([]byte, 1<<20), 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = readFile(t, b)
	})
}

func encoded(b []byte, samples []workload.Sample) []byte {
	return new(sampleEncoder).append(b, samples)
}
