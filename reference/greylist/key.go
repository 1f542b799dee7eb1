package greylist

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
)

// Key is what a row is stored under: for a client its address as IPv6, for a
// triplet the byte FF, with which no address of a host begins, and 15 bytes of
// a hash.
type Key [16]byte

// ClientKey returns the key of a client.
func ClientKey(client netip.Addr) Key { return client.As16() }

// TripletKey returns the key of a triplet: FF and the first 15 bytes of the
// SHA-256 of Postgrey's key, "network/sender/recipient" in lower case, but with
// the network in hexadecimal. As in Postgrey only ASCII letters are lowered.
// The client's name matters to Postgrey131 only.
func (p Policy) TripletKey(client netip.Addr, clientName, sender, recipient string) Key {
	text := hex.AppendEncode(make([]byte, 0, 128), p.network(client.Unmap(), clientName))
	text = append(append(text, '/'), p.canonicalSender(sender)...)
	text = append(append(text, '/'), recipient...)
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			text[i] = c + 'a' - 'A'
		}
	}
	sum := sha256.Sum256(text)
	k := Key{0xff}
	copy(k[1:], sum[:])
	return k
}

// network is the part of an address that its neighbours share.
func (p Policy) network(client netip.Addr, name string) []byte {
	whole := client.AsSlice()
	if p.Profile == Postgrey131 {
		if client.Is6() {
			return whole
		}
		numbers := strings.Split(client.String(), ".")
		if strings.Contains(name, numbers[2]) && strings.Contains(name, numbers[3]) {
			return whole
		}
	}
	if client.Is4() {
		return whole[:p.IPv4Bits/8]
	}
	return whole[:p.IPv6Bits/8]
}

var (
	batvTag = regexp.MustCompile(`^[0-9a-z]{10}`)
	// number is Perl's \b\d+\b on bytes: RE2 too has ASCII words only.
	number = regexp.MustCompile(`\b[0-9]+\b`)
)

// canonicalSender takes out of a sender what differs from mail to mail: a BATV
// tag, an extension, numbers that stand alone (do_sender_substitutions). It
// leaves letter case alone.
func (p Policy) canonicalSender(sender string) string {
	local, domain, ok := strings.Cut(sender, "@")
	if !ok {
		return sender
	}
	if p.Profile >= Postgrey137 && strings.HasPrefix(local, "prvs=") {
		// Perl's split drops empty fields at the end.
		if fields := strings.Split(strings.TrimRight(local, "="), "="); len(fields) == 3 {
			local = fields[2]
			if batvTag.MatchString(fields[2]) && !batvTag.MatchString(fields[1]) {
				local = fields[1]
			}
		}
	}
	local, _, _ = strings.Cut(local, "+")
	// Bytes that are not UTF-8 are of no word, and stay as they are.
	return number.ReplaceAllString(local, "#") + "@" + domain
}
