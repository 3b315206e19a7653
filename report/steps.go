package report

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

// window is a window with its bands, in bins: half to either side of the centre,
// a gap, then a band.
type window struct{ half, gap, band int }

// logWindows are for bins of 1 %: steps ±1 to ±5 % wide.
var logWindows = []window{{1, 2, 4}, {2, 3, 6}, {4, 5, 9}}

// findSteps looks for steps in the bins of a histogram.
func (h *histogram) steps() []Step {
	if h == nil || h.count == 0 {
		return []Step{}
	}
	found := findSteps(h.bins, h.count, logWindows)
	out := make([]Step, 0, len(found))
	for _, f := range found {
		out = append(out, Step{
			At:   round(middleOf(h.first + f.peak)),
			From: round(edge(h.first + f.from)), To: round(edge(h.first + f.to + 1)),
			Count: f.excess, Share: round(float64(f.excess) / float64(h.count)), Significance: math.Round(10*f.sigma) / 10,
		})
	}
	return out
}

// stepsOf looks for steps among single values, in bins of the width given.
func stepsOf(values []float64, width float64, windows []window) []Step {
	out := []Step{}
	if len(values) == 0 {
		return out
	}
	low := math.Floor(slices.Min(values)/width) - 1
	bins := make([]uint64, int(slices.Max(values)/width-low)+2)
	for _, v := range values {
		bins[int(v/width-low)]++
	}
	for _, f := range findSteps(bins, uint64(len(values)), windows) {
		from, to := (low+float64(f.from))*width, (low+float64(f.to)+1)*width
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
			Count: f.excess, Share: round(float64(f.excess) / float64(len(values))), Significance: math.Round(10*f.sigma) / 10,
		})
	}
	return out
}

// finding is a step in bins.
type finding struct {
	from, to, peak int
	excess         uint64
	sigma          float64
}

func findSteps(counts []uint64, total uint64, windows []window) []finding {
	// Room to either side, so that a peak at the edge has bands.
	margin := 0
	for _, w := range windows {
		margin = max(margin, w.half+w.gap+w.band)
	}
	bins := make([]float64, len(counts)+2*margin)
	for i, n := range counts {
		bins[i+margin] = float64(n)
	}
	var out []finding
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
		out[i].from -= margin
		out[i].to -= margin
		out[i].peak -= margin
	}
	slices.SortFunc(out, func(a, b finding) int { return cmp.Compare(a.peak, b.peak) })
	return out
}

// fold adds a finding to one before it that it reaches into: what no valley
// divides from a step is its shoulder.
func fold(out []finding, f *finding) bool {
	for i := range out {
		if o := &out[i]; f.from <= o.to && o.from <= f.to {
			o.from, o.to = min(o.from, f.from), max(o.to, f.to)
			o.excess += f.excess
			return true
		}
	}
	return false
}

// strongest finds the most significant peak and flattens it.
func strongest(bins []float64, total float64, windows []window, margin int) (best finding, ok bool) {
	sums := make([]float64, len(bins)+1)
	for i, n := range bins {
		sums[i+1] = sums[i] + n
	}
	sum := func(from, to int) float64 { return sums[to] - sums[from] } // to excluded
	var level float64
	for _, w := range windows {
		for c := margin; c < len(bins)-margin; c++ {
			on := sum(c-w.half, c+w.half+1)
			if on < max(leastCount, leastShare*total) {
				continue
			}
			left := sum(c-w.half-w.gap-w.band, c-w.half-w.gap)
			right := sum(c+w.half+w.gap+1, c+w.half+w.gap+1+w.band)
			off := max(left, right)
			alpha := float64(2*w.half+1) / float64(w.band)
			excess := on - alpha*off
			if excess < max(leastCount, leastShare*total) || on < leastContrast*alpha*off {
				continue
			}
			if s := liMa(on, off, alpha); s >= leastSigma && s > best.sigma {
				best = finding{from: c - w.half, to: c + w.half, sigma: s}
				level, ok = off/float64(w.band), true
			}
		}
	}
	if ok {
		best.settle(bins, level)
	}
	return best, ok
}

// settle follows the peak down to its feet, measures it, and flattens it.
func (f *finding) settle(bins []float64, level float64) {
	f.peak = f.from
	for i := f.from; i <= f.to; i++ {
		if smooth(bins, i) > smooth(bins, f.peak) {
			f.peak = i
		}
	}
	// A foot is where the density has fallen to near the background. The
	// smear of a time-out (what was said before the silence) is part of it.
	foot := max(1.5*level, 0.05*smooth(bins, f.peak))
	for f.from > 0 && smooth(bins, f.from-1) > foot {
		f.from--
	}
	for f.to < len(bins)-1 && smooth(bins, f.to+1) > foot {
		f.to++
	}
	excess := 0.0
	for i := f.from; i <= f.to; i++ {
		excess += max(0, bins[i]-level)
		bins[i] = min(bins[i], level)
	}
	f.excess = uint64(math.Round(excess))
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
