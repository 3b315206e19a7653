package flows

import (
	"math"

	"github.com/nametap/nametap/capture/decode"
)

// Round-trip times. A segment passes the tap, and so does what answers it; the
// time between is the round trip of the path beyond the tap. Where both ends
// use time stamps, the first sight of a TSval is matched with the first equal
// TSecr (RFC 7323 section 3); elsewhere a segment's last byte with the first
// acknowledgment of it, never over a range that was sent twice (Karn, RFC 6298
// section 3). One segment a direction waits in the flow itself, at 20 bytes a
// direction; of those that follow it on their way, some wait in a train: the
// first of a flight says little of the queue that the last one stands in.

// maxRTT is the age, in microseconds, at which an echo no longer says anything
// about the path.
const maxRTT = 10_000_000

// micros is packet time in the unit of probeTime.
func micros(ns int64) uint32 { return uint32(ns / 1000) }

// waiting reports whether a probe waits and is young enough to.
func (h *Half) waiting(p *decode.Packet) bool {
	return h.bits&probeArmed != 0 && int32(micros(p.Time)-h.probeTime) <= maxRTT
}

// arm lets the segment, which ends before sequence number end, wait for its
// echo. Where another one waits already it returns how this one would be known:
// it may follow in a train. Only segments that take sequence space come here: a
// pure acknowledgment has no answer to wait for.
func (h *Half) arm(p *decode.Packet, end uint32) (w wait, follows bool) {
	set, known := uint16(probeArmed), false
	probe := end
	if p.Flags&decode.SYN != 0 {
		set |= probeSYN
		probe = p.Seq + 1 // data in it (RFC 7413) may be refused
	}
	if p.HasTimestamps {
		switch h.stamp(p) {
		case stampFresh:
			set |= probeTS
			probe = p.TSval
		case stampKnown:
			known = true // of the flight that shares it, the number tells
		}
	}
	if h.acked(end) {
		return w, false
	}
	now := micros(p.Time)
	if h.waiting(p) {
		// One packet in two: delayed acknowledgments answer no more of them.
		return wait{probe, now, set&probeTS != 0}, h.bits&probeSYN == 0 && h.Packets&1 == 0
	}
	if !known {
		h.probe, h.probeTime = probe, now
		h.bits = h.bits&^(probeTS|probeSYN) | set
	}
	return w, false
}

// acked reports whether the other end has acknowledged everything before end.
// What is acknowledged when it passes met its answer already: directions that
// are mirrored on different ports swap places.
func (h *Half) acked(end uint32) bool {
	return h.bits&halfAcked != 0 && int32(h.una-end) >= 0
}

type stamp uint8

const (
	stampFresh stamp = iota // first sight of this TSval
	stampBare               // only a segment without data has carried it
	stampKnown              // seen before, or 0, which some write for none
)

// stamp tells what the TSval of a segment with data is worth, and notes it. An
// echo of a TSval that a pure acknowledgment carried first may be the answer to
// something else; the segment after it must be known by its sequence number.
func (h *Half) stamp(p *decode.Packet) stamp {
	fresh := h.bits&halfTS == 0 || h.lastTS != p.TSval
	bare := h.bits&halfTSBare != 0
	h.lastTS = p.TSval
	h.bits = h.bits&^halfTSBare | halfTS
	switch {
	case p.TSval == 0:
		return stampKnown
	case fresh:
		return stampFresh
	case bare:
		return stampBare
	}
	return stampKnown
}

// bareStamp notes the TSval of a segment without data of its own.
func (h *Half) bareStamp(p *decode.Packet) {
	if p.HasTimestamps && h.newer(p) {
		h.lastTS = p.TSval
		h.bits |= halfTS | halfTSBare
	}
}

func (h *Half) newer(p *decode.Packet) bool {
	return h.bits&halfTS == 0 || int32(p.TSval-h.lastTS) > 0
}

// resent is told of every segment that was sent again. A sequence number after
// it that waits is spoilt, and so is a time stamp that did not
// move in between: which of the two will be answered? So is the whole train. A
// new time stamp is a first sight like any other, and of a repeated SYN a better
// one than that of its forerunner, which is probably lost.
func (h *Half) resent(p *decode.Packet, end uint32) {
	h.bits &^= halfTrain
	if h.bits&probeArmed != 0 {
		spoilt := int32(p.Seq-h.probe) < 0
		if h.bits&probeTS != 0 {
			spoilt = p.HasTimestamps && p.TSval == h.probe
		}
		if spoilt {
			h.bits &^= probeArmed
		}
	}
	if !p.HasTimestamps || !h.newer(p) {
		return
	}
	if p.Flags&decode.SYN != 0 {
		h.bits &^= probeArmed
	}
	h.arm(p, end)
}

// acknowledge handles what the segment says of the bytes of the other direction, dir,
// whose half is h. One answer gives one sample, of the last segment that it answers:
// with delayed acknowledgments (RFC 5681 section 4.2) those before that have only
// waited for it.
func (t *Table) acknowledge(f *Hot, h *Half, p *decode.Packet, dir Direction) {
	ahead := int32(p.Ack - h.una)
	switch {
	case h.bits&halfAcked == 0, ahead > 0 && ahead <= maxWindow && p.Flags&decode.RST == 0:
		h.una = p.Ack
		h.bits |= halfAcked
		if h.holes != 0 {
			t.acknowledgedHoles(f, h, dir)
		}
	case ahead < -maxWindow || ahead > maxWindow:
		// From beyond any window (RFC 7323 section 2.3) it belongs to nothing that
		// is known here: it starts una anew.
		h.una = p.Ack
	}
	if h.waits() && p.Flags&decode.RST == 0 { // which comes when its sender likes, or from a middlebox
		t.echo(f, h, p, dir)
	}
}

// echo takes samples of what waits in direction dir, that of h, if p is the answer to it.
func (t *Table) echo(f *Hot, h *Half, p *decode.Packet, dir Direction) {
	if t.skipRTT {
		h.bits &^= probeArmed | halfTrain
		return
	}
	sampled := h.bits&halfTrain != 0 && t.arrive(f, h, p, dir)
	if h.bits&probeArmed == 0 {
		return
	}
	if h.bits&(probeSYN|halfSYNACK) == probeSYN && p.Flags&decode.SYN == 0 {
		h.bits &^= probeArmed // the SYN/ACK was not seen, or before the SYN
		return
	}
	answered, missed := t.echoed(f, h, p, dir)
	switch {
	case missed, answered && sampled:
		h.bits &^= probeArmed
	case answered:
		t.sample(f, h, p, dir)
	}
}

// SkipRTT turns the sampling of round-trip times off or on again. What waits for
// its echo is given up when that passes, and no sample is ever taken of a segment
// whose echo may have passed unseen.
func (t *Table) SkipRTT(skip bool) { t.skipRTT = skip }

// giveUpProbes gives up what a flow that has long been silent waits for. It is asked
// for whenever the flow's slot of the wheel is turned: less than a turn apart, and
// so, where the time-out allows for such a silence at all, always before 71 minutes
// have passed, when the time of the probe would seem to be a moment ago. To ask that
// of each segment would cost them all.
func (t *Table) giveUpProbes(f *Hot) {
	if t.timeout(f) > wheelSlots*second && t.wheelNow*second-f.Last > maxRTT*1000 {
		f.Half[Up].bits &^= probeArmed | halfTrain
		f.Half[Down].bits &^= probeArmed | halfTrain
	}
}

// echoed reports whether p is the answer to the waiting probe, or whether that
// one was missed.
func (t *Table) echoed(f *Hot, h *Half, p *decode.Packet, dir Direction) (answered, missed bool) {
	switch {
	case h.bits&probeTS == 0:
		return int32(p.Ack-h.probe) >= 0, false
	case p.HasTimestamps:
		return p.TSecr == h.probe, int32(p.TSecr-h.probe) > 0
	}
	// A SYN with time stamps whose answer has none (the other end does not use
	// them): the acknowledgment number has to do.
	return h.bits&(probeSYN|halfSYNTwice) == probeSYN && p.Ack == t.coldOf(f).iss[dir]+1, false
}

// sample takes the time from the waiting segment to its echo p.
func (t *Table) sample(f *Hot, h *Half, p *decode.Packet, side Direction) {
	syn := h.bits&probeSYN != 0
	h.bits &^= probeArmed
	us := micros(p.Time) - h.probeTime
	t.observe(f, h, us, side)
	if syn && us <= maxRTT {
		if c := t.coldOf(f); c.Handshake[side] == 0 {
			c.Handshake[side] = us + 1
		}
	}
}

// rttWrapped counts that the sum of a direction has begun anew.
//
//go:noinline
func (t *Table) rttWrapped(f *Hot, side Direction) {
	if w := &t.coldOf(f).rttWraps[side]; *w < math.MaxUint8 {
		*w++
	}
}

// observe counts a round-trip time in microseconds.
func (t *Table) observe(f *Hot, h *Half, us uint32, side Direction) {
	if us > maxRTT { // too old, or back in time
		return
	}
	if h.RTTCount == 0 || us < h.RTTMin {
		h.RTTMin = us
	}
	h.RTTCount++
	if h.RTTSum += us; h.RTTSum < us {
		t.rttWrapped(f, side)
	}
	if f.flags&flagSettled != 0 {
		t.cfg.Classes[f.Class].RTT[side].Observe(float64(us)*1e-6, 1)
	}
}
