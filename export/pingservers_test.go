package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// servedAt returns a snapshot at which 60 servers at 106 ms and 30 at 114 ms were used
// by chat, one connection each, and one that is at no site.
func servedAt(at time.Duration) *probe.Snapshot {
	var chat flows.Counters
	chat.Packets = [2]uint64{uint64(at), uint64(at)}
	s := snapshotAt(at, chat)
	s.Classes[1].ServingsMissed = uint64(at / time.Second)
	add := func(last byte, us uint32) {
		x := probe.Serving{Server: decode.AddrFrom4([]byte{203, 0, 113, last}), Class: 1, Flows: 1}
		x.Samples[flows.Up], x.Sum[flows.Up], x.Least[flows.Up] = 2, 2*uint64(us)+2000, us
		x.Buckets[flows.Up][43] = 2 // 110 ms
		x.Segments = [2]uint64{10, 20}
		x.Retransmitted[flows.Down], x.LostBefore[flows.Down] = 3, 1
		s.Servings = append(s.Servings, x)
	}
	for i := range 60 {
		add(byte(i), 106_000+uint32(i)*5)
	}
	for i := range 30 {
		add(byte(100+i), 114_000+uint32(i)*5)
	}
	add(200, 20_000)
	return s
}

func TestPingByServers(t *testing.T) {
	var out, table bytes.Buffer
	for asCSV, to := range map[bool]*bytes.Buffer{false: &out, true: &table} {
		to.Write(PingHeading(asCSV))
		p := NewPing(to, asCSV)
		p.ByServers(func(a netip.Addr) (uint32, string) {
			if last := a.As4()[3]; last < 40 || last == 200 {
				return 64500, `Odd, "quoted" AS`
			}
			return 0, ""
		})
		// Sites are known from the second period on.
		for _, at := range []time.Duration{70 * time.Second, 80 * time.Second} {
			if err := p.Observe(servedAt(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var lines []map[string]any
	for line := range bytes.Lines(out.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if m["end"] == "1970-01-01T00:01:20.000000000Z" {
			lines = append(lines, m)
		}
	}
	type row struct {
		group, site, asn     any
		servers, connections float64
		lost                 float64
	}
	want := []row{
		{"class", nil, nil, 91, 91, 0},
		{"servers", nil, 64500.0, 1, 1, 2},
		{"servers", 1.0, nil, 20, 20, 40},
		{"servers", 1.0, 64500.0, 40, 40, 80},
		{"servers", 2.0, nil, 30, 30, 60},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, m := range lines {
		got := row{m["group"], m["site"], m["asn"], m["servers"].(float64), m["connections"].(float64), m["downlink_lost_after_tap"].(float64)}
		if got != want[i] {
			t.Errorf("line %d: %+v, want %+v", i, got, want[i])
		}
	}
	site := lines[3]
	if site["as_name"] != `Odd, "quoted" AS` || site["server_rtt_samples"] != 80.0 || site["server_rtt_least_s"] != 0.106 || site["flows_active"] != nil {
		t.Errorf("%v", site)
	}
	if rtt := site["site_rtt_s"].(float64); rtt < 0.1055 || rtt > 0.1065 {
		t.Errorf("the site is at %g s", rtt)
	}
	if median := site["server_rtt_median_s"].(float64); median < 0.1 || median > 0.125 {
		t.Errorf("median %g s", median)
	}
	if mean := site["server_rtt_mean_s"].(float64); mean < 0.107 || mean > 0.1072 {
		t.Errorf("mean %g s", mean)
	}
	rows, err := csv.NewReader(&table).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if lines[0]["connections_missed"] != 10.0 || site["connections_missed"] != nil {
		t.Errorf("%v connections are missed by the class, %v by a group", lines[0]["connections_missed"], site["connections_missed"])
	}
	if last := rows[len(rows)-2]; len(rows[0]) != len(lines[0]) || rows[0][9] != "as_name" || last[9] != `Odd, "quoted" AS` {
		t.Errorf("CSV %v", last)
	}
}
