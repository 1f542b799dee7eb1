package schema

import (
	"fmt"
	"strings"
)

// split cuts a script into statements, as the mysql client does: they end with
// the delimiter, which a line "DELIMITER x" between statements changes. Comments
// between statements are dropped, those inside are kept.
func split(script string) ([]string, error) {
	var (
		statements []string
		delimiter  = ";"
		statement  strings.Builder
		lineStart  = true
	)
	for rest := script; rest != ""; {
		if statement.Len() == 0 && lineStart {
			if line, after, ok := delimiterLine(rest); ok {
				if line == "" {
					return nil, fmt.Errorf("DELIMITER without a delimiter after %d statements", len(statements))
				}
				delimiter, rest = line, after
				continue
			}
		}
		if strings.HasPrefix(rest, delimiter) {
			if s := strings.TrimSpace(statement.String()); s != "" {
				statements = append(statements, s)
			}
			statement.Reset()
			rest, lineStart = rest[len(delimiter):], false
			continue
		}
		kind, n := lexeme(rest)
		if kind == unterminated {
			return nil, fmt.Errorf("quoted text or comment without an end: %.40q", rest)
		}
		// Nothing has been said yet: neither blanks nor comments start a statement.
		if statement.Len() > 0 || kind == plain || kind == quoted {
			statement.WriteString(rest[:n])
		}
		lineStart = rest[n-1] == '\n'
		rest = rest[n:]
	}
	if s := strings.TrimSpace(statement.String()); s != "" {
		return nil, fmt.Errorf("statement without the delimiter %q at its end: %.40q", delimiter, s)
	}
	return statements, nil
}

// delimiterLine says whether text starts with a line "DELIMITER x", and returns
// x and what follows the line.
func delimiterLine(text string) (delimiter, after string, ok bool) {
	const word = "delimiter"
	line, after, _ := strings.Cut(text, "\n")
	if len(line) < len(word) || !strings.EqualFold(line[:len(word)], word) {
		return "", "", false
	}
	argument := line[len(word):]
	if argument != "" && !strings.ContainsAny(argument[:1], " \t\r") {
		return "", "", false
	}
	return strings.TrimSpace(argument), after, true
}

// normal is a statement without comments and with single blanks, so that a
// routine that went through a client that drops comments is still the same.
func normal(statement string) string {
	var b strings.Builder
	blank := false
	for rest := statement; rest != ""; {
		kind, n := lexeme(rest)
		switch kind {
		case space, comment:
			blank = true
		default:
			if blank && b.Len() > 0 {
				b.WriteByte(' ')
			}
			blank = false
			b.WriteString(rest[:n])
		}
		rest = rest[n:]
	}
	return b.String()
}

// kind is what a lexeme is.
type kind int

const (
	plain        kind = iota // one byte
	space                    // one blank
	comment                  // with the end of its line, if it has one
	quoted                   // with its quotes
	unterminated             // quoted text or a comment that lacks its end
)

// lexeme returns the kind and length of what text, which is not empty, starts
// with (MySQL manual, "Comments" and "String Literals").
func lexeme(text string) (kind, int) {
	switch c := text[0]; {
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		return space, 1
	case c == '#', strings.HasPrefix(text, "--") && (len(text) == 2 || text[2] <= ' '):
		if i := strings.IndexByte(text, '\n'); i >= 0 {
			return comment, i + 1
		}
		return comment, len(text)
	case strings.HasPrefix(text, "/*"):
		if i := strings.Index(text[2:], "*/"); i >= 0 {
			return comment, i + 4
		}
		return unterminated, len(text)
	case c == '\'' || c == '"' || c == '`':
		// A doubled quote reads as two quoted texts side by side: all the same.
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] == c:
				return quoted, i + 1
			case text[i] == '\\' && c != '`':
				i++
			}
		}
		return unterminated, len(text)
	default:
		return plain, 1
	}
}
