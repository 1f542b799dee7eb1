package scenarios

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
)

// screen shares a terminal between a block of lines that is drawn over itself and
// the lines of others, which scroll by above it. The cursor is never hidden, and
// rests in the first column below the block: whatever ends the program leaves
// nothing to put right.
type screen struct {
	w    io.Writer
	size func() (columns, lines int)

	mu      sync.Mutex
	block   []string // as it is drawn; none if nothing is
	columns int      // of the terminal then
	rest    []byte   // of a line of others that has not ended yet
}

// Sequences of ECMA-48, beside those for colours.
const (
	cursorUp    = "\x1b[%dA"
	eraseLine   = "\x1b[K" // from the cursor to the line's end
	eraseScreen = "\x1b[J" // from the cursor to the screen's end
)

// show draws the block anew, over the one before. None erases it.
func (s *screen) show(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A terminal that cannot be written to is no reason to end a run.
	_ = s.draw(nil, lines)
}

// draw writes what others say where the block was, and a block below.
func (s *screen) draw(said []byte, block []string) error {
	var b bytes.Buffer
	columns, rows := s.size()
	// In a window that has become too small for it the block's lines may be broken
	// or scrolled away, and its place is not known: another one begins below.
	if n := len(s.block); n > 0 && columns >= s.columns && rows > n {
		fmt.Fprintf(&b, cursorUp, n)
	}
	if len(said) > 0 {
		b.WriteString(eraseScreen)
		b.Write(said)
	}
	for _, line := range block {
		b.WriteString(line + eraseLine + "\n")
	}
	b.WriteString(eraseScreen)
	s.block, s.columns = slices.Clone(block), columns
	_, err := s.w.Write(b.Bytes()) // in one piece, so that nothing flickers
	return err
}

// Write shows the lines of others: as they come while no block is drawn, and whole
// ones above the block while one is.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.block) == 0 {
		return s.w.Write(p)
	}
	s.rest = append(s.rest, p...)
	end := bytes.LastIndexByte(s.rest, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	said := s.rest[:end]
	s.rest = slices.Clone(s.rest[end:])
	if err := s.draw(said, s.block); err != nil {
		return 0, err
	}
	return len(p), nil
}

// leave lets the block stand where it is. What comes goes below it, another block
// too.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block = nil
	if len(s.rest) > 0 {
		_, _ = s.w.Write(s.rest) // as in show
		s.rest = nil
	}
}
