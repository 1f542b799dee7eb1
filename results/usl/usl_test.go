package usl

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var coverageTrials = flag.Int("coverage", 0, "print the coverage of intervals, from so many trials each")

// xy are points of N and X in turn.
func xy(numbers ...float64) []Point {
	var points []Point
	for pair := range slices.Chunk(numbers, 2) {
		points = append(points, Point{N: pair[0], X: pair[1]})
	}
	return points
}

// measure draws points around the law: X is off by a normal error in shares of X.
func (l law) measure(rnd *rand.Rand, noise float64, at ...float64) []Point {
	var points []Point
	for _, n := range at {
		points = append(points, Point{N: n, X: l.throughput(n) * (1 + noise*rnd.NormFloat64())})
	}
	return points
}

func quick(seed uint64) Options {
	o := DefaultOptions(seed)
	o.Resamples = 400
	return o
}

func TestLawsWithoutNoiseAreFoundExactly(t *testing.T) {
	for _, row := range []struct {
		name                 string
		lambda, sigma, kappa float64
		at                   []float64
		fixed                bool
		peak                 bool
	}{
		{"all three parameters", 995.6486, 0.02671591, 7.690945e-4, []float64{1, 2, 4, 8, 16, 32, 64}, false, true},
		{"linear: no bound is crossed", 1000, 0, 0, []float64{1, 2, 4, 8}, false, false},
		{"Amdahl's law", 250, 0.1, 0, []float64{1, 3, 9, 27}, false, false},
		{"crosstalk without contention", 250, 0, 0.01, []float64{1, 2, 4, 8}, false, false},
		{"nothing scales at all", 250, 1, 0, []float64{1, 2, 4, 8}, false, false},
		{"N in the thousands", 1e6, 1e-4, 1e-9, []float64{500, 1000, 2000, 4000, 8000, 16000, 32000, 64000}, false, true},
		{"N that is not whole and starts below 1", 800, 0.05, 0.01, []float64{0.1, 0.55, 1.7, 3.3, 7.2, 15.4}, false, true},
		{"X in billions", 1e9, 0.01, 0.001, []float64{2, 4, 6, 8, 10}, false, false},
		{"three levels tell two parameters", 1000, 0.05, 0, []float64{1, 2, 3}, true, false},
		{"repetitions are no levels", 1000, 0.05, 0, []float64{1, 1.02, 2, 2.03, 3, 3.1}, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := Fit(of(row.lambda, row.sigma, row.kappa).measure(rand.New(rand.NewPCG(1, 1)), 0, row.at...), quick(1))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []struct {
				name string
				got  Estimate
				want float64
			}{{"lambda", m.Lambda, row.lambda}, {"sigma", m.Sigma, row.sigma}, {"kappa", m.Kappa, row.kappa}} {
				for _, got := range []float64{p.got.Value, p.got.Low, p.got.High} {
					if math.Abs(got-p.want) > 1e-5*p.want {
						t.Errorf("%s is %+v, want %v", p.name, p.got, p.want)
					}
				}
			}
			if m.KappaFixed != row.fixed {
				t.Errorf("kappa fixed is %v", m.KappaFixed)
			}
			if m.Residual > 1e-9 {
				t.Errorf("the largest residual is %v", m.Residual)
			}
			if (m.Peak != nil) != row.peak || (m.NoPeak == "") != row.peak {
				t.Errorf("peak is %+v %q", m.Peak, m.NoPeak)
			}
			if m.Peak != nil {
				want := math.Sqrt((1 - row.sigma) / row.kappa)
				if math.Abs(m.Peak.N.Value/want-1) > 1e-5 || math.Abs(m.Peak.X.Value/of(row.lambda, row.sigma, row.kappa).throughput(want)-1) > 1e-5 {
					t.Errorf("peak is %+v, want N = %v", m.Peak, want)
				}
			}
		})
	}
}

// The sum of squares is convex, so that no law within the bounds may be better
// than the one found, near or far.
func TestNoOtherLawWithinTheBoundsFitsBetter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	for trial := range 300 {
		at := levels(rnd)
		truth := of(1000, rnd.Float64()*0.2, rnd.Float64()*0.01*float64(trial%2))
		d, y := design{square: at[0] < 1}, []float64{}
		for _, p := range truth.measure(rnd, 0.1, at...) {
			d.n, y = append(d.n, p.N), append(y, p.N/p.X)
		}
		sum := func(l law) float64 {
			s := 0.0
			for i, n := range d.n {
				s += math.Pow(1-l.residence(n)/y[i], 2)
			}
			return s
		}
		found := d.fit(y, allTerms)
		if !(found.d >= 0 && found.b >= 0 && found.c >= 0) || d.square && found.c > found.b {
			t.Fatalf("%+v is out of bounds", found)
		}
		for range 300 {
			step := math.Pow(10, -1-5*rnd.Float64())
			near := func(v float64) float64 { return max(0, v+step*rnd.NormFloat64()/truth.lambda()) }
			other := law{near(found.d), near(found.b), near(found.c)}
			if d.square {
				other.c = min(other.c, other.b)
			}
			if sum(other) < sum(found)*(1-1e-9) {
				t.Fatalf("%+v leaves %v, found was %+v, which leaves %v", other, sum(other), found, sum(found))
			}
		}
	}
}

// The third point is a quarter below where the others lead. A law is only fitted if that
// point, and not another, is known so badly, and one that may be anywhere tells nothing of
// a law.
func TestLawNeedNotBeNearerThanPointsAreKnown(t *testing.T) {
	for _, row := range []struct {
		sentence string
		third    float64
		within   [4]float64
		want     string
	}{
		{"nothing is known of the points", 225, [4]float64{}, "the point at N = 3 lies"},
		{"the third is known to a quarter", 225, [4]float64{2: 0.25}, ""},
		{"all are", 225, [4]float64{0.25, 0.25, 0.25, 0.25}, ""},
		{"only another one is", 225, [4]float64{0: 0.25}, "the point at N = 3 lies"},
		{"the third may be anywhere, and is far away", 120, [4]float64{2: 0.9}, "more than 33.3 %"},
	} {
		points := xy(1, 100, 2, 200, 3, row.third, 4, 400)
		for i := range points {
			points[i].Within = row.within[i]
		}
		switch _, err := Fit(points, quick(1)); {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v, want a law", row.sentence, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.want)
		}
	}
}

// levels are four to ten N that span a factor of 8 to 100.
func levels(rnd *rand.Rand) []float64 {
	n, from, span := 4+rnd.IntN(7), math.Pow(10, 1.5*rnd.Float64()-0.7), 8+92*rnd.Float64()
	var at []float64
	for i := range n {
		at = append(at, from*math.Pow(span, float64(i)/float64(n-1)))
	}
	return at
}

// Whatever is measured: each number is finite, within its bounds and its interval,
// and predictions at measured N are within the residual of what was measured.
func TestEveryModelKeepsItsBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 1))
	fitted, refused := 0, 0
	for trial := range 300 {
		points := of(math.Pow(10, 6*rnd.Float64()-2), rnd.Float64(), rnd.Float64()*0.05).measure(rnd, 0.08*rnd.Float64(), levels(rnd)...)
		m, err := Fit(points, quick(uint64(trial)))
		if err != nil {
			if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Reason != PoorFit {
				t.Fatalf("%v: %v", points, err)
			}
			refused++
			continue
		}
		fitted++
		if m.Residual > m.Options.MaxResidual {
			t.Errorf("%v: the largest residual is %v", points, m.Residual)
		}
		all := []Estimate{m.Lambda, m.Sigma, m.Kappa}
		if m.Peak != nil {
			all = append(all, m.Peak.N, m.Peak.X)
			if m.Peak.N.Low < m.From || m.Peak.N.High > m.To {
				t.Errorf("%v: peak %+v is told, but %v to %v was measured", points, m.Peak, m.From, m.To)
			}
		}
		for _, p := range points {
			got, err := m.Predict(p.N)
			if err != nil || got.Extrapolated {
				t.Fatalf("%v: prediction %+v at N = %v: %v", points, got, p.N, err)
			}
			if off := math.Abs(p.X/got.X - 1); off > m.Residual+1e-5 {
				t.Errorf("%v: X(%v) is %+v, %v off; the largest residual is said to be %v", points, p.N, got, off, m.Residual)
			}
			all = append(all, Estimate{got.X, got.Low, got.High})
		}
		for _, n := range []float64{m.From / 2, m.To * 2} {
			got, err := m.Predict(n)
			if err != nil || !got.Extrapolated {
				t.Fatalf("%v: prediction %+v at N = %v: %v", points, got, n, err)
			}
			all = append(all, Estimate{got.X, got.Low, got.High})
		}
		for _, e := range all {
			if !(e.Low >= 0 && e.Low <= e.Value && e.Value <= e.High) || math.IsInf(e.High, 0) {
				t.Errorf("%v: %+v", points, e)
			}
		}
		if m.Sigma.High > 1 {
			t.Errorf("%v: sigma is %+v", points, m.Sigma)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("%v: %v", points, err)
		}
	}
	if fitted < 100 || refused < 10 {
		t.Errorf("%d were fitted and %d refused: this test saw too little", fitted, refused)
	}
}

func TestRefusals(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	good := of(1000, 0.05, 0.001).measure(rand.New(rand.NewPCG(1, 1)), 0, 1, 2, 4, 8, 16)
	with := func(p ...Point) []Point { return slices.Concat(good, p) }
	for _, row := range []struct {
		name   string
		points []Point
		reason Reason
		says   string
	}{
		{"nothing measured", nil, TooFew, "0 levels of N"},
		{"one level", xy(4, 100, 4, 101, 4.1, 99), TooFew, "1 levels"},
		{"two levels go through any two parameters", xy(1, 100, 2, 190), TooFew, "2 levels"},
		{"three levels of little span", xy(10, 100, 12, 110, 19, 150), TooFew, "from 10 to 19"},
		{"N is 0", with(Point{N: 0, X: 10}), BadPoint, "N = 0, X = 10"},
		{"N is negative", with(Point{N: -1, X: 10}), BadPoint, "N = -1"},
		{"N is no number", with(Point{N: nan, X: 10}), BadPoint, "N = NaN"},
		{"N is infinite", with(Point{N: inf, X: 10}), BadPoint, "N = +Inf"},
		{"X is 0", with(Point{N: 3, X: 0}), BadPoint, "N = 3 has X = 0"},
		{"X is negative", with(Point{N: 3, X: -5}), BadPoint, "X = -5"},
		{"X is no number", with(Point{N: 3, X: nan}), BadPoint, "X = NaN"},
		{"X is infinite", with(Point{N: 3, X: inf}), BadPoint, "X = +Inf"},
		{"a point is known to less than nothing", with(Point{N: 3, X: 1, Within: -0.1}), BadPoint, "N = 3 is known within -0.1"},
		{"nobody knows how well a point is known", with(Point{N: 3, X: 1, Within: nan}), BadPoint, "N = 3 is known within NaN"},
		{"too many points", make([]Point, MaxPoints+1), BadPoint, "1001 points; 1000 at most"},
		{"one point is 40 % too low", with(Point{N: 4, X: 0.6 * good[2].X}), PoorFit, "the point at N = 4 lies"},
		{"throughput jumps, which the law cannot", xy(1, 100, 2, 110, 4, 900, 8, 1000), PoorFit, "does not hold: the point at N ="},
		{"more than linear throughput, which the law cannot", xy(1, 100, 2, 260, 4, 700, 8, 1800), PoorFit, "does not hold"},
		{"three levels with a peak want a fourth", xy(1, 100, 2, 150, 4, 80), PoorFit, "kappa held at 0"},
		{"a plateau of the generator after a straight line", xy(1, 100, 2, 200, 4, 400, 8, 800, 16, 800, 32, 800), PoorFit, "does not hold"},
		{"throughput that falls as the square from the start has no lambda", xy(2, 1000, 4, 1000.0/3, 8, 1000.0/7, 16, 1000.0/15), PoorFit, "does not hold"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := Fit(row.points, quick(1))
			e := (*RefusedError)(nil)
			if !errors.As(err, &e) || e.Reason != row.reason || !strings.Contains(e.Error(), row.says) {
				t.Errorf("model %+v, error %v; want %s: %s", m, err, row.reason, row.says)
			}
		})
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	good := of(1000, 0.05, 0.001).measure(rand.New(rand.NewPCG(1, 1)), 0, 1, 2, 4, 8, 16)
	for _, row := range []struct {
		name   string
		change func(*Options)
		says   string
	}{
		{"no confidence", func(o *Options) { o.Confidence = 0 }, "confidence is 0"},
		{"certainty", func(o *Options) { o.Confidence = 1 }, "confidence is 1"},
		{"too few resamples for the confidence", func(o *Options) { o.Resamples = 199 }, "take 200 to 20000"},
		{"too few resamples for more confidence", func(o *Options) { o.Resamples, o.Confidence = 900, 0.99 }, "take 1000 to 20000"},
		{"too many resamples", func(o *Options) { o.Resamples = 20001 }, "20001 resamples"},
		{"any law would hold", func(o *Options) { o.MaxResidual = 0.6 }, "largest residual is 0.6"},
		{"no law would hold", func(o *Options) { o.MaxResidual = 0 }, "largest residual is 0"},
		{"a reach into the measured range", func(o *Options) { o.Reach = 0.9 }, "0.9 times"},
		{"a reach to anywhere", func(o *Options) { o.Reach = math.Inf(1) }, "+Inf times"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := DefaultOptions(1)
			row.change(&o)
			if _, err := Fit(good, o); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("error is %v, want %q", err, row.says)
			}
		})
	}
	least := DefaultOptions(1)
	least.Resamples = 200
	if _, err := Fit(good, least); err != nil {
		t.Error(err)
	}
}

func TestPredictionsSayHowFarTheyReach(t *testing.T) {
	m, err := Fit(of(1000, 0.05, 0.001).measure(rand.New(rand.NewPCG(1, 1)), 0.01, 2, 4, 8, 16, 32), quick(1))
	if err != nil {
		t.Fatal(err)
	}
	read := new(Model)
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, read); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name         string
		m            *Model
		n            float64
		extrapolated bool
		reason       Reason
		says         string
	}{
		{"the smallest N measured", m, 2, false, "", ""},
		{"between two N", m, 5.5, false, "", ""},
		{"the largest N measured", m, 32, false, "", ""},
		{"just beyond", m, 32.1, true, "", ""},
		{"twice the largest", m, 64, true, "", ""},
		{"half the smallest", m, 1, true, "", ""},
		{"more than twice the largest", m, 64.1, false, OutOfRange, "from 2 to 32, which bears predictions from 1 to 64"},
		{"less than half the smallest", m, 0.9, false, OutOfRange, "N = 0.9"},
		{"no number", m, math.NaN(), false, OutOfRange, "N = NaN"},
		{"infinite", m, math.Inf(1), false, OutOfRange, "N = +Inf"},
		{"a model that was read has no draws", read, 4, false, NoDraws, "fit its points"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p, err := row.m.Predict(row.n)
			if row.reason != "" {
				e := (*RefusedError)(nil)
				if !errors.As(err, &e) || e.Reason != row.reason || !strings.Contains(e.Error(), row.says) {
					t.Errorf("prediction %+v, error %v; want %s: %s", p, err, row.reason, row.says)
				}
				return
			}
			if err != nil || p.Extrapolated != row.extrapolated || p.N != row.n {
				t.Errorf("prediction %+v, error %v", p, err)
			}
		})
	}
	again, err := Fit(read.Points, read.Options)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(again); !bytes.Equal(got, text) {
		t.Errorf("fitted again from what was read:\n%s\nwas\n%s", got, text)
	}
}

func TestOneSeedOneModel(t *testing.T) {
	points := of(1000, 0.03, 0.002).measure(rand.New(rand.NewPCG(7, 1)), 0.03, 1, 2, 4, 8, 16, 32)
	given := slices.Clone(points)
	write := func(points []Point, seed uint64) string {
		m, err := Fit(points, quick(seed))
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.Predict(40)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal([]any{m, p})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := write(points, 1)
	if again := write(points, 1); again != first {
		t.Errorf("the same seed gave\n%s\nand\n%s", first, again)
	}
	if !slices.Equal(points, given) {
		t.Error("the points were changed")
	}
	slices.Reverse(points)
	if again := write(points, 1); again != first {
		t.Errorf("the same points in another order gave\n%s\nand\n%s", first, again)
	}
	if other := write(points, 2); strings.Replace(other, `"seed":2`, `"seed":1`, 1) == first {
		t.Error("another seed drew the same")
	}
}

func TestJSONSaysWhatEachNumberIs(t *testing.T) {
	m, err := Fit(xy(1, 100, 2, 200, 4, 400), quick(9))
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Predict(8)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal([]any{m, p})
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"lambda":{"value":100,"low":100,"high":100},"sigma":{"value":0,"low":0,"high":0},"kappa":{"value":0,"low":0,"high":0},` +
		`"kappa_fixed":true,"from":1,"to":4,"residual":0,"residual_n":0,` +
		`"peak":null,"no_peak":"no peak inside the measured range is known: three levels of N do not tell kappa",` +
		`"points":[{"n":1,"x":100},{"n":2,"x":200},{"n":4,"x":400}],` +
		`"options":{"seed":9,"resamples":400,"confidence":0.95,"max_residual":0.1,"reach":2}},` +
		`{"n":8,"x":800,"low":800,"high":800,"extrapolated":true}]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The case in which unbounded fits end with kappa below 0 half of the time:
// kappa is 0 and points scatter by 3 %.
func TestNoCrosstalkUnderNoise(t *testing.T) {
	truth := of(1000, 0.03, 0)
	seeds := 200
	if testing.Short() {
		seeds = 60
	}
	lambda, sigma, kappa, ahead, peaks, told, unbounded := 0, 0, 0, 0, 0, 0, 0
	for seed := range seeds {
		points := truth.measure(rand.New(rand.NewPCG(uint64(seed), 5)), 0.03, 1, 2, 4, 8, 12, 16, 24, 32)
		d, y := design{}, []float64{}
		for _, p := range points {
			d.n, y = append(d.n, p.N), append(y, p.N/p.X)
		}
		if d.solve(y, allTerms).parts[2] < 0 {
			unbounded++
		}
		m, err := Fit(points, quick(uint64(seed)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		p, err := m.Predict(64)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, v := range []float64{m.Lambda.Value, m.Lambda.Low, m.Lambda.High, m.Sigma.Value, m.Sigma.Low, m.Sigma.High,
			m.Kappa.Value, m.Kappa.Low, m.Kappa.High, p.X, p.Low, p.High} {
			if !(v >= 0) || math.IsInf(v, 0) {
				t.Errorf("seed %d: %+v %+v", seed, m, p)
			}
		}
		count(&lambda, holds(m.Lambda, 1000))
		count(&sigma, holds(m.Sigma, 0.03))
		count(&kappa, m.Kappa.Low == 0)
		count(&ahead, holds(Estimate{p.X, p.Low, p.High}, truth.throughput(64)))
		count(&peaks, m.Peak != nil)
		count(&told, !holds(m.Sigma, 0.06) && m.Lambda.High < 1.2*m.Lambda.Low)
	}
	t.Logf("of %d: the interval holds lambda %d, sigma %d, kappa %d, X(64) %d times; %d peaks; unbounded fits below 0: %d", seeds, lambda, sigma, kappa, ahead, peaks, unbounded)
	share := func(name string, n int, least, most float64) {
		if got := float64(n) / float64(seeds); got < least || got > most {
			t.Errorf("%s: %.3f of %d seeds, want %v to %v", name, got, seeds, least, most)
		}
	}
	// 0.95 is stated. Without all that doc.go says of draws it is 0.92 or less for one
	// of these.
	least := 0.93
	if testing.Short() {
		least = 0.88
	}
	share("the interval holds lambda", lambda, least, 1)
	share("the interval holds sigma", sigma, least, 1)
	share("the interval holds kappa", kappa, least, 1)
	share("the interval holds X at twice the largest N", ahead, least, 1)
	share("a peak is told that is not there", peaks, 0, 0.03)
	share("the interval rules out twice the sigma and is narrow for lambda", told, 0.75, 1)
	share("the case is the hard one: unbounded fits have kappa below 0", unbounded, 0.35, 0.65)
}

// A peak that is there is found, and the interval holds it.
func TestPeaksAreFoundUnderNoise(t *testing.T) {
	truth := of(1000, 0.03, 0.005)
	found, held, seeds := 0, 0, 60
	for seed := range seeds {
		m, err := Fit(truth.measure(rand.New(rand.NewPCG(uint64(seed), 6)), 0.03, 1, 2, 4, 8, 12, 16, 24, 32), quick(uint64(seed)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if m.Peak != nil {
			found++
			count(&held, holds(m.Peak.N, truth.peak()) && holds(m.Peak.X, truth.throughput(truth.peak())))
		}
	}
	t.Logf("%d peaks in %d, %d held", found, seeds, held)
	if found < seeds*9/10 || held < found*80/100 {
		t.Errorf("%d peaks found in %d, of which the intervals held %d", found, seeds, held)
	}
}

func count(n *int, holds bool) {
	if holds {
		*n++
	}
}

// TestCoverage prints how often intervals of 95 % hold the truth, and how wide
// they are in shares of it.
func TestCoverage(t *testing.T) {
	if *coverageTrials == 0 {
		t.Skip("run with -coverage 400 and look")
	}
	for _, row := range []struct {
		at           []float64
		sigma, kappa float64
	}{
		{[]float64{1, 2, 4, 8, 16, 32}, 0.03, 0},
		{[]float64{1, 2, 4, 8, 12, 16, 24, 32}, 0.03, 0},
		{[]float64{1, 2, 4, 8, 12, 16, 24, 32}, 0, 0},
		{[]float64{1, 2, 4, 8, 12, 16, 24, 32}, 0.03, 0.001},
		{[]float64{1, 2, 4, 8}, 0.05, 0},
		{[]float64{1, 2, 4, 8}, 0.05, 0.01},
		{[]float64{1, 2, 3}, 0.05, 0},
		{[]float64{1, 2, 3}, 0.05, 0.01},
		{[]float64{1, 1, 1, 2, 2, 2, 3, 3, 3}, 0.05, 0.01},
		{[]float64{0.2, 0.5, 1, 2, 4, 8}, 0.05, 0.01},
	} {
		truth := of(1000, row.sigma, row.kappa)
		to := row.at[len(row.at)-1]
		var held [5]int
		var width [5]float64
		fits := 0
		for seed := range *coverageTrials {
			m, err := Fit(truth.measure(rand.New(rand.NewPCG(uint64(seed), 7)), 0.03, row.at...), quick(uint64(seed)))
			if err != nil {
				continue
			}
			fits++
			at := func(n float64) Estimate { return m.estimate(func(l law) float64 { return l.throughput(n) }) }
			for i, e := range []Estimate{m.Lambda, m.Sigma, m.Kappa, at(to), at(2 * to)} {
				want := []float64{1000, row.sigma, row.kappa, truth.throughput(to), truth.throughput(2 * to)}[i]
				count(&held[i], holds(e, want))
				width[i] += e.High - e.Low
			}
		}
		fmt.Printf("N %v sigma %v kappa %v: %d of %d fitted\n", row.at, row.sigma, row.kappa, fits, *coverageTrials)
		for i, name := range []string{"lambda", "sigma", "kappa", "X(to)", "X(2 to)"} {
			fmt.Printf("  %-8s %5.1f %%, %.3g wide\n", name, 100*float64(held[i])/float64(fits), width[i]/float64(fits))
		}
	}
}
