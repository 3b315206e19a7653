package probe

import (
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
)

// arrival is a flow of which the first packet of a minute has passed: its ends are
// there. What that is noted in is read at random, once a flow and minute, which
// with millions of flows is nearly once a packet. So arrivals wait for each other,
// and what they read is loaded for all before the first is noted. A partition's are
// noted in their order, before its clock moves, and before anybody asks.
type arrival struct {
	subscriber uint64
	server     sighting
	partition  uint8
}

// allReported is what Reported is of a flow for whose segments nothing is left to
// do in that minute once they are counted, in a tunnel as tunnelled does it. It is so
// for nearly all segments, and spares them the look into the partition. Of other
// settled flows Reported is the minute alone. Until it is settled, it is 0, or
// allReported where nothing but the end of its wait for a late answer can settle it.
func allReported(minute uint32) uint32 { return allDone | minute }

// allDone stands above any minute of 64-bit nanoseconds.
const allDone = 1 << 31

// reportedIn is the minute in which a settled flow was last reported.
func reportedIn(f *flows.Hot) uint32 { return f.Reported &^ allDone }

// reported is what Reported becomes when that of this minute is done.
func (s *shard) reported(k *flows.Key) uint32 {
	if k.ServerPort != portDNS {
		return allReported(s.minute)
	}
	return s.minute
}

// present notes, a little later, that the ends of the flow f, whose key is k, are there.
func (a *partition) present(f *flows.Hot, k *flows.Key) {
	s := a.shard
	if s.arrived == len(s.arrivals) {
		s.welcome()
	}
	f.Reported = s.reported(k)
	seed := s.engine.cfg.Seed
	v := &s.arrivals[s.arrived]
	v.subscriber = mix(subscriberKey(k.Scope, k.Subscriber)^seed, uint64(k.Scope))
	v.partition = uint8(a.number)
	v.server = sighting{
		mark: fingerprint(seed, k.Server), class: f.Class,
		minute: s.minute,
		silent: f.Half[flows.Up].Packets == 0 || f.Half[flows.Down].Packets == 0,
	}
	if k.Server.Is4() {
		v.server.low = k.Server.Lo
	}
	s.arrived++
}

// welcome notes the arrivals that wait.
func (s *shard) welcome() {
	list := s.arrivals[:s.arrived]
	s.arrived = 0
	sink := uint64(0)
	for i := range list {
		v := &list[i]
		a := s.parts[v.partition%partitions]
		sink += a.subscribers.touch(v.subscriber, v.server.class) + a.recent.touch(v.server.mark, v.server.class)
	}
	s.sink += sink
	for i := range list {
		s.parts[list[i].partition%partitions].welcome(&list[i])
	}
}

// welcome notes the arrivals that wait in any shard. None has anything to work, but
// somebody may look.
func (e *Engine) welcome() {
	for _, s := range e.shards {
		s.mu.Lock()
		s.welcome()
		s.mu.Unlock()
	}
}

func (a *partition) welcome(v *arrival) {
	seen := &v.server
	if seen.silent && !a.subscribers.takes(v.subscriber, seen.class, seen.minute) {
		a.subscribers.Refused++
	} else {
		a.subscribers.seen(v.subscriber, seen.class, seen.minute)
	}
	if a.recent.first(seen.mark, seen.class, seen.minute) {
		s := &a.sightings[a.shard.phase]
		*s = append(*s, *seen)
	}
}

// turn begins a minute, if it is another one, in all partitions.
func (s *shard) turn(minute uint32) {
	if minute == s.minute {
		return
	}
	s.minute = minute
	s.subscribers.Active = [classify.MaxIDs]int{}
	for _, a := range s.own {
		a.subscribers.recount(minute)
	}
}
