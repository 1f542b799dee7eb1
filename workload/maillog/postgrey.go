package maillog

import "bytes"

// parsePostgrey reads "action=greylist, reason=new, client_name=...,
// client_address=..., sender=..., recipient=...". Postgrey leaves out what is
// empty: the null sender, an unknown name. With a queue id it begins with that.
func parsePostgrey(b []byte, e *entry) Kind {
	if !bytes.HasPrefix(b, []byte("action=")) {
		id, rest, ok := cutID(b)
		if !ok || !bytes.HasPrefix(rest, []byte("action=")) {
			return postgreyOther(b)
		}
		e.id, b = id, rest
	}
	var to []byte
	var haveClient bool
	for field := range commaFields(b) {
		at := bytes.IndexByte(field, '=')
		if at < 0 {
			continue
		}
		value := field[at+1:]
		switch string(field[:at]) {
		case "action":
			switch string(value) {
			case "greylist":
				e.outcome = deferred
			case "pass":
				e.outcome = accepted
			default:
				return KindUnknown
			}
		case "reason":
			e.returning = e.returning || bytes.HasPrefix(value, []byte("early-retry"))
		case "delay":
			e.returning = true // told only when a triplet passes for the first time
		case "client_address":
			if e.client, haveClient = parseClient(value); !haveClient {
				return KindUnknown
			}
		case "sender":
			e.sender = value
		case "recipient":
			to = value
		}
	}
	if !haveClient || len(to) == 0 {
		return KindUnknown
	}
	e.kind, e.program = attempt, Postgrey
	e.recipients = append(e.recipients, to)
	return KindPostgrey
}

// commaFields yields the fields of Postgrey's line. The recipient comes last,
// and a sender may hold a comma in quotes, so a field ends only where another
// known one begins.
func commaFields(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			end := len(b)
			for i := 0; ; {
				j := bytes.IndexByte(b[i:], ',')
				if j < 0 {
					break
				}
				i += j + 1
				if startsField(b[i:]) {
					end = i - 1
					break
				}
			}
			if !yield(b[:end]) {
				return
			}
			b = b[min(len(b), end+2):]
		}
	}
}

// startsField says whether what follows a comma is one of Postgrey's.
func startsField(b []byte) bool {
	if len(b) < 2 || b[0] != ' ' {
		return false
	}
	name := ""
	switch b[1] {
	case 'c':
		name = " client_"
	case 's':
		name = " sender="
	case 'd':
		name = " delay="
	case 'r':
		return hasPrefix(b, " recipient=") || hasPrefix(b, " reason=")
	default:
		return false
	}
	return hasPrefix(b, name)
}

// postgreyOther knows what Postgrey and Net::Server say of themselves.
func postgreyOther(b []byte) Kind {
	for _, known := range [...]string{"Process Backgrounded", "Binding to", "Setting ", "cleaning ", "cleanup", "whitelisted:", "Server closing", "Reading ", "rm ", "20", "warning", "HUP", "Resolved ", "Group Not", "User Not", "Couldn't", "ignoring", "WARNING"} {
		if bytes.HasPrefix(b, []byte(known)) {
			return KindPostgreyOther
		}
	}
	return KindUnknown
}

// cutID takes a queue id and ": " from the front.
func cutID(b []byte) (id, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < 32 && isAlnum(b[i]) {
		i++
	}
	if i < 5 || len(b) < i+2 || b[i] != ':' || b[i+1] != ' ' {
		return nil, b, false
	}
	return b[:i], b[i+2:], true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
