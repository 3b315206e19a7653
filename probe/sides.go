package probe

import (
	"net/netip"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/arena"
)

// DefaultSubscribers are the prefixes in which subscribers live where nothing
// else is said: private addresses (RFC 1918), the shared space of carriers
// (RFC 6598) and unique local addresses (RFC 4193).
func DefaultSubscribers() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// prefix is an address prefix laid out for a comparison of two words.
type prefix struct{ hi, lo, maskHi, maskLo uint64 }

func prefixFrom(p netip.Prefix) prefix {
	n := p.Bits()
	var m prefix
	switch {
	case n == 0:
	case n <= 64:
		m.maskHi = ^uint64(0) << (64 - n)
	default:
		m.maskHi = ^uint64(0)
		m.maskLo = ^uint64(0) << (128 - n)
	}
	a := decode.AddrFrom(p.Addr())
	m.hi, m.lo = a.Hi&m.maskHi, a.Lo&m.maskLo
	return m
}

// prefix4 is one of IPv4.
type prefix4 struct{ bits, mask uint32 }

func prefix4From(p netip.Prefix) prefix4 {
	mask := uint32(0)
	if p.Bits() > 0 {
		mask = ^uint32(0) << (32 - p.Bits())
	}
	return prefix4{uint32(decode.AddrFrom(p.Addr()).Lo) & mask, mask}
}

func (p *prefix) contains(a decode.Addr) bool {
	return (a.Hi^p.hi)&p.maskHi|(a.Lo^p.lo)&p.maskLo == 0
}

// sides tells which end of a packet is the subscriber. The prefixes decide where
// exactly one end is inside; elsewhere, in this order, who sent the SYN, who
// asked DNS, and the higher port. What was decided for a connection is kept for
// all of it.
type sides struct {
	octets    [256]octet // of IPv4
	prefixes4 []prefix4
	prefixes  []prefix // of IPv6, in which IPv4 stands in mapped form
	seed      uint64
	known     generations // fingerprint of a connection, lowest bit: whether the lower end is the subscriber
	tried     generations // likewise, of connections of one packet: a flood makes only such
	asked     generations // fingerprints of addresses that got DNS answers
	told      [16]uint64  // likewise, of the newest, which wait to be put there together
	waiting   int         // of told
	sink      uint64      // keeps the compiler from dropping the loads ahead
}

func newSides(list []netip.Prefix, entries int, seed uint64) (*sides, error) {
	s := &sides{seed: seed}
	for _, p := range list {
		if p.Addr().Is4() {
			s.prefixes4 = append(s.prefixes4, prefix4From(p))
			continue
		}
		s.prefixes = append(s.prefixes, prefixFrom(p))
	}
	for first := range s.octets {
		s.octets[first] = s.octetOf(uint32(first) << 24)
	}
	if err := s.known.init(entries); err != nil {
		return nil, err
	}
	if err := s.tried.init(entries); err != nil {
		return nil, err
	}
	return s, s.asked.init(entries)
}

// octet says what the first octet of an IPv4 address tells of whether it is a
// subscriber's: nearly always all, so that the prefixes need not be gone through.
type octet uint8

const (
	octetOutside = octet(flows.Up) // what goes there goes up
	octetInside  = octet(flows.Down)
	octetBoth    = octet(2) // that depends on the other octets
)

// octetOf returns what is true of the 2^24 addresses from first on.
func (s *sides) octetOf(first uint32) octet {
	const low = 1<<24 - 1
	verdict := octetOutside
	for _, p := range s.prefixes4 {
		switch {
		case (first^p.bits)&p.mask&^low != 0:
		case p.mask&low == 0:
			return octetInside
		default:
			verdict = octetBoth
		}
	}
	mapped := decode.Addr{Lo: 0xffff<<32 | uint64(first)}
	for _, p := range s.prefixes {
		wide := p
		wide.lo, wide.maskLo = p.lo&^low, p.maskLo&^low
		switch {
		case !wide.contains(mapped):
		case p.maskLo&low == 0:
			return octetInside
		default:
			verdict = octetBoth
		}
	}
	return verdict
}

func (s *sides) inside(a decode.Addr) bool {
	if a.Is4() {
		for _, p := range s.prefixes4 {
			if (uint32(a.Lo)^p.bits)&p.mask == 0 {
				return true
			}
		}
	}
	for i := range s.prefixes {
		if s.prefixes[i].contains(a) {
			return true
		}
	}
	return false
}

// direction of a TCP segment as its subscriber sees it.
func (s *sides) direction(p *decode.Packet) flows.Direction {
	dir, _ := s.subscriber(p)
	return dir
}

// subscriber returns the direction of a TCP segment as its subscriber sees it, and
// the prefix of the subscriber's address.
func (s *sides) subscriber(p *decode.Packet) (dir flows.Direction, prefix uint64) {
	if _, _, ok := p.IPv4(); ok {
		if dir, ok = s.byOctets(p); ok {
			return dir, p.Src.Lo ^ (p.Src.Lo^p.Dst.Lo)&-uint64(dir)
		}
	}
	dir = s.byPrefix(p)
	return dir, subscriberOf(p, dir).Prefix()
}

// byOctets is the direction of a segment over IPv4, if the first octets of its
// addresses tell it. No branch on which of the two it is: that would be guessed wrong
// for every other packet.
func (s *sides) byOctets(p *decode.Packet) (dir flows.Direction, ok bool) {
	from, to := s.octets[uint32(p.Src.Lo)>>24], s.octets[uint32(p.Dst.Lo)>>24]
	return octetDirection(to), from^to == octetOutside^octetInside
}

// byPrefix is the direction of a segment where the first octets do not tell it.
func (s *sides) byPrefix(p *decode.Packet) flows.Direction {
	src, dst := s.inside(p.Src), s.inside(p.Dst)
	if src != dst {
		if src {
			return flows.Up
		}
		return flows.Down
	}
	return s.undecided(p)
}

// octetDirection is the direction of what is sent from outside to inside, or the
// other way round, by where it goes.
func octetDirection(to octet) flows.Direction { return flows.Direction(to) }

// undecided handles the segments whose ends are both inside or both outside.
func (s *sides) undecided(p *decode.Packet) flows.Direction {
	a, b := fingerprint(s.seed, p.Src)+uint64(p.SrcPort), fingerprint(s.seed, p.Dst)+uint64(p.DstPort)
	low := a < b // the sender is the end with the lower fingerprint
	key := mix(min(a, b), max(a, b)) &^ 1
	subscriberLow, ok := s.side(key)
	flags := p.Flags
	if p.Protocol == decode.ProtocolUDP {
		flags = 0 // of a datagram they are another packet's
	}
	switch flags & (decode.SYN | decode.ACK) {
	case decode.SYN:
		s.decide(key, low, ok)
		return flows.Up
	case decode.SYN | decode.ACK:
		if !ok {
			s.decide(key, !low, false)
			return flows.Down
		}
	}
	if !ok {
		subscriberLow = s.guess(p) == low
		s.decide(key, subscriberLow, false)
	}
	if subscriberLow == low {
		return flows.Up
	}
	return flows.Down
}

// side returns what was decided for a connection. One of which more than one
// packet has come is known from there on.
func (s *sides) side(key uint64) (subscriberLow, ok bool) {
	if subscriberLow, ok = s.known.get(key); ok {
		return subscriberLow, true
	}
	if subscriberLow, ok = s.tried.get(key); ok {
		s.known.put(key, subscriberLow)
	}
	return subscriberLow, ok
}

// decide keeps the orientation of a connection.
func (s *sides) decide(key uint64, subscriberLow, known bool) {
	if known {
		s.known.put(key, subscriberLow)
		return
	}
	s.tried.put(key, subscriberLow)
}

// guess reports whether the sender of a segment met in mid-stream is its
// subscriber.
func (s *sides) guess(p *decode.Packet) bool {
	s.note()
	_, src := s.asked.get(fingerprint(s.seed, p.Src) &^ 1)
	_, dst := s.asked.get(fingerprint(s.seed, p.Dst) &^ 1)
	if src != dst {
		return src
	}
	if p.SrcPort != p.DstPort {
		return p.SrcPort > p.DstPort
	}
	return p.Src.Compare(p.Dst) > 0
}

// answered notes that a got a DNS answer: when that is asked for, or with others, so
// that the waits for their places overlap.
func (s *sides) answered(a decode.Addr) {
	s.told[s.waiting%len(s.told)] = fingerprint(s.seed, a) &^ 1
	if s.waiting++; s.waiting == len(s.told) {
		s.note()
	}
}

// note puts those that wait where they are looked for.
func (s *sides) note() {
	list := s.told[:s.waiting]
	s.waiting = 0
	for _, key := range list {
		s.sink += s.asked.touch(key)
	}
	for _, key := range list {
		s.asked.put(key, false)
	}
}

// generations is a set of fingerprints with one bit each, in two halves. When
// the young half has its full size and is full, the old one is forgotten:
// whatever was used since the last change stays, and memory is bounded.
type generations struct {
	young, old []uint64
	n, most    int
	left       int // in the old half and not used since
	// Forgotten counts what went for want of room.
	Forgotten uint64
}

func (g *generations) init(entries int) error {
	g.most = firstSlots
	for g.most < entries {
		g.most *= 2
	}
	var err error
	if g.young, err = arena.MakeDense[uint64](firstSlots); err != nil {
		return err
	}
	g.old, err = arena.MakeDense[uint64](firstSlots)
	return err
}

// touch loads the place of a key, as put will read it.
func (g *generations) touch(key uint64) uint64 { return g.young[key>>8&uint64(len(g.young)-1)] }

func slotOf(table []uint64, key uint64) *uint64 {
	mask := uint64(len(table) - 1)
	at := key >> 8 & mask
	for table[at] != 0 && table[at]&^1 != key {
		at = (at + 1) & mask
	}
	return &table[at]
}

// get returns the bit kept with key.
func (g *generations) get(key uint64) (bit, ok bool) {
	if word := *slotOf(g.young, key); word != 0 {
		return word&1 != 0, true
	}
	word := *slotOf(g.old, key)
	if word == 0 {
		return false, false
	}
	bit = word&1 != 0
	g.left--
	g.put(key, bit)
	return bit, true
}

// put keeps bit with key.
func (g *generations) put(key uint64, bit bool) {
	word := key
	if bit {
		word |= 1
	}
	slot := slotOf(g.young, key)
	if *slot == 0 {
		if g.n*2 >= len(g.young) {
			g.turn()
			slot = slotOf(g.young, key)
		}
		g.n++
	}
	*slot = word
}

// turn makes room in the young half: by doubling it or, at its full size, by
// beginning a new one.
func (g *generations) turn() {
	size := min(2*len(g.young), g.most)
	next, err := arena.MakeDense[uint64](size)
	if err != nil {
		clear(g.young)
		g.Forgotten += uint64(g.n)
		g.n = 0
		return
	}
	if size > len(g.young) {
		for _, word := range g.young {
			if word != 0 {
				*slotOf(next, word&^1) = word
			}
		}
		g.young, next = next, g.young
	} else {
		g.young, g.old, next = next, g.young, g.old
		g.Forgotten += uint64(g.left)
		g.left, g.n = g.n, 0
	}
	_ = arena.Free(next) // what cannot be given back stays reserved, no more
}
