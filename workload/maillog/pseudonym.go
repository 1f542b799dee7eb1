package maillog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"
)

// KeyLength is the least number of bytes of a key for pseudonyms.
const KeyLength = 16

// Pseudonyms replaces names and addresses by a keyed hash (HMAC-SHA256), the
// same always by the same. What a workload depends on stays:
//
//   - what greylisting takes for one sender or two (VERP, BATV, numbers and
//     extensions of local parts), as Postgrey's rules have it;
//   - which addresses are of one domain, which domains are ours, and with
//     Subdomains which are below which;
//   - which clients are of one /24 or /64 network;
//   - the null sender, and postmaster and abuse, which are nobody's names.
//
// Without the key nobody can tell which address a pseudonym stands for, nor
// test a guess. Two letters in different cases are the same, as for Postgrey.
//
// IPv4 networks get one of the 16,384 of the shared space 100.64.0.0/10 (RFC
// 6598); when half of these are taken, later ones get one of the 1,048,576 of
// 240.0.0.0/4, which is reserved (RFC 1112) and no host's either. IPv6 networks
// get one of 2001:db8::/32 (RFC 3849).
type Pseudonyms struct {
	mac        hash.Hash
	text, made []byte
	ours       []string
	subdomains bool

	seed      maphash.Seed
	senders   []pseudonym // each where its hash puts it, until another comes there
	receivers []pseudonym // the same for recipients
	domains   memory[string, string]
	networks  map[uint32]uint32 // IPv4 network to where it went
	taken     []uint64          // a bit for each network below that is some network's already
	placed    int
	hosts     memory[uint32, hosts] // of an IPv4 network

	Shared int64 // IPv4 networks that had to take another's place
}

// pseudonym is an address and what it became.
type pseudonym struct {
	hash          uint64 // of address
	address, made string
}

// hosts are where an IPv4 network went and how its hosts are shuffled.
type hosts struct {
	network uint32
	shuffle [32]byte
}

// How many addresses are remembered, some 140 bytes each: recipients come again
// and again; of senders only newsletters do, and most others never.
const (
	senderSlots   = 1 << 13
	receiverSlots = 1 << 17
)

// memory is a cache that is emptied when it is full: it bounds what is kept, and
// what is lost is only time.
type memory[K comparable, V any] struct {
	values map[K]V
}

// maxMemory is how many of a kind are kept, some 25 MiB of them.
const maxMemory = 1 << 18

func (m *memory[K, V]) put(key K, v V) {
	if m.values == nil || len(m.values) >= maxMemory {
		m.values = make(map[K]V, 1024)
	}
	m.values[key] = v
}

// NewPseudonyms uses a key of KeyLength bytes or more. Of ours are the domains
// in it and those below them.
func NewPseudonyms(key []byte, ours []string, subdomains bool) *Pseudonyms {
	lower := make([]string, len(ours))
	for i, d := range ours {
		lower[i] = strings.ToLower(strings.Trim(d, "."))
	}
	return &Pseudonyms{
		mac: hmac.New(sha256.New, key), ours: lower, subdomains: subdomains,
		seed: maphash.MakeSeed(), senders: make([]pseudonym, senderSlots), receivers: make([]pseudonym, receiverSlots),
		networks: map[uint32]uint32{}, taken: make([]uint64, (sharedNetworks+reservedNetworks)/64),
	}
}

// sum is the keyed hash of texts of a kind; kinds keep apart what is equal by
// chance.
func (p *Pseudonyms) sum(kind byte, texts ...string) [32]byte {
	p.mac.Reset()
	p.text = append(p.text[:0], kind)
	for _, text := range texts {
		p.text = append(p.text, text...)
	}
	_, _ = p.mac.Write(p.text)
	p.text = p.mac.Sum(p.text[:0])
	return [32]byte(p.text)
}

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// word is twelve letters and digits, 60 bits: of a million names, two meet with
// a chance of one in two million.
func (p *Pseudonyms) word(kind byte, texts ...string) (word [12]byte) {
	sum := p.sum(kind, texts...)
	var whole [16]byte
	letters.Encode(whole[:], sum[:10])
	return [12]byte(whole[:])
}

func (p *Pseudonyms) sender(address []byte) string   { return p.remembered(p.senders, address) }
func (p *Pseudonyms) receiver(address []byte) string { return p.remembered(p.receivers, address) }

func (p *Pseudonyms) remembered(slots []pseudonym, address []byte) string {
	if len(address) == 0 {
		return ""
	}
	h := maphash.Bytes(p.seed, address)
	slot := &slots[h%uint64(len(slots))]
	if slot.hash != h || slot.address != string(address) {
		text := string(address)
		*slot = pseudonym{h, text, p.Address(text)}
	}
	return slot.made
}

// Address replaces an address of an envelope.
func (p *Pseudonyms) Address(address string) string {
	if address == "" {
		return ""
	}
	lower := lowerASCII(address)
	// Postgrey cuts a sender at its first '@'; an address has one outside quotes,
	// and with several the first cut is what greylisting sees.
	local, domain, found := strings.Cut(lower, "@")
	p.made = p.local(p.made[:0], local, domain)
	if found {
		p.made = append(p.made, '@')
		p.made = append(p.made, p.Domain(domain)...)
	}
	return string(p.made)
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return mapLower(s)
		}
	}
	return s
}

func mapLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// local adds a local part to what is made. It keeps the parts that Postgrey takes
// out of a sender (do_sender_substitutions), so that it takes the same out of the
// pseudonym.
func (p *Pseudonyms) local(made []byte, local, domain string) []byte {
	if local == "postmaster" || local == "abuse" {
		return append(made, local...) // RFC 2142; in Debian's Postgrey such recipients are whitelisted
	}
	tagged := false
	if !strings.HasPrefix(local, "prvs=") {
		// as most are
	} else if fields := strings.Split(strings.TrimRight(local, "="), "="); len(fields) == 3 && fields[0] == "prvs" {
		tag, user := fields[1], fields[2]
		if batv(user) && !batv(tag) {
			tag, user = user, tag
		}
		word := p.word('t', tag)
		made = append(made, "prvs="...)
		made = append(made, word[:10]...)
		made = append(made, '=')
		local, tagged = user, true
	}
	user, extension, extended := strings.Cut(local, "+")
	if user == "" && !extended && !tagged {
		return made
	}
	shape, numbers := withoutNumbers(user)
	word := p.word('u', shape, "@", domain)
	made = append(made, 'u')
	made = append(made, word[:]...)
	if numbers != "" {
		sum := p.sum('n', numbers)
		made = append(made, '-')
		made = strconv.AppendUint(made, binary.BigEndian.Uint64(sum[:])%9_000_000_000+1_000_000_000, 10)
	}
	if extended {
		word := p.word('x', extension)
		made = append(made, '+')
		made = append(made, word[:8]...)
	}
	return made
}

func batv(s string) bool {
	if len(s) < 10 {
		return false
	}
	for i := range 10 {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z') {
			return false
		}
	}
	return true
}

// withoutNumbers replaces each number that stands alone, between bytes that are
// of no word, by '#', as Perl's s/\b\d+\b/#/g does. numbers are those.
func withoutNumbers(s string) (shape, numbers string) {
	if !hasNumber(s) {
		return s, ""
	}
	var b, n strings.Builder
	for i := 0; i < len(s); {
		if !isWord(s[i]) {
			b.WriteByte(s[i])
			i++
			continue
		}
		end, all := i, true
		for end < len(s) && isWord(s[end]) {
			all = all && s[end] >= '0' && s[end] <= '9'
			end++
		}
		if all {
			b.WriteByte('#')
			n.WriteString(s[i:end])
			n.WriteByte('.')
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String(), n.String()
}

// hasNumber says whether a digit begins a word.
func hasNumber(s string) bool {
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' && (i == 0 || !isWord(s[i-1])) {
			return true
		}
	}
	return false
}

func isWord(c byte) bool { return isAlnum(c) || c == '_' }

// Domain replaces a domain: by one word below "example", or below
// "ours.example" if it is one of ours. With subdomains each label has a word.
func (p *Pseudonyms) Domain(domain string) string {
	domain = strings.TrimSuffix(lowerASCII(domain), ".")
	if known, ok := p.domains.values[domain]; ok {
		return known
	}
	end := ".example"
	if ourDomain(p.ours, domain) {
		end = ".ours.example"
	}
	var made string
	if p.subdomains {
		labels := 0
		for rest := domain; rest != "" && labels < 6; labels++ { // "a.b.c": hashes of a.b.c, b.c, c
			if made != "" {
				made += "."
			}
			word := p.word('d', rest)
			made += "d" + string(word[:])
			_, rest, _ = strings.Cut(rest, ".")
		}
	} else {
		word := p.word('d', domain)
		made = "d" + string(word[:])
	}
	made += end
	p.domains.put(domain, made)
	return made
}

// ourDomain says whether a domain is one of ours or below one.
func ourDomain(ours []string, domain string) bool {
	for _, our := range ours {
		if domain == our || strings.HasSuffix(domain, "."+our) {
			return true
		}
	}
	return false
}

const (
	sharedNetworks   = 1 << 14 // of 100.64.0.0/10
	reservedNetworks = 1 << 20 // of 240.0.0.0/4
)

// Client replaces an address of a host: one of the same network stays in its
// network, and no two hosts of a network become one.
func (p *Pseudonyms) Client(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is4() {
		b := a.As16()
		network := p.sum('6', string(b[:8]))
		host := p.sum('h', string(b[:]))
		made := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		copy(made[4:8], network[:4])
		copy(made[8:], host[:8])
		return netip.AddrFrom16(made)
	}
	b := a.As4()
	from := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	of, known := p.hosts.values[from]
	if !known {
		if of.network, known = p.networks[from]; !known {
			of.network = p.place(string(b[:3]))
			p.networks[from] = of.network
		}
		of.shuffle = p.sum('s', string(b[:3]))
		p.hosts.put(from, of)
	}
	// A Feistel network of four rounds on the two halves of the byte, each round
	// with a table of its own from the hash: a permutation of the 256 hosts.
	left, right := b[3]>>4, b[3]&15
	for round := range 4 {
		entry := of.shuffle[round*8+int(right)/2] >> (4 * (right & 1)) & 15
		left, right = right, left^entry
	}
	return netip.AddrFrom4([4]byte{byte(of.network >> 16), byte(of.network >> 8), byte(of.network), left<<4 | right})
}

// place finds a free network: where the hash says, or the next free one.
func (p *Pseudonyms) place(network string) uint32 {
	sum := p.sum('4', network)
	draw := binary.BigEndian.Uint32(sum[:])
	// Bits from first on are for size networks from base on.
	first, size, base := uint32(0), uint32(sharedNetworks), uint32(100)<<16|64<<8
	if p.placed >= sharedNetworks/2 {
		first, size, base = sharedNetworks, reservedNetworks-1, uint32(240)<<16 // without the last: 255.255.255.255 is everybody's
	}
	if p.placed-sharedNetworks/2 >= int(size) {
		p.Shared++
		return base + draw%size
	}
	for i := range size {
		at := (draw + i) % size
		if bit := first + at; p.taken[bit/64]>>(bit%64)&1 == 0 {
			p.taken[bit/64] |= 1 << (bit % 64)
			p.placed++
			return base + at
		}
	}
	return base // not reached: there is a free one
}
