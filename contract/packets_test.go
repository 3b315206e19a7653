package contract

import (
	"net/netip"
	"testing"
	"time"
)

// pieces sends the segment as one IP packet in fragments of at most size bytes
// of payload. By the contract it counts as one packet, with the bytes of all of
// its fragments.
func (c *conn) pieces(dir int, payload []byte, size int) *conn {
	src, dst := c.client, c.server
	if dir == down {
		src, dst = dst, src
	}
	s := segment{flags: ack | psh, seq: c.next[dir], ack: c.next[1-dir], payload: payload}
	c.next[dir] += s.length()
	id := c.tr.nextID()
	ip := ipPacket(src.Addr(), dst.Addr(), protocolTCP, id, s.bytes(src.Port(), dst.Port()))
	cut := fragments4
	if src.Addr().Is6() {
		cut = func(packet []byte, size int) [][]byte { return fragments6(packet, uint32(id), size) }
	}
	sum := uint64(0)
	for _, f := range cut(ip, size) {
		sum += uint64(len(f))
		c.tr.packet(f, dir == up)
	}
	c.tr.now -= c.tr.step // the packet is whole with its last fragment
	c.count(dir, &s, sum)
	c.tr.now += c.tr.step
	return c
}

func TestFragmentedSegments(t *testing.T) {
	in6 := netip.MustParseAddr("fd00:1:2:3::1")
	server6 := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
	talk := func(c *conn) *conn {
		return c.open().pieces(up, make([]byte, 1400), 600).pieces(down, make([]byte, 4000), 1200).talk().close()
	}
	live(t, []life{
		{"IPv4", func(tr *trace) []*conn { return []*conn{talk(tr.conn(alice, server))} }},
		{"IPv6", func(tr *trace) []*conn { return []*conn{talk(tr.conn(in6, server6))} }},
		{"a TCP header in two fragments", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).open().pieces(up, make([]byte, 30), 8).close()}
		}},
		{"inside GTP-U", func(tr *trace) []*conn {
			tr.wrap = inGTP(0, nil)
			return []*conn{talk(tr.conn(alice, server))}
		}},
		{"inside GTP-U, IPv6", func(tr *trace) []*conn {
			tr.wrap = inGTP(0, nil)
			return []*conn{talk(tr.conn(in6, server6))}
		}},
		{"inside fragments of GTP-U", func(tr *trace) []*conn {
			tr.wrap = outerCut(inGTP(0, nil), 400)
			return []*conn{talk(tr.conn(alice, server))}
		}},
		{"inside fragments of GTP-U over IPv6", func(tr *trace) []*conn {
			tr.wrap = outerCut(inGTP6(0, nil), 400)
			return []*conn{talk(tr.conn(alice, server))}
		}},
	})
}

// TestClientHelloInFragments: a reassembled segment names its flow.
func TestClientHelloInFragments(t *testing.T) {
	prove(t, []rule{{"in three fragments", nil, func(tr *trace) []verdict {
		return []verdict{tr.conn(alice, server).open().pieces(up, hello{sni: photoName, pad: 900}.bytes(), 400).is(photoBy("sni"))}
	}}})
}

// TestAFragmentThatIsLost: what never becomes whole counts nowhere, and does no
// harm to what follows.
func TestAFragmentThatIsLost(t *testing.T) {
	tr := newTrace()
	lost := fragments4(ipPacket(alice, server.Addr(), protocolTCP, 99, make([]byte, 900)), 400)
	tr.packet(lost[0], true)
	tr.packet(lost[2], true)
	c := tr.conn(alice, server).whole()
	tr.analyzed(t).flows(t, c)
}

// TestLengthsComeFromTheHeader: never from what was captured, nor from the
// frame.
func TestLengthsComeFromTheHeader(t *testing.T) {
	long := func(c *conn) *conn { return c.open().up(make([]byte, 1000)).down(make([]byte, 1400)).close() }
	live(t, []life{
		{"frames cut by the snap length count whole", func(tr *trace) []*conn {
			tr.cut = 96
			return []*conn{long(tr.conn(alice, server))}
		}},
		{"cut right behind the TCP header", func(tr *trace) []*conn {
			tr.cut = 14 + 20 + 24
			return []*conn{long(tr.conn(alice, server))}
		}},
		{"cut frames in a tunnel", func(tr *trace) []*conn {
			tr.cut = 110
			tr.wrap = inGTP(0, nil)
			return []*conn{long(tr.conn(alice, server))}
		}},
		{"Ethernet padding counts nowhere", func(tr *trace) []*conn {
			tr.wrap = padded(plainEthernet, 60)
			return []*conn{long(tr.conn(alice, server))}
		}},
		{"nor does padding behind VLAN tags and PPPoE", func(tr *trace) []*conn {
			tr.wrap = padded(func(ip []byte, _ bool) [][]byte {
				return [][]byte{ethernet(0x8100, tag(7, 0x8864, pppoe(ip)))}
			}, 68)
			return []*conn{long(tr.conn(alice, server))}
		}},
		{"nor a frame check sequence", func(tr *trace) []*conn {
			tr.wrap = func(ip []byte, _ bool) [][]byte {
				return [][]byte{join(ethernet(etherType(ip), ip), []byte{1, 2, 3, 4})}
			}
			return []*conn{long(tr.conn(alice, server))}
		}},
	})
}

// padded appends zeros up to a frame's least length.
func padded(wrap func([]byte, bool) [][]byte, least int) func([]byte, bool) [][]byte {
	return func(ip []byte, up bool) [][]byte {
		frames := wrap(ip, up)
		for i, f := range frames {
			if n := least - len(f); n > 0 {
				frames[i] = join(f, make([]byte, n))
			}
		}
		return frames
	}
}

// TestPaddedHandshakeIsNoPayload: the padding behind an acknowledgment is not
// the subscriber's first payload.
func TestPaddedHandshakeIsNoPayload(t *testing.T) {
	prove(t, []rule{{"the ClientHello after it names the flow", nil, func(tr *trace) []verdict {
		tr.wrap = padded(plainEthernet, 60)
		return []verdict{tr.conn(alice, server).sends(hello{sni: photoName}.bytes()).is(photoBy("sni"))}
	}}})
}

// headed puts IP options or extension headers into every packet of a trace; they
// are part of its total length.
func TestOptionsAndExtensionHeaders(t *testing.T) {
	in6 := netip.MustParseAddr("fd00:1:2:3::1")
	server6 := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
	options := func(ip []byte) []byte { // three words of no-operation
		b := join(ip[:20], []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0}, ip[20:])
		b[0] = 0x48
		be.PutUint16(b[2:], uint16(len(b)))
		return b
	}
	extensions := func(ip []byte) []byte { // hop-by-hop, then destination options of 16 bytes
		b := join(ip[:40], []byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{ip[6], 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ip[40:])
		b[6] = 0
		be.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	tests := []struct {
		says   string
		more   uint64 // bytes a packet
		with   func(ip []byte) []byte
		client netip.Addr
		server netip.AddrPort
	}{
		{"IPv4 options", 12, options, alice, server},
		{"IPv6 extension headers", 24, extensions, in6, server6},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			tr.wrap = func(ip []byte, up bool) [][]byte { return plainEthernet(tt.with(ip), up) }
			tr.answer(tt.client, chatName, 300, tt.server.Addr().String())
			c := tr.at(time.Second).conn(tt.client, tt.server).whole()
			for dir := range c.bytes {
				c.bytes[dir] += c.packets[dir] * tt.more
				tr.tcp.bytes += c.packets[dir] * tt.more
			}
			tr.analyzed(t).flows(t, c)[0].namedAs(t, chatBy("dns"))
		})
	}
}

// TestOffload: a packet that the capturing host handed to its network card to
// cut, with no total length in it, is as long as its frame.
func TestOffload(t *testing.T) {
	live(t, []life{{"IPv4 total length 0", func(tr *trace) []*conn {
		tr.wrap = func(ip []byte, _ bool) [][]byte {
			if len(ip) > 3000 {
				be.PutUint16(ip[2:], 0)
			}
			return [][]byte{ethernet(etherIPv4, ip)}
		}
		return []*conn{tr.conn(alice, server).open().down(make([]byte, 20000)).close()}
	}}})
}

// TestOtherTrafficIsNoTCP: UDP, ICMP and frames without IP are in no class.
func TestOtherTrafficIsNoTCP(t *testing.T) {
	tr := newTrace()
	c := tr.conn(alice, server).whole()
	tr.datagram(netip.AddrPortFrom(alice, 5000), server, make([]byte, 700), true)
	tr.packet(ipPacket(alice, server.Addr(), 1, 1, []byte{8, 0, 0, 0, 0, 0, 0, 0}), true)
	tr.packet(ipPacket(alice, server.Addr(), 132, 1, make([]byte, 40)), true)
	// An ICMP error quotes the packet that it is about.
	quoted := ipPacket(alice, server.Addr(), protocolTCP, 1, (&segment{flags: syn}).bytes(5000, 443))
	tr.packet(ipPacket(server.Addr(), alice, 1, 1, join([]byte{3, 1, 0, 0, 0, 0, 0, 0}, quoted)), false)
	frames := len(tr.frames)
	tr.frame(ethernet(0x0806, make([]byte, 46)))
	tr.frame(ethernet(0x88cc, make([]byte, 46)))
	r := analyzed(t, []string{tr.save(t)})
	r.flows(t, c)
	if r.summary.tcpBytes() != tr.tcp.bytes || r.summary.undecoded() != uint64(len(tr.frames)-frames) {
		t.Errorf("%d bytes of TCP and %d frames without IP, want %d and %d",
			r.summary.tcpBytes(), r.summary.undecoded(), tr.tcp.bytes, len(tr.frames)-frames)
	}
}

// TestMoreThanFourGigabytes: counters do not wrap where 32 bits do, nor do
// sequence numbers confuse them.
func TestMoreThanFourGigabytes(t *testing.T) {
	tr := newTrace()
	tr.step = 100 * time.Microsecond
	c := tr.conn(alice, server).open()
	payload := make([]byte, 65000)
	for range 70_000 {
		s := segment{flags: ack, seq: c.next[down], ack: c.next[up], payload: payload}
		c.next[down] += s.length()
		c.count(down, &s, uint64(40+len(payload)))
		// Of the frame only the headers were captured.
		s.payload = nil
		ip := ipPacket(server.Addr(), alice, protocolTCP, tr.nextID(), s.bytes(server.Port(), c.client.Port()))
		be.PutUint16(ip[2:], uint16(40+len(payload)))
		tr.frames = append(tr.frames, frame{at: tr.time(), data: ethernet(etherIPv4, ip), wire: 54 + len(payload)})
		tr.wait(tr.step)
	}
	c.close()
	r := tr.analyzed(t).flows(t, c)[0]
	if r.DownlinkBytes < 1<<32 || r.DownlinkRetransmitted+r.DownlinkOutOfOrder > 0 {
		t.Errorf("%d bytes, %d segments retransmitted, %d out of order; want more than 4 GiB and none",
			r.DownlinkBytes, r.DownlinkRetransmitted, r.DownlinkOutOfOrder)
	}
}
