package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
)

// traced is a synthetic trace that has gone through the real pipeline.
type traced struct {
	records []flows.Record
	truth   []synth.FlowTruth
	ids     *export.Addresses
	fill    func(*Collector) // with answers and facts
}

var traces = map[string]*traced{}

// trace makes a scenario's trace and analyses it.
func trace(t *testing.T, scenario string, opt synth.Options) *traced {
	t.Helper()
	if x := traces[scenario]; x != nil {
		return x
	}
	sc, err := synth.LoadScenario(scenario)
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(sc, opt)
	if err != nil {
		t.Fatal(err)
	}
	x := &traced{ids: export.Pseudonyms(export.Key{1, 2, 3}, probe.DefaultSubscribers())}
	g.SetTruth(func(f *synth.FlowTruth) { x.truth = append(x.truth, *f) })
	path := filepath.Join(t.TempDir(), "trace.pcap")
	w, err := synth.CreateTrace(path, synth.TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := synth.Write(context.Background(), g, w, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	analyse(t, x, 256<<20, path)
	traces[scenario] = x
	return x
}

// analyse runs captures through the engine.
func analyse(t *testing.T, x *traced, memory int64, paths ...string) {
	t.Helper()
	source, err := capture.Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	type answer struct {
		name   string
		server netip.Addr
		at     int64
	}
	var answers []answer
	var seen []*probe.Snapshot
	engine, err := probe.New(probe.Config{
		Shards: 1, Memory: memory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Rules: classify.Builtin(),
		Records: func(b []flows.Record) { x.records = append(x.records, b...) },
		Watch:   func(s *probe.Snapshot) { seen = append(seen, s) }, WatchEvery: ResolutionEvery,
		Answers: func(name []byte, _ uint8, server decode.Addr, at int64) {
			answers = append(answers, answer{string(name), server.Netip(), at})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(context.Background(), source); err != nil && !capture.Truncated(err) {
		t.Logf("%v: %v", paths, err)
	}
	s := engine.Snapshot()
	seen = append(seen, s)
	x.fill = func(c *Collector) {
		for _, s := range seen {
			c.Resolved(s)
		}
		for _, a := range answers {
			c.Answered(a.name, a.server, a.at)
		}
		c.SetInputs(Inputs{Captures: 1}, &CaptureFacts{Packets: s.Frames, Bytes: s.Bytes, Undecoded: map[string]uint64{}, DNSResponses: s.DNS.Responses})
	}
}

func (x *traced) record(i int) Record {
	f := &x.records[i]
	return FromFlow(f, x.ids.Subscriber(f.Key.Subscriber), x.ids.Server(f.Key.Server), false)
}

func (x *traced) report(opt Options) *Report {
	c := NewCollector(opt)
	for i := range x.records {
		r := x.record(i)
		c.Add(&r)
	}
	x.fill(c)
	return c.Report()
}

func asJSON(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSameFromEither: the report of a capture is that of the flow records that
// were written from it, whatever their order, but for what only captures tell.
func TestSameFromEither(t *testing.T) {
	x := trace(t, "quiet-hour", synth.Options{})
	c := NewCollector(Options{})
	for i := range x.records {
		r := x.record(i)
		c.Add(&r)
	}
	want := asJSON(t, c.Report())
	order := rand.New(rand.NewPCG(5, 5)).Perm(len(x.records))
	var lines []byte
	for _, i := range order {
		lines = export.AppendRecord(lines, &x.records[i], x.ids)
	}
	c = NewCollector(Options{})
	if err := ReadRecords("flows.jsonl", bufio.NewReader(bytes.NewReader(lines)), c.Add); err != nil {
		t.Fatal(err)
	}
	if got := asJSON(t, c.Report()); got != want {
		a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d of the reports differs: %q from records, %q from the capture", i+1, a[i], b[i])
			}
		}
		t.Fatal("the reports differ in length")
	}
}

// TestNoSubscriberInReport: no subscriber's address is in a report, clear or as
// a pseudonym.
func TestNoSubscriberInReport(t *testing.T) {
	x := trace(t, "quiet-hour", synth.Options{})
	r := x.report(Options{})
	var html bytes.Buffer
	if err := r.WriteHTML(&html); err != nil {
		t.Fatal(err)
	}
	text := asJSON(t, r) + html.String()
	seen := map[string]bool{}
	for i := range x.records {
		for _, a := range []netip.Addr{x.records[i].Key.Subscriber.Netip(), x.ids.Subscriber(x.records[i].Key.Subscriber)} {
			if !seen[a.String()] && strings.Contains(text, `"`+a.String()+`"`) {
				t.Errorf("%v is in the report", a)
			}
			seen[a.String()] = true
		}
	}
	if len(seen) < 100 {
		t.Fatalf("only %d addresses were looked for", len(seen))
	}
}

// TestShares: volumes, counts of addresses and transfer ratings are the truth's.
func TestShares(t *testing.T) {
	for _, scenario := range []string{"quiet-hour", "busy-hour"} {
		x := trace(t, scenario, synth.Options{})
		r := x.report(Options{})
		type sum struct {
			flows, bytes uint64
			servers      map[netip.Addr]bool
			rated        [ratings]uint64
		}
		truth, all := map[string]*sum{}, uint64(0)
		for i := range x.truth {
			f := &x.truth[i]
			s := truth[f.App+"/"+f.Class]
			if s == nil {
				s = &sum{servers: map[netip.Addr]bool{}}
				truth[f.App+"/"+f.Class] = s
			}
			s.flows++
			s.bytes += f.UplinkBytes + f.DownlinkBytes
			s.servers[f.Server] = true
			if f.App == "whatsapp" {
				all += f.UplinkBytes + f.DownlinkBytes
			}
			if f.SYNSeen && f.EndReason != "shutdown" && f.UplinkPayloadBytes > 0 && f.DownlinkPayloadBytes > 0 {
				s.rated[DefaultMarks().Rate(f.End.Sub(f.Start))]++
			}
		}
		if len(r.Who.Classes) != len(truth) {
			t.Errorf("%s: %d classes, want %d", scenario, len(r.Who.Classes), len(truth))
		}
		for i, c := range r.Who.Classes {
			s := truth[c.App+"/"+c.Class]
			if s == nil || c.Flows != s.flows || c.Bytes() != s.bytes {
				t.Errorf("%s: %s has %d flows and %d bytes, want %+v", scenario, c.Class, c.Flows, c.Bytes(), s)
				continue
			}
			if c.App == "whatsapp" && math.Abs(c.ShareOfBytes-float64(s.bytes)/float64(all)) > 1e-6 {
				t.Errorf("%s: share of %s is %v", scenario, c.Class, c.ShareOfBytes)
			}
			if h := r.Hosting.Classes[i]; h.Addresses != len(s.servers) {
				t.Errorf("%s: %s has %d addresses, want %d", scenario, c.Class, h.Addresses, len(s.servers))
			}
		}
		checkNetworks(t, scenario, x, r)
		rated := 0
		for _, e := range r.Experience.Classes {
			want := truth[e.Label].rated
			if [ratings]uint64{e.Good, e.Acceptable, e.Bad} != want {
				t.Errorf("%s: %s rated %d, %d, %d; want %v", scenario, e.Label, e.Good, e.Acceptable, e.Bad, want)
			}
			rated += int(e.Count)
		}
		if rated < 30 {
			t.Errorf("%s: only %d transfers rated", scenario, rated)
		}
		if len(r.Outage.Events) > 0 {
			t.Errorf("%s: events %+v", scenario, r.Outage.Events)
		}
		checkCities(t, scenario, r)
	}
}

// checkNetworks: the addresses of the whole app, and the networks they are in.
func checkNetworks(t *testing.T, scenario string, x *traced, r *Report) {
	t.Helper()
	addrs, networks := map[netip.Addr]bool{}, [3]map[netip.Prefix]bool{{}, {}, {}}
	for i := range x.truth {
		if f := &x.truth[i]; f.App == "whatsapp" {
			addrs[f.Server] = true
			for j, n := range []int{24, 16, 8} {
				if p, err := f.Server.Prefix(n); err == nil && f.Server.Is4() {
					networks[j][p] = true
				}
			}
		}
	}
	if len(r.Hosting.Apps) != 1 || len(addrs) < 100 {
		t.Fatalf("%s: apps %+v, %d addresses", scenario, r.Hosting.Apps, len(addrs))
	}
	e := r.Hosting.Apps[0]
	if e.App != "whatsapp" || e.Addresses != len(addrs) || e.Slash24 != len(networks[0]) || e.Slash16 != len(networks[1]) || e.Slash8 != len(networks[2]) {
		t.Errorf("%s: %+v, want %d addresses in %d, %d, %d networks", scenario, e, len(addrs), len(networks[0]), len(networks[1]), len(networks[2]))
	}
}

func checkCities(t *testing.T, scenario string, r *Report) {
	t.Helper()
	s := r.Location.Steps
	if len(s) != 2 || math.Abs(s[0].At-0.106) > 0.001 || math.Abs(s[1].At-0.114) > 0.001 {
		t.Errorf("%s: steps of round-trip times %+v, want 106 and 114 ms", scenario, s)
	}
}

// TestOutageScenario: the day of the outage, with the time-outs of all systems.
func TestOutageScenario(t *testing.T) {
	x := trace(t, "outage-2014", synth.Options{})
	r := x.report(Options{})
	if len(r.Outage.Events) != 1 {
		t.Fatalf("%d events: %+v", len(r.Outage.Events), r.Outage.Events)
	}
	e := r.Outage.Events[0]
	near := func(text, want string) bool {
		a, _ := time.Parse(time.RFC3339, text)
		b, _ := time.Parse(time.RFC3339, want)
		return a.Sub(b).Abs() <= 5*time.Minute
	}
	if !near(e.Start, "2014-02-22T17:30:00Z") || !near(e.End, "2014-02-22T22:30:00Z") || e.Verdict != "app-failure" || e.App != "whatsapp" {
		t.Errorf("event %+v", e)
	}
	if e.Depth < 0.5 || e.Attempts < 1.5 || e.SuccessDuring > 0.1 || e.SuccessBefore < 0.9 || e.Calibrated {
		t.Errorf("event %+v", e)
	}
	checkCities(t, "outage-2014", r)
	checkTimeouts(t, r)
}

// checkTimeouts: each time-out that the scenario has is found within 5 %, and
// nothing else.
func checkTimeouts(t *testing.T, r *Report) {
	t.Helper()
	want := map[string][]float64{
		"android sessions": {600, 900, 1500}, "ios sessions": {180}, "blackberry sessions": {900}, "windows-phone sessions": {600},
		"android transfers": nil, "ios transfers": nil, "blackberry transfers": {90}, "windows-phone transfers": nil,
	}
	for _, d := range r.Devices.Devices {
		key := d.OS + " " + d.Kind
		list, ok := want[key]
		if !ok {
			t.Errorf("devices have %s", key)
			continue
		}
		delete(want, key)
		if len(d.Steps) != len(list) {
			t.Errorf("%s of %d flows: steps %+v, want %v", key, d.Duration.Count, d.Steps, list)
			continue
		}
		for i, s := range d.Steps {
			if math.Abs(s.At/list[i]-1) > 0.05 {
				t.Errorf("%s: %v s found at %v", key, list[i], s.At)
			}
		}
	}
	for key := range want {
		t.Errorf("devices lack %s", key)
	}
}

// TestRefusedPlaces: a database that puts a server on the other side of the
// world is refused where the round-trip time forbids it, and only there.
func TestRefusedPlaces(t *testing.T) {
	x := trace(t, "quiet-hour", synth.Options{})
	p, err := OpenPlaces("", "", write(t, "p.csv", "prefix,asn,org,country,city,lat,lon\n"+
		"0.0.0.0/0,36351,SoftLayer,US,Dallas,32.78,-96.80\n50.22.0.0/15,36351,SoftLayer,AU,Sydney,-33.87,151.21\n"))
	if err != nil {
		t.Fatal(err)
	}
	tap := Position{48.21, 16.37}
	r := x.report(Options{Places: p, Tap: &tap})
	refused := 0
	for _, l := range r.Location.Addresses {
		far := strings.HasPrefix(l.Address, "50.22.") || strings.HasPrefix(l.Address, "50.23.")
		if l.RTT > 0 && (l.Verdict == "refused") != far {
			t.Errorf("%s at %v s: %s is %s", l.Address, l.RTT, l.Place, l.Verdict)
		}
		if l.Verdict == "refused" {
			refused++
		}
	}
	if refused == 0 || refused != r.Location.Refused {
		t.Errorf("%d refused, the section says %d", refused, r.Location.Refused)
	}
	claimed := 0
	for _, s := range r.Location.Steps {
		for _, c := range s.Claims {
			claimed += c.Refused
		}
	}
	if claimed != refused {
		t.Errorf("%d of %d refused places are under a step", claimed, refused)
	}
	if len(r.Hosting.Systems) != 1 || r.Hosting.Systems[0].ASN != 36351 || r.Hosting.Systems[0].Own == nil {
		t.Errorf("systems %+v", r.Hosting.Systems)
	}
	if len(r.Hosting.Countries) != 2 {
		t.Errorf("countries %+v", r.Hosting.Countries)
	}
}

// TestDoesNotGrow: two million flows, half of them hostile, leave a collector no
// larger than its caps. (Of 2^20 addresses two million draws hit some 893,000.)
func TestDoesNotGrow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	r := rand.New(rand.NewPCG(3, 4))
	c := NewCollector(Options{})
	const n = 2_000_000
	for i := range uint64(n) {
		rec := forge(r, i, 8*n) // within four days
		if i%2 == 0 {           // hostile: ever new servers, names, classes and access points
			rec.Server = netip.AddrFrom4([4]byte{198, byte(i >> 17), byte(i >> 9), byte(i >> 1)})
			rec.Name = "x" + rec.Server.String() + ".whatsapp.net"
			rec.Evidence = "none"
			rec.Class = "c" + rec.Server.String()[:6]
			rec.APN, rec.App = rec.Name, "a"+rec.Class
		} else {
			rec.OS = rec.Name + rec.Server.String()
		}
		c.Add(&rec)
	}
	bins := 0
	for _, b := range c.detect.bins {
		bins += len(b.users) + len(b.groups)
	}
	if bins > len(c.detect.bins)*(maxClasses+maxGroups) || len(c.scores.byOS) != maxClasses+1 {
		t.Errorf("%d apps and groups in %d bins, %d systems", bins, len(c.detect.bins), len(c.scores.byOS))
	}
	if len(c.list) > maxClasses || c.servers > maxAllServers || len(c.names) > maxNames || len(c.apns) > maxAPNs || len(c.trust.unnamed) > maxUnnamed {
		t.Errorf("%d classes, %d servers, %d names, %d access points", len(c.list), c.servers, len(c.names), len(c.apns))
	}
	rep := c.Report()
	if rep.Flows != n || rep.Subscribers < 865_000 || rep.Subscribers > 920_000 {
		t.Errorf("%d flows, %d subscribers", rep.Flows, rep.Subscribers)
	}
}

// TestTailIsNoOutage: flows that were selected by their start leave a tail of
// ends, which is no failure of anything.
func TestTailIsNoOutage(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	c := NewCollector(Options{})
	for i := range uint64(100_000) {
		rec := forge(r, i, 3_000_000) // a day of the month
		rec.End = rec.Start + int64(r.ExpFloat64()*float64(20*time.Minute))
		c.Add(&rec)
	}
	if e := c.Report().Outage; len(e.Events) > 0 || e.Judged < 200 {
		t.Errorf("%d bins judged, events %+v", e.Judged, e.Events)
	}
}

// TestSharedCaptures: every real capture gives a report, says plainly what it
// lacks, and writes as JSON and HTML.
func TestSharedCaptures(t *testing.T) {
	files, _ := filepath.Glob("../../shared/captures/*.pcap*")
	if len(files) == 0 {
		t.Skip("../shared/captures is not there")
	}
	for _, path := range files {
		x := &traced{ids: export.ClearAddresses(nil)}
		analyse(t, x, probe.MinMemory, path)
		r := x.report(Options{Title: filepath.Base(path)})
		var html bytes.Buffer
		if err := r.WriteHTML(&html); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		text := asJSON(t, r)
		if !json.Valid([]byte(text)) || strings.Contains(text, "null,\n") && strings.Contains(text, `"curve": null`) {
			t.Errorf("%s: JSON with holes", path)
		}
		for _, bad := range []string{"NaN", "Inf", "%!", "ZgotmplZ"} {
			if strings.Contains(html.String(), bad) {
				t.Errorf("%s: %q in the page", path, bad)
			}
		}
		remarks := len(r.Experience.Remarks) + len(r.Devices.Remarks) + len(r.Outage.Remarks) + len(r.Who.Remarks)
		if remarks == 0 {
			t.Errorf("%s: nothing is said to be lacking", path)
		}
	}
}

// TestKnownCapture: the connections that are known one by one.
func TestKnownCapture(t *testing.T) {
	path := "../../shared/captures/nDPI_wa_voice.pcap"
	if _, err := os.Stat(path); err != nil {
		t.Skip("../shared/captures is not there")
	}
	x := &traced{ids: export.ClearAddresses(nil)}
	analyse(t, x, probe.MinMemory, path)
	r := x.report(Options{})
	var names []string
	for _, n := range r.Naming.Names {
		names = append(names, n.Name+" "+n.Class)
		if n.Flows > 0 && (n.Answers == 0 || n.AddressCount == 0 || !slices.Equal(n.Ports, []uint16{443}) && !slices.Equal(n.Ports, []uint16{5222})) {
			t.Errorf("%+v", n)
		}
	}
	slices.Sort(names)
	for _, want := range []string{"g.whatsapp.net chat", "media-mxp1-1.cdn.whatsapp.net media", "pps.whatsapp.net profile"} {
		if !slices.Contains(names, want) {
			t.Errorf("names %v lack %q", names, want)
		}
	}
}
