package decode

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func decodeOne(d *Decoder, frame []byte, wire int, link Link, p *Packet) Outcome {
	return d.Decode(frame, uint32(wire), link, 0, p)
}

func TestDecode(t *testing.T) {
	for _, s := range append(wellFormed(), malformed()...) {
		t.Run(s.name, func(t *testing.T) {
			d := New(Config{FragmentBytes: 1 << 16})
			// What an earlier frame may have left behind.
			p := Packet{TEID: 1, Tunnel: TunnelGTP, VLAN: 77, Fragmented: true, HasTimestamps: true, TSval: 99}
			o := decodeOne(d, s.frame, len(s.frame), s.link, &p)
			if got := describe(o, &p); got != s.want {
				t.Errorf("\ngot  %s\nwant %s", got, s.want)
			}
		})
	}
}

// TestFields looks at what describe leaves out.
func TestFields(t *testing.T) {
	segment := tcpOptions(hx("020405b4 0402 080a 00000001 00000002"), []byte("hello"))
	for _, s := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"ipv4", ip4(6, segment), "seq 7 ack 8 flags 18 window 512 header 36 ttl 64 id 4660 ts true 1 2 hello"},
		{"ipv6", ip6(6, segment), "seq 7 ack 8 flags 18 window 512 header 36 ttl 63 id 0 ts true 1 2 hello"},
		{"4 in 6", outer6(4, ip4(6, segment)), "seq 7 ack 8 flags 18 window 512 header 36 ttl 64 id 4660 ts true 1 2 hello"},
		{"6 in 4", outer4(41, ip6(6, segment)), "seq 7 ack 8 flags 18 window 512 header 36 ttl 63 id 0 ts true 1 2 hello"},
	} {
		d := New(Config{})
		p := Packet{Time: 5, IPID: 9}
		if o := decodeOne(d, s.frame, len(s.frame), LinkRaw, &p); o != TCP {
			t.Errorf("%s: %v", s.name, o)
			continue
		}
		got := fmt.Sprintf("seq %d ack %d flags %02x window %d header %d ttl %d id %d ts %v %d %d %s", p.Seq, p.Ack, p.Flags,
			p.Window, p.HeaderLen, p.TTL, p.IPID, p.HasTimestamps, p.TSval, p.TSecr, p.Payload())
		if got != s.want {
			t.Errorf("%s:\ngot  %s\nwant %s", s.name, got, s.want)
		}
		if p.Time != 5 || !bytes.Equal(p.Transport, segment) || !bytes.Equal(p.Options(), segment[20:36]) {
			t.Errorf("%s: time %d, transport %x, options %x", s.name, p.Time, p.Transport, p.Options())
		}
	}
}

func TestTimestamps(t *testing.T) {
	for _, s := range []struct {
		name, options string
		want          string
	}{
		{"none", "", "0 0 false"},
		{"usual", "0101080a 00000001 00000002", "1 2 true"},
		{"usual, more behind", "0101080a 00000001 00000002 05020000", "1 2 true"},
		{"syn of Linux", "020405b4 0402 080a 00000001 00000002 01 030307", "1 2 true"},
		{"syn of Apple", "020405b4 01 030306 01 01 080a 00000001 00000002 0402 0000", "1 2 true"},
		{"time stamps first", "080a 00000001 00000002", "1 2 true"},
		{"only no-operations", "01010101", "0 0 false"},
		{"behind the end", "00 080a 00000001 00000002", "0 0 false"},
		{"length 0", "0100 080a 00000001 00000002", "0 0 false"},
		{"other option of length 0", "0500 080a 00000001 00000002", "0 0 false"},
		{"other option of length 1", "0501 080a 00000001 00000002", "0 0 false"},
		{"other option overruns", "05ff 080a 00000001 00000002", "0 0 false"},
		{"wrong length", "0808 00000001 0000 0000", "0 0 false"},
		{"wrong length, then right", "0804 0000 080a 00000001 00000002", "1 2 true"},
		{"cut", "0101080a 00000001 000000", "0 0 false"},
		{"kind alone", "08", "0 0 false"},
	} {
		val, ecr, ok := timestamps(hx(s.options))
		if got := fmt.Sprint(val, ecr, ok); got != s.want {
			t.Errorf("%s: got %s, want %s", s.name, got, s.want)
		}
	}
}

// TestCutFrames cuts every well-formed frame at every length, as a snap length
// does. It may then have too few headers, but never wrong ones, and what is
// told of a packet does not depend on where it was cut.
func TestCutFrames(t *testing.T) {
	for _, s := range wellFormed() {
		t.Run(s.name, func(t *testing.T) {
			d := New(Config{})
			for n := range len(s.frame) {
				var p Packet
				o := decodeOne(d, s.frame[:n:n], len(s.frame), s.link, &p)
				if o == CutFrame {
					continue
				}
				got, want := describe(o, &p), s.want
				if len(p.Transport) < 32 {
					want = strings.TrimSuffix(want, " ts 1/2") // they are cut off
				}
				if got != want {
					t.Fatalf("cut to %d bytes:\ngot  %s\nwant %s", n, got, want)
				}
				if strings.HasPrefix(s.want, "tcp") && len(p.Transport) < tcpLen {
					t.Fatalf("cut to %d bytes: %v with %d bytes of header", n, o, len(p.Transport))
				}
				checkPacket(t, o, &p)
			}
		})
	}
}

// TestCutSegment looks closer at the cuts behind the first 20 bytes of a TCP
// header: the segment counts whole.
func TestCutSegment(t *testing.T) {
	frame := eth(0x0800, ip4(6, tcpTS("hello")))
	for n := range len(frame) + 1 {
		d := New(Config{})
		var p Packet
		o := decodeOne(d, frame[:n], len(frame), LinkEthernet, &p)
		if n < 14+20+20 {
			if o != CutFrame {
				t.Errorf("cut to %d bytes: %v", n, o)
			}
			continue
		}
		options := min(n-54, 12)
		payload := max(n-66, 0)
		if o != TCP || p.PayloadLen != 5 || p.IPBytes != 57 || p.HeaderLen != 32 ||
			len(p.Options()) != options || len(p.Payload()) != payload || p.HasTimestamps != (options == 12) {
			t.Errorf("cut to %d bytes: %v, %+v", n, o, p)
		}
	}
}

// TestShortWire cuts frames whose length on the wire is the shorter one too. Any
// outcome will do, but no panic and no packet with bytes that are not there.
func TestShortWire(t *testing.T) {
	for _, s := range append(wellFormed(), malformed()...) {
		d := New(Config{FragmentBytes: 1 << 16})
		for n := range len(s.frame) {
			var p Packet
			checkPacket(t, decodeOne(d, s.frame[:n:n], n, s.link, &p), &p)
		}
	}
}

// TestWireShorterThanIP has frames that were cut by a tool which wrote the new
// length into the capture as if it were the wire's.
func TestWireShorterThanIP(t *testing.T) {
	for _, s := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"ipv4", eth(0x0800, ip4(6, tcp("hello"))), want4},
		{"ipv6", eth(0x86dd, ip6(6, tcp("hello"))), want6},
		{"gtp", eth(0x0800, outer4(17, gtpu(0, nil, ip4(6, tcp("hello"))))), wantGTP4},
	} {
		d := New(Config{})
		var p Packet
		n := len(s.frame) - 2
		o := decodeOne(d, s.frame[:n], n, LinkEthernet, &p)
		if got := describe(o, &p); got != s.want || string(p.Payload()) != "hel" {
			t.Errorf("%s: got %s with %q, want %s", s.name, got, p.Payload(), s.want)
		}
	}
}

// TestOffload has packets whose length only the frame tells: of segmentation
// offload, and of a file that claims what no frame has.
func TestOffload(t *testing.T) {
	v4 := eth(0x0800, patch(ip4(6, tcp("hello")), 2, 0, 0))
	v6 := eth(0x86dd, patch(ip6(6, tcp("hello")), 4, 0, 0))
	for _, s := range []struct {
		name  string
		frame []byte
		wire  int
		want  Outcome
		bytes uint32
	}{
		{"ipv4", v4, 14 + 200000, TCP, 200000},
		{"ipv6", v6, 14 + 200000, TCP, 200000},
		{"ipv4 at most", v4, 14 + 524280, TCP, 524280},
		{"ipv4 too much", v4, 14 + 524281, BadIP, 0},
		{"ipv6 too much", v6, 1<<32 - 1, BadTransport, 0},
	} {
		var p Packet
		if o := decodeOne(New(Config{}), s.frame, s.wire, LinkEthernet, &p); o != s.want || (o == TCP && p.IPBytes != s.bytes) {
			t.Errorf("%s: %v with %d bytes", s.name, o, p.IPBytes)
		}
	}
}

// TestKernelVLAN passes the tag that the kernel took out of the frame.
func TestKernelVLAN(t *testing.T) {
	t4 := ip4(6, tcp("hello"))
	for _, s := range []struct {
		name  string
		tci   uint16
		frame []byte
		want  uint16
	}{
		{"none", 0, eth(0x0800, t4), 0},
		{"identifier", 100, eth(0x0800, t4), 100},
		{"priority and identifier", 0xe064, eth(0x0800, t4), 100},
		{"priority", 0xe000, eth(0x0800, t4), 0},
		{"another in the frame", 100, eth(0x8100, vlan(200, 0x0800, t4)), 200},
	} {
		var p Packet
		o := New(Config{}).Decode(s.frame, uint32(len(s.frame)), LinkEthernet, s.tci, &p)
		if o != TCP || p.VLAN != s.want {
			t.Errorf("%s: %v, vlan %d, want %d", s.name, o, p.VLAN, s.want)
		}
	}
}

// TestMaxDepth counts headers.
func TestMaxDepth(t *testing.T) {
	frame := eth(0x8100, vlan(1, 0x0800, ip4(6, tcp("")))) // Ethernet, tag, IP, TCP
	for depth, want := range map[int]Outcome{1: TooDeep, 2: TooDeep, 3: TooDeep, 4: TCP, 0: TCP, -1: TCP} {
		var p Packet
		if o := decodeOne(New(Config{MaxDepth: depth}), frame, len(frame), LinkEthernet, &p); o != want {
			t.Errorf("MaxDepth %d: %v, want %v", depth, o, want)
		}
	}
}

// TestEmptyPacket calls what must not panic whatever a Packet holds.
func TestEmptyPacket(t *testing.T) {
	for _, p := range []Packet{{}, {HeaderLen: 60}, {Transport: make([]byte, 20), HeaderLen: 8}, {Transport: make([]byte, 30), HeaderLen: 40}} {
		if len(p.Payload()) > 12 || len(p.Options()) > 10 {
			t.Errorf("%+v: %d and %d bytes", p, len(p.Payload()), len(p.Options()))
		}
	}
}

// TestOutcomeNames wants a name for each outcome, used once.
func TestOutcomeNames(t *testing.T) {
	seen := map[string]bool{}
	for o := range Outcomes {
		if name := o.String(); name == "" || seen[name] {
			t.Errorf("outcome %d has the name %q", o, name)
		}
		seen[o.String()] = true
	}
	if Held.Undecoded() || !NotIP.Undecoded() {
		t.Error("the outcomes are not in order")
	}
}

// checkPacket holds what is true of every outcome.
func checkPacket(t *testing.T, o Outcome, p *Packet) {
	t.Helper()
	if o >= Outcomes {
		t.Fatalf("outcome %d", o)
	}
	if o > OtherIP {
		return
	}
	if len(p.Transport) > int(p.IPBytes) && !p.Fragmented {
		t.Fatalf("%v: %d bytes of transport in %d", o, len(p.Transport), p.IPBytes)
	}
	if o == OtherIP {
		return
	}
	least, protocol := tcpLen, ProtocolTCP
	if o == UDP {
		least, protocol = udpLen, ProtocolUDP
	}
	if int(p.HeaderLen) < least || len(p.Transport) < least || int(p.Protocol) != protocol {
		t.Fatalf("%v: protocol %d, header of %d bytes, %d there", o, p.Protocol, p.HeaderLen, len(p.Transport))
	}
	if len(p.Payload()) > int(p.PayloadLen) {
		t.Fatalf("%v: %d bytes of payload, %d on the wire", o, len(p.Payload()), p.PayloadLen)
	}
	if o == TCP && len(p.Options()) > int(p.HeaderLen)-tcpLen {
		t.Fatalf("%d bytes of options in a header of %d", len(p.Options()), p.HeaderLen)
	}
}

// TestFramesAgainstGopacket has gopacket read the well-formed frames too, so
// that they do not merely agree with whoever made them up.
func TestFramesAgainstGopacket(t *testing.T) {
	compared := 0
	for _, s := range wellFormed() {
		want, ok := gopacketInnermost(s.frame, s.link)
		if !ok || !strings.HasPrefix(s.want, "tcp") {
			continue
		}
		compared++
		var p Packet
		decodeOne(New(Config{}), s.frame, len(s.frame), s.link, &p)
		if got := fmt.Sprint(p.Src.Netip(), p.Dst.Netip(), p.SrcPort, p.DstPort, p.Seq, p.Ack); got != want {
			t.Errorf("%s: got %s, gopacket has %s", s.name, got, want)
		}
	}
	t.Logf("%d frames compared", compared)
	if compared < 35 {
		t.Errorf("only %d frames compared", compared)
	}
}

// gopacketInnermost finds the last IP header before the first TCP header. It
// reports false where gopacket does not get so far.
func gopacketInnermost(frame []byte, link Link) (s string, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	if link > 255 {
		return "", false
	}
	packet := gopacket.NewPacket(frame, layers.LinkType(link), gopacket.DecodeOptions{NoCopy: true})
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case *layers.IPv4:
			s = fmt.Sprint(l.SrcIP, l.DstIP)
		case *layers.IPv6:
			s = fmt.Sprint(l.SrcIP, l.DstIP)
		case *layers.TCP:
			return s + " " + fmt.Sprint(uint16(l.SrcPort), uint16(l.DstPort), l.Seq, l.Ack), true
		}
	}
	return "", false
}
