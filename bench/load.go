package bench

import (
	"encoding/binary"
	"io"
	"math/bits"
	"runtime"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
)

// phase of a load, in their order.
type phase int

const (
	attaching phase = iota // the control plane fills the table of sessions
	looking                // a packet in each session's tunnel
	answering              // DNS answers fill the map
	opening                // handshakes and first payloads fill the flow table
	visiting               // segments of random live flows
	over
	phases
)

const (
	batchFrames = 512
	// maxFrame holds the longest frame of a load, an answer of maxAddresses.
	maxFrame = 1024
	// perAnswer is how many addresses a DNS answer gives: WhatsApp's eN names
	// have 8, most others 1 to 4.
	perAnswer = 4
	// serversPerName is from how many addresses those are taken.
	serversPerName = 8
	// wave is how many connections open side by side: their segments come
	// interleaved, as on a wire.
	wave = 1024
	// openingSegments of a connection: the handshake, a request, a response.
	openingSegments = 5

	requestBytes, responseBytes = 240, 1180 // payload of a segment, up and down

	ttl = 3600 // seconds: nothing goes stale while the load lasts

	epoch = 1_700_000_000 * int64(time.Second)
)

// load is a capture.Source that forges the frames of a population: whatever a
// frame needs follows from its number, so that a load of any size takes no
// memory, next to which the engine's could not be seen.
//
// Segments are cut after their headers, as a tap with a short snap length would
// deliver them; answers come whole.
type load struct {
	State
	messages int // DNS answers
	gap      int64

	at    phase
	n     int // frames of the phase so far
	total int // frames so far
	ipID  uint16
	order permutation
	// attached is the order in which sessions are looked at.
	attached permutation

	// turned is called before the first frame of a phase, and at the end.
	turned func(phase)
	clock  func() time.Duration // CPU time of this thread
	forge  time.Duration        // CPU time spent here since turned was called

	frames, bytes uint64
}

func newLoad(s State, turned func(phase), clock func() time.Duration) *load {
	l := &load{
		State: s, messages: (s.Entries + perAnswer - 1) / perAnswer, turned: turned, clock: clock,
		order: newPermutation(s.Flows, s.Seed), attached: newPermutation(s.Sessions, s.Seed), at: -1,
	}
	// All within three minutes of packet time: under every idle time-out.
	l.gap = min(int64(time.Microsecond), 3*int64(time.Minute)/int64(max(l.frameCount(), 1)))
	l.gap = max(l.gap, 1)
	l.turn()
	return l
}

// frameCount is how many frames there are in all.
func (l *load) frameCount() (n int) {
	for p := range over {
		n += l.size(p)
	}
	return n
}

// size is how many frames a phase has.
func (l *load) size(p phase) int {
	switch p {
	case attaching:
		return 2 * l.Sessions
	case looking:
		return l.Sessions
	case answering:
		return l.messages
	case opening:
		return l.Flows * openingSegments
	case visiting:
		return l.Packets
	}
	return 0
}

// turn goes on to the next phase that has frames.
func (l *load) turn() {
	for l.at++; l.at < over && l.size(l.at) == 0; l.at++ {
		l.turned(l.at)
	}
	l.n = 0
	l.turned(l.at)
	l.forge = 0
}

// Next forges a batch.
func (l *load) Next(b *capture.Batch) error {
	b.Frames = b.Frames[:0]
	if l.at < over && l.n == l.size(l.at) {
		l.turn()
	}
	if l.at == over {
		return io.EOF
	}
	runtime.LockOSThread() // or it would be two threads' clocks
	defer runtime.UnlockOSThread()
	began := l.clock()
	buf := b.Buffer(batchFrames * maxFrame)[:batchFrames*maxFrame]
	for range min(batchFrames, l.size(l.at)-l.n) {
		var n, wire int
		switch l.at {
		case attaching:
			n = l.attach(buf, l.n)
			wire = n
		case looking:
			n = l.look(buf, l.n)
			wire = n
		case answering:
			n = l.answer(buf, l.n)
			wire = n
		case opening:
			n, wire = l.open(buf, l.n)
		case visiting:
			n, wire = l.visit(buf, l.n)
		}
		b.Frames = append(b.Frames, capture.Frame{
			Data: buf[:n:n], Time: l.now(), WireLen: uint32(wire), Link: decode.LinkEthernet,
		})
		buf = buf[n:]
		l.n++
		l.total++
		l.frames++
		l.bytes += uint64(wire)
	}
	l.forge += l.clock() - began
	return nil
}

func (l *load) now() int64 { return epoch + int64(l.total)*l.gap }

// Release has nothing to give back.
func (l *load) Release(*capture.Batch) {}

// Interfaces is a made-up one.
func (l *load) Interfaces() []string { return []string{"load"} }

// Stats are those of the frames forged.
func (l *load) Stats() capture.Stats {
	return capture.Stats{Interfaces: []capture.InterfaceStats{{Name: "load", Packets: l.frames, Bytes: l.bytes}}}
}

// Close has nothing to end.
func (l *load) Close() error { return nil }

// hash spreads a number of some kind over 64 bits.
func (l *load) hash(kind, n int) uint64 {
	hi, lo := bits.Mul64(uint64(n)*0x9e3779b97f4a7c15^l.Seed^0xd6e8feb86659fd93, uint64(kind)*0xa0761d6478bd642f^0x8ebc6af09c88c6e3)
	return hi ^ lo
}

// Kinds of numbers that hash takes.
const (
	kindName = iota + 1
	kindAddress
	kindSequence
	kindPort
)

// ofSix reports whether the subscriber has an IPv6 address.
func (l *load) ofSix(subscriber int) bool {
	return float64(subscriber%100) < l.IPv6*100
}

// name is the number of the one that the subscriber asks for in its m-th
// question: no subscriber asks twice for the same.
func (l *load) name(subscriber, m int) int {
	const stride = 7919 // a prime, so that all differ while there are names
	return int((l.hash(kindName, subscriber)%uint64(l.Names) + uint64(m)*stride) % uint64(l.Names))
}

// server is the number of the k-th address that the subscriber's m-th answer
// gives. A name's servers are its own.
func (l *load) server(subscriber, m, k int) int {
	first := int(l.hash(kindAddress, subscriber*64+m) % serversPerName)
	return l.name(subscriber, m)*serversPerName + (first+k)%serversPerName
}

// ipHeaders writes Ethernet and IP headers to b and returns their length.
func (l *load) ipHeaders(b []byte, six, up bool, subscriber, server int, protocol byte, payload int) int {
	clear(b[:14+40])
	b[0], b[6] = 2, 2 // locally administered addresses
	l.ipID++
	ip := b[14:]
	src, dst := ip[12:16], ip[16:20]
	if six {
		src, dst = ip[8:24], ip[24:40]
	}
	if !up {
		src, dst = dst, src
	}
	if six {
		b[12], b[13] = 0x86, 0xdd
		ip[0], ip[6], ip[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(payload))
		src[0] = 0xfd // a /64 each, in fd00::/8
		binary.BigEndian.PutUint32(src[4:], uint32(subscriber))
		src[15] = 1
		dst[0], dst[1] = 0x20, 0x01
		binary.BigEndian.PutUint32(dst[12:], uint32(server))
		return 14 + 40
	}
	b[12] = 8
	ip[0], ip[8], ip[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(ip[2:], uint16(20+payload))
	binary.BigEndian.PutUint16(ip[4:], l.ipID)
	binary.BigEndian.PutUint32(src, 10<<24|uint32(subscriber))
	binary.BigEndian.PutUint32(dst, 31<<24|uint32(server))
	return 14 + 20
}

// answer writes the n-th DNS answer and returns its length.
func (l *load) answer(b []byte, n int) int {
	subscriber, m := n%l.Subscribers, n/l.Subscribers
	six := l.ofSix(subscriber)
	typ, size := uint16(1), 4
	if six {
		typ, size = 28, 16 // AAAA (RFC 3596)
	}
	var message [maxFrame]byte
	binary.BigEndian.PutUint16(message[0:], uint16(n))
	message[2], message[3] = 0x81, 0x80 // a response without error
	message[5], message[7] = 1, perAnswer
	at := 12 + len(l.question(message[12:12], subscriber, m))
	binary.BigEndian.PutUint16(message[at:], typ)
	message[at+3] = 1
	at += 4
	for k := range perAnswer {
		r := message[at:]
		r[0], r[1] = 0xc0, 12 // the question's name (RFC 1035 section 4.1.4)
		binary.BigEndian.PutUint16(r[2:], typ)
		r[5] = 1
		binary.BigEndian.PutUint32(r[6:], ttl)
		r[11] = byte(size)
		server := l.server(subscriber, m, k)
		address := r[12:][:size]
		if six {
			address[0], address[1] = 0x20, 0x01
			binary.BigEndian.PutUint32(address[12:], uint32(server))
		} else {
			binary.BigEndian.PutUint32(address, 31<<24|uint32(server))
		}
		at += 12 + size
	}
	head := l.ipHeaders(b, six, false, subscriber, l.resolver(), decode.ProtocolUDP, 8+at)
	udp := b[head:]
	clear(udp[:8])
	udp[1] = 53
	binary.BigEndian.PutUint16(udp[2:], uint16(20000+n%40000))
	binary.BigEndian.PutUint16(udp[4:], uint16(8+at))
	copy(udp[8:], message[:at])
	return head + 8 + at
}

func (l *load) resolver() int { return l.Names * serversPerName }

// question appends the wire form of a name to b: a tenth are WhatsApp's chat and
// media servers, the rest stands for all the others.
func (l *load) question(b []byte, subscriber, m int) []byte {
	name := l.name(subscriber, m)
	switch name % 20 {
	case 0:
		return wireName(b, "e", name/20, "whatsapp", "net")
	case 1:
		return wireName(b, "mmv", name/20, "whatsapp", "net")
	}
	return wireName(b, "host", name, "example-service", "com")
}

// wireName appends the labels of a name, the first with a number (RFC 1035
// section 3.1).
func wireName(b []byte, first string, number int, rest ...string) []byte {
	start := len(b)
	b = append(append(b, 0), first...)
	var digits [20]byte
	at := len(digits)
	for {
		at--
		digits[at] = byte('0' + number%10)
		if number /= 10; number == 0 {
			break
		}
	}
	b = append(b, digits[at:]...)
	b[start] = byte(len(b) - start - 1)
	for _, label := range rest {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// segment is what tells one of a flow from another.
type segment struct {
	flow     int
	up       bool
	flags    byte
	seq, ack uint32
	// stamp and echo are the timestamps option's (RFC 7323).
	stamp, echo uint32
	payload     int
}

// open writes the n-th segment of the openings.
func (l *load) open(b []byte, n int) (length, wire int) {
	first := n / (wave * openingSegments) * wave
	flows := min(wave, l.Flows-first)
	n -= first * openingSegments
	s := segment{flow: first + n%flows}
	up, down := l.sequences(s.flow)
	switch n / flows {
	case 0:
		s.up, s.flags, s.seq, s.stamp = true, decode.SYN, up, 1
	case 1:
		s.flags, s.seq, s.ack, s.stamp, s.echo = decode.SYN|decode.ACK, down, up+1, 1, 1
	case 2:
		s.up, s.flags, s.seq, s.ack, s.stamp, s.echo = true, decode.ACK, up+1, down+1, 2, 1
	case 3:
		s.up, s.flags, s.seq, s.ack, s.stamp, s.echo = true, decode.ACK|decode.PSH, up+1, down+1, 3, 1
		s.payload = requestBytes
	case 4:
		s.flags, s.seq, s.ack, s.stamp, s.echo = decode.ACK, down+1, up+1+requestBytes, 2, 3
		s.payload = responseBytes
	}
	return l.write(b, &s)
}

// sequences are a flow's initial sequence numbers.
func (l *load) sequences(flow int) (up, down uint32) {
	h := l.hash(kindSequence, flow)
	return uint32(h), uint32(h >> 32)
}

// visit writes the n-th segment of the visits. They go round all flows, each
// time in another order, and each flow's ends take turns, so that the numbers of
// a segment follow from how often its flow had its turn.
func (l *load) visit(b []byte, n int) (length, wire int) {
	round := n / l.Flows
	s := segment{flow: l.order.at(n%l.Flows, round), flags: decode.ACK}
	up, down := l.sequences(s.flow)
	s.up = (round+s.flow)&1 == 0
	own, peer := uint32(round/2), uint32((round+1)/2)
	if s.up {
		s.payload = requestBytes
		s.seq, s.ack = up+1+requestBytes*(1+own), down+1+responseBytes*(1+peer)
		s.stamp, s.echo = 4+own, 2+peer
	} else {
		s.payload = responseBytes
		s.seq, s.ack = down+1+responseBytes*(1+own), up+1+requestBytes*(1+peer)
		s.stamp, s.echo = 3+own, 3+peer
	}
	return l.write(b, &s)
}

// write puts the segment's headers into b; the payload is cut away.
func (l *load) write(b []byte, s *segment) (length, wire int) {
	subscriber := s.flow % l.Subscribers
	turn := s.flow / l.Subscribers
	m := turn
	if asked := l.asked(subscriber); asked > 0 {
		m = turn % asked
	}
	const header = 32
	six := l.ofSix(subscriber)
	head := l.ipHeaders(b, six, s.up, subscriber, l.server(subscriber, m, turn%perAnswer), decode.ProtocolTCP, header+s.payload)
	port := uint16(1024 + (l.hash(kindPort, subscriber)+uint64(turn))%60000)
	tcp := b[head:][:header]
	clear(tcp)
	src, dst := tcp[0:2], tcp[2:4]
	if !s.up {
		src, dst = dst, src
	}
	binary.BigEndian.PutUint16(src, port)
	binary.BigEndian.PutUint16(dst, 443)
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[12], tcp[13] = header/4<<4, s.flags
	binary.BigEndian.PutUint16(tcp[14:], 502)
	tcp[20], tcp[21], tcp[22], tcp[23] = 1, 1, 8, 10
	binary.BigEndian.PutUint32(tcp[24:], s.stamp)
	binary.BigEndian.PutUint32(tcp[28:], s.echo)
	return head + header, head + header + s.payload
}

// asked is how many questions the subscriber has asked.
func (l *load) asked(subscriber int) int {
	asked := l.messages / l.Subscribers
	if subscriber < l.messages%l.Subscribers {
		asked++
	}
	return asked
}

// permutation visits 0 to n-1 in an order that no cache foresees: a full-period
// generator modulo a power of two (Knuth, The Art of Computer Programming
// section 3.2.1.2, theorem A), scrambled, of which what lies beyond n is passed
// over.
type permutation struct {
	n    int
	bits uint
	seed uint64

	round, index int    // of the last one given out
	state        uint64 // of the generator
}

func newPermutation(n int, seed uint64) permutation {
	return permutation{n: n, bits: uint(bits.Len(uint(max(n, 2) - 1))), seed: seed, round: -1}
}

// at returns the index-th of a round. Calls come in order.
func (p *permutation) at(index, round int) int {
	mask := uint64(1)<<p.bits - 1
	if round != p.round || index == 0 {
		p.round, p.state = round, (p.seed+uint64(round)*0x9e3779b97f4a7c15)&mask
	}
	p.index = index
	for {
		p.state = (p.state*6364136223846793005 + 1442695040888963407) & mask
		x := p.scramble(p.state)
		if x < uint64(p.n) {
			return int(x)
		}
	}
}

// scramble is a bijection on the lower bits: the low ones of the generator alone
// have short periods.
func (p *permutation) scramble(x uint64) uint64 {
	mask := uint64(1)<<p.bits - 1
	half := max(p.bits/2, 1)
	for range 2 {
		x ^= x >> half
		x = x * 0x9e3779b97f4a7c15 & mask
	}
	return x ^ x>>half
}
