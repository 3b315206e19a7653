package flows

import "github.com/nametap/nametap/capture/decode"

// Trains. While one segment of a flight waits for its echo in the flow, up to
// trainLength of those behind it wait here, spread over the flight, so that a
// mean is one over the queue that the flight makes, not over its first segment.
// Few directions have a flight under way at a time: trains are a small table of
// their own, in which a direction has one place it can be. Where another has
// that place, it goes without.
const (
	trainLength = 4
	trainSlots  = 64

	// trainAge, in microseconds, is when a train that nothing has been
	// heard of gives its place to another.
	trainAge = 1_000_000
)

// wait is a segment that waits for its echo: its TSval, or the sequence number
// after it, and the packet time in microseconds when it passed.
type wait struct {
	probe, time uint32
	stamped     bool
}

// train is of one direction of one flow. It counts only while the direction
// has halfTrain set.
type train struct {
	tag  uint32 // of its direction
	each uint32 // one segment in so many joins
	skip uint32 // how many have passed since one did
	n    uint8
	wait [trainLength]wait
}

// train returns the place of the direction's train, and the tag that the train
// has if it is there. Two directions with one tag would confuse each other's
// segments, once in 2^32 pairs of flights at the same time.
func (t *Table) train(f *Hot, dir Direction) (*train, uint32) {
	x := f.hash ^ uint64(dir)*0x9e3779b97f4a7c15
	return &t.trains[x%trainSlots], uint32(x >> 16)
}

// follow lets a segment join the direction's train. A train that is full keeps
// every other of its segments, and from then on takes every other one.
func (t *Table) follow(f *Hot, h *Half, dir Direction, w wait) {
	c, tag := t.train(f, dir)
	if h.bits&halfTrain == 0 || c.tag != tag {
		if c.tag != tag && c.n > 0 && int32(w.time-c.wait[c.n-1].time) < trainAge {
			return
		}
		c.tag, c.each, c.skip, c.n = tag, 1, 0, 0
		h.bits |= halfTrain
	}
	if c.skip++; c.skip < c.each {
		return
	}
	c.skip = 0
	if c.n == trainLength {
		c.n = 0
		for i := 1; i < trainLength; i += 2 {
			c.wait[c.n] = c.wait[i]
			c.n++
		}
		c.each *= 2
	}
	c.wait[c.n] = w
	c.n++
}

// arrive takes off the train what p answers, and a sample of the last of it.
func (t *Table) arrive(f *Hot, h *Half, p *decode.Packet, dir Direction) (sampled bool) {
	c, tag := t.train(f, dir)
	if c.tag != tag {
		h.bits &^= halfTrain
		return false
	}
	gone, hit := uint8(0), -1
	for i := range c.wait[:c.n] {
		w := &c.wait[i]
		if !w.stamped {
			if int32(p.Ack-w.probe) < 0 {
				break
			}
			hit = i
		} else {
			if !p.HasTimestamps || int32(p.TSecr-w.probe) < 0 {
				break
			}
			hit = -1 // a later echo: its own was missed
			if p.TSecr == w.probe {
				hit = i
			}
		}
		gone++
	}
	if hit >= 0 {
		t.observe(f, h, micros(p.Time)-c.wait[hit].time, dir)
	}
	c.n -= gone
	copy(c.wait[:c.n], c.wait[gone:])
	if c.n == 0 {
		h.bits &^= halfTrain
	}
	return hit >= 0
}
