package ping

import (
	"encoding/binary"
	"testing"
	"time"
)

// tcpInfo builds a tcp_info of a given length in which every 32-bit word is its
// own offset.
func tcpInfo(length int) []byte {
	b := make([]byte, length)
	for at := 0; at+4 <= length; at += 4 {
		binary.NativeEndian.PutUint32(b[at:], uint32(at))
	}
	if length > 0 {
		b[0] = 1
	}
	return b
}

func TestParseInfoByLength(t *testing.T) {
	tests := []struct {
		kernel string
		length int
		ok     bool
		known  Known
	}{
		{"nothing", 0, false, 0},
		{"cut", 103, false, 0},
		{"2.6", 104, true, 0},
		{"4.1, pacing rates", 120, true, 0},
		{"4.1, bytes", 136, true, KnowsBytes},
		{"4.2, segments", 144, true, KnowsBytes | KnowsSegments},
		{"4.6, cut before data segments out", 158, true, KnowsBytes | KnowsSegments | KnowsMinRTT},
		{"4.6", 160, true, KnowsBytes | KnowsSegments | KnowsMinRTT | KnowsDataSegments},
		{"4.19", 224, true, KnowsBytes | KnowsSegments | KnowsMinRTT | KnowsDataSegments | KnowsSpurious | KnowsReordered},
		{"5.5", 228, true, 0x7f},
		{"one that is not written yet", 400, true, 0x7f},
	}
	for _, test := range tests {
		i, ok := ParseInfo(tcpInfo(test.length))
		if ok != test.ok || i.Known != test.known {
			t.Errorf("%s: ok %v known %b, want %v %b", test.kernel, ok, i.Known, test.ok, test.known)
		}
		if i.Known&KnowsSpurious == 0 && i.Spurious != 0 {
			t.Errorf("%s: a figure out of nowhere", test.kernel)
		}
	}
	i, _ := ParseInfo(tcpInfo(400))
	if i.RTT != 68*time.Microsecond || i.SinceAck != 56*time.Millisecond || i.DataSegmentsOut != 156 || i.Spurious != 216 {
		t.Errorf("fields are misplaced: %+v", i)
	}
	b := tcpInfo(232)
	binary.NativeEndian.PutUint32(b[148:], ^uint32(0))
	if i, _ := ParseInfo(b); i.MinRTT != 0 {
		t.Errorf("no sample gives a least RTT of %v", i.MinRTT)
	}
}

func TestCounts(t *testing.T) {
	tests := []struct {
		what        string
		before, now Info
		lost        uint64
		share       float64
		ok          bool
	}{
		{"nothing sent", Info{}, Info{}, 0, 0, false},
		{"no loss", Info{DataSegmentsOut: 5}, Info{DataSegmentsOut: 105}, 0, 0, true},
		{"one in ten", Info{DataSegmentsOut: 5, Retransmitted: 1}, Info{DataSegmentsOut: 105, Retransmitted: 11}, 10, 0.1, true},
		{"half of it needless", Info{}, Info{DataSegmentsOut: 100, Retransmitted: 10, Spurious: 5}, 5, 0.05, true},
		{"D-SACK of the period before", Info{Retransmitted: 3}, Info{DataSegmentsOut: 9, Retransmitted: 3, Spurious: 3}, 0, 0, true},
		{"over the wrap", Info{DataSegmentsOut: ^uint32(0) - 9, Retransmitted: ^uint32(0)}, Info{DataSegmentsOut: 90, Retransmitted: 9}, 10, 0.1, true},
		{"SYN repeated, one segment", Info{}, Info{DataSegmentsOut: 1, Retransmitted: 3}, 3, 1, true},
	}
	for _, test := range tests {
		c := test.now.Since(&test.before)
		share, ok := c.LossShare()
		if c.Lost() != test.lost || share != test.share || ok != test.ok {
			t.Errorf("%s: lost %d share %v %v, want %d %v %v", test.what, c.Lost(), share, ok, test.lost, test.share, test.ok)
		}
	}
}
