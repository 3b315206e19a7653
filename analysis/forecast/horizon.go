package forecast

import (
	"math"
	"slices"
)

// arDim: a constant, the distances from the running means, that from the last
// season's mean, and the latest steps.
const arDim = 1 + len(spans) + 1 + lags

// horizon is everything about forecasts so many periods ahead.
type horizon struct {
	h          int
	each       bool
	warmup     int64
	ar         *ridge
	regression *ridge
	said       []saying // by period
	current    Model
	errors     [models]fading
	holt       [len(smoothing)]fading
	intervals  [models + 1]*conformal // nil where not wanted
	scores     [models + 1]tally
	least      float64 // weight of errors that it takes to be chosen
}

// saying is what was said in one period of the one h later.
type saying struct {
	at            int64 // -1: nothing
	y, z          float64
	model         Model
	point, lo, hi [models + 1]float64
	holt          [len(smoothing)]float64
	arX           [arDim]float64
	arGood        bool
	regX          []float64
	regGood       bool
}

func newHorizon(h int, cfg *Config, halfLife float64) *horizon {
	season := float64(cfg.Season / cfg.Period)
	x := &horizon{
		h: h, each: cfg.EachModel, warmup: int64(cfg.Warmup / cfg.Period), least: max(30, season/8),
		ar:   newRidge(arDim, halfLife),
		said: make([]saying, h+1),
	}
	dim := 1 + 2*harmonics + len(spans) + 1 + cfg.Columns
	x.regression = newRidge(dim, halfLife)
	for i := range x.said {
		x.said[i].at = -1
		x.said[i].regX = make([]float64, dim)
	}
	fade := math.Exp2(-1 / season)
	for i := range x.errors {
		x.errors[i].fade = fade
	}
	for i := range x.holt {
		x.holt[i].fade = fade
	}
	for m := range x.intervals {
		if cfg.EachModel || Model(m) == Selected {
			x.intervals[m] = newConformal(h)
		}
	}
	return x
}

// forget drops what was said: nobody will hear whether it was right.
func (x *horizon) forget() {
	for i := range x.said {
		x.said[i].at = -1
	}
}

func (x *horizon) pending(at int64) *saying {
	if s := &x.said[at%int64(len(x.said))]; s.at == at {
		return s
	}
	return nil
}

// learn holds what was said h periods ago against the value that has come, and
// teaches the regressions.
func (x *horizon) learn(f *Forecaster, y, z float64) {
	at := f.now - int64(x.h)
	if at < 0 {
		return
	}
	s := x.pending(at)
	if s == nil {
		return
	}
	naive := math.Abs(y - s.y)
	for m := range models {
		x.errors[m].add(math.Abs(y-s.point[m]), naive)
	}
	for i := range s.holt {
		x.holt[i].add(math.Abs(y-s.holt[i]), naive)
	}
	scoring := f.now >= x.warmup
	for m, c := range x.intervals {
		if scoring {
			x.scores[m].add(y, s.point[m], s.lo[m], s.hi[m], naive)
		}
		if c == nil || math.IsNaN(s.point[m]) {
			continue
		}
		if !math.IsNaN(s.lo[m]) {
			c.judge(y < s.lo[m], y > s.hi[m])
		}
		c.add(y - s.point[m])
	}
	if s.arGood {
		x.ar.add(s.arX[:], z-s.z)
	}
	if s.regGood {
		x.regression.add(s.regX, y-s.y)
	}
}

// say makes all forecasts from the value y that has come.
func (x *horizon) say(f *Forecaster, y, z float64) {
	s := &x.said[f.now%int64(len(x.said))]
	s.at, s.y, s.z = f.now, y, z
	target := f.now + int64(x.h)
	rhythm := f.rhythmAt(target)
	s.point[LastValue] = y
	s.point[SeasonalNaive] = f.y.at(target - int64(f.season))
	for i := range f.holt {
		s.holt[i] = f.within(f.holt[i].ahead(x.h) + rhythm)
	}
	s.point[Holt] = s.holt[least(x.holt[:])]
	s.arGood = f.arFeatures(&s.arX, z)
	s.point[AR] = math.NaN()
	if s.arGood {
		s.point[AR] = f.within(z + x.ar.predict(s.arX[:]) + rhythm)
	}
	s.regGood = f.regressionFeatures(s.regX, target, y)
	s.point[Regression] = math.NaN()
	if s.regGood {
		s.point[Regression] = f.within(y + x.regression.predict(s.regX))
	}
	s.point[Median] = median(s.point[:Median])
	x.choose()
	s.model = x.current
	if math.IsNaN(s.point[s.model]) {
		s.model = x.substitute(s)
	}
	s.point[Selected] = s.point[s.model]
	for m, c := range x.intervals {
		s.lo[m], s.hi[m] = math.NaN(), math.NaN()
		if c != nil {
			lo, hi := c.interval()
			s.lo[m], s.hi[m] = s.point[m]+lo, s.point[m]+hi
		}
	}
}

// choose lets another model take over where it has been better by a margin.
func (x *horizon) choose() {
	best := x.current
	for m := range models {
		if x.errors[m].weight >= x.least && x.errors[m].ratio() < x.errors[best].ratio() {
			best = Model(m)
		}
	}
	if x.errors[best].ratio() < x.errors[x.current].ratio()*(1-margin) {
		x.current = best
	}
}

// substitute is the best of those that can speak.
func (x *horizon) substitute(s *saying) Model {
	best := LastValue
	for m := range models {
		if !math.IsNaN(s.point[m]) && x.errors[m].weight >= x.least && x.errors[m].ratio() < x.errors[best].ratio() {
			best = Model(m)
		}
	}
	return best
}

// arFeatures fills in the row of the autoregression; false where one of the
// latest periods is a gap. The means have z in them already.
func (f *Forecaster) arFeatures(x *[arDim]float64, z float64) bool {
	x[0] = 1
	i := 1
	for m := range f.means {
		x[i] = z - f.means[m].mean
		i++
	}
	x[i] = z - f.sum/float64(f.n)
	i++
	for k := range int64(lags) {
		x[i] = f.z.at(f.now-k) - f.z.at(f.now-k-1)
		if math.IsNaN(x[i]) {
			return false
		}
		i++
	}
	return true
}

// regressionFeatures fills in the row of the regression; false where an outside
// column is not known.
func (f *Forecaster) regressionFeatures(x []float64, target int64, y float64) bool {
	day := fourier(f.phase(target))
	i := copy(x, day[:])
	for m := range f.yMeans {
		x[i] = y - f.yMeans[m].mean
		i++
	}
	x[i] = y - f.sum/float64(f.n)
	i++
	for _, c := range f.columns {
		if math.IsNaN(c) {
			return false
		}
		x[i] = c
		i++
	}
	return true
}

// within keeps a forecast near what has ever been seen.
func (f *Forecaster) within(v float64) float64 {
	room := f.high - f.low
	return min(f.high+room, max(f.low-room, v))
}

// median of those that can speak.
func median(points []float64) float64 {
	var known [models]float64
	n := 0
	for _, p := range points {
		if !math.IsNaN(p) {
			known[n] = p
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	slices.Sort(known[:n])
	return (known[(n-1)/2] + known[n/2]) / 2
}

// fading is a mean error over some past, beside that of the last value over the
// same values.
type fading struct {
	fade, weight, sum, naive float64
}

func (e *fading) add(err, naive float64) {
	if math.IsNaN(err) {
		return
	}
	e.weight = e.weight*e.fade + 1
	e.sum = e.sum*e.fade + err
	e.naive = e.naive*e.fade + naive
}

// ratio is 1 where nothing tells better.
func (e *fading) ratio() float64 {
	if e.naive <= 0 {
		if e.sum > 0 {
			return math.Inf(1) // against a series that never moved
		}
		return 1
	}
	return e.sum / e.naive
}

// least is the place of the smallest ratio.
func least(e []fading) int {
	best := 0
	for i := range e {
		if e[i].ratio() < e[best].ratio() {
			best = i
		}
	}
	return best
}
