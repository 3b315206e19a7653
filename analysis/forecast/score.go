package forecast

import "math"

// Score says how forecasts have fared, on the scale of the Transform.
type Score struct {
	// Count of forecasts that a value was held against.
	Count int
	// MAE is their mean absolute error, NaiveMAE that of the last value for
	// the same periods.
	MAE, NaiveMAE float64
	// MASE is MAE over NaiveMAE: the last value at the same horizon has 1
	// (Hyndman and Koehler 2006, scaled by the naive forecast of the same
	// horizon, out of sample). NaN without a forecast.
	MASE float64
	// Skill is 1 - MASE. It may be negative.
	Skill float64
	// Intervals is the number of forecasts that had an interval, Covered the
	// share of values inside it.
	Intervals int
	Covered   float64
	// Pinball is the mean pinball loss of the quantiles 0.05, 0.5 and 0.95.
	Pinball float64
	// Width is the mean width of the intervals.
	Width float64
}

// Sums are what a Score is made of. They only grow, so that those of one stretch
// of time are the difference of two.
type Sums struct {
	// Count of forecasts, Intervals of those that had one, Covered of the
	// values inside it.
	Count, Intervals, Covered int
	// Error is the sum of their absolute errors on the scale of the
	// Transform, Naive that of the last value for the same periods.
	Error, Naive float64
}

// tally adds up a Score.
type tally struct {
	count, intervals, covered  int
	sum, naive, pinball, width float64
}

func (t *tally) add(y, point, lo, hi, naive float64) {
	if math.IsNaN(point) {
		return
	}
	t.count++
	t.sum += math.Abs(y - point)
	t.naive += naive
	if math.IsNaN(lo) {
		return
	}
	t.intervals++
	if y >= lo && y <= hi {
		t.covered++
	}
	t.pinball += (pinball(tail, y-lo) + pinball(0.5, y-point) + pinball(1-tail, y-hi)) / 3
	t.width += hi - lo
}

// pinball is the loss of a quantile forecast that is off by e = value - forecast.
func pinball(level, e float64) float64 { return max(level*e, (level-1)*e) }

func (t *tally) score() Score {
	n, i := float64(t.count), float64(t.intervals)
	s := Score{
		Count: t.count, MAE: t.sum / n, NaiveMAE: t.naive / n, MASE: t.sum / t.naive,
		Intervals: t.intervals, Covered: float64(t.covered) / i, Pinball: t.pinball / i, Width: t.width / i,
	}
	s.Skill = 1 - s.MASE
	return s
}

func (t *tally) sums() Sums {
	return Sums{Count: t.count, Intervals: t.intervals, Covered: t.covered, Error: t.sum, Naive: t.naive}
}
