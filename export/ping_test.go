package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

func snapshotAt(at time.Duration, chat flows.Counters) *probe.Snapshot {
	return &probe.Snapshot{
		First: int64(time.Second), Time: int64(at),
		Classes: []probe.ClassSnapshot{
			{ClassInfo: classify.ClassInfo{App: "other", Class: "other"}},
			{ClassInfo: classify.ClassInfo{App: "whatsapp", Class: "chat"}, Counters: chat},
		},
	}
}

func TestPing(t *testing.T) {
	var chat flows.Counters
	var periods []*probe.Snapshot
	chat.Packets = [2]uint64{100, 50}
	chat.Active = 3
	for range 20 {
		chat.RTT[flows.Up].Observe(0.106, 1)
	}
	chat.RTT[flows.Up].Observe(0.400, 1)
	periods = append(periods, snapshotAt(10*time.Second, chat))
	periods = append(periods, snapshotAt(20*time.Second, chat)) // nothing new
	chat.Packets[flows.Down] += 40
	chat.Retransmitted[flows.Down] = 5
	chat.LostBefore[flows.Down] = 2
	chat.OutOfOrder[flows.Down] = 1
	chat.RTT[flows.Down].Observe(0.050, 2)
	periods = append(periods, snapshotAt(30*time.Second, chat))

	var out bytes.Buffer
	p := NewPing(&out, false)
	for _, s := range periods {
		if err := p.Observe(s); err != nil {
			t.Fatal(err)
		}
	}
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines, want those of the two periods with packets:\n%s", len(lines), out.String())
	}
	near := func(m map[string]any, key string, want float64) {
		t.Helper()
		if got, ok := m[key].(float64); !ok || math.Abs(got-want) > want*0.045 {
			t.Errorf("%s: %v, want %v", key, m[key], want)
		}
	}
	exact := func(m map[string]any, key string, want any) {
		t.Helper()
		if m[key] != want {
			t.Errorf("%s: %v, want %v", key, m[key], want)
		}
	}
	a, b := lines[0], lines[1]
	exact(a, "start", "1970-01-01T00:00:01.000000000Z")
	exact(a, "end", "1970-01-01T00:00:10.000000000Z")
	exact(a, "class", "chat")
	exact(a, "flows_active", 3.0)
	exact(a, "uplink_segments", 100.0)
	exact(a, "server_rtt_samples", 21.0)
	exact(a, "server_rtt_mean_s", 0.12)
	near(a, "server_rtt_least_s", 0.106)
	near(a, "server_rtt_median_s", 0.106)
	near(a, "server_rtt_p95_s", 0.106)
	exact(a, "access_rtt_samples", 0.0)
	exact(a, "access_rtt_mean_s", nil)
	exact(b, "start", "1970-01-01T00:00:20.000000000Z")
	exact(b, "uplink_segments", 0.0)
	exact(b, "downlink_segments", 40.0)
	exact(b, "downlink_lost_before_tap", 2.0)
	exact(b, "downlink_lost_after_tap", 3.0)
	exact(b, "downlink_out_of_order", 1.0)
	exact(b, "server_rtt_samples", 0.0)
	near(b, "access_rtt_p95_s", 0.05)

	var table bytes.Buffer
	table.Write(PingHeading(true))
	c := NewPing(&table, true)
	for _, s := range periods {
		if err := c.Observe(s); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(&table).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || len(rows[0]) != len(a) {
		t.Fatalf("%d rows of %d columns, want 3 of %d", len(rows), len(rows[0]), len(a))
	}
	for i, column := range rows[0] {
		if _, ok := a[column]; !ok {
			t.Errorf("column %s is no key of the JSON", column)
		}
		if column == "uplink_segments" && rows[1][i] != "100" {
			t.Errorf("uplink_segments %s in CSV", rows[1][i])
		}
	}
}

// TestPingOneSample: a single sample is its own least, median and mean, in the line
// of its class as in that of its servers.
func TestPingOneSample(t *testing.T) {
	var chat flows.Counters
	chat.Packets[flows.Up] = 1
	chat.RTT[flows.Up].Observe(0.024125, 1)
	s := snapshotAt(10*time.Second, chat)
	x := probe.Serving{Class: 1, Flows: 1}
	x.Samples[flows.Up], x.Sum[flows.Up], x.Least[flows.Up], x.Buckets[flows.Up][34] = 1, 24125, 24000, 1
	s.Servings = []probe.Serving{x}
	var out bytes.Buffer
	if err := NewPing(&out, false).Observe(s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"server_rtt_samples":1,"server_rtt_least_s":0.024125,"server_rtt_median_s":0.024125,"server_rtt_p95_s":0.024125,"server_rtt_mean_s":0.024125`,
		`"server_rtt_samples":1,"server_rtt_least_s":0.024,"server_rtt_median_s":0.024125,"server_rtt_p95_s":0.024125,"server_rtt_mean_s":0.024125`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

// TestPingInOrder: what a line says of round-trip times does not contradict itself.
func TestPingInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var chat flows.Counters
	var out bytes.Buffer
	p := NewPing(&out, false)
	medians := map[float64]bool{}
	for period := range 500 {
		chat.Packets[flows.Up]++
		s := snapshotAt(time.Duration(period+1)*10*time.Second, chat)
		x := probe.Serving{Class: 1, Flows: 1}
		for range 1 + random.IntN(20) {
			us := 100_000 + random.IntN(1+random.IntN(30_000))
			s.Classes[1].RTT[flows.Up].Observe(float64(us)*1e-6, 1)
			x.Samples[flows.Up]++
			x.Sum[flows.Up] += uint64(us)
			x.Buckets[flows.Up][int((math.Log2(float64(us))-6)*4)]++
			if x.Least[flows.Up] == 0 || uint32(us) < x.Least[flows.Up] {
				x.Least[flows.Up] = uint32(us)
			}
		}
		chat.RTT[flows.Up] = s.Classes[1].RTT[flows.Up]
		s.Servings = []probe.Serving{x}
		if err := p.Observe(s); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		of := func(what string) float64 { return m["server_rtt_"+what+"_s"].(float64) }
		if of("least") > of("median") || of("median") > of("p95") || of("least") > of("mean") {
			t.Errorf("%s", line)
		}
		if m["group"] == "class" {
			medians[of("median")] = true
		}
	}
	if len(medians) < 20 {
		t.Errorf("%d medians, want as many as there are", len(medians))
	}
}
