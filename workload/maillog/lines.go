package maillog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Limits of a line. The longest line of Exim is 8 KiB and some (LOG_BUFFER_SIZE),
// Postfix's is 2 KiB.
const (
	maxLine    = 64 << 10
	peekLength = 256
	headLength = 4 << 10 // what is looked at to tell text from something else
)

// InputError is a log that cannot be imported.
type InputError struct {
	File string
	Line int64 // from 1; 0 where no line is to blame
	Msg  string
	err  error
}

// Error gives "file:line: message".
func (e *InputError) Error() string {
	if e.File == "" {
		return e.Msg
	}
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return e.File + ": " + e.Msg
}

// Unwrap returns what the operating system or the decompressor said.
func (e *InputError) Unwrap() error { return e.err }

// lineReader gives the lines of one file, packed with gzip or not. It reads only
// what was in the file when it was opened, however often it is rewound.
type lineReader struct {
	name   string
	file   *os.File
	info   os.FileInfo // when it was opened
	size   int64
	packed *gzip.Reader // nil where the file is plain
	buffer *bufio.Reader
	line   int64     // number of the last line, from 1
	latest time.Time // when the file was last written, as far as it is known
}

func openLines(name string) (*lineReader, error) {
	file, err := os.Open(name)
	if err != nil {
		msg := unwrapPath(err)
		if name == "-" {
			msg += "; logs are read twice, so save standard input into a file first"
		}
		return nil, &InputError{File: name, Msg: msg, err: err}
	}
	l := &lineReader{name: name, file: file}
	if err := l.start(); err != nil {
		_ = file.Close()
		return nil, err
	}
	return l, nil
}

// unwrapPath says what is wrong without the file's name, which comes first.
func unwrapPath(err error) string {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}

func (l *lineReader) start() error {
	info, err := l.file.Stat()
	if err != nil {
		return &InputError{File: l.name, Msg: unwrapPath(err), err: err}
	}
	if !info.Mode().IsRegular() {
		return &InputError{File: l.name, Msg: "it is not a regular file; logs are read twice, so save a stream into a file first"}
	}
	l.info, l.size, l.latest = info, info.Size(), info.ModTime()
	if err := l.rewind(); err != nil {
		return err
	}
	head, err := l.buffer.Peek(headLength)
	if err != nil && !errors.Is(err, io.EOF) {
		return l.failed(err)
	}
	for _, other := range []struct{ magic, name string }{{"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}} {
		if l.packed == nil && bytes.HasPrefix(head, []byte(other.magic)) {
			return &InputError{File: l.name, Msg: "it is packed with " + other.name + "; unpack it first, only gzip is read"}
		}
	}
	if at := bytes.IndexByte(head, 0); at >= 0 {
		return &InputError{File: l.name, Msg: fmt.Sprintf("it is binary, no log: byte %d is zero", at)}
	}
	return nil
}

// rewind begins anew with the first line.
func (l *lineReader) rewind() error {
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return l.failed(err)
	}
	l.line = 0
	raw := bufio.NewReaderSize(io.LimitReader(l.file, l.size), maxLine)
	if magic, _ := raw.Peek(2); string(magic) != "\x1f\x8b" {
		l.packed, l.buffer = nil, raw
		return nil
	}
	packed, err := gzip.NewReader(raw)
	if err != nil {
		return l.failed(err)
	}
	// gzip notes when the original was last written; a copy's time is of the copy.
	if !packed.ModTime.IsZero() {
		l.latest = packed.ModTime
	}
	l.packed, l.buffer = packed, bufio.NewReaderSize(packed, maxLine)
	return nil
}

// next returns a line without its end, valid until the next call. A line that is
// longer than maxLine comes as its beginning, with long set.
func (l *lineReader) next() (line []byte, long bool, err error) {
	line, err = l.buffer.ReadSlice('\n')
	l.line++
	for errors.Is(err, bufio.ErrBufferFull) {
		if !long {
			line, long = bytes.Clone(line[:sampleLength]), true
		}
		_, err = l.buffer.ReadSlice('\n')
	}
	switch {
	case errors.Is(err, io.EOF) && (len(line) > 0 || long):
	case errors.Is(err, io.EOF):
		l.line--
		return nil, false, io.EOF
	case err != nil:
		return nil, false, l.failed(err)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if l.line == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line, long, nil
}

// peek shows as much of the next line as a date needs, or nothing at the end. The
// line that next returned is no longer valid.
func (l *lineReader) peek() []byte {
	head, _ := l.buffer.Peek(peekLength)
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		head = head[:end]
	}
	return head
}

func (l *lineReader) failed(err error) error {
	e := &InputError{File: l.name, Line: l.line, Msg: unwrapPath(err), err: err}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Msg = "the gzip data ends in the midst: the file was cut short; copy it again, or unpack what is there (gzip -dc FILE >LOG) and import that"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		e.Msg = "the gzip data is damaged: " + err.Error() + "; copy the file again"
	}
	return e
}

func (l *lineReader) close() error { return l.file.Close() }
