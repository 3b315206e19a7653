package export

import (
	"strings"
	"testing"

	"github.com/nametap/nametap/capture/decode"
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
