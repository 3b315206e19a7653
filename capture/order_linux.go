package capture

import (
	"math"
	"time"
)

// head is the time of the frame that comes next in a lane, if there is one.
type head struct {
	time int64
	some bool
}

// bounds are what the present says about the order of frames.
type bounds struct {
	// certain is the time up to which all frames have come that will come: the
	// kernel keeps none back for longer than it says.
	certain int64
	// absurd is a time from which no frame is, unless it was stamped before
	// the clock was set back. It has to wait for nothing.
	absurd int64
}

// boundsOf returns the bounds for lanes that get their frames late by at most
// hold. looked is when the lanes began to be looked at: a lane that was empty then
// may have got frames since.
func boundsOf(looked time.Time, heads []head, hold time.Duration) bounds {
	if len(heads) == 1 {
		return bounds{math.MaxInt64, math.MaxInt64}
	}
	now := looked.UnixNano()
	b := bounds{math.MaxInt64, now + int64(time.Second)}
	for i := range heads {
		if !heads[i].some {
			b.certain = now - int64(hold)
		}
	}
	return b
}

// first returns the lane whose next frame is the earliest, and up to what time
// it may be read on before another one's turn comes; -1 if there is no frame.
func (b *bounds) first(heads []head) (first int, limit int64) {
	first, limit = -1, b.certain
	for i := range heads {
		h := &heads[i]
		switch {
		case !h.some:
		case h.time > b.absurd:
			return i, math.MaxInt64
		case first < 0:
			first = i
		case h.time < heads[first].time:
			limit = min(limit, heads[first].time)
			first = i
		default:
			limit = min(limit, h.time)
		}
	}
	return first, limit
}

// until is how long to wait for a frame, at a time that is not yet certain.
func until(at, limit int64) time.Duration {
	return max(time.Duration(at-limit), time.Millisecond)
}
