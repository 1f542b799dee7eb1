package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/moby/moby/client"
)

// TestATakenSubnetIsWorkedAround: two networks that begin their search at the
// same subnet get one each.
func TestATakenSubnetIsWorkedAround(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a container engine: skipped by -short")
	}
	docker, err := engine.Connect(t.Context())
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	defer docker.Close()
	run := fmt.Sprintf("network-test-%d", os.Getpid())
	defer func() {
		if err := Remove(context.Background(), docker, run); err != nil {
			t.Error(err)
		}
	}()
	const start = 77
	labels := map[string]string{engine.LabelRun: run}
	first, err := createNetwork(t.Context(), docker, run+"-a", start, labels)
	if err != nil {
		t.Fatal(err)
	}
	second, err := createNetwork(t.Context(), docker, run+"-b", start, labels)
	if err != nil {
		t.Fatal(err)
	}
	if first.Overlaps(second) || !pool.Overlaps(first) || !pool.Overlaps(second) {
		t.Errorf("the networks got %s and %s of %s", first, second, pool)
	}

	// What this machine cannot see beforehand, the engine refuses: then the next
	// subnet is tried.
	refused := 0
	third, err := firstAccepted(append(freeSubnets(start, nil)[:2:2], freeSubnets(start+300, nil)...), func(p netip.Prefix) error {
		_, err := docker.NetworkCreate(t.Context(), run+"-c", networkOptions(p, labels))
		if err != nil {
			refused++
		}
		return err
	})
	if err != nil || refused == 0 || third.Overlaps(first) {
		t.Errorf("after %d refusals: %s, %v", refused, third, err)
	}
	list, err := docker.NetworkList(t.Context(), client.NetworkListOptions{Filters: engine.Owned(run)})
	if err != nil || len(list.Items) != 3 {
		t.Errorf("%d networks carry the label, want 3 (%v)", len(list.Items), err)
	}
}
