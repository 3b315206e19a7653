package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
)

// cell is one line of the passive ping: a period and a class.
type cell struct {
	end        int64 // number of the period
	app, class string
}

// figures of a cell, by side (0 server, 1 access) and by direction (0 uplink).
type figures struct {
	sum      [2]float64
	samples  [2]int
	segments [2]int
	repeats  [2]int // sent again, whatever was lost
}

// witness takes the figures of a trace in the plainest way there is: it remembers
// every segment that is not acknowledged, and every byte that has passed.
type witness struct {
	cells   map[cell]*figures
	streams map[stream]*passage
}

type stream struct{ src, dst netip.AddrPort }

// passage is one direction of a connection.
type passage struct {
	highest uint32
	any     bool
	waiting []waiting
	seen    map[uint32]bool // first bytes of segments that have passed
}

type waiting struct {
	end   uint32
	at    float64
	again bool
}

// segment takes one in. Up is whether the subscriber sent it.
func (w *witness) segment(c cell, s stream, up bool, at float64, tcp *layers.TCP, length int) {
	f := w.cells[c]
	if f == nil {
		f = &figures{}
		w.cells[c] = f
	}
	d, side := 1, 0 // downlink; what the server sends acknowledges the uplink, and passes the server side
	if up {
		d, side = 0, 1
	}
	f.segments[d]++
	own, other := w.passage(s), w.passage(stream{s.dst, s.src})
	if tcp.ACK && !tcp.RST {
		w.acknowledged(f, side, other, tcp.Ack, at)
	}
	n := uint32(length)
	if tcp.SYN || tcp.FIN {
		n++
	}
	if n == 0 || tcp.RST {
		return
	}
	end := tcp.Seq + n
	keepAlive := length <= 1 && !tcp.SYN && !tcp.FIN && own.any && tcp.Seq == own.highest-1
	switch {
	case keepAlive:
		return
	case own.seen[tcp.Seq] || own.any && int32(own.highest-tcp.Seq) > 0:
		if own.seen[tcp.Seq] {
			f.repeats[d]++
		}
		for i := range own.waiting {
			own.waiting[i].again = true // Karn
		}
	default:
		own.waiting = append(own.waiting, waiting{end: end, at: at})
	}
	own.seen[tcp.Seq] = true
	if !own.any || int32(end-own.highest) > 0 {
		own.highest, own.any = end, true
	}
}

func (w *witness) passage(s stream) *passage {
	p := w.streams[s]
	if p == nil {
		p = &passage{seen: map[uint32]bool{}}
		w.streams[s] = p
	}
	return p
}

func (w *witness) acknowledged(f *figures, side int, p *passage, ack uint32, at float64) {
	kept := p.waiting[:0]
	for _, x := range p.waiting {
		switch {
		case int32(ack-x.end) < 0:
			kept = append(kept, x)
		case ack == x.end && !x.again && at-x.at <= 10:
			f.sum[side] += at - x.at
			f.samples[side]++
		}
	}
	p.waiting = kept
}

// observe reads the trace with gopacket, and takes the classes from the truth.
func (w *witness) observe(t *testing.T, path string, class func(src, dst netip.AddrPort, at time.Time) (cell, bool, bool)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		packet := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		src, _ := netip.AddrFromSlice(packet.NetworkLayer().NetworkFlow().Src().Raw())
		dst, _ := netip.AddrFromSlice(packet.NetworkLayer().NetworkFlow().Dst().Raw())
		s := stream{netip.AddrPortFrom(src, uint16(tcp.SrcPort)), netip.AddrPortFrom(dst, uint16(tcp.DstPort))}
		c, up, known := class(s.src, s.dst, info.Timestamp)
		if known {
			c.end = info.Timestamp.UnixNano() / int64(PingPeriod)
			w.segment(c, s, up, float64(info.Timestamp.UnixNano()%int64(1e15))/1e9, tcp, len(tcp.Payload))
		}
	}
}

// TestPeriods: line by line, what the passive ping says of the built-in
// scenarios is what a plain witness says of the same ten seconds: round-trip
// times within 10 % or 5 ms, repeats within 10 % or 2 segments.
func TestPeriods(t *testing.T) {
	for _, c := range []struct {
		scenario    string
		long        time.Duration
		subscribers int
	}{
		{"quiet-hour", 10 * time.Minute, 200},
		{"busy-hour", 3 * time.Minute, 200},
		{"mixed-2026", time.Minute, 100},
		{"hostile-dns", 4 * time.Minute, 60},
	} {
		t.Run(c.scenario, func(t *testing.T) { testPeriods(t, c.scenario, c.long, c.subscribers) })
	}
}

func testPeriods(t *testing.T, name string, long time.Duration, subscribers int) {
	scenario, err := synth.LoadScenario(name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(scenario, synth.Options{Seed: 4, Duration: long, Subscribers: subscribers, Encapsulation: "none"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, truthPath := filepath.Join(dir, "trace.pcap"), filepath.Join(dir, "truth.jsonl")
	trace, err := synth.CreateTrace(path, synth.TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	truth, err := synth.CreateTruth(truthPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(synth.Write(context.Background(), g, trace, truth, nil), trace.Close(), truth.Close()); err != nil {
		t.Fatal(err)
	}
	type flow struct {
		start, end time.Time
		app, class string
	}
	byTuple := map[stream][]flow{}
	if err := synth.ReadTruth(truthPath, func(f *synth.FlowTruth) error {
		s := stream{netip.AddrPortFrom(f.Subscriber, f.SubscriberPort), netip.AddrPortFrom(f.Server, f.ServerPort)}
		byTuple[s] = append(byTuple[s], flow{f.Start, f.End, f.App, f.Class})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w := &witness{cells: map[cell]*figures{}, streams: map[stream]*passage{}}
	w.observe(t, path, func(src, dst netip.AddrPort, at time.Time) (cell, bool, bool) {
		for up, s := range map[bool]stream{true: {src, dst}, false: {dst, src}} {
			for _, f := range byTuple[s] {
				if !at.Before(f.start) && at.Sub(f.end) < time.Minute {
					return cell{app: f.app, class: f.class}, up, true
				}
			}
		}
		return cell{}, false, false
	})
	var times, losses, right, same int
	for c, said := range periods(t, path) {
		f := w.cells[c]
		if f == nil {
			t.Errorf("%+v: the witness saw nothing", c)
			continue
		}
		for side, key := range []string{"server_rtt", "access_rtt"} {
			mean, ok := said[key+"_mean_s"].(float64)
			if !ok || f.samples[side] == 0 {
				continue
			}
			want := f.sum[side] / float64(f.samples[side])
			times++
			if math.Abs(mean-want) <= max(0.005, want/10) {
				right++
			}
		}
		for d, key := range []string{"uplink", "downlink"} {
			repeats := said[key+"_lost_after_tap"].(float64)
			if repeats == 0 && f.repeats[d] == 0 {
				continue
			}
			losses++
			if math.Abs(repeats-float64(f.repeats[d])) <= max(2, float64(f.repeats[d])/10) {
				same++
			}
		}
	}
	t.Logf("round-trip times: %d of %d; losses: %d of %d", right, times, same, losses)
	if times < 30 || float64(right) < 0.9*float64(times) {
		t.Errorf("%d of %d mean round-trip times within 10 %% or 5 ms, want 90 %%", right, times)
	}
	if float64(same) < 0.99*float64(losses) {
		t.Errorf("%d of %d counts of repeats within 10 %% or 2 segments", same, losses)
	}
}

// periods are the lines of the passive ping.
func periods(t *testing.T, path string) map[cell]map[string]any {
	t.Helper()
	source, err := capture.Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var out bytes.Buffer
	p := NewPing(&out, false)
	var failed error
	engine, err := probe.New(probe.Config{
		Shards: 1, Memory: probe.MinMemory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(), Rules: classify.Builtin(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour,
		WatchEvery: PingPeriod, Watch: func(s *probe.Snapshot) { failed = errors.Join(failed, p.Observe(s)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(failed, p.Observe(engine.Snapshot())); err != nil {
		t.Fatal(err)
	}
	lines := map[cell]map[string]any{}
	for line := range bytes.Lines(out.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		end, err := time.Parse(time.RFC3339Nano, m["end"].(string))
		if err != nil {
			t.Fatal(err)
		}
		lines[cell{(end.UnixNano() - 1) / int64(PingPeriod), m["app"].(string), m["class"].(string)}] = m
	}
	return lines
}
