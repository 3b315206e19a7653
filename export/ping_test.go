package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
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

func TestQuantile(t *testing.T) {
	var h, none flows.Histogram
	for i := 1; i <= 1000; i++ {
		h.Observe(float64(i)/1000, 1)
	}
	for _, q := range []float64{0.01, 0.25, 0.5, 0.95, 1} {
		if got := quantile(&h, &none, q); math.Abs(got-q) > 0.045*q {
			t.Errorf("%v-quantile of 1 … 1000 ms is %v", q, got)
		}
	}
}
