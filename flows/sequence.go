package flows

import (
	"math"

	"github.com/nametap/nametap/capture/decode"
)

// A tap sees a direction's segments in the order in which they pass. What lies
// beyond nxt is new; a gap before it is a hole; what lies before nxt either
// fills a hole or repeats what has passed already.

// maxHoles bounds the holes followed in one direction of a connection.
const maxHoles = 8

type hole struct {
	start, end uint32 // sequence numbers [start, end)
	opened     int64  // packet time
}

type holeList struct {
	hole [maxHoles]hole
	n    uint32
	next uint16 // free list
}

// reorderingWindow is how late a segment may fill its hole and still count as
// out of order where the round-trip time is not known: reordering happens
// within a network's queues, retransmission takes a round trip at least.
const reorderingWindow = 20_000_000

// maxWindow is the largest window there is (RFC 7323 section 2.3). What lies
// further off belongs to no hole and repeats nothing: more was missed than can
// be told, or the segment is a stray.
const maxWindow = 1 << 30

// sequence follows the segment's sequence and acknowledgment numbers, takes
// round-trip samples and tells repeats from reordering. All comparisons of
// sequence numbers are modulo 2^32 (RFC 9293 section 3.4).
func (t *Table) sequence(f *Hot, cold *Cold, h, other *Half, p *decode.Packet, dir Direction) {
	if p.Flags&decode.SYN != 0 && (h.bits&halfISS == 0 || p.Seq != cold.iss[dir]) {
		return // a SYN/ACK to another SYN of the same 5-tuple
	}
	if p.Flags&decode.ACK != 0 {
		t.acknowledge(f, other, p, dir.Reverse())
	}
	if p.Flags&decode.RST != 0 {
		return
	}
	h.bits &^= halfZeroWin
	if p.Window == 0 {
		h.bits |= halfZeroWin
	}
	if length := p.PayloadLen + uint32(p.Flags&decode.SYN>>1) + uint32(p.Flags&decode.FIN); length != 0 {
		t.advance(f, cold, h, other, p, dir, length)
		return
	}
	h.bareStamp(p)
	if h.bits&(halfSeen|halfSupposed) != halfSeen {
		// Met in mid-stream, a segment that takes no sequence space tells about where
		// the stream is: a keep-alive stands one before.
		h.bits |= halfSeen | halfSupposed
		h.nxt, cold.iss[dir] = p.Seq, p.Seq-1
	}
}

// advance places the bytes of the segment, whose length is not 0.
func (t *Table) advance(f *Hot, cold *Cold, h, other *Half, p *decode.Packet, dir Direction, length uint32) {
	end := p.Seq + length
	if h.bits&(halfSeen|halfSupposed) != halfSeen {
		cold.begin(h, p, dir, end)
		return
	}
	ahead := int32(p.Seq - h.nxt)
	switch {
	case ahead < -maxWindow || ahead > maxWindow:
		t.dropHoles(h)
		h.bits &^= probeArmed | halfTrain | halfAcked
	case ahead < 0:
		t.behind(f, cold, h, other, p, dir, end)
		return
	case ahead > 0:
		f.flags |= flagHoles
		t.openHole(h, h.nxt, p.Seq, p.Time)
	case length == 1 && p.PayloadLen == 1 && other.bits&halfZeroWin != 0:
		// A zero-window probe with a byte that will come again (RFC 9293
		// section 3.8.6.1), and whose answer waits for the reader.
		h.nxt = end
		h.bits |= halfProbed
		h.bareStamp(p)
		return
	}
	t.accept(f, h, p, dir, end)
}

// accept takes in a segment beyond nxt, which ends before sequence number end.
func (t *Table) accept(f *Hot, h *Half, p *decode.Packet, dir Direction, end uint32) {
	h.nxt = end
	h.bits &^= halfProbed
	if w, follows := h.arm(p, end); follows {
		t.follow(f, h, dir, w)
	}
}

// begin places the first segment of a direction that takes sequence space.
func (c *Cold) begin(h *Half, p *decode.Packet, dir Direction, end uint32) {
	if h.bits&halfISS == 0 {
		c.iss[dir] = p.Seq - 1
	}
	h.nxt = end
	h.bits = h.bits&^halfSupposed | halfSeen
	h.arm(p, end)
}

// behind judges a segment that starts before nxt.
func (t *Table) behind(f *Hot, cold *Cold, h, other *Half, p *decode.Packet, dir Direction, end uint32) {
	if p.Flags&decode.SYN != 0 && h.bits&halfSYNTwice == 0 {
		// A late SYN, whose stream was met in the middle, or the SYN/ACK
		// after the SYN of a simultaneous open (RFC 9293 section 3.5).
		return
	}
	if h.probes(other, p) {
		h.bareStamp(p)
		return
	}
	if h.bits&halfProbed != 0 && p.Seq == h.nxt-1 && !h.acked(h.nxt) {
		// The window opened, and the byte that had probed it comes again.
		h.bits &^= halfProbed
		h.nxt = end
		h.arm(p, end)
		return
	}
	opened, filled := t.fillHole(h, p.Seq, end, p.Time)
	if !filled && h.bits&halfISS == 0 && int32(end-cold.iss[dir]-1) <= 0 {
		// Before the first byte seen of a flow met in mid-stream.
		opened, filled = cold.Start, p.Time-cold.Start < f.reordering()
	}
	loss := &t.lostOf(f).Loss[dir]
	switch {
	case filled && p.Time-opened < f.reordering():
		t.loss |= OutOfOrder
		loss.OutOfOrder++
		t.cfg.Classes[f.Class].OutOfOrder[dir]++
	case filled:
		t.loss |= LostBefore
		loss.LostBefore++
		t.cfg.Classes[f.Class].LostBefore[dir]++
		fallthrough
	default:
		t.loss |= Retransmitted
		loss.Retransmitted++
		t.cfg.Classes[f.Class].Retransmitted[dir]++
		h.resent(p, end)
	}
	if int32(end-h.nxt) > 0 {
		h.nxt = end
	}
}

// probes reports whether the segment is a keep-alive (RFC 9293 section 3.8.4:
// one byte or none, right before nxt, acknowledged already) or a zero-window
// probe sent again (section 3.8.6.1). Neither is a loss. reader is the half of
// whoever p is sent to.
func (h *Half) probes(reader *Half, p *decode.Packet) bool {
	if p.PayloadLen != 1 || p.Flags&(decode.SYN|decode.FIN) != 0 || p.Seq != h.nxt-1 {
		return false
	}
	return reader.bits&halfZeroWin != 0 || h.bits&halfAcked == 0 || h.acked(h.nxt)
}

// reordering returns how late a hole may be filled to count as reordering: three
// quarters of the connection's round-trip time, because a retransmission takes
// the whole of it.
func (f *Hot) reordering() int64 {
	up, down := &f.Half[Up], &f.Half[Down]
	if up.RTTCount == 0 || down.RTTCount == 0 {
		return reorderingWindow
	}
	return int64(up.RTTMin+down.RTTMin) * 750
}

// openHole remembers that [start, end) has not passed the tap.
func (t *Table) openHole(h *Half, start, end uint32, now int64) {
	if h.holes == 0 {
		h.holes = t.takeHoles()
		if h.holes == 0 {
			t.HolesDropped++
			return
		}
	}
	l := &t.holes[h.holes]
	l.forget(h.nxt, now)
	if l.n == maxHoles {
		copy(l.hole[:], l.hole[1:])
		l.n--
		t.HolesDropped++
	}
	l.hole[l.n] = hole{start, end, now}
	l.n++
}

// holeAge is how long a hole is worth remembering: the longest pause between
// two retransmissions (RFC 6298 section 2.5 allows 60 s and more), twice.
const holeAge = 120 * second

// forget drops the oldest holes while they are out of reach: no acknowledgment
// closes them where only one direction is seen, and after 2^32 bytes they would
// stand for bytes that are yet to come.
func (l *holeList) forget(nxt uint32, now int64) {
	n := uint32(0)
	for n < l.n && (now-l.hole[n].opened > holeAge || nxt-l.hole[n].start > maxWindow) {
		n++
	}
	copy(l.hole[:], l.hole[n:l.n])
	l.n -= n
}

// fillHole takes [start, end) out of the holes and tells when the first of
// them had opened. filled is false if none of these bytes was missing.
func (t *Table) fillHole(h *Half, start, end uint32, now int64) (opened int64, filled bool) {
	if h.holes == 0 {
		return 0, false
	}
	l := &t.holes[h.holes]
	l.forget(h.nxt, now)
	for i := uint32(0); i < l.n; {
		g := &l.hole[i]
		if int32(end-g.start) <= 0 || int32(g.end-start) <= 0 {
			i++
			continue
		}
		if !filled {
			opened, filled = g.opened, true
		}
		before, after := int32(start-g.start) > 0, int32(g.end-end) > 0
		switch {
		case before && after: // a hole split in two
			rest := hole{end, g.end, g.opened}
			g.end = start
			if l.n < maxHoles {
				copy(l.hole[i+2:l.n+1], l.hole[i+1:l.n])
				l.hole[i+1] = rest
				l.n++
			} else {
				t.HolesDropped++
			}
			i += 2
		case before:
			g.end = start
			i++
		case after:
			g.start = end
			i++
		default:
			copy(l.hole[i:], l.hole[i+1:l.n])
			l.n--
		}
	}
	if l.n == 0 {
		t.dropHoles(h)
	}
	return opened, filled
}

// acknowledgedHoles takes away the holes that the other end says it has: the
// capture lost these bytes, not the network.
func (t *Table) acknowledgedHoles(f *Hot, h *Half, dir Direction) {
	unseen := &t.coldOf(f).Unseen[dir]
	l := &t.holes[h.holes]
	for i := uint32(0); i < l.n; {
		g := &l.hole[i]
		if int32(h.una-g.end) < 0 {
			i++
			continue
		}
		lost := min(g.end-g.start, math.MaxUint32-*unseen)
		*unseen += lost
		t.cfg.Classes[f.Class].Unseen[dir] += uint64(lost)
		copy(l.hole[i:], l.hole[i+1:l.n])
		l.n--
	}
	if l.n == 0 {
		t.dropHoles(h)
	}
}

func (t *Table) takeHoles() uint16 {
	if i := t.freeHoles; i != 0 {
		t.freeHoles = t.holes[i].next
		return i
	}
	if int(t.usedHoles) == len(t.holes) {
		return 0
	}
	t.usedHoles++
	return t.usedHoles - 1
}

func (t *Table) dropHoles(h *Half) {
	if h.holes == 0 {
		return
	}
	t.holes[h.holes].n = 0
	t.holes[h.holes].next = t.freeHoles
	t.freeHoles = h.holes
	h.holes = 0
}
