package flows

import "github.com/nametap/nametap/capture/decode"

// Nearly all connections begin and end alike: SYN, SYN/ACK and the initiator's
// acknowledgment, then a FIN of each end and an acknowledgment of the last. As Continue
// is for what lies between, there is a short way for each of these; Segment has the
// rules, and whatever is not plain is left to it. A flow is known by its hash here, and by numbers that another connection
// would hardly meet: the segment stands where its sender stood last, or acknowledges
// just what the other end has sent.

// Take is Segment for a segment that Continue has left. r is the index of its flow
// if that was Known, so that it need not be looked for, else 0.
func (t *Table) Take(r uint32, p *decode.Packet, scope uint32, dir Direction, hash uint64) (uint32, Event) {
	f := t.Hot(r)
	if p.PayloadLen == 0 && (r == 0 || f.hash == hash) {
		taken := false
		switch p.Flags & (decode.SYN | decode.FIN | decode.RST | decode.ACK) {
		case decode.SYN:
			if r == 0 {
				return t.connect(p, scope, dir, hash)
			}
		case decode.SYN | decode.ACK:
			taken = t.accepted(r, f, p, dir)
		case decode.ACK:
			taken = t.established(r, f, p, dir) || t.late(r, f, p, dir)
		case decode.FIN | decode.ACK:
			taken = t.finished(r, f, p, dir)
		}
		if taken {
			return r, 0
		}
	}
	return t.take(r, p, scope, dir, hash)
}

// connect begins a flow with its SYN, unless it has begun.
func (t *Table) connect(p *decode.Packet, scope uint32, dir Direction, hash uint64) (uint32, Event) {
	key := KeyOf(p, scope, dir)
	if r := t.find(&key, hash); r != 0 {
		return t.take(r, p, scope, dir, hash)
	}
	r := t.insert(&key, hash)
	f, cold := t.Hot(r), &t.slab.cold[r]
	f.state = stateHalfOpen
	t.push(&t.halfOpen, r)
	cold.Start, f.Last = p.Time, p.Time
	h, _ := f.halves(dir)
	t.count(f, h, p, dir).SYN++
	cold.SYNs = 1
	f.flags = flagSYN | flagAwaited
	if dir == Up {
		cold.OS = FingerprintSYN(p)
	} else {
		f.flags |= flagInitiatorDown
	}
	cold.synchronize(h, p, dir, halfISS)
	return r, Opened
}

// accepted counts the answer to a SYN, the first that passes. Another answer with
// another sequence number is not plain, nor is one that comes before the SYN.
func (t *Table) accepted(r uint32, f *Hot, p *decode.Packet, dir Direction) bool {
	h, other := f.halves(dir)
	if f.state != stateHalfOpen || h.bits != 0 || other.bits&(halfISS|halfAcked) != halfISS || p.Ack != other.nxt ||
		p.Time-f.Last > HalfOpenTimeout || other.holes != 0 {
		return false
	}
	t.count(f, h, p, dir).SYNACK++
	cold := &t.slab.cold[r]
	cold.SYNACKs++
	t.renew(&t.halfOpen, r)
	t.answered(f, other, p, dir)
	cold.synchronize(h, p, dir, halfISS|halfSYNACK)
	return true
}

// established counts the acknowledgment with which the initiator goes on.
func (t *Table) established(r uint32, f *Hot, p *decode.Packet, dir Direction) bool {
	h, other := f.halves(dir)
	if f.state != stateHalfOpen || f.flags&flagAwaited == 0 || dir != f.initiator() || p.Seq != h.nxt || p.Window == 0 ||
		h.bits&(halfSeen|halfSupposed|halfZeroWin) != halfSeen || other.bits&halfAcked != 0 || other.holes != 0 ||
		p.Time-f.Last > HalfOpenTimeout {
		return false
	}
	t.count(f, h, p, dir).Established++
	f.flags &^= flagAwaited
	t.pull(&t.halfOpen, r)
	f.state = stateOpen
	t.schedule(r, f)
	t.answered(f, other, p, dir)
	h.bareStamp(p)
	return true
}

// finished counts a FIN that carries its direction on where it stood.
func (t *Table) finished(r uint32, f *Hot, p *decode.Packet, dir Direction) bool {
	h, other := f.halves(dir)
	if f.state != stateOpen || f.flags&flagAwaited != 0 || p.Seq != h.nxt || !h.plain(other, p) ||
		p.Time-f.Last > t.cfg.IdleTimeout[f.Class%MaxClasses] {
		return false
	}
	t.count(f, h, p, dir).FIN++
	cold := &t.slab.cold[r]
	cold.FINs++
	if h.finish(other) {
		t.close(r, f, cold, EndFIN)
	}
	t.answered(f, other, p, dir)
	t.accept(f, h, p, dir, p.Seq+1)
	return true
}

// late counts a plain acknowledgment of a connection that is closed, mostly that of
// the second FIN.
func (t *Table) late(r uint32, f *Hot, p *decode.Packet, dir Direction) bool {
	h, other := f.halves(dir)
	if f.state != stateClosed || f.flags&flagAwaited != 0 || p.Seq != h.nxt || !h.plain(other, p) ||
		p.Time-f.Last > ClosedTimeout {
		return false
	}
	t.count(f, h, p, dir)
	t.renew(&t.closed, r)
	t.answered(f, other, p, dir)
	h.bareStamp(p)
	return true
}

// count adds a segment without payload to the flow and to its class, which it
// returns.
func (t *Table) count(f *Hot, h *Half, p *decode.Packet, dir Direction) *Counters {
	c := &t.cfg.Classes[f.Class%MaxClasses]
	c.count(p, dir)
	if h.count(p) {
		t.wrapped(f, p, dir)
	}
	f.Last = max(f.Last, p.Time)
	f.spoke = t.spoken(p.Time)
	return c
}

// answered notes what p, which acknowledges the bytes of other plainly, says of them.
func (t *Table) answered(f *Hot, other *Half, p *decode.Packet, dir Direction) {
	other.una = p.Ack
	other.bits |= halfAcked
	if other.waits() {
		t.echo(f, other, p, dir.Reverse())
	}
}

// synchronize notes the first SYN of a direction of which nothing is known.
func (c *Cold) synchronize(h *Half, p *decode.Packet, dir Direction, bits uint16) {
	c.iss[dir&1] = p.Seq
	if p.Window == 0 {
		bits |= halfZeroWin
	}
	h.nxt = p.Seq + 1
	h.bits = bits | halfSeen
	h.arm(p, h.nxt)
}
