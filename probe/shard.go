package probe

import (
	"sync"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/flows"
)

// group is how many packets are worked together: the table slots of all of them
// are loaded before the first is worked, so that the waits for memory overlap.
const group = 32

// work says what a shard has to do with a packet.
type work uint8

const (
	workUp   = work(flows.Up)   // a TCP segment of the subscriber
	workDown = work(flows.Down) // a TCP segment to the subscriber
	workDNS  = work(2)          // a UDP datagram from port 53 to the subscriber
)

// item is one packet of a chunk, as the dispatcher hands it to a shard: the hash of
// a segment's connection, and a word with, from the lowest bit on, 32 of scope, then
// packet, partition, work and APN with eight each. That is put together in a
// register, where five fields would be written one by one.
type item struct{ hash, word uint64 }

func itemOf(hash uint64, packet, partition uint8, w work, o origin) item {
	return item{hash, uint64(o.scope) | uint64(packet)<<32 | uint64(partition)<<40 | uint64(w)<<48 | uint64(o.apn)<<56}
}

func (it *item) scope() uint32    { return uint32(it.word) }
func (it *item) packet() uint8    { return uint8(it.word >> 32) }
func (it *item) partition() uint8 { return uint8(it.word >> 40) }
func (it *item) work() work       { return work(it.word >> 48) }
func (it *item) apn() uint8       { return uint8(it.word >> 56) }

// shard is a goroutine's worth of partitions and the counters they share.
type shard struct {
	engine *Engine
	number int
	parts  [partitions]*partition // nil where another shard has it
	own    []*partition
	room   []partition // for own: one by one they would not begin with a line of the cache
	slab   *flows.Slab // of the partitions' flows
	place  []uint32    // of its records, for serving

	// mu is held while a chunk is worked, so that a snapshot sees the state
	// between two chunks. It is never taken per packet.
	mu sync.Mutex

	// minute is that of the newest step.
	minute uint32

	// phase is the parity of the step: it picks the buffers to write to and
	// the roster to read.
	phase int

	// steps that are over.
	steps int

	rules     *classify.Compiled
	timeouts  [flows.MaxClasses]int64
	transfers [flows.MaxClasses]bool

	classes        flows.Classes
	apns           [MaxAPNs + apnListed]APNCounters
	apnClasses     [MaxAPNs + apnListed][flows.MaxClasses]APNClassCounters
	named          [classify.MaxIDs][classify.EvidenceCount]uint64
	drift          uint64
	hurried        uint64 // flows that could not wait for a late answer
	streamsRefused uint64 // hellos and DNS over TCP that found no place

	shedding   shedding
	shed       [Works]uint64 // segments that passed while the work was left out
	unexamined uint64        // flows in whose first bytes no server name was looked for

	dnsResponses, dnsAddresses, dnsMalformed uint64
	dnsRcodes                                [16]uint64
	encryptedDNS                             uint64

	arrivals    [32]arrival
	arrived     int          // of them, those that wait
	subscribers pairCounts   // of all partitions
	learned     [2]lessons   // by the step's phase
	sightings   [2]sightings // likewise

	message dnsmap.Message
	sni     [256]byte
	nameBuf [dnsmap.MaxName]byte

	tables  [partitions]*flows.Table // of parts
	found   [group]uint32
	answers [dnsmap.MaxTouch]uint64 // hashes of the keys of a message's answers
	sink    uint64                  // keeps the compiler from dropping the loads ahead

	chunks chan *chunk
	ticked chan struct{}
}

// adopt takes over a rule set. It is called between chunks.
func (s *shard) adopt(rules *classify.Compiled) {
	s.rules = rules
	for i := range s.timeouts {
		s.timeouts[i] = rules.IdleTimeout(uint8(i))
		s.transfers[i] = i < rules.Len() && rules.Info(uint8(i)).Kind == classify.Transfer
	}
	for _, a := range s.own {
		a.flows.NewTimeouts()
	}
}

// chunk works the shard's packets of a chunk and, at the end of a step, moves
// its partitions' clocks.
func (s *shard) chunk(c *chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := c.items[s.number].list()
	s.shedWork(c.shedding, items)
	for len(items) > 0 {
		n := min(len(items), group)
		s.group(&c.packets, items[:n])
		items = items[n:]
	}
	if c.rules != nil {
		s.adopt(c.rules)
	}
	if c.tick == 0 {
		return
	}
	for _, a := range s.own {
		a.advance(c.tick)
	}
	s.turn(uint32(c.tick / minute))
	s.phase ^= 1
	s.steps++
}

// group works a few packets, first touching all the slots they will need. It is not
// inlined, so that it has the registers to itself.
//
//go:noinline
func (s *shard) group(packets *[chunkPackets]decode.Packet, items []item) {
	found := s.found[:len(items)]
	var tables [group]*flows.Table
	var hot [group]*flows.Hot
	// Loops of a few instructions, so that the processor has many of their
	// loads under way at once.
	var words [group]uint64
	for i := range items {
		it := &items[i]
		t := s.tables[it.partition()%partitions]
		tables[i%group], words[i%group] = t, t.Look(it.hash)
	}
	sink := uint64(0)
	for i := range items {
		r := tables[i%group].Found(words[i%group], items[i].hash)
		f := s.slab.Hot(r)
		sink += f.Touch()
		found[i], hot[i%group] = r, f
	}
	s.sink += sink
	done := allReported(s.minute)
	for i := range items {
		it := &items[i]
		p := &packets[it.packet()]
		if it.work() == workDNS {
			s.partition(it).datagram(p, it.scope())
			continue
		}
		f, dir := hot[i%group], flows.Direction(it.work())
		ev, ok := tables[i%group].Continue(f, p, dir, it.hash)
		switch {
		case !ok:
			r := found[i]
			if ev != flows.Known {
				r = 0
			}
			s.partition(it).segment(r, p, it.scope(), dir, it.hash, it.apn())
		case f.Reported != done:
			s.partition(it).counted(found[i], p, it.scope(), dir, ev, it.apn())
		case p.Tunnel|f.Tunnel != decode.TunnelNone:
			s.tunnelled(f, p, dir, ev, it.apn())
		}
	}
}

// tunnelled counts, by its access point name, a segment that plainly carried on its
// flow (flows.Table.Continue): it has no flag that these counters ask for.
func (s *shard) tunnelled(f *flows.Hot, p *decode.Packet, dir flows.Direction, ev flows.Event, apn uint8) {
	bytes := uint64(p.IPBytes)
	if p.Tunnel != decode.TunnelNone {
		c := &s.apns[apn]
		c.Packets[dir&1]++
		c.Bytes[dir&1] += bytes
	}
	if f.Tunnel == decode.TunnelNone {
		return
	}
	c := &s.apnClasses[f.APN][f.Class]
	c.Bytes[dir&1] += bytes
	if ev&flows.NowCarried != 0 {
		c.Carried++
	}
}

func (s *shard) partition(it *item) *partition { return s.parts[it.partition()%partitions] }

// datagram works a UDP datagram from port 53.
func (a *partition) datagram(p *decode.Packet, scope uint32) {
	payload := p.Payload()
	a.response(p.Dst, scope, payload, uint32(len(payload)) < p.PayloadLen, p.Time)
}
