package synth

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/miekg/dns"
)

// The oracle reads frames with gopacket and miekg/dns, knows nothing of the
// generator's insides, and is slow: what it says is what a careful reader of
// the trace would say.

type flowKey struct {
	sub, server         netip.Addr
	subPort, serverPort uint16
}

type seenPacket struct {
	at       int64
	down     bool
	syn, ack bool
	fin, rst bool
	bytes    int
	payload  []byte
	seq, akn uint32
}

type answer struct {
	at   int64
	ttl  int64
	name string
}

type namedServer struct {
	sub    netip.Prefix
	server netip.Addr
}

type oracle struct {
	t       *testing.T
	packets map[flowKey][]seenPacket
	answers map[namedServer][]answer
	hints   map[netip.Addr][]answer
	frames  int
	bytes   int
	last    int64
	teids   [2]map[uint32]bool
	control int
	slack   int64 // a copy may come after the flow's last packet
}

func newOracle(t *testing.T) *oracle {
	return &oracle{
		t: t, packets: map[flowKey][]seenPacket{}, answers: map[namedServer][]answer{},
		hints: map[netip.Addr][]answer{},
		teids: [2]map[uint32]bool{{}, {}},
	}
}

// subscriberKey is an IPv4 address whole, and an IPv6 address's /64.
func subscriberKey(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	p, _ := a.Prefix(64)
	return p
}

func (o *oracle) frame(f *Frame) {
	if f.Time < o.last {
		o.t.Fatalf("frame %d: time goes back from %d to %d", o.frames, o.last, f.Time)
	}
	o.last = f.Time
	o.frames++
	o.bytes += len(f.Data)
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if e := p.ErrorLayer(); e != nil {
		o.t.Fatalf("frame %d: %v", o.frames, e.Error())
	}
	var src, dst netip.Addr
	length := 0
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
			length = int(l.Length)
		case *layers.IPv6:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
			length = int(l.Length) + 40
		case *layers.GTPv1U:
			d := 0
			if f.Downlink {
				d = 1
			}
			o.teids[d][l.TEID] = true
		case *layers.TCP:
			o.tcp(f, src, dst, length, l)
		case *layers.UDP:
			o.udp(f, src, dst, l)
		}
	}
}

func (o *oracle) udp(f *Frame, _, dst netip.Addr, u *layers.UDP) {
	switch {
	case u.DstPort == 2123 || u.SrcPort == 2123:
		o.control++
	case u.SrcPort == 53:
		o.answer(f.Time, dst, u.Payload)
	}
}

func (o *oracle) answer(at int64, sub netip.Addr, b []byte) {
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		o.t.Fatalf("DNS at %d: %v", at, err)
	}
	name := strings.TrimSuffix(strings.ToLower(m.Question[0].Name), ".")
	for _, rr := range m.Answer {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		default:
			continue
		}
		k := namedServer{subscriberKey(sub), a}
		x := answer{at, int64(rr.Header().Ttl) * 1e9, name}
		o.answers[k] = append(o.answers[k], x)
		o.hints[a] = append(o.hints[a], x)
	}
}

func (o *oracle) tcp(f *Frame, src, dst netip.Addr, length int, l *layers.TCP) {
	k := flowKey{src, dst, uint16(l.SrcPort), uint16(l.DstPort)}
	if f.Downlink {
		k = flowKey{dst, src, uint16(l.DstPort), uint16(l.SrcPort)}
	}
	ip := 20
	if src.Is6() {
		ip = 40
	}
	n := length - ip - int(l.DataOffset)*4
	payload := bytes.Clone(l.Payload[:n]) // without Ethernet's padding
	o.packets[k] = append(o.packets[k], seenPacket{
		f.Time, f.Downlink, l.SYN, l.ACK, l.FIN, l.RST, length, payload, l.Seq, l.Ack,
	})
	if f.Downlink && l.SrcPort == 53 && n > 2 && !l.SYN {
		whole := true
		for _, p := range o.packets[k][:len(o.packets[k])-1] {
			whole = whole && (!p.down || len(p.payload) == 0) // first sight of it
		}
		if whole {
			o.answer(f.Time, dst, payload[2:])
		}
	}
}

func run(t *testing.T, g *Generator, each func(*Frame)) []FlowTruth {
	t.Helper()
	var truth []FlowTruth
	g.SetTruth(func(f *FlowTruth) { truth = append(truth, *f) })
	var f Frame
	for g.Next(&f) {
		each(&f)
	}
	return truth
}

func generator(t testing.TB, name string, opt Options, change func(*Scenario)) *Generator {
	t.Helper()
	sc, err := LoadScenario(name)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(sc)
	}
	g, err := New(sc, opt)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func keyOf(f *FlowTruth) flowKey {
	return flowKey{f.Subscriber, f.Server, f.SubscriberPort, f.ServerPort}
}

// split gives each truth its packets, and fails where a packet belongs to
// none or to two.
func (o *oracle) split(truth []FlowTruth) [][]seenPacket {
	o.t.Helper()
	byKey := map[flowKey][]int{}
	for i := range truth {
		k := keyOf(&truth[i])
		byKey[k] = append(byKey[k], i)
	}
	out := make([][]seenPacket, len(truth))
	for k, packets := range o.packets {
		flows := byKey[k]
		slices.SortFunc(flows, func(a, b int) int { return truth[a].Start.Compare(truth[b].Start) })
		for i, p := range packets {
			owner := -1
			for _, f := range flows {
				if p.at >= truth[f].Start.UnixNano() && p.at <= truth[f].End.UnixNano()+o.slack {
					if owner >= 0 {
						o.t.Fatalf("%v: packet %d belongs to two flows", k, i)
					}
					owner = f
				}
			}
			if owner < 0 {
				o.t.Fatalf("%v: packet %d at %d belongs to no flow", k, i, p.at)
			}
			out[owner] = append(out[owner], p)
		}
	}
	return out
}

// recount checks what can be counted of one flow without an opinion.
func recount(t *testing.T, f *FlowTruth, packets []seenPacket) {
	t.Helper()
	var got FlowTruth
	for _, p := range packets {
		if p.down {
			got.DownlinkBytes += uint64(p.bytes)
			got.DownlinkPackets++
			got.DownlinkPayloadBytes += uint64(len(p.payload))
		} else {
			got.UplinkBytes += uint64(p.bytes)
			got.UplinkPackets++
			got.UplinkPayloadBytes += uint64(len(p.payload))
		}
		switch {
		case p.syn && p.ack:
			got.SYNACK++
		case p.syn:
			got.SYN++
		}
		if p.fin {
			got.FIN++
		}
		if p.rst {
			got.RST++
		}
	}
	type counts [10]uint64
	of := func(f *FlowTruth) counts {
		return counts{
			f.UplinkBytes + f.UplinkDuplicateBytes, f.DownlinkBytes + f.DownlinkDuplicateBytes,
			f.UplinkPackets + f.UplinkDuplicates, f.DownlinkPackets + f.DownlinkDuplicates,
			f.UplinkPayloadBytes, f.DownlinkPayloadBytes, f.SYN, f.SYNACK, f.FIN, f.RST,
		}
	}
	counted, want := of(&got), of(f)
	if f.UplinkDuplicates+f.DownlinkDuplicates > 0 {
		clear(counted[4:]) // copies count here, and not in the truth
		clear(want[4:])
	}
	if counted != want {
		t.Errorf("%v %v: counted %v, truth %v", keyOf(f), f.Start, counted, want)
	}
	for i, p := range packets[1:] {
		gap := time.Duration(p.at - packets[i].at)
		if gap > time.Hour || gap > 5*time.Minute && f.Class != "chat" || gap > time.Minute && f.UplinkPackets == f.SYN && f.DownlinkPackets == 0 {
			t.Errorf("%v %v: %v of silence inside the flow", keyOf(f), f.Start, gap)
		}
	}
	handshake(t, f, packets)
	if f.SYNSeen != (got.SYN > 0) {
		t.Errorf("%v %v: syn_seen %v with %d SYN", keyOf(f), f.Start, f.SYNSeen, got.SYN)
	}
	if first, last := packets[0].at, packets[len(packets)-1].at; first != f.Start.UnixNano() || last != f.End.UnixNano() && f.UplinkDuplicates+f.DownlinkDuplicates == 0 {
		t.Errorf("%v: from %d to %d, truth from %v to %v", keyOf(f), first, last, f.Start, f.End)
	}
}

// handshake checks the handshake's round-trip times where nothing of it was
// repeated.
func handshake(t *testing.T, f *FlowTruth, packets []seenPacket) {
	t.Helper()
	if f.SYN != 1 || f.SYNACK != 1 || f.UplinkDuplicates+f.DownlinkDuplicates+f.UplinkUncaptured > 0 {
		return
	}
	var syn, answer, ack int64
	for _, p := range packets {
		switch {
		case p.syn && !p.ack:
			syn = p.at
		case p.syn:
			answer = p.at
		case !p.down && !p.rst && answer != 0 && ack == 0:
			ack = p.at
		}
	}
	near := func(s Seconds, from, to int64) bool {
		return s.Known() && math.Abs(float64(s)-float64(to-from)/1e9) < 1e-9
	}
	if syn < answer && !near(f.ServerRTTHandshake, syn, answer) {
		t.Errorf("%v: server side %v, truth %v", keyOf(f), answer-syn, f.ServerRTTHandshake)
	}
	if ack != 0 && !near(f.AccessRTTHandshake, answer, ack) {
		t.Errorf("%v: access side %v, truth %v", keyOf(f), ack-answer, f.AccessRTTHandshake)
	}
	if f.HandshakeClean && f.ServerRTTHandshake < f.ServerRTTPath {
		t.Errorf("%v: %v is less than the path's %v", keyOf(f), f.ServerRTTHandshake, f.ServerRTTPath)
	}
}

// repeats checks retransmitted and out_of_order by the bytes that have passed:
// together they are the segments whose bytes had all passed and those that
// fill a hole. It also checks that a repeat says the same again.
func repeats(t *testing.T, f *FlowTruth, packets []seenPacket) {
	t.Helper()
	for d, down := range []bool{false, true} {
		var base uint32
		var stream []byte
		var have []bool
		known := false
		again, fills := uint64(0), uint64(0)
		for _, p := range packets {
			if p.down != down {
				continue
			}
			if p.syn {
				base, known = p.seq+1, true
				continue
			}
			n := len(p.payload)
			if p.fin {
				n++
			}
			if p.rst || n == 0 {
				continue
			}
			if !known {
				base, known = p.seq, true // an idle flow found again
			}
			at := int(int32(p.seq - base))
			if at < 0 || at > 64<<20 {
				t.Errorf("%v: segment at %d of its stream", keyOf(f), at)
				return
			}
			top := len(have)
			for len(have) < at+n {
				have = append(have, false)
				stream = append(stream, 0)
			}
			fresh := false
			for i := range n {
				fresh = fresh || !have[at+i]
				if i < len(p.payload) {
					if have[at+i] && stream[at+i] != p.payload[i] {
						t.Fatalf("%v: byte %d of %d is not what it was", keyOf(f), at+i, d)
					}
					stream[at+i] = p.payload[i]
				}
				have[at+i] = true
			}
			switch {
			case !fresh:
				again++
			case at < top:
				fills++
			}
		}
		retransmitted, late := f.UplinkRetransmitted, f.UplinkOutOfOrder
		if down {
			retransmitted, late = f.DownlinkRetransmitted, f.DownlinkOutOfOrder
		}
		if again+fills != retransmitted+late || again > retransmitted || late > fills {
			t.Errorf("%v direction %d: %d repeats and %d holes filled, truth %d retransmitted and %d out of order",
				keyOf(f), d, again, fills, retransmitted, late)
		}
	}
}

var testClasses = []struct {
	class string
	names *regexp.Regexp
}{
	{"chat", regexp.MustCompile(`^([cde]\d+|g|g-fallback|chat(-fallback)?\.cdn)\.whatsapp\.net$`)},
	{"photo", regexp.MustCompile(`^mmi\d+\.whatsapp\.net$`)},
	{"audio", regexp.MustCompile(`^mms\d+\.whatsapp\.net$`)},
	{"video", regexp.MustCompile(`^mmv\d+\.whatsapp\.net$`)},
	{"media", regexp.MustCompile(`^(mmg(-fna)?|media-[a-z]+\d+-\d+\.cdn|media\.f[a-z]+\d+-\d+\.fna)\.whatsapp\.net$`)},
	{"profile", regexp.MustCompile(`^pps\.whatsapp\.net$`)},
	{"web", regexp.MustCompile(`^((web|www)\.whatsapp\.com|static\.whatsapp\.net|wa\.me)$`)},
	{"control", regexp.MustCompile(`^(v|dit|crashlogs|graph|privatestats)\.whatsapp\.net$`)},
}

func classOfName(name string) string {
	for _, c := range testClasses {
		if c.names.MatchString(name) {
			return c.class
		}
	}
	return "other"
}

// helloName is the server name of a ClientHello at the stream's beginning, ""
// without one and behind ECH.
func helloName(packets []seenPacket) string {
	var base uint32
	var stream []byte
	have := 0
	pieces := map[int][]byte{}
	for _, p := range packets {
		if p.down {
			if p.syn {
				base = p.akn
			}
			continue
		}
		if p.syn {
			base = p.seq + 1
		} else if base != 0 && len(p.payload) > 0 {
			pieces[int(int32(p.seq-base))] = p.payload
		}
	}
	for pieces[have] != nil && have < 1<<15 {
		stream = append(stream, pieces[have]...)
		have = len(stream)
	}
	if len(stream) < 9 || stream[0] != 22 || stream[5] != 1 {
		return ""
	}
	n := 5 + int(binary.BigEndian.Uint16(stream[3:]))
	if len(stream) < n {
		return ""
	}
	b := stream[43:n]
	b = b[1+int(b[0]):]
	b = b[2+int(binary.BigEndian.Uint16(b)):]
	b = b[1+int(b[0]):]
	b = b[2:]
	name := ""
	for len(b) >= 4 {
		kind, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		switch kind {
		case 0:
			name = string(b[9 : 4+size])
		case 0xfe0d:
			return ""
		}
		b = b[4+size:]
	}
	return name
}

// name applies the naming rules to one flow.
func (o *oracle) name(f *FlowTruth, packets []seenPacket) (evidence, name string) {
	start := packets[0].at
	if sni := helloName(packets); sni != "" {
		return "sni", sni
	}
	k := namedServer{subscriberKey(f.Subscriber), f.Server}
	var last *answer
	for i := range o.answers[k] {
		if a := &o.answers[k][i]; a.at <= start {
			last = a
		}
	}
	if last != nil {
		switch past := start - last.at - last.ttl - int64(10*time.Second); {
		case past <= 0:
			return "dns", last.name
		case past <= int64(6*time.Hour):
			return "dns-stale", last.name
		}
	}
	hint, class := "", ""
	for _, h := range o.hints[f.Server] {
		if h.at > start || start-h.at > int64(6*time.Hour) {
			continue
		}
		if c := classOfName(h.name); class == "" || class == c {
			class, hint = c, h.name
		} else {
			hint = "" // they differ
			break
		}
	}
	if hint != "" {
		return "server", hint
	}
	for _, a := range o.answers[k] {
		if a.at > start && a.at-start <= int64(time.Second) {
			return "dns", a.name
		}
	}
	return "none", ""
}

func TestTruthAgainstOracle(t *testing.T) {
	for _, c := range []struct {
		scenario string
		opt      Options
		change   func(*Scenario)
	}{
		{"quiet-hour", Options{Seed: 1, Subscribers: 600}, nil},
		{"busy-hour", Options{Seed: 2, Subscribers: 600, Duration: 20 * time.Minute}, nil},
		{"busy-hour", Options{Seed: 3, Subscribers: 200, Encapsulation: "vlan"}, nil},
		{"busy-hour", Options{Seed: 4, Subscribers: 200, Encapsulation: "qinq+mpls"}, nil},
		{"busy-hour", Options{Seed: 5, Subscribers: 200, Encapsulation: "vlan+gtpu"}, nil},
		{"busy-hour", Options{Seed: 6, Subscribers: 200, Encapsulation: "gtpu6"}, nil},
		{"busy-hour", Options{Seed: 7, Subscribers: 200}, func(sc *Scenario) { // a bad network
			sc.Access.Loss, sc.Server.Loss = 0.03, 0.03
			sc.Access.Reorder, sc.Server.Reorder = 0.02, 0.02
		}},
		{"busy-hour", Options{Seed: 8, Subscribers: 200}, func(sc *Scenario) { // aborts, resets
			for i := range sc.Services {
				sc.Services[i].Abort = 0.5
			}
			for i := range sc.Devices {
				sc.Devices[i].Reset = 0.5
			}
		}},
		{"busy-hour", Options{Seed: 9, Subscribers: 100}, func(sc *Scenario) { sc.Tap.ClientOnly = 0.5 }},
		{"busy-hour", Options{Seed: 13, Subscribers: 200}, func(sc *Scenario) { sc.Tap.Loss = 0.02 }},
		{"busy-hour", Options{Seed: 14, Subscribers: 100}, func(sc *Scenario) { sc.Tap.Duplicates = 0.2 }},
		{"mixed-2026", Options{Seed: 10, Subscribers: 200}, nil},
		{"hostile-dns", Options{Seed: 11, Subscribers: 500}, nil},
		{"outage-2014", Options{Seed: 12, Subscribers: 30, Duration: 25 * time.Hour}, nil},
	} {
		t.Run(fmt.Sprintf("%s seed %d", c.scenario, c.opt.Seed), func(t *testing.T) {
			t.Parallel()
			g := generator(t, c.scenario, c.opt, c.change)
			o := newOracle(t)
			if g.sc.Tap.Duplicates > 0 {
				o.slack = 200e3
			}
			truth := run(t, g, o.frame)
			if len(truth) < 50 {
				t.Fatalf("only %d flows", len(truth))
			}
			flows := o.split(truth)
			evidence := map[string]int{}
			for i := range truth {
				f := &truth[i]
				if len(flows[i]) == 0 {
					t.Errorf("%v %v: no packet", keyOf(f), f.Start)
					continue
				}
				recount(t, f, flows[i])
				if g.sc.Tap.Loss+g.sc.Tap.Duplicates == 0 {
					repeats(t, f, flows[i])
				}
				e, name := o.name(f, flows[i])
				evidence[e]++
				if e != f.Evidence || name != string(f.Name) || classOfName(name) != f.Class {
					t.Errorf("%v %v: oracle says %s %q, truth %s %q %s", keyOf(f), f.Start, e, name, f.Evidence, f.Name, f.Class)
				}
			}
			t.Logf("%d frames, %d flows, %v", o.frames, len(truth), evidence)
		})
	}
}
