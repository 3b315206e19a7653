package decode

import "encoding/binary"

const (
	tcpLen = 20
	udpLen = 8
)

// TCP option kinds (RFC 9293 section 3.1, RFC 7323 section 3.2).
const (
	optionEnd        = 0
	optionNoOp       = 1
	optionTimestamps = 8
	timestampsLen    = 10

	// plainTimestamps begins the layout of options that every system sends
	// once a connection stands (RFC 7323 appendix A).
	plainTimestamps = optionNoOp<<24 | optionNoOp<<16 | optionTimestamps<<8 | timestampsLen
)

// tcp reads a TCP header (RFC 9293 section 3.1).
func (c *cursor) tcp(p *Packet) Outcome {
	b := c.b
	if len(b) < tcpLen {
		c.short(tcpLen, BadTransport)
		return c.outcome
	}
	n := int(b[12]>>4) * 4
	if n < tcpLen || n > c.left {
		return BadTransport
	}
	p.tcp((*[tcpLen]byte)(b), n, c.left)
	p.TSval, p.TSecr, p.HasTimestamps = timestamps(b[tcpLen:min(n, len(b))])
	return TCP
}

// tcp notes what a TCP header of n bytes says of a segment of left bytes.
func (p *Packet) tcp(h *[tcpLen]byte, n, left int) {
	p.Seq, p.Ack = split64(binary.BigEndian.Uint64(h[4:12]))
	p.SrcPort, p.DstPort = split32(binary.BigEndian.Uint32(h[0:4]))
	p.Window = binary.BigEndian.Uint16(h[14:16])
	p.Flags = h[13]
	p.HeaderLen = uint8(n)
	p.PayloadLen = uint32(left - n)
}

// split64 and split32 return the halves of what one load has fetched.
func split64(x uint64) (high, low uint32) { return uint32(x >> 32), uint32(x) }
func split32(x uint32) (high, low uint16) { return uint16(x >> 16), uint16(x) }

// usualOptions reports whether the options of a TCP header of n bytes are time
// stamps as every system lays them out. b is what was captured from the header on.
func usualOptions(b []byte, n int) bool {
	return n >= usualTCPLen && len(b) >= usualTCPLen && binary.LittleEndian.Uint32(b[20:24]) == wireTimestamps
}

// usualTimestamps notes the time stamps of a header with usual options.
func (p *Packet) usualTimestamps(h *[usualTCPLen]byte) {
	p.TSval, p.TSecr = split64(binary.BigEndian.Uint64(h[24:32]))
	p.HasTimestamps = true
}

// timestamps finds the time stamp option. Options that contradict themselves
// end the search, but cost the segment nothing else.
func timestamps(o []byte) (val, ecr uint32, ok bool) {
	if len(o) >= 12 && binary.BigEndian.Uint32(o) == plainTimestamps {
		return binary.BigEndian.Uint32(o[4:8]), binary.BigEndian.Uint32(o[8:12]), true
	}
	for len(o) > 1 && o[0] != optionEnd {
		if o[0] == optionNoOp {
			o = o[1:]
			continue
		}
		n := int(o[1])
		if n < 2 || n > len(o) {
			break
		}
		if o[0] == optionTimestamps && n == timestampsLen {
			return binary.BigEndian.Uint32(o[2:6]), binary.BigEndian.Uint32(o[6:10]), true
		}
		o = o[n:]
	}
	return 0, 0, false
}

// udp reads a UDP header (RFC 768) and looks for a tunnel behind it.
func (c *cursor) udp(p *Packet) header {
	b := c.b
	if len(b) < udpLen {
		return c.short(udpLen, BadTransport)
	}
	n := int(binary.BigEndian.Uint16(b[4:6]))
	if n == 0 {
		n = c.left // segmentation offload, or a jumbogram (RFC 2675 section 4)
	}
	if n < udpLen || n > c.left {
		return c.end(BadTransport)
	}
	if len(b) > n {
		b = b[:n]
		p.Transport = b
	}
	src, dst := binary.BigEndian.Uint16(b[0:2]), binary.BigEndian.Uint16(b[2:4])
	p.SrcPort = src
	p.DstPort = dst
	p.HeaderLen = udpLen
	p.PayloadLen = uint32(n - udpLen)
	c.b, c.left = b[udpLen:], n-udpLen
	switch {
	case dst == portGTPU || src == portGTPU:
		return c.gtpu(p)
	case dst == portVXLAN:
		return c.vxlan()
	case dst == portTeredo || src == portTeredo:
		return c.teredo()
	}
	return c.end(UDP)
}
