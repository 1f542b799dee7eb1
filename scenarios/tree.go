package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is what a node is.
type kind uint8

const (
	textKind   kind = iota // a string, quoted or plain
	numberKind             // as it was written: its reader decides what it means
	boolKind
	nullKind
	mappingKind
	sequenceKind
)

// node is one value of a scenario file: a YAML tree without what scenarios do
// not need (anchors, tags, keys that are not text), small enough to edit and
// print. A nil *node is a value that was not written.
type node struct {
	kind    kind
	text    string // of a scalar
	pairs   []pair // of a mapping, in the order of the file
	entries []*node
	at      position
}

type pair struct {
	key   string
	keyAt position
	value *node
}

func (n *node) get(key string) *node {
	for _, p := range n.pairs {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// show words what was written, for "must be …, not …".
func (n *node) show() string {
	switch n.kind {
	case mappingKind:
		return "a mapping"
	case sequenceKind:
		return "a list"
	case nullKind:
		return "empty (leave the key out for its default)"
	case textKind:
		return quote(n.text)
	default:
		return strings.Trim(quote(n.text), `"`)
	}
}

const (
	maxSize      = 1 << 20 // bytes of a scenario file
	maxTokens    = 20_000  // words and signs: the parser takes minutes for a mapping of 1 MiB
	maxFlowDepth = 16      // [ and { that are open at one place
	maxIndent    = 100     // columns before the first character of a line
	maxDashes    = 8       // "- - - x" on one line
)

// parseTree reads one YAML document. It refuses what could make a small file
// large or deep before the parser, which recurses, sees it.
func parseTree(name string, data []byte, isFile bool) (*node, *InputError) {
	src := &source{name: name}
	top := position{source: src, line: 1, column: 1}
	if len(data) > maxSize {
		return nil, top.errorf("is larger than 1 MiB: this is not a scenario file")
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	if isFile {
		src.lines = strings.Split(text, "\n")
	}
	if err := checkCharacters(src, text); err != nil {
		return nil, err
	}
	doc, err := parseDocument(src, text)
	if err != nil {
		return nil, err
	}
	if doc == nil {
		return &node{kind: nullKind, at: top}, nil
	}
	return convert(src, doc)
}

// checkCharacters refuses what YAML 1.2 does not allow (section 5.1), with the
// place at which it stands.
func checkCharacters(src *source, text string) *InputError {
	line, column := 1, 1
	for i, r := range text {
		switch {
		case r == '\n':
			line, column = line+1, 1
			continue
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return position{src, line, column}.errorf("is not UTF-8 text")
		case unicode.IsControl(r) && r != '\t':
			return position{src, line, column}.errorf("has a control character, %U", r)
		}
		column++
	}
	return nil
}

func parseDocument(src *source, text string) (doc ast.Node, failure *InputError) {
	// The parser is somebody else's and files are anybody's: a panic in it is a
	// file that cannot be read, not the end of the program.
	defer func() {
		if r := recover(); r != nil {
			doc, failure = nil, position{src, 1, 1}.errorf("cannot be read as YAML (the parser gave up: %v)", r)
		}
	}()
	tokens := lexer.Tokenize(text)
	if err := checkTokens(src, tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		var yamlErr yaml.Error
		if errors.As(err, &yamlErr) && yamlErr.GetToken() != nil {
			return nil, tokenPosition(src, yamlErr.GetToken()).errorf("%s", yamlErr.GetMessage())
		}
		return nil, position{src, 1, 1}.errorf("cannot be read as YAML: %v", err)
	}
	if len(file.Docs) > 1 {
		return nil, tokenPosition(src, file.Docs[1].Start).errorf("holds more than one YAML document; keep one scenario a file")
	}
	if len(file.Docs) == 0 {
		return nil, nil
	}
	return file.Docs[0].Body, nil
}

// checkTokens bounds the depth of the tree and refuses the parts of YAML that
// copy or retype values.
func checkTokens(src *source, tokens token.Tokens) *InputError {
	flow, line, dashes := 0, 0, 0
	for i, t := range tokens {
		at := tokenPosition(src, t)
		if i == maxTokens {
			return at.errorf("is more than a scenario can hold")
		}
		if at.line != line {
			line, dashes = at.line, 0
			if flow == 0 && at.column > maxIndent {
				return at.errorf("is indented by more than %d columns", maxIndent)
			}
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType:
			dashes++
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return at.errorf("anchors, aliases and merge keys are not allowed in a scenario; write the value out")
		case token.TagType, token.DirectiveType:
			return at.errorf("tags and directives are not allowed in a scenario")
		case token.MappingKeyType:
			return at.errorf("a key must be a plain name, without '?'")
		}
		if flow > maxFlowDepth || dashes > maxDashes {
			return at.errorf("is nested too deeply")
		}
	}
	return nil
}

func tokenPosition(src *source, t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{src, 1, 1}
	}
	return position{src, t.Position.Line, max(1, t.Position.Column)}
}

// convert turns the parser's tree into ours.
func convert(src *source, from ast.Node) (*node, *InputError) {
	n := &node{at: tokenPosition(src, from.GetToken())}
	scalar := func(k kind, text string) (*node, *InputError) {
		n.kind, n.text = k, text
		return n, nil
	}
	switch v := from.(type) {
	case *ast.StringNode:
		return scalar(textKind, v.Value)
	case *ast.LiteralNode:
		return scalar(textKind, v.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return scalar(numberKind, v.GetToken().Value)
	case *ast.BoolNode:
		return scalar(boolKind, v.GetToken().Value)
	case *ast.NullNode:
		return scalar(nullKind, "")
	case *ast.SequenceNode:
		n.kind = sequenceKind
		for _, entry := range v.Values {
			e, err := convert(src, entry)
			if err != nil {
				return nil, err
			}
			n.entries = append(n.entries, e)
		}
		return n, nil
	case *ast.MappingNode:
		return convertMapping(src, n, v.Values)
	case *ast.MappingValueNode:
		return convertMapping(src, n, []*ast.MappingValueNode{v})
	default:
		return nil, n.at.errorf("%s is not allowed in a scenario", strings.ToLower(from.Type().String()))
	}
}

func convertMapping(src *source, n *node, values []*ast.MappingValueNode) (*node, *InputError) {
	n.kind = mappingKind
	known := make(map[string]bool, len(values))
	for i, v := range values {
		keyAt := tokenPosition(src, v.Key.GetToken())
		if i == 0 && n.at.line == keyAt.line && n.at.column > keyAt.column {
			n.at = keyAt // the parser places a block mapping at its first colon
		}
		key, ok := v.Key.(*ast.StringNode)
		switch {
		case !ok:
			return nil, keyAt.errorf("a key must be a plain name")
		case known[key.Value]:
			return nil, keyAt.errorf("%s is written twice", quote(key.Value))
		}
		known[key.Value] = true
		value, err := convert(src, v.Value)
		if err != nil {
			return nil, err
		}
		if value.kind == nullKind {
			value.at = keyAt // mostly nothing stands after the colon to point at
		}
		n.pairs = append(n.pairs, pair{key: key.Value, keyAt: keyAt, value: value})
	}
	return n, nil
}

// print writes a tree as YAML: mappings in block style, lists of scalars in one
// line.
func (n *node) print(b *strings.Builder, indent string) {
	for _, p := range n.pairs {
		b.WriteString(indent)
		p.print(b, indent)
	}
}

func (p pair) print(b *strings.Builder, indent string) {
	v := p.value
	switch {
	case v.kind == mappingKind && len(v.pairs) > 0:
		fmt.Fprintf(b, "%s:\n", inlineText(p.key))
		v.print(b, indent+"  ")
	case v.kind == sequenceKind && len(v.entries) > 0 && v.entries[0].kind == mappingKind:
		fmt.Fprintf(b, "%s:\n", inlineText(p.key))
		for _, e := range v.entries {
			for i, field := range e.pairs {
				if i == 0 {
					b.WriteString(indent + "  - ")
				} else {
					b.WriteString(indent + "    ")
				}
				field.print(b, indent+"    ")
			}
		}
	default:
		fmt.Fprintf(b, "%s: %s\n", inlineText(p.key), v.inline())
	}
}

// inline writes a scalar, a list of scalars or something empty.
func (n *node) inline() string {
	switch n.kind {
	case mappingKind:
		return "{}"
	case sequenceKind:
		var entries []string
		for _, e := range n.entries {
			entries = append(entries, e.inline())
		}
		return "[" + strings.Join(entries, ", ") + "]"
	case textKind:
		return inlineText(n.text)
	default:
		return n.text
	}
}

// inlineText writes a text, in quotes where it needs them.
func inlineText(s string) string {
	if plainText(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// plainText says whether every YAML reader takes s, unquoted, for itself.
func plainText(s string) bool {
	switch strings.ToLower(s) {
	case "", "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return false
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		inner := r >= '0' && r <= '9' || r == ' ' || r == '-' || r == '_' || r == '.'
		if !letter && (i == 0 || !inner) {
			return false
		}
	}
	return !strings.HasSuffix(s, " ")
}
