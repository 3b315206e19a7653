package detect

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Features of a bin, on scales on which their spread does not depend on their
// size.
const (
	logAttempts  = iota
	logPerUser   // attempts per active subscriber
	asinCarried  // share of flows with payload both ways
	asinAnswered // share of SYNs with a SYN/ACK
	logBytes     // bytes per flow
	logDown
	logUp
	asinReset // share of flows with an RST
	features
)

type vector [features]float64

// absent stands for a feature without a value in a bin: no flow, no share.
const absent = math.MinInt16

// scale of the features as they are kept: 16 bits reach e^±32 in steps of a
// thousandth, far below any spread.
const scale = 1024

func featuresOf(b *Bin) (v vector) {
	share := func(of, n uint64) float64 {
		if n == 0 {
			return math.NaN()
		}
		return math.Asin(math.Sqrt(min(1, float64(of)/float64(n))))
	}
	ratio := func(of, n uint64) float64 {
		if n == 0 {
			return math.NaN()
		}
		return math.Log(float64(of+1) / float64(n))
	}
	v[logAttempts] = math.Log1p(float64(b.Attempts))
	v[logPerUser] = ratio(b.Attempts, b.Subscribers)
	v[asinCarried] = share(b.Carried, b.Flows)
	v[asinAnswered] = share(b.SYNACK, b.SYN)
	v[logBytes] = ratio(b.BytesUp+b.BytesDown, b.Flows)
	v[logDown] = math.Log1p(float64(b.BytesDown))
	v[logUp] = math.Log1p(float64(b.BytesUp))
	v[asinReset] = share(b.RST, b.Flows)
	return v
}

const (
	week       = 7 * 24 * time.Hour
	slots      = int(week / Width)
	weeks      = 5
	around     = 2 // bins to either side of the same time of the week
	recentBins = int(2 * time.Hour / Width)
	leastBins  = recentBins / 2 // before which nothing is judged
	leastWeeks = 2
	// longPause without anything learned (an event, a daemon that was down)
	// makes of the last two hours those of another time of the day.
	longPause = time.Hour
)

// packed is a vector as it is kept.
type packed [features]int16

func pack(v vector) (p packed) {
	for i, x := range v {
		p[i] = absent
		if !math.IsNaN(x) {
			p[i] = int16(min(max(math.Round(x*scale), absent+1), math.MaxInt16))
		}
	}
	return p
}

var nothing = pack(vector{
	math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(),
})

// history is what a series was like.
type history struct {
	recent  [recentBins]packed // ring of the last learned bins
	learned int
	newest  int64      // start of the bin that was learned last
	fresh   int        // bins learned since there was last a long time without
	season  [][]packed // by week modulo weeks, then slot; nil until the first bin
	week    int64      // the newest week in season
}

func weekOf(start int64) (number int64, slot int) {
	// The epoch was a Thursday; where a week begins does not matter.
	number = start / int64(week)
	return number, int((start - number*int64(week)) / int64(Width))
}

// turn makes room for the week of start.
func (h *history) turn(start int64) {
	number, _ := weekOf(start)
	if h.season == nil {
		h.season = make([][]packed, weeks)
		h.week = number
	}
	if number > h.week+weeks {
		h.week = number - weeks
	}
	for h.week < number {
		h.week++
		h.season[h.week%weeks] = nil
	}
}

// learn adds a bin.
func (h *history) learn(start int64, v vector) {
	h.turn(start)
	number, slot := weekOf(start)
	if number <= h.week-weeks {
		return // long past: a clock that was set back
	}
	p := pack(v)
	h.recent[h.learned%recentBins] = p
	h.learned++
	if start-h.newest > int64(longPause) {
		h.fresh = 0
	}
	h.newest = start
	h.fresh = min(h.fresh+1, recentBins)
	w := &h.season[number%weeks]
	if *w == nil {
		*w = slices.Repeat([]packed{nothing}, slots)
	}
	(*w)[slot] = p
}

// expected is what a feature should be: median and spread.
type expected struct{ mid, spread float64 }

// baseline returns what is expected of the bin at start. calibrated says that
// it is the season's.
func (h *history) baseline(start int64, floor *vector) (e [features]expected, calibrated, ok bool) {
	h.turn(start)
	if h.learned < leastBins {
		return e, false, false
	}
	number, slot := weekOf(start)
	same := make([]packed, 0, weeks*(2*around+1))
	seen := 0
	for back := int64(1); back < weeks; back++ {
		before := len(same)
		for near := -around; near <= around; near++ {
			// Across the week's edge the neighbour is in another week.
			at, n := slot+near, number-back
			switch {
			case at < 0:
				at, n = at+slots, n-1
			case at >= slots:
				at, n = at-slots, n+1
			}
			if n <= h.week-weeks || n < 0 || h.season[n%weeks] == nil {
				continue
			}
			if p := h.season[n%weeks][at]; p != nothing {
				same = append(same, p)
			}
		}
		if len(same) > before {
			seen++
		}
	}
	calibrated = seen >= leastWeeks && len(same) >= leastWeeks*(2*around)
	if !calibrated {
		same = h.recent[:min(h.learned, recentBins)]
	}
	return summarize(same, floor), calibrated, true
}

// stale says that what was learned last is no measure of how much there should be
// now.
func (h *history) stale(start int64) bool {
	return h.fresh < leastBins || start-h.newest > int64(longPause)
}

// lately is what a feature was like in the last two hours.
func (h *history) lately(f int) expected {
	return robust(h.recent[:min(h.learned, recentBins)], f, floors[f])
}

func summarize(bins []packed, floor *vector) (e [features]expected) {
	for f := range e {
		e[f] = robust(bins, f, floor[f])
	}
	return e
}

// robust returns median and scaled median absolute deviation of a feature, NaN
// where it has fewer than four values.
func robust(bins []packed, f int, floor float64) expected {
	var room [weeks * (2*around + 1)]float64
	values := room[:0]
	for i := range bins {
		if v := bins[i][f]; v != absent {
			values = append(values, float64(v)/scale)
		}
	}
	if len(values) < 4 {
		return expected{math.NaN(), floor}
	}
	mid := median(values)
	// 1.4826: for normal values the MAD is 1/1.4826 of the deviation.
	return expected{mid, max(1.4826*medianDistance(values, mid), floor)}
}

// median sorts the values, by insertion: they are a few dozen at most.
func median(v []float64) float64 {
	for i, x := range v {
		for i > 0 && v[i-1] > x {
			v[i] = v[i-1]
			i--
		}
		v[i] = x
	}
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// medianDistance is the median distance from a value among those that are sorted.
// The farthest is at one of the ends: half of them are taken off there.
func medianDistance(sorted []float64, from float64) float64 {
	far, last := 0.0, 0.0
	for v := sorted; len(v) > (len(sorted)-1)/2; {
		last = far
		if below, above := from-v[0], v[len(v)-1]-from; below > above {
			far, v = below, v[1:]
		} else {
			far, v = above, v[:len(v)-1]
		}
	}
	if len(sorted)%2 == 1 {
		return far
	}
	return (far + last) / 2
}

// historyJSON is a history as it is saved: vectors as little-endian 16-bit
// numbers in base64.
type historyJSON struct {
	Recent  string   `json:"recent"`
	Learned int      `json:"learned"`
	Newest  int64    `json:"newest_ns"`
	Fresh   int      `json:"fresh"`
	Week    int64    `json:"week"`
	Season  []string `json:"season"`
}

func (h *history) MarshalJSON() ([]byte, error) {
	out := historyJSON{Recent: encode(h.recent[:]), Learned: h.learned, Newest: h.newest, Fresh: h.fresh, Week: h.week, Season: []string{}}
	for _, w := range h.season {
		out.Season = append(out.Season, encode(w))
	}
	return json.Marshal(out)
}

func (h *history) UnmarshalJSON(b []byte) error {
	var in historyJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	recent, err := decode(in.Recent, recentBins)
	if err != nil || len(recent) != recentBins || in.Learned < 0 || in.Week < 0 {
		return fmt.Errorf("recent bins are damaged")
	}
	*h = history{recent: [recentBins]packed(recent), learned: in.Learned, newest: in.Newest, fresh: in.Fresh, week: in.Week}
	if len(in.Season) == 0 {
		return nil
	}
	if len(in.Season) != weeks {
		return fmt.Errorf("season has %d weeks, not %d", len(in.Season), weeks)
	}
	for _, text := range in.Season {
		w, err := decode(text, slots)
		if err != nil {
			return err
		}
		h.season = append(h.season, w)
	}
	return nil
}

func encode(bins []packed) string {
	b := make([]byte, 0, len(bins)*2*features)
	for i := range bins {
		for _, v := range bins[i] {
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	}
	return base64.StdEncoding.EncodeToString(b)
}

// decode returns nil for an empty text.
func decode(text string, n int) ([]packed, error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != n*2*features {
		return nil, fmt.Errorf("a week's bins are damaged")
	}
	out := make([]packed, n)
	for i := range out {
		for f := range out[i] {
			out[i][f] = int16(binary.LittleEndian.Uint16(b[(i*features+f)*2:]))
		}
	}
	return out, nil
}
