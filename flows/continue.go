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
// the index that Seek returned for its hash. If it reports false it has counted
// nothing: p is for Take, and the event is Known if p is, by its hash, of the flow f.
//
// It is one function with all calls at its end, so that what it knows of flow and
// packet stays in registers.
//
//go:noinline
func (t *Table) Continue(f *Hot, p *decode.Packet, dir Direction, hash uint64) (ev Event, ok bool) {
	h, other := f.halves(dir)
	if f.hash != hash {
		return 0, false
	}
	if !t.plain(f, p) || !h.plain(other, p) {
		return Known, false
	}
	if uint64(p.Time-t.second.start) >= t.second.length {
		if !t.enterSecond(p.Time) {
			return Known, false
		}
		return t.Continue(f, p, dir, hash)
	}
	f.Last = max(f.Last, p.Time)
	f.spoke = t.second.spoke
	t.hash = hash
	c := &t.cfg.Classes[f.Class%MaxClasses]
	if carried(h, other, p) {
		c.Carried++
		ev = NowCarried
	}
	c.count(p, dir)
	if h.count(p) {
		t.wrapped(f, p, dir)
	}
	other.una = p.Ack
	if p.PayloadLen == 0 {
		h.bareStamp(p)
		if other.waits() {
			t.echo(f, other, p, dir.Reverse())
		}
		return ev, true
	}
	if dir == Up {
		ev |= SubscriberPayload
	}
	if other.waits() {
		t.echo(f, other, p, dir.Reverse())
	}
	t.accept(h, p, dir, p.Seq+p.PayloadLen)
	return ev, true
}

// waits reports whether anything of the half waits for its echo.
func (h *Half) waits() bool { return h.bits&(probeArmed|halfTrain) != 0 }

// plain reports whether p, as far as its flags and its time tell, changes nothing
// in the life of the flow.
func (t *Table) plain(f *Hot, p *decode.Packet) bool {
	const flags = decode.SYN | decode.FIN | decode.RST | decode.ACK
	const life = math.MaxUint8 | flagAwaited<<8
	return p.Flags&flags == decode.ACK &&
		(uint16(f.state)|uint16(f.flags)<<8)&life == uint16(stateOpen) && // one load
		p.Time-f.Last <= t.cfg.IdleTimeout[f.Class%MaxClasses]
}

// plain reports whether p stands where its sender h stood last, and acknowledges
// what it acknowledged last or some more; that no window is closed, and that
// nothing is missing of what it acknowledges.
func (h *Half) plain(other *Half, p *decode.Packet) bool {
	if p.PayloadLen != 0 && p.Seq != h.nxt {
		return false
	}
	return h.bits&(halfSeen|halfSupposed|halfZeroWin) == halfSeen && other.bits&(halfAcked|halfZeroWin) == halfAcked &&
		p.Window != 0 && (p.Ack == other.una || p.Ack-other.una <= maxWindow && other.holes == 0)
}

// packetSecond is a second of packet time and what follows from it, so that a
// segment costs no division.
type packetSecond struct {
	start  int64  // nanoseconds
	length uint64 // nanoseconds; 0 where nothing is known
	spoke  uint32 // what clock says of it
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
	t.second = packetSecond{start: start, length: uint64(second), spoke: spoke}
	return true
}
