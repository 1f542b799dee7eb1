package ldap

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"time"
)

// stamp is what the server would add to each entry. The harness adds it, so that
// providers that are filled apart hold the same entries by name, UUID and CSN,
// and have nothing to tell each other.
type stamp struct {
	at       time.Time
	provider int // whose change it counts as, a serverID
}

// csn is a change sequence number (OpenLDAP Administrator's Guide, section
// "Change Sequence Number"): time in microseconds, count, serverID, modification.
func (s stamp) csn() string {
	at := s.at.UTC()
	return fmt.Sprintf("%s.%06dZ#000000#%03x#000000", at.Format("20060102150405"), at.Nanosecond()/1000, s.provider)
}

// uuidOf is an entry's UUID: made of its name, as version 8 allows (RFC 9562).
func uuidOf(dn string) string {
	u := sha256.Sum256([]byte(dn))
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// ldif writes entries as slapadd reads them (RFC 2849).
func ldif(entries []entry, s stamp) []byte {
	var b bytes.Buffer
	at, csn := s.at.UTC().Format("20060102150405Z"), s.csn()
	for _, e := range entries {
		line(&b, "dn", e.dn)
		for _, attribute := range slices.Sorted(maps.Keys(e.values)) {
			for _, value := range e.values[attribute] {
				line(&b, attribute, value)
			}
		}
		line(&b, "entryUUID", uuidOf(e.dn))
		line(&b, attrEntryCSN, csn)
		line(&b, "creatorsName", adminDN)
		line(&b, "createTimestamp", at)
		line(&b, "modifiersName", adminDN)
		line(&b, "modifyTimestamp", at)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func line(b *bytes.Buffer, attribute, value string) {
	b.WriteString(attribute)
	if safe(value) {
		b.WriteString(": ")
		b.WriteString(value)
	} else {
		b.WriteString(":: ")
		b.WriteString(base64.StdEncoding.EncodeToString([]byte(value)))
	}
	b.WriteByte('\n')
}

// safe says whether a value is a SAFE-STRING of RFC 2849 without a blank at its
// end; a long line needs no folding.
func safe(value string) bool {
	if value == "" {
		return true
	}
	if value[0] == ' ' || value[0] == ':' || value[0] == '<' || value[len(value)-1] == ' ' {
		return false
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
