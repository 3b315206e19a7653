package decode

import "encoding/binary"

// DefaultMaxDepth is the number of nested headers that Decode follows where
// Config does not say. Operators' heaviest stacks (two VLAN tags, PPPoE, MPLS,
// GTP-U in GTP-U) have fewer than half of it.
const DefaultMaxDepth = 32

// Config bounds what a Decoder may spend.
type Config struct {
	// FragmentBytes is the memory, in bytes, for fragments of packets that
	// are not whole yet, bookkeeping included. It is reserved once, in New.
	// Too little for one block turns reassembly off: every fragment then is
	// a FragmentTable.
	FragmentBytes int

	// MaxDepth is the largest number of nested headers in a frame, each
	// VLAN tag, label and extension header counted. 0 means
	// DefaultMaxDepth.
	MaxDepth int
}

// Decoder decodes frames, one at a time: it is not safe for concurrent use.
type Decoder struct {
	// Scratch is where reassembled packets are written, behind what it
	// already holds. The caller owns it: set it to an empty slice with some
	// capacity before each batch of frames, and do not reuse its memory
	// before the last Packet of that batch is done with. When it is full,
	// Decode replaces it by a fresh one, and packets in the old one stay
	// valid.
	Scratch []byte

	fragments fragments
	maxDepth  int

	// straightLink is the link type of the frames that straight ways are tried
	// on, noLink if maxDepth leaves no room for them.
	straightLink int32
}

// New returns a Decoder that keeps to config.
func New(config Config) *Decoder {
	d := &Decoder{maxDepth: config.MaxDepth}
	if d.maxDepth <= 0 {
		d.maxDepth = DefaultMaxDepth
	}
	d.straightLink = noLink
	if d.maxDepth >= straightDepth {
		d.straightLink = int32(LinkEthernet)
	}
	d.fragments.reserve(config.FragmentBytes)
	return d
}

// FragmentStats tells what became of fragmented packets that were never
// whole. Their fragments had the outcome Held.
type FragmentStats struct {
	// Expired packets were given up after 30 s of packet time.
	Expired uint64
	// Evicted packets made room for newer ones.
	Evicted uint64
	// Unfinished packets are waiting now.
	Unfinished int
}

// FragmentStats returns the counts since New.
func (d *Decoder) FragmentStats() FragmentStats {
	t := &d.fragments
	return FragmentStats{t.expired, t.evicted, t.waiting}
}

// header names the kind of header that the cursor stands before.
type header uint8

const (
	nothing header = iota // decoding is over; cursor.outcome says how it went
	ethernetHeader
	ipv4Header
	ipv6Header
	extensionHeader
	tcpHeader
	udpHeader
	greHeader
	mplsHeader
	pppHeader
)

// cursor stands somewhere in a frame.
type cursor struct {
	// b is the captured part of what follows, left its length on the wire
	// as far as the headers before it tell; never less than len(b).
	b    []byte
	left int

	// depth is how many headers may still come.
	depth int

	// packets is the number of IP headers passed.
	packets int

	// sized says that left comes from a link header's length field and not
	// from the frame's length.
	sized bool

	// protocol is the number of the header that follows an IPv6 or
	// extension header.
	protocol uint8

	// v6 says that the latest IP header was IPv6.
	v6 bool

	// noIP is the outcome if no (further) IP header is found: NotIP, or
	// inside a tunnel what the tunnel's own packet is.
	noIP Outcome

	// outcome is valid when decoding is over.
	outcome Outcome
}

// Decode fills p, all but p.Time, from a frame and says what it found. The
// caller has set p.Time; fragments expire by it. wireLen is the frame's length
// on the wire, link the type of its first header, and vlan the VLAN tag that
// the kernel or the network card took out of the frame, 0 if none.
//
// Of p, nothing is valid unless the outcome is TCP, UDP or OtherIP; then the
// fields' comments hold. p.Transport points into frame or, for a packet that
// was fragmented at any level, into Scratch.
func (d *Decoder) Decode(frame []byte, wireLen uint32, link Link, vlan uint16, p *Packet) Outcome {
	if d.Plain(frame, link, vlan, p) {
		return TCP
	}
	return d.Other(frame, wireLen, link, vlan, p)
}

// Other is Decode for a frame that is not likely to be Plain.
func (d *Decoder) Other(frame []byte, wireLen uint32, link Link, vlan uint16, p *Packet) Outcome {
	if int32(link) != d.straightLink {
		return d.walk(frame, wireLen, link, vlan, p)
	}
	return d.straight(frame, wireLen, vlan, p)
}

// Plain is Decode for what nearly every frame outside of tunnels is: Ethernet
// without tags, IPv4 without options, and TCP with no options but, perhaps, time
// stamps in front, all captured whole. It reports false for all other frames, and
// leaves p as it is. It calls nothing.
func (d *Decoder) Plain(frame []byte, link Link, vlan uint16, p *Packet) bool {
	if int32(link) != d.straightLink || len(frame) < ethernetLen+ipv4Len+tcpLen {
		return false
	}
	frame = frame[:len(frame):len(frame)] // to carry one value less
	e := (*[ethernetLen + ipv4Len + tcpLen]byte)(frame)
	h := (*headers4)(e[ethernetLen:])
	if binary.LittleEndian.Uint16(e[12:14]) != wireIPv4 || !h.plain(wireTCP) {
		return false
	}
	n, total := h.tcpLen(), h.total()
	end := min(ethernetLen+total, len(frame))
	if n < tcpLen || ethernetLen+ipv4Len+n > end {
		return false
	}
	segment := frame[ethernetLen+ipv4Len : end : end]
	switch {
	case usualOptions(segment, n):
		p.usualTimestamps((*[usualTCPLen]byte)(segment))
	case n == tcpLen:
		p.TSval, p.TSecr, p.HasTimestamps = 0, 0, false
	default:
		return false
	}
	p.VLAN = vlan & vlanIdentifierMask
	p.IPBytes = uint32(total)
	p.Tunnel, p.Fragmented = TunnelNone, false
	p.ipv4((*[ipv4Len]byte)(h[:]))
	p.tcp((*[tcpLen]byte)(h[ipv4Len:]), n, total-ipv4Len)
	p.Transport = segment
	return true
}

// walk decodes header by header.
func (d *Decoder) walk(frame []byte, wireLen uint32, link Link, vlan uint16, p *Packet) Outcome {
	p.VLAN = vlan & vlanIdentifierMask
	p.Tunnel = TunnelNone
	p.Fragmented = false
	left := max(int(wireLen), len(frame))
	c := cursor{b: frame, left: left, depth: d.maxDepth, noIP: NotIP}
	next := c.link(link, p)
	for next != nothing {
		if !c.descend() {
			return TooDeep
		}
		switch next {
		case ethernetHeader:
			next = c.ethernet(p)
		case ipv4Header:
			next = d.ipv4(&c, p)
		case ipv6Header:
			next = c.ipv6(p)
		case extensionHeader:
			next = d.extension(&c, p)
		case tcpHeader:
			return c.tcp(p)
		case udpHeader:
			next = c.udp(p)
		case greHeader:
			next = c.gre(p)
		case mplsHeader:
			next = c.mpls()
		case pppHeader:
			next = c.ppp()
		}
	}
	return c.outcome
}

// skip moves past n captured bytes.
func (c *cursor) skip(n int) { c.b, c.left = c.b[n:], c.left-n }

// descend counts a header and reports whether it may still be entered.
func (c *cursor) descend() bool {
	c.depth--
	return c.depth >= 0
}

// end ends decoding.
func (c *cursor) end(o Outcome) header {
	c.outcome = o
	return nothing
}

// short ends decoding because fewer than n bytes were captured: with bad if
// there were no more on the wire either.
func (c *cursor) short(n int, bad Outcome) header {
	if c.left < n {
		return c.end(bad)
	}
	return c.end(CutFrame)
}
