package flows

import (
	"math"

	"github.com/nametap/nametap/capture/decode"
)

// Nearly all segments carry an open connection on where it stood: a piece of
// data behind the last one, or an acknowledgment. Of all that Segment looks at,
// only the counts, the numbers and the round-trip times matter to those.
// Continue is the short way for them; Segment has the rules, and whatever is not
// plain is left to it.

// Continue counts p as Segment does, if it plainly carries on the flow f, which is at
// the index that Found returned for its hash. If it reports false it has counted
// nothing: p is for Take, and the event is Known if p is, by its hash, of the flow f.
//
// It is one function, and every call in it is its last act, so that what it knows of
// flow and packet stays in registers. Two kinds of segments, nearly all of a download,
// end within it: acknowledgments that answer nothing, and data with a time stamp of a
// half from which nothing else is awaited. What more the others need has functions of
// its own.
//
//go:noinline
func (t *Table) Continue(f *Hot, p *decode.Packet, dir Direction, hash uint64) (ev Event, ok bool) {
	if f.hash != hash {
		return 0, false
	}
	h, other := f.halves(dir)
	if !f.plain(p) || !h.plain(other, p) {
		return Known, false
	}
	bytes, payload := h.bytes+p.IPBytes, h.payload+p.PayloadLen
	if bytes < p.IPBytes || payload < p.PayloadLen {
		return Known, false // a sum begins anew
	}
	if uint64(p.Time-t.second.start) >= t.second.length {
		return t.continueLater(f, p, dir)
	}
	if f.Last < t.second.recent {
		return Known, false // it may have timed out
	}
	h.Packets++
	h.bytes, h.payload = bytes, payload
	f.Last = max(f.Last, p.Time)
	f.spoke = t.second.spoke
	other.una = p.Ack
	t.cfg.Classes[f.Class%MaxClasses].count(p, dir)
	if p.PayloadLen == 0 {
		h.bareStamp(p)
		switch waits := other.bits & (probeArmed | probeTS | probeSYN | halfTrain); {
		case waits&(probeArmed|halfTrain) == 0:
			return 0, true
		case waits == probeArmed|probeTS && p.HasTimestamps && !t.skipRTT && p.TSecr != other.probe:
			// No answer. What has missed its own, if this is a later one, waits no more.
			later := ^(p.TSecr - other.probe) >> 31
			other.bits &^= uint16(later) * probeArmed
			return 0, true
		}
		return t.continueEcho(f, p, dir)
	}
	const plain = halfTS | halfPayload
	if other.waits() || h.bits&(plain|halfTSBare|halfProbed) != plain || !p.HasTimestamps || p.TSval == 0 {
		return t.continueData(f, p, dir)
	}
	ev = SubscriberPayload * Event(dir&1^1)
	// This is accept and arm.
	h.nxt = p.Seq + p.PayloadLen
	now := t.second.micros + uint32(p.Time-t.second.start)/1000
	fresh := h.lastTS != p.TSval
	h.lastTS = p.TSval
	switch {
	case h.acked(h.nxt):
	case h.bits&probeArmed != 0 && int32(now-h.probeTime) <= maxRTT:
		if h.bits&probeSYN == 0 && h.Packets&1 == 0 {
			return t.continueTrain(f, dir, wait{h.nxt, now, false}, fresh, ev)
		}
	case fresh:
		h.probe, h.probeTime = p.TSval, now
		h.bits = h.bits&^probeSYN | probeArmed | probeTS
	}
	return ev, true
}

// continueTrain is the rest of Continue where a segment may follow another that waits.
//
//go:noinline
func (t *Table) continueTrain(f *Hot, dir Direction, w wait, fresh bool, ev Event) (Event, bool) {
	h := &f.Half[dir&1]
	if fresh {
		w.probe, w.stamped = h.lastTS, true
	}
	t.follow(f, h, dir, w)
	return ev, true
}

// continueEcho is the rest of Continue where a segment without data may be an answer.
//
//go:noinline
func (t *Table) continueEcho(f *Hot, p *decode.Packet, dir Direction) (Event, bool) {
	_, other := f.halves(dir)
	t.echo(f, other, p, dir.Reverse())
	return 0, true
}

// continueData is the rest of Continue where more hangs on a segment with data.
//
//go:noinline
func (t *Table) continueData(f *Hot, p *decode.Packet, dir Direction) (ev Event, ok bool) {
	h, other := f.halves(dir)
	if carried(h, other, p) {
		t.cfg.Classes[f.Class%MaxClasses].Carried++
		ev = NowCarried
	}
	h.bits |= halfPayload
	if dir == Up {
		ev |= SubscriberPayload
	}
	if other.waits() {
		t.echo(f, other, p, dir.Reverse())
	}
	t.accept(f, h, p, dir, p.Seq+p.PayloadLen)
	return ev, true
}

// continueLater is Continue in another second of packet time.
//
//go:noinline
func (t *Table) continueLater(f *Hot, p *decode.Packet, dir Direction) (Event, bool) {
	if !t.enterSecond(p.Time) {
		return Known, false
	}
	return t.Continue(f, p, dir, f.hash)
}

// waits reports whether anything of the half waits for its echo.
func (h *Half) waits() bool { return h.bits&(probeArmed|halfTrain) != 0 }

// plain reports whether p, as far as its flags tell, changes nothing in the life of
// the flow.
func (f *Hot) plain(p *decode.Packet) bool {
	const flags = decode.SYN | decode.FIN | decode.RST | decode.ACK
	const life = math.MaxUint8 | flagAwaited<<8
	return p.Flags&flags == decode.ACK &&
		(uint16(f.state)|uint16(f.flags)<<8)&life == uint16(stateOpen) // one load
}

// plain reports whether p stands where its sender h stood last, and acknowledges
// what it acknowledged last or some more; that no window is closed, and that
// nothing is missing of what it acknowledges.
func (h *Half) plain(other *Half, p *decode.Packet) bool {
	if p.Seq != h.nxt && p.PayloadLen != 0 {
		return false
	}
	if other.holes != 0 && p.Ack != other.una {
		return false
	}
	return h.bits&(halfSeen|halfSupposed|halfZeroWin) == halfSeen && other.bits&(halfAcked|halfZeroWin) == halfAcked &&
		p.Window != 0 && p.Ack-other.una <= maxWindow
}

// packetSecond is a second of packet time and what follows from it, so that a
// segment costs no division.
type packetSecond struct {
	start  int64  // nanoseconds
	length uint64 // nanoseconds; 0 where nothing is known
	spoke  uint32 // what clock says of it
	micros uint32 // its start
	// recent is since when a flow must have been heard of to be within its
	// time-out, whatever its class, in all of this second.
	recent int64 // nanoseconds
}

// enterSecond makes the second of packet the table's. It reports false for a time
// that is too far off to stand for others.
//
//go:noinline
func (t *Table) enterSecond(packet int64) bool {
	if uint64(packet) > uint64(math.MaxInt64-second) {
		return false
	}
	spoke := t.clock(packet)
	if t.wheelNow == 0 {
		return false
	}
	start := packet - packet%second
	t.second = packetSecond{
		start: start, length: uint64(second), spoke: spoke, micros: micros(start),
		recent: start + second - t.shortest(),
	}
	return true
}

// shortest returns the shortest time-out that an open flow may have.
func (t *Table) shortest() int64 {
	least := t.cfg.IdleTimeout[0]
	for _, timeout := range t.cfg.IdleTimeout {
		if timeout != 0 {
			least = min(least, timeout)
		}
	}
	return least
}

// NewTimeouts tells the table that Config.IdleTimeout holds others.
func (t *Table) NewTimeouts() { t.second.length = 0 }
