package export

import (
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// TestSummarySaysWhyNothing: a table without flows says what there was instead.
func TestSummarySaysWhyNothing(t *testing.T) {
	tests := []struct {
		what string
		make func(s *probe.Snapshot)
		want []string
	}{
		{"an empty file", func(*probe.Snapshot) {}, []string{"no flows: no packets\n"}},
		{"UDP and ICMP", func(s *probe.Snapshot) {
			s.Frames, s.Outcomes[decode.UDP], s.Outcomes[decode.OtherIP] = 5, 3, 2
		}, []string{"decoded: udp 3, other_ip 2\n", "no flows: TCP is what nametap measures, and there is none\n"}},
		{
			"nothing but ARP", func(s *probe.Snapshot) { s.Frames, s.Outcomes[decode.NotIP] = 5, 5 },
			[]string{"not decoded: not_ip 5\n", "no flows: nothing could be decoded\n"},
		},
		{
			"late segments alone", func(s *probe.Snapshot) { s.Frames, s.Outcomes[decode.TCP] = 1, 1 },
			[]string{"decoded: tcp 1\n", "no flows: none of the TCP segments is of an open connection\n"},
		},
		{"tunnels", func(s *probe.Snapshot) {
			s.Frames, s.Outcomes[decode.UDP] = 9, 9
			s.GTP.Identified, s.GTP.Anonymous, s.GTP.Sessions, s.GTP.Created = 7, 1, 1, 2
			s.GTP.Messages[1] = 4
			s.GTP.APNNames = []string{"internet", "ims"}
		}, []string{"8 packets of TCP and DNS in GTP-U, 7 of them of known sessions; 4 control messages, 2 sessions, 1 at the end, 2 access points: ims, internet\n"}},
	}
	for _, test := range tests {
		s := &probe.Snapshot{}
		test.make(s)
		var b strings.Builder
		if err := Summarize(s, 1, false).WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in\n%s", test.what, want, b.String())
			}
		}
		if strings.Contains(b.String(), "app/class") {
			t.Errorf("%s: a table of nothing\n%s", test.what, b.String())
		}
	}
}

// TestSummarySaysOneDirection: that the other end was not seen is said, and only
// where it was there to be seen.
func TestSummarySaysOneDirection(t *testing.T) {
	const one, part = "one direction only: nothing that ", "part of one direction is missing: "
	tests := []struct {
		what                       string
		up, down, syn, synACK, rst uint64
		attempts, oneSided         uint64
		want                       string
	}{
		{"both", 40, 30, 4, 4, 0, 4, 0, ""},
		{"uplink", 40, 0, 4, 0, 1, 4, 4, one + "servers sent"},
		{"uplink in mid-stream", 40, 0, 0, 0, 0, 0, 0, one + "servers sent"},
		{"downlink", 0, 30, 0, 4, 1, 0, 0, one + "subscribers sent"},
		{"nobody answers", 12, 0, 12, 0, 0, 4, 0, ""},
		{"a scan that is given up", 5, 0, 4, 0, 1, 4, 0, ""},
		{"answers to forged SYNs", 0, 12, 0, 9, 3, 0, 0, ""},
		{"a part", 40, 20, 10, 7, 0, 10, 3, part + "3 of 10 connection attempts"},
		{"few", 40, 28, 10, 8, 0, 10, 2, ""},
	}
	for _, test := range tests {
		c := probe.ClassSnapshot{}
		c.Opened, c.Attempts, c.OneSided = 10, test.attempts, test.oneSided
		c.Packets[flows.Up], c.Packets[flows.Down] = test.up, test.down
		c.SYN, c.SYNACK, c.RST = test.syn, test.synACK, test.rst
		var b strings.Builder
		if err := Summarize(&probe.Snapshot{Classes: []probe.ClassSnapshot{c}}, 1, false).WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		said := strings.Contains(b.String(), one) || strings.Contains(b.String(), part)
		if said != (test.want != "") || !strings.Contains(b.String(), test.want) {
			t.Errorf("%s: %s", test.what, b.String())
		}
	}
}

// TestSummaryHead: what came from no file is in none, and long times are in days.
func TestSummaryHead(t *testing.T) {
	const day = 24 * int64(time.Hour)
	tests := []struct {
		files int
		long  int64
		want  string
	}{
		{0, int64(time.Second), "2 packets, 0 B, 1s, 1970"},
		{1, int64(90 * time.Minute), "2 packets in 1 file, 0 B, 1h30m0s, 1970"},
		{2, day - int64(time.Second), "2 packets in 2 files, 0 B, 23h59m59s, 1970"},
		{1, day, "2 packets in 1 file, 0 B, 1 d 0 h, 1970"},
		{1, 2*day - 1, "2 packets in 1 file, 0 B, 2 d 0 h, 1970"},
		{1, 1528*day + 15*int64(time.Hour) + int64(6*time.Minute), "2 packets in 1 file, 0 B, 1528 d 15 h, 1970"},
	}
	for _, test := range tests {
		var b strings.Builder
		if err := Summarize(&probe.Snapshot{Frames: 2, Last: test.long}, test.files, false).WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), test.want) {
			t.Errorf("%s, want %s", b.String(), test.want)
		}
	}
}
