package probe

import (
	"errors"
	"math"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/arena"
)

// Serving is what the connections of a class to one server met between two
// calls of Watch. Arrays are by flows.Direction; of round-trip times Up is the
// server side.
type Serving struct {
	Server decode.Addr // the zero address for servers without a place of their own
	Class  uint8       // index into Snapshot.Classes
	// Flows is how many connections had a packet.
	Flows uint64
	// Samples of the round-trip time, their Sum in microseconds, and Buckets
	// of the connections' means, each weighted by its samples.
	Samples [2]uint64
	Sum     [2]uint64
	Buckets [2][ServingBuckets]uint32
	// Least is the least round-trip time that a connection has had in its life
	// so far, in microseconds; 0 without one.
	Least [2]uint32

	Segments, Retransmitted, LostBefore, OutOfOrder [2]uint64
}

// ServingBuckets grow by a fifth each, four to a factor of two, from 64 µs to
// four seconds; the first and the last hold what is beyond.
const (
	ServingBuckets = 64
	servingOctaves = 4
	servingLeast   = 6  // exponent of two, in microseconds
	servingMost    = 10 // seconds: no round-trip time that is counted is longer
)

// servingBucket is where a round-trip time in microseconds falls.
func servingBucket(us float64) int {
	at := int(math.Floor((math.Log2(max(us, 1)) - servingLeast) * servingOctaves))
	return min(max(at, 0), ServingBuckets-1)
}

// ServingBounds are where a bucket begins and ends, in seconds.
func ServingBounds(bucket int) (low, high float64) {
	bound := func(b int) float64 { return math.Exp2(float64(b)/servingOctaves+servingLeast) * 1e-6 }
	low, high = bound(bucket), bound(bucket+1)
	if bucket == 0 {
		low = 0
	}
	if bucket == ServingBuckets-1 {
		high = servingMost
	}
	return low, high
}

// Bounds of a partition's servers. Each is half a kilobyte in each snapshot that is
// watched. The last places are for all servers of a class that have none of their
// own.
const (
	mostServers  = 1 << 9
	leastServers = 1 << 5
	otherServers = 1 << 4
)

// serving follows the connections of a partition that are active, so that what
// they met can be told each time that Watch is called. Nothing is done per
// packet: a connection comes in when it is settled, or reported as present after
// a silence. Nil follows none.
type serving struct {
	flows []servedFlow
	// place of a flow's record in flows, counted from 1; 0 is not followed. The
	// shard's partitions share it, as they share the records.
	place []uint32

	list []Serving // what was met since Watch was called last
	at   map[servingKey]int
	next int64 // packet time before which Watch is called next

	// missed counts connections that found no place, by class: each once in a
	// minute in which it had a packet.
	missed  [classify.MaxIDs]uint64
	nowhere Serving // for what has no place in the list
}

type servingKey struct {
	server decode.Addr
	class  uint8
}

// servedFlow is what a flow had counted when it was last looked at.
type servedFlow struct {
	record                 uint32
	sum, samples, segments [2]uint32
	loss                   [2]flows.Loss
}

func newServing(b *budget, place []uint32) (*serving, error) {
	s := &serving{at: map[servingKey]int{}, place: place}
	var errs [2]error
	s.flows, errs[0] = arena.Make[servedFlow](b.served)
	s.list, errs[1] = arena.Make[Serving](b.servers)
	s.flows, s.list = s.flows[:0], s.list[:0]
	return s, errors.Join(errs[:]...)
}

// follow takes a fresh flow in: all that it has counted is of this period.
func (s *serving) follow(r uint32, class uint8) {
	if s != nil {
		s.take(servedFlow{record: r}, class)
	}
}

// resume takes a flow in again that was silent. What it had counted before the
// segment that it came back with, in direction dir, was of other periods. A sample
// of the round-trip time is never that segment's: what waited for it was sent
// before the silence, longer ago than flows waits for an echo.
func (s *serving) resume(r uint32, f flows.Flow, dir flows.Direction, ev flows.Event) {
	if s == nil {
		return
	}
	state := stateOf(r, f)
	state.segments[dir]--
	for _, c := range [...]struct {
		ev    flows.Event
		count *uint32
	}{
		{flows.Retransmitted, &state.loss[dir].Retransmitted},
		{flows.LostBefore, &state.loss[dir].LostBefore},
		{flows.OutOfOrder, &state.loss[dir].OutOfOrder},
	} {
		if ev&c.ev != 0 {
			*c.count--
		}
	}
	s.take(state, f.Class)
}

func (s *serving) take(state servedFlow, class uint8) {
	if s.place[state.record] != 0 {
		return
	}
	if len(s.flows) == cap(s.flows) {
		s.missed[class]++
		return
	}
	s.flows = append(s.flows, state)
	s.place[state.record] = uint32(len(s.flows))
}

func stateOf(r uint32, f flows.Flow) servedFlow {
	s := servedFlow{record: r, loss: f.Loss}
	for d := range f.Half {
		s.sum[d], s.samples[d], s.segments[d] = f.Half[d].RTTSum, f.Half[d].RTTCount, f.Half[d].Packets
	}
	return s
}

// look counts what the flow at the place met since it was last looked at, and
// reports whether it had a packet.
func (s *serving) look(at int, f flows.Flow) bool {
	was := s.flows[at]
	if was.segments == [2]uint32{f.Half[flows.Up].Packets, f.Half[flows.Down].Packets} {
		return false
	}
	now := stateOf(was.record, f)
	s.flows[at] = now
	t := s.of(f.Key.Server, f.Class)
	t.Flows++
	for d := range f.Half {
		n, sum := now.samples[d]-was.samples[d], now.sum[d]-was.sum[d]
		t.Samples[d] += uint64(n)
		t.Sum[d] += uint64(sum)
		if n > 0 {
			t.Buckets[d][servingBucket(float64(sum)/float64(n))] += n
		}
		if h := &f.Half[d]; h.RTTCount > 0 && (t.Least[d] == 0 || h.RTTMin < t.Least[d]) {
			t.Least[d] = max(h.RTTMin, 1)
		}
		t.Segments[d] += uint64(now.segments[d] - was.segments[d])
		t.Retransmitted[d] += uint64(now.loss[d].Retransmitted - was.loss[d].Retransmitted)
		t.LostBefore[d] += uint64(now.loss[d].LostBefore - was.loss[d].LostBefore)
		t.OutOfOrder[d] += uint64(now.loss[d].OutOfOrder - was.loss[d].OutOfOrder)
	}
	return true
}

// drop takes the flow at the place out; the last one takes its place.
func (s *serving) drop(at int) {
	s.place[s.flows[at].record] = 0
	last := len(s.flows) - 1
	if at != last {
		s.flows[at] = s.flows[last]
		s.place[s.flows[at].record] = uint32(at) + 1
	}
	s.flows = s.flows[:last]
}

// ended is told of a flow whose record will be used again.
func (s *serving) ended(r uint32, f flows.Flow) {
	if s == nil {
		return
	}
	if at := int(s.place[r]) - 1; at >= 0 {
		s.look(at, f)
		s.drop(at)
	}
}

// advance looks at all flows at the end of a step before which Watch is called,
// and lets go those that are silent. One that speaks again in another minute
// comes back; until then it stays.
func (s *serving) advance(tick, every int64, table *flows.Table, minute uint32) {
	if s == nil || tick < s.next {
		return
	}
	s.next = tick - tick%every + every
	for at := len(s.flows) - 1; at >= 0; at-- {
		f := table.Flow(s.flows[at].record)
		if !s.look(at, f) && reportedIn(f.Hot) != minute {
			s.drop(at)
		}
	}
}

// of returns where a server's connections of a class are counted.
func (s *serving) of(server decode.Addr, class uint8) *Serving {
	key := servingKey{server, class}
	at, known := s.at[key]
	if !known && len(s.list) >= cap(s.list)-otherServers {
		key.server = decode.Addr{}
		at, known = s.at[key]
	}
	if !known && len(s.list) == cap(s.list) {
		s.missed[class]++
		return &s.nowhere
	}
	if !known {
		at = len(s.list)
		s.at[key] = at
		s.list = append(s.list, Serving{Server: key.server, Class: class - classify.Other})
	}
	return &s.list[at]
}

// begin begins the next period.
func (s *serving) begin() {
	if s != nil {
		s.list = s.list[:0]
		clear(s.at)
	}
}

// snapshot adds what was met since Watch was called last, and what was missed ever.
func (s *serving) snapshot(to *Snapshot) {
	if s == nil {
		return
	}
	to.Servings = append(to.Servings, s.list...)
	for id := range to.Classes {
		to.Classes[id].ServingsMissed += s.missed[id]
	}
}
