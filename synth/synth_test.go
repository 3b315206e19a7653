package synth

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/zstd"
	"github.com/miekg/dns"
)

func digest(t *testing.T, g *Generator) (frames, truth string) {
	t.Helper()
	a, b := sha256.New(), sha256.New()
	var head [9]byte
	var line []byte
	g.SetTruth(func(f *FlowTruth) {
		line = append(f.AppendJSON(line[:0]), '\n')
		b.Write(line)
	})
	var f Frame
	for g.Next(&f) {
		binary.BigEndian.PutUint64(head[:], uint64(f.Time))
		head[8] = byte(f.Interface())
		a.Write(head[:])
		a.Write(f.Data)
	}
	return fmt.Sprintf("%x", a.Sum(nil)), fmt.Sprintf("%x", b.Sum(nil))
}

func TestSeed(t *testing.T) {
	for _, name := range Scenarios() {
		opt := Options{Seed: 7, Subscribers: 60, Duration: 10 * time.Minute}
		frames, truth := digest(t, generator(t, name, opt, nil))
		frames2, truth2 := digest(t, generator(t, name, opt, nil))
		if frames != frames2 || truth != truth2 {
			t.Errorf("%s: the same seed gives other bytes", name)
		}
		opt.Seed = 8
		if other, _ := digest(t, generator(t, name, opt, nil)); other == frames {
			t.Errorf("%s: another seed gives the same bytes", name)
		}
	}
}

// With or without somebody listening to the truth, the frames are the same.
func TestTruthLeavesFramesAlone(t *testing.T) {
	opt := Options{Seed: 3, Subscribers: 60}
	with, _ := digest(t, generator(t, "hostile-dns", opt, nil))
	g := generator(t, "hostile-dns", opt, nil)
	h := sha256.New()
	var head [9]byte
	var f Frame
	for g.Next(&f) {
		binary.BigEndian.PutUint64(head[:], uint64(f.Time))
		head[8] = byte(f.Interface())
		h.Write(head[:])
		h.Write(f.Data)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != with {
		t.Error("frames depend on the truth's listener")
	}
}

// What is alive is bounded by the population: the second quarter of a long,
// even trace needs as much as its last one.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulated day takes seconds")
	}
	g := generator(t, "busy-hour", Options{Seed: 1, Subscribers: 50, Duration: 24 * time.Hour}, func(sc *Scenario) {
		for i := range sc.Rhythm.Hourly {
			sc.Rhythm.Hourly[i] = 1
		}
	})
	type peak struct{ connections, packets, lookups, events, remembered int }
	peaks := map[int64]*peak{}
	heap := map[int64]uint64{}
	var f Frame
	for n := 0; g.Next(&f); n++ {
		if n%512 != 0 {
			continue
		}
		quarter := (f.Time - g.start) / int64(6*time.Hour)
		if peaks[quarter] == nil {
			peaks[quarter] = &peak{}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			heap[quarter] = m.HeapAlloc
		}
		p, s := peaks[quarter], g.Stats()
		p.connections = max(p.connections, s.Connections)
		p.packets = max(p.packets, s.Packets)
		p.lookups = max(p.lookups, s.Lookups)
		p.events = max(p.events, s.Events)
		p.remembered = max(p.remembered, s.Remembered)
	}
	a, b := *peaks[1], *peaks[3]
	t.Logf("peaks %+v, then %+v; heap %d, %d, %d KiB", a, b, heap[1]>>10, heap[2]>>10, heap[3]>>10)
	grows := func(what string, a, b int) {
		if b > a*3/2+20 {
			t.Errorf("%s grow from %d to %d", what, a, b)
		}
	}
	grows("connections", a.connections, b.connections)
	grows("packets", a.packets, b.packets)
	grows("lookups", a.lookups, b.lookups)
	grows("events", a.events, b.events)
	grows("names", a.remembered, b.remembered)
	grows("heap bytes", int(heap[2]), int(heap[3]))
}

// A frame costs no allocation; a connection or a name may, until there are as
// many as ever at one time.
func TestAllocations(t *testing.T) {
	g := generator(t, "busy-hour", Options{Seed: 1, Subscribers: 300, Duration: time.Hour}, nil)
	var f Frame
	for range 40_000 {
		g.Next(&f)
	}
	const frames = 2000
	if n := testing.AllocsPerRun(20, func() {
		for range frames {
			g.Next(&f)
		}
	}); n > frames/20 {
		t.Errorf("%v allocations in %d frames", n, frames)
	}
}

func BenchmarkNext(b *testing.B) {
	for _, kind := range []string{"none", "gtpu"} {
		b.Run(kind, func(b *testing.B) {
			opt := Options{Seed: 1, Subscribers: 5000, Duration: 1000 * time.Hour, Encapsulation: kind}
			g := generator(b, "busy-hour", opt, nil)
			g.SetTruth(func(*FlowTruth) {})
			var f Frame
			for range 100_000 {
				g.Next(&f)
			}
			octets := 0
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				g.Next(&f)
				octets += len(f.Data)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			b.SetBytes(int64(octets / max(b.N, 1)))
		})
	}
}

var checkAll = []string{
	"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
	"-o", "tcp.reassemble_out_of_order:TRUE", "--disable-protocol", "xmpp", "--disable-protocol", "thrift",
}

// allowedExperts is what tshark may remark on: closes that were meant.
var allowedExperts = regexp.MustCompile(`Connection (reset|establish|finish)|(GET|HTTP)|` +
	`initiates the connection closing|undergoes the connection closing|` +
	`reuses previously negotiated keys|[Kk]eep-alive|` +
	`A new tcp session is started with the same ports`)

// allowedLossy is what it may remark on where packets are lost or overtaken.
var allowedLossy = regexp.MustCompile(`retransmission|out-of-order|Duplicate ACK|not captured|query retransmission|response retransmission|DNS response missing`)

// TestWireshark has tshark look for anything wrong with the traces.
func TestWireshark(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed (Debian: apt-get install tshark)")
	}
	calm := func(sc *Scenario) {
		sc.Access.Loss, sc.Access.Reorder, sc.Server.Loss, sc.Server.Reorder = 0, 0, 0, 0
		sc.Access.Wake = 0
		sc.Access.UplinkMin, sc.Access.UplinkMax = 20e6, 20e6 // no queue long enough for a spurious time-out
		sc.Access.DownlinkMin, sc.Access.DownlinkMax = 20e6, 20e6
		for i := range sc.Services {
			sc.Services[i].PortReuse = 0
			if sc.Services[i].Protocol == "dead" {
				sc.Services[i].PerHour = 0
			}
		}
	}
	for _, c := range []struct {
		name, scenario string
		opt            Options
		change         func(*Scenario)
		lossy          bool
	}{
		{"calm", "busy-hour", Options{Seed: 1, Subscribers: 300}, calm, false},
		{"calm in tunnels", "mixed-2026", Options{Seed: 2, Subscribers: 60}, calm, false},
		{"calm with fragments", "mixed-2026", Options{Seed: 2, Subscribers: 60}, func(sc *Scenario) {
			calm(sc)
			sc.Access.MSS = 1440
		}, false},
		{"calm in IPv6 tunnels", "busy-hour", Options{Seed: 3, Subscribers: 60, Encapsulation: "qinq+gtpu6"}, calm, false},
		{"losses", "busy-hour", Options{Seed: 4, Subscribers: 300, Encapsulation: "vlan+mpls"}, nil, true},
		{"hostile", "hostile-dns", Options{Seed: 5, Subscribers: 200}, nil, true},
		{"outage", "outage-2014", Options{Seed: 6, Subscribers: 12, Duration: 25 * time.Hour}, func(sc *Scenario) {
			// Chat on port 80, which the ladder ends with, is no HTTP.
			sc.Outage.Ladder = slices.DeleteFunc(sc.Outage.Ladder, func(s string) bool { return s == "chat:80" })
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trace.pcapng")
			w, err := CreateTrace(path, TraceOptions{})
			if err != nil {
				t.Fatal(err)
			}
			g := generator(t, c.scenario, c.opt, c.change)
			if err := errors.Join(Write(context.Background(), g, w, nil, nil), w.Close()); err != nil {
				t.Fatal(err)
			}
			bad := tsharkOut(t, tshark, path, "-Y", "ip.checksum.status==0 or tcp.checksum.status==0 or udp.checksum.status==0 or _ws.malformed")
			if bad != "" {
				t.Errorf("bad checksums or malformed:\n%.2000s", bad)
			}
			for _, line := range strings.Split(tsharkOut(t, tshark, path, "-q", "-z", "expert"), "\n") {
				fields := strings.Fields(line)
				if len(fields) < 4 || strings.Trim(fields[0], "0123456789") != "" {
					continue
				}
				if allowedExperts.MatchString(line) || c.lossy && allowedLossy.MatchString(line) {
					continue
				}
				t.Error("tshark remarks: ", strings.TrimSpace(line))
			}
			if g.frames < 2000 {
				t.Errorf("only %d frames", g.frames)
			}
		})
	}
}

func tsharkOut(t *testing.T, tshark, path string, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(tshark, append(append([]string{"-r", path}, checkAll...), args...)...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, errs.String())
	}
	return string(out)
}

// TestControlPlane has tshark read the identities out of GTP-C, and compares
// them with the truth's.
func TestControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed (Debian: apt-get install tshark)")
	}
	path := filepath.Join(t.TempDir(), "trace.pcap")
	w, err := CreateTrace(path, TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := generator(t, "mixed-2026", Options{Seed: 4, Subscribers: 120, Duration: 40 * time.Minute}, func(sc *Scenario) {
		sc.Encapsulation.GTPv2 = 0.5
	})
	known := map[string]string{}
	g.SetTruth(func(f *FlowTruth) {
		if f.APN != "" {
			known[string(f.IMSIClear)] = string(f.APN) + " " + string(f.TAC)
		}
	})
	if err := errors.Join(Write(context.Background(), g, w, nil, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	out := tsharkOut(t, tshark, path, "-Y", "gtp.message==16 or gtpv2.message_type==32", "-T", "fields",
		"-e", "e212.imsi", "-e", "gtp.apn", "-e", "gtpv2.apn", "-e", "gtp.ext_imeisv", "-e", "gtpv2.mei")
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("tshark reads %q", line)
		}
		seen[f[0]] = f[1] + " " + f[2][:8]
	}
	if len(known) < 50 {
		t.Fatalf("only %d subscribers are known", len(known))
	}
	for imsi, who := range known {
		if seen[imsi] != who {
			t.Errorf("%s: tshark reads %q, truth %q", imsi, seen[imsi], who)
		}
	}
	kinds := map[string]bool{}
	for line := range strings.Lines(tsharkOut(t, tshark, path, "-Y", "udp.port==2123", "-T", "fields", "-e", "gtp.message", "-e", "gtpv2.message_type")) {
		kinds[strings.TrimSpace(line)] = true
	}
	for _, k := range []string{"16", "17", "18", "19", "20", "21", "32", "33", "34", "35", "36", "37"} {
		if !kinds[k] && !kinds["0x"+k] && !kinds[fmt.Sprintf("0x%02x", atoi(k))] {
			t.Errorf("no message of type %s in %v", k, kinds)
		}
	}
}

func atoi(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}

func TestTunnels(t *testing.T) {
	o := newOracle(t)
	run(t, generator(t, "busy-hour", Options{Seed: 3, Subscribers: 100, Encapsulation: "gtpu"}, nil), o.frame)
	if len(o.teids[0]) < 70 || len(o.teids[1]) < 70 || o.control < 100 {
		t.Fatalf("%d uplink and %d downlink tunnels, %d messages", len(o.teids[0]), len(o.teids[1]), o.control)
	}
	for teid := range o.teids[0] {
		if o.teids[1][teid] {
			t.Errorf("TEID %#x serves both directions", teid)
		}
	}
}

// Outer fragments put together are the packet that was cut.
func TestFragments(t *testing.T) {
	opt := Options{Seed: 3, Subscribers: 20}
	frames := func(mtu int) (n int, whole []string) {
		var first []byte
		g := generator(t, "mixed-2026", opt, func(sc *Scenario) {
			sc.Access.MSS = 1440
			sc.Encapsulation.MTU = mtu
		})
		run(t, g, func(f *Frame) {
			n++
			p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
			ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if mtu > 0 && int(ip.Length) > mtu {
				t.Fatalf("packet of %d bytes", ip.Length)
			}
			data := ip.Payload[:int(ip.Length)-20]
			switch {
			case ip.Flags&layers.IPv4MoreFragments != 0:
				first = bytes.Clone(data)
				return
			case ip.FragOffset > 0:
				if int(ip.FragOffset)*8 != len(first) {
					t.Fatalf("fragment at %d after %d bytes", ip.FragOffset*8, len(first))
				}
				data = append(first, data...)
			}
			whole = append(whole, string(data))
		})
		return n, whole
	}
	n, cut := frames(1500)
	m, whole := frames(0)
	if n <= m {
		t.Fatalf("%d frames with an MTU, %d without", n, m)
	}
	if !slices.Equal(cut, whole) {
		t.Error("fragments put together differ from the whole packets")
	}
}

func TestOutage(t *testing.T) {
	g := generator(t, "outage-2014", Options{Seed: 5, Subscribers: 120, Duration: 24*time.Hour + 30*time.Minute}, nil)
	type bin struct{ flows, syn, synAck, rst, up, down, chatUp, mediaDown float64 }
	bins := make([]bin, 26)
	run := func(f *FlowTruth) {
		if f.TrueApp != "whatsapp" {
			return
		}
		b := &bins[int(f.Start.Sub(g.Start())/time.Hour)]
		b.flows++
		b.syn += float64(f.SYN)
		b.synAck += float64(f.SYNACK)
		b.rst += float64(f.RST)
		b.up += float64(f.UplinkBytes)
		b.down += float64(f.DownlinkBytes)
		if f.TrueClass == "chat" {
			b.chatUp += float64(f.UplinkBytes)
		} else {
			b.mediaDown += float64(f.DownlinkBytes)
		}
	}
	g.SetTruth(run)
	var f Frame
	for g.Next(&f) {
		continue
	}
	var before, during bin
	add := func(a *bin, hours ...int) {
		for _, h := range hours {
			b := bins[h]
			a.flows += b.flows
			a.syn += b.syn
			a.synAck += b.synAck
			a.rst += b.rst
			a.up += b.up
			a.down += b.down
			a.chatUp += b.chatUp
			a.mediaDown += b.mediaDown
		}
	}
	add(&before, 14, 15, 16, 17)
	add(&during, 19, 20, 21, 22)
	t.Logf("before %+v", before)
	t.Logf("during %+v", during)
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{during.down < 0.35*before.down, "downlink volume does not fall"},
		{during.up < 0.5*before.up, "uplink volume does not fall"},
		{during.flows > 1.8*before.flows, "flow counts do not climb"},
		{during.rst > 3*before.rst, "RST do not climb"},
		{during.synAck > 0.95*during.syn, "servers are not reachable"},
		{during.chatUp > 0.5*during.up, "the uplink's residue is not chat"},
	} {
		if !c.ok {
			t.Error(c.what)
		}
	}
	if m := g.Milestones(); len(m) != 2 || m[0].At != 18*time.Hour+30*time.Minute || m[1].At != 23*time.Hour+30*time.Minute {
		t.Errorf("milestones %v", m)
	}
}

func TestScenarioErrors(t *testing.T) {
	good, err := os.ReadFile("scenarios/busy-hour.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"subscribers: 2000", "subscribers: 0", `line \d+: subscribers: must be between 1`},
		{"duration: 10m", "duration: ten", `line \d+: "ten" is not a duration`},
		{"duration: 10m", "duration: -10m", `line \d+: "-10m" is not a duration`},
		{"start: 2014-02-18T19:10:00Z", "start: yesterday", `line \d+`},
		{"name: busy-hour", "title: busy-hour", `line \d+: unknown key "title"`},
		{"    stack: ios-2014", "    stack: ios-1984", `line \d+: devices.1.stack: "ios-1984" is not known: use one of android-2014`},
		{"0.35, 0.20,", "0.35,", `rhythm.hourly: must be 24`},
		{"mss: 1400", "mss: 9000", `line \d+: access.mss: must be between`},
		{"  loss: 0.003", "  loss: 0.9", `line \d+: access.loss: must be between 0 and 0.3`},
		{"resolver: 192.0.2.53", "resolver: example", `line \d+: dns.resolver: must be an IPv4 address`},
		{"kind: none", "kind: pigeon", `line \d+: encapsulation.kind: "pigeon" is no encapsulation`},
		{"pool: chat", "pool: chut", `line \d+: services.0.pool: "chut" is no pool`},
		{"protocol: chat", "protocol: morse", `line \d+: services.0.protocol: must be one of`},
		{"ports: [80]", "ports: [80000]", `line \d+: services.\d.ports.0: must be between`},
		{"mmi{601..660}", "mmi{660..601}", `line \d+: services.1.names.0: .*is no name or range`},
		{"mmi{601..660}", "MMI1", `is no lower-case DNS name`},
		{"count: 150", "count: 0", `line \d+: pools.0.count`},
		{"sites: [houston, dallas], count: 25", "sites: [austin], count: 25", `line \d+: pools.1.sites.0: "austin" is no site`},
		{"5.10.11.0/24", "5.10.0.0/16", `line \d+: sites.0.prefixes.0: must be an IPv4 /24`},
		{`tac: ["01332700", "01388300"]`, `tac: ["0133"]`, `line \d+: devices.1.tac.0: must be 8 digits`},
		{"- os: ios", `- os: "i\"os"`, `line \d+: devices.1.os: must be of`},
		{"tap: {}", "tap: {loss: 2}", `line \d+: tap.loss`},
		{"tap: {}", "tap: {", `line \d+`},
		{"tap: {}", "tap: hello", "line \\d+: `hello` cannot stand there; nametap synth show NAME prints a scenario of every key$"},
		{"tap: {}", "outage: {app: whatsapp, duration: 1h, ladder: [nothing], wait_min: 1m, wait_max: 2m, surge: 1}", `line \d+: outage.ladder.0: "nothing" is no service's id and port`},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Errorf("%q is not in the scenario", c.old)
			continue
		}
		_, err := ParseScenario("x.yaml", []byte(text))
		if err == nil || !regexp.MustCompile(`^scenario x\.yaml: .*`+c.want).MatchString(err.Error()) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %s", c.new, err, c.want)
		}
	}
	if _, err := ParseScenario("empty", nil); err == nil {
		t.Error("nothing is a scenario")
	}
	if _, err := LoadScenario("no-such"); err == nil || !strings.Contains(err.Error(), "busy-hour") {
		t.Errorf("error %v", err)
	}
	path := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if sc, err := LoadScenario(path); err != nil || sc.Name != "busy-hour" {
		t.Errorf("%v, error %v", sc, err)
	}
}

func FuzzParseScenario(f *testing.F) {
	for _, name := range Scenarios() {
		b, err := builtin.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("devices: [&a {os: *a}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sc, err := ParseScenario("fuzz", b)
		if err != nil {
			return
		}
		g, err := New(sc, Options{Seed: 1, Subscribers: 3, Duration: time.Minute})
		if err != nil {
			return
		}
		var frame Frame
		for n := 0; n < 2000 && g.Next(&frame); n++ {
			continue
		}
	})
}

func TestOptionErrors(t *testing.T) {
	sc, err := LoadScenario("busy-hour")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Duration: -1}, {Subscribers: -1}, {Subscribers: MaxSubscribers + 1}, {Encapsulation: "gre"}} {
		if _, err := New(sc, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestWriters(t *testing.T) {
	dir := t.TempDir()
	opt := Options{Seed: 2, Subscribers: 20}
	var want []Frame
	run(t, generator(t, "busy-hour", opt, nil), func(f *Frame) {
		want = append(want, Frame{f.Time, bytes.Clone(f.Data), f.Downlink, f.dns})
	})
	for _, name := range []string{"a.pcap", "a.pcapng", "a.pcap.zst", "a.pcapng.gz", "a.pcap.gz", "split.pcapng.zst", "split.pcap", "snap.pcap", "snap.pcapng"} {
		o := TraceOptions{Split: strings.HasPrefix(name, "split")}
		if strings.HasPrefix(name, "snap") {
			o.SnapLength = 96
		}
		w, err := CreateTrace(filepath.Join(dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(Write(context.Background(), generator(t, "busy-hour", opt, nil), w, nil, nil), w.Close()); err != nil {
			t.Fatal(err)
		}
		for d, path := range w.Paths() {
			i := 0
			for data, info := range readTrace(t, path) {
				for o.Split && want[i].Interface() != d {
					i++
				}
				f := &want[i]
				i++
				if info.Timestamp.UnixNano() != f.Time || info.Length != len(f.Data) || !bytes.HasPrefix(f.Data, data) {
					t.Fatalf("%s: frame %d differs", path, i)
				}
				if full := o.SnapLength == 0 || f.dns; full && len(data) != len(f.Data) || !full && len(data) != min(96, len(f.Data)) {
					t.Fatalf("%s: frame %d has %d of %d bytes", path, i, len(data), len(f.Data))
				}
				if strings.Contains(path, "a.pcapng") && info.InterfaceIndex != f.Interface() {
					t.Fatalf("%s: frame %d is of interface %d", path, i, info.InterfaceIndex)
				}
			}
			for o.Split && i < len(want) && want[i].Interface() != d {
				i++
			}
			if i != len(want) {
				t.Errorf("%s: %d of %d frames", path, i, len(want))
			}
		}
	}
	var out bytes.Buffer
	w, err := CreateTrace("-", TraceOptions{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Write(context.Background(), generator(t, "busy-hour", opt, nil), w, nil, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(filepath.Join(dir, "a.pcap"))
	if err != nil || !bytes.Equal(plain, out.Bytes()) {
		t.Errorf("standard output differs from the file, error %v", err)
	}
	for _, o := range []TraceOptions{{Split: true}, {SnapLength: -1}, {SnapLength: 10}} {
		if _, err := CreateTrace("-", o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := CreateTrace(filepath.Join(dir, "no", "such.pcap"), TraceOptions{}); err == nil {
		t.Error("a missing folder is accepted")
	}
	if _, err := CreateTrace(filepath.Join(dir, "no", "such.pcap.zst"), TraceOptions{Split: true}); err == nil {
		t.Error("a missing folder is accepted")
	}
}

// readTrace yields a file's packets by gopacket's own readers.
func readTrace(t *testing.T, path string) func(yield func([]byte, gopacket.CaptureInfo) bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func([]byte, gopacket.CaptureInfo) bool) {
		var in io.Reader = bytes.NewReader(b)
		switch filepath.Ext(path) {
		case ".zst":
			z, err := zstd.NewReader(in)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			in = z
		case ".gz":
			in = gunzip(t, in)
		}
		var r gopacket.PacketDataSource
		var err error
		if strings.Contains(path, ".pcapng") {
			r, err = pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{})
		} else {
			r, err = pcapgo.NewReader(in)
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			data, info, err := r.ReadPacketData()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !yield(data, info) {
				return
			}
		}
	}
}

func gunzip(t *testing.T, in io.Reader) io.Reader {
	t.Helper()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// An error of the disk ends the run and names the file.
func TestWriteFails(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	w, err := CreateTrace("/dev/full", TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(Write(context.Background(), generator(t, "busy-hour", Options{Subscribers: 100}, nil), w, nil, nil), w.Close())
	if err == nil || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("error %v", err)
	}
}

func TestWriteStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	g := generator(t, "busy-hour", Options{Subscribers: 100}, nil)
	if err := Write(ctx, g, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// The contract's record, in its order.
var recordKeys = strings.Fields(`start end duration_s subscriber subscriber_port server server_port name dns_name sni evidence
	dns_age_s app class syn_seen end_reason uplink_bytes downlink_bytes uplink_packets downlink_packets uplink_payload_bytes
	downlink_payload_bytes syn syn_ack fin rst uplink_retransmitted downlink_retransmitted uplink_out_of_order
	downlink_out_of_order server_rtt_handshake_s access_rtt_handshake_s server_rtt_min_s server_rtt_mean_s access_rtt_min_s
	access_rtt_mean_s os tunnel apn imsi tac`)

func TestTruthFile(t *testing.T) {
	for _, name := range []string{"t.jsonl", "t.jsonl.zst", "t.jsonl.gz"} {
		path := filepath.Join(t.TempDir(), name)
		w, err := CreateTruth(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []FlowTruth
		g := generator(t, "mixed-2026", Options{Seed: 1, Subscribers: 40}, nil)
		g.SetTruth(func(f *FlowTruth) {
			want = append(want, *f)
			if err := w.Write(f); err != nil {
				t.Fatal(err)
			}
			line := f.AppendJSON(nil)
			standard, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := keysOf(t, line), keysOf(t, standard); !slices.Equal(a, b) {
				t.Fatalf("keys %v, by the struct's tags %v", a, b)
			}
			if got := keysOf(t, line)[:len(recordKeys)]; !slices.Equal(got, recordKeys) {
				t.Fatalf("keys %v, want %v", got, recordKeys)
			}
		})
		var f Frame
		for g.Next(&f) {
			continue
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		n := 0
		err = ReadTruth(path, func(f *FlowTruth) error {
			a, b := string(f.AppendJSON(nil)), string(want[n].AppendJSON(nil))
			if a != b {
				t.Fatalf("read %s\nwrote %s", a, b)
			}
			if f.Start != want[n].Start || f.UplinkBytes != want[n].UplinkBytes || f.Subscriber != want[n].Subscriber {
				t.Fatalf("read %+v, wrote %+v", f, want[n])
			}
			n++
			return nil
		})
		if err != nil || n != len(want) {
			t.Errorf("%s: %d of %d flows, error %v", name, n, len(want), err)
		}
	}
	path := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(path, []byte("{\"start\":\"2014-02-18T19:10:01Z\"}\n{\"what\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadTruth(path, func(*FlowTruth) error { return nil }); err == nil || !strings.Contains(err.Error(), "bad.jsonl: line 2") {
		t.Errorf("error %v", err)
	}
}

// keysOf lists an object's keys in order.
func keysOf(t *testing.T, b []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	var keys []string
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.(string))
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func TestChecksum(t *testing.T) {
	r := rng{1}
	for n := range 200 {
		b := appendRandom(nil, n, &r)
		if n%3 == 0 {
			for i := range b {
				b[i] = 0xff
			}
		}
		slow := uint32(0)
		for i := range b {
			slow += uint32(b[i]) << (8 * (1 - i%2))
		}
		slow = slow>>16 + slow&0xffff
		slow = slow>>16 + slow&0xffff
		if got := fold(sum(b, 0)); got != ^uint16(slow) && !(got^^uint16(slow) == 0xffff) {
			t.Errorf("%d bytes: %#x, want %#x", n, got, ^uint16(slow))
		}
	}
	// RFC 1071 section 3.
	if got := fold(sum([]byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}, 0)); got != ^uint16(0xddf2) {
		t.Errorf("%#x", got)
	}
}

func TestSYNOptions(t *testing.T) {
	for _, c := range []struct {
		stack string
		want  string
	}{
		{"android-2014", "02040578 0402 080a0000000100000000 01 030304"},
		{"ios-2014", "02040578 01 030304 0101 080a0000000100000000 0402 00 00"},
		{"windows-phone", "02040578 01 030308 0101 0402"},
		{"blackberry", "02040578 0101 0402 0101 080a0000000100000000"},
	} {
		var b [40]byte
		n := stacks[c.stack].synOptions(b[:], 1400, 1, 0, nil)
		if got := fmt.Sprintf("%x", b[:n]); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %s, want %s", c.stack, got, c.want)
		}
	}
	for _, c := range []struct {
		client string
		want   string
	}{
		{"android-2014", "02040578 0402 080a0000000200000001 01 030307"},
		{"windows-phone", "02040578 0101 0402 01 030307"},
		{"blackberry", "02040578 0402 080a0000000200000001"},
	} {
		var b [40]byte
		n := serverStack.synOptions(b[:], 1400, 2, 1, stacks[c.client])
		if got := fmt.Sprintf("%x", b[:n]); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("to %s: %s, want %s", c.client, got, c.want)
		}
	}
}

func TestHoles(t *testing.T) {
	var e endpoint
	for _, s := range []span{{10, 20}, {30, 40}, {50, 60}, {20, 30}, {10, 15}} {
		e.addHole(s)
	}
	if want := []span{{10, 40}, {50, 60}}; !slices.Equal(e.holes, want) {
		t.Fatalf("%v, want %v", e.holes, want)
	}
	if e.newest != (span{10, 40}) {
		t.Errorf("newest %v", e.newest)
	}
	e.rcvNxt = 5
	if !e.fill() || e.rcvNxt != 5 {
		t.Errorf("filled to %d", e.rcvNxt)
	}
	e.rcvNxt = 12
	if !e.fill() || e.rcvNxt != 40 || !slices.Equal(e.holes, []span{{50, 60}}) {
		t.Errorf("filled to %d, %v left", e.rcvNxt, e.holes)
	}
	e.rcvNxt = 70
	if !e.fill() || e.rcvNxt != 70 || len(e.holes) != 0 || e.fill() {
		t.Errorf("filled to %d, %v left", e.rcvNxt, e.holes)
	}
}

func TestQueue(t *testing.T) {
	var q queue
	r := rng{1}
	for i := range 5000 {
		q.push(int64(r.below(100)), 0, uint32(i), 0)
	}
	last := event{at: -1}
	for range 5000 {
		e := q.pop()
		if !last.before(e) {
			t.Fatalf("%v after %v", e, last)
		}
		last = e
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		text, first, last string
		n                 int
	}{
		{"g.whatsapp.net", "g.whatsapp.net", "g.whatsapp.net", 1},
		{"e{1..16}.whatsapp.net", "e1.whatsapp.net", "e16.whatsapp.net", 16},
	} {
		x, err := parseTemplate(c.text)
		if err != nil || x.count() != c.n || string(x.append(nil, 0)) != c.first || string(x.append(nil, c.n-1)) != c.last {
			t.Errorf("%s: %+v, error %v", c.text, x, err)
		}
	}
	for _, text := range []string{"", "a..b", "a{1..2", "a}1..2{", "a{2..1}.x", "a{x..y}", "A.b", "a b", strings.Repeat("a", 64), "a{1..99999999}"} {
		if _, err := parseTemplate(text); err == nil {
			t.Errorf("%q is a name", text)
		}
	}
}

// Names in answers are what a real client would have to cope with.
func TestAnswers(t *testing.T) {
	seen := map[string]int{}
	g := generator(t, "hostile-dns", Options{Seed: 1, Subscribers: 400}, func(sc *Scenario) { sc.Tap.DNSUnseen = 0 })
	run(t, g, func(f *Frame) {
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
		u, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if u == nil {
			return
		}
		var m dns.Msg
		if err := m.Unpack(u.Payload); err != nil {
			t.Fatal(err)
		}
		name := m.Question[0].Name
		count := func(what string, ok bool) {
			if ok {
				seen[what]++
			}
		}
		count("question", !m.Response)
		count("answer", m.Response && len(m.Answer) > 0)
		count("mixed case", name != strings.ToLower(name))
		count("truncated", m.Truncated)
		count("AAAA without one", m.Response && m.Question[0].Qtype == dns.TypeAAAA && len(m.Answer) == 0 && len(m.Ns) == 1)
		count("AAAA", m.Response && m.Question[0].Qtype == dns.TypeAAAA && len(m.Answer) > 0)
		count("eight addresses", len(m.Answer) == 8)
		if len(m.Answer) > 1 {
			_, alias := m.Answer[0].(*dns.CNAME)
			count("alias", alias)
		}
	})
	for _, what := range []string{"question", "answer", "mixed case", "truncated", "AAAA without one", "AAAA", "eight addresses", "alias"} {
		if seen[what] < 10 {
			t.Errorf("%s: %d", what, seen[what])
		}
	}
}

// Every built-in scenario explains itself.
func TestScenarios(t *testing.T) {
	want := []string{"busy-hour", "hostile-dns", "mixed-2026", "outage-2014", "quiet-hour"}
	if got := Scenarios(); !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for _, name := range want {
		sc, err := LoadScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		if sc.Name != name || sc.About == "" {
			t.Errorf("%s: name %q, about %q", name, sc.Name, sc.About)
		}
	}
}
