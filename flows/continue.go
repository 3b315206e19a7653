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

// Continue counts p as Segment does, if it plainly carries on the flow at index,
// which Seek returned for the hash of its key, and returns the flow. If that is nil
// it has counted nothing: p is for Segment.
func (t *Table) Continue(index uint32, p *decode.Packet, key *Key, dir Direction, hash uint64) (f *Hot, ev Event) {
	f = &t.hot[index]
	d := int(dir & 1)
	h, other := &f.Half[d], &f.Half[d^1]
	if !t.plain(f, p) || !f.Key.equal(key) || !h.plain(other, p) {
		return nil, 0
	}
	if uint64(p.Time-t.second.start) >= t.second.length && !t.enterSecond(p.Time) {
		return nil, 0
	}
	t.hash = hash
	f.Last = max(f.Last, p.Time)
	f.spoke = t.second.spoke
	if t.carried(f, p, dir) {
		ev = NowCarried
	}
	t.count(f, p, dir)

	if p.Ack != other.una {
		other.una = p.Ack
	}
	if other.bits&(probeArmed|halfTrain) != 0 {
		t.echo(f, p, dir.Reverse())
	}
	if p.PayloadLen == 0 {
		h.bareStamp(p)
		return f, ev
	}
	t.accept(f, p, dir, p.Seq+p.PayloadLen)
	if dir == Up {
		ev |= SubscriberPayload
	}
	return f, ev
}

// plain reports whether p, as far as its flags and its time tell, changes nothing
// in the life of the flow.
func (t *Table) plain(f *Hot, p *decode.Packet) bool {
	const flags = decode.SYN | decode.FIN | decode.RST | decode.ACK
	return p.Flags&flags == decode.ACK && f.state == stateOpen &&
		f.flags&(flagSYN|flagEstablished) != flagSYN &&
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
