package capture

import (
	"encoding/binary"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// turned returns a capture in the other byte order, as far as it goes. That way
// it says the same, but no record of it is one that a run takes in.
func turned(data []byte) []byte {
	out := slices.Clone(data)
	turn := func(at, words int) {
		for ; words > 0; words, at = words-1, at+4 {
			binary.LittleEndian.PutUint32(out[at:], bits.ReverseBytes32(binary.LittleEndian.Uint32(data[at:])))
		}
	}
	if len(data) < pcapHeaderLen {
		return out
	}
	turn(0, 6)
	// The version is two numbers of 16 bits.
	out[4], out[5], out[6], out[7] = out[6], out[7], out[4], out[5]
	for at := pcapHeaderLen; at+pcapRecordLen <= len(data); {
		turn(at, pcapRecordLen/4)
		captured := binary.LittleEndian.Uint32(data[at+8:])
		if captured > maxFrame {
			break
		}
		at += pcapRecordLen + int(captured)
	}
	return out
}

// same reports where two captures differ that must say the same.
func same(t *testing.T, name string, a, b *Files) {
	t.Helper()
	framesA, errA := drain(t, a)
	framesB, errB := drain(t, b)
	if !slices.Equal(framesA, framesB) {
		t.Fatalf("%s: %d frames in a run, %d one by one, or not the same", name, len(framesA), len(framesB))
	}
	if (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
		t.Fatalf("%s: in a run: %v; one by one: %v", name, errA, errB)
	}
	if a, b := a.Stats(), b.Stats(); !reflect.DeepEqual(a, b) {
		t.Fatalf("%s: counted in a run %+v, one by one %+v", name, a, b)
	}
}

// recordsOf writes n records of many lengths, a step of the fraction apart.
func recordsOf(w *builder, n int, second, step, ticks uint32) {
	fraction := uint32(0)
	for i := range n {
		size := i * 37 % 1500
		w.record(second, fraction, strings.Repeat(string(rune('a'+i%26)), size), uint32(size+i%3*100))
		if fraction += step; fraction >= ticks {
			fraction -= ticks
			second++
		}
	}
}

// oddRecords is a capture with an odd record of each kind between ordinary ones.
func oddRecords(magic uint32) *builder {
	w := little().pcap(magic, 65535, 1)
	ticks := uint32(1e6)
	if magic == magicNano {
		ticks = 1e9
	}
	recordsOf(w, 50, 1000, ticks/7, ticks)
	w.record(1008, 3, "", 60)
	w.record(1008, ticks, "a fraction of a whole second", 60)
	w.record(1009, 5, "longer than on the wire", 4)
	recordsOf(w, 50, 1009, 1, ticks)
	w.record(9000, 5, "wild", 4)
	recordsOf(w, 50, 1010, 1, ticks)
	w.record(0xffffffff, 5, "a gap", 4)
	w.record(0xffffffff, 0xffffffff, "past the last second there is", 4)
	w.record(3, 5, "back", 4)
	recordsOf(w, 50, 3, 1, ticks)
	w.record(3, 500, strings.Repeat("x", maxFrame), maxFrame)
	recordsOf(w, 700, 4, 1, ticks)
	return w
}

// What a run takes in is what would have been read one by one.
func TestRun(t *testing.T) {
	tooLong := little().pcap(magicMicro, 65535, 1)
	recordsOf(tooLong, 40, 4, 1, 1e6)
	tooLong.record(4, 70, strings.Repeat("x", maxFrame+1), maxFrame+1).record(4, 80, "y", 1)
	for name, w := range map[string]*builder{
		"microseconds": oddRecords(magicMicro),
		"nanoseconds":  oddRecords(magicNano),
		"cut off":      oddRecords(magicMicro).raw("cut"),
		"too long":     tooLong,
	} {
		for _, regime := range regimes {
			same(t, name+", "+regime.name, source(w.b, regime.size, regime.how), source(turned(w.b), regime.size, regime.how))
		}
		same(t, name+", all at once", source(w.b, 1<<20, nil), source(turned(w.b), 1<<20, nil))
	}
}

// Nearly all of an ordinary capture is taken in by runs.
func TestRunIsTaken(t *testing.T) {
	data := ordinary(batchBytes)
	c := clock{stats: &counters{}}
	p := &pcapFormat{name: "test.pcap", stats: c.stats}
	frames, used, _, err := p.parse(data[:pcapHeaderLen+2*(pcapRecordLen+meanPacket)], 0, make([]Frame, 0, 400), &c)
	if err != nil || len(frames) != 2 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	frames, ran := p.run(data[used:], frames, &c)
	if all := (len(data) - pcapHeaderLen) / (pcapRecordLen + meanPacket); len(frames) < all-1 || ran == 0 {
		t.Errorf("%d of %d frames", len(frames), all)
	}
}

func FuzzRun(f *testing.F) {
	addCaptures(f, "*.pcap")
	f.Add(twoRecords(little()).b)
	odd := oddRecords(magicMicro).b
	f.Add(odd[:4<<10])
	f.Add(little().pcap(magicNano, 0, 1).record(1, 0, "a", 1).record(1, 1, "b", 1).record(1, 1e9, "c", 1).record(1, 2, "d", 0).record(1, 3, "e", 1).b)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < pcapHeaderLen {
			return
		}
		if magic, swap := magicOfPcap(data); swap || magic != magicMicro && magic != magicNano {
			return
		}
		same(t, "whole", source(data, 4<<10, nil), source(turned(data), 4<<10, nil))
	})
}
