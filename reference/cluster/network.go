package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// pool is the range that RFC 2544 (section C.2.2) sets aside for benchmarks of
// network devices: it collides with nobody's office network or VPN.
var pool = netip.MustParsePrefix("198.18.0.0/15")

const (
	subnetBits   = 24
	maxSubnets   = 1 << (subnetBits - 15)
	firstHost    = 11 // last byte of the first host's address
	networkTries = 16
)

// subnet returns the i-th /24 of the pool.
func subnet(i int) netip.Prefix {
	base := pool.Addr().As4()
	i %= maxSubnets
	base[1] += byte(i >> 8)
	base[2] = byte(i)
	return netip.PrefixFrom(netip.AddrFrom4(base), subnetBits)
}

// hostAddress returns the address of the i-th host in a subnet.
func hostAddress(p netip.Prefix, i int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(firstHost + i)
	return netip.AddrFrom4(a)
}

// freeSubnets lists the subnets that overlap nothing that is taken, beginning
// at the start-th.
func freeSubnets(start int, taken []netip.Prefix) []netip.Prefix {
	var free []netip.Prefix
next:
	for i := range maxSubnets {
		p := subnet(start + i)
		for _, t := range taken {
			if t.Overlaps(p) {
				continue next
			}
		}
		free = append(free, p)
	}
	return free
}

// takenSubnets asks the engine and this machine what is in use. What cannot be
// read is left to the engine, which refuses an overlap.
func takenSubnets(ctx context.Context, c *client.Client) ([]netip.Prefix, error) {
	var taken []netip.Prefix
	list, err := c.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	for _, n := range list.Items {
		for _, pool := range n.IPAM.Config {
			if pool.Subnet.IsValid() {
				taken = append(taken, pool.Subnet)
			}
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			taken = append(taken, p.Masked())
		}
	}
	return taken, nil
}

// createNetwork makes a private network on the first subnet that is free. Two
// harnesses may race for one: then the engine refuses it, and the next is tried.
func createNetwork(ctx context.Context, c *client.Client, name string, start int, labels map[string]string) (netip.Prefix, error) {
	taken, err := takenSubnets(ctx, c)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := firstAccepted(freeSubnets(start, taken), func(p netip.Prefix) error {
		_, err := c.NetworkCreate(ctx, name, networkOptions(p, labels))
		return err
	})
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("make the cluster's network: %w", err)
	}
	return p, nil
}

func networkOptions(p netip.Prefix, labels map[string]string) client.NetworkCreateOptions {
	return client.NetworkCreateOptions{
		Driver: "bridge",
		IPAM:   &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: p}}},
		Labels: labels,
	}
}

// firstAccepted tries subnets until the engine accepts one. It gives up after
// networkTries refusals, and at once after an error of another kind.
func firstAccepted(subnets []netip.Prefix, create func(netip.Prefix) error) (netip.Prefix, error) {
	var failures []error
	for _, p := range subnets {
		err := create(p)
		if err == nil {
			return p, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", p, err))
		// The engine has no code of its own for this refusal.
		if !strings.Contains(err.Error(), "overlaps") || len(failures) == networkTries {
			break
		}
	}
	return netip.Prefix{}, fmt.Errorf("no subnet of %s could be had: %w", pool, errors.Join(failures...))
}
