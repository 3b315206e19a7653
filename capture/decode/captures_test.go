package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capturesDir holds real captures, recorded and published by others.
const capturesDir = "../../../shared/captures"

// rawFrame is one frame of a capture file.
type rawFrame struct {
	data []byte
	wire uint32
	link Link
	time int64
}

// captureFiles returns the real captures, or skips the test.
func captureFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(capturesDir, "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the folder of real captures is not there")
	}
	return files
}

// readCapture reads a pcap or pcapng file, whatever its name says.
func readCapture(t testing.TB, file string) []rawFrame {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) > 16<<20 {
		t.Fatalf("%s: too long for a test", file)
	}
	var next func() ([]byte, gopacket.CaptureInfo, Link, error)
	if binary.BigEndian.Uint32(content) == 0x0a0d0d0a {
		r, err := pcapgo.NewNgReader(bytes.NewReader(content), pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		next = func() ([]byte, gopacket.CaptureInfo, Link, error) {
			b, info, err := r.ReadPacketData()
			if err != nil {
				return nil, info, 0, err
			}
			return b, info, Link(info.AncillaryData[0].(layers.LinkType)), nil
		}
	} else {
		r, err := pcapgo.NewReader(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		// gopacket's own link type has 8 bits, too few for LinkSLL2.
		link := Link(binary.LittleEndian.Uint16(content[20:]))
		if content[0] == 0xa1 {
			link = Link(binary.BigEndian.Uint16(content[22:]))
		}
		next = func() ([]byte, gopacket.CaptureInfo, Link, error) {
			b, info, err := r.ReadPacketData()
			return b, info, link, err
		}
	}
	var frames []rawFrame
	for {
		b, info, link, err := next()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Logf("%s: reading stops after %d frames: %v", filepath.Base(file), len(frames), err)
			return frames
		}
		frames = append(frames, rawFrame{b, uint32(info.Length), link, info.Timestamp.UnixNano()})
	}
}

// endpoints names a TCP connection's two ends, lower one first, and whether
// the packet goes from the lower to the higher.
func endpoints(src, dst netip.AddrPort) (key string, forward bool) {
	if src.Compare(dst) <= 0 {
		return fmt.Sprint(src, dst), true
	}
	return fmt.Sprint(dst, src), false
}

// volume is packets, IP bytes and TCP payload from the lower end and from the
// higher.
type volume struct{ packets, bytes, payload [2]uint64 }

func (v *volume) add(forward bool, packets, bytes, payload uint64) {
	i := 1
	if forward {
		i = 0
	}
	v.packets[i] += packets
	v.bytes[i] += bytes
	v.payload[i] += payload
}

// tsharkDiffers holds the connections of which tshark's table is not right, and
// what is.
var tsharkDiffers = map[string]volume{
	// Inner packets are fragmented: each of six (three, captured twice) has
	// fragments of 1396 and 74 bytes, of which the table only has the last,
	// and of one connection it lost a packet that was captured on both
	// sides of a gateway.
	"8.8.4.4:853 10.45.0.2:53668": {[2]uint64{16, 14}, [2]uint64{10590, 1962}, [2]uint64{9622, 1210}},
	"8.8.4.4:853 10.45.0.2:53669": {[2]uint64{16, 16}, [2]uint64{10590, 2066}, [2]uint64{9622, 1210}},
	"8.8.4.4:443 10.45.0.2:53670": {[2]uint64{16, 16}, [2]uint64{11836, 2018}, [2]uint64{10868, 1210}},
	"8.8.4.4:443 10.45.0.2:53671": {[2]uint64{16, 16}, [2]uint64{11836, 2018}, [2]uint64{10868, 1210}},
	"8.8.4.4:443 10.45.0.2:53673": {[2]uint64{304, 154}, [2]uint64{69216, 22484}, [2]uint64{53272, 14436}},

	// Five frames are shorter than their IP packets. Their sequence numbers
	// go on as the IP headers say; the table's payload ends with the frame.
	"63.193.213.194:2564 128.3.97.175:80": {[2]uint64{54, 63}, [2]uint64{37238, 2540}, [2]uint64{34434, 0}},

	// The same in frames with random faults; by the header, if it is right.
	"147.234.1.253:120 192.168.1.2:2720":   {[2]uint64{1, 0}, [2]uint64{29440, 0}, [2]uint64{29400, 0}},
	"147.234.1.249:2069 192.168.1.2:2720":  {[2]uint64{1, 0}, [2]uint64{4169, 0}, [2]uint64{4129, 0}},
	"147.234.1.253:58999 192.168.1.6:2721": {[2]uint64{0, 1}, [2]uint64{0, 122}, [2]uint64{0, 74}},
}

// TestAgainstTshark compares packets and IP bytes of every TCP connection in
// the real captures with what tshark made of them.
func TestAgainstTshark(t *testing.T) {
	for _, file := range captureFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want := tsharkVolumes(t, file)
			got := map[string]*volume{}
			d := New(Config{FragmentBytes: 1 << 20})
			var outcomes [Outcomes]int
			for _, f := range readCapture(t, file) {
				p := Packet{Time: f.time}
				o := d.Decode(f.data, f.wire, f.link, 0, &p)
				outcomes[o]++
				if o != TCP {
					continue
				}
				key, forward := endpoints(
					netip.AddrPortFrom(p.Src.Netip(), p.SrcPort), netip.AddrPortFrom(p.Dst.Netip(), p.DstPort))
				if got[key] == nil {
					got[key] = &volume{}
				}
				got[key].add(forward, 1, uint64(p.IPBytes), uint64(p.PayloadLen))
			}
			for o, n := range outcomes {
				if n > 0 {
					t.Logf("%v: %d", Outcome(o), n)
				}
			}
			for key, w := range want {
				if differs, ok := tsharkDiffers[key]; ok {
					w = &differs
				}
				if g := got[key]; g == nil || *g != *w {
					t.Errorf("%s: got %+v, want %+v", key, g, w)
				}
			}
			for key, g := range got {
				if want[key] == nil {
					t.Errorf("%s: got %+v, tshark has nothing", key, g)
				}
			}
		})
	}
}

// tsharkVolumes adds up tshark's connections by their ends.
func tsharkVolumes(t *testing.T, file string) map[string]*volume {
	t.Helper()
	name := filepath.Join(filepath.Dir(file), "truth", filepath.Base(file)+".flows.tsv")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	volumes := map[string]*volume{}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	for _, line := range lines[1:] {
		f := strings.Split(line, "\t")
		number := func(i int) uint64 {
			n, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return n
		}
		end := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(f[i]), uint16(number(i+1)))
		}
		key, forward := endpoints(end(1), end(3))
		if volumes[key] == nil {
			volumes[key] = &volume{}
		}
		volumes[key].add(forward, number(8), number(10), number(12))
		volumes[key].add(!forward, number(9), number(11), number(13))
	}
	return volumes
}

// TestAgainstGopacket compares all fields of TCP and UDP packets in simple
// stacks with those that gopacket finds.
func TestAgainstGopacket(t *testing.T) {
	compared := 0
	for _, file := range captureFiles(t) {
		d := New(Config{})
		for i, f := range readCapture(t, file) {
			if f.link != LinkEthernet && f.link != LinkSLL {
				continue
			}
			want, ok := gopacketFields(f.data, f.link)
			if !ok {
				continue
			}
			p := Packet{Time: f.time}
			o := d.Decode(f.data, f.wire, f.link, 0, &p)
			if p.Tunnel != TunnelNone || p.SrcPort == portTeredo {
				continue
			}
			if o != TCP && o != UDP {
				// gopacket takes IP version 5 and UDP lengths beyond the packet.
				if !strings.Contains(file, "fuzz") {
					t.Errorf("%s frame %d: %v, gopacket has %s", filepath.Base(file), i+1, o, want)
				}
				continue
			}
			compared++
			if got := fields(&p); got != want {
				t.Errorf("%s frame %d:\ngot      %s\ngopacket %s", filepath.Base(file), i+1, got, want)
			}
		}
	}
	t.Logf("%d packets compared", compared)
	if compared < 6000 {
		t.Errorf("only %d packets compared", compared)
	}
}

// fields writes what gopacketFields writes.
func fields(p *Packet) string {
	s := fmt.Sprintf("%v:%d > %v:%d ip %d ttl %d", p.Src.Netip(), p.SrcPort, p.Dst.Netip(), p.DstPort, p.IPBytes, p.TTL)
	if p.Protocol == ProtocolUDP {
		return s + fmt.Sprintf(" udp %x", p.Payload())
	}
	return s + fmt.Sprintf(" tcp %d %d %02x %d %x %x", p.Seq, p.Ack, p.Flags, p.Window, p.Options(), p.Payload())
}

// gopacketFields decodes a frame of one IP and one TCP or UDP header with
// gopacket. It reports false for anything else, and for what makes it panic.
func gopacketFields(frame []byte, link Link) (s string, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	packet := gopacket.NewPacket(frame, layers.LinkType(link), gopacket.DecodeOptions{NoCopy: true})
	networks := 0
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case *layers.IPv4:
			networks++
			if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
				return "", false
			}
			s = fmt.Sprintf("%v:%%d > %v:%%d ip %d ttl %d", l.SrcIP, l.DstIP, l.Length, l.TTL)
		case *layers.IPv6:
			networks++
			s = fmt.Sprintf("%v:%%d > %v:%%d ip %d ttl %d", l.SrcIP, l.DstIP, ipv6Len+int(l.Length), l.HopLimit)
		case *layers.TCP:
			if networks != 1 {
				return "", false
			}
			end := len(l.Contents)
			flags := l.Contents[13]
			s = fmt.Sprintf(s, l.SrcPort, l.DstPort)
			return s + fmt.Sprintf(" tcp %d %d %02x %d %x %x", l.Seq, l.Ack, flags, l.Window, l.Contents[tcpLen:end], l.Payload), true
		case *layers.UDP:
			if networks != 1 {
				return "", false
			}
			s = fmt.Sprintf(s, uint16(l.SrcPort), uint16(l.DstPort))
			return s + fmt.Sprintf(" udp %x", l.Payload), true
		case *layers.IPv6Fragment:
			return "", false
		}
	}
	return "", false
}
