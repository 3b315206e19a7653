package ping

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func someSample() *Sample {
	conn := func(command string, rtt time.Duration, sent, again uint64) Connection {
		return Connection{
			Local: netip.MustParseAddrPort("10.0.0.1:1"), Remote: netip.MustParseAddrPort("[2001:db8::1]:443"),
			UID: 1000, Process: Process{PID: 7, Command: command},
			Info:   Info{State: 1, RTT: rtt, MinRTT: rtt / 2, SinceAck: rtt * 10},
			Counts: Counts{DataSegments: sent, Retransmitted: again},
		}
	}
	s := &Sample{Time: time.Unix(1700000000, 0), Period: 10 * time.Second, Open: 9}
	s.Connections = []Connection{
		conn("a", 10*time.Millisecond, 10, 1), conn("a", 30*time.Millisecond, 30, 1), conn("a", 20*time.Millisecond, 0, 0),
		conn("a", 0, 0, 0), conn("evil\x1b[2J\t", time.Millisecond, 100, 0), conn("", 0, 0, 0),
	}
	return s
}

func TestRows(t *testing.T) {
	rows := someSample().Rows(ByProcess)
	if len(rows) != 3 || rows[0].Counts.DataSegments != 100 || rows[1].Label != "a" || rows[2].Label != unknown {
		t.Fatalf("%+v", rows)
	}
	a := rows[1]
	want := Spread{3, 10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 20 * time.Millisecond}
	if a.Connections != 4 || a.RTT != want || a.MinRTT != 5*time.Millisecond || a.Age != 300*time.Millisecond || a.One != nil {
		t.Errorf("%+v", a)
	}
	if share, ok := a.Counts.LossShare(); !ok || share != 0.05 {
		t.Errorf("share %v: the mean of shares would be 6.7 %%", share)
	}
	if rows := someSample().Rows(ByConnection); len(rows) != 6 {
		t.Errorf("%d connections with equal addresses, want 6: they may be of two namespaces", len(rows))
	}
}

func TestWriteJSON(t *testing.T) {
	var b bytes.Buffer
	if err := someSample().WriteJSON(&b, ByConnection); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d lines", len(lines))
	}
	var last map[string]any
	if err := json.Unmarshal([]byte(lines[5]), &last); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"rtt_median_s", "rtt_age_s", "loss_share_out", "name", "netns", "command"} {
		if v, ok := last[key]; !ok || v != nil {
			t.Errorf("%s is %v, want null: it is not known", key, v)
		}
	}
	if last["remote"] != "2001:db8::1" || last["remote_port"] != 443.0 {
		t.Errorf("%v", last)
	}
	b.Reset()
	_ = someSample().WriteJSON(&b, ByProcess)
	if strings.Contains(b.String(), `"local"`) {
		t.Error("a group has no address")
	}
}

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	s := someSample()
	s.Skipped.Namespaces = 2
	if err := s.WriteTable(&b, ByProcess, 2); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"6 of 9 connections active in the last 10 s", "5.00 %", "evil?[2J?", "… and 1 more", "way in", "may not be entered (needs CAP_SYS_ADMIN): 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("a process name reaches the terminal")
	}
}

func TestParseGrouping(t *testing.T) {
	for _, g := range Groupings {
		if got, err := ParseGrouping(string(g)); got != g || err != nil {
			t.Errorf("%s: %v", g, err)
		}
	}
	if _, err := ParseGrouping("colour"); err == nil {
		t.Error("colour is accepted")
	}
}
