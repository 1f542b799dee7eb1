package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Kind is what a node is.
type Kind uint8

const (
	TextKind   Kind = iota // a string, quoted or plain
	NumberKind             // as it was written: its reader decides what it means
	BoolKind
	NullKind
	MappingKind
	SequenceKind
)

// Node is one value of a file: a YAML tree without what settings do not
// need (anchors, tags, keys that are not text), small enough to edit and
// print. A nil *Node is a value that was not written.
type Node struct {
	Kind    Kind
	Text    string // of a scalar
	Pairs   []Pair // of a mapping, in the order of the file
	Entries []*Node
	At      Position
}

// Pair is a key with its value.
type Pair struct {
	Key   string
	KeyAt Position
	Value *Node
}

// Get is the value of a key, or nil.
func (n *Node) Get(key string) *Node {
	for _, p := range n.Pairs {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// Remove takes keys out.
func (n *Node) Remove(keys ...string) {
	n.Pairs = slices.DeleteFunc(n.Pairs, func(p Pair) bool { return slices.Contains(keys, p.Key) })
}

// Set replaces the value of a key, or adds the key.
func (n *Node) Set(p Pair) {
	for i := range n.Pairs {
		if n.Pairs[i].Key == p.Key {
			n.Pairs[i].Value = p.Value
			return
		}
	}
	n.Pairs = append(n.Pairs, p)
}

// Show words what was written, for "must be …, not …".
func (n *Node) Show() string {
	switch n.Kind {
	case MappingKind:
		return "a mapping"
	case SequenceKind:
		return "a list"
	case NullKind:
		return "empty (leave the key out for its default)"
	case TextKind:
		return Quote(n.Text)
	default:
		return strings.Trim(Quote(n.Text), `"`)
	}
}

const (
	MaxSize      = 1 << 20 // bytes of a file
	maxTokens    = 20_000  // words and signs: the parser takes minutes for a mapping of 1 MiB
	maxFlowDepth = 16      // [ and { that are open at one place
	maxIndent    = 100     // columns before the first character of a line
	maxDashes    = 8       // "- - - x" on one line
)

// ParseTree reads one YAML document. It refuses what could make a small file
// large or deep before the parser, which recurses, sees it.
func ParseTree(noun, name string, data []byte, isFile bool) (*Node, *InputError) {
	src := &source{noun: noun, name: name}
	top := Position{source: src, line: 1, column: 1}
	if len(data) > MaxSize {
		return nil, top.Errorf("is larger than 1 MiB: this is not a %s file", noun)
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
		return &Node{Kind: NullKind, At: top}, nil
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
			return Position{src, line, column}.Errorf("is not UTF-8 text")
		case unicode.IsControl(r) && r != '\t':
			return Position{src, line, column}.Errorf("has a control character, %U", r)
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
			doc, failure = nil, Position{src, 1, 1}.Errorf("cannot be read as YAML (the parser gave up: %v)", r)
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
			return nil, tokenPosition(src, yamlErr.GetToken()).Errorf("%s", yamlErr.GetMessage())
		}
		return nil, Position{src, 1, 1}.Errorf("cannot be read as YAML: %v", err)
	}
	if len(file.Docs) > 1 {
		return nil, tokenPosition(src, file.Docs[1].Start).Errorf("holds more than one YAML document; keep one %s a file", src.noun)
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
			return at.Errorf("is more than a %s can hold", src.noun)
		}
		if at.line != line {
			line, dashes = at.line, 0
			if flow == 0 && at.column > maxIndent {
				return at.Errorf("is indented by more than %d columns", maxIndent)
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
			return at.Errorf("anchors, aliases and merge keys are not allowed in a %s; write the value out", src.noun)
		case token.TagType, token.DirectiveType:
			return at.Errorf("tags and directives are not allowed in a %s", src.noun)
		case token.MappingKeyType:
			return at.Errorf("a key must be a plain name, without '?'")
		}
		if flow > maxFlowDepth || dashes > maxDashes {
			return at.Errorf("is nested too deeply")
		}
	}
	return nil
}

func tokenPosition(src *source, t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{src, 1, 1}
	}
	return Position{src, t.Position.Line, max(1, t.Position.Column)}
}

// convert turns the parser's tree into ours.
func convert(src *source, from ast.Node) (*Node, *InputError) {
	n := &Node{At: tokenPosition(src, from.GetToken())}
	scalar := func(k Kind, text string) (*Node, *InputError) {
		n.Kind, n.Text = k, text
		return n, nil
	}
	switch v := from.(type) {
	case *ast.StringNode:
		return scalar(TextKind, v.Value)
	case *ast.LiteralNode:
		return scalar(TextKind, v.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return scalar(NumberKind, v.GetToken().Value)
	case *ast.BoolNode:
		return scalar(BoolKind, v.GetToken().Value)
	case *ast.NullNode:
		return scalar(NullKind, "")
	case *ast.SequenceNode:
		n.Kind = SequenceKind
		for _, entry := range v.Values {
			e, err := convert(src, entry)
			if err != nil {
				return nil, err
			}
			n.Entries = append(n.Entries, e)
		}
		return n, nil
	case *ast.MappingNode:
		return convertMapping(src, n, v.Values)
	case *ast.MappingValueNode:
		return convertMapping(src, n, []*ast.MappingValueNode{v})
	default:
		return nil, n.At.Errorf("%s is not allowed in a %s", strings.ToLower(from.Type().String()), src.noun)
	}
}

func convertMapping(src *source, n *Node, values []*ast.MappingValueNode) (*Node, *InputError) {
	n.Kind = MappingKind
	known := make(map[string]bool, len(values))
	for i, v := range values {
		keyAt := tokenPosition(src, v.Key.GetToken())
		if i == 0 && n.At.line == keyAt.line && n.At.column > keyAt.column {
			n.At = keyAt // the parser places a block mapping at its first colon
		}
		key, ok := v.Key.(*ast.StringNode)
		switch {
		case !ok:
			return nil, keyAt.Errorf("a key must be a plain name")
		case known[key.Value]:
			return nil, keyAt.Errorf("%s is written twice", Quote(key.Value))
		}
		known[key.Value] = true
		value, err := convert(src, v.Value)
		if err != nil {
			return nil, err
		}
		if value.Kind == NullKind {
			value.At = keyAt // mostly nothing stands after the colon to point at
		}
		n.Pairs = append(n.Pairs, Pair{Key: key.Value, KeyAt: keyAt, Value: value})
	}
	return n, nil
}

// Print writes a tree as YAML: mappings in block style, lists of scalars in one
// line.
func (n *Node) Print(b *strings.Builder, indent string) {
	for _, p := range n.Pairs {
		b.WriteString(indent)
		p.Print(b, indent)
	}
}

func (p Pair) Print(b *strings.Builder, indent string) {
	v := p.Value
	switch {
	case v.Kind == MappingKind && len(v.Pairs) > 0:
		fmt.Fprintf(b, "%s:\n", inlineText(p.Key))
		v.Print(b, indent+"  ")
	case v.Kind == SequenceKind && len(v.Entries) > 0 && v.Entries[0].Kind == MappingKind:
		fmt.Fprintf(b, "%s:\n", inlineText(p.Key))
		for _, e := range v.Entries {
			for i, field := range e.Pairs {
				if i == 0 {
					b.WriteString(indent + "  - ")
				} else {
					b.WriteString(indent + "    ")
				}
				field.Print(b, indent+"    ")
			}
		}
	default:
		fmt.Fprintf(b, "%s: %s\n", inlineText(p.Key), v.Inline())
	}
}

// Inline writes a scalar, a list of scalars or something empty.
func (n *Node) Inline() string {
	switch n.Kind {
	case MappingKind:
		return "{}"
	case SequenceKind:
		var entries []string
		for _, e := range n.Entries {
			entries = append(entries, e.Inline())
		}
		return "[" + strings.Join(entries, ", ") + "]"
	case TextKind:
		return inlineText(n.Text)
	default:
		return n.Text
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
