package gtp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// datagram of a capture: outermost UDP.
type datagram struct {
	frame        int
	time         int64
	src, dst     Addr
	sport, dport uint16
	payload      []byte
}

// readCapture returns the outermost UDP datagrams of a file.
func readCapture(t testing.TB, name string) (list []datagram) {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "captures", name)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("%s: real captures are not here", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	magic, err := in.Peek(4)
	if err != nil {
		t.Fatal(err)
	}
	var source gopacket.PacketDataSource
	var link layers.LinkType
	if binary.BigEndian.Uint32(magic) == 0x0a0d0d0a {
		r, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		source, link = r, r.LinkType()
	} else {
		r, err := pcapgo.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		source, link = r, r.LinkType()
	}
	for frame := 1; ; frame++ {
		data, info, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s frame %d: %v", name, frame, err)
		}
		p := gopacket.NewPacket(data, link, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || p.NetworkLayer() == nil {
			continue
		}
		src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
		list = append(list, datagram{
			frame: frame, time: info.Timestamp.UnixNano(),
			src: addrOf(src.Raw()), dst: addrOf(dst.Raw()),
			sport: uint16(u.SrcPort), dport: uint16(u.DstPort),
			payload: slices.Clone(u.Payload),
		})
	}
}

func addrOf(b []byte) Addr {
	if len(b) == 4 {
		return addrFrom4(b)
	}
	return addrFrom16(b)
}

func (d *datagram) control() bool {
	for _, port := range []uint16{PortGTPC, PortPFCP} {
		if d.sport == port || d.dport == port {
			return true
		}
	}
	return false
}

// play runs a capture's control plane through a table until before frame end.
func play(t *testing.T, c *core, list []datagram, end int) {
	t.Helper()
	for i := range list {
		if d := &list[i]; d.control() && d.frame < end {
			c.now = d.time
			c.tab.Control(d.payload, d.src, d.dst, d.sport, d.dport, d.time)
			c.check()
		}
	}
}

const wholeFile = 1 << 30

// What a session holds, by the values that tshark shows.
type truth struct {
	imsi, msisdn, imei, apn, v4 string
	rat, ebi                    uint8
}

func (c *core) truth(s *Session) truth {
	a := ""
	if !s.UEv4.IsZero() {
		b := s.UEv4.Lo
		a = fmt.Sprintf("%d.%d.%d.%d", byte(b>>24), byte(b>>16), byte(b>>8), byte(b))
	}
	return truth{
		clearDigits(s.IMSI), clearDigits(s.MSISDN), clearDigits(s.IMEI),
		c.tab.APNName(s.APN), a, s.RAT, s.EBI,
	}
}

// zeek_pdp_ctx_messages: frames 2/3 and 7/8 create PDP contexts on Gn, 9/10 are
// GTPv0 on its own port, 5/6 an echo (11/12 one of GTPv0).
func TestCaptureCreatePDPContext(t *testing.T) {
	c := newCore(t, Config{})
	list := readCapture(t, "zeek_pdp_ctx_messages.pcapng")
	play(t, c, list, 5)
	s := c.session("10.100.200.49", 0x10000085)
	c.want("frame 3", c.truth(s), truth{"460004100000101", "8615221000101", "", "eetest", "192.168.252.130", 2, 5})
	scope := s.Scope
	for _, e := range []struct {
		addr string
		teid uint32
		dir  Direction
	}{
		{"10.100.200.49", 0x10000085, Uplink},
		{"192.169.100.1", 0x32f02bf9, Downlink},
	} {
		got, dir := c.tunnel(e.addr, e.teid)
		c.want("scope", got, scope)
		c.want("direction", dir, e.dir)
	}
	c.gone("10.100.200.34", 0x10000085) // signalling address
	play(t, c, list[2:], wholeFile)
	s = c.session("127.0.0.1", 1)
	c.want("frame 8", c.truth(s), truth{"240010123456789", "46702123456", "", "internet", "192.168.0.2", 0, 0})
	_, dir := c.tunnel("127.0.0.2", 1)
	c.want("direction", dir, Downlink)
	c.want("created", c.tab.counters.Created, uint64(2))
	for range 3 { // the look-ups above count as use
		c.wait(25 * 3600)
	}
	c.want("expired", c.tab.counters.Expired, uint64(2))
	c.want("echo requests", c.tab.counters.Messages[kinds[V1][1]], uint64(1))
	c.want("creates", c.tab.counters.Messages[kinds[V1][16]], uint64(2))
}

// nDPI_gtp_c: one session on S5/S8 created and deleted within 2 ms.
func TestCaptureCreateDeleteSession(t *testing.T) {
	c := newCore(t, Config{})
	list := readCapture(t, "nDPI_gtp_c.pcap")
	play(t, c, list, 3)
	want := truth{"987654112233445", "896745214365", "436587092110203", "internet", "33.23.23.1", 6, 5}
	for _, e := range []struct {
		addr string
		teid uint32
		dir  Direction
	}{
		{"10.101.0.2", 0x35529205, Downlink},
		{"10.102.0.2", 0x35529207, Uplink},
	} {
		c.want("session", c.truth(c.session(e.addr, e.teid)), want)
		_, dir := c.tunnel(e.addr, e.teid)
		c.want("direction", dir, e.dir)
	}
	tac, _ := c.session("10.102.0.2", 0x35529207).IMEI.TAC()
	c.want("TAC", tac, uint32(43658709))
	play(t, c, list[2:], wholeFile)
	c.want("active", c.tab.Active(), 0)
	c.want("deleted", c.tab.counters.Deleted, uint64(1))
	c.wait(3)
	c.gone("10.102.0.2", 0x35529207)
}

// PcapPlusPlus_gtp: a SGSN Context Response, no session.
func TestCaptureSGSNContext(t *testing.T) {
	c := newCore(t, Config{})
	play(t, c, readCapture(t, "PcapPlusPlus_gtp.pcap"), wholeFile)
	c.want("SGSN Context Response", c.tab.counters.Messages[kinds[V1][51]], uint64(1))
	c.want("created", c.tab.counters.Created, uint64(0))
}

// nDPI_gtp_false_positive: datagrams on GTP's ports that are none of ours.
func TestCaptureFalsePositive(t *testing.T) {
	c := newCore(t, Config{})
	for _, d := range readCapture(t, "nDPI_gtp_false_positive.pcapng") {
		c.tab.Control(d.payload, d.src, d.dst, d.sport, d.dport, d.time)
	}
	c.want("created", c.tab.counters.Created, uint64(0))
}

// open5gs_srsenb: one user over S11, S5 and both UP functions' N4, all on one
// box where most TEIDs are 1 or 2. Every G-PDU passes twice, on S1-U and S5-U:
// both must find the one session, and its directions.
func TestCaptureOneUserOverAllInterfaces(t *testing.T) {
	c := newCore(t, Config{})
	list := readCapture(t, "open5gs_srsenb.pcapng")
	play(t, c, list, 100)
	c.want("active", c.tab.Active(), 1)
	want := truth{"901700000021309", "", "3572200924513839", "internet", "10.45.0.2", 6, 5}
	scope, _ := c.tunnel("127.0.0.6", 2)
	for _, e := range []struct {
		addr string
		teid uint32
		dir  Direction
	}{
		{"127.0.1.1", 1, Downlink}, // eNodeB
		{"127.0.0.6", 2, Uplink},   // SGW-U, S1-U
		{"127.0.0.6", 1, Downlink}, // SGW-U, S5-U
		{"127.0.0.7", 2, Uplink},   // PGW-U
	} {
		c.want(e.addr, c.truth(c.session(e.addr, e.teid)), want)
		got, dir := c.tunnel(e.addr, e.teid)
		c.want(e.addr+" scope", got, scope)
		c.want(e.addr+" direction", dir, e.dir)
	}
	if r, ok := c.tab.ByUE(ip("10.45.0.2"), NoAPN); !ok || r.Scope != scope {
		t.Fatalf("ByUE = %v %v, want scope %d", r, ok, scope)
	}

	// Now in the order of the file: every G-PDU must find it.
	c = newCore(t, Config{})
	var up, down, lost int
	for i := range list {
		d := &list[i]
		if d.control() {
			c.tab.Control(d.payload, d.src, d.dst, d.sport, d.dport, d.time)
			continue
		}
		if d.dport != 2152 || d.payload[1] != 255 {
			continue
		}
		r, dir, _ := c.tab.ByTEID(d.dst, binary.BigEndian.Uint32(d.payload[4:]))
		switch {
		case r.Scope != scope:
			lost++
		case dir == Uplink:
			up++
		case dir == Downlink:
			down++
		}
	}
	// tshark: 345 each towards SGW-U TEID 2 and PGW-U TEID 2, 577 each back.
	c.want("uplink, downlink, lost", [3]int{up, down, lost}, [3]int{2 * 345, 2 * 577, 0})
	c.check()
	c.want("active", c.tab.Active(), 0)
	c.want("deleted", c.tab.counters.Deleted, uint64(1))
	c.want("unmatched", c.tab.counters.Unmatched, uint64(0))
	c.wait(3)
	c.want("endpoints", c.tab.Endpoints(), 0)
}

// open5gs_volte: dedicated bearers of two sessions that were created before the
// capture began. Nothing is known of them, and nothing is made up.
func TestCaptureBearersOfUnknownSessions(t *testing.T) {
	c := newCore(t, Config{})
	play(t, c, readCapture(t, "open5gs_volte.pcapng"), wholeFile)
	c.want("create bearer requests", c.tab.counters.Messages[kinds[V2][95]], uint64(4))
	c.want("create bearer responses", c.tab.counters.Messages[kinds[V2][96]], uint64(4))
	c.want("unmatched", c.tab.counters.Unmatched, uint64(0))
	c.want("unknown sessions", c.tab.counters.UnknownSession, uint64(4))
	c.want("active", c.tab.Active(), 0)
	c.want("endpoints", c.tab.Endpoints(), 0)
}
