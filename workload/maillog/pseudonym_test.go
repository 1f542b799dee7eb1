package maillog

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/mailbench/mailbench/reference/greylist"
)

var testKey = []byte("sixteen bytes ok")

func TestPseudonymsKeepWhatAWorkloadDependsOn(t *testing.T) {
	p := NewPseudonyms(testKey, []string{"Our.Example"}, false)
	domain := func(a string) string { return string(domainOf([]byte(a))) }

	assert.Equal(t, p.Address(""), "", "the null sender stays null")
	assert.Equal(t, p.Address("ann@our.example"), p.Address("Ann@OUR.example"), "case does not count")
	assert.Assert(t, p.Address("ann@our.example") != p.Address("bob@our.example"))
	assert.Assert(t, p.Address("ann@our.example") != p.Address("ann@far.example"))
	assert.Equal(t, domain(p.Address("ann@our.example")), domain(p.Address("bob@our.example")), "one domain stays one")
	assert.Assert(t, strings.HasSuffix(p.Address("ann@our.example"), ".ours.example"))
	assert.Assert(t, strings.HasSuffix(p.Address("ann@math.our.example"), ".ours.example"))
	assert.Assert(t, !strings.HasSuffix(p.Address("ann@notour.example"), ".ours.example"))
	assert.Assert(t, strings.HasPrefix(p.Address("Postmaster@our.example"), "postmaster@"))
	assert.Assert(t, !strings.Contains(p.Address("nodomain"), "@"))
	for _, secret := range []string{"ann", "our.example@", "math"} {
		assert.Assert(t, !strings.Contains(p.Address("ann@math.our.example"), secret))
	}

	again := NewPseudonyms(testKey, []string{"our.example"}, false)
	other := NewPseudonyms([]byte("another sixteen."), []string{"our.example"}, false)
	assert.Equal(t, p.Address("ann@our.example"), again.Address("ann@our.example"), "one key, one pseudonym")
	assert.Assert(t, p.Address("ann@our.example") != other.Address("ann@our.example"))

	deep := NewPseudonyms(testKey, nil, true)
	math, physics := deep.Domain("math.our.example"), deep.Domain("physics.our.example")
	_, mathParent, _ := strings.Cut(math, ".")
	_, physicsParent, _ := strings.Cut(physics, ".")
	assert.Equal(t, mathParent, physicsParent)
	assert.Equal(t, mathParent, deep.Domain("our.example"))
}

// TestPseudonymsAreGreylistedAlike: two senders are one for Postgrey exactly if
// their pseudonyms are.
func TestPseudonymsAreGreylistedAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	address := func() string {
		user := pick("bounce", "ann", "a.b", "x_1", "u12", "12", "news-7", "news-8", "n-7-8", "o'neil")
		user += pick("", "", "-1", "-22", "=3", ".44.5", "-r9")
		user += pick("", "", "+tag", "+", "+12-13")
		user = pick("", "", "", "prvs=0123456789=", "prvs=abcdef0123=", "prvs=short=", "prvs=1=2=3=") + user
		return user + "@" + pick("far.example", "Far.Example", "near.example")
	}
	policy := greylist.DefaultPolicy()
	client := netip.MustParseAddr("192.0.2.1")
	same := 0
	p := NewPseudonyms(testKey, nil, false)
	for range 50_000 {
		a, b := address(), address()
		if a == b {
			continue
		}
		key := func(s string) greylist.Key { return policy.TripletKey(client, "", s, "r@our.example") }
		want := key(a) == key(b)
		if got := key(p.Address(a)) == key(p.Address(b)); got != want {
			t.Fatalf("Postgrey takes %s and %s for one: %v; %s and %s: %v", a, b, want, p.Address(a), p.Address(b), got)
		}
		if want {
			same++
		}
	}
	assert.Assert(t, same > 100, "only %d pairs were one", same)
}

func TestClientsKeepTheirNeighbours(t *testing.T) {
	p := NewPseudonyms(testKey, nil, false)
	shared, reserved, documentation := netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("2001:db8::/32")

	// All hosts of a network stay in one network, and apart.
	hosts, network := map[netip.Addr]bool{}, netip.Prefix{}
	for h := range 256 {
		made := p.Client(netip.AddrFrom4([4]byte{192, 0, 2, byte(h)}))
		assert.Assert(t, shared.Contains(made), made)
		hosts[made] = true
		in, _ := made.Prefix(24)
		if h > 0 {
			assert.Equal(t, in, network)
		}
		network = in
	}
	assert.Equal(t, len(hosts), 256)

	// Networks stay apart, also past the shared space.
	networks := map[netip.Prefix]bool{network: true}
	for n := range 40_000 {
		made := p.Client(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}))
		assert.Assert(t, shared.Contains(made) || reserved.Contains(made), made)
		in, _ := made.Prefix(24)
		networks[in] = true
	}
	assert.Equal(t, len(networks), 40_001)
	assert.Equal(t, p.Shared, int64(0))

	a, b := p.Client(netip.MustParseAddr("2001:db8:1:2::25")), p.Client(netip.MustParseAddr("2001:db8:1:2:ffff::1"))
	c := p.Client(netip.MustParseAddr("2001:db8:1:3::25"))
	of := func(a netip.Addr) netip.Prefix { in, _ := a.Prefix(64); return in }
	assert.Equal(t, of(a), of(b))
	assert.Assert(t, a != b && of(a) != of(c))
	for _, made := range []netip.Addr{a, b, c} {
		assert.Assert(t, documentation.Contains(made), made)
	}
	// IPv4 in IPv6 is IPv4.
	assert.Equal(t, p.Client(netip.MustParseAddr("::ffff:192.0.2.1")), p.Client(netip.MustParseAddr("192.0.2.1")))
}

// TestNothingOfTheLogIsLeft imports a sample with pseudonyms and looks for its
// names.
func TestNothingOfTheLogIsLeft(t *testing.T) {
	for _, s := range samples {
		_, plain := importAll(t, paths(s.files), Options{Year: 2026})
		_, hidden := importAll(t, paths(s.files), Options{Year: 2026, Pseudonyms: NewPseudonyms(testKey, []string{"calmail.example"}, false)})
		assert.Equal(t, len(hidden), len(plain))
		was, is := map[string]int{}, map[string]int{}
		for n, m := range hidden {
			all := fmt.Sprint(m.Sender, m.Recipients, m.Client)
			for _, secret := range []string{"alice", "ann", "bob", "student", "Joe", "viagra", "calmail", "far.example", "192.0.2.", "203.0.113"} {
				assert.Assert(t, !strings.Contains(strings.ToLower(all), strings.ToLower(secret)), "%s: %s", secret, all)
			}
			assert.Equal(t, m.At, plain[n].At)
			assert.Equal(t, m.Legitimate, plain[n].Legitimate)
			assert.Equal(t, m.Sender == "", plain[n].Sender == "")
			was[strings.ToLower(plain[n].Sender)]++
			is[m.Sender]++
		}
		assert.Equal(t, len(is), len(was), "%s: senders are as popular as before", s.name)
	}
}
