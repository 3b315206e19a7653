package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

var update = flag.Bool("update", false, "write the golden files and docs/metrics.md anew")

var testConfig = Config{
	Version: "v1.2.3", Commit: "0123456789abcdef", GoVersion: "go1.26.0",
	Features: []string{"afpacket", "libpcap"}, Interfaces: []string{"eth0", "eth1"},
	Loaded: time.Unix(50, 0),
}

// fixed returns a collector whose engine always says s.
func fixed(s *probe.Snapshot) *Collector {
	return New(func() *probe.Snapshot { return s }, testConfig)
}

// zero returns the snapshot of an engine that has seen nothing.
func zero(classes ...string) *probe.Snapshot {
	s := &probe.Snapshot{Classes: make([]probe.ClassSnapshot, len(classes))}
	for i, class := range classes {
		s.Classes[i].App, s.Classes[i].Class, _ = strings.Cut(class, "/")
	}
	s.GTP.APNs = []probe.APNSnapshot{{Name: "unknown"}, {Name: "other"}, {Name: "internet"}}
	return s
}

// builtin returns the zero snapshot of an engine with the built-in rules.
func builtin(t testing.TB) *probe.Snapshot {
	t.Helper()
	e, err := probe.New(probe.Config{
		Shards: 1, Memory: probe.MinMemory, Rules: classify.Builtin(), Cascade: classify.DefaultCascade(),
		APNs: []string{"internet"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.Snapshot()
}

// counters calls f with every counter of s that is a plain field, by reflection,
// so that a field added to the engine is not forgotten here. Gauges are in it.
func counters(v reflect.Value, f func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[classify.ClassInfo]() || v.Type() == reflect.TypeFor[flows.Histogram]() {
			return
		}
		for i := range v.NumField() {
			counters(v.Field(i), f)
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			counters(v.Index(i), f)
		}
	case reflect.Uint64, reflect.Int64, reflect.Int:
		f(v)
	}
}

// histograms calls f with every histogram of s.
func histograms(s *probe.Snapshot, f func(*flows.Histogram)) {
	for i := range s.Classes {
		c := &s.Classes[i]
		f(&c.Duration)
		for d := range 2 {
			f(&c.RTT[d])
			f(&c.Size[d])
			f(&c.Throughput[d])
		}
	}
}

// grow adds to every counter and histogram of s.
func grow(s *probe.Snapshot, rng *rand.Rand) {
	counters(reflect.ValueOf(s).Elem(), func(v reflect.Value) {
		n := rng.Uint64N(1000)
		if v.CanUint() {
			v.SetUint(v.Uint() + n)
		} else {
			v.SetInt(v.Int() + int64(n))
		}
	})
	histograms(s, func(h *flows.Histogram) {
		for range rng.IntN(40) {
			h.Observe(math.Exp2(rng.Float64()*60-22), 1+rng.Uint64N(3))
		}
	})
}

// distinct returns a snapshot in which every number differs from all others.
func distinct() *probe.Snapshot {
	s := zero("other/other", "whatsapp/chat")
	s.Source.Interfaces = []capture.InterfaceStats{{Name: "eth0"}, {Name: "eth1"}}
	n := uint64(1000)
	counters(reflect.ValueOf(s).Elem(), func(v reflect.Value) {
		n++
		if v.CanUint() {
			v.SetUint(n)
		} else {
			v.SetInt(int64(n))
		}
	})
	s.Time, s.First, s.Last = 1393027201_500000000, 1393023600_000000000, 1393027201_250000000
	s.Tables.LastEvictedAge = 3600_250000000
	v := 0.001
	histograms(s, func(h *flows.Histogram) {
		for range 12 {
			h.Observe(v, 1)
			v *= 1.9
			if v > 1e9 {
				v = 0.0007
			}
		}
	})
	return s
}

func gather(t testing.TB, c prometheus.Collector) []*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func text(t testing.TB, families []*dto.MetricFamily) []byte {
	t.Helper()
	var page bytes.Buffer
	enc := expfmt.NewEncoder(&page, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	return page.Bytes()
}

// golden compares got with the file at path, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s:%d differs (go test ./metrics -update writes it anew)\n got %s\nwant %s", path, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s has %d lines, want %d (go test ./metrics -update writes it anew)", path, len(w), len(g))
}

func TestGoldenPage(t *testing.T) {
	c := fixed(distinct())
	c.Reloaded(true, time.Unix(1393020000, 0))
	c.Reloaded(false, time.Unix(1393026000, 500e6))
	golden(t, "testdata/page.txt", text(t, gather(t, c)))
}

// TestEveryNumberIsShown holds the page complete: what the engine counts is on
// it, unless it is listed here with the reason.
func TestEveryNumberIsShown(t *testing.T) {
	s := distinct()
	hidden := map[uint64]bool{
		// Shown by interface as capture_packets_total and
		// capture_bytes_total.
		s.Frames: true, s.Bytes: true,
	}
	for i := range s.Classes {
		hidden[s.Classes[i].Closed[flows.NotEnded]] = true
	}
	for _, n := range s.DNS.Rcodes[len(rcodeNames):] {
		hidden[n] = true // shown as their sum
	}
	shown := map[float64]int{}
	for _, f := range gather(t, fixed(s)) {
		for _, m := range f.Metric {
			shown[m.GetCounter().GetValue()+m.GetGauge().GetValue()]++
		}
	}
	n := 0
	counters(reflect.ValueOf(s).Elem(), func(v reflect.Value) {
		var x uint64
		if v.CanUint() {
			x = v.Uint()
		} else {
			x = uint64(v.Int())
		}
		if x > 100_000 || hidden[x] {
			return // a time, or hidden
		}
		n++
		if shown[float64(x)] != 1 {
			t.Errorf("a counter with the value %d is on the page %d times, want once", x, shown[float64(x)])
		}
	})
	if n < 100 {
		t.Errorf("only %d counters met: the walk misses fields", n)
	}
}

// labelValues are the closed lists, written out: a new value is a change that
// the outside sees. Nil means any value of the configuration.
var labelValues = map[string][]string{
	"app":           {"other", "whatsapp"},
	"class":         {"audio", "chat", "control", "media", "other", "photo", "profile", "video", "web"},
	"interface":     {"eth0", "eth1"},
	"evidence":      {"dns", "dns-stale", "none", "server", "sni"},
	"rcode":         {"formerr", "noerror", "notimp", "nxdomain", "other", "refused", "servfail"},
	"outcome":       {"fragment_held", "other_ip", "tcp", "udp"},
	"apn":           {"internet", "other", "unknown"},
	"message":       messages(),
	"method":        {"cbpf", "ebpf", "hash", "none"},
	"work":          {"rtt", "sni"},
	"kind":          {"control", "followed", "not_ip", "stray", "undecided"},
	"rating":        {"acceptable", "bad", "good"},
	"prefix_length": {"16", "24", "8"},
	"output":        {"events", "flows", "ping"},
	"horizon":       {"10s", "1h", "1m", "5m"},
	"version":       nil, "commit": nil, "goversion": nil, "features": nil,
}

// reasons and verdicts differ by metric.
var verdicts = map[string][]string{
	"nametap_gtp_control_verdicts_total": {"bad_header", "bad_ie", "bad_version", "cut", "not_gtp_c", "ok", "too_short", "unknown_ie"},
	"nametap_outage_active":              {"app-failure", "dns-failure", "our-network", "unreachable"},
	"nametap_outage_events_total":        {"app-failure", "dns-failure", "our-network", "unreachable"},
}

var reasons = map[string][]string{
	"nametap_tap_problem": {
		"blind", "dns_missing", "drops", "duplicates", "encrypted_dns",
		"names_missing", "no_packets", "one_direction", "overload", "port_silent", "unseen_bytes", "warm_up",
	},
	"nametap_flows_closed_total":       {"evicted", "fin", "idle", "reused", "rst", "shutdown"},
	"nametap_gtp_table_losses_total":   {"apn", "endpoint", "exchange"},
	"nametap_capture_drops_total":      {"interface", "ring_full"},
	"nametap_gtp_sessions_ended_total": {"deleted", "evicted", "expired", "merged", "replaced"},
	"nametap_decode_errors_total": {
		"bad_fragment", "bad_ip", "bad_link", "bad_transport", "bad_tunnel", "cut_frame",
		"fragment_table_full", "link_type", "not_ip", "too_deep",
	},
}

// messages are the control plane's; their list is long, and gtp's to keep.
func messages() []string {
	var list []string
	for k := range gtp.Kind(gtp.NumKinds) {
		list = append(list, k.String())
	}
	return list
}

// TestZeroPage: every family is there before the first packet, with a series for
// every combination of its labels, at 0.
func TestZeroPage(t *testing.T) {
	s := builtin(t)
	families := gather(t, fixed(s))
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	series := map[string]int{}
	for label, values := range labelValues {
		series[label] = max(len(values), 1)
	}
	total := 0
	for _, section := range sections {
		for _, want := range section.families {
			total++
			name := namespace + want.name
			f := byName[name]
			if f == nil {
				t.Errorf("%s is not on the page", name)
				continue
			}
			series["reason"], series["verdict"] = len(reasons[name]), len(verdicts[name])
			series["app"], series["class"] = len(s.Classes), 1 // the pairs
			if !slices.Contains(want.labels, "class") {
				series["app"] = len(labelValues["app"])
			}
			n := 1
			for _, label := range want.labels {
				n *= series[label]
			}
			if len(f.Metric) != n {
				t.Errorf("%s has %d series, want %d", name, len(f.Metric), n)
			}
			if got := strings.ToLower(f.GetType().String()); got != want.kind.String() {
				t.Errorf("%s is a %s, want %s", name, got, want.kind)
			}
			zeroValues(t, f)
		}
	}
	if len(families) != total {
		t.Errorf("%d families on the page, want %d", len(families), total)
	}
	if len(s.Classes) < 10 {
		t.Errorf("%d classes, want the built-in ones", len(s.Classes))
	}
}

func zeroValues(t *testing.T, f *dto.MetricFamily) {
	t.Helper()
	switch f.GetName() {
	case "nametap_build_info", "nametap_config_last_reload_successful",
		"nametap_config_last_reload_timestamp_seconds", "nametap_config_last_reload_success_timestamp_seconds",
		"nametap_flow_table_entries_limit", "nametap_dnsmap_entries_limit",
		"nametap_capture_interface_up", "nametap_capture_workers", "nametap_capture_fanout_info", "nametap_gtp_sessions_limit", "nametap_subscriber_classes_limit":
		return
	}
	for _, m := range f.Metric {
		if m.GetCounter().GetValue() != 0 || m.GetGauge().GetValue() != 0 || m.GetHistogram().GetSampleCount() != 0 {
			t.Errorf("%s is not 0 at the start: %v", f.GetName(), m)
		}
	}
}

func TestLabelsAreClosed(t *testing.T) {
	s := builtin(t)
	s.Source.Interfaces = []capture.InterfaceStats{{Name: "eth0"}, {Name: "eth1"}}
	grow(s, rand.New(rand.NewPCG(1, 2)))
	for _, f := range gather(t, fixed(s)) {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				allowed, known := labelValues[l.GetName()]
				switch l.GetName() {
				case "reason":
					allowed, known = reasons[f.GetName()]
				case "verdict":
					allowed, known = verdicts[f.GetName()]
				}
				if !known || allowed != nil && !slices.Contains(allowed, l.GetValue()) {
					t.Errorf("%s: label %s=%q is not from the list", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	// The lists above are the enumerations, no more and no less.
	for what, n := range map[string][2]int{
		"evidence":     {len(labelValues["evidence"]), int(classify.EvidenceCount)},
		"end reasons":  {len(reasons["nametap_flows_closed_total"]), int(flows.EndReasons) - 1},
		"drop reasons": {len(reasons["nametap_capture_drops_total"]), int(capture.DropReasons)},
		"tap problems": {len(reasons["nametap_tap_problem"]), int(watch.Reasons)},
		"ratings":      {len(labelValues["rating"]), int(flows.Ratings)},
		"works":        {len(labelValues["work"]), int(probe.Works)},
		"outcomes":     {len(reasons["nametap_decode_errors_total"]) + len(labelValues["outcome"]), int(decode.Outcomes)},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d label values, but %d in the code", what, n[0], n[1])
		}
	}
}

// TestGrowth: whatever is counted, no counter falls, no value is negative, and
// the series stay the same.
func TestGrowth(t *testing.T) {
	s := zero("other/other", "whatsapp/chat", "whatsapp/media")
	s.Source.Interfaces = []capture.InterfaceStats{{Name: "eth0"}, {Name: "eth1"}}
	c := fixed(s)
	rng := rand.New(rand.NewPCG(3, 4))
	before := samples(t, gather(t, c))
	for range 60 {
		grow(s, rng)
		after := samples(t, gather(t, c))
		if len(after) != len(before) {
			t.Fatalf("%d series, %d before", len(after), len(before))
		}
		for key, was := range before {
			is, ok := after[key]
			if !ok {
				t.Fatalf("%s is gone", key)
			}
			if is < was || is < 0 {
				t.Fatalf("%s fell from %g to %g", key, was, is)
			}
		}
		before = after
	}
}

// samples returns all numbers on the page that must not fall (grow lets gauges
// rise, too).
func samples(t *testing.T, families []*dto.MetricFamily) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += fmt.Sprintf(",%s=%s", l.GetName(), l.GetValue())
			}
			if m.Histogram == nil {
				all[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
				continue
			}
			h := m.Histogram
			all[key+"_count"] = float64(h.GetSampleCount())
			all[key+"_sum"] = h.GetSampleSum()
			last := uint64(0)
			for _, b := range h.Bucket {
				if b.GetCumulativeCount() < last {
					t.Fatalf("%s: cumulative buckets fall at %g", key, b.GetUpperBound())
				}
				last = b.GetCumulativeCount()
				all[fmt.Sprintf("%s,le=%g", key, b.GetUpperBound())] = float64(last)
			}
			if h.GetSampleCount() < last {
				t.Fatalf("%s: +Inf is less than the last bucket", key)
			}
			all[key+"_schema"] = -float64(h.GetSchema()) + 10 // it may only fall
		}
	}
	return all
}

func TestLint(t *testing.T) {
	problems, err := promlint.NewWithMetricFamilies(gather(t, fixed(distinct()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: apt-get install prometheus)")
	}
	pages := map[string][]byte{
		"collector": text(t, gather(t, fixed(distinct()))),
		"zero":      text(t, gather(t, fixed(builtin(t)))),
		"handler":   get(t, Handler(fixed(distinct()), nil), "text/plain").Body.Bytes(),
	}
	for name, page := range pages {
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = bytes.NewReader(page)
		out, err := check.CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: promtool check metrics: %v\n%s", name, err, out)
		}
	}
}

func TestReload(t *testing.T) {
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	tests := []struct {
		name     string
		reloads  func(*Collector)
		ok, last float64
		success  float64
	}{
		{"at the start", func(*Collector) {}, 1, 50, 50},
		{"loaded", func(c *Collector) { c.Reloaded(true, at(100)) }, 1, 100, 100},
		{"failed at once", func(c *Collector) { c.Reloaded(false, at(100)) }, 0, 100, 50},
		{"then failed", func(c *Collector) { c.Reloaded(true, at(100)); c.Reloaded(false, at(200)) }, 0, 200, 100},
		{"then mended", func(c *Collector) { c.Reloaded(false, at(200)); c.Reloaded(true, at(300)) }, 1, 300, 300},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := fixed(zero("other/other"))
			tt.reloads(c)
			got := samples(t, gather(t, c))
			for name, want := range map[string]float64{
				"successful": tt.ok, "timestamp_seconds": tt.last, "success_timestamp_seconds": tt.success,
			} {
				if v := got["nametap_config_last_reload_"+name]; v != want {
					t.Errorf("config_last_reload_%s = %g, want %g", name, v, want)
				}
			}
		})
	}
}

func TestInterfaces(t *testing.T) {
	many := make([]capture.InterfaceStats, 3000)
	for i := range many {
		many[i] = capture.InterfaceStats{Name: fmt.Sprint("if", i), Packets: 1}
	}
	long := strings.Repeat("x", 1000)
	tests := []struct {
		name  string
		known []string
		stats []capture.InterfaceStats
		want  map[string]uint64
	}{
		{"none", nil, nil, map[string]uint64{}},
		{"known ahead of the source", []string{"eth0"}, nil, map[string]uint64{"eth0": 0}},
		{"known and there", []string{"eth0"}, []capture.InterfaceStats{{Name: "eth0", Packets: 3}}, map[string]uint64{"eth0": 3}},
		{"same name twice", nil, []capture.InterfaceStats{{Name: "a", Packets: 3}, {Name: "a", Packets: 4}}, map[string]uint64{"a": 7}},
		{"no name", nil, []capture.InterfaceStats{{Packets: 3}}, map[string]uint64{"": 3}},
		{"not UTF-8", nil, []capture.InterfaceStats{{Name: "e\xffth", Packets: 3}}, map[string]uint64{"e\ufffdth": 3}},
		{"too long", nil, []capture.InterfaceStats{{Name: long, Packets: 3}}, map[string]uint64{long[:maxLabel]: 3}},
		{
			"cut within a character", nil,
			[]capture.InterfaceStats{{Name: strings.Repeat("x", maxLabel-1) + "é", Packets: 3}},
			map[string]uint64{strings.Repeat("x", maxLabel-1) + "\ufffd": 3},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := map[string]uint64{}
			for _, i := range interfaces(tt.known, tt.stats) {
				got[i.Name] = i.Packets
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	list := interfaces([]string{"eth0"}, many)
	if len(list) != maxInterfaces+1 || list[maxInterfaces].Name != otherInterface {
		t.Fatalf("%d interfaces, want %d and %s", len(list), maxInterfaces, otherInterface)
	}
	if got, want := list[maxInterfaces].Packets, uint64(len(many)-maxInterfaces+1); got != want {
		t.Errorf("%d packets of other interfaces, want %d", got, want)
	}
	s := zero("other/other")
	s.Source.Interfaces = append(many, capture.InterfaceStats{Name: "\xff"})
	gather(t, fixed(s)) // fails on a label that is no UTF-8 or comes twice
}

func TestConcurrentScrapes(t *testing.T) {
	e, err := probe.New(probe.Config{
		Shards: 2, Memory: probe.MinMemory, Rules: classify.Builtin(), Cascade: classify.DefaultCascade(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := New(e.Snapshot, testConfig)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for n := range 10 {
				c.Reloaded(n%2 == 0, time.Unix(int64(i), 0))
				if _, err := r.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// twenty returns a busy snapshot of 20 classes.
func twenty() *probe.Snapshot {
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("app%d/class%d", i/5, i)
	}
	s := zero(names...)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		grow(s, rng)
	}
	return s
}

// TestGatherAllocations bounds the work of a scrape by the number of series.
func TestGatherAllocations(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(fixed(twenty()))
	n := testing.AllocsPerRun(5, func() {
		if _, err := r.Gather(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 64_000 {
		t.Errorf("%.0f allocations a scrape, want at most 64,000", n)
	}
}

func BenchmarkGather(b *testing.B) {
	r := prometheus.NewRegistry()
	r.MustRegister(fixed(twenty()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestInterfaceDown: an interface is up unless its source knows better.
func TestInterfaceDown(t *testing.T) {
	s := zero("other/other")
	s.Source.Interfaces = []capture.InterfaceStats{{Name: "eth1", Down: true}}
	got := samples(t, gather(t, fixed(s)))
	for name, want := range map[string]float64{"eth0": 1, "eth1": 0} {
		if v, ok := got["nametap_capture_interface_up,interface="+name]; !ok || v != want {
			t.Errorf("%s: %g, want %g (%v)", name, v, want, ok)
		}
	}
}
