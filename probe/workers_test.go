package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/capture/fanout"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/synth"
)

const fanoutSeed = 0x5eed

// dealt is what one worker gets.
type dealt struct {
	memory
	signals []capture.Signal // Before counts from the first frame of all
	given   int
	begin   chan struct{} // if set, what to wait for
	end     chan struct{} // if set, closed at the end
}

func (d *dealt) Next(b *capture.Batch) error {
	if d.begin != nil {
		<-d.begin
	}
	if len(d.frames) == 0 && len(d.signals) == 0 {
		if d.end != nil {
			close(d.end)
			d.end = nil
		}
		if d.err != nil {
			return d.err
		}
		return io.EOF
	}
	n := min(50, len(d.frames))
	b.Frames, b.Signals = append(b.Frames[:0], d.frames[:n]...), b.Signals[:0]
	for len(d.signals) > 0 && d.signals[0].Before <= d.given+n {
		s := d.signals[0]
		s.Before -= d.given
		b.Signals = append(b.Signals, s)
		d.signals = d.signals[1:]
	}
	d.frames = d.frames[n:]
	d.given += n
	return nil
}

// deal divides frames as the kernel does: by the subscriber, fragments with their
// datagram, the control plane to the first worker, and shown to all besides.
func deal(t *testing.T, list []capture.Frame, workers int) []*dealt {
	t.Helper()
	owners := make([]int, len(list))
	signals := make([]bool, len(list))
	waiting := map[string][]int{}
	d := decode.New(decode.Config{})
	s, err := newSides(DefaultSubscribers(), 1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range list {
		p := decode.Packet{Time: f.Time}
		outcome := d.Decode(f.Data, f.WireLen, f.Link, 0, &p)
		datagram := string(f.Data[18:20]) + string(f.Data[26:34]) // of IPv4, the only one in fragments here
		switch {
		case outcome == decode.Held:
			waiting[datagram] = append(waiting[datagram], i)
		case outcome == decode.UDP && signalling(&p):
			signals[i] = true
		case outcome == decode.TCP || outcome == decode.UDP:
			owners[i] = fanout.Partition(fanoutSeed, chosen(s, &p, outcome).Prefix()) % workers
			for _, part := range waiting[datagram] {
				owners[part] = owners[i]
			}
			delete(waiting, datagram)
		}
	}
	sources := make([]*dealt, workers)
	for w := range sources {
		sources[w] = &dealt{}
		for i, f := range list {
			if signals[i] && workers > 1 {
				sources[w].signals = append(sources[w].signals, capture.Signal{Frame: f, Before: len(sources[w].frames)})
			}
			if owners[i] == w {
				sources[w].frames = append(sources[w].frames, f)
			}
		}
	}
	return sources
}

// chosen is the end that the fanout program takes for the subscriber.
func chosen(s *sides, p *decode.Packet, outcome decode.Outcome) decode.Addr {
	src, dst := s.inside(p.Src), s.inside(p.Dst)
	switch {
	case outcome == decode.UDP && p.SrcPort == portDNS:
		return p.Dst
	case outcome == decode.UDP && p.DstPort == portDNS:
		return p.Src
	case src != dst && dst, src == dst && p.DstPort > p.SrcPort:
		return p.Dst
	}
	return p.Src
}

func newWorkers(t testing.TB, n int, cfg Config) *Workers {
	t.Helper()
	w, err := NewWorkers(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func asSources(list []*dealt) []capture.Source {
	var sources []capture.Source
	for _, d := range list {
		sources = append(sources, d)
	}
	return sources
}

func inOrder(records []flows.Record) []flows.Record {
	slices.SortStableFunc(records, func(a, b flows.Record) int {
		x, y := a.Order(), b.Order()
		return x.Compare(&y)
	})
	return records
}

// comparable takes out of a snapshot what hangs on how many tables there are.
func comparable(s *Snapshot) *Snapshot {
	s.Source = capture.Stats{}
	s.Time = 0 // each worker's step ends with its own packets
	s.Drift, s.Tables = 0, TableSnapshot{
		Flows: s.Tables.Flows, Entries: s.Tables.Entries, Lookups: s.Tables.Lookups, Hits: s.Tables.Hits,
		FlowsEvicted: s.Tables.FlowsEvicted, EntriesEvicted: s.Tables.EntriesEvicted, NamesRefused: s.Tables.NamesRefused,
		StreamsRefused: s.Tables.StreamsRefused,
	}
	for i := range s.Classes {
		clear(s.Classes[i].RTT[:]) // see anonymous
	}
	return s
}

// differences names the fields in which two values differ.
func differences(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			differences(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			t.Errorf("%s: %d elements, want %d", path, b.Len(), a.Len())
			return
		}
		for i := range a.Len() {
			differences(t, fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
	default:
		if !a.Equal(b) {
			t.Errorf("%s: %v, want %v", path, b, a)
		}
	}
}

// Every count and every record is what one engine gives, with subscribers in
// tunnels of known sessions and without. Evidence "server" is left out: when it
// reaches another worker hangs on how far that is, see Workers.
func TestWorkersAreOneEngine(t *testing.T) {
	for scenario, subscribers := range map[string]int{"mixed-2026": 300, "outage-2014": 300, "hostile-dns": 50} {
		list := frames(t, scenario, synth.Options{Seed: 7, Subscribers: subscribers, Duration: 4 * time.Minute})
		cfg := config(1)
		cfg.Memory = 4 << 30 // nothing may overflow: there are more tables, each smaller
		cfg.Cascade = cfg.Cascade[:3]
		cfg.Dedup = 10 * time.Millisecond
		cfg.Hash = func(d gtp.Digits) string { return string(d.AppendDigits(nil)) }
		cfg.APNs = []string{"internet"}
		var want []flows.Record
		cfg.Records = func(r []flows.Record) { want = append(want, r...) }
		e := newEngine(t, cfg)
		if err := e.Run(context.Background(), &memory{frames: list, batch: 50}); err != nil {
			t.Fatal(err)
		}
		inOrder(want)
		for _, n := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s, %d", scenario, n), func(t *testing.T) {
				var got []flows.Record
				cfg.Records = func(r []flows.Record) { got = append(got, r...) }
				w := newWorkers(t, n, cfg)
				if err := w.Run(context.Background(), asSources(deal(t, list, n))); err != nil {
					t.Fatal(err)
				}
				inOrder(got)
				if len(got) != len(want) {
					t.Fatalf("%d records, want %d", len(got), len(want))
				}
				for i := range want {
					want, got := anonymous(want[i]), anonymous(got[i])
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("record %d:\n%+v\nwant\n%+v", i, got, want)
					}
				}
				differences(t, "snapshot", reflect.ValueOf(*comparable(e.Snapshot())), reflect.ValueOf(*comparable(w.Snapshot())))
			})
		}
	}
}

// anonymous leaves out of a record the number that a gateway or session goes by
// within one engine, and what hangs on who else is in a table: flights share a few
// places for the segments that are timed.
func anonymous(r flows.Record) flows.Record {
	r.Key.Scope = 0
	clear(r.RTTMin[:])
	clear(r.RTTMean[:])
	clear(r.RTTSamples[:])
	return r
}

// Copies of a packet on two ports have the same subscriber, and so the same
// worker: each counts once.
func TestWorkersSeeCopies(t *testing.T) {
	list := frames(t, "mixed-2026", synth.Options{Seed: 3, Subscribers: 100, Duration: time.Minute})
	var twice []capture.Frame
	for _, f := range list {
		second := f
		second.Interface = 1
		twice = append(twice, f, second)
	}
	cfg := config(1)
	cfg.Dedup = 10 * time.Millisecond
	e := newEngine(t, cfg)
	if err := e.Run(context.Background(), &memory{frames: twice, batch: 50}); err != nil {
		t.Fatal(err)
	}
	w := newWorkers(t, 3, cfg)
	if err := w.Run(context.Background(), asSources(deal(t, twice, 3))); err != nil {
		t.Fatal(err)
	}
	want, got := e.Snapshot(), w.Snapshot()
	if want.Duplicates < uint64(len(list))/2 || got.Duplicates != want.Duplicates || got.DuplicateBytes != want.DuplicateBytes {
		t.Errorf("%d copies of %d bytes, want %d of %d", got.Duplicates, got.DuplicateBytes, want.Duplicates, want.DuplicateBytes)
	}
}

// two returns addresses of two subscribers who are different workers'.
func two(t *testing.T) (a, b string) {
	t.Helper()
	for i := 1; i < 255 && (a == "" || b == ""); i++ {
		ip := fmt.Sprintf("10.0.0.%d", i)
		if fanout.Partition(fanoutSeed, addr(ip).Prefix())%2 == 0 {
			a = ip
		} else {
			b = ip
		}
	}
	if a == "" || b == "" {
		t.Fatal("the seed gives no such addresses")
	}
	return a, b
}

// What one worker's subscribers were told is evidence for another's a little
// later, and a server that both meet is one server.
func TestWorkersShareServers(t *testing.T) {
	a, b := two(t)
	g := newGn(t)
	wait := func(seconds int) { // with something to see, so that steps end
		for range seconds * 10 {
			g.frame(g.tcp(a, other, 50000, 443, "A", 1, 1, ""))
			g.frame(g.tcp(b, other, 50000, 443, "A", 1, 1, ""))
			g.wait(100 * time.Millisecond)
		}
	}
	wait(1)
	g.frame(g.answer("198.51.100.53", a, "e1.whatsapp.net", server, 60))
	g.frame(g.tcp(a, server, 40000, 5222, "S", 1, 0, ""))
	g.frame(g.tcp(a, server, 40000, 5222, "A", 2, 2, "hello"))
	wait(2)
	g.frame(g.tcp(b, server, 40000, 5222, "S", 1, 0, ""))
	g.frame(g.tcp(b, server, 40000, 5222, "A", 2, 2, "hello"))
	wait(2)
	sources := deal(t, g.list, 2)
	if len(sources[0].frames) == 0 || len(sources[1].frames) == 0 {
		t.Fatal("one worker has them all")
	}
	sources[0].end = make(chan struct{})
	sources[1].begin = sources[0].end
	var records []flows.Record
	cfg := config(1)
	cfg.Records = func(r []flows.Record) { records = append(records, r...) }
	answers := 0
	cfg.Answers = func([]byte, uint8, decode.Addr, int64) { answers++ }
	w := newWorkers(t, 2, cfg)
	if err := w.Run(context.Background(), asSources(sources)); err != nil {
		t.Fatal(err)
	}
	records = slices.DeleteFunc(records, func(r flows.Record) bool { return r.Key.ServerPort == 443 })
	expect(t, records,
		a+":40000 dns e1.whatsapp.net whatsapp/chat apn= imsi=",
		b+":40000 server e1.whatsapp.net whatsapp/chat apn= imsi=")
	for _, c := range w.Snapshot().Classes {
		if c.Class == "chat" && (c.Servers != 1 || c.Subscribers != 2) {
			t.Errorf("%d servers and %d subscribers, want 1 and 2", c.Servers, c.Subscribers)
		}
	}
	if answers != 1 {
		t.Errorf("%d addresses in answers, want 1", answers)
	}
}

// A worker that does not look keeps a bounded number of facts.
func TestWorkersInboxIsBounded(t *testing.T) {
	w := newWorkers(t, 2, config(1))
	e := w.engines[0]
	mostWaiting := e.budget.learned()
	for i := range uint32(3 * mostWaiting / partitions) {
		for n := range uint32(partitions) {
			e.fresh.keep([]byte("name"))
			e.fresh.add(fact{server: decode.Addr{Lo: uint64(i*partitions + n)}, class: 1})
		}
		w.common.exchange(e, 0)
		e.fresh.reset()
	}
	if n := len(w.common.inboxes[1].list); n > mostWaiting {
		t.Errorf("%d facts wait", n)
	}
	if missed := w.Snapshot().Tables.FactsMissed; missed != uint64(2*mostWaiting) {
		t.Errorf("%d facts were missed, want %d", missed, 2*mostWaiting)
	}
}

// The workers' subscribers are spread over all of their tables, though the same
// function divides them among workers and among tables.
func TestWorkersFillTheirPartitions(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		seed, fan := rng.Uint64(), rng.Uint64()
		const workers, each = 4, 20_000
		counts := [workers][partitions]int{}
		for i := range uint64(workers * each) {
			prefix := 0xffff<<32 | (0x0a000000 + i)
			counts[fanout.Partition(fan, prefix)%workers][partitionOf(seed, 0, prefix)]++
		}
		for w := range counts {
			for n, count := range counts[w] {
				if count > 2*each/partitions {
					t.Fatalf("seeds %x and %x: worker %d has %d of some %d subscribers in partition %d", seed, fan, w, count, each, n)
				}
			}
		}
	}
}

// What Watch gets adds up to what was counted up to its time, however far the
// workers are apart.
func TestWorkersWatch(t *testing.T) {
	list := frames(t, "quiet-hour", synth.Options{Seed: 2, Subscribers: 200, Duration: 5 * time.Minute})
	look := func(watch func(*Snapshot)) Config {
		cfg := config(1)
		cfg.WatchEvery = 10 * time.Second
		cfg.Watch = watch
		return cfg
	}
	frames := map[int64]uint64{}
	e := newEngine(t, look(func(s *Snapshot) { frames[s.Time/(10*second)] = s.Frames }))
	if err := e.Run(context.Background(), &memory{frames: list, batch: 50}); err != nil {
		t.Fatal(err)
	}
	last, looks := int64(0), 0
	w := newWorkers(t, 3, look(func(s *Snapshot) {
		if s.Time <= last {
			t.Errorf("time went from %d to %d", last, s.Time)
		}
		last = s.Time
		want, ok := frames[s.Time/(10*second)]
		if !ok || s.Frames != want {
			t.Errorf("at %d: %d frames, want %d", s.Time, s.Frames, want)
		}
		looks++
	}))
	w.watch.most = 1000 // here, one is done before another begins
	if err := w.Run(context.Background(), asSources(deal(t, list, 3))); err != nil {
		t.Fatal(err)
	}
	if looks == 0 {
		t.Error("nothing was watched")
	}
}

// One that is far ahead of another keeps few snapshots.
func TestWorkersWatchWaitsForTheLast(t *testing.T) {
	var got []int64
	l := &lookout{every: 10, most: 6, watch: func(s *Snapshot) { got = append(got, s.Time, int64(s.Frames)) }, waiting: make([][]*Snapshot, 2)}
	give := func(worker int, at int64, frames uint64) { l.give(worker, &Snapshot{Time: at, Frames: frames}) }
	give(0, 10, 1)
	give(0, 21, 2)
	give(1, 11, 5) // both are at 10
	give(1, 30, 6) // this one has had nothing between 20 and 30
	give(0, 30, 3)
	for at := int64(40); at < 200; at += 10 {
		give(0, at, 4)
	}
	give(1, 100, 6) // too late
	give(1, 199, 7)
	give(0, 200, 4)
	give(1, 200, 8)
	if want := []int64{11, 6, 21, 8, 30, 9, 140, 11, 150, 11, 160, 11, 170, 11, 180, 11, 199, 11, 200, 12}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// When one source fails, the others end in good order.
func TestWorkersEndTogether(t *testing.T) {
	list := frames(t, "mixed-2026", synth.Options{Seed: 2, Subscribers: 100, Duration: time.Minute})
	broken := errors.New("broken")
	sources := deal(t, list, 2)
	sources[0].err = broken
	endless := &silence{memory: memory{frames: sources[1].frames, batch: 50}, batches: 1 << 40}
	records := 0
	cfg := config(1)
	cfg.Records = func(r []flows.Record) { records += len(r) }
	w := newWorkers(t, 2, cfg)
	if err := w.Run(context.Background(), []capture.Source{sources[0], endless}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	s := w.Snapshot()
	if s.Tables.Flows != 0 || records == 0 {
		t.Errorf("%d flows are still open, %d records", s.Tables.Flows, records)
	}
	if err := w.Run(context.Background(), nil); err == nil {
		t.Error("no sources: no error")
	}
}

// New rules reach all workers.
func TestWorkersReload(t *testing.T) {
	w := newWorkers(t, 2, config(1))
	rules, err := classify.Parse("new.yaml", []byte("apps:\n- app: new\n  domains: [example.org]\n  classes:\n  - class: one\n    names: ['^a\\.example\\.org$']\n    kind: session\n    examples: {match: [a.example.org], miss: [b.example.org]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(rules); err != nil {
		t.Fatal(err)
	}
	list := frames(t, "mixed-2026", synth.Options{Seed: 2, Subscribers: 100, Duration: time.Minute})
	if err := w.Run(context.Background(), asSources(deal(t, list, 2))); err != nil {
		t.Fatal(err)
	}
	for i, e := range w.engines { // the old rules hold until a step ends
		if !slices.ContainsFunc(e.Snapshot().Classes, func(c ClassSnapshot) bool { return c.App == "new" }) {
			t.Errorf("worker %d has the old rules", i)
		}
	}
}

// A field that is added to a snapshot is added up as well, or stands here.
func TestMergeForgetsNothing(t *testing.T) {
	notAdded := map[string]bool{
		".Time": true, ".First": true, ".Last": true, // earliest and latest
		".Servings":     true,                                                                       // listed one after the other
		".GTP.Sessions": true, ".GTP.Endpoints": true, ".GTP.Gateways": true, ".GTP.Counters": true, // known to all
		".Tables.LastEvictedAge": true, ".Tables.RosterEvicted": true, ".Tables.SessionsCap": true,
		".Classes[0].Servers": true, ".Classes[0].ActiveServers": true, ".Classes[0].ClassInfo": true,
		".Classes[0].Networks": true, ".Classes[0].ActiveNetworks": true,
	}
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					fill(v.Field(i))
				}
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		case reflect.Array:
			for i := range v.Len() {
				fill(v.Index(i))
			}
		case reflect.Uint64:
			v.SetUint(3)
		case reflect.Int, reflect.Int64:
			v.SetInt(3)
		}
	}
	var check func(path string, v reflect.Value)
	check = func(path string, v reflect.Value) {
		if notAdded[path] {
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					name := "." + v.Type().Field(i).Name
					if v.Type().Field(i).Anonymous && v.Type().Field(i).Type != reflect.TypeFor[gtp.Counters]() && v.Type().Field(i).Type != reflect.TypeFor[classify.ClassInfo]() {
						name = ""
					}
					check(path+name, v.Field(i))
				}
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				check(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
			}
		case reflect.Uint64:
			if v.Uint() != 6 {
				t.Errorf("%s is %d, want 6: it is not added up", path, v.Uint())
			}
		case reflect.Int, reflect.Int64:
			if v.Int() != 6 {
				t.Errorf("%s is %d, want 6: it is not added up", path, v.Int())
			}
		}
	}
	a, b := &Snapshot{}, &Snapshot{}
	fill(reflect.ValueOf(a).Elem())
	fill(reflect.ValueOf(b).Elem())
	a.merge(b)
	check("", reflect.ValueOf(a).Elem())
}

// The tables of all workers together take what was allowed, and sessions and
// servers, which each has to know, get less of it when there are many.
func TestPlanForWorkers(t *testing.T) {
	const memory = 4 << 30
	one, err := plan(memory, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 4, 16} {
		b, err := plan(memory, n)
		if err != nil {
			t.Fatal(err)
		}
		total := int64(n) * int64(b.flows*partitions) * flowBytes
		if most := int64(one.flows*partitions) * flowBytes; total > most || total < most*3/4 {
			t.Errorf("%d workers: %d bytes of flows, one has %d", n, total, most)
		}
		if known := int64(n) * (b.sessions + int64(b.roster)*rosterCost); known > memory/100*(mostWhole+1) {
			t.Errorf("%d workers: %d bytes of what each has to know", n, known)
		}
		if n == 4 && b.sessions != one.sessions {
			t.Errorf("%d workers: %d bytes of sessions each, want %d", n, b.sessions, one.sessions)
		}
	}
	if _, err := plan(4*MinMemory-1, 4); err == nil {
		t.Error("too little for four: no error")
	}
	if _, err := NewWorkers(0, config(1)); err == nil {
		t.Error("no workers: no error")
	}
}

// The flags of a datagram are those of whatever packet was decoded in its place
// before: they say nothing of which end is the subscriber.
func TestDatagramHasNoFlags(t *testing.T) {
	s, err := newSides(DefaultSubscribers(), 1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := decode.Packet{Protocol: decode.ProtocolUDP, Src: addr("2001:db8::53"), Dst: addr("2001:db8:1::1"), SrcPort: 53, DstPort: 4000, Flags: decode.SYN}
	if dir := s.direction(&p); dir != flows.Down {
		t.Errorf("an answer goes %v", dir)
	}
}
