package results

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// The format of samples.mbs; docs/recording.md describes it byte by byte.
const (
	samplesMagic   = "MBSAMPLE"
	samplesVersion = 2
	fileHeaderSize = len(samplesMagic) + 4

	blockHeaderSize = 16
	maxPayload      = 1 << 20 // bytes of one block, compressed or not; a full one has 0.7 MiB at worst
	maxAttempts     = 1000    // of one op
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCut says that a file ends within a block or a line, as it does after a
// crash.
var errCut = errors.New("cut short")

func samplesHeader() []byte {
	return binary.LittleEndian.AppendUint32([]byte(samplesMagic), samplesVersion)
}

// checkSample says what makes a sample one that cannot be kept.
func checkSample(s *workload.Sample) error {
	switch {
	case s.Operation.Path() == 0:
		return fmt.Errorf("operation %d is not known", s.Operation)
	case s.Outcome < workload.OK || s.Outcome > workload.Unknown:
		return fmt.Errorf("outcome %d is not known", s.Outcome)
	case len(s.Attempts) < 1 || len(s.Attempts) > maxAttempts:
		return fmt.Errorf("sample has %d attempts, must be 1 to %d", len(s.Attempts), maxAttempts)
	case outOfRange(s.Virtual) || outOfRange(s.Intended):
		return fmt.Errorf("sample's times are out of range")
	}
	for _, a := range s.Attempts {
		if outOfRange(a.Dispatched) || outOfRange(a.Ended) {
			return fmt.Errorf("attempt's times are out of range")
		}
	}
	return nil
}

func outOfRange(d time.Duration) bool { return d > maxTime || d < -maxTime }

// A column is one field of all samples of a block: alike things compress better
// beside each other.
const (
	colMessage = iota
	colRecipient
	colTry
	colOperation
	colClient
	colAnswer
	colOutcome
	colVirtual
	colOffset
	colCount
	colNode
	colResult
	colDispatched
	colEnded
	columns
)

// sampleEncoder encodes the samples of a block. It keeps its memory for the next.
type sampleEncoder struct{ columns [columns][]byte }

// append encodes samples that checkSample accepts. Times lose what is below a
// microsecond.
func (e *sampleEncoder) append(b []byte, samples []workload.Sample) []byte {
	c := &e.columns
	for i := range c {
		c[i] = c[i][:0]
	}
	var message uint64
	var virtual, offset int64
	for i := range samples {
		s := &samples[i]
		c[colMessage] = binary.AppendVarint(c[colMessage], int64(s.Message-message))
		message = s.Message
		c[colRecipient] = binary.AppendUvarint(c[colRecipient], uint64(s.Recipient))
		c[colTry] = binary.AppendUvarint(c[colTry], uint64(s.Try))
		c[colOperation] = append(c[colOperation], byte(s.Operation))
		c[colClient] = append(c[colClient], s.Client)
		c[colAnswer] = append(c[colAnswer], s.Answer)
		c[colOutcome] = append(c[colOutcome], byte(s.Outcome))
		c[colVirtual] = binary.AppendVarint(c[colVirtual], s.Virtual.Microseconds()-virtual)
		virtual = s.Virtual.Microseconds()
		// At a speed of 1 the two times differ by little else than the step within a
		// session, of which there are few.
		intended := s.Intended.Microseconds()
		c[colOffset] = binary.AppendVarint(c[colOffset], intended-virtual-offset)
		offset = intended - virtual
		c[colCount] = binary.AppendUvarint(c[colCount], uint64(len(s.Attempts)))
		last := intended
		for j := range s.Attempts {
			a := &s.Attempts[j]
			dispatched, ended := a.Dispatched.Microseconds(), a.Ended.Microseconds()
			c[colNode] = append(c[colNode], byte(a.Node))
			c[colResult] = appendResult(c[colResult], a.Result)
			c[colDispatched] = binary.AppendVarint(c[colDispatched], dispatched-last)
			c[colEnded] = binary.AppendVarint(c[colEnded], ended-dispatched)
			last = ended
		}
	}
	b = binary.AppendUvarint(b, uint64(len(samples)))
	for _, column := range c {
		b = binary.AppendUvarint(b, uint64(len(column)))
	}
	for _, column := range c {
		b = append(b, column...)
	}
	return b
}

func appendResult(b []byte, r ndberr.Result) []byte {
	if r == (ndberr.Result{}) {
		return append(b, 0)
	}
	retryable := byte(0)
	if r.Retryable {
		retryable = 1
	}
	b = append(b, 1, byte(r.Class), byte(r.Effect), retryable)
	b = binary.AppendUvarint(b, uint64(r.MySQL))
	return binary.AppendUvarint(b, uint64(r.NDB))
}

// columnNames are for errors.
var columnNames = [columns]string{
	"message", "recipient", "try", "operation", "client", "answer", "outcome", "virtual", "offset", "attempts", "node", "result", "dispatched", "ended",
}

// splitColumns takes a payload apart.
func splitColumns(b []byte) (c [columns]decoder, n uint64, err error) {
	d := decoder{b: b}
	n = d.uvarint()
	var lengths [columns]uint64
	for i := range lengths {
		lengths[i] = d.uvarint()
	}
	if d.err != nil {
		return c, 0, d.err
	}
	for i, length := range lengths {
		if length > uint64(len(d.b)) {
			return c, 0, fmt.Errorf("column %s claims %d bytes, %d are left", columnNames[i], length, len(d.b))
		}
		c[i] = decoder{b: d.b[:length:length]}
		d.b = d.b[length:]
	}
	if len(d.b) != 0 {
		return c, 0, fmt.Errorf("%d bytes are left over after %d samples", len(d.b), n)
	}
	if n > uint64(len(c[colOperation].b)) {
		return c, 0, fmt.Errorf("block of %d bytes claims %d samples", len(b), n)
	}
	return c, n, nil
}

// decodeSamples is the inverse of sampleEncoder.append. It allocates no more than a
// small multiple of len(b).
func decodeSamples(b []byte) ([]workload.Sample, error) {
	c, n, err := splitColumns(b)
	if err != nil {
		return nil, err
	}
	samples := make([]workload.Sample, n)
	attempts := make([]workload.Attempt, 0, n)
	var message uint64
	var virtual, offset int64
	for i := range samples {
		s := &samples[i]
		message += uint64(c[colMessage].varint())
		s.Message = message
		s.Recipient = c[colRecipient].uint16()
		s.Try = c[colTry].uint16()
		s.Operation = reference.Operation(c[colOperation].byte())
		s.Client = c[colClient].byte()
		s.Answer = c[colAnswer].byte()
		s.Outcome = workload.Outcome(c[colOutcome].byte())
		virtual += c[colVirtual].varint()
		s.Virtual = c[colVirtual].time(virtual)
		offset += c[colOffset].varint()
		intended := virtual + offset
		s.Intended = c[colOffset].time(intended)
		count := c[colCount].uvarint()
		if count > maxAttempts || count > uint64(len(c[colNode].b)) {
			c[colCount].fail("sample claims %d attempts", count)
			count = 0
		}
		first, last := len(attempts), intended
		for range count {
			var a workload.Attempt
			a.Node = topology.ID(c[colNode].byte())
			a.Result = c[colResult].result()
			dispatched := last + c[colDispatched].varint()
			a.Dispatched = c[colDispatched].time(dispatched)
			last = dispatched + c[colEnded].varint()
			a.Ended = c[colEnded].time(last)
			attempts = append(attempts, a)
		}
		s.Attempts = attempts[first:len(attempts):len(attempts)]
		for k := range c {
			if c[k].err != nil {
				return nil, fmt.Errorf("sample %d of %d in its block: column %s: %w", i+1, n, columnNames[k], c[k].err)
			}
		}
		if err := checkSample(s); err != nil {
			return nil, fmt.Errorf("sample %d of %d in its block: %w", i+1, n, err)
		}
	}
	for k := range c {
		if left := len(c[k].b); left != 0 {
			return nil, fmt.Errorf("%d bytes of column %s are left over after %d samples", left, columnNames[k], n)
		}
	}
	return samples, nil
}

// decoder takes values from the front of b. The first failure sticks; what is
// taken after it is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("block ends within a sample")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("block ends within a number, or the number is too long")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("block ends within a number, or the number is too long")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint16() uint16 {
	v := d.uvarint()
	if v > 1<<16-1 {
		d.fail("number %d does not fit in 16 bits", v)
		return 0
	}
	return uint16(v)
}

func (d *decoder) time(us int64) time.Duration {
	t, err := fromMicros(us)
	if err != nil {
		d.fail("%w", err)
	}
	return t
}

func (d *decoder) result() ndberr.Result {
	var r ndberr.Result
	switch mark := d.byte(); mark {
	case 0:
	case 1:
		r.Class = ndberr.Class(d.byte())
		r.Effect = ndberr.Effect(d.byte())
		r.Retryable = d.byte() == 1
		r.MySQL = d.uint16()
		r.NDB = d.uint16()
	default:
		d.fail("attempt's result is marked %d, must be 0 or 1", mark)
	}
	return r
}

// blockWriter frames and compresses blocks of samples. It serves one goroutine.
type blockWriter struct {
	w    io.Writer
	zstd *zstd.Encoder
	enc  sampleEncoder
	raw  []byte
	out  []byte
}

func newBlockWriter(w io.Writer) (*blockWriter, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return &blockWriter{w: w, zstd: z}, nil
}

// write hands one block to the file in one call, so that a crash leaves whole
// blocks and at most one that is cut.
func (b *blockWriter) write(samples []workload.Sample) error {
	b.raw = b.enc.append(b.raw[:0], samples)
	b.out = b.zstd.EncodeAll(b.raw, append(b.out[:0], make([]byte, blockHeaderSize)...))
	payload := b.out[blockHeaderSize:]
	if len(b.raw) > maxPayload || len(payload) > maxPayload {
		return fmt.Errorf("block of %d samples takes %d bytes, more than %d", len(samples), len(b.raw), maxPayload)
	}
	h := b.out[:blockHeaderSize]
	binary.LittleEndian.PutUint32(h[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(h[4:], uint32(len(b.raw)))
	binary.LittleEndian.PutUint32(h[8:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint32(h[12:], crc32.Checksum(h[:12], castagnoli))
	_, err := b.w.Write(b.out)
	return err
}

// blockReader takes blocks of samples from a file. Close frees it.
type blockReader struct {
	r       *bufio.Reader
	zstd    *zstd.Decoder
	offset  int64 // of the next block
	payload []byte
	raw     []byte
}

func newBlockReader(r io.Reader) (*blockReader, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload))
	if err != nil {
		return nil, err
	}
	return &blockReader{r: bufio.NewReaderSize(r, 256<<10), zstd: z}, nil
}

func (b *blockReader) Close() { b.zstd.Close() }

// header checks the start of the file.
func (b *blockReader) header() error {
	h := make([]byte, fileHeaderSize)
	n, err := io.ReadFull(b.r, h)
	switch {
	case err == nil:
	case isEnd(err) && string(h[:n]) == string(samplesHeader()[:n]):
		return errCut
	case !isEnd(err):
		return err
	}
	if string(h[:len(samplesMagic)]) != samplesMagic {
		return fmt.Errorf("byte 0: not a file of samples")
	}
	if v := binary.LittleEndian.Uint32(h[len(samplesMagic):]); v != samplesVersion {
		return fmt.Errorf("byte %d: version %d of the sample format is not known, this program reads %d; use the program that wrote it",
			len(samplesMagic), v, samplesVersion)
	}
	b.offset = int64(fileHeaderSize)
	return nil
}

// next returns the samples of the next block, io.EOF at the end of the file,
// errCut where the file ends within a block, or what is wrong with the block
// that starts at b.offset.
func (b *blockReader) next() ([]workload.Sample, error) {
	var h [blockHeaderSize]byte
	if _, err := io.ReadFull(b.r, h[:]); err == io.EOF {
		return nil, io.EOF
	} else if isEnd(err) {
		return nil, errCut
	} else if err != nil {
		return nil, err
	}
	if crc32.Checksum(h[:12], castagnoli) != binary.LittleEndian.Uint32(h[12:]) {
		return nil, b.altered("header does not match its checksum")
	}
	size, rawSize := binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:])
	if size > maxPayload || rawSize > maxPayload {
		return nil, b.altered("it claims %d bytes, %d uncompressed; at most %d are allowed", size, rawSize, maxPayload)
	}
	if cap(b.payload) < int(size) {
		b.payload = make([]byte, size)
	}
	b.payload = b.payload[:size]
	if _, err := io.ReadFull(b.r, b.payload); isEnd(err) {
		return nil, errCut
	} else if err != nil {
		return nil, err
	}
	if crc32.Checksum(b.payload, castagnoli) != binary.LittleEndian.Uint32(h[8:]) {
		return nil, b.altered("payload does not match its checksum")
	}
	raw, err := b.zstd.DecodeAll(b.payload, b.raw[:0])
	if err != nil {
		return nil, b.altered("decompress: %w", err)
	}
	b.raw = raw
	if len(raw) != int(rawSize) {
		return nil, b.altered("it holds %d bytes, its header says %d", len(raw), rawSize)
	}
	samples, err := decodeSamples(raw)
	if err != nil {
		return nil, b.altered("%w", err)
	}
	b.offset += blockHeaderSize + int64(size)
	return samples, nil
}

func (b *blockReader) altered(format string, args ...any) error {
	return fmt.Errorf("block at byte %d: "+format, append([]any{b.offset}, args...)...)
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
