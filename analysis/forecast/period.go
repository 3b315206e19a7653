package forecast

import (
	"cmp"
	"slices"
	"time"
)

// Bounds of what is looked at to guess a period.
const (
	mostGaps       = 10_000 // of a series
	mostSpacings   = 100    // that may be the period
	mostDivisors   = 12
	regularGaps    = 20 // from here on a series has a period of its own,
	regularShare   = 0.9
	straying       = 0.1 // of a period: by so much a timer may be off
	commonShare    = 0.95
	roundedToWhole = 50 // a timer that is late by a fiftieth
)

// UsualPeriods guesses, for each series of one file, the time from one value to the
// next. A series with one gap over and over has that one. For all others, in which
// periods without a line are common, it is the longest time of which the gaps of
// the whole file are multiples, but for a few: a file is written by one timer.
// Where there is none such it is the median gap of the series, and 0 of a series
// with no two times in a file with none.
func UsualPeriods(list []*Series) []time.Duration {
	all := map[int64]int{}
	total := 0
	own := make([][]int64, len(list))
	for i, s := range list {
		own[i] = s.gaps()
		for _, d := range own[i] {
			all[d]++
			total++
		}
	}
	common := commonSpacing(all, total, len(list))
	out := make([]time.Duration, len(list))
	for i, gaps := range own {
		out[i] = time.Duration(common)
		if len(gaps) == 0 {
			continue
		}
		slices.Sort(gaps)
		middle := gaps[len(gaps)/2]
		same := 0
		for _, d := range gaps {
			if near(d, middle, middle) {
				same++
			}
		}
		if common == 0 || len(gaps) >= regularGaps && float64(same) >= regularShare*float64(len(gaps)) {
			out[i] = time.Duration(middle)
		}
	}
	return out
}

// gaps are the times between measurements, rounded to seconds where that is what
// a timer meant.
func (s *Series) gaps() (gaps []int64) {
	for i := 1; i < len(s.Points) && len(gaps) < mostGaps; i++ {
		d := time.Duration(s.Points[i].Time - s.Points[i-1].Time)
		if d <= 0 {
			continue
		}
		if whole := d.Round(time.Second); whole > 0 && (d-whole).Abs() < whole/roundedToWhole {
			d = whole
		}
		gaps = append(gaps, int64(d))
	}
	return gaps
}

// commonSpacing is the longest time of which nearly all gaps are multiples; 0
// where there is none. A series may begin or end in the middle of a period.
func commonSpacing(gaps map[int64]int, total, series int) int64 {
	list := make([]int64, 0, len(gaps))
	for d := range gaps {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b int64) int { return cmp.Or(cmp.Compare(gaps[b], gaps[a]), cmp.Compare(a, b)) })
	allowed := max(total/20, min(series, total/4))
	var best int64
	for _, gap := range list[:min(len(list), mostSpacings)] {
		for k := int64(1); k <= mostDivisors; k++ {
			d := gap / k
			if d <= best {
				break
			}
			odd := 0
			for _, other := range list {
				if !near(other, max(1, (other+d/2)/d)*d, d) {
					odd += gaps[other]
				}
			}
			if odd <= allowed {
				best = d
			}
		}
	}
	return best
}

// near reports whether a gap is off from where it should be by less than a timer
// with that period may stray.
func near(gap, should, period int64) bool {
	return float64(max(gap-should, should-gap)) <= straying*float64(period)
}
