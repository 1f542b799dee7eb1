package greylist

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// SQL returns the statement that creates the function greylist_whitelisted with
// these lists, as reference/schema/greylist_whitelist.sql does with
// [DefaultWhitelist]. The whitelist must be valid (see [Whitelist.Compile]).
func (w Whitelist) SQL() string {
	var b strings.Builder
	b.WriteString(`CREATE FUNCTION greylist_whitelisted(client_name VARBINARY(255), client BINARY(16), recipient VARBINARY(512))
  RETURNS VARCHAR(9) CHARACTER SET ascii
  DETERMINISTIC NO SQL
  SQL SECURITY INVOKER
BEGIN
  DECLARE name, local_part, tail VARBINARY(512);
`)
	w.clientsSQL(&b)
	w.recipientsSQL(&b)
	b.WriteString("  RETURN '';\nEND")
	return b.String()
}

func (w Whitelist) clientsSQL(b *strings.Builder) {
	if len(w.ClientNames)+len(w.ClientPatterns) > 0 {
		b.WriteString("  SET name = LOWER(CONVERT(client_name USING hebrew));\n")
	}
	for labels, names := range byLabels(w.ClientNames) {
		fmt.Fprintf(b, "  IF SUBSTRING_INDEX(name, '.', -%d) IN (%s) THEN\n    RETURN 'client';\n  END IF;\n", labels, literals(names))
	}
	patternsSQL(b, w.ClientPatterns, "client")
	for _, network := range w.ClientNetworks {
		first, last := bounds(network)
		fmt.Fprintf(b, "  IF client BETWEEN x'%s' AND x'%s' THEN -- %s\n    RETURN 'client';\n  END IF;\n",
			hex.EncodeToString(first[:]), hex.EncodeToString(last[:]), network)
	}
}

func (w Whitelist) recipientsSQL(b *strings.Builder) {
	var users, addresses, domains, patterns []string
	patterns = append(patterns, w.RecipientPatterns...)
	for _, entry := range w.Recipients {
		user, domain, ok := strings.Cut(entry, "@")
		switch {
		case !ok:
			domains = append(domains, entry)
		case strings.Contains(user, "+"): // not the user before the first +
			patterns = append(patterns, quoteICU(user, domain))
		case domain == "":
			users = append(users, user)
		default:
			addresses = append(addresses, entry)
		}
	}
	if len(w.Recipients)+len(patterns) > 0 {
		b.WriteString("  SET name = LOWER(CONVERT(recipient USING hebrew));\n")
	}
	if len(users)+len(addresses) > 0 {
		b.WriteString("  IF LOCATE('@', name) > 0 THEN\n" +
			"    -- Without the extension; 'user+' has none, and is another user.\n" +
			"    SET tail = SUBSTRING_INDEX(name, '@', 1), local_part = SUBSTRING_INDEX(tail, '+', 1);\n" +
			"    IF LENGTH(tail) <> LENGTH(local_part) + 1 THEN\n")
		if len(users) > 0 {
			fmt.Fprintf(b, "      IF local_part IN (%s) THEN\n        RETURN 'recipient';\n      END IF;\n", literals(users))
		}
		if len(addresses) > 0 {
			fmt.Fprintf(b, "      IF CONCAT(local_part, SUBSTRING(name, LOCATE('@', name))) IN (%s) THEN\n        RETURN 'recipient';\n      END IF;\n", literals(addresses))
		}
		b.WriteString("    END IF;\n  END IF;\n")
	}
	for labels, names := range byLabels(domains) {
		fmt.Fprintf(b, "  SET tail = SUBSTRING_INDEX(SUBSTRING_INDEX(name, '.', -%d), '@', -1);\n"+
			"  IF tail IN (%s) AND LENGTH(name) > LENGTH(tail) THEN\n    RETURN 'recipient';\n  END IF;\n", labels, literals(names))
	}
	patternsSQL(b, patterns, "recipient")
}

// patternsSQL tests the variable name against patterns, character by character
// of latin1, which takes any byte. The server compiles a pattern at every call,
// which costs more than anything else here: all are made one.
func patternsSQL(b *strings.Builder, patterns []string, verdict string) {
	if len(patterns) == 0 {
		return
	}
	one := "(?:" + strings.Join(patterns, ")|(?:") + ")"
	fmt.Fprintf(b, "  IF REGEXP_LIKE(CONVERT(name USING latin1), %s, 'i') THEN\n    RETURN '%s';\n  END IF;\n", literal(one), verdict)
}

// quoteICU is the pattern for user, with an extension or without, in domain, or
// in any domain if that is empty.
func quoteICU(user, domain string) string {
	if domain == "" {
		return `^\Q` + user + `\E(\+[^@]+)?@`
	}
	return `^\Q` + user + `\E(\+[^@]+)?@\Q` + domain + `\E$`
}

// byLabels yields names by how many labels they have, in order.
func byLabels(names []string) func(func(int, []string) bool) {
	groups := map[int][]string{}
	for _, name := range names {
		labels := strings.Count(name, ".") + 1
		groups[labels] = append(groups[labels], name)
	}
	return func(yield func(int, []string) bool) {
		for _, labels := range slices.Sorted(maps.Keys(groups)) {
			if !yield(labels, groups[labels]) {
				return
			}
		}
	}
}

func literals(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = literal(t)
	}
	return strings.Join(quoted, ", ")
}

// literal quotes printable ASCII text for every sql_mode with backslash escapes,
// which is what procedures are created with.
func literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// bounds are the first and the last address of a network, as client keys.
func bounds(network netip.Prefix) (first, last Key) {
	first = ClientKey(network.Addr())
	bits := network.Bits()
	if network.Addr().Is4() {
		bits += 96
	}
	last = first
	for bit := bits; bit < 128; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return first, last
}
