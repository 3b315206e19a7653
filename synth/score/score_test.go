package score

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/synth"
)

// TestStrangers: a truth that has none of the trace's flows is of another one. That
// some are missing, on either side, is what the score is for.
func TestStrangers(t *testing.T) {
	tests := []struct {
		what          string
		truth, record []int64 // when flows begin
		fails         bool
	}{
		{"the same", []int64{1, 2}, []int64{1, 2}, false},
		{"one missed", []int64{1, 2}, []int64{2}, false},
		{"one that never was", []int64{1}, []int64{1, 2}, false},
		{"all missed", []int64{1, 2}, nil, false},
		{"nothing at all", nil, nil, false},
		{"another trace", []int64{1, 2}, []int64{3}, true},
		{"no truth", nil, []int64{3}, true},
	}
	subscriber, server := netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("198.51.100.1:443")
	for _, test := range tests {
		s := New()
		for _, at := range test.truth {
			f := synth.FlowTruth{Start: time.Unix(0, at).UTC()}
			f.Subscriber, f.SubscriberPort = subscriber.Addr(), subscriber.Port()
			f.Server, f.ServerPort = server.Addr(), server.Port()
			if err := s.Truth(&f); err != nil {
				t.Fatal(err)
			}
		}
		for _, at := range test.record {
			r := flows.Record{Start: at}
			r.Key.Subscriber, r.Key.SubscriberPort = decode.AddrFrom(subscriber.Addr()), subscriber.Port()
			r.Key.Server, r.Key.ServerPort = decode.AddrFrom(server.Addr()), server.Port()
			s.Record(&r)
		}
		if err := s.Close(); (err != nil) != test.fails || err != nil && !strings.Contains(err.Error(), "do not belong together") {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}
