package capacity

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func searchSettings() Settings {
	return Settings{
		ConfidencePPM: 950_000, ResolutionPPM: 50_000, SettleUS: 2_000_000, MinStepUS: 20_000_000, MaxStepUS: 60_000_000, LookUS: 10_000_000,
		StartPerDay: 4_000_000, HighestPerDay: 40_000_000, LowestPerDay: 400_000, MaxSteps: 40,
	}
}

// steps are steps at rates of the grid: "0+" was met, "-3-" missed, "5?" stayed open and
// leans nowhere, "5?+" leans to met, "5v" was void, "5g" the generator's.
func steps(t *testing.T, s Settings, text string) []Tried {
	t.Helper()
	g := newGrid(s)
	var tried []Tried
	for word := range strings.FieldsSeq(text) {
		k, rest := 0, strings.TrimPrefix(word, "-")
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		for _, digit := range rest[:n] {
			k = 10*k + int(digit-'0')
		}
		if rest != word {
			k = -k
		}
		outcomes := map[string]Tried{
			"+": {Outcome: Met}, "-": {Outcome: Missed}, "?": {Outcome: Open}, "?+": {Outcome: Open, Leaning: Met},
			"v": {Outcome: Void}, "g": {Outcome: Generator},
		}
		o, known := outcomes[rest[n:]]
		if !known {
			t.Fatalf("what is %q?", word)
		}
		o.PerDay = g.at(k)
		tried = append(tried, o)
	}
	return tried
}

func TestNext(t *testing.T) {
	const none = -1000
	// Numbers of rates: by half is 9 of 5 % each; the lowest is -48, the highest 48.
	for _, row := range []struct {
		sentence    string
		tried       string
		next        int // none for no more
		met, missed int // none for none
		done        bool
		why         string // part of it
	}{
		{"begin at the start", "", 0, none, none, false, ""},
		{"met: go up by half", "0+", 9, 0, none, false, ""},
		{"missed: go down by half", "0-", -9, none, 0, false, ""},
		{"met and missed: halve", "0+ 9-", 4, 0, 9, false, ""},
		{"halve on", "0+ 9- 4+", 6, 4, 9, false, ""},
		{"nothing between any more: confirm the lower edge", "0+ 9- 4+ 6- 5+", 5, 5, 6, false, ""},
		{"then the upper edge", "0+ 9- 4+ 6- 5+ 5+", 6, 5, 6, false, ""},
		{"both are confirmed, but only just: the noise could be as large as what is between", "0+ 9- 4+ 6- 5+ 5+ 6-", 6, 5, 6, false, ""},
		{"confirmed and clear", "0+ 9- 4+ 6- 5+ 5+ 6- 5+ 6- 5+ 6-", none, 5, 6, true, ""},
		{"an edge that is not confirmed is in doubt, and tried again", "0+ 9- 4+ 6- 5+ 5-", 5, 4, 6, false, ""},
		{"met above what was missed: nothing is sure between", "0+ 9- 4- 6+", 4, 0, 9, false, ""},
		{"an open step says where to go", "0+ 9?", 4, 0, none, false, ""},
		{"up, too", "0+ 9?+", 18, 0, none, false, ""},
		{"and is no edge: it is tried once more", "0+ 9- 4+ 6- 5?+ 4+ 6-", 5, 4, 6, false, ""},
		{"and then left between them", "0+ 9- 4+ 6- 5?+ 5?+ 4+ 6- 4+ 6- 4+ 6-", none, 4, 6, true, "did not agree, or did not come to a result"},
		{"a void step is as if it had not been", "0v", 0, none, none, false, ""},
		{"nor are several", "9v 0+ 9v 9v", 9, 0, none, false, ""},
		{"but not for ever", "0+ 9v 9v 9v", none, 0, none, false, "3 steps in a row came to nothing"},
		{"a generator that was late once may be on time", "0+ 9g", 9, 0, none, false, ""},
		{"twice in a row it ends the search", "0+ 9g 9g", none, 0, none, false, "the generator was the limit at 6,205,300 messages a day"},
		{"the highest rate is met once", "0+ 48+", 48, 48, none, false, ""},
		{"and again: there is no more to try", "0+ 48+ 48+", none, 48, none, true, "nothing was missed up to the highest rate"},
		{"the lowest rate is missed once", "0- -48-", -48, none, -48, false, ""},
		{"and again: it cannot be met", "0- -48- -48-", none, none, -48, true, "cannot be met at any rate down to the lowest"},
		{"one stays below the highest rate", "0+ 45+", 48, 45, none, false, ""},
		{"one miss far below is tried again before all else", "0+ 9+ 18+ 4-", 4, 0, none, false, ""},
		{"and outweighed", "0+ 9+ 18+ 4- 4+ 4+ 4+", 27, 18, none, false, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			s := searchSettings()
			g := newGrid(s)
			if g.lowest != -48 || g.highest != 48 || g.stride() != 9 {
				t.Fatalf("the grid is %d to %d by %d", g.lowest, g.highest, g.stride())
			}
			rate := func(k int) int64 {
				if k == none {
					return 0
				}
				return g.at(k)
			}
			tried := steps(t, s, row.tried)
			perDay, more := Next(s, tried)
			if perDay != rate(row.next) || more != (row.next != none) {
				t.Errorf("next is %d (%d), %v, want %d", perDay, g.of(max(1, perDay)), more, row.next)
			}
			met, missed, why, done := Bracket(s, tried)
			if met != rate(row.met) || missed != rate(row.missed) || done != row.done || !strings.Contains(why, row.why) || row.why == "" && why != "" {
				t.Errorf("bracket is %d to %d, %v, %q; want %d to %d, %v, %q", met, missed, done, why, rate(row.met), rate(row.missed), row.done, row.why)
			}
		})
	}
}

func TestNextEndsAfterMaxSteps(t *testing.T) {
	s := searchSettings()
	s.MaxSteps = 3
	tried := steps(t, s, "0+ 9- 4+")
	if _, more := Next(s, tried); more {
		t.Error("a fourth step of three")
	}
	met, missed, why, done := Bracket(s, tried)
	if done || met == 0 || missed == 0 || !strings.Contains(why, "after 3 steps") {
		t.Errorf("%d to %d, %q, %v", met, missed, why, done)
	}
}

func TestGrid(t *testing.T) {
	s := searchSettings()
	s.ResolutionPPM, s.StartPerDay, s.LowestPerDay, s.HighestPerDay = 30_000, 3_999_999, 123_456, 7_777_777
	g := newGrid(s)
	if g.at(0) != s.StartPerDay || g.at(g.lowest) != s.LowestPerDay || g.at(g.highest) != s.HighestPerDay {
		t.Errorf("%d, %d, %d: start and ends are to be as they were given", g.at(g.lowest), g.at(0), g.at(g.highest))
	}
	for k := g.lowest; k <= g.highest; k++ {
		if got := g.of(g.at(k)); got != k {
			t.Errorf("rate %d, number %d, comes back as %d", g.at(k), k, got)
		}
		if k > g.lowest && float64(g.at(k)) > 1.031*float64(g.at(k-1)) {
			t.Errorf("%d and %d are further apart than the resolution", g.at(k-1), g.at(k))
		}
	}
}

// noisySearch searches for a capacity that is another one in each step: by a normal
// distribution with the standard deviation noise, as a share.
func noisySearch(s Settings, capacity, noise float64, rnd *rand.Rand) []Tried {
	var tried []Tried
	for {
		perDay, more := Next(s, tried)
		if !more {
			return tried
		}
		o := Met
		if float64(perDay) > capacity*(1+noise*rnd.NormFloat64()) {
			o = Missed
		}
		tried = append(tried, Tried{PerDay: perDay, Outcome: o})
	}
}

func TestNextSimulated(t *testing.T) {
	const searches = 500
	for _, row := range []struct {
		sentence  string
		noise     func(*rand.Rand) float64
		ppm       int64 // resolution
		holds     int   // of the searches, at least
		meanSteps float64
	}{
		{"without noise", func(*rand.Rand) float64 { return 0 }, 50_000, searches, 14},
		{"2 % of noise", func(*rand.Rand) float64 { return 0.02 }, 50_000, searches * 95 / 100, 16},
		{"0 to 5 % of noise", func(rnd *rand.Rand) float64 { return 0.05 * rnd.Float64() }, 50_000, searches * 95 / 100, 16},
		{"5 % of noise", func(*rand.Rand) float64 { return 0.05 }, 50_000, searches * 93 / 100, 18},
		// The command's own resolution.
		{"without noise, coarse", func(*rand.Rand) float64 { return 0 }, 100_000, searches, 12},
		{"5 % of noise, coarse", func(*rand.Rand) float64 { return 0.05 }, 100_000, searches * 93 / 100, 13},
		// As much as the resolution: the bracket does not get wide enough each time.
		{"8 % of noise, coarse", func(*rand.Rand) float64 { return 0.08 }, 100_000, searches * 89 / 100, 14},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			s := searchSettings()
			s.ResolutionPPM = row.ppm
			holds, meet, all := 0, 0, []int{}
			width := 0.0
			for seed := range uint64(searches) {
				rnd := rand.New(rand.NewPCG(seed, 7))
				capacity, noise := 4e6*math.Exp(4*rnd.Float64()-2), row.noise(rnd)
				var brackets [2][2]float64
				for i := range brackets {
					tried := noisySearch(s, capacity, noise, rnd)
					met, missed, why, done := Bracket(s, tried)
					if !done {
						t.Fatalf("seed %d: not done after %d steps: %s", seed, len(tried), why)
					}
					brackets[i] = [2]float64{float64(met), float64(missed)}
					if i == 0 {
						all = append(all, len(tried))
						width += float64(missed)/float64(met) - 1
						if brackets[i][0] <= capacity && capacity <= brackets[i][1] {
							holds++
						}
					}
				}
				if brackets[0][0] < brackets[1][1] && brackets[1][0] < brackets[0][1] {
					meet++
				}
			}
			sum := 0
			for _, n := range all {
				sum += n
			}
			mean := float64(sum) / searches
			t.Logf("%d of %d brackets hold the truth, %.1f %% wide on average; %.1f steps, at most %d; two searches' brackets overlap in %d of %d",
				holds, searches, 100*width/searches, mean, slices.Max(all), meet, searches)
			if holds < row.holds {
				t.Errorf("%d of %d brackets hold the truth, want %d", holds, searches, row.holds)
			}
			if mean > row.meanSteps || slices.Max(all) > 30 {
				t.Errorf("%.1f steps on average, at most %d; want %.0f and 30", mean, slices.Max(all), row.meanSteps)
			}
			if meet < searches*94/100 {
				t.Errorf("two searches' brackets overlap in %d of %d", meet, searches)
			}
		})
	}
}
