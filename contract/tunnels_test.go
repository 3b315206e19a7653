package contract

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// wrapping puts an innermost IP packet into the frames that carry it.
type wrapping = func(ip []byte, up bool) [][]byte

// Ends of tunnels.
var (
	sgsn, ggsn   = netip.MustParseAddr("172.16.1.1"), netip.MustParseAddr("172.16.2.2")
	sgsn6, ggsn6 = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::2")
)

// between gives a tunnel's ends in the packet's direction.
func between(a, b netip.Addr, up bool) (src, dst netip.Addr) {
	if up {
		return a, b
	}
	return b, a
}

// inIP puts what carry makes of a packet into an outer IP packet.
func inIP(a, b netip.Addr, protocol byte, carry func(ip []byte, up bool) []byte) wrapping {
	id := uint16(0)
	return func(ip []byte, up bool) [][]byte {
		src, dst := between(a, b, up)
		id++
		outer := ipPacket(src, dst, protocol, id, carry(ip, up))
		return [][]byte{ethernet(etherType(outer), outer)}
	}
}

// gtp is a G-PDU with the TEID of its direction.
func gtp(flags byte, types []byte, extensions ...[]byte) func(ip []byte, up bool) []byte {
	return func(ip []byte, up bool) []byte {
		teid := uint32(0x1001)
		if up {
			teid = 0x2002
		}
		return udp(2152, 2152, gtpu(flags, teid, ip, types, extensions...))
	}
}

func inGTP(flags byte, types []byte, extensions ...[]byte) wrapping {
	return inIP(sgsn, ggsn, protocolUDP, gtp(flags, types, extensions...))
}

func inGTP6(flags byte, types []byte, extensions ...[]byte) wrapping {
	return inIP(sgsn6, ggsn6, protocolUDP, gtp(flags, types, extensions...))
}

// outerCut cuts the outermost IP packet of Ethernet frames into fragments.
func outerCut(wrap wrapping, size int) wrapping {
	id := uint32(0)
	return func(ip []byte, up bool) (frames [][]byte) {
		for _, f := range wrap(ip, up) {
			outer := f[14:]
			if len(outer) <= size {
				frames = append(frames, f)
				continue
			}
			id++
			cut := func(b []byte, size int) [][]byte { return fragments6(b, id, size) }
			if outer[0]>>4 == 4 {
				cut = fragments4
			}
			for _, piece := range cut(outer, size) {
				frames = append(frames, ethernet(etherType(piece), piece))
			}
		}
		return frames
	}
}

// onEthernet puts a payload with its EtherType on Ethernet.
func onEthernet(carry func(ip []byte) (uint16, []byte)) wrapping {
	return func(ip []byte, _ bool) [][]byte {
		t, payload := carry(ip)
		return [][]byte{ethernet(t, payload)}
	}
}

func plain(ip []byte, _ bool) []byte { return ip }

func greOf(flags uint16) func(ip []byte, up bool) []byte {
	return func(ip []byte, _ bool) []byte { return gre(flags, etherType(ip), ip) }
}

// protocolOf the inner packet, in an outer one's header.
func ipInIP(a, b netip.Addr) wrapping {
	return func(ip []byte, up bool) [][]byte {
		protocol := byte(4)
		if etherType(ip) == etherIPv6 {
			protocol = 41
		}
		return inIP(a, b, protocol, plain)(ip, up)
	}
}

// conversation is what all encapsulations carry: an answer, a connection that it
// names, one that its ClientHello names, and one without a name.
func conversation(tr *trace, client netip.Addr, server netip.AddrPort) (conns []*conn, wants []named) {
	other := netip.AddrPortFrom(server.Addr().Next(), 443)
	tr.answer(client, chatName, 300, server.Addr().String())
	tr.at(time.Second)
	chat := tr.conn(client, server).open().talk()
	photo := tr.conn(client, other).open().up(hello{sni: photoName, pad: 1000}.bytes()).down(make([]byte, 1400))
	chat.talk().close()
	return []*conn{chat, photo.close(), tr.conn(client, other).open().talk().reset(down)},
		[]named{chatBy("dns"), photoBy("sni"), unnamed}
}

func TestEncapsulations(t *testing.T) {
	in6 := netip.MustParseAddr("fd00:1:2:3::1")
	server6 := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
	session := []byte{1, 0x10, 9} // 5G PDU session container, one word: length, type, QFI
	long := []byte{2, 1, 2, 3, 4, 5, 6}
	mac := func(ip []byte, _ bool) []byte { return ethernet(etherType(ip), ip) }
	tests := []struct {
		says   string
		link   uint32
		wrap   wrapping
		tunnel string
	}{
		{"Ethernet", linkEthernet, plainEthernet, ""},
		{"VLAN", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) { return 0x8100, tag(5, etherType(ip), ip) }), ""},
		{"QinQ", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) {
			return 0x88a8, tag(421, 0x8100, tag(785, etherType(ip), ip))
		}), ""},
		{"three tags of old and new kinds", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) {
			return 0x9100, tag(1, 0x88a8, tag(2, 0x8100, tag(3, etherType(ip), ip)))
		}), ""},
		{"another VLAN each way", linkEthernet, func(ip []byte, up bool) [][]byte {
			id := uint16(11)
			if up {
				id = 12
			}
			return [][]byte{ethernet(0x8100, tag(id, etherType(ip), ip))}
		}, ""},
		{"MPLS", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) { return 0x8847, labels(ip, 16) }), ""},
		{"a stack of MPLS labels", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) { return 0x8847, labels(ip, 16, 17, 18) }), ""},
		{"an MPLS pseudowire", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) {
			return 0x8847, labels(join([]byte{0, 0, 0, 0}, ethernet(etherType(ip), ip)), 16)
		}), ""},
		{"VLAN and MPLS", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) {
			return 0x8100, tag(5, 0x8847, labels(ip, 16, 17))
		}), ""},
		{"PPPoE", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) { return 0x8864, pppoe(ip) }), ""},
		{"PPPoE in QinQ", linkEthernet, onEthernet(func(ip []byte) (uint16, []byte) {
			return 0x88a8, tag(421, 0x8100, tag(785, 0x8864, pppoe(ip)))
		}), ""},
		{"GRE", linkEthernet, inIP(sgsn, ggsn, 47, greOf(0)), ""},
		{"GRE with checksum, key and sequence number", linkEthernet, inIP(sgsn, ggsn, 47, greOf(0xb000)), ""},
		{"GRE over IPv6", linkEthernet, inIP(sgsn6, ggsn6, 47, greOf(0x2000)), ""},
		{"Ethernet in GRE", linkEthernet, inIP(sgsn, ggsn, 47, func(ip []byte, up bool) []byte { return gre(0, 0x6558, mac(ip, up)) }), ""},
		{"IP in IPv4", linkEthernet, ipInIP(sgsn, ggsn), ""},
		{"IP in IPv6", linkEthernet, ipInIP(sgsn6, ggsn6), ""},
		{"VXLAN", linkEthernet, inIP(sgsn, ggsn, protocolUDP, func(ip []byte, up bool) []byte {
			return udp(54321, 4789, vxlan(mac(ip, up)))
		}), ""},
		{"VXLAN over IPv6", linkEthernet, inIP(sgsn6, ggsn6, protocolUDP, func(ip []byte, up bool) []byte {
			return udp(54321, 4789, vxlan(mac(ip, up)))
		}), ""},
		{"GTP-U", linkEthernet, inGTP(0, nil), "gtp"},
		{"GTP-U over IPv6", linkEthernet, inGTP6(0, nil), "gtp"},
		{"GTP-U with a sequence number", linkEthernet, inGTP(2, nil), "gtp"},
		{"GTP-U with an N-PDU number", linkEthernet, inGTP(1, nil), "gtp"},
		{"GTP-U with both", linkEthernet, inGTP(3, nil), "gtp"},
		{"GTP-U with E and no extension header", linkEthernet, inGTP(4, nil), "gtp"},
		{"GTP-U with the 5G session container", linkEthernet, inGTP(4, []byte{0x85}, session), "gtp"},
		{"GTP-U with a chain of extension headers", linkEthernet, inGTP(7, []byte{0xc0, 0x85, 0x40}, []byte{1, 0, 0}, session, long), "gtp"},
		{"GTP-U in fragments", linkEthernet, outerCut(inGTP(2, nil), 480), "gtp"},
		{"GTP-U in fragments of IPv6", linkEthernet, outerCut(inGTP6(2, nil), 480), "gtp"},
		{"GTP-U in MPLS in QinQ", linkEthernet, func(ip []byte, up bool) [][]byte {
			outer := inGTP(2, nil)(ip, up)[0][14:]
			return [][]byte{ethernet(0x88a8, tag(1, 0x8100, tag(2, 0x8847, labels(outer, 16, 17))))}
		}, "gtp"},
		{"GTP-U in GTP-U", linkEthernet, func(ip []byte, up bool) [][]byte {
			inner := inIP(sgsn6, ggsn6, protocolUDP, gtp(0, nil))(ip, up)[0][14:]
			return inGTP(0, nil)(inner, up)
		}, "gtp"},
		{"cooked", linkSLL, func(ip []byte, _ bool) [][]byte { return [][]byte{sll(etherType(ip), ip)} }, ""},
		{"cooked with a VLAN", linkSLL, func(ip []byte, _ bool) [][]byte {
			return [][]byte{sll(0x8100, tag(5, etherType(ip), ip))}
		}, ""},
		{"cooked, second version", linkSLL2, func(ip []byte, _ bool) [][]byte { return [][]byte{sll2(etherType(ip), ip)} }, ""},
		{"cooked GTP-U", linkSLL, func(ip []byte, up bool) [][]byte {
			return [][]byte{sll(etherIPv4, inGTP(0, nil)(ip, up)[0][14:])}
		}, "gtp"},
		{"raw IP", linkRaw, func(ip []byte, _ bool) [][]byte { return [][]byte{ip} }, ""},
		{"raw IP under BSD's number", 12, func(ip []byte, _ bool) [][]byte { return [][]byte{ip} }, ""},
		{"loopback, little-endian", linkNull, loopback(binary.LittleEndian), ""},
		{"loopback, big-endian", linkNull, loopback(binary.BigEndian), ""},
		{"OpenBSD's loopback", linkLoop, loopback(binary.BigEndian), ""},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			carries(t, tt.link, tt.wrap, tt.tunnel, alice, server)
		})
		t.Run(tt.says+", IPv6 inside", func(t *testing.T) {
			t.Parallel()
			carries(t, tt.link, tt.wrap, tt.tunnel, in6, server6)
		})
	}
	for _, tt := range []struct {
		link   uint32
		client netip.Addr
		server netip.AddrPort
	}{{linkIPv4, alice, server}, {linkIPv6, in6, server6}} {
		carries(t, tt.link, func(ip []byte, _ bool) [][]byte { return [][]byte{ip} }, "", tt.client, tt.server)
	}
}

func loopback(order binary.AppendByteOrder) wrapping {
	return func(ip []byte, _ bool) [][]byte {
		family := uint32(2)
		if etherType(ip) == etherIPv6 {
			family = 30
		}
		return [][]byte{join(order.AppendUint32(nil, family), ip)}
	}
}

// carries checks that the conversation gives the records that are true, and so
// the same for every encapsulation but for the tunnel.
func carries(t *testing.T, link uint32, wrap wrapping, tunnel string, client netip.Addr, server netip.AddrPort) {
	t.Helper()
	tr := newTrace()
	tr.link, tr.wrap = link, wrap
	conns, wants := conversation(tr, client, server)
	r := tr.analyzed(t)
	for i, rec := range r.flows(t, conns...) {
		rec.namedAs(t, wants[i])
		if got := text(rec.Tunnel); got != tunnel {
			t.Errorf("%s: tunnel is %q, want %q", &rec, got, tunnel)
		}
	}
	if d := r.summary.DNS; d.Responses != 1 || d.Addresses != 1 {
		t.Errorf("dns is %+v, want one response with one address", d)
	}
}

// TestHandover: TEIDs and the access node change, the subscriber and his flows
// stay.
func TestHandover(t *testing.T) {
	prove(t, []rule{{"in mid-flow", nil, func(tr *trace) []verdict {
		tr.wrap = inGTP(0, nil)
		tr.answer(alice, chatName, 300, server.Addr().String())
		c := tr.at(time.Second).conn(alice, server).open().talk()
		moved := func(ip []byte, up bool) []byte {
			teid := uint32(0x3003)
			if up {
				teid = 0x4004
			}
			return udp(2152, 2152, gtpu(0, teid, ip, nil))
		}
		tr.wrap = inIP(netip.MustParseAddr("172.16.1.99"), ggsn, protocolUDP, moved)
		c.talk().close()
		return []verdict{c.is(chatBy("dns")), tr.conn(alice, server).whole().is(chatBy("dns"))}
	}}})
}

// TestAccessPoints: what the summary says of each access point is the sum of its
// flows' records, and what no --apn names is in one line.
func TestAccessPoints(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gn.pcapng")
	o := execute(t, nil, "synth", "--encapsulation", "gtpu", "--duration", "3m", "--subscribers-count", "300", "-o", file)
	if o.code != 0 {
		t.Fatalf("synth: %s", o.stderr)
	}
	r := analyzed(t, []string{file}, "--apn", "a1.net", "--apn", "INTERNET")
	want := []accessPoint{{APN: "unknown"}, {APN: "other"}, {APN: "a1.net"}, {APN: "INTERNET"}}
	places := map[string]int{"": 0, "wap.operator.example": 1, "a1.net": 2, "internet": 3}
	for i := range r.records {
		place, known := places[text(r.records[i].APN)]
		if !known {
			t.Fatalf("%v: a flow of the access point %q", &r.records[i], text(r.records[i].APN))
		}
		want[place].add(&r.records[i])
	}
	if got := r.summary.Tunnels.AccessPoints; !slices.Equal(got, want) {
		t.Errorf("the summary has\n%v\nthe records have\n%v", got, want)
	}
	for _, a := range want {
		if a.Flows == 0 {
			t.Errorf("no flow of %q: this shows nothing", a.APN)
		}
	}

	table := execute(t, nil, "analyze", "--apn", "a1.net", file)
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^ +a1\.net +%d `, want[2].Flows))
	if !line.Match(table.stdout) {
		t.Errorf("no line %v in\n%s", line, table.stdout)
	}
}

// add counts a flow's record.
func (a *accessPoint) add(r *record) {
	a.Flows++
	a.UplinkBytes += r.UplinkBytes
	a.DownlinkBytes += r.DownlinkBytes
	a.UplinkPackets += r.UplinkPackets
	a.DownlinkPackets += r.DownlinkPackets
	a.SYN += r.SYN
	a.SYNACK += r.SYNACK
	a.RST += r.RST
}

// TestWhatLooksLikeATunnelButIsNone stays the UDP that it is.
func TestWhatLooksLikeATunnelButIsNone(t *testing.T) {
	inner := ipPacket(alice, server.Addr(), protocolTCP, 1, (&segment{flags: syn}).bytes(40000, 443))
	for says, payload := range map[string][]byte{
		"an echo request":             {0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0},
		"an end marker":               {0x30, 254, 0, 0, 0, 0, 0, 9},
		"GTP version 2":               join([]byte{0x48, 255, 0, byte(len(inner)), 0, 0, 0, 1}, inner),
		"GTP'":                        join([]byte{0x20, 255, 0, byte(len(inner)), 0, 0, 0, 1}, inner),
		"nothing of the kind":         []byte("hello, is this port 2152?"),
		"shorter than its own header": {0x30, 255, 0},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			c := tr.conn(alice, server).whole()
			tr.datagram(netip.AddrPortFrom(sgsn, 2152), netip.AddrPortFrom(ggsn, 2152), payload, true)
			tr.analyzed(t).flows(t, c)
		})
	}
}

// TestFormats: one trace gives the same records, byte for byte, and the same
// summary from every file format.
func TestFormats(t *testing.T) {
	tr := newTrace()
	conns, _ := conversation(tr, alice, server)
	file := tr.pcap(binary.LittleEndian, true)
	reference := analyzed(t, []string{saved(t, file)})
	reference.flows(t, conns...)
	zipped := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(b)
		_ = w.Close()
		return out.Bytes()
	}
	squeezed := func(b []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	}
	formats := map[string][]byte{
		"pcap, ns, little-endian":    file,
		"pcap, ns, big-endian":       tr.pcap(binary.BigEndian, true),
		"pcap, µs, little-endian":    tr.pcap(binary.LittleEndian, false), // the trace's steps are whole microseconds
		"pcap, µs, big-endian":       tr.pcap(binary.BigEndian, false),
		"pcapng, little-endian":      tr.pcapng(binary.LittleEndian),
		"pcapng, big-endian":         tr.pcapng(binary.BigEndian),
		"pcap.gz":                    zipped(file),
		"pcap.zst":                   squeezed(file),
		"pcapng.gz":                  zipped(tr.pcapng(binary.LittleEndian)),
		"pcapng.zst":                 squeezed(tr.pcapng(binary.BigEndian)),
		"pcap.gz of several pieces":  join(zipped(file[:500]), zipped(file[500:])),
		"pcap.zst of several frames": join(squeezed(file[:500]), squeezed(file[500:])),
	}
	for says, b := range formats {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			r := analyzed(t, []string{saved(t, b)})
			if !bytes.Equal(r.lines, reference.lines) {
				t.Errorf("records\n%s\nwant\n%s", r.lines, reference.lines)
			}
			if !bytes.Equal(r.stdout, reference.stdout) {
				t.Errorf("summary\n%s\nwant\n%s", r.stdout, reference.stdout)
			}
		})
		t.Run(says+", standard input", func(t *testing.T) {
			t.Parallel()
			o := execute(t, bytes.NewReader(b), "analyze", "--subscriber-ids", "address", "--flows", "-", "-")
			if o.code != 0 || len(o.stderr) > 0 || !bytes.Equal(o.stdout, reference.lines) {
				t.Errorf("exit status %d, stderr %q, records\n%s\nwant\n%s", o.code, o.stderr, o.stdout, reference.lines)
			}
		})
	}
}

// TestFirstAndLast are the earliest and the latest packet time, in whatever order
// frames were written.
func TestFirstAndLast(t *testing.T) {
	tr := newTrace()
	c := tr.at(2*time.Second).conn(alice, server).whole()
	d := tr.at(time.Second).conn(bob, server).whole()
	r := tr.analyzed(t)
	r.flows(t, c, d)
	first, last := time.Unix(0, d.start).UTC(), time.Unix(0, c.end).UTC()
	if s := r.summary.Capture; !s.First.Equal(first) || !s.Last.Equal(last) {
		t.Errorf("first %v and last %v, want %v and %v", s.First, s.Last, first, last)
	}
}

// TestSummaryOfTheCapture: packets, bytes on the wire with the link layer, first
// and last packet time.
func TestSummaryOfTheCapture(t *testing.T) {
	tr := newTrace()
	tr.cut = 100
	conversation(tr, alice, server)
	wire := uint64(0)
	for _, f := range tr.frames {
		wire += uint64(f.wire)
	}
	s := tr.analyzed(t).summary.Capture
	first, last := time.Unix(0, tr.frames[0].at).UTC(), time.Unix(0, tr.frames[len(tr.frames)-1].at).UTC()
	if s.Files != 1 || s.Bytes != wire || s.First == nil || !s.First.Equal(first) || s.Last == nil || !s.Last.Equal(last) || s.Truncated {
		b, _ := json.Marshal(s)
		t.Errorf("capture is %s, want 1 file, %d bytes, %v to %v", b, wire, first, last)
	}
}
