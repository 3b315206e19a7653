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

// sighting is a server seen with a class, in a minute in which the partition has
// not noted it yet, as far as it remembers.
type sighting struct {
	mark        uint64 // of the server
	v4          uint32 // its address, if it is4
	minute      uint32
	next        uint32 // in sightings: of the same partition, counted from 1
	class       uint8
	is4, silent bool // silent: one of the flow's ends has not been heard
}

// sightings are those of a shard's partitions, which wait for the end of a step. They
// lie together, like lessons, and are gone through in the order of partitions.
type sightings struct {
	list []sighting
	of   [partitions]struct{ first, last uint32 } // counted from 1
}

func (l *sightings) add(partition int, s *sighting) {
	l.list = append(l.list, *s)
	at, of := uint32(len(l.list)), &l.of[partition%partitions]
	if of.last == 0 {
		of.first = at
	} else {
		l.list[of.last-1].next = at
	}
	of.last = at
}

// sightingsKept is how many sightings there is room for, a partition, in a list that
// is not given up.
const sightingsKept = 256

// reset empties the list of so many partitions.
func (l *sightings) reset(partitions int) {
	if len(l.list) == 0 {
		return
	}
	if cap(l.list) > partitions*sightingsKept {
		l.list = nil
	}
	*l = sightings{list: l.list[:0]}
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
		v4: uint32(k.Server.Lo), is4: k.Server.Is4(), minute: s.minute,
		silent: f.Half[flows.Up].Packets == 0 || f.Half[flows.Down].Packets == 0,
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
		a.shard.sightings[a.shard.phase].add(a.number, seen)
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
