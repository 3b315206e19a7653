package chart

import (
	"math"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
)

// Unit is what an axis measures. It decides on ticks and on how values read.
type Unit string

// Units.
const (
	Count   Unit = "count"
	Share   Unit = "share" // 0 to 1, shown as per cent
	Bytes   Unit = "bytes"
	Rate    Unit = "rate" // bytes a second, shown as bits a second
	Seconds Unit = "seconds"
	Millis  Unit = "millis" // seconds, shown as milliseconds
	Clock   Unit = "clock"  // seconds since 1970, UTC
	Factor  Unit = "factor" // a plain number
	Lag     Unit = "lag"    // seconds, either sign
)

// Axis of a chart. Where Min equals Max the data decide.
type Axis struct {
	Unit     Unit
	Log      bool
	Min, Max float64
	Floor    float64 // data below it are drawn on it
	Label    string
}

// scale is an axis in use: values are mapped to a linear axis of gonum's.
type scale struct {
	Axis
	low, high float64 // mapped
}

func (s *scale) apply(v float64) float64 {
	if s.Log {
		return math.Log10(v)
	}
	return v
}

// newScale fits an axis to data.
func newScale(a Axis, low, high float64) scale {
	s := scale{Axis: a}
	if a.Min != a.Max {
		low, high = a.Min, a.Max
	}
	if math.IsInf(low, 0) || math.IsInf(high, 0) || math.IsNaN(low+high) {
		low, high = 1, 10
	}
	if a.Floor > 0 && a.Min == a.Max {
		low = max(low, a.Floor)
	}
	if a.Log {
		low = max(low, 1e-6)
		high = max(high, low*1.0001)
		s.low, s.high = math.Log10(low), math.Log10(high)
		if s.high-s.low < 0.5 {
			s.low, s.high = s.low-0.25, s.high+0.25
		}
		return s
	}
	if high <= low {
		low, high = min(0, low), max(low+1, high)
		if a.Unit == Share {
			high = 1
		}
	}
	s.low, s.high = low, high
	return s
}

// ticks places some n labelled ticks.
func (s *scale) ticks(n int) []plot.Tick {
	switch {
	case s.Unit == Clock:
		return clockTicks(s.low, s.high, n)
	case s.Log && (s.Unit == Seconds || s.Unit == Lag):
		return s.durationTicks(n)
	case s.Log:
		return s.decades(n)
	case s.Unit == Lag:
		return s.lagTicks(n)
	}
	return s.linear(n)
}

func (s *scale) decades(n int) []plot.Tick {
	var out []plot.Tick
	// Bits a second sit on round bits, not on round bytes.
	shift := 0.0
	if s.Unit == Rate {
		shift = math.Log10(8)
	}
	if s.Unit == Millis {
		shift = 3
	}
	step := max(1, math.Ceil((s.high-s.low)/float64(max(n, 1))))
	for e := math.Ceil(s.low + shift); e <= s.high+shift+1e-9; e++ {
		t := plot.Tick{Value: e - shift}
		if math.Mod(e-math.Ceil(s.low+shift), step) == 0 {
			t.Label = Format(math.Pow(10, e-shift), s.Unit)
		}
		out = append(out, t)
	}
	if s.high-s.low < 2.2 {
		for e := math.Floor(s.low + shift); e <= s.high+shift; e++ {
			for _, m := range []float64{2, 5} {
				v := e + math.Log10(m) - shift
				if v >= s.low && v <= s.high {
					out = append(out, plot.Tick{Value: v, Label: Format(math.Pow(10, v), s.Unit)})
				}
			}
		}
	}
	return out
}

// durations at which people cut time.
var durations = []float64{
	1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 10 * 86400, 100 * 86400,
}

var moreDurations = []float64{
	1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 3 * 3600, 12 * 3600, 86400,
}

func (s *scale) durationTicks(n int) []plot.Tick {
	within := func(list []float64) (in []float64) {
		for _, d := range list {
			if v := math.Log10(d); v >= s.low-1e-9 && v <= s.high+1e-9 {
				in = append(in, v)
			}
		}
		return in
	}
	in := within(durations)
	if more := within(moreDurations); len(more) <= n+2 {
		in = more
	}
	step := max(1, (len(in)+n-1)/max(n, 1))
	var out []plot.Tick
	for i, v := range in {
		t := plot.Tick{Value: v}
		if i%step == 0 {
			t.Label = Format(math.Pow(10, v), Seconds)
		}
		out = append(out, t)
	}
	return out
}

func (s *scale) linear(n int) []plot.Tick {
	factor := 1.0
	switch s.Unit {
	case Rate:
		factor = 8
	case Millis:
		factor = 1000
	case Share:
		factor = 100
	}
	low, high := s.low*factor, s.high*factor
	step := niceStep((high - low) / float64(max(n, 1)))
	if s.Unit == Count {
		step = max(step, 1)
	}
	var out []plot.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+1e-9*step; i++ {
		out = append(out, plot.Tick{Value: i * step / factor, Label: Format(i*step/factor, s.Unit)})
	}
	return out
}

// niceStep is the next 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*p*(1+1e-9) {
			return m * p
		}
	}
	return 10 * p
}

func (s *scale) lagTicks(n int) []plot.Tick {
	steps := []float64{60, 300, 600, 1800, 3600, 7200, 3 * 3600, 6 * 3600}
	step := steps[len(steps)-1]
	for _, x := range steps {
		if (s.high-s.low)/x <= float64(n) {
			step = x
			break
		}
	}
	var out []plot.Tick
	for v := math.Ceil(s.low/step) * step; v <= s.high; v += step {
		out = append(out, plot.Tick{Value: v, Label: Format(v, Lag)})
	}
	return out
}

// clockTicks lie on full seconds, minutes, hours and days, UTC.
func clockTicks(low, high float64, n int) []plot.Tick {
	steps := []float64{
		1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600,
		86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 90 * 86400, 365 * 86400,
	}
	longest := steps[len(steps)-1]
	step := longest * math.Max(1, math.Ceil((high-low)/longest/float64(n)))
	for _, x := range steps {
		if (high-low)/x <= float64(n) {
			step = x
			break
		}
	}
	var out []plot.Tick
	day := ""
	for v := math.Ceil(low/step) * step; v <= high; v += step {
		t := time.Unix(int64(v), 0).UTC()
		layout := "15:04"
		switch {
		case step < 60:
			layout = "15:04:05"
		case step >= 30*86400:
			layout = "Jan 2006"
		case step >= 86400:
			layout = "2 Jan"
		case step >= 3600 && t.Hour() == 0 && t.Format("2 Jan") != day && len(out) > 0:
			layout = "2 Jan"
		}
		day = t.Format("2 Jan")
		out = append(out, plot.Tick{Value: v, Label: t.Format(layout)})
	}
	return out
}

// Format writes a value for people, in one line.
func Format(v float64, u Unit) string {
	if u == Clock {
		return time.Unix(0, int64(v*1e9)).UTC().Format("2 Jan 15:04")
	}
	return strings.ReplaceAll(format(v, u), " ", "\u00a0")
}

func format(v float64, u Unit) string {
	v += 0 // −0 is 0
	switch u {
	case Share:
		return percent(v)
	case Bytes:
		return prefixed(v, "B")
	case Rate:
		return prefixed(8*v, "b/s")
	case Seconds:
		return Duration(v)
	case Millis:
		return trim(v*1000, 4) + " ms"
	case Lag:
		if v < 0 {
			return "−" + Duration(-v)
		}
		return Duration(v)
	case Factor:
		return trim(v, 3)
	}
	return grouped(v)
}

// percent writes a share. What is not all, or not nothing, does not read so.
func percent(v float64) string {
	switch a := math.Abs(v); {
	case v > 0.9995 && v < 1:
		return "> 99.9 %"
	case a > 0 && a < 0.0001:
		return "< 0.01 %"
	case a < 0.1:
		return trim(v*100, 2) + " %"
	}
	return trim(v*100, 3) + " %"
}

// trim writes v with so many digits at most and no zeros at the end.
func trim(v float64, digits int) string {
	if v == 0 {
		return "0"
	}
	d := max(0, digits-1-int(math.Floor(math.Log10(math.Abs(v)))))
	s := strconv.FormatFloat(v, 'f', min(d, 6), 64)
	if strings.ContainsRune(s, '.') {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return strings.Replace(s, "-", "−", 1)
}

func prefixed(v float64, unit string) string {
	const prefixes = "kMGTPE"
	if math.Abs(v) < 999.5 {
		return trim(v, 3) + " " + unit
	}
	at := -1
	for math.Abs(v) >= 999.5 && at < len(prefixes)-1 {
		v /= 1000
		at++
	}
	return trim(v, 3) + " " + prefixes[at:at+1] + unit
}

// Duration writes seconds as people say them.
func Duration(s float64) string {
	switch a := math.Abs(s); {
	case s == 0:
		return "0 s"
	case a < 0.9995e-3:
		return trim(s*1e6, 3) + " µs"
	case a < 0.9995:
		return trim(s*1e3, 3) + " ms"
	case a < 99.95:
		return trim(s, 3) + " s"
	case a >= 3600 && math.Mod(a, 3600) == 0 && a < 2*86400:
		return trim(s/3600, 3) + " h"
	case a < 7200:
		return trim(s/60, 3) + " min"
	case a < 2*86400:
		return trim(s/3600, 3) + " h"
	}
	return trim(s/86400, 3) + " d"
}

// grouped writes a count with thin spaces between thousands, large ones short.
func grouped(v float64) string {
	if math.Abs(v) >= 1e7 {
		return strings.TrimSuffix(prefixed(v, ""), " ")
	}
	if v != math.Trunc(v) {
		return trim(v, 3)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
