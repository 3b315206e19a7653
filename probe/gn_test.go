package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
)

// gn builds what passes a tap on Gn: control messages, and users' packets in
// tunnels.
type gn struct {
	t    *testing.T
	now  int64
	list []capture.Frame
	seq  uint32
	ids  uint16
}

func newGn(t *testing.T) *gn { return &gn{t: t, now: 1_700_000_000 * second} }

func (g *gn) wait(d time.Duration) *gn {
	g.now += int64(d)
	return g
}

func (g *gn) frame(packet []byte) {
	g.list = append(g.list, capture.Frame{Data: packet, Time: g.now, WireLen: uint32(len(packet)), Link: decode.LinkRaw})
	g.now += 100_000
}

func serialize(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// ip returns the network layer between two addresses, of one family.
func (g *gn) ip(src, dst string, protocol layers.IPProtocol) gopacket.SerializableLayer {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	g.ids++
	if a.Is4() {
		return &layers.IPv4{Version: 4, TTL: 60, Id: g.ids, Protocol: protocol, SrcIP: a.AsSlice(), DstIP: b.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 60, NextHeader: protocol, SrcIP: a.AsSlice(), DstIP: b.AsSlice()}
}

func (g *gn) udp(src, dst string, sport, dport int, payload []byte) []byte {
	ip := g.ip(src, dst, layers.IPProtocolUDP)
	u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	if err := u.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		g.t.Fatal(err)
	}
	return serialize(g.t, ip, u, gopacket.Payload(payload))
}

func (g *gn) tcp(src, dst string, sport, dport int, flags string, seq, ack uint32, payload string) []byte {
	ip := g.ip(src, dst, layers.IPProtocolTCP)
	s := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq, Ack: ack, Window: 1000}
	for _, f := range flags {
		switch f {
		case 'S':
			s.SYN = true
		case 'A':
			s.ACK = true
		case 'F':
			s.FIN = true
		case 'R':
			s.RST = true
		}
	}
	if err := s.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		g.t.Fatal(err)
	}
	return serialize(g.t, ip, s, gopacket.Payload(payload))
}

func (g *gn) answer(resolver, client, name, address string, ttl uint32) []byte {
	m := new(dns.Msg)
	kind := dns.TypeA
	if netip.MustParseAddr(address).Is6() {
		kind = dns.TypeAAAA
	}
	m.SetQuestion(name+".", kind)
	m.Response = true
	rr, err := dns.NewRR(fmt.Sprintf("%s. %d IN %s %s", name, ttl, dns.TypeToString[kind], address))
	if err != nil {
		g.t.Fatal(err)
	}
	m.Answer = append(m.Answer, rr)
	b, err := m.Pack()
	if err != nil {
		g.t.Fatal(err)
	}
	return g.udp(resolver, client, 53, 4000, b)
}

// tunnel puts a user's packet into a G-PDU (TS 29.281 section 5.1).
func (g *gn) tunnel(from, to string, teid uint32, inner []byte) {
	h := []byte{0x30, 255, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(len(inner)))
	binary.BigEndian.PutUint32(h[4:], teid)
	g.frame(g.udp(from, to, 2152, 2152, append(h, inner...)))
}

// Messages of GTPv2-C (TS 29.274 section 5), just enough of them.
func (g *gn) control(from, to string, typ byte, teid uint32, ies ...[]byte) {
	body := slices.Concat(ies...)
	b := []byte{0x48, typ, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(body)+8))
	binary.BigEndian.PutUint32(b[4:], teid)
	binary.BigEndian.PutUint32(b[8:], g.seq<<8)
	g.frame(g.udp(from, to, 2123, 2123, append(b, body...)))
}

func ie(typ, instance byte, v ...byte) []byte {
	return append([]byte{typ, byte(len(v) >> 8), byte(len(v)), instance}, v...)
}

func fteid(instance, kind byte, teid uint32, address string) []byte {
	a := netip.MustParseAddr(address).AsSlice()
	family := byte(0x80)
	if len(a) == 16 {
		family = 0x40
	}
	return ie(87, instance, slices.Concat([]byte{family | kind}, binary.BigEndian.AppendUint32(nil, teid), a)...)
}

func bcd(typ byte, digits string) []byte {
	var b []byte
	for i := 0; i < len(digits); i += 2 {
		o := byte(0xf0)
		if i+1 < len(digits) {
			o = (digits[i+1] - '0') << 4
		}
		b = append(b, o|(digits[i]-'0'))
	}
	return ie(typ, 0, b...)
}

// session is one subscriber's on S5/S8.
type session struct {
	g          *gn
	imsi, apn  string
	sgw, pgw   string
	up, down   uint32 // user plane
	upC, downC uint32 // control plane
	v4, v6     string
}

// attach makes a session: Create Session Request and Response.
func (g *gn) attach(imsi, apn, v4, v6 string, teid uint32) *session {
	s := &session{g: g, imsi: imsi, apn: apn, sgw: "192.0.2.1", pgw: "192.0.2.2", up: teid, down: teid + 1, upC: teid + 2, downC: teid + 3, v4: v4, v6: v6}
	g.seq++
	var name []byte
	for _, label := range bytes.Split([]byte(apn), []byte{'.'}) {
		name = append(append(name, byte(len(label))), label...)
	}
	ebi := ie(73, 0, 5)
	g.control(s.sgw, s.pgw, 32, 0, bcd(1, imsi), bcd(75, "3533110512345678"), ie(71, 0, name...), ie(82, 0, 6),
		fteid(0, 6, s.downC, s.sgw), ie(93, 0, slices.Concat(ebi, fteid(2, 4, s.down, s.sgw))...))
	g.wait(10 * time.Millisecond)
	var paa []byte
	switch {
	case v6 == "":
		paa = append([]byte{1}, netip.MustParseAddr(v4).AsSlice()...)
	case v4 == "":
		paa = append([]byte{2, 64}, netip.MustParseAddr(v6).AsSlice()...)
	default:
		paa = slices.Concat([]byte{3, 64}, netip.MustParseAddr(v6).AsSlice(), netip.MustParseAddr(v4).AsSlice())
	}
	accepted := ie(2, 0, 16, 0)
	g.control(s.pgw, s.sgw, 33, s.downC, accepted, fteid(1, 7, s.upC, s.pgw), ie(79, 0, paa...),
		ie(93, 0, slices.Concat(ebi, accepted, fteid(2, 5, s.up, s.pgw))...))
	g.wait(10 * time.Millisecond)
	return s
}

// moves to another SGW: Modify Bearer Request and Response.
func (s *session) handover(sgw string, down uint32) {
	g := s.g
	g.seq++
	s.sgw, s.down, s.downC = sgw, down, down+7
	ebi := ie(73, 0, 5)
	g.control(s.sgw, s.pgw, 34, s.upC, fteid(0, 6, s.downC, s.sgw), ie(93, 0, slices.Concat(ebi, fteid(1, 4, s.down, s.sgw))...))
	g.wait(5 * time.Millisecond)
	g.control(s.pgw, s.sgw, 35, s.downC, ie(2, 0, 16, 0), ie(93, 0, slices.Concat(ebi, ie(2, 0, 16, 0))...))
	g.wait(5 * time.Millisecond)
}

func (s *session) detach() {
	g := s.g
	g.seq++
	g.control(s.sgw, s.pgw, 36, s.upC, ie(73, 0, 5))
	g.wait(5 * time.Millisecond)
	g.control(s.pgw, s.sgw, 37, s.downC, ie(2, 0, 16, 0))
	g.wait(5 * time.Second)
}

func (s *session) uplink(inner []byte)   { s.g.tunnel(s.sgw, s.pgw, s.up, inner) }
func (s *session) downlink(inner []byte) { s.g.tunnel(s.pgw, s.sgw, s.down, inner) }

func (s *session) asks(name, address string) {
	s.downlink(s.g.answer("198.51.100.53", s.v4, name, address, 60))
	s.g.wait(20 * time.Millisecond)
}

// connects runs a short connection from the session's address of the server's
// family.
func (s *session) connects(server string, port int) {
	from := s.v4
	if netip.MustParseAddr(server).Is6() {
		from = s.v6
	}
	g := s.g
	s.uplink(g.tcp(from, server, port, 5222, "S", 1000, 0, ""))
	g.wait(50 * time.Millisecond)
	s.downlink(g.tcp(server, from, 5222, port, "SA", 9000, 1001, ""))
	g.wait(30 * time.Millisecond)
	s.uplink(g.tcp(from, server, port, 5222, "A", 1001, 9001, ""))
	s.uplink(g.tcp(from, server, port, 5222, "A", 1001, 9001, "hello"))
	g.wait(50 * time.Millisecond)
	s.downlink(g.tcp(server, from, 5222, port, "A", 9001, 1006, "world"))
	g.wait(30 * time.Millisecond)
}

// run returns the records of the frames, in order, and the last snapshot.
func run(t *testing.T, list []capture.Frame, change func(*Config)) ([]flows.Record, *Snapshot) {
	t.Helper()
	cfg := config(2)
	cfg.Dedup = 5 * time.Millisecond
	cfg.Hash = func(d gtp.Digits) string { return "hashed " + string(d.AppendDigits(nil)) }
	var records []flows.Record
	cfg.Records = func(r []flows.Record) { records = append(records, r...) }
	if change != nil {
		change(&cfg)
	}
	e := newEngine(t, cfg)
	if err := e.Run(context.Background(), &memory{frames: list, batch: 64}); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(records, func(a, b flows.Record) int {
		x, y := a.Order(), b.Order()
		return x.Compare(&y)
	})
	return records, e.Snapshot()
}

// says is what a test compares of a record.
func says(r *flows.Record) string {
	return fmt.Sprintf("%s:%d %s %s %s/%s apn=%s imsi=%s", r.Key.Subscriber.Netip(), r.Key.SubscriberPort, r.Evidence, r.Name, r.App, r.Class, r.APN, r.IMSI)
}

func expect(t *testing.T, records []flows.Record, want ...string) {
	t.Helper()
	var got []string
	for i := range records {
		got = append(got, says(&records[i]))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("records:\n%v\nwant:\n%v", got, want)
	}
}

const server, other = "31.13.86.51", "157.240.20.53"

func TestGnIdentity(t *testing.T) {
	g := newGn(t)
	a := g.attach("001010000000001", "internet", "10.0.0.1", "", 100)
	a.asks("e1.whatsapp.net", server)
	a.connects(server, 40000)
	records, s := run(t, g.list, func(c *Config) { c.OSOf = func(tac string) string { return map[string]string{"35331105": "ios"}[tac] } })
	expect(t, records, "10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn=internet imsi=hashed 001010000000001")
	r := records[0]
	if r.TAC != "35331105" || r.OSName != "ios" || r.Tunnel != decode.TunnelGTP || r.Packets != [2]uint64{3, 2} {
		t.Errorf("TAC %s, system %s, tunnel %s, packets %v", r.TAC, r.OSName, r.Tunnel, r.Packets)
	}
	if s.GTP.Sessions != 1 || s.GTP.Anonymous != 0 || s.GTP.Identified != 6 {
		t.Errorf("%d sessions, %d packets identified, %d not", s.GTP.Sessions, s.GTP.Identified, s.GTP.Anonymous)
	}
}

// Two access points hand out the same addresses: no name crosses.
func TestGnSameAddressInTwoAPNs(t *testing.T) {
	g := newGn(t)
	a := g.attach("001010000000001", "internet", "10.0.0.1", "", 100)
	b := g.attach("001010000000002", "corporate", "10.0.0.1", "", 200)
	a.asks("e1.whatsapp.net", server)
	b.asks("mail.example.com", server)
	a.connects(server, 40000)
	b.connects(server, 40000)
	records, s := run(t, g.list, func(c *Config) { c.APNs = []string{"corporate"} })
	expect(t, records,
		"10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn=internet imsi=hashed 001010000000001",
		"10.0.0.1:40000 dns mail.example.com other/other apn=corporate imsi=hashed 001010000000002")
	for _, apn := range s.GTP.APNs {
		if want := map[string]uint64{"unknown": 0, "other": 5, "corporate": 5}[apn.Name]; apn.Packets[0]+apn.Packets[1] != want {
			t.Errorf("APN %s: %d packets, want %d", apn.Name, apn.Packets[0]+apn.Packets[1], want)
		}
	}
}

// A handset asks over IPv4 for the IPv6 address that it then uses.
func TestGnDualStackIsOneSubscriber(t *testing.T) {
	g := newGn(t)
	a := g.attach("001010000000001", "internet", "10.0.0.1", "2001:db8:1:2::", 100)
	a.v6 = "2001:db8:1:2::77"
	const server6 = "2a03:2880:f200::51"
	a.downlink(g.answer("198.51.100.53", "10.0.0.1", "mmv7.whatsapp.net", server6, 60))
	a.connects(server6, 40000)
	records, s := run(t, g.list, nil)
	expect(t, records, "2001:db8:1:2::77:40000 dns mmv7.whatsapp.net whatsapp/video apn=internet imsi=hashed 001010000000001")
	for _, c := range s.Classes {
		if c.Class == "video" && c.Subscribers != 1 {
			t.Errorf("%d subscribers", c.Subscribers)
		}
	}
}

// The tunnel changes in the middle of a connection; the connection does not.
func TestGnHandover(t *testing.T) {
	g := newGn(t)
	a := g.attach("001010000000001", "internet", "10.0.0.1", "", 100)
	a.asks("e1.whatsapp.net", server)
	a.connects(server, 40000)
	a.handover("192.0.2.77", 7000)
	a.uplink(g.tcp(a.v4, server, 40000, 5222, "A", 1006, 9006, "again"))
	a.downlink(g.tcp(server, a.v4, 5222, 40000, "A", 9006, 1011, "yes"))
	records, _ := run(t, g.list, nil)
	expect(t, records, "10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn=internet imsi=hashed 001010000000001")
	if records[0].Packets != [2]uint64{4, 3} {
		t.Errorf("packets %v", records[0].Packets)
	}
}

// The address goes to somebody else, who inherits neither names nor flows.
func TestGnAddressReused(t *testing.T) {
	g := newGn(t)
	a := g.attach("001010000000001", "internet", "10.0.0.1", "", 100)
	a.asks("e1.whatsapp.net", server)
	a.connects(server, 40000)
	a.detach()
	b := g.attach("001010000000002", "internet", "10.0.0.1", "", 300)
	b.connects(server, 40000)
	// What all others were told is still evidence; only the former owner's own
	// answer must not be.
	records, _ := run(t, g.list, func(c *Config) { c.Cascade = c.Cascade[:3] })
	expect(t, records,
		"10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn=internet imsi=hashed 001010000000001",
		"10.0.0.1:40000 none  other/other apn=internet imsi=hashed 001010000000002")
}

// Without a control plane the gateway tells equal addresses apart.
func TestGnWithoutControlPlane(t *testing.T) {
	g := newGn(t)
	a := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.2", up: 1, down: 2, v4: "10.0.0.1"}
	b := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.3", up: 1, down: 2, v4: "10.0.0.1"}
	a.asks("e1.whatsapp.net", server)
	b.asks("mail.example.com", server)
	a.connects(server, 40000)
	b.connects(server, 40000)
	records, s := run(t, g.list, nil)
	expect(t, records, "10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn= imsi=", "10.0.0.1:40000 dns mail.example.com other/other apn= imsi=")
	if s.GTP.Gateways != 2 || s.GTP.Identified != 0 {
		t.Errorf("%d gateways, %d packets identified", s.GTP.Gateways, s.GTP.Identified)
	}
}

// Each packet passes on S1-U and again on S5/S8: it counts once, and both
// tunnels are one subscriber's.
func TestGnTwoTapPoints(t *testing.T) {
	g := newGn(t)
	near := &session{g: g, sgw: "192.0.2.9", pgw: "192.0.2.1", up: 11, down: 12, v4: "10.0.0.1"}
	far := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.2", up: 1, down: 2, v4: "10.0.0.1"}
	up := func(inner []byte) { near.uplink(inner); far.uplink(inner) }
	down := func(inner []byte) { far.downlink(inner); near.downlink(inner) }
	up(g.udp("10.0.0.1", "198.51.100.53", 4000, 53, make([]byte, 20)))
	down(g.answer("198.51.100.53", "10.0.0.1", "e1.whatsapp.net", server, 60))
	g.wait(20 * time.Millisecond)
	up(g.tcp("10.0.0.1", server, 40000, 5222, "S", 1000, 0, ""))
	g.wait(50 * time.Millisecond)
	down(g.tcp(server, "10.0.0.1", 5222, 40000, "SA", 9000, 1001, ""))
	g.wait(30 * time.Millisecond)
	up(g.tcp("10.0.0.1", server, 40000, 5222, "A", 1001, 9001, "hello"))
	records, s := run(t, g.list, nil)
	expect(t, records, "10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn= imsi=")
	if r := records[0]; r.Packets != [2]uint64{2, 1} || r.Retransmitted != [2]uint32{} || r.RTTHandshake[0] < 49_000 {
		t.Errorf("packets %v, retransmitted %v, handshake %v", r.Packets, r.Retransmitted, r.RTTHandshake)
	}
	if s.Duplicates != 5 || s.DNS.Responses != 1 || s.DNS.Queries != 1 {
		t.Errorf("%d copies, %d answers, %d queries", s.Duplicates, s.DNS.Responses, s.DNS.Queries)
	}
	records, s = run(t, g.list, func(c *Config) { c.Dedup = 0 })
	var packets uint64
	for _, r := range records {
		packets += r.Packets[0] + r.Packets[1]
	}
	if packets != 6 || s.Duplicates != 0 {
		t.Errorf("with copies counted: %d packets, %d copies", packets, s.Duplicates)
	}
}

// Each packet passes in a tunnel and again bare, beyond the gateway: it counts once,
// and what comes from there is the same subscriber's, though it is bare at first.
func TestGnAndBeyondTheGateway(t *testing.T) {
	g := newGn(t)
	s := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.2", up: 1, down: 2, v4: "10.0.0.1"}
	up := func(inner []byte) { s.uplink(inner); g.frame(inner) }
	down := func(inner []byte) { g.frame(inner); s.downlink(inner) }
	up(g.tcp("10.0.0.1", server, 40000, 5222, "S", 1000, 0, ""))
	g.wait(50 * time.Millisecond)
	down(g.tcp(server, "10.0.0.1", 5222, 40000, "SA", 9000, 1001, ""))
	g.wait(30 * time.Millisecond)
	up(g.tcp("10.0.0.1", server, 40000, 5222, "A", 1001, 9001, "hello"))
	records, snapshot := run(t, g.list, nil)
	expect(t, records, "10.0.0.1:40000 none  other/other apn= imsi=")
	if r := records[0]; r.Packets != [2]uint64{2, 1} || snapshot.Duplicates != 3 {
		t.Errorf("packets %v, %d copies", r.Packets, snapshot.Duplicates)
	}
}

// The same, where what goes up is never seen bare: the server is the gateway's own.
func TestGnWithAServerOnTheGateway(t *testing.T) {
	g := newGn(t)
	s := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.2", up: 1, down: 2, v4: "10.0.0.1"}
	s.uplink(g.tcp("10.0.0.1", server, 40000, 5222, "S", 1000, 0, ""))
	g.wait(50 * time.Millisecond)
	s.downlink(g.tcp(server, "10.0.0.1", 5222, 40000, "SA", 9000, 1001, ""))
	g.wait(30 * time.Millisecond)
	s.uplink(g.tcp("10.0.0.1", server, 40000, 5222, "A", 1001, 9001, "hello"))
	data := g.tcp(server, "10.0.0.1", 5222, 40000, "A", 9001, 1006, "world")
	g.frame(data)
	s.downlink(data)
	records, _ := run(t, g.list, nil)
	expect(t, records, "10.0.0.1:40000 none  other/other apn= imsi=")
	if r := records[0]; r.Packets != [2]uint64{2, 2} {
		t.Errorf("packets %v", r.Packets)
	}
}

// Whoever sends a datagram that looks like a G-PDU with a user's address inside
// moves none of that user's bare packets elsewhere.
func TestForgedTunnel(t *testing.T) {
	g := newGn(t)
	user := "10.0.0.1"
	g.frame(g.answer("198.51.100.53", user, "e1.whatsapp.net", server, 3600))
	g.frame(g.tcp(user, server, 40000, 5222, "S", 1000, 0, ""))
	g.frame(g.tcp(server, user, 5222, 40000, "SA", 9000, 1001, ""))
	g.tunnel("10.0.0.66", "198.51.100.9", 1, g.tcp(user, other, 1, 2, "A", 1, 1, ""))
	g.wait(time.Second).frame(g.tcp(user, server, 40000, 5222, "A", 1001, 9001, "hello"))
	g.wait(time.Second).frame(g.tcp(user, server, 40001, 5222, "S", 1000, 0, ""))
	g.frame(g.tcp(user, server, 40001, 5222, "A", 1001, 9001, "hello"))
	records, _ := run(t, g.list, nil)
	expect(t, records,
		"10.0.0.1:1 none  other/other apn= imsi=",
		"10.0.0.1:40000 dns e1.whatsapp.net whatsapp/chat apn= imsi=",
		"10.0.0.1:40001 dns e1.whatsapp.net whatsapp/chat apn= imsi=")
}

// Forged tunnels whose packets show one gateway behind the other make a chain of
// all there are: to find its beginning takes a few steps, not all of them.
func TestChainOfGateways(t *testing.T) {
	g, err := newGateways(64)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxGateways {
		g.at(decode.Addr{Lo: uint64(i + 1)})
	}
	for n := uint32(maxGateways); n > 1; n-- {
		g.parent[n] = n - 1
	}
	far := func() (steps int) {
		for n := uint32(maxGateways); g.parent[n] != n; n = g.parent[n] {
			steps++
		}
		return steps
	}
	for range 12 {
		if root := g.root(maxGateways); root != 1 {
			t.Fatalf("root %d", root)
		}
	}
	if far() > 1 {
		t.Errorf("still %d steps after 12 packets", far())
	}
}

// A gateway that turns out to be another name of one met before has the scope of
// that one from then on, whether or not it was just looked up.
func TestGatewaysThatAreOne(t *testing.T) {
	g, err := newGateways(64)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n uint64) uint32 { return g.at(decode.Addr{Lo: n}).number }
	scope := func(n uint64) uint32 { return g.scope(g.at(decode.Addr{Lo: n}), 7, flows.Up) }
	one, two, three := number(1), number(2), number(3)
	for _, c := range []struct {
		what string
		do   func()
		want [3]uint32
	}{
		{"apart", func() {}, [3]uint32{one, two, three}},
		{"three is two", func() { g.same(three, two) }, [3]uint32{one, two, two}},
		{"known already", func() { g.same(three, two) }, [3]uint32{one, two, two}},
		{"three, and so two, is one", func() { g.same(three, one) }, [3]uint32{one, one, one}},
	} {
		c.do()
		for i, want := range c.want {
			if got := scope(uint64(i + 1)); got != gatewayScope|want {
				t.Errorf("%s: gateway %d has scope %x, want %x", c.what, i+1, got, gatewayScope|want)
			}
		}
	}
}

// Once an address is known to be behind a gateway, a packet in another one's tunnel
// takes it away from there only if it is seen bare as well.
func TestGatewayKeepsItsSubscribers(t *testing.T) {
	g, err := newGateways(1 << 10)
	if err != nil {
		t.Fatal(err)
	}
	one, two := *g.at(decode.Addr{Lo: 1}), *g.at(decode.Addr{Lo: 2})
	const prefix = 7
	for _, c := range []struct {
		what string
		do   func()
		want uint32
	}{
		{"nothing", func() {}, 0},
		{"up", func() { g.scope(&one, prefix, flows.Up) }, 0},
		{"down", func() { g.scope(&one, prefix, flows.Down) }, gatewayScope | one.number},
		{"up in another tunnel", func() { g.scope(&two, prefix, flows.Up) }, gatewayScope | one.number},
		{"down in another tunnel", func() { g.scope(&two, prefix, flows.Down) }, gatewayScope | one.number},
		{"bare as well", func() { g.bare(two.number, prefix) }, gatewayScope | two.number},
	} {
		if c.do(); g.owner(prefix) != c.want {
			t.Errorf("%s: bare packets are in scope %x, want %x", c.what, g.owner(prefix), c.want)
		}
	}
}

// inHeader gives p a TCP header that says what its fields say, with the checksum
// that it has.
func inHeader(p *decode.Packet) {
	b := make([]byte, len(p.Transport))
	copy(b[16:], p.Transport[16:])
	binary.BigEndian.PutUint16(b, p.SrcPort)
	binary.BigEndian.PutUint16(b[2:], p.DstPort)
	binary.BigEndian.PutUint32(b[4:], p.Seq)
	binary.BigEndian.PutUint32(b[8:], p.Ack)
	b[13] = p.Flags
	binary.BigEndian.PutUint16(b[14:], p.Window)
	p.Transport = b
}

// A true repeat is never taken for a copy.
func TestDedup(t *testing.T) {
	base := decode.Packet{
		Time: 1000 * second, Src: addr("10.0.0.1"), Dst: addr(server), SrcPort: 40000, DstPort: 443, Protocol: decode.ProtocolTCP,
		Flags: decode.ACK, Seq: 7, Ack: 8, TTL: 60, IPID: 77, IPBytes: 1400, PayloadLen: 1348, HasTimestamps: true, TSval: 5, TSecr: 6,
		Transport: make([]byte, 40),
	}
	for _, c := range []struct {
		name   string
		change func(*decode.Packet)
		port   uint16
		want   bool
	}{
		{"the same again", func(*decode.Packet) {}, 0, true},
		{"on another port", func(*decode.Packet) {}, 1, true},
		{"one hop further", func(p *decode.Packet) { p.TTL-- }, 0, true},
		{"in another tunnel", func(p *decode.Packet) { p.Tunnel, p.TEID = decode.TunnelGTP, 9 }, 0, true},
		{"at the window's end", func(p *decode.Packet) { p.Time += 4_900_000 }, 0, true},
		{"later", func(p *decode.Packet) { p.Time += 6_000_000 }, 0, false},
		{"a little earlier: the ports are not in step", func(p *decode.Packet) { p.Time -= 1_000_000 }, 1, true},
		{"much later, where the clock of the table comes round", func(p *decode.Packet) { p.Time += 1024 << 32 }, 0, true},
		{"a repeat by the sender: another identification", func(p *decode.Packet) { p.IPID++ }, 0, false},
		{"… and the checksum changed by as much", func(p *decode.Packet) { p.IPID++; p.Transport = append(make([]byte, 16), 77^78, 0, 0, 0) }, 0, false},
		{"… with another TSval", func(p *decode.Packet) { p.IPID++; p.TSval++ }, 0, false},
		{"the next segment", func(p *decode.Packet) { p.Seq += 1348 }, 0, false},
		{"another window", func(p *decode.Packet) { p.Window++ }, 0, false},
		{"another checksum", func(p *decode.Packet) { p.Transport = append(make([]byte, 16), 1, 2, 3, 4) }, 0, false},
		{"another length", func(p *decode.Packet) { p.IPBytes--; p.PayloadLen-- }, 0, false},
		{"the other direction", func(p *decode.Packet) { p.Src, p.Dst = p.Dst, p.Src }, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDedup(5_000_000, 1)
			first, second := base, base
			c.change(&second)
			inHeader(&first)
			inHeader(&second)
			if _, copied := d.copied(&first, d.mark(&first), 0, 0); copied {
				t.Fatal("the first is a copy of nothing")
			}
			if _, copied := d.copied(&second, d.mark(&second), c.port, 0); copied != c.want {
				t.Errorf("copied %v, want %v", copied, c.want)
			}
		})
	}
	t.Run("without an identification only another place makes a copy", func(t *testing.T) {
		d := newDedup(5_000_000, 1)
		p := base
		p.IPID = 0
		for i, want := range []bool{false, false, true, false} {
			port := uint16(0)
			if want {
				port = 1
			}
			q := p
			if _, copied := d.copied(&q, d.mark(&q), port, 0); copied != want {
				t.Errorf("packet %d: copied %v, want %v", i, copied, want)
			}
		}
	})
}

// The table of copies grows with the rate of packets, and finds copies at any.
func TestDedupGrows(t *testing.T) {
	for _, c := range []struct {
		perSecond int64
		buckets   int
	}{{50_000, firstBuckets}, {2_000_000, mostBuckets}} {
		d := newDedup(10_000_000, 1)
		p := decode.Packet{Time: second, Src: addr("10.0.0.1"), Dst: addr(server), Protocol: decode.ProtocolTCP, Transport: make([]byte, 20)}
		copies := 0
		const n = 1_000_000
		for i := range n {
			p.Time += second / c.perSecond
			p.Seq, p.IPID = uint32(i), uint16(i)|1
			binary.BigEndian.PutUint32(p.Transport[4:], p.Seq)
			d.copied(&p, d.mark(&p), 0, 0)
			if i >= n/2 && i%10 == 0 {
				q := p
				q.Time += 100_000
				if _, copied := d.copied(&q, d.mark(&q), 1, 0); copied {
					copies++
				}
			}
		}
		if len(d.buckets) > c.buckets || c.buckets == firstBuckets && len(d.buckets) != firstBuckets {
			t.Errorf("%d packets/s: %d buckets, want at most %d", c.perSecond, len(d.buckets), c.buckets)
		}
		if copies != n/20 {
			t.Errorf("%d packets/s: %d copies found of %d", c.perSecond, copies, n/20)
		}
	}
}

// Any capture, wrapped into tunnels, gives the very same flows.
func TestGnWrappedCaptures(t *testing.T) {
	files, _ := filepath.Glob("../../shared/captures/nDPI_wa*.pcap")
	more, _ := filepath.Glob("../../shared/captures/nDPI_whats*.pcap")
	files = append(files, more...)
	if len(files) == 0 {
		t.Skip("the folder of real captures is missing: ../shared/captures")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			bare := ipPackets(t, file)
			want, _ := run(t, bare, nil)
			for i := range want {
				want[i].Key.Scope, want[i].Tunnel = 0, decode.TunnelGTP
			}
			for _, w := range wrappings {
				t.Run(w.name, func(t *testing.T) {
					list := wrap(t, bare, w)
					got, s := run(t, list, nil)
					for i := range got {
						if got[i].APN != "internet" || got[i].IMSI == "" {
							t.Errorf("flow %d: APN %q, IMSI %q", i, got[i].APN, got[i].IMSI)
						}
						got[i].Key.Scope, got[i].APN, got[i].IMSI, got[i].TAC = 0, "", "", ""
					}
					if len(got) != len(want) {
						t.Fatalf("%d flows, bare %d", len(got), len(want))
					}
					for i := range want {
						if got[i] != want[i] {
							t.Fatalf("flow %d:\n%+v\nbare:\n%+v", i, got[i], want[i])
						}
					}
					if s.GTP.Anonymous != 0 {
						t.Errorf("%d packets without a session", s.GTP.Anonymous)
					}
				})
			}
		})
	}
}

// ipPackets returns the IP packets of a capture of one Ethernet handset.
func ipPackets(t *testing.T, file string) []capture.Frame {
	t.Helper()
	source, err := capture.Open([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	var list []capture.Frame
	var b capture.Batch
	for source.Next(&b) == nil {
		for _, f := range b.Frames {
			if len(f.Data) < 34 || binary.BigEndian.Uint16(f.Data[12:]) != 0x0800 {
				continue
			}
			n := min(14+int(binary.BigEndian.Uint16(f.Data[16:])), len(f.Data))
			f.Data, f.Link, f.WireLen = bytes.Clone(f.Data[14:n]), decode.LinkRaw, uint32(n-14)
			list = append(list, f)
		}
		source.Release(&b)
	}
	if len(list) == 0 {
		t.Fatalf("%s: no IP packet (%v)", file, os.ErrNotExist)
	}
	return list
}

type wrapping struct {
	name     string
	sgw, pgw string
	header   func(length int) []byte // after type; length of the inner packet
	split    bool                    // outer packets in fragments
}

var wrappings = []wrapping{
	{"IPv4", "192.0.2.1", "192.0.2.2", plainHeader, false},
	{"IPv6", "2001:db8::1", "2001:db8::2", plainHeader, false},
	{"sequence numbers", "192.0.2.1", "192.0.2.2", sequenceHeader, false},
	{"extension headers", "192.0.2.1", "192.0.2.2", extensionHeader, false},
	{"in fragments", "192.0.2.1", "192.0.2.2", plainHeader, true},
}

func plainHeader(n int) []byte { return []byte{0x30, 255, byte(n >> 8), byte(n), 0, 0, 0, 0} }

func sequenceHeader(n int) []byte {
	n += 4
	return []byte{0x32, 255, byte(n >> 8), byte(n), 0, 0, 0, 0, 1, 2, 0, 0}
}

func extensionHeader(n int) []byte {
	n += 12
	// PDU Session Container, then a PDCP PDU number (TS 29.281 section 5.2).
	return []byte{0x34, 255, byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 0, 0, 0x85, 1, 0x10, 5, 0xc0, 1, 0, 9, 0}
}

// wrap gives every subscriber in the capture a session and puts the packets into
// its tunnel.
func wrap(t *testing.T, bare []capture.Frame, w wrapping) []capture.Frame {
	t.Helper()
	g := newGn(t)
	g.now = bare[0].Time - 10*second
	inside := func(a decode.Addr) bool {
		for _, p := range DefaultSubscribers() {
			if p.Contains(a.Netip()) {
				return true
			}
		}
		return false
	}
	// A router among the private addresses is nobody's handset.
	seen := map[decode.Addr]int{}
	for _, f := range bare {
		seen[decode.AddrFrom4(f.Data[12:])]++
	}
	sessions := map[decode.Addr]*session{}
	for _, f := range bare {
		a, b := decode.AddrFrom4(f.Data[12:]), decode.AddrFrom4(f.Data[16:])
		if !inside(a) || inside(b) && seen[b] > seen[a] {
			a = b
		}
		if n := uint32(len(sessions)); inside(a) && sessions[a] == nil {
			sessions[a] = g.attachAt(w.sgw, w.pgw, fmt.Sprintf("0010100000%05d", n), "internet", a.Netip().String(), 100+10*n)
		}
	}
	for _, f := range bare {
		src, dst := decode.AddrFrom4(f.Data[12:]), decode.AddrFrom4(f.Data[16:])
		h := w.header(len(f.Data))
		from, to := w.sgw, w.pgw
		s, teid := sessions[src], uint32(0)
		if s != nil && (sessions[dst] == nil || seen[src] > seen[dst]) {
			teid = s.up
		} else if s = sessions[dst]; s != nil {
			teid = s.down
			from, to = to, from
		} else {
			continue
		}
		binary.BigEndian.PutUint32(h[4:], teid)
		packet := g.udp(from, to, 2152, 2152, append(h, f.Data...))
		g.now = f.Time
		if w.split && len(packet) > 120 {
			for _, part := range fragments(packet) {
				g.now = f.Time
				g.frame(part)
			}
			continue
		}
		g.frame(packet)
	}
	return g.list
}

// attachAt is attach with gateways of one's own.
func (g *gn) attachAt(sgw, pgw, imsi, apn, v4 string, teid uint32) *session {
	from := len(g.list)
	s := g.attach(imsi, apn, v4, "", teid)
	// The messages name the gateways in their F-TEIDs: build them anew.
	g.list = g.list[:from]
	s.sgw, s.pgw = sgw, pgw
	ebi, accepted := ie(73, 0, 5), ie(2, 0, 16, 0)
	name := append([]byte{byte(len(apn))}, apn...)
	g.control(sgw, pgw, 32, 0, bcd(1, imsi), ie(71, 0, name...), ie(82, 0, 6),
		fteid(0, 6, s.downC, sgw), ie(93, 0, slices.Concat(ebi, fteid(2, 4, s.down, sgw))...))
	g.control(pgw, sgw, 33, s.downC, accepted, fteid(1, 7, s.upC, pgw), ie(79, 0, append([]byte{1}, netip.MustParseAddr(v4).AsSlice()...)...),
		ie(93, 0, slices.Concat(ebi, accepted, fteid(2, 5, s.up, pgw))...))
	return s
}

// fragments cuts an IPv4 packet in two (RFC 791 section 3.2).
func fragments(packet []byte) [][]byte {
	const cut = 20 + 56
	first, rest := bytes.Clone(packet[:cut]), append(bytes.Clone(packet[:20]), packet[cut:]...)
	binary.BigEndian.PutUint16(first[2:], uint16(len(first)))
	binary.BigEndian.PutUint16(rest[2:], uint16(len(rest)))
	first[6] |= 0x20
	binary.BigEndian.PutUint16(rest[6:], (cut-20)/8)
	return [][]byte{first, rest}
}
