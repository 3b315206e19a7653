package synth

import "math"

// never is a deadline that does not come.
const never = math.MaxInt64

// Sides of a connection, and of the tap.
const (
	subscriberSide = 0
	serverSide     = 1
)

// Kinds of packet.
const (
	packetTCP = iota
	packetQuery
	packetQueryAAAA
	packetAnswer
	packetAnswerAAAA // of a name without one
	packetTruncated  // an answer that sends the client to TCP
	packetGTPC
)

// packet is a packet on its way: everything its frame is made of but the
// payload's bytes, which follow from the connection's salt.
type packet struct {
	id        uint32 // in the pool
	kind      uint8
	down      bool // from the server
	flags     uint8
	repeat    bool // the sender has sent these bytes before
	keepAlive bool
	nsack     uint8
	wkind     uint8  // what is written, see payload.go
	message   uint8  // packetGTPC: the message type
	ref       uint32 // connection, lookup or subscriber
	seq, ack  uint32
	serial    uint32 // of the segment in its sender's list
	wstart    uint32 // offset of the write that the segment is a part of
	wlen      uint32
	off       uint32 // offset of the segment in the stream
	plen      uint16
	size      uint16 // of the IP packet
	window    uint16
	ipid      uint16
	tsval     uint32
	tsecr     uint32
	sack      [3]span // sequence numbers
	cause     int64   // when the packet that this one answers passed the tap; 0: unknown
	tapped    int64   // when it passed the tap; 0: not yet, or uncaptured
}

// span is a half-open range of a stream.
type span struct{ lo, hi uint32 }

// segment is one that its sender holds until it is acknowledged.
type segment struct {
	off       uint32
	wstart    uint32
	wlen      uint32
	plen      uint16
	wkind     uint8
	sent      uint8 // times
	seen      uint8 // times at the tap
	fin       bool
	sacked    bool
	lost      bool // so the sender thinks; not in flight any more
	tapAcked  bool // an acknowledgement of it has passed the tap
	sentAt    int64
	firstSeen int64 // when it passed the tap first
}

// length is what the segment occupies of the sequence space.
func (s *segment) length() uint32 {
	if s.fin {
		return uint32(s.plen) + 1
	}
	return uint32(s.plen)
}

// write is a piece that the application hands to its endpoint.
type write struct {
	start, length uint32
	kind          uint8
}

// Endpoint states, as far as the model needs RFC 9293 section 3.3.2: what
// follows ESTABLISHED is told by finSent, finReceived and una.
const (
	stateClosed = iota
	stateListen
	stateSynSent
	stateSynReceived
	stateEstablished
	stateReset // sent or received an RST, or gave up
	stateGone  // powered off: neither sends nor answers
)

// endpoint is one end of a connection. Offsets count a stream's bytes from 0
// on, the FIN being one more; on the wire they follow the initial sequence
// number and the SYN.
type endpoint struct {
	stack    *stack
	state    uint8
	backoff  uint8
	dupAcks  uint8
	recovery bool
	closing  bool // a FIN follows what is written
	finSent  bool
	finRcvd  bool

	iss, irs uint32
	una, nxt uint32
	written  uint32
	writes   []write
	mss      uint32 // payload bytes of a full segment

	cwnd, ssthresh uint32
	pipe           uint32 // bytes in flight (RFC 6675 section 2)
	lost           int    // segments marked so
	recover        uint32
	peerWindow     uint32
	peerScale      uint8
	srtt, rttvar   int64
	segs           []segment
	head           int
	serialBase     uint32 // of segs[0]

	rcvNxt   uint32
	lastAck  uint32 // offset last acknowledged
	holes    []span // received beyond rcvNxt, in order
	newest   span   // the one that changed last
	unacked  uint8  // full segments
	tsRecent uint32
	tsBase   uint32
	ipid     uint16
	cause    int64

	rtoAt, ackAt, closeAt int64
}

// rto is the retransmission time-out, with the floor of Linux: the variance
// term is at least 200 ms (RFC 6298 asks for 1 s in all).
func (e *endpoint) rto() int64 {
	base := int64(1e9)
	if e.srtt > 0 {
		base = e.srtt + max(200e6, 4*e.rttvar)
	}
	return min(base<<e.backoff, 60e9)
}

func (e *endpoint) sample(rtt int64) {
	if e.srtt == 0 {
		e.srtt, e.rttvar = rtt, rtt/2
		return
	}
	d := e.srtt - rtt
	if d < 0 {
		d = -d
	}
	e.rttvar += (d - e.rttvar) / 4
	e.srtt += (rtt - e.srtt) / 8
}

// done says that nothing more can come from the endpoint.
func (e *endpoint) done() bool {
	return e.state >= stateReset || e.finSent && e.una == e.nxt && e.finRcvd
}

// received is how much of the peer's data the application has.
func (e *endpoint) received(peerWritten uint32) uint32 { return min(e.rcvNxt, peerWritten) }

// Kinds of connection.
const (
	connOther = iota
	connChat
	connLookup // carries a lookup: DNS over TCP, DoT or DoH
)

// Kinds of step.
const (
	stepWrite = iota
	stepFIN
	stepRST
	stepVanish
	stepResolved // the lookup that the connection carries has its answer
)

// step is what one side's application does once it has received all that the
// other side wrote before, and has thought for a while.
type step struct {
	side   uint8
	do     uint8
	kind   uint8 // of a write
	length uint32
	delay  int64
}

// conn is a connection with both its ends and what the tap has seen of it.
type conn struct {
	ends [2]endpoint
	id   uint32
	gen  uint32
	refs int32 // packets on their way

	live       bool
	ghost      bool // over, but the tap does not know yet
	kind       uint8
	failing    bool // the server fails above TCP
	sack       bool
	timestamps bool
	hideDown   bool // downlink takes a way without a tap
	tls13      bool
	bigHello   bool
	sni, ech   bool

	sub        uint32
	server     int32
	service    uint8
	name       uint32
	lookup     uint32
	sport      uint16
	dport      uint16
	object     uint32 // bytes of an HTTP body
	iid        uint64 // of an IPv6 subscriber
	salt       uint64
	oneWay     int64 // server side
	lastUp     int64 // last arrival at the server
	lastDown   int64 // last passage of the tap from the server
	active     int64 // last packet at the subscriber
	keepEvery  int64
	steps      []step
	step       int
	appAt      int64
	keepAt     int64
	giveUpAt   int64
	killAt     int64 // one side breaks off
	killSide   uint8
	reuses     bool // the 5-tuple of a connection that the tap still knows
	nearQueued int64
	appQueued  int64
	keepQueued int64
	next, prev int32 // connections of the subscriber

	flow flow
}

// pool hands out connections, lookups and packets by number and takes them
// back, so that what lives is bounded by what lives at one time.
type pool[T any] struct {
	blocks [][]T
	free   []uint32
	used   int
}

const poolBlock = 256

func (p *pool[T]) get() (uint32, *T) {
	if len(p.free) == 0 {
		base := uint32(len(p.blocks) * poolBlock)
		p.blocks = append(p.blocks, make([]T, poolBlock))
		for i := poolBlock - 1; i >= 0; i-- {
			p.free = append(p.free, base+uint32(i))
		}
	}
	id := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.used++
	return id, p.at(id)
}

func (p *pool[T]) at(id uint32) *T { return &p.blocks[id/poolBlock][id%poolBlock] }

func (p *pool[T]) put(id uint32) {
	p.free = append(p.free, id)
	p.used--
}
