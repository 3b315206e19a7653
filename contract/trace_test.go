package contract

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// base is when every forged trace begins.
var base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Those whom most traces are about.
var (
	alice = netip.MustParseAddr("10.1.0.1")
	bob   = netip.MustParseAddr("10.2.0.2")
	carol = netip.MustParseAddr("10.3.0.3")

	server   = netip.MustParseAddrPort("198.51.100.1:443")
	resolver = netip.MustParseAddr("192.0.2.53")
)

// Link types (https://www.tcpdump.org/linktypes.html).
const (
	linkNull     = 0
	linkEthernet = 1
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

// frame is a captured frame; wire is its length on the wire.
type frame struct {
	at   int64
	data []byte
	wire int
}

// trace is a forged capture under construction, and its truth.
type trace struct {
	now    time.Duration // since base, of the next packet
	step   time.Duration // added after each packet
	link   uint32
	wrap   func(ip []byte, up bool) [][]byte // frames around an innermost IP packet
	cut    int                               // snap length, 0: none
	frames []frame
	id     uint16
	ports  uint16
	// tcp is the truth about all TCP there is.
	tcp struct{ bytes, packets uint64 }
}

func newTrace() *trace {
	return &trace{step: time.Millisecond, link: linkEthernet, ports: 40000, wrap: plainEthernet}
}

func plainEthernet(ip []byte, _ bool) [][]byte { return [][]byte{ethernet(etherType(ip), ip)} }

// at sets the time of the next packet, counted from the beginning.
func (tr *trace) at(d time.Duration) *trace {
	tr.now = d
	return tr
}

// wait lets time pass.
func (tr *trace) wait(d time.Duration) *trace {
	tr.now += d
	return tr
}

// time of the next packet.
func (tr *trace) time() int64 { return base.Add(tr.now).UnixNano() }

// frame adds a frame as it is.
func (tr *trace) frame(data []byte) {
	f := frame{at: tr.time(), data: data, wire: len(data)}
	if tr.cut > 0 && len(data) > tr.cut {
		f.data = data[:tr.cut]
	}
	tr.frames = append(tr.frames, f)
}

// packet adds an IP packet in whatever the trace wraps packets in, and lets a
// step pass.
func (tr *trace) packet(ip []byte, up bool) {
	for _, data := range tr.wrap(ip, up) {
		tr.frame(data)
	}
	tr.now += tr.step
}

func (tr *trace) nextID() uint16 {
	tr.id++
	return tr.id
}

// datagram adds a UDP datagram.
func (tr *trace) datagram(src, dst netip.AddrPort, payload []byte, up bool) {
	tr.packet(ipPacket(src.Addr(), dst.Addr(), protocolUDP, tr.nextID(), udp(src.Port(), dst.Port(), payload)), up)
}

// dns adds a DNS message from port 53 to the subscriber.
func (tr *trace) dns(subscriber netip.Addr, message []byte) {
	from := resolver
	if subscriber.Is6() {
		from = netip.MustParseAddr("2001:db8:53::53")
	}
	tr.datagram(netip.AddrPortFrom(from, 53), netip.AddrPortFrom(subscriber, 33333), message, false)
}

// answer adds a DNS answer to the subscriber.
func (tr *trace) answer(subscriber netip.Addr, name string, ttl uint32, addrs ...string) {
	tr.dns(subscriber, answer{name: name, ttl: ttl, addrs: addrs}.bytes())
}

// conn is one TCP connection of a trace, and its truth.
type conn struct {
	tr             *trace
	client, server netip.AddrPort
	next           [2]uint32 // sequence number by direction

	started                   bool
	start, end                int64
	packets, bytes, payload   [2]uint64
	syns, synAcks, fins, rsts uint64
	synSeen                   bool
	finBits                   int
	reason                    string
}

const (
	up   = 0
	down = 1
)

// conn begins a connection of the subscriber with the server, on a port of its
// own. No packet is sent.
func (tr *trace) conn(subscriber netip.Addr, server netip.AddrPort) *conn {
	tr.ports++
	return tr.connFrom(netip.AddrPortFrom(subscriber, tr.ports), server)
}

func (tr *trace) connFrom(client, server netip.AddrPort) *conn {
	return &conn{tr: tr, client: client, server: server, next: [2]uint32{1000, 500000}, reason: "shutdown"}
}

// send adds a segment and counts it.
func (c *conn) send(dir int, s segment) *conn {
	src, dst := c.client, c.server
	if dir == down {
		src, dst = dst, src
	}
	ip := ipPacket(src.Addr(), dst.Addr(), protocolTCP, c.tr.nextID(), s.bytes(src.Port(), dst.Port()))
	c.count(dir, &s, uint64(len(ip)))
	c.tr.packet(ip, dir == up)
	return c
}

// count is the truth: by the contract, IP bytes are the packet's total length.
func (c *conn) count(dir int, s *segment, ipBytes uint64) {
	now := c.tr.time()
	if !c.started {
		c.started, c.start = true, now
	}
	c.end = now
	c.packets[dir]++
	c.bytes[dir] += ipBytes
	c.payload[dir] += uint64(len(s.payload))
	c.tr.tcp.packets++
	c.tr.tcp.bytes += ipBytes
	switch s.flags & (syn | ack) {
	case syn:
		c.syns++
		c.synSeen = true
	case syn | ack:
		c.synAcks++
	}
	if s.flags&fin != 0 {
		c.fins++
		c.finBits |= 1 << dir
		if c.finBits == 3 && c.reason == "shutdown" {
			c.reason = "fin"
		}
	}
	if s.flags&rst != 0 {
		c.rsts++
		if c.reason == "shutdown" {
			c.reason = "rst"
		}
	}
}

// segment sends the next segment in order.
func (c *conn) segment(dir int, flags byte, payload []byte) *conn {
	s := segment{flags: flags, seq: c.next[dir], payload: payload}
	if flags&ack != 0 {
		s.ack = c.next[1-dir]
	}
	if flags&syn != 0 {
		s.options = []byte{2, 4, 5, 0xb4} // MSS 1460
	}
	c.next[dir] += s.length()
	return c.send(dir, s)
}

func (c *conn) syn() *conn    { return c.segment(up, syn, nil) }
func (c *conn) synAck() *conn { return c.segment(down, syn|ack, nil) }
func (c *conn) ackUp() *conn  { return c.segment(up, ack, nil) }

// open is the whole handshake.
func (c *conn) open() *conn { return c.syn().synAck().ackUp() }

func (c *conn) up(payload []byte) *conn   { return c.segment(up, ack|psh, payload) }
func (c *conn) down(payload []byte) *conn { return c.segment(down, ack|psh, payload) }

// talk sends some bytes each way that are no TLS.
func (c *conn) talk() *conn {
	return c.up([]byte("WA\x05\x02 and what follows")).down(bytes.Repeat([]byte{'.'}, 300))
}

// close ends the connection in good order.
func (c *conn) close() *conn {
	return c.segment(up, fin|ack, nil).segment(down, fin|ack, nil).ackUp()
}

func (c *conn) reset(dir int) *conn { return c.segment(dir, rst|ack, nil) }

// whole is a connection from its SYN to its end.
func (c *conn) whole() *conn { return c.open().talk().close() }

// named is what the record must say of the connection's name.
type named struct{ name, evidence, app, class string }

// unnamed is the contract's rule 5.
var unnamed = named{"", "none", "other", "other"}

func chatBy(evidence string) named {
	return named{"e5.whatsapp.net", evidence, "whatsapp", "chat"}
}

func photoBy(evidence string) named {
	return named{"mmi123.whatsapp.net", evidence, "whatsapp", "photo"}
}

// wants checks that the record says what is true of the connection.
func (c *conn) wants(t testing.TB, r *record) {
	t.Helper()
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s is %v, want %v", r, what, got, want)
		}
	}
	check("start", r.Start.UnixNano(), c.start)
	check("end", r.End.UnixNano(), c.end)
	check("duration_s", r.Duration, float64(c.end-c.start)/1e9)
	check("uplink_packets", r.UplinkPackets, c.packets[up])
	check("downlink_packets", r.DownlinkPackets, c.packets[down])
	check("uplink_bytes", r.UplinkBytes, c.bytes[up])
	check("downlink_bytes", r.DownlinkBytes, c.bytes[down])
	check("uplink_payload_bytes", r.UplinkPayload, c.payload[up])
	check("downlink_payload_bytes", r.DownlinkPayload, c.payload[down])
	check("syn", r.SYN, c.syns)
	check("syn_ack", r.SYNACK, c.synAcks)
	check("fin", r.FIN, c.fins)
	check("rst", r.RST, c.rsts)
	check("syn_seen", r.SYNSeen, c.synSeen)
	check("end_reason", r.EndReason, c.reason)
}

// namedAs checks the record's name.
func (r *record) namedAs(t testing.TB, want named) {
	t.Helper()
	if got := (named{text(r.Name), r.Evidence, r.App, r.Class}); got != want {
		t.Errorf("%s is named %+v, want %+v", r, got, want)
	}
}

// save writes the trace as a pcap file with nanoseconds.
func (tr *trace) save(t testing.TB) string {
	t.Helper()
	return saved(t, tr.pcap(binary.LittleEndian, true))
}

func saved(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pcap is the trace in the format of draft-ietf-opsawg-pcap.
func (tr *trace) pcap(order binary.AppendByteOrder, nanos bool) []byte {
	magic, unit := uint32(0xa1b2c3d4), int64(1000)
	if nanos {
		magic, unit = 0xa1b23c4d, 1
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, 1<<18)
	b = order.AppendUint32(b, tr.link)
	for _, f := range tr.frames {
		b = order.AppendUint32(b, uint32(f.at/1e9))
		b = order.AppendUint32(b, uint32(f.at%1e9/unit))
		b = order.AppendUint32(b, uint32(len(f.data)))
		b = order.AppendUint32(b, uint32(f.wire))
		b = append(b, f.data...)
	}
	return b
}

// pcapng is the trace in the format of draft-ietf-opsawg-pcapng: one section,
// one interface with times in nanoseconds.
func (tr *trace) pcapng(order interface {
	binary.AppendByteOrder
	binary.ByteOrder
},
) []byte {
	block := func(kind uint32, body []byte) []byte {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		length := uint32(12 + len(body))
		b := order.AppendUint32(nil, kind)
		b = order.AppendUint32(b, length)
		return order.AppendUint32(append(b, body...), length)
	}
	section := order.AppendUint32(nil, 0x1a2b3c4d)
	section = order.AppendUint16(section, 1)
	section = order.AppendUint16(section, 0)
	section = order.AppendUint64(section, 1<<64-1)
	iface := order.AppendUint16(nil, uint16(tr.link))
	iface = append(iface, 0, 0)
	iface = order.AppendUint32(iface, 0)
	iface = order.AppendUint16(iface, 9) // if_tsresol
	iface = order.AppendUint16(iface, 1)
	iface = append(iface, 9, 0, 0, 0) // 10^-9 s
	iface = append(iface, 0, 0, 0, 0) // opt_endofopt
	b := join(block(0x0a0d0d0a, section), block(1, iface))
	for _, f := range tr.frames {
		p := order.AppendUint32(nil, 0)
		p = order.AppendUint32(p, uint32(f.at>>32))
		p = order.AppendUint32(p, uint32(f.at))
		p = order.AppendUint32(p, uint32(len(f.data)))
		p = order.AppendUint32(p, uint32(f.wire))
		b = append(b, block(6, append(p, f.data...))...)
	}
	return b
}

// analyzed runs the trace through the program; it must be read whole, and the
// classes must add up to all the TCP there is in it.
func (tr *trace) analyzed(t testing.TB, args ...string) *report {
	t.Helper()
	r := analyzed(t, []string{tr.save(t)}, args...)
	if got := r.summary.tcpBytes(); got != tr.tcp.bytes {
		t.Errorf("the classes add up to %d bytes of TCP, the trace has %d", got, tr.tcp.bytes)
	}
	if got := r.summary.Capture.Packets; got != uint64(len(tr.frames)) {
		t.Errorf("capture.packets is %d, the trace has %d", got, len(tr.frames))
	}
	if n := r.summary.undecoded(); n > 0 {
		t.Errorf("frames not decoded: %v", r.summary.Capture.Undecoded)
	}
	return r
}

// flows checks that there are records of these connections and no others, and
// that each says what is true. It returns them in the order of conns.
func (r *report) flows(t testing.TB, conns ...*conn) []record {
	t.Helper()
	if len(r.records) != len(conns) {
		t.Fatalf("%d records, want %d:\n%s", len(r.records), len(conns), r.lines)
	}
	found := make([]record, len(conns))
	for i, c := range conns {
		for _, rec := range r.find(c.client, c.server) {
			if rec.Start.UnixNano() == c.start {
				found[i] = rec
			}
		}
		if found[i].Start.IsZero() {
			t.Fatalf("no record of %v -> %v from %s on:\n%s", c.client, c.server, time.Unix(0, c.start).UTC(), r.lines)
		}
		c.wants(t, &found[i])
	}
	return found
}

// serverAt is another server's port 443.
func serverAt(last int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf("198.51.100.%d:443", last))
}

// savedAs writes a file for the program to read.
func savedAs(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
