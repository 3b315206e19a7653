package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/metrics"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
	"github.com/nametap/nametap/watch"
)

const (
	minutesADay = 24 * 60
	// base is what a counter shows before the first minute.
	base = 1000
)

// series is one series of the metrics page, a value a minute: what a counter
// gained in it, or the level of a gauge at its end.
type series struct {
	name    string
	labels  map[string]string
	counter bool
	v       []float64
	// gone says in which minutes the series was not scraped.
	gone []bool
	// resets are the minutes in which the counter began at 0 again.
	resets []int
}

func (s *series) clone() *series {
	c := *s
	c.v, c.gone, c.resets = slices.Clone(s.v), slices.Clone(s.gone), slices.Clone(s.resets)
	return &c
}

// id is the series in PromQL.
func (s *series) id() string {
	var b strings.Builder
	b.WriteString(s.name + "{")
	for i, l := range slices.Sorted(maps.Keys(s.labels)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%q", l, s.labels[l])
	}
	return b.String() + "}"
}

// values is the series in the notation of promtool.
func (s *series) values() string {
	var b strings.Builder
	sum, there := float64(base), true
	for i, v := range s.v {
		if i > 0 {
			b.WriteByte(' ')
		}
		if slices.Contains(s.resets, i) {
			sum = 0
		}
		if s.counter {
			sum += v
			v = sum
		}
		switch {
		case !s.gone[i]:
			b.WriteString(strconv.FormatFloat(v, 'g', 12, 64))
		case there:
			b.WriteString("stale")
		default:
			b.WriteByte('_')
		}
		there = !s.gone[i]
	}
	return b.String()
}

// page is all series of one nametap over some time.
type page []*series

func (p page) minutes() int { return len(p[0].v) }

func (p page) clone() page {
	out := make(page, len(p))
	for i, s := range p {
		out[i] = s.clone()
	}
	return out
}

// selection is some of the page's series.
type selection []*series

// of returns the series of a name whose labels have the given values, as
// "label=value".
func (p page) of(name string, labels ...string) (out selection) {
	for _, s := range p {
		fits := s.name == name
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			fits = fits && s.labels[k] == v
		}
		if fits {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		panic(fmt.Sprintf("no series %s %v: the case tests nothing", name, labels))
	}
	return out
}

// app returns all series of an app.
func (p page) app(app string) (out selection) {
	for _, s := range p {
		if s.labels["app"] == app {
			out = append(out, s)
		}
	}
	return out
}

// times multiplies what happens in the minutes [from, to).
func (s selection) times(from, to int, factor float64) {
	for _, x := range s {
		for i := from; i < to; i++ {
			x.v[i] *= factor
		}
	}
}

// set sets the minutes [from, to).
func (s selection) set(from, to int, v float64) {
	for _, x := range s {
		for i := from; i < to; i++ {
			x.v[i] = v
		}
	}
}

// vanish takes the series off the page in the minutes [from, to).
func (s selection) vanish(from, to int) {
	for _, x := range s {
		for i := from; i < to; i++ {
			x.gone[i] = true
		}
	}
}

// moveTo gives a share of what happens to other series, one by one in the same
// order.
func (s selection) moveTo(to selection, from, until int, share float64) {
	if len(s) != len(to) {
		panic("moveTo: not as many series")
	}
	for n, x := range s {
		for i := from; i < until; i++ {
			to[n].v[i] += share * x.v[i]
			x.v[i] *= 1 - share
		}
	}
}

// restart has nametap start anew at the minute, after some without any.
func (p page) restart(at, without int) page {
	selection(p).vanish(at-without, at)
	for _, s := range p {
		if s.counter {
			s.resets = append(s.resets, at)
		}
	}
	p.of("process_start_time_seconds").set(at, p.minutes(), float64(at*60))
	p.of("up").set(at-without, at, 0)
	for _, s := range p.of("up") {
		s.gone = make([]bool, p.minutes())
	}
	return p
}

// add puts a further series of one value on the page.
func (p *page) add(name string, counter bool, v float64, labels ...string) selection {
	s := &series{name: name, counter: counter, labels: map[string]string{"job": "nametap", "instance": "tap1:9108"}}
	for _, l := range labels {
		k, value, _ := strings.Cut(l, "=")
		s.labels[k] = value
	}
	n := p.minutes()
	s.v, s.gone = make([]float64, n), make([]bool, n)
	selection{s}.set(0, n, v)
	*p = append(*p, s)
	return selection{s}
}

// rehearsal is a run of the generator's outage day through the engine.
type rehearsal struct {
	seed   uint64
	from   time.Duration // the time of day at which it begins
	length time.Duration
	outage bool
	keep   map[string]bool // the metrics that are wanted
	// trouble is what the tap does to a frame, nil for nothing.
	trouble *trouble
	// restart is the minute in which nametap starts anew, 0 for none.
	restart int
}

// trouble is what goes wrong with a tap in the minutes [from, to).
type trouble struct {
	from, to int
	// lost says that a frame does not come through.
	lost func(f *synth.Frame, p *decode.Packet) bool
	// counted is the reason by which the capture counts what is lost; without
	// one, nobody knows of it.
	counted bool
}

// page runs the generator through the engine in memory and reads the metrics
// page once a simulated minute, as Prometheus would. Series in which nothing ever
// happens are left out, but for class other, which drift fills.
func (x rehearsal) page(t testing.TB) page {
	t.Helper()
	scenario, err := synth.LoadScenario("outage-2014")
	if err != nil {
		t.Fatal(err)
	}
	scenario.Start.Time = scenario.Start.Add(x.from)
	if !x.outage {
		scenario.Outage = nil
	}
	generator, err := synth.New(scenario, synth.Options{Seed: x.seed, Duration: x.length})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{
		rehearsal: x, generator: generator, found: map[string]*series{},
		begin: generator.Start().UnixNano(), next: generator.Start().Add(time.Minute).UnixNano(), decoder: decode.New(decode.Config{}),
	}
	for i, name := range []string{"uplink", "downlink"} {
		r.stats[i].Name = name
	}
	var state []byte
	for !r.over() {
		state = r.daemon(t, state)
	}
	return r.page()
}

// daemon runs one nametap until it is to start anew, or the generator has
// nothing more. It loads and returns the state that nametap keeps.
func (r *recorder) daemon(t testing.TB, state []byte) []byte {
	watcher := watch.New(nil)
	if state != nil {
		if err := json.Unmarshal(state, watcher); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := probe.New(probe.Config{
		Shards: 1, Memory: 512 << 20, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Dedup: 5 * time.Millisecond, Rules: classify.Builtin(),
		WatchEvery: watch.Fine, Watch: watcher.Observe,
		Clock: func() int64 { return r.next + int64(time.Second) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.registry = prometheus.NewRegistry()
	r.registry.MustRegister(metrics.New(engine.Snapshot, metrics.Config{Interfaces: []string{"uplink", "downlink"}, Status: watcher.Status}))
	for i := range r.stats {
		r.stats[i] = capture.InterfaceStats{Name: r.stats[i].Name}
	}
	if err := engine.Run(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	state, err = json.Marshal(watcher)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// recorder is a capture.Source that plays a generator, and reads the page
// whenever a minute of packet time has passed.
type recorder struct {
	rehearsal
	generator *synth.Generator
	frame     synth.Frame
	have      bool
	begin     int64
	next      int64
	stats     [2]capture.InterfaceStats
	decoder   *decode.Decoder

	registry *prometheus.Registry
	found    map[string]*series
	minutes  int
	again    bool // the restart has been
	silent   bool // an empty batch has said that the minute is over
}

func (r *recorder) over() bool { return r.next > r.generator.End().UnixNano() }

func (r *recorder) Next(b *capture.Batch) error {
	b.Frames = b.Frames[:0]
	for {
		r.fill(b)
		if len(b.Frames) > 0 {
			return nil
		}
		if r.over() {
			return io.EOF
		}
		if !r.silent { // as a live tap does: the clock moves packet time on
			r.silent = true
			return nil
		}
		r.silent = false
		if r.restart == r.minutes && r.restart > 0 && !r.again {
			r.again = true
			return io.EOF
		}
		if err := r.read(); err != nil {
			return err
		}
		r.next += int64(time.Minute)
	}
}

func (r *recorder) fill(b *capture.Batch) {
	buf := b.Buffer(256 << 10)
	for len(b.Frames) < 1024 {
		if !r.have {
			if !r.generator.Next(&r.frame) {
				return
			}
			r.have = true
		}
		if r.frame.Time >= r.next || len(buf)+len(r.frame.Data) > cap(buf) {
			return
		}
		r.have = false
		if r.loses() {
			continue
		}
		at, i := len(buf), r.frame.Interface()
		buf = append(buf, r.frame.Data...)
		b.Frames = append(b.Frames, capture.Frame{
			Data: buf[at:], Time: r.frame.Time, WireLen: uint32(len(r.frame.Data)), Link: decode.LinkEthernet, Interface: uint16(i),
		})
		r.stats[i].Packets++
		r.stats[i].Bytes += uint64(len(r.frame.Data))
	}
}

// loses says whether the trouble takes the frame.
func (r *recorder) loses() bool {
	x := r.trouble
	if minute := int((r.frame.Time - r.begin) / int64(time.Minute)); x == nil || minute < x.from || minute >= x.to {
		return false
	}
	var p decode.Packet
	r.decoder.Scratch = r.decoder.Scratch[:0]
	r.decoder.Decode(r.frame.Data, uint32(len(r.frame.Data)), decode.LinkEthernet, 0, &p)
	lost := x.lost(&r.frame, &p)
	if lost && x.counted {
		r.stats[r.frame.Interface()].Drops[capture.DropRingFull]++
	}
	return lost
}

func (r *recorder) Release(*capture.Batch) {}
func (r *recorder) Interfaces() []string   { return []string{"uplink", "downlink"} }
func (r *recorder) Close() error           { return nil }
func (r *recorder) Stats() capture.Stats {
	return capture.Stats{Interfaces: slices.Clone(r.stats[:])}
}

// read takes one sample of each series.
func (r *recorder) read() error {
	families, err := r.registry.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if !r.keep[f.GetName()] {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{"job": "nametap", "instance": "tap1:9108"}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			r.sample(f, m, labels)
		}
	}
	r.minutes++
	return nil
}

func (r *recorder) sample(f *dto.MetricFamily, m *dto.Metric, labels map[string]string) {
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		r.note(f.GetName(), labels, true, m.Counter.GetValue())
	case dto.MetricType_GAUGE:
		r.note(f.GetName(), labels, false, m.Gauge.GetValue())
	case dto.MetricType_HISTOGRAM:
		// Of round-trip times one class is enough: promtool's time is precious.
		if labels["class"] != "chat" {
			return
		}
		for _, b := range m.Histogram.Bucket {
			with := maps.Clone(labels)
			with["le"] = strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
			r.note(f.GetName()+"_bucket", with, true, float64(b.GetCumulativeCount()))
		}
		with := maps.Clone(labels)
		with["le"] = "+Inf"
		r.note(f.GetName()+"_bucket", with, true, float64(m.Histogram.GetSampleCount()))
	}
}

func (r *recorder) note(name string, labels map[string]string, counter bool, v float64) {
	s := &series{name: name, labels: labels, counter: counter}
	id := s.id()
	if r.found[id] == nil {
		s.v = make([]float64, r.minutes) // counters are here from the start, at 0
		r.found[id] = s
	}
	r.found[id].v = append(r.found[id].v, v)
}

// page turns what was read into what happened in each minute.
func (r *recorder) page() page {
	var out page
	for _, id := range slices.Sorted(maps.Keys(r.found)) {
		s := r.found[id]
		if last := s.v[len(s.v)-1]; s.counter && last == 0 && s.labels["class"] != "" && s.labels["class"] != "other" {
			continue
		}
		if s.counter {
			for i := len(s.v) - 1; i > 0; i-- {
				if i != r.restart {
					s.v[i] -= s.v[i-1]
				}
			}
		}
		s.gone = make([]bool, len(s.v))
		out = append(out, s)
	}
	out.add("up", false, 1)
	out.add("process_start_time_seconds", false, -86400)
	out.add("nametap_build_info", false, 1, "version=test")
	return out
}

// part is the minutes [from, to) of a page.
func (p page) part(from, to int) page {
	out := p.clone()
	for _, s := range out {
		s.v, s.gone = s.v[from:to], s.gone[from:to]
	}
	return out
}

// calendar makes a longer time out of some ordinary days: each hour of it is the
// same hour of one of them, its minutes in another order. source says for each
// day and minute which minute of an ordinary day it is like, and how busy it is
// against that.
func calendar(days []page, length int, source func(day, minute int) (like int, factor float64)) page {
	rng := rand.New(rand.NewPCG(1, 2))
	out := days[0].clone()
	for _, s := range out {
		s.v, s.gone = make([]float64, length), make([]bool, length)
	}
	byID := make([]map[string]*series, len(days))
	for d, p := range days {
		byID[d] = map[string]*series{}
		for _, s := range p {
			byID[d][s.id()] = s
		}
	}
	var order []int
	var from map[string]*series
	for i := range length {
		if i%60 == 0 {
			order, from = rng.Perm(60), byID[rng.IntN(len(days))]
		}
		like, factor := source(i/minutesADay, i%minutesADay)
		like = like/60*60 + order[like%60]
		for _, s := range out {
			if x := from[s.id()]; x != nil {
				s.v[i] = x.v[like]
				if s.counter || strings.HasSuffix(s.name, "_active") {
					s.v[i] *= factor
				}
			}
		}
	}
	// The days began with nametap's start, these do not.
	out.of("nametap_tap_healthy").set(0, length, 1)
	out.of("nametap_tap_problem").set(0, length, 0)
	return out
}
