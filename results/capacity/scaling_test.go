package capacity

import (
	"math"
	"testing"
)

func TestPointOfASearch(t *testing.T) {
	f := Found{MetPerDay: 10_000_000, MissedPerDay: 14_400_000}
	if p := f.Point(3); p.N != 3 || p.X != 12_000_000 || math.Abs(p.Within-0.2) > 1e-9 {
		t.Errorf("point %+v, want 12 million at 3, known within a fifth", p)
	}
}
