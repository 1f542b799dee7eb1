package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/mailbench/mailbench/reference"
)

var _ reference.Firewall = (*Containers)(nil)

// Rules are kept in the host's own network namespace, in a chain for each cut,
// which INPUT and OUTPUT jump to. Where a kernel knows nothing of nftables the
// legacy program must be taken, each time the same.
const findIPTables = `
run=iptables
iptables -w 10 -n -L >/dev/null 2>&1 || run=iptables-legacy
`

// removeJumps makes the chain $1 unused.
const removeJumps = `
while "$run" -w 10 -D INPUT ! -i lo -j "$1" 2>/dev/null; do :; done
while "$run" -w 10 -D OUTPUT ! -o lo -j "$1" 2>/dev/null; do :; done
`

// cutScript adds the rules $2 all at once, after the jumps of an earlier cut of
// the name are gone.
const cutScript = findIPTables + removeJumps + `
printf '%s\n' "$2" | "$run-restore" -w 10 --noflush
`

// mendScript removes the chain $1.
const mendScript = `
command -v iptables >/dev/null || exit 0
` + findIPTables + removeJumps + `
"$run" -w 10 -n -L "$1" >/dev/null 2>&1 || exit 0
"$run" -w 10 -F "$1"
"$run" -w 10 -X "$1"
`

// mendAllScript removes every chain that a cut has made.
const mendAllScript = `
command -v iptables >/dev/null || exit 0
` + findIPTables + `
"$run" -w 10 -S | sed -n 's/^-A \(.*-j ` + chainPrefix + `.*\)/\1/p' | while read -r rule; do "$run" -w 10 -D $rule; done
"$run" -w 10 -S | sed -n 's/^-N \(` + chainPrefix + `.*\)/\1/p' | while read -r chain; do
  "$run" -w 10 -F "$chain"; "$run" -w 10 -X "$chain"
done
`

const (
	chainPrefix   = "mailbench-"
	maxChainName  = 28        // XT_EXTENSION_MAXNAMELEN in the kernel's x_tables.h, its end apart
	certain       = 1_000_000 // millionths: every packet
	probeMissing  = 10        // code of a probe: the image lacks the program
	probeRefused  = 11        // code of a probe: the kernel refuses
	firewallTools = "the image has no iptables; make one that has it (docker build -t mailbench/ndb reference/cluster/image) and name it with --image"
)

var plainChain = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// chainName is the chain of a cut: its own name where that fits, else a digest
// of it.
func chainName(name string) string {
	if chain := chainPrefix + name; len(chain) <= maxChainName && plainChain.MatchString(name) {
		return chain
	}
	sum := sha256.Sum256([]byte(name))
	return chainPrefix + hex.EncodeToString(sum[:])[:maxChainName-len(chainPrefix)]
}

// checkCut refuses a cut that is out of range. Hosts are checked apart.
func checkCut(host string, cut reference.Cut) error {
	switch {
	case cut.Name == "":
		return errors.New("it has no name")
	case cut.Loss < 1 || cut.Loss > certain:
		return fmt.Errorf("the loss is %d millionths, must be 1 to %d", cut.Loss, certain)
	}
	switch cut.Direction {
	case reference.Both, reference.Incoming, reference.Outgoing:
	default:
		return fmt.Errorf("the direction is %q, must be %q, %q or %q", cut.Direction, reference.Both, reference.Incoming, reference.Outgoing)
	}
	for _, peer := range cut.Peers {
		if peer == host {
			return fmt.Errorf("%s is its own peer; what a host sends itself is never cut", host)
		}
	}
	return nil
}

// cutRules writes a cut as iptables-restore reads it. Every packet is judged, of
// connections that stand as well; what a host sends itself is left alone.
func cutRules(cut reference.Cut, peers []netip.Addr) string {
	chain := chainName(cut.Name)
	incoming, outgoing := cut.Direction != reference.Outgoing, cut.Direction != reference.Incoming
	drop := " -j DROP"
	if cut.Loss < certain {
		drop = fmt.Sprintf(" -m statistic --mode random --probability 0.%06d -j DROP", cut.Loss)
	}
	rules := []string{"*filter", ":" + chain + " - [0:0]"}
	add := func(format string, args ...any) { rules = append(rules, fmt.Sprintf(format, args...)) }
	if len(peers) == 0 {
		add("-A %s%s", chain, drop)
	}
	// The chain is entered with packets of one direction: from INPUT the
	// destination is this host, from OUTPUT the source.
	for _, peer := range peers {
		if incoming {
			add("-A %s -s %s%s", chain, peer, drop)
		}
		if outgoing {
			add("-A %s -d %s%s", chain, peer, drop)
		}
	}
	if incoming {
		add("-I INPUT 1 ! -i lo -j %s", chain)
	}
	if outgoing {
		add("-I OUTPUT 1 ! -o lo -j %s", chain)
	}
	return strings.Join(append(rules, "COMMIT"), "\n")
}

// Cut drops packets at a host's interface, all at once, in place of what an
// earlier cut of that name dropped.
func (c *Containers) Cut(ctx context.Context, host string, cut reference.Cut) error {
	if err := checkCut(host, cut); err != nil {
		return fmt.Errorf("cut %q of host %s: %w", cut.Name, host, err)
	}
	var peers []netip.Addr
	for _, peer := range cut.Peers {
		if err := c.checkHost(peer); err != nil {
			return fmt.Errorf("cut %q of host %s: %w", cut.Name, host, err)
		}
		peers = append(peers, c.hostAddress(peer))
	}
	c.forgetHost(host)
	if _, err := c.onHost(ctx, host, cutScript, chainName(cut.Name), cutRules(cut, peers)); err != nil {
		return fmt.Errorf("cut host %s off: %w", host, err)
	}
	return nil
}

// Mend removes a cut. Where it is not there, or the host is dead, it does
// nothing.
func (c *Containers) Mend(ctx context.Context, host, name string) error {
	if err := c.takeBack(ctx, host, mendScript, chainName(name)); err != nil {
		return fmt.Errorf("mend the cut %q of host %s: %w", name, host, err)
	}
	return nil
}

// CheckFirewall makes and removes such rules in a network namespace that is
// thrown away. The cluster need not run.
func (c *Containers) CheckFirewall(ctx context.Context) error {
	rules := cutRules(reference.Cut{Name: "probe", Direction: reference.Both, Loss: certain / 2}, nil)
	err := c.probe(ctx, fmt.Sprintf("command -v iptables >/dev/null || exit %d\n%s\nprintf '%%s\\n' \"$1\" | \"$run-restore\" -w 10 --noflush || exit %d",
		probeMissing, findIPTables, probeRefused), rules)
	return probed(err, firewallTools,
		"the kernel drops no packets for iptables (it needs the modules xt_statistic and iptable_filter or nf_tables); faults that kill, pause or stop nodes need none")
}

// probed puts what a probe met into words.
func probed(err error, missing, refused string) error {
	var failed *scriptError
	switch {
	case !errors.As(err, &failed):
		return err
	case failed.Code == probeMissing:
		return errors.New(missing)
	case failed.Code == probeRefused:
		return fmt.Errorf("%s: %s", refused, failed.Output)
	}
	return err
}
