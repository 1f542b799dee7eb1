package maillog

import "bytes"

// parsePostfix reads a line of one of Postfix's programs.
func parsePostfix(program, b []byte, e *entry) Kind {
	e.program = Postfix
	if rest, ok := bytes.CutPrefix(b, []byte("NOQUEUE: ")); ok {
		return parsePostfixReject(rest, e)
	}
	id, rest, ok := cutID(b)
	if !ok {
		return postfixOther(program, b)
	}
	e.id = id
	switch {
	case bytes.HasPrefix(rest, []byte("client=")):
		rest = rest[len("client="):]
		end := firstOf(rest, ", ")
		var known bool
		if e.client, known = bracketed(rest[:end]); !known {
			return KindUnknown
		}
		e.kind = arrival
		e.own = e.client.IsLoopback() || bytes.Contains(rest[end:], []byte("sasl_username=")) || bytes.Contains(rest[end:], []byte("sasl_method="))
		// A proxy or a content filter before us tells of the true client.
		if from, _, is := between(rest[end:], "orig_client=", "]"); is {
			if at := bytes.LastIndexByte(from, '['); at >= 0 {
				if client, known := parseClient(from[at+1:]); known && !client.IsLoopback() {
					e.client, e.own = client, bytes.Contains(rest[end:], []byte("sasl_"))
				}
			}
		}
		return KindPostfixClient
	case bytes.HasPrefix(rest, []byte("from=<")):
		from, _, ok := between(rest, "from=<", ">, ")
		if !ok {
			return KindUnknown
		}
		e.kind, e.sender = sender, from
		return KindPostfixSender
	case bytes.HasPrefix(rest, []byte("to=<")):
		to, after, ok := between(rest, "to=<", ">, ")
		if !ok {
			return KindUnknown
		}
		// What the sender wrote, before aliases.
		if bytes.HasPrefix(after, []byte("orig_to=<")) {
			if to, _, ok = between(after, "orig_to=<", ">, "); !ok {
				return KindUnknown
			}
		}
		e.kind = recipient
		e.recipients = append(e.recipients, to)
		return KindPostfixRecipient
	case string(rest) == "removed":
		e.kind = done
		return KindPostfixSender
	}
	return parsePostfixReject(rest, e)
}

// parsePostfixReject reads "reject: RCPT from name[address]: 450 4.2.0 ...;
// from=<s> to=<r> proto=ESMTP helo=<h>"; postscreen puts commas between.
func parsePostfixReject(b []byte, e *entry) Kind {
	what, rest, ok := bytes.Cut(b, []byte(": "))
	if !ok || string(what) != "reject" && string(what) != "milter-reject" {
		return KindPostfixOther
	}
	mail := bytes.LastIndex(rest, []byte("; from=<"))
	if mail < 0 {
		return KindPostfixOther // at CONNECT, EHLO or MAIL: there is no recipient yet
	}
	_, peer, ok := bytes.Cut(rest[:mail], []byte(" from "))
	if !ok {
		return KindUnknown
	}
	// "name[address]: 450 ..." or "[address]:port: 450 ...".
	end := bytes.IndexByte(peer, ']')
	if end < 0 {
		return KindUnknown
	}
	client, ok := bracketed(peer[:end+1])
	if !ok {
		return KindUnknown
	}
	_, code, ok := bytes.Cut(peer[end:], []byte(": "))
	if !ok || len(code) == 0 {
		return KindUnknown
	}
	switch code[0] {
	case '4':
		e.outcome = deferred
	case '5':
		e.outcome = refused
	default:
		return KindUnknown
	}
	envelope := rest[mail+len("; from=<"):]
	separator := "> to=<"
	at := bytes.Index(envelope, []byte(separator))
	if at < 0 {
		separator = ">, to=<"
		if at = bytes.Index(envelope, []byte(separator)); at < 0 {
			return KindPostfixOther // rejected before a recipient was named
		}
	}
	to := envelope[at+len(separator):]
	stop := firstOf(to, "> proto=", ">, proto=", "> helo=", ">, helo=")
	if stop == len(to) {
		if stop = bytes.LastIndexByte(to, '>'); stop < 0 {
			return KindUnknown
		}
	}
	e.kind, e.client, e.sender, e.own = attempt, client, envelope[:at], client.IsLoopback()
	e.recipients = append(e.recipients, to[:stop])
	return KindPostfixReject
}

// postfixOther knows what else Postfix's programs log. What they warn of is
// theirs too.
func postfixOther(program, b []byte) Kind {
	for _, level := range [...]string{"warning: ", "error: ", "fatal: ", "panic: ", "statistics: "} {
		if bytes.HasPrefix(b, []byte(level)) {
			return KindPostfixOther
		}
	}
	switch string(program) {
	case "smtpd", "postscreen", "tlsproxy", "anvil", "dnsblog", "verify", "scache", "master", "postfix-script", "tlsmgr", "postlog", "postlogd",
		"qmgr", "smtp", "lmtp", "local", "virtual", "pipe", "cleanup", "pickup", "bounce", "error", "discard", "trivial-rewrite", "proxymap", "postsuper",
		"sendmail", "postdrop", "flush", "showq", "policy-spf", "spawn", "postmap", "postalias", "script", "postqueue", "postconf", "nqmgr", "postmulti":
		return KindPostfixOther
	}
	return KindUnknown
}
