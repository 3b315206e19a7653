package synth

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"
)

// studyFlow is what the study's figures need of a flow.
type studyFlow struct {
	class       string
	server      netip.Addr
	first, last int64
	syn, answer int64
	syns        int
	up, down    float64
	fin         bool
	options     string
}

// study recomputes the figures of the study from frames, with gopacket's
// decoder and its own naming: the last answer to the subscriber for the
// server.
type study struct {
	t      *testing.T
	names  map[[2]netip.Addr]string
	flows  map[[2]netip.AddrPort]*studyFlow
	parser *gopacket.DecodingLayerParser
	eth    layers.Ethernet
	ip     layers.IPv4
	tcp    layers.TCP
	udp    layers.UDP
	raw    gopacket.Payload
	layers []gopacket.LayerType
	msg    dns.Msg
	last   int64
}

func newStudy(t *testing.T) *study {
	s := &study{t: t, names: map[[2]netip.Addr]string{}, flows: map[[2]netip.AddrPort]*studyFlow{}}
	s.parser = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &s.eth, &s.ip, &s.tcp, &s.udp, &s.raw)
	s.parser.IgnoreUnsupported = true
	return s
}

func (s *study) frame(f *Frame) {
	s.last = f.Time
	if err := s.parser.DecodeLayers(f.Data, &s.layers); err != nil {
		s.t.Fatal(err)
	}
	src, _ := netip.AddrFromSlice(s.ip.SrcIP)
	dst, _ := netip.AddrFromSlice(s.ip.DstIP)
	if s.ip.Protocol == layers.IPProtocolUDP {
		if s.udp.SrcPort == 53 {
			s.learn(dst, s.udp.Payload)
		}
		return
	}
	user, server := netip.AddrPortFrom(src, uint16(s.tcp.SrcPort)), netip.AddrPortFrom(dst, uint16(s.tcp.DstPort))
	if f.Downlink {
		user, server = server, user
	}
	k := [2]netip.AddrPort{user, server}
	x := s.flows[k]
	if x == nil {
		if !s.tcp.SYN || s.tcp.ACK {
			return
		}
		class := classOfName(s.names[[2]netip.Addr{user.Addr(), server.Addr()}])
		x = &studyFlow{class: class, server: server.Addr(), first: f.Time}
		for _, o := range s.tcp.Options {
			x.options += o.OptionType.String() + " "
		}
		s.flows[k] = x
	}
	x.last = f.Time
	x.fin = x.fin || s.tcp.FIN
	switch {
	case s.tcp.SYN && !s.tcp.ACK:
		x.syns++
		x.syn = f.Time
	case s.tcp.SYN && x.answer == 0:
		x.answer = f.Time
	}
	if f.Downlink {
		x.down += float64(s.ip.Length)
	} else {
		x.up += float64(s.ip.Length)
	}
}

func (s *study) learn(user netip.Addr, b []byte) {
	if err := s.msg.Unpack(b); err != nil {
		s.t.Fatal(err)
	}
	for _, rr := range s.msg.Answer {
		if a, ok := rr.(*dns.A); ok {
			server, _ := netip.AddrFromSlice(a.A.To4())
			s.names[[2]netip.Addr{user, server}] = strings.TrimSuffix(s.msg.Question[0].Name, ".")
		}
	}
}

// in fails unless v is within off of want.
func in(t *testing.T, what string, v, want, off float64) {
	t.Helper()
	t.Logf("%s: %.4g (study %.4g)", what, v, want)
	if math.Abs(v-want) > off {
		t.Errorf("%s: %.4g, want %.4g ± %.2g", what, v, want, off)
	}
}

// TestStudyFigures recomputes the study's figures from the frames.
func TestStudyFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("some million frames")
	}
	s := newStudy(t)
	g := generator(t, "busy-hour", Options{Seed: 2014, Subscribers: 9000, Duration: 50 * time.Minute}, nil)
	run(t, g, s.frame)

	var chat, chatSmall, media, mediaLarge, volume, mediaVolume, videoVolume float64
	var fastDown, fastUp float64
	servers := map[string]map[netip.Addr]bool{}
	rtts := map[netip.Addr]float64{}
	durations := map[string][]float64{}
	for _, x := range s.flows {
		if x.class == "other" {
			continue
		}
		if servers[x.class] == nil {
			servers[x.class] = map[netip.Addr]bool{}
		}
		servers[x.class][x.server] = true
		if x.answer != 0 && x.syns == 1 {
			rtt := float64(x.answer-x.syn) / 1e6
			if old, ok := rtts[x.server]; !ok || rtt < old {
				rtts[x.server] = rtt
			}
		}
		size := x.up + x.down
		volume += size
		if x.class == "chat" {
			chat++
			if size < 10_000 {
				chatSmall++
			}
			if x.fin && float64(x.first-g.start) < 20*60e9 {
				durations[x.options] = append(durations[x.options], float64(x.last-x.first)/1e9)
			}
			continue
		}
		mediaVolume += size
		if x.class == "video" {
			videoVolume += size
		}
		if s.last-x.first < int64(3*time.Minute) {
			continue // perhaps not over
		}
		media++
		if size > 70_000 {
			mediaLarge++
		}
		seconds := float64(x.last-x.first) / 1e9
		if x.down > 1e6 {
			fastDown = max(fastDown, 8*x.down/seconds/1e6)
		}
		if x.up > 1e6 {
			fastUp = max(fastUp, 8*x.up/seconds/1e6)
		}
	}
	t.Logf("%.0f chat flows, %.0f media flows", chat, media)
	in(t, "chat flows below 10 KB", chatSmall/chat, 0.90, 0.02)
	in(t, "media flows above 70 KB", mediaLarge/media, 0.50, 0.03)
	in(t, "media's share of the volume", mediaVolume/volume, 0.75, 0.05)
	in(t, "video's share of the volume", videoVolume/volume, 0.36, 0.06)
	in(t, "best throughput down in Mb/s", fastDown, 1.35, 0.15)
	in(t, "best throughput up in Mb/s", fastUp, 0.72, 0.08)

	in(t, "chat addresses", float64(len(servers["chat"])), 150, 0)
	in(t, "photo addresses", float64(len(servers["photo"])), 25, 0)
	in(t, "audio addresses", float64(len(servers["audio"])), 75, 2)
	in(t, "video addresses", float64(len(servers["video"])), 100, 3)
	prefixes := map[int]map[netip.Prefix]bool{24: {}, 16: {}, 8: {}}
	steps := map[int]int{}
	for a, rtt := range rtts {
		for bits, set := range prefixes {
			p, _ := a.Prefix(bits)
			set[p] = true
		}
		switch {
		case rtt >= 106 && rtt < 107:
			steps[106]++
		case rtt >= 114 && rtt < 115:
			steps[114]++
		default:
			t.Errorf("%v is %v ms away", a, rtt)
		}
	}
	if len(rtts) < 200 {
		t.Errorf("only %d addresses are active", len(rtts))
	}
	in(t, "/24", float64(len(prefixes[24])), 51, 0)
	in(t, "/16", float64(len(prefixes[16])), 30, 0)
	in(t, "/8", float64(len(prefixes[8])), 24, 0)
	if steps[106] < 100 || steps[114] < 100 {
		t.Errorf("round-trip steps %v", steps)
	}
	timeouts(t, durations)
}

// timeouts looks for each system's steps in the durations of chat flows that
// were closed, the systems told apart by their SYN's options.
func timeouts(t *testing.T, durations map[string][]float64) {
	t.Helper()
	for options, want := range map[string][]float64{
		"MSS SACKPermitted Timestamps NOP WindowScale ":                 {600, 900, 1500},
		"MSS NOP WindowScale NOP NOP Timestamps SACKPermitted EndList ": {180},
		"MSS NOP WindowScale NOP NOP SACKPermitted ":                    {600},
		"MSS NOP NOP SACKPermitted NOP NOP Timestamps ":                 {900},
	} {
		d := durations[options]
		if len(d) < 50 {
			t.Errorf("%s: %d flows; there are %v", options, len(d), keysOfMap(durations))
			continue
		}
		at := 0
		for _, step := range want {
			n := 0
			for _, v := range d {
				if v > step && v < step*1.05 {
					n++
				}
			}
			at += n
			if float64(n) < 0.1*float64(len(d)) {
				t.Errorf("%s: %d of %d flows end at %v s", options, n, len(d), step)
			}
		}
		if float64(at) < 0.5*float64(len(d)) {
			t.Errorf("%s: only %d of %d flows end at a time-out", options, at, len(d))
		}
	}
}

func keysOfMap(m map[string][]float64) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
