package flows

import (
	"cmp"
	"slices"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

func TestRecord(t *testing.T) {
	s := newScene(t, 16)
	s.open().data(Up, 100).at(90).ack(Down).data(Down, 200, seq(5101)).at(200).data(Down, 100, seq(5001)).
		ack(Up).at(300).data(Up, 100, seq(1001)).data(Up, 10, seq(1121)).at(301).data(Up, 20, seq(1101)).
		data(Up, 10, seq(1141)).ack(Down, acks(1151)).rst(Down)
	f := s.tab.Flow(s.record())
	f.Tunnel, f.DNSAnswered = decode.TunnelGTP, 77
	r := f.Record()
	if r.Key != s.key || r.Start != epoch || r.End != epoch+301e6 || r.Reason != EndRST || !r.SYNSeen || !r.Established ||
		r.DNSAnswered != 77 || r.Tunnel != decode.TunnelGTP || r.OS != OSAmbiguous {
		t.Errorf("record %+v", r)
	}
	if r.SYN != 1 || r.SYNACK != 1 || r.FIN != 0 || r.RST != 1 {
		t.Errorf("flags %d, %d, %d, %d", r.SYN, r.SYNACK, r.FIN, r.RST)
	}
	if want := [2]uint64{8, 6}; r.Packets != want {
		t.Errorf("packets %v, want %v", r.Packets, want)
	}
	if want := [2]uint64{240, 300}; r.Payload != want {
		t.Errorf("payload %v, want %v", r.Payload, want)
	}
	if want := [2]uint64{8*40 + 240, 6*40 + 300}; r.Bytes != want {
		t.Errorf("bytes %v, want %v", r.Bytes, want)
	}
	for name, c := range map[string][2][2]uint32{
		"retransmitted": {r.Retransmitted, {1, 1}},
		"lost before":   {r.LostBefore, {0, 1}},
		"out of order":  {r.OutOfOrder, {1, 0}},
		"unseen":        {r.Unseen, {10, 0}},
	} {
		if c[0] != c[1] {
			t.Errorf("%s %v, want %v", name, c[0], c[1])
		}
	}
	if r.RTTHandshake != [2]int64{30_000, 20_000} || r.RTTMin != [2]int64{0, 20_000} {
		t.Errorf("handshake %v, least %v", r.RTTHandshake, r.RTTMin)
	}
	// 30 ms, 40 ms, and none from the last segment, which was answered at once.
	if r.RTTSamples != [2]uint32{3, 1} || r.RTTMean != [2]float64{70_000.0 / 3, 20_000} {
		t.Errorf("%v samples, mean %v", r.RTTSamples, r.RTTMean)
	}

	s.port(2).data(Up, 5)
	r = s.tab.Flow(s.record()).Record()
	none := [2]int64{NoSample, NoSample}
	if r.RTTHandshake != none || r.RTTMin != none || r.RTTMean != [2]float64{NoSample, NoSample} {
		t.Errorf("without a sample: %v, %v, %v", r.RTTHandshake, r.RTTMin, r.RTTMean)
	}
}

// Records are written by end, then start, then 5-tuple, then scope.
func TestOrder(t *testing.T) {
	key := func(sub, server uint32, sport, port uint16, scope uint32) Key {
		return Key{Subscriber: addr(sub), Server: addr(server), SubscriberPort: sport, ServerPort: port, Scope: scope}
	}
	sorted := []Record{
		{End: 1, Start: 9, Key: key(9, 9, 9, 9, 9)},
		{End: 2, Start: 1, Key: key(9, 9, 9, 9, 9)},
		{End: 2, Start: 2, Key: key(1, 9, 9, 9, 9)},
		{End: 2, Start: 2, Key: key(2, 1, 9, 9, 9)},
		{End: 2, Start: 2, Key: key(2, 2, 1, 9, 9)},
		{End: 2, Start: 2, Key: key(2, 2, 2, 1, 9)},
		{End: 2, Start: 2, Key: key(2, 2, 2, 2, 1)},
		{End: 2, Start: 2, Key: key(2, 2, 2, 2, 2)},
	}
	for i := range sorted {
		for j := range sorted {
			a, b := sorted[i].Order(), sorted[j].Order()
			if got := a.Compare(&b); got != cmp.Compare(i, j) {
				t.Errorf("record %d against %d: %d", i, j, got)
			}
		}
	}
	if !slices.IsSortedFunc(sorted, func(a, b Record) int { x, y := a.Order(), b.Order(); return x.Compare(&y) }) {
		t.Error("not sorted")
	}
}

func TestLive(t *testing.T) {
	s := newScene(t, 20)
	if s.tab.Cap() != 20 {
		t.Errorf("Cap is %d, want 20", s.tab.Cap())
	}
	s.open()
	f := s.tab.Flow(s.record())
	if !f.Live() || f.Closed() || !f.Synchronized(Up) || !f.Synchronized(Down) {
		t.Error("an open flow is not live, or not synchronized")
	}
	if s.rst(Up); !f.Live() || !f.Closed() {
		t.Error("a closed flow keeps its place")
	}
	if s.at(300_000).advance(); f.Live() {
		t.Error("a flow lives on after its end")
	}
	s.port(2).data(Up, 5)
	if f := s.tab.Flow(s.record()); f.Synchronized(Up) || f.Synchronized(Down) {
		t.Error("a flow met in mid-stream is synchronized")
	}
}
