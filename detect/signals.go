package detect

import (
	"fmt"
	"math"
)

// Thresholds. z is the distance from what is expected in units of its spread.
const (
	zAlarm = 4.0
	zStay  = 2.0 // an event lasts while success is this far down
	// A signal counts only with an effect that a person would call one.
	leastLoss      = 0.10 // of the expected success
	greatLoss      = 0.25 // enough by itself
	likeLoss       = 0.5  // of another app's loss, to be the same failure
	leastSurge     = 1.25 // attempts per subscriber
	leastFall      = 0.30 // bytes per flow
	leastShrink    = 0.30 // bytes of all flows
	leastFlows     = 12   // in a bin, for a share to be judged
	vanished       = 0.20 // of the expected attempts or bytes: what is left when a feast of thrice the usual ends is more
	vanishedNow    = 0.12 // the same without a season
	leastExpected  = 20   // attempts of an app in a bin, for their absence to mean something
	leastOfPart    = 40   // the same of a class, or behind one gateway
	leastForBytes  = 200  // the same for the absence of bytes, which few flows carry most of
	slowBins       = 12
	slowZ          = 2.0
	slowLoss       = 0.06
	slowSurge      = 1.10
	oneSidedShare  = 0.5
	droppedShare   = 0.05
	dnsFailedShare = 0.3
)

// floors of the spreads: no traffic is steadier than this from one bin to the
// next, however lucky the past.
var floors = vector{
	logAttempts: 0.10, logPerUser: 0.08, asinCarried: 0.02, asinAnswered: 0.02,
	logBytes: 0.20, logDown: 0.20, logUp: 0.20, asinReset: 0.04,
}

// judgement is what the signals of one series say of one bin.
type judgement struct {
	ok         bool // there is a baseline
	calibrated bool

	// z of the three signals, positive for worse; 0 where nothing can be said.
	attempts, success, bytes float64
	// Effects: factor of attempts per subscriber, share of the expected
	// success that is lost, share of the bytes per flow that is missing.
	surge, loss, fall float64
	answeredLoss      float64 // of the SYN/ACKs alone
	reset             bool    // success is down by RSTs

	shrunk           bool // there is less volume, and not only less a flow
	vanishedAttempts bool
	vanishedBytes    bool
	oneSided         bool
	stale            bool // how many there should be is not known: no season, and nothing learned of late

	expectedAttempts, expectedUp, expectedDown float64
	expectedSuccess                            float64
}

// judge holds a bin, and its newer half by itself, against the baseline. whole
// says that the series is all of an app, in all of the network.
func (h *history) judge(start int64, b, half *Bin, whole bool) (j, newer judgement) {
	e, calibrated, ok := h.baseline(start, &floors)
	if !ok {
		return j, newer
	}
	doubled := half.double()
	j, newer = h.compare(&e, calibrated, b, whole), h.compare(&e, calibrated, &doubled, whole)
	j.stale = !calibrated && h.stale(start)
	return j, newer
}

func (h *history) compare(e *[features]expected, calibrated bool, b *Bin, whole bool) (j judgement) {
	v := featuresOf(b)
	j.ok, j.calibrated = true, calibrated
	j.expectedAttempts = count(e[logAttempts])
	j.expectedUp, j.expectedDown = count(e[logUp]), count(e[logDown])
	j.expectedSuccess = share(e[asinCarried])
	j.judgeAttempts(&v, e)
	j.judgeSuccess(b, &v, e)
	j.judgeBytes(b, &v, e)
	j.judgeAbsence(h, b, &v, e, whole)
	// A few flows carry most of a part's bytes; all of them together are steadier.
	j.vanishedBytes = j.vanishedBytes && whole
	j.oneSided = b.Flows >= leastFlows && float64(b.OneSided) > oneSidedShare*float64(b.Flows)
	return j
}

func count(e expected) float64 {
	if math.IsNaN(e.mid) {
		return 0
	}
	return max(0, math.Expm1(e.mid))
}

func share(e expected) float64 {
	if math.IsNaN(e.mid) {
		return 0
	}
	s := math.Sin(e.mid)
	return s * s
}

// noise is the spread with the sampling error of a count or share of n.
func noise(spread, variance float64) float64 { return math.Sqrt(spread*spread + variance) }

// poissonZ is the signed root of the deviance of k events where lambda are
// expected: close to normal down to a few events.
func poissonZ(k, lambda float64) float64 {
	if k <= lambda {
		return 0
	}
	return math.Sqrt(2 * (k*math.Log(k/lambda) - (k - lambda)))
}

func (j *judgement) judgeAttempts(v *vector, e *[features]expected) {
	d := v[logPerUser] - e[logPerUser].mid
	if math.IsNaN(d) {
		return
	}
	j.surge = math.Exp(d)
	j.attempts = d / noise(e[logPerUser].spread, 1/(j.expectedAttempts+1))
}

// judgeSuccess takes the worst of three: flows that carry, SYNs that are
// answered, flows that are not reset.
func (j *judgement) judgeSuccess(b *Bin, v *vector, e *[features]expected) {
	if b.Flows < leastFlows {
		return
	}
	down := func(f int, n uint64) (z, loss float64) {
		d := e[f].mid - v[f]
		if math.IsNaN(d) || n < leastFlows {
			return 0, 0
		}
		// The variance of the arcsine of a share of n is 1/4n.
		z = d / noise(e[f].spread, 1/(4*float64(n)))
		s := math.Sin(v[f])
		// A handful of failures is not normal on any scale: they have to be
		// too many for chance as well, from a level as bad as any usual one.
		usual := math.Sin(max(0, e[f].mid-e[f].spread))
		chance := poissonZ(float64(n)*(1-s*s), float64(n)*(1-usual*usual)+0.5)
		return min(z, chance), 1 - s*s/max(share(e[f]), 1e-9)
	}
	j.success, j.loss = down(asinCarried, b.Flows)
	z, loss := down(asinAnswered, b.SYN)
	j.answeredLoss = loss
	if z > j.success {
		j.success, j.loss = z, max(loss, j.loss)
	}
	// Resets: what is lost is the share of flows that they took.
	d := v[asinReset] - e[asinReset].mid
	if math.IsNaN(d) {
		return
	}
	s := math.Sin(v[asinReset])
	z, loss = d/noise(e[asinReset].spread, 1/(4*float64(b.Flows))), s*s-share(e[asinReset])
	// Ordinary clients reset too, and in bursts: RSTs confirm, they do not
	// convict.
	if z >= zAlarm && loss >= leastLoss && j.success >= zStay {
		j.reset = true
		j.success, j.loss = max(z, j.success), max(loss, j.loss)
	}
}

func (j *judgement) judgeBytes(b *Bin, v *vector, e *[features]expected) {
	d := e[logBytes].mid - v[logBytes]
	if math.IsNaN(d) || b.Flows < leastFlows {
		return
	}
	j.fall = 1 - math.Exp(-d)
	j.bytes = d / e[logBytes].spread
	j.shrunk = float64(b.BytesUp+b.BytesDown) <= (1-leastShrink)*(j.expectedUp+j.expectedDown)
}

// judgeAbsence looks for what is not there at all. It has to be missing both
// from what the season promises and from what was there just before: a season
// that a feast has spoiled is not believed, and neither is the fall of an
// evening.
func (j *judgement) judgeAbsence(h *history, b *Bin, v *vector, season *[features]expected, whole bool) {
	limit, least := vanishedNow, float64(leastExpected)
	if j.calibrated {
		limit = vanished
	}
	if !whole {
		least = leastOfPart
	}
	gone := func(f int, n uint64, least, sampling float64) bool {
		missing := func(e expected) bool {
			z := (e.mid - v[f]) / noise(e.spread, sampling/(count(e)+1))
			return z >= zAlarm && count(e) >= least && float64(n) <= limit*count(e)
		}
		return missing(season[f]) && missing(h.lately(f))
	}
	j.vanishedAttempts = gone(logAttempts, b.Attempts, least, 1)
	j.vanishedBytes = j.calibrated && j.expectedAttempts >= leastForBytes &&
		gone(logUp, b.BytesUp, 1, 0) && gone(logDown, b.BytesDown, 1, 0)
}

func (j *judgement) attemptsUp() bool  { return j.attempts >= zAlarm-1 && j.surge >= leastSurge }
func (j *judgement) successDown() bool { return j.success >= zAlarm && j.loss >= leastLoss }
func (j *judgement) bytesDown() bool   { return j.bytes >= zAlarm-1 && j.fall >= leastFall }

// alarm says that the bin is one of an outage.
func (j *judgement) alarm() bool {
	switch {
	case !j.ok:
		return false
	case j.vanishedAttempts || j.vanishedBytes:
		return true
	case j.successDown():
		return j.attemptsUp() || j.bytesDown() || j.loss >= greatLoss
	}
	// Success may be invisible: a mirror of one direction, or servers that fail
	// only after a few words. Then both others have to speak, and clearly; and
	// volume has to be missing, for at a feast there are many short flows too.
	return j.calibrated && j.shrunk && j.attempts >= zAlarm && j.surge >= 1.5 && j.bytes >= zAlarm && j.fall >= 0.5
}

// begins says that the bin may be the first of an outage: that something is missing
// is no alarm where it is not known how much there should be.
func (j *judgement) begins() bool {
	return j.alarm() && (j.successDown() || !j.stale)
}

// stays says that an event goes on.
func (j *judgement) stays() bool {
	return j.alarm() || j.ok && j.success >= zStay && j.loss >= leastLoss/2
}

// slow is the memory of the last bins, for failures too small for one of them.
type slow struct {
	Success  [slowBins]float64 `json:"success"`
	Loss     [slowBins]float64 `json:"loss"`
	Attempts [slowBins]float64 `json:"attempts"`
	Surge    [slowBins]float64 `json:"surge"`
	N        int               `json:"n"`
}

func (s *slow) add(j *judgement) {
	at := s.N % slowBins
	s.Success[at], s.Loss[at] = j.success, j.loss
	s.Attempts[at], s.Surge[at] = j.attempts, j.surge
	s.N++
}

// alarm says that over the last hour success was down and attempts were up, a
// little but all the time.
func (s *slow) alarm() bool {
	if s.N < slowBins {
		return false
	}
	return middle(s.Success) >= slowZ && middle(s.Loss) >= slowLoss &&
		middle(s.Attempts) >= slowZ/2 && middle(s.Surge) >= slowSurge
}

func middle(v [slowBins]float64) float64 { return median(v[:]) }

// reasons puts the signals into words.
func (j *judgement) reasons(b *Bin) (r []string) {
	if j.vanishedAttempts {
		r = append(r, fmt.Sprintf("only %d connection attempts where some %.0f were to be expected", b.Attempts, j.expectedAttempts))
	} else if j.attemptsUp() {
		r = append(r, fmt.Sprintf("%.1f times the connection attempts per active subscriber", j.surge))
	}
	if j.successDown() {
		r = append(r, fmt.Sprintf("%.0f %% of the usual success is gone", 100*min(1, j.loss)))
	}
	if j.reset {
		r = append(r, "more connections end in a reset")
	}
	if j.answeredLoss >= leastLoss && j.successDown() {
		r = append(r, fmt.Sprintf("%.0f %% of the SYNs that were answered before no longer are", 100*j.answeredLoss))
	}
	switch {
	case j.vanishedBytes:
		r = append(r, "hardly any bytes in either direction")
	case j.bytesDown():
		r = append(r, fmt.Sprintf("%.0f %% fewer bytes per flow", 100*j.fall))
	}
	return r
}
