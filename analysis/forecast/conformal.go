package forecast

import (
	"math"
	"slices"
)

const (
	// Coverage is that of the intervals, nominally.
	Coverage = 0.9
	tail     = (1 - Coverage) / 2
	// memory is how many errors a quantile is taken from, leastMemory how
	// many it takes at least.
	memory      = 1000
	leastMemory = 100
)

// conformal turns the errors of past forecasts into an interval around the next.
// Each tail has a level of its own, which moves against what falls outside, so
// that in the long run a share tail does on either side, whatever the series
// does: the miscoverage over T values differs from tail by no more than the way
// that the level has gone, over step·T (Gibbs and Candès 2021, proposition 4.1).
type conformal struct {
	sorted, ring []float64
	next         int
	thin, skip   int
	step         float64
	low, high    float64 // levels
}

// newConformal is for forecasts h periods ahead. Their errors resemble each other
// for some h periods: fewer of them are kept, and the levels move more slowly,
// or a single episode would drive them to the end.
func newConformal(h int) *conformal {
	return &conformal{thin: max(1, h/30), step: 0.005 / max(1, float64(h)/10), low: tail, high: tail}
}

// interval returns the bounds of the error; NaN before enough is known.
func (c *conformal) interval() (lo, hi float64) {
	if len(c.sorted) < leastMemory {
		return math.NaN(), math.NaN()
	}
	return c.quantile(c.low, 1), -c.quantile(c.high, -1)
}

// quantile is that of sign·error at a level. A level that has fallen below 0
// asks for more than was ever seen: the tail is stretched.
func (c *conformal) quantile(level, sign float64) float64 {
	n := len(c.sorted)
	at := func(i int) float64 {
		if sign > 0 {
			return c.sorted[i]
		}
		return -c.sorted[n-1-i]
	}
	if level <= 0 {
		spread := at(n/2) - at(0)
		return at(0) + spread*level/tail
	}
	position := min(level, 0.5) * float64(n-1)
	i := int(position)
	if i+1 >= n {
		return at(n - 1)
	}
	return at(i) + (position-float64(i))*(at(i+1)-at(i))
}

// judge moves the levels by whether a value fell outside of the interval that
// was given for it.
func (c *conformal) judge(below, above bool) {
	move := func(level *float64, miss bool) {
		if miss {
			*level += c.step * (tail - 1)
		} else {
			*level += c.step * tail
		}
	}
	move(&c.low, below)
	move(&c.high, above)
}

// add remembers an error.
func (c *conformal) add(e float64) {
	if c.skip++; c.skip < c.thin {
		return
	}
	c.skip = 0
	if len(c.ring) < memory {
		c.ring = append(c.ring, e)
	} else {
		i, _ := slices.BinarySearch(c.sorted, c.ring[c.next])
		c.sorted = slices.Delete(c.sorted, i, i+1)
		c.ring[c.next] = e
		c.next = (c.next + 1) % memory
	}
	i, _ := slices.BinarySearch(c.sorted, e)
	c.sorted = slices.Insert(c.sorted, i, e)
}
