package flows

import (
	"math"

	"github.com/nametap/nametap/capture/decode"
)

// Event tells the owner of a table what a segment brought about.
type Event uint8

// Events, as bits.
const (
	// Opened: the segment began a flow.
	Opened Event = 1 << iota
	// SubscriberPayload: the segment carries payload of the subscriber.
	SubscriberPayload
	// NowCarried: the flow has had payload in both directions from here on.
	NowCarried
	// Retransmitted, LostBefore and OutOfOrder: the segment was counted so, as in
	// Loss.
	Retransmitted
	LostBefore
	OutOfOrder
	// Known: Continue has left a segment of the flow it was given.
	Known
)

// Segment counts one TCP segment and returns the index of its flow. key must
// be the segment's as seen from the subscriber, dir its direction, and hash
// its Hasher.Packet. OnEnd may be called, for an older flow with the same key or
// for one that had to make room.
func (t *Table) Segment(p *decode.Packet, key *Key, dir Direction, hash uint64) (uint32, Event) {
	if r := t.find(key, hash); r != 0 {
		return t.take(r, p, key.Scope, dir, hash)
	}
	return t.open(p, key, dir, hash)
}

// take is Segment for a segment whose flow was r a moment ago, if not 0.
func (t *Table) take(r uint32, p *decode.Packet, scope uint32, dir Direction, hash uint64) (uint32, Event) {
	f, cold := t.Hot(r), &t.slab.cold[r]
	if f.state == stateFree || !cold.Key.names(p, scope, dir) {
		key := KeyOf(p, scope, dir)
		return t.Segment(p, &key, dir, hash)
	}
	if p.Flags&decode.SYN != 0 || p.Time-f.Last > t.timeout(f) {
		if why := t.succeeded(f, cold, p, dir); why != NotEnded {
			key := cold.Key
			t.end(r, why)
			return t.open(p, &key, dir, hash)
		}
	}
	return r, t.add(r, f, cold, p, dir)
}

// KeyOf returns the segment's flow key. No branch asks for the direction, which would
// be guessed wrong as often as not: the ends are exchanged by the bits in which they
// differ.
func KeyOf(p *decode.Packet, scope uint32, dir Direction) (k Key) {
	hi, lo, ports := exchange(p, dir)
	k.Subscriber = decode.Addr{Hi: p.Src.Hi ^ hi, Lo: p.Src.Lo ^ lo}
	k.Server = decode.Addr{Hi: p.Dst.Hi ^ hi, Lo: p.Dst.Lo ^ lo}
	k.Scope, k.SubscriberPort, k.ServerPort = scope, p.SrcPort^ports, p.DstPort^ports
	return k
}

// names reports whether k is the segment's KeyOf.
func (k *Key) names(p *decode.Packet, scope uint32, dir Direction) bool {
	hi, lo, ports := exchange(p, dir)
	return k.Subscriber.Hi^p.Src.Hi^hi|k.Subscriber.Lo^p.Src.Lo^lo|k.Server.Hi^p.Dst.Hi^hi|k.Server.Lo^p.Dst.Lo^lo|
		uint64(k.SubscriberPort^p.SrcPort^ports|k.ServerPort^p.DstPort^ports)|uint64(k.Scope^scope) == 0
}

// exchange returns in which bits the ends of a segment of direction Down differ, and
// none of direction Up.
func exchange(p *decode.Packet, dir Direction) (hi, lo uint64, ports uint16) {
	down := -uint64(dir & 1)
	return (p.Src.Hi ^ p.Dst.Hi) & down, (p.Src.Lo ^ p.Dst.Lo) & down, (p.SrcPort ^ p.DstPort) & uint16(down)
}

// open begins a flow with the segment p.
func (t *Table) open(p *decode.Packet, key *Key, dir Direction, hash uint64) (uint32, Event) {
	r := t.insert(key, hash)
	f, cold := t.Hot(r), &t.slab.cold[r]
	f.spoke = t.spoken(p.Time)
	cold.Start, f.Last = p.Time, p.Time
	if p.Flags&decode.SYN != 0 {
		f.state = stateHalfOpen
		t.push(&t.halfOpen, r)
	} else {
		f.state = stateOpen
		t.schedule(r, f)
	}
	return r, Opened | t.add(r, f, cold, p, dir)
}

// add counts a segment of the flow.
func (t *Table) add(r uint32, f *Hot, cold *Cold, p *decode.Packet, dir Direction) (ev Event) {
	t.loss = 0
	h, other := f.halves(dir)
	c := &t.cfg.Classes[f.Class%MaxClasses]
	if p.PayloadLen != 0 {
		if carried(h, other, p) {
			c.Carried++
			ev = NowCarried
		}
		if dir == Up {
			ev |= SubscriberPayload
		}
	}
	c.count(p, dir)
	if h.count(p) {
		t.wrapped(f, p, dir)
	}
	f.Last = max(f.Last, p.Time)
	f.spoke = t.spoken(p.Time)
	t.live(r, f, cold, h, other, c, p, dir)
	t.sequence(f, cold, h, other, p, dir)
	return ev | t.loss
}

// live follows the connection through its life, of which the segment's flags tell.
func (t *Table) live(r uint32, f *Hot, cold *Cold, h, other *Half, c *Counters, p *decode.Packet, dir Direction) {
	const rare = decode.SYN | decode.FIN | decode.RST
	if p.Flags&rare != 0 {
		c.countFlags(cold, p)
	}
	switch {
	case p.Flags&decode.RST != 0:
	case p.Flags&decode.SYN != 0:
		f.synchronize(cold, h, p, dir)
	case p.Flags&decode.ACK != 0 && f.flags&flagAwaited != 0 && dir == f.initiator():
		f.flags &^= flagAwaited
		c.Established++
	}
	switch {
	case f.state == stateClosed:
		t.renew(&t.closed, r) // a late segment: wait on from here
	case p.Flags&decode.RST != 0:
		t.close(r, f, cold, EndRST)
	case p.Flags&decode.FIN != 0 && h.finish(other):
		t.close(r, f, cold, EndFIN)
	case f.state != stateHalfOpen:
	case p.Flags&decode.SYN != 0:
		t.renew(&t.halfOpen, r)
	default:
		t.enter(r, f, stateOpen)
	}
}

// finish notes the FIN of the half, and reports whether it is the second.
func (h *Half) finish(other *Half) bool {
	h.bits |= halfFIN
	return other.bits&halfFIN != 0
}

// mirrorSkew is how far mirrored directions may be out of step: the time that
// naming, too, waits for the other one.
const mirrorSkew = second

// lateSYNWindow is how many bytes of a stream may have passed, or have been
// acknowledged, before its SYN shows up late: an initial window (RFC 6928),
// with room. A new connection's initial sequence number (RFC 6528) falls there
// once in 65,536 times.
const lateSYNWindow = 64 << 10

// succeeded reports whether p belongs to a new connection on f's 5-tuple, and
// if so, why f ends.
func (t *Table) succeeded(f *Hot, cold *Cold, p *decode.Packet, dir Direction) EndReason {
	if p.Time-f.Last > t.timeout(f) {
		return EndIdle
	}
	if p.Flags&(decode.SYN|decode.RST) != decode.SYN {
		return NotEnded
	}
	same := f.sameSYN(cold, p, dir)
	if p.Flags&decode.ACK != 0 {
		same = f.sameSYNACK(cold, p, dir)
	}
	if same {
		return NotEnded
	}
	return EndReused
}

// sameSYN reports whether the SYN is the connection's own: it has its initial
// sequence number, or stands right before what has been seen of its stream.
func (f *Hot) sameSYN(cold *Cold, p *decode.Packet, dir Direction) bool {
	h := &f.Half[dir]
	switch {
	case h.bits&halfISS != 0:
		return cold.iss[dir] == p.Seq
	case h.bits&halfSeen != 0:
		return p.Time-cold.Start <= mirrorSkew && h.nxt-p.Seq-1 <= lateSYNWindow
	case h.bits&halfAcked != 0:
		return h.una-p.Seq-1 <= lateSYNWindow
	}
	return f.state != stateClosed
}

// sameSYNACK reports whether the SYN/ACK is the connection's own. Beside a SYN
// it proves nothing while the connection lives: servers answer one SYN with
// several sequence numbers (RFC 4987 section 3.6), and old answers come late.
func (f *Hot) sameSYNACK(cold *Cold, p *decode.Packet, dir Direction) bool {
	h, other := &f.Half[dir], &f.Half[dir.Reverse()]
	switch {
	case other.bits&halfISS != 0:
		return f.state != stateClosed || p.Ack-cold.iss[dir.Reverse()]-1 <= lateSYNWindow
	case h.bits&halfISS != 0 && cold.iss[dir] != p.Seq:
		return f.state == stateHalfOpen && other.bits&halfAcked != 0 && other.una == p.Ack
	}
	return f.sameSYN(cold, p, dir)
}

// carried reports whether p, of h, is the segment with which the flow has had payload
// in both directions. It is asked before p is counted.
func carried(h, other *Half, p *decode.Packet) bool {
	return p.PayloadLen != 0 && h.bits&halfPayload == 0 && other.bits&halfPayload != 0
}

// count adds the segment to its direction of the flow. It reports whether one of the
// sums has begun anew.
func (h *Half) count(p *decode.Packet) (wrapped bool) {
	h.Packets++
	h.bytes += p.IPBytes
	h.payload += p.PayloadLen
	if p.PayloadLen != 0 {
		h.bits |= halfPayload
	}
	return h.bytes < p.IPBytes || h.payload < p.PayloadLen
}

// wrapped counts that the sums of a direction have begun anew with p.
//
//go:noinline
func (t *Table) wrapped(f *Hot, p *decode.Packet, dir Direction) {
	h, c := &f.Half[dir&1], t.coldOf(f)
	if w := &c.bytesWraps[dir&1]; h.bytes < p.IPBytes && *w < math.MaxUint16 {
		*w++
	}
	if w := &c.payloadWraps[dir&1]; h.payload < p.PayloadLen && *w < math.MaxUint16 {
		*w++
	}
}

// recordOf returns the index of the flow. It looks for it once more: who has no use
// for it mostly, does not keep it in a register.
func (t *Table) recordOf(f *Hot) uint32 {
	tag := uint32(f.hash >> 32)
	for at := tag & t.mask; ; at = (at + 1) & t.mask {
		if word := t.index[at]; uint32(word>>32) == tag && &t.slab.hot[uint32(word)] == f {
			return uint32(word)
		}
	}
}

// coldOf returns what openings, closings and records need of the flow.
func (t *Table) coldOf(f *Hot) *Cold { return &t.slab.cold[t.recordOf(f)] }

// lostOf returns what the flow lost, to be added to.
func (t *Table) lostOf(f *Hot) *Lost {
	f.flags |= flagLost
	return &t.slab.lost[t.recordOf(f)]
}

// count adds the segment to the flow's class.
func (c *Counters) count(p *decode.Packet, dir Direction) {
	bytes, payload := uint64(p.IPBytes), uint64(p.PayloadLen)
	d := uint(dir) & 1
	c.Packets[d]++
	c.Bytes[d] += bytes
	c.Payload[d] += payload
}

// countFlags adds the segment's flags to the flow and to its class.
func (c *Counters) countFlags(f *Cold, p *decode.Packet) {
	switch p.Flags & (decode.SYN | decode.ACK) {
	case decode.SYN | decode.ACK:
		f.SYNACKs++
		c.SYNACK++
	case decode.SYN:
		f.SYNs++
		c.SYN++
	}
	if p.Flags&decode.FIN != 0 {
		f.FINs++
		c.FIN++
	}
	if p.Flags&decode.RST != 0 {
		f.RSTs++
		c.RST++
	}
}

// initiator returns the direction of the SYN.
func (f *Hot) initiator() Direction {
	if f.flags&flagInitiatorDown != 0 {
		return Down
	}
	return Up
}

// synchronize notes a SYN.
func (f *Hot) synchronize(cold *Cold, h *Half, p *decode.Packet, dir Direction) {
	ack := p.Flags&decode.ACK != 0
	switch {
	case h.bits&halfISS == 0:
		cold.iss[dir] = p.Seq
		h.bits |= halfISS
	case !ack || h.bits&halfSYNACK != 0:
		h.bits |= halfSYNTwice
	}
	if ack {
		h.bits |= halfSYNACK
		return
	}
	if dir == Up && cold.OS == OSUnknown {
		cold.OS = FingerprintSYN(p)
	}
	if f.flags&(flagSYN|flagSettled) != 0 {
		return // settled as a flow met in mid-stream, it stays one: counters never go down
	}
	f.flags |= flagSYN | flagAwaited
	if dir == Down {
		f.flags |= flagInitiatorDown
	}
}

func (t *Table) close(r uint32, f *Hot, cold *Cold, why EndReason) {
	cold.Reason = why
	t.enter(r, f, stateClosed)
	t.countClose(Flow{Hot: f, Cold: cold})
}

// Settle decides the flow's class: everything that was held is credited to it.
// A flow is settled once, at the latest within OnEnd, or its counts stay in
// class 0; a second call changes nothing.
func (t *Table) Settle(r uint32, class uint8) {
	f := t.Flow(r)
	if f.flags&flagSettled != 0 {
		return
	}
	held, c := &t.cfg.Classes[0], &t.cfg.Classes[class]
	for d := range f.Half {
		h := &f.Half[d]
		move(&held.Bytes[d], &c.Bytes[d], f.Bytes(Direction(d)))
		move(&held.Packets[d], &c.Packets[d], uint64(h.Packets))
		move(&held.Payload[d], &c.Payload[d], f.Payload(Direction(d)))
		move(&held.Unseen[d], &c.Unseen[d], uint64(f.Unseen[d]))
		if f.flags&flagLost != 0 {
			loss := &f.Loss[d]
			move(&held.Retransmitted[d], &c.Retransmitted[d], uint64(loss.Retransmitted))
			move(&held.LostBefore[d], &c.LostBefore[d], uint64(loss.LostBefore))
			move(&held.OutOfOrder[d], &c.OutOfOrder[d], uint64(loss.OutOfOrder))
		}
		if h.RTTCount > 0 {
			// What came before the name is nearly always the handshake's one
			// sample; of several the mean stands for each.
			c.RTT[d].Observe(f.RTTMean(Direction(d))*1e-6, uint64(h.RTTCount))
		}
	}
	move(&held.SYN, &c.SYN, uint64(f.SYNs))
	move(&held.SYNACK, &c.SYNACK, uint64(f.SYNACKs))
	if f.FINs|f.RSTs != 0 {
		move(&held.FIN, &c.FIN, uint64(f.FINs))
		move(&held.RST, &c.RST, uint64(f.RSTs))
	}
	f.Class = class
	f.flags |= flagSettled
	c.Opened++
	c.Active++
	if f.flags&flagSYN != 0 {
		c.Attempts++
	} else {
		c.Midstream++
	}
	if f.Established() {
		held.Established--
		c.Established++
	}
	if f.OneSided() {
		c.OneSided++
	}
	if f.Carried() {
		held.Carried--
		c.Carried++
	}
	if f.state == stateClosed {
		t.countClose(f)
	}
	t.reschedule(r, f.Hot)
}

func move(from, to *uint64, n uint64) {
	*from -= n
	*to += n
}

func (f *Hot) oneWay() bool { return f.Half[Up].Packets == 0 || f.Half[Down].Packets == 0 }

// OneSided reports whether the connection went on after its SYN with nothing seen
// of the other end.
func (f *Hot) OneSided() bool { return f.Established() && f.oneWay() }

// Carried reports whether the flow has had payload in both directions.
func (f *Hot) Carried() bool { return f.Half[Up].bits&f.Half[Down].bits&halfPayload != 0 }

// transfer reports whether the flow is a transfer whose duration was seen from
// its beginning to its end.
func (t *Table) transfer(f Flow) bool {
	return t.cfg.Transfers != nil && t.cfg.Transfers[f.Class] && f.flags&flagSYN != 0 && f.Carried() &&
		f.Reason != EndEvicted && f.Reason != EndShutdown
}

// countClose counts the end of a settled flow, once.
func (t *Table) countClose(f Flow) {
	if f.flags&flagCountedClose != 0 || f.flags&flagSettled == 0 {
		return
	}
	f.flags |= flagCountedClose
	c := &t.cfg.Classes[f.Class]
	c.Closed[f.Reason]++
	c.Active--
	if f.oneWay() {
		c.OneWay++
	}
	if t.transfer(f) {
		c.Experience[RatingOf(f.Last-f.Start)]++
	}
	duration := float64(f.Last-f.Start) * 1e-9
	c.Duration.Observe(duration, 1)
	for d := range f.Half {
		bytes := float64(f.Bytes(Direction(d)))
		c.Size[d].Observe(bytes, 1)
		if bytes > ThroughputFloor && duration > 0 {
			c.Throughput[d].Observe(bytes/duration, 1)
		}
	}
}
