// Package steps finds the places at which a distribution function rises steeply.
package steps

import (
	"cmp"
	"math"
	"slices"
)

// Step is a place at which a distribution function rises steeply: many flows end
// at nearly the same time, or many addresses answer after nearly the same.
type Step struct {
	// At is where most of it lies, From and To where it begins and ends, in
	// the distribution's unit.
	At   float64 `json:"at"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Count is how many values it has beyond the background, Share that of
	// all values.
	Count uint64  `json:"count"`
	Share float64 `json:"share"`
	// Significance in standard deviations of the background (Li and Ma).
	Significance float64 `json:"significance"`
}

// How steps are found. A step is a narrow peak of the density. A window slides
// over it, in several widths, and is held against the bands to either side; what
// counts as background is the fuller band, so that the edge of a plateau, or the
// flank of a hill, is no peak. The window must hold
//
//   - significantly more than the background: Li and Ma (Astrophysical Journal
//     272, 1983), equation 17, the test for a source against a background that
//     is itself only counted, above leastSigma;
//   - leastContrast times the background, so that the rounding of a smooth
//     hill, which many values make significant, is no peak either;
//   - leastShare of all values.
//
// The strongest is taken, replaced by its background, and the search begins
// again; so a strong peak does not hide the weaker one beside it.
const (
	leastSigma    = 5.0
	leastContrast = 2.0
	leastShare    = 0.02
	leastCount    = 15
	mostSteps     = 12
)

// Window is a window with its bands, in bins: half to either side of the centre,
// a gap, then a band.
type Window struct{ Half, Gap, Band int }

// LogWindows are for bins of 1 %: steps ±1 to ±5 % wide.
var LogWindows = []Window{{1, 2, 4}, {2, 3, 6}, {4, 5, 9}}

// RTTBin and RTTWindows are for steps of round-trip times: half a millisecond,
// steps 1.5 to 4.5 ms wide.
const RTTBin = 0.0005

// RTTWindows go with RTTBin.
var RTTWindows = []Window{{1, 1, 3}, {2, 2, 5}, {4, 3, 9}}

// Of looks for steps among single values, in bins of the width given.
func Of(values []float64, width float64, windows []Window) []Step {
	out := []Step{}
	if len(values) == 0 {
		return out
	}
	low := math.Floor(slices.Min(values)/width) - 1
	bins := make([]uint64, int(slices.Max(values)/width-low)+2)
	for _, v := range values {
		bins[int(v/width-low)]++
	}
	for _, f := range Find(bins, uint64(len(values)), windows) {
		from, to := (low+float64(f.From))*width, (low+float64(f.To)+1)*width
		var in []float64
		for _, v := range values {
			if v >= from && v < to {
				in = append(in, v)
			}
		}
		slices.Sort(in)
		at := (from + to) / 2
		if len(in) > 0 {
			at = in[len(in)/2]
		}
		out = append(out, Step{
			At: round(at), From: round(max(0, from)), To: round(to),
			Count: f.Excess, Share: round(float64(f.Excess) / float64(len(values))), Significance: math.Round(10*f.Sigma) / 10,
		})
	}
	return out
}

// Finding is a step in bins, From and To included.
type Finding struct {
	From, To, Peak int
	Excess         uint64 // beyond the background
	Sigma          float64
}

// Find looks for steps in the bins of a histogram of so many values.
func Find(counts []uint64, total uint64, windows []Window) []Finding {
	// Room to either side, so that a peak at the edge has bands.
	margin := 0
	for _, w := range windows {
		margin = max(margin, w.Half+w.Gap+w.Band)
	}
	bins := make([]float64, len(counts)+2*margin)
	for i, n := range counts {
		bins[i+margin] = float64(n)
	}
	var out []Finding
	for range 4 * mostSteps {
		f, ok := strongest(bins, float64(total), windows, margin)
		if !ok || len(out) == mostSteps {
			break
		}
		if !fold(out, &f) {
			out = append(out, f)
		}
	}
	for i := range out {
		out[i].From -= margin
		out[i].To -= margin
		out[i].Peak -= margin
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.Peak, b.Peak) })
	return out
}

// fold adds a finding to one before it that it reaches into: what no valley
// divides from a step is its shoulder.
func fold(out []Finding, f *Finding) bool {
	for i := range out {
		if o := &out[i]; f.From <= o.To && o.From <= f.To {
			o.From, o.To = min(o.From, f.From), max(o.To, f.To)
			o.Excess += f.Excess
			return true
		}
	}
	return false
}

// strongest finds the most significant peak and flattens it.
func strongest(bins []float64, total float64, windows []Window, margin int) (best Finding, ok bool) {
	sums := make([]float64, len(bins)+1)
	for i, n := range bins {
		sums[i+1] = sums[i] + n
	}
	sum := func(from, to int) float64 { return sums[to] - sums[from] } // to excluded
	var level float64
	for _, w := range windows {
		for c := margin; c < len(bins)-margin; c++ {
			on := sum(c-w.Half, c+w.Half+1)
			if on < max(leastCount, leastShare*total) {
				continue
			}
			left := sum(c-w.Half-w.Gap-w.Band, c-w.Half-w.Gap)
			right := sum(c+w.Half+w.Gap+1, c+w.Half+w.Gap+1+w.Band)
			off := max(left, right)
			alpha := float64(2*w.Half+1) / float64(w.Band)
			excess := on - alpha*off
			if excess < max(leastCount, leastShare*total) || on < leastContrast*alpha*off {
				continue
			}
			if s := liMa(on, off, alpha); s >= leastSigma && s > best.Sigma {
				best = Finding{From: c - w.Half, To: c + w.Half, Sigma: s}
				level, ok = off/float64(w.Band), true
			}
		}
	}
	if ok {
		best.settle(bins, level)
	}
	return best, ok
}

// settle follows the peak down to its feet, measures it, and flattens it.
func (f *Finding) settle(bins []float64, level float64) {
	f.Peak = f.From
	for i := f.From; i <= f.To; i++ {
		if smooth(bins, i) > smooth(bins, f.Peak) {
			f.Peak = i
		}
	}
	// A foot is where the density has fallen to near the background. The
	// smear of a time-out (what was said before the silence) is part of it.
	foot := max(1.5*level, 0.05*smooth(bins, f.Peak))
	for f.From > 0 && smooth(bins, f.From-1) > foot {
		f.From--
	}
	for f.To < len(bins)-1 && smooth(bins, f.To+1) > foot {
		f.To++
	}
	excess := 0.0
	for i := f.From; i <= f.To; i++ {
		excess += max(0, bins[i]-level)
		bins[i] = min(bins[i], level)
	}
	f.Excess = uint64(math.Round(excess))
}

// smooth is the mean of three bins.
func smooth(bins []float64, i int) float64 {
	sum, n := bins[i], 1.0
	if i > 0 {
		sum, n = sum+bins[i-1], n+1
	}
	if i < len(bins)-1 {
		sum, n = sum+bins[i+1], n+1
	}
	return sum / n
}

// liMa is the significance of on counts in a window where off were counted in a
// background 1/alpha as wide (equation 17).
func liMa(on, off, alpha float64) float64 {
	if on <= alpha*off {
		return 0
	}
	s := on * math.Log((1+alpha)/alpha*on/(on+off))
	if off > 0 {
		s += off * math.Log((1+alpha)*off/(on+off))
	}
	return math.Sqrt(2 * s)
}

// round keeps six digits: more than any of this is good for, and sums that were
// made in another order look the same.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}
