package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outside is a series that somebody else counted: posts a minute, calls to the
// hotline.
type Outside struct {
	Name   string
	Times  []int64 // nanoseconds, rising
	Counts []float64
}

const mostEvents = 5_000_000

// ReadEvents reads a CSV of time and count. Times are RFC 3339, "2014-02-22
// 17:30" (UTC), or seconds since 1970. A first line that names the columns is
// passed over; its second name becomes the series'.
func ReadEvents(path string) (*Outside, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, "cannot be opened", err)
	}
	defer func() { _ = f.Close() }() // only read from
	in := csv.NewReader(f)
	in.ReuseRecord, in.TrimLeadingSpace, in.Comment = true, true, '#'
	in.FieldsPerRecord = -1
	o := &Outside{Name: "events"}
	type point struct {
		at    int64
		count float64
	}
	var points []point
	for row := 0; ; row++ {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, csvError(path, err)
		}
		line, _ := in.FieldPos(0)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%s:%d: expected two columns, time and count", path, line)
		}
		at, timeErr := parseTime(strings.TrimPrefix(fields[0], "\ufeff"))
		count, countErr := strconv.ParseFloat(strings.TrimSpace(fields[1]), 64)
		if row == 0 && timeErr != nil && countErr != nil {
			if name := strings.TrimSpace(fields[1]); name != "" && !strings.EqualFold(name, "count") {
				o.Name = strings.Clone(name)
			}
			continue
		}
		switch {
		case timeErr != nil:
			return nil, fmt.Errorf("%s:%d: %w", path, line, timeErr)
		case countErr != nil || count < 0 || math.IsNaN(count) || math.IsInf(count, 0):
			return nil, fmt.Errorf("%s:%d: %q is no count", path, line, fields[1])
		case len(points) >= mostEvents:
			return nil, fmt.Errorf("%s:%d: more than %d lines; put them together, by the minute say", path, line, mostEvents)
		}
		points = append(points, point{at, count})
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("%s: no events; expected lines of time and count", path)
	}
	slices.SortStableFunc(points, func(a, b point) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	for _, p := range points {
		o.Times, o.Counts = append(o.Times, p.at), append(o.Counts, p.count)
	}
	return o, nil
}

func parseTime(text string) (int64, error) {
	text = strings.TrimSpace(text)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 && t.Year() < 2262 {
			return t.UnixNano(), nil
		}
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < 9e9 {
		return int64(s * 1e9), nil
	}
	return 0, fmt.Errorf("%q is no time such as 2014-02-22T17:30:00Z, 2014-02-22 17:30 (UTC) or seconds since 1970", text)
}

// binned adds the events up in bins.
func (o *Outside) binned(first, width int64, n int) []float64 {
	out := make([]float64, n)
	for i, t := range o.Times {
		if at := (t - first) / width; t >= first && at < int64(n) {
			out[at] += o.Counts[i]
		}
	}
	return out
}

// Correlation of a series of ours with one from outside.
type Correlation struct {
	Series string `json:"series"`
	// Lag at which they agree best, in seconds: positive, the outside follows.
	Lag float64 `json:"lag_s"`
	// R at that lag (Pearson), and the interval that holds the true one with
	// 95 % probability, corrected for autocorrelation and for having looked
	// at many lags.
	R     float64   `json:"r"`
	Low   float64   `json:"r_low"`
	High  float64   `json:"r_high"`
	Bins  int       `json:"bins"`
	Worth float64   `json:"independent_bins"` // what they are worth
	Lags  []float64 `json:"lags_s"`
	Rs    []float64 `json:"r_at_lag"`
}

// leastBins is how many bins have to overlap for a correlation.
const leastBins = 12

// correlate finds the lag at which two series of equal bins agree best.
//
// Neighbouring bins are alike, so n of them are worth fewer independent ones:
// n/(1+2Σρx(k)ρy(k)) (Bartlett 1935). The interval is Fisher's: atanh r is
// nearly normal with variance 1/(n−3). It is widened to hold for all the lags
// that were tried (Bonferroni), of which those within one correlation length
// are one.
func correlate(name string, x, y []float64, width time.Duration) (Correlation, bool) {
	n := min(len(x), len(y))
	most := min(n/4, int(6*time.Hour/width))
	if n < leastBins {
		return Correlation{}, false
	}
	best := Correlation{Series: name, R: math.Inf(-1), Lags: []float64{}, Rs: []float64{}}
	at := 0
	for lag := -most; lag <= most; lag++ {
		a, b := overlap(x[:n], y[:n], lag)
		r := pearson(a, b)
		if math.IsNaN(r) {
			continue
		}
		best.Lags, best.Rs = append(best.Lags, float64(lag)*width.Seconds()), append(best.Rs, round(r))
		if r > best.R {
			best.R, at = r, lag
		}
	}
	if math.IsInf(best.R, -1) {
		return Correlation{}, false
	}
	a, b := overlap(x[:n], y[:n], at)
	best.Lag, best.Bins = float64(at)*width.Seconds(), len(a)
	best.Worth = effective(a, b)
	tries := max(1, float64(2*most+1)*best.Worth/float64(len(a)))
	z := math.Sqrt2 * math.Erfinv(1-0.05/tries)
	half := z / math.Sqrt(max(best.Worth-3, 0.25))
	centre := math.Atanh(max(-0.999999, min(best.R, 0.999999)))
	best.Low, best.High = round(math.Tanh(centre-half)), round(math.Tanh(centre+half))
	best.R, best.Worth = round(best.R), math.Round(10*best.Worth)/10
	return best, true
}

// overlap returns the parts of x and y that meet when y comes lag bins later.
func overlap(x, y []float64, lag int) (a, b []float64) {
	if lag >= 0 {
		return x[:len(x)-lag], y[lag:]
	}
	return x[-lag:], y[:len(y)+lag]
}

func pearson(a, b []float64) float64 {
	ma, mb := mean(a), mean(b)
	var ab, aa, bb float64
	for i := range a {
		ab += (a[i] - ma) * (b[i] - mb)
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
	}
	if aa == 0 || bb == 0 {
		return math.NaN()
	}
	return ab / math.Sqrt(aa*bb)
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// effective is the number of independent bins that the pairs are worth.
func effective(a, b []float64) float64 {
	n := len(a)
	sum := 0.0
	for k := 1; k <= n/4; k++ {
		ra, rb := autocorrelation(a, k), autocorrelation(b, k)
		if ra*rb <= 0 && k > 2 || math.IsNaN(ra*rb) {
			break // from here on it is noise
		}
		sum += (1 - float64(k)/float64(n)) * ra * rb
	}
	return min(float64(n), max(float64(n)/max(1+2*sum, 0.1), 2))
}

func autocorrelation(v []float64, k int) float64 {
	m := mean(v)
	var num, den float64
	for i := range v {
		den += (v[i] - m) * (v[i] - m)
		if i+k < len(v) {
			num += (v[i] - m) * (v[i+k] - m)
		}
	}
	return num / den
}
