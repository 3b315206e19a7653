package forecast

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Settings of the models, the same for all series. They are not fitted: what
// must adapt does so through the choice among models.
const (
	// harmonics of the season that make up the daily rhythm.
	harmonics = 4
	// lags of the autoregression, besides its running means.
	lags = 3
	// halfLifeSeasons: a day counts half as much as the day two days later.
	halfLifeSeasons = 2
	// margin by which another model must be better to take over.
	margin = 0.02
	// damping of Holt's trend.
	damping = 0.95
)

// spans of the running means, in periods, where the season is longer.
var spans = [...]int{6, 60, 360}

// smoothing are the level's weights in Holt's method; the trend's is a tenth.
var smoothing = [...]float64{0.02, 0.1, 0.3, 0.7}

// Forecaster forecasts one series. It is not safe for concurrent use.
type Forecaster struct {
	cfg    Config
	season int // in periods

	started bool
	origin  int64 // time of the first value
	now     int64 // period of the last value or gap, from first
	latest  int64 // period of the last value
	values  int

	y    ring // on the scale of Transform
	z    ring // without the daily rhythm
	sum  float64
	n    int // values in the last season, whose sum is sum
	low  float64
	high float64

	means   [len(spans)]running // of z, for AR
	yMeans  [len(spans)]running // of y, for Regression
	rhythm  *ridge
	holt    [len(smoothing)]holt
	columns []float64 // latest, from zero
	zero    []float64 // first value of each column
	refit   int       // periods until the next fit

	horizons []*horizon
}

// New makes a Forecaster.
func New(cfg Config) (*Forecaster, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("forecast: %w", err)
	}
	f := &Forecaster{cfg: cfg, season: int(cfg.Season / cfg.Period), low: math.Inf(1), high: math.Inf(-1)}
	furthest := cfg.Horizons[len(cfg.Horizons)-1]
	f.y = newRing(f.season + furthest + lags + 2)
	f.z = newRing(lags + 2)
	halfLife := float64(halfLifeSeasons * f.season)
	f.rhythm = newRidge(1+2*harmonics, halfLife)
	f.columns, f.zero = make([]float64, cfg.Columns), make([]float64, cfg.Columns)
	for i := range f.zero {
		f.columns[i], f.zero[i] = math.NaN(), math.NaN()
	}
	for i, s := range spans {
		f.means[i].weight = 2 / float64(s+1)
		f.yMeans[i].weight = f.means[i].weight
	}
	for _, h := range cfg.Horizons {
		f.horizons = append(f.horizons, newHorizon(h, &f.cfg, halfLife))
	}
	return f, nil
}

// Outlook is a forecast, and how forecasts of its kind have fared.
type Outlook struct {
	// Time for which it holds, nanoseconds since 1970.
	Time    int64
	Horizon int // in periods
	// Point and the 90 % interval; NaN where nothing is known yet, or Time
	// has gone by.
	Point, Lo, Hi float64
	Model         Model // which spoke
	// Score is that of all forecasts at this horizon so far.
	Score Score
}

// Add takes the value of the period around t, nanoseconds since 1970. NaN is a
// period without a value, which need not be given. Columns are the outside ones,
// NaN for those not known.
//
// An error tells of a value that does not fit: a clock that goes back, a second
// value in one period, a value that its scale does not have. The series is as it
// was before.
func (f *Forecaster) Add(t int64, value float64, columns ...float64) error {
	if len(columns) != f.cfg.Columns {
		return fmt.Errorf("%d outside columns instead of %d", len(columns), f.cfg.Columns)
	}
	y := math.NaN()
	if !math.IsNaN(value) {
		var err error
		if y, err = f.cfg.Transform.forward(value); err != nil {
			return err
		}
	}
	if !f.started {
		if math.IsNaN(y) {
			return nil // it starts with a value
		}
		f.started, f.origin, f.now = true, t, -1
	}
	at := f.periodOf(t)
	switch {
	case at < f.now:
		return fmt.Errorf("time goes back by %v; sort the series by time", time.Duration(f.timeOf(f.now)-t))
	case at == f.now:
		return ErrSamePeriod
	}
	f.skip(at)
	f.now = at
	for i, c := range columns {
		if math.IsNaN(f.zero[i]) {
			f.zero[i] = c
		}
		f.columns[i] = c - f.zero[i]
	}
	f.step(y)
	return nil
}

// periodOf numbers periods from the first value. It is the nearest one, so that a
// clock that strays by a little does not leave one period empty and put two values
// into the next.
func (f *Forecaster) periodOf(t int64) int64 {
	period := uint64(f.cfg.Period)
	if t < f.origin {
		if uint64(f.origin)-uint64(t) <= period/2 {
			return 0
		}
		return -1 // before the first value: how far does not matter
	}
	return int64((uint64(t) - uint64(f.origin) + period/2) / period)
}

func (f *Forecaster) timeOf(at int64) int64 { return f.origin + at*int64(f.cfg.Period) }

// errSame is the type of ErrSamePeriod, so that it is a constant.
type errSame string

func (e errSame) Error() string { return string(e) }

// ErrSamePeriod is a second value in one period. The first one stands.
const ErrSamePeriod = errSame("a second value in one period")

// skip passes over periods without a value. A gap that is longer than all that
// is remembered only clears the memory.
func (f *Forecaster) skip(until int64) {
	if until-f.now > int64(len(f.y.v)) {
		f.y.clear()
		f.z.clear()
		f.sum, f.n = 0, 0
		for _, h := range f.horizons {
			h.forget()
		}
		f.now = until - 1
		return
	}
	for f.now+1 < until {
		f.now++
		f.step(math.NaN())
	}
}

// step works one period, f.now.
func (f *Forecaster) step(y float64) {
	if f.refit--; f.refit <= 0 {
		f.fit()
	}
	f.slide(y)
	if math.IsNaN(y) {
		f.y.put(f.now, y)
		f.z.put(f.now, y)
		for i := range f.holt {
			f.holt[i].gap()
		}
		return
	}
	f.values++
	f.latest = f.now
	f.low, f.high = min(f.low, y), max(f.high, y)
	z := y - f.rhythmAt(f.now)
	for _, h := range f.horizons {
		h.learn(f, y, z)
	}
	if f.n >= f.season/2 {
		// The mean over just one season has no rhythm of its own: what is
		// left is rhythm and noise, and no level.
		x := fourier(f.phase(f.now))
		f.rhythm.add(x[:], y-f.sum/float64(f.n))
	}
	f.y.put(f.now, y)
	f.z.put(f.now, z)
	for i := range spans {
		f.means[i].add(z)
		f.yMeans[i].add(y)
	}
	for i := range f.holt {
		f.holt[i].add(z, smoothing[i])
	}
	for _, h := range f.horizons {
		h.say(f, y, z)
	}
}

// slide moves the window of the last season on.
func (f *Forecaster) slide(y float64) {
	if old := f.y.at(f.now - int64(f.season)); !math.IsNaN(old) {
		f.sum -= old
		f.n--
	}
	if !math.IsNaN(y) {
		f.sum += y
		f.n++
	}
}

// fit solves all regressions anew, some 144 times a season.
func (f *Forecaster) fit() {
	f.refit = max(1, f.season/144)
	if f.rhythm.rows >= f.season {
		f.rhythm.fit()
	}
	for _, h := range f.horizons {
		h.ar.fit()
		if h.regression.rows >= f.season/2 {
			h.regression.fit()
		}
	}
	// Sums of differences drift: add up from the start.
	f.sum, f.n = 0, 0
	for at := f.now - int64(f.season); at < f.now; at++ {
		if v := f.y.at(at); !math.IsNaN(v) {
			f.sum += v
			f.n++
		}
	}
}

// phase of a period in the season, 0 to 2π.
func (f *Forecaster) phase(at int64) float64 {
	s := int64(f.season)
	first := floorDiv(f.origin, int64(f.cfg.Period))
	return 2 * math.Pi * float64(((first+at)%s+s)%s) / float64(s)
}

// rhythmAt is the daily rhythm, 0 before it is known.
func (f *Forecaster) rhythmAt(at int64) float64 {
	if f.rhythm.beta == nil {
		return 0
	}
	x := fourier(f.phase(at))
	return f.rhythm.predict(x[:]) - f.rhythm.beta[0]
}

// fourier returns 1, then cosine and sine of each harmonic.
func fourier(phase float64) [1 + 2*harmonics]float64 {
	x := [1 + 2*harmonics]float64{1}
	s, c := math.Sincos(phase)
	ck, sk := c, s
	for k := range harmonics {
		x[1+2*k], x[2+2*k] = ck, sk
		ck, sk = ck*c-sk*s, sk*c+ck*s
	}
	return x
}

// Forecast returns the value expected h periods after the last value, and its
// 90 % interval; NaN where nothing is known, or where that period has gone by in a
// gap. H is one of the Config's horizons.
func (f *Forecaster) Forecast(h int) (point, lo, hi float64) {
	o := f.Outlook(h)
	return o.Point, o.Lo, o.Hi
}

// Outlook is Forecast with all that goes with it.
func (f *Forecaster) Outlook(h int) Outlook {
	nothing := math.NaN()
	o := Outlook{Horizon: h, Point: nothing, Lo: nothing, Hi: nothing}
	i := slices.Index(f.cfg.Horizons, h)
	if i < 0 || !f.started {
		return o
	}
	at := f.horizons[i]
	target := f.latest + int64(h)
	o.Time = f.timeOf(target)
	o.Score = at.scores[Selected].score()
	said := at.pending(f.latest)
	if said == nil || target <= f.now {
		return o
	}
	o.Model = said.model
	o.Point = f.cfg.Transform.back(said.point[Selected])
	o.Lo, o.Hi = f.cfg.Transform.back(said.lo[Selected]), f.cfg.Transform.back(said.hi[Selected])
	return o
}

// Score returns the score of a model at a horizon. Of models other than Selected
// it is complete only with Config.EachModel.
func (f *Forecaster) Score(h int, m Model) Score {
	i := slices.Index(f.cfg.Horizons, h)
	if i < 0 {
		return Score{}
	}
	return f.horizons[i].scores[m].score()
}

// Sums returns what the score of the choice among the models at a horizon is made
// of.
func (f *Forecaster) Sums(h int) Sums {
	i := slices.Index(f.cfg.Horizons, h)
	if i < 0 {
		return Sums{}
	}
	return f.horizons[i].scores[Selected].sums()
}

// Values is the number of values so far.
func (f *Forecaster) Values() int { return f.values }

// ring holds the latest values by period.
type ring struct {
	v    []float64
	last int64
}

func newRing(n int) ring {
	r := ring{v: make([]float64, n), last: -1}
	r.clear()
	return r
}

func (r *ring) clear() {
	for i := range r.v {
		r.v[i] = math.NaN()
	}
}

// put is called for each period in turn, or after clear.
func (r *ring) put(at int64, v float64) {
	r.v[at%int64(len(r.v))] = v
	r.last = at
}

func (r *ring) at(at int64) float64 {
	if at < 0 || at > r.last || r.last-at >= int64(len(r.v)) {
		return math.NaN()
	}
	return r.v[at%int64(len(r.v))]
}

// running is an exponential mean over the values that there are.
type running struct {
	weight, mean float64
	any          bool
}

func (r *running) add(v float64) {
	if !r.any {
		r.mean, r.any = v, true
		return
	}
	r.mean += r.weight * (v - r.mean)
}

// holt is a level with a damped trend (Gardner and McKenzie 1985).
type holt struct {
	level, trend float64
	any          bool
}

func (h *holt) add(z, weight float64) {
	if !h.any {
		h.level, h.any = z, true
		return
	}
	expected := h.level + damping*h.trend
	level := expected + weight*(z-expected)
	h.trend = damping*h.trend + weight/10*(level-h.level-damping*h.trend)
	h.level = level
}

// gap goes on by what is expected, and learns nothing.
func (h *holt) gap() {
	h.trend *= damping
	h.level += h.trend
}

// ahead is the forecast k periods on.
func (h *holt) ahead(k int) float64 {
	// damping + damping² + … + damping^k
	sum := damping * (1 - math.Pow(damping, float64(k))) / (1 - damping)
	return h.level + sum*h.trend
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
