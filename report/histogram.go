package report

import (
	"math"
	"sort"
)

// resolution is the width of a histogram's bins: a quantile is off by at most
// half of it, 0.5 % of its value.
const resolution = 0.01

var (
	logWidth = math.Log1p(resolution)
	logLeast = math.Log(leastValue)
)

// histogram counts values in bins whose edges grow by 1 %. It covers a
// microsecond to 10^13 and keeps only the stretch that it has seen; two of them
// can be added. The zero value is empty.
type histogram struct {
	count uint64
	zero  uint64 // values at or below the least
	sum   float64
	min   float64
	max   float64
	first int // number of bins[0]
	bins  []uint64
}

const (
	leastValue = 1e-6
	mostBin    = 4500 // e^(4500·0.00995) above a microsecond: far beyond any flow
)

func binOf(v float64) int {
	return min(max(0, int(math.Floor((math.Log(v)-logLeast)/logWidth))), mostBin)
}

// edge is the lower edge of a bin.
func edge(bin int) float64 { return leastValue * math.Exp(float64(bin)*logWidth) }

// middle of a bin, on the logarithmic scale.
func middleOf(bin int) float64 { return leastValue * math.Exp((float64(bin)+0.5)*logWidth) }

func (h *histogram) add(v float64) {
	if math.IsNaN(v) || v < 0 {
		return
	}
	if h.count == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.count++
	h.sum += v
	if v < leastValue {
		h.zero++
		return
	}
	h.bin(binOf(v), 1)
}

func (h *histogram) bin(i int, n uint64) {
	switch {
	case len(h.bins) == 0:
		h.first, h.bins = i, []uint64{0}
	case i < h.first:
		h.bins = append(make([]uint64, h.first-i, h.first-i+len(h.bins)), h.bins...)
		h.first = i
	case i >= h.first+len(h.bins):
		h.bins = append(h.bins, make([]uint64, i-h.first-len(h.bins)+1)...)
	}
	h.bins[i-h.first] += n
}

// merge adds o.
func (h *histogram) merge(o *histogram) {
	if o == nil || o.count == 0 {
		return
	}
	if h.count == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.count += o.count
	h.zero += o.zero
	h.sum += o.sum
	for i, n := range o.bins {
		if n > 0 {
			h.bin(o.first+i, n)
		}
	}
}

// quantile returns the value that a share p of all values does not exceed, NaN
// for an empty histogram.
func (h *histogram) quantile(p float64) float64 {
	if h.count == 0 {
		return math.NaN()
	}
	rank := p * float64(h.count)
	seen := float64(h.zero)
	if rank <= seen && h.zero > 0 {
		return h.min
	}
	for i, n := range h.bins {
		seen += float64(n)
		if n > 0 && seen >= rank {
			return min(max(middleOf(h.first+i), h.min), h.max)
		}
	}
	return h.max
}

// below returns the share of values that are v or less, to a bin's width.
func (h *histogram) below(v float64) float64 {
	if h.count == 0 {
		return math.NaN()
	}
	seen := h.zero
	for i, n := range h.bins {
		if edge(h.first+i) >= v {
			break
		}
		seen += n
	}
	return float64(seen) / float64(h.count)
}

// Curve is a distribution function: a share Y of all values is X or less.
type Curve struct {
	X []float64 `json:"x"`
	Y []float64 `json:"y"`
}

// curvePoints bounds a curve: a picture is not wider than some hundred pixels.
const curvePoints = 160

// cdf returns the distribution function. Points are left out where neither
// coordinate moves visibly.
func (h *histogram) cdf() Curve {
	c := Curve{X: []float64{}, Y: []float64{}}
	if h.count == 0 {
		return c
	}
	span := max(math.Log(max(h.max, leastValue)/max(h.min, leastValue)), logWidth)
	lastX, lastY := math.Inf(-1), -1.0
	seen := h.zero
	add := func(x float64) {
		c.X = append(c.X, x)
		c.Y = append(c.Y, float64(seen)/float64(h.count))
		lastX, lastY = math.Log(x), float64(seen)/float64(h.count)
	}
	add(max(h.min, leastValue))
	for i, n := range h.bins {
		if n == 0 {
			continue
		}
		x := min(max(edge(h.first+i+1), leastValue), max(h.max, leastValue))
		if y := float64(seen+n) / float64(h.count); math.Log(x)-lastX > 3*span/curvePoints && n > 0 && y-lastY > 1.0/curvePoints/4 {
			add(x) // where a flat stretch ends
		}
		seen += n
		if y := float64(seen) / float64(h.count); y-lastY >= 1.5/curvePoints || math.Log(x)-lastX >= span/curvePoints*1.5 || seen == h.count {
			add(x)
		}
	}
	return c
}

// Quantiles of a distribution, in its unit. All are 0 where Count is.
type Quantiles struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P05   float64 `json:"p05"`
	P25   float64 `json:"p25"`
	P50   float64 `json:"p50"`
	P75   float64 `json:"p75"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func (h *histogram) quantiles() Quantiles {
	if h == nil || h.count == 0 {
		return Quantiles{}
	}
	q := func(p float64) float64 { return round(h.quantile(p)) }
	return Quantiles{
		Count: h.count, Mean: round(h.sum / float64(h.count)), Max: h.max,
		P05: q(0.05), P25: q(0.25), P50: q(0.5), P75: q(0.75), P90: q(0.9), P95: q(0.95), P99: q(0.99),
	}
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

// ofSorted returns the distribution function of single values.
func ofSorted(values []float64) Curve {
	c := Curve{X: []float64{}, Y: []float64{}}
	n := len(values)
	if n > 0 {
		c.X, c.Y = append(c.X, values[0]), append(c.Y, 0)
	}
	for i := 0; i < n; {
		j := sort.SearchFloat64s(values[i:], math.Nextafter(values[i], math.Inf(1))) + i
		c.X = append(c.X, values[i])
		c.Y = append(c.Y, float64(j)/float64(n))
		i = max(j, i+1)
		if step := n / (2 * curvePoints); step > 1 && i < n {
			i = min(max(i, j+step-1), n-1)
		}
	}
	return c
}
