package maillog

import (
	"bytes"
	"hash/maphash"
)

// parseExim reads a line of the main or the reject log from behind its date.
func parseExim(b []byte, seed maphash.Seed, e *entry) Kind {
	e.program = Exim
	whole := b
	if len(b) > 2 && b[0] == '[' { // log_selector +pid
		if end := bytes.IndexByte(b, ']'); end > 0 && end < 16 && len(b) > end+2 {
			b = b[end+2:]
		}
	}
	if id, rest, ok := cutEximID(b); ok {
		e.id = id
		return parseEximMessage(rest, whole, seed, e)
	}
	if at := bytes.Index(b, []byte("rejected RCPT ")); at >= 0 {
		return parseEximReject(b, at, whole, seed, e)
	}
	return eximOther(b)
}

// cutEximID takes a message id, which has 6-6-2 letters, or 6-11-4 since 4.97.
func cutEximID(b []byte) (id, rest []byte, ok bool) {
	for _, form := range [...][2]int{{13, 16}, {18, 23}} {
		second, length := form[0], form[1]
		if len(b) > length && b[length] == ' ' && b[6] == '-' && b[second] == '-' {
			for i, c := range b[:length] {
				if i != 6 && i != second && !isAlnum(c) {
					return nil, b, false
				}
			}
			return b[:length], b[length+1:], true
		}
	}
	return nil, b, false
}

func parseEximMessage(b, whole []byte, seed maphash.Seed, e *entry) Kind {
	if len(b) < 3 {
		return KindUnknown
	}
	if string(b) == "Completed" || bytes.HasPrefix(b, []byte("Completed ")) {
		e.kind = done
		return KindEximRecipient
	}
	if b[2] == ' ' {
		switch string(b[:2]) {
		case "<=":
			return parseEximArrival(b[3:], e)
		case "=>", "->", "==", "**", ">>", "*>", "(=":
			to, ok := eximRecipient(b[3:])
			if !ok {
				return KindUnknown
			}
			e.kind = recipient
			e.recipients = append(e.recipients, to)
			return KindEximRecipient
		case "<>":
			return KindEximOther
		}
	}
	if at := firstOf(b, " rejected after DATA", " rejected during MIME", " rejected by local_scan", " rejected from "); at < len(b) {
		// The recipients follow in the reject log only.
		if !eximPeer(b[:at], e) {
			return KindEximOther
		}
		e.kind, e.outcome = attempt, refused
		if bytes.HasSuffix(b[:at], []byte(" temporarily")) {
			e.outcome = deferred
		}
		e.text = maphash.Bytes(seed, whole)
		return KindEximData
	}
	return KindEximOther
}

// parseEximArrival reads what follows "<=": "sender H=name (helo) [address]:port
// I=[..]:25 U=ident P=esmtps X=.. A=login:ann S=261 id=.. T="subject" from
// <sender> for a b".
func parseEximArrival(b []byte, e *entry) Kind {
	from, rest := addressToken(b)
	if len(from) == 0 {
		return KindUnknown
	}
	if string(from) != "<>" {
		e.sender = from
	}
	e.kind = arrival
	// The subject is the sender's own words.
	fields, after := rest, rest
	if at := bytes.Index(rest, []byte(` T="`)); at >= 0 {
		fields, after = rest[:at], nil
		for i := at + 4; i < len(rest); i++ {
			if rest[i] == '\\' {
				i++
			} else if rest[i] == '"' {
				after = rest[i+1:]
				break
			}
		}
	}
	if at := bytes.Index(fields, []byte(" H=")); at >= 0 {
		if !eximClient(fields[at:], e) {
			return KindUnknown
		}
		e.own = e.own || e.client.IsLoopback() || bytes.Contains(fields[firstOf(fields, " P="):], []byte(" A="))
	} else {
		e.own = true // from this machine
	}
	if at := bytes.Index(after, []byte(" from <")); at >= 0 { // +received_sender
		after = after[at+len(" from <"):]
		if end := bytes.Index(after, []byte("> for ")); end >= 0 {
			after = after[end+1:]
		}
	}
	if at := bytes.Index(after, []byte(" for ")); at >= 0 { // +received_recipients
		for after = after[at+len(" for "):]; len(after) > 0; {
			var to []byte
			if to, after = addressToken(after); len(to) > 0 {
				e.recipients = append(e.recipients, to)
			}
			after = bytes.TrimLeft(after, " ")
		}
	}
	return KindEximArrival
}

// addressToken takes an address, in which quotes may hold spaces.
func addressToken(b []byte) (address, rest []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// eximRecipient is the address as it came in: of "ann <staff@our.example> R=.."
// the one in brackets, which is before redirection, else the only one.
func eximRecipient(b []byte) ([]byte, bool) {
	b = b[:firstOf(b, " F=<", " P=<", " R=", " T=", " SRS=<", " H=")]
	if open := bytes.LastIndex(b, []byte(" <")); open >= 0 {
		if end := bytes.IndexByte(b[open:], '>'); end > 0 {
			return b[open+2 : open+end], end > 2
		}
	}
	to, _ := addressToken(b)
	to = bytes.TrimSuffix(to, []byte(":")) // "** nobody@our.example: Unrouteable address"
	return to, len(to) > 0
}

// eximPeer reads H=, F= and A= of a line of a rejection.
func eximPeer(b []byte, e *entry) bool {
	at := bytes.Index(b, []byte("H="))
	if at < 0 || at > 0 && b[at-1] != ' ' || !eximClient(b[at:], e) {
		return false
	}
	from, after, ok := between(b[at:], " F=<", ">")
	if !ok {
		return false
	}
	e.sender = from
	e.own = e.client.IsLoopback() || bytes.Contains(after, []byte(" A="))
	return true
}

// eximClient takes the peer's address, behind which I= may name our own.
func eximClient(b []byte, e *entry) (ok bool) {
	e.client, ok = bracketed(b[:firstOf(b, " I=[", " P=", " U=", " X=", " F=<", " A=", " CV=", " L ", " PRX=")])
	return ok
}

// parseEximReject reads "H=name (helo) [address] F=<s> rejected RCPT <r>: why".
func parseEximReject(b []byte, at int, whole []byte, seed maphash.Seed, e *entry) Kind {
	head := bytes.TrimSuffix(b[:at], []byte(" "))
	e.outcome = refused
	if before, is := bytes.CutSuffix(head, []byte(" temporarily")); is {
		head, e.outcome = before, deferred
	}
	if !eximPeer(head, e) {
		return KindEximOther // without a peer or a sender it is no mail that comes in
	}
	to := b[at+len("rejected RCPT "):]
	if len(to) > 0 && to[0] == '<' {
		to = to[1:]
		end := bytes.Index(to, []byte(">:"))
		if end < 0 {
			if end = bytes.LastIndexByte(to, '>'); end < 0 {
				return KindUnknown
			}
		}
		to = to[:end]
	} else {
		to, _ = addressToken(to)
		to = bytes.TrimSuffix(to, []byte(":"))
	}
	if len(to) == 0 {
		return KindUnknown
	}
	e.kind = attempt
	e.recipients = append(e.recipients, to)
	e.text = maphash.Bytes(seed, whole)
	return KindEximReject
}

// eximOther knows what else Exim logs that is of no message. The list follows
// Exim's own (spec, chapter "Log files"); what is not in it is shown as not
// understood.
func eximOther(b []byte) Kind {
	for _, known := range [...]string{
		"SMTP ", "no host name found", "no IP address found", "Start queue run", "End queue run", "exim ", "TLS ", "unexpected ", "Warning: ", "no MAIL in ",
		"lost ", "refused connection", "Connection from", "rejected ", "ident connection", "cwd=", "SIGHUP", "pid ", "H=", "U=", "Failed ", "DKIM: ", "rDNS ",
		"socket ", "listening ", "auxiliary", "host ", "too many ", "queue ", "no such ", "Remote host", "daemon", "RCPT ", "MAIL ", "recipients ", "Completed",
		"authenticator", "re-exec", "bad ", "dnsdb", "DNS list", "failed to ", "temporarily rejected ", "fake", "sender verify", "verify ", "1 ",
	} {
		if bytes.HasPrefix(b, []byte(known)) {
			return KindEximOther
		}
	}
	for _, known := range [...]string{" authenticator failed", " authenticator ", " rejected ", " closed ", " lost "} {
		if bytes.Contains(b, []byte(known)) {
			return KindEximOther
		}
	}
	return KindUnknown
}
