package flows

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// TestSumsBeyond32Bits: a flow keeps its sums modulo 2^32 and how often they have
// begun anew; whoever reads them sees neither.
func TestSumsBeyond32Bits(t *testing.T) {
	for _, short := range []bool{false, true} {
		for _, c := range []struct {
			name    string
			payload uint32
			n       uint64
		}{
			{"up to the last byte", 1<<30 - 1, 4},
			{"to 0 of payload", 1 << 30, 4},
			{"over the end", 1<<30 + 7, 9},
			{"many times over it", 1 << 30, 70},
		} {
			s := newScene(t, 16)
			s.short = short
			var got Record
			s.onEnd = func(r uint32, f Flow) {
				s.tab.Settle(r, chat)
				got = f.Record()
			}
			s.open()
			before := s.tab.Flow(s.record()).Record()
			for i := range c.n {
				s.now += second
				s.send(Down, decode.PSH, c.payload)
				if carried := s.ev&NowCarried != 0; carried {
					t.Errorf("%s: carried at once with nothing up", c.name)
				}
				if i == c.n-1 {
					break
				}
				s.send(Up, decode.PSH, 0)
			}
			s.send(Up, decode.PSH, 1)
			if s.ev&NowCarried == 0 || !s.tab.Flow(s.record()).Carried() {
				t.Errorf("%s: the first byte up does not make it carried", c.name)
			}
			s.send(Up, decode.PSH, 1)
			if s.ev&NowCarried != 0 {
				t.Errorf("%s: carried twice", c.name)
			}
			s.tab.Shutdown(s.now)
			payload := c.n * uint64(c.payload)
			if got.Payload != [2]uint64{2, payload} {
				t.Errorf("%s: payload %d, want 2 and %d", c.name, got.Payload, payload)
			}
			if want := before.Bytes[Down] + payload + 40*c.n; got.Bytes[Down] != want {
				t.Errorf("%s: %d bytes down, want %d", c.name, got.Bytes[Down], want)
			}
			if k := &s.classes[chat]; k.Payload != got.Payload || k.Bytes != got.Bytes {
				t.Errorf("%s: the class has %d and %d, the flow %d and %d", c.name, k.Payload, k.Bytes, got.Payload, got.Bytes)
			}
			if held := &s.classes[0]; held.Payload != [2]uint64{} || held.Bytes != [2]uint64{} {
				t.Errorf("%s: %d and %d stay with class 0", c.name, held.Payload, held.Bytes)
			}
			s.onEnd = nil
		}
	}
}
