package capture

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// sameOneByOne compares how a capture is read as a whole with how it is read byte
// by byte. In that way each record is read as soon as it is there, with nothing
// behind it, so that no run takes it in. It returns the frames.
func sameOneByOne(t *testing.T, data []byte, size int) ([]got, error) {
	t.Helper()
	whole, single := source(data, size, nil), source(data, size, iotest.OneByteReader)
	frames, err := drainInto(whole, &Batch{Frames: make([]Frame, 0, 2000)})
	singles, singleErr := drain(t, single)
	if !slices.Equal(frames, singles) {
		t.Fatalf("%d frames in runs, %d one by one, or not the same", len(frames), len(singles))
	}
	if (err == nil) != (singleErr == nil) || err != nil && err.Error() != singleErr.Error() {
		t.Fatalf("in runs: %v; one by one: %v", err, singleErr)
	}
	if a, b := whole.Stats(), single.Stats(); !reflect.DeepEqual(a, b) {
		t.Fatalf("counted in runs %+v, one by one %+v", a, b)
	}
	return frames, err
}

// drainInto reads a source to its end, always into b: a run can take in only what
// there is room for.
func drainInto(s *Files, b *Batch) (all []got, err error) {
	for {
		if err := s.Next(b); err != nil {
			if err == io.EOF {
				err = nil
			}
			return all, err
		}
		names := s.Interfaces()
		for _, f := range b.Frames {
			all = append(all, got{string(f.Data), f.Time, f.WireLen, f.Link, names[f.Interface]})
		}
		s.Release(b)
	}
}

// text is a frame of that size.
func text(i, size int) string { return strings.Repeat(string(rune('a'+i%26)), size) }

// records writes n records of many lengths, a step of the fraction apart.
func (w *builder) records(n int, second, step, ticks uint32) *builder {
	fraction := uint32(0)
	for i := range n {
		size := i * 37 % 1500
		w.record(second, fraction, text(i, size), uint32(size+i%3*100))
		if fraction += step; fraction >= ticks {
			fraction -= ticks
			second++
		}
	}
	return w
}

// oddRecords is a capture with an odd record of each kind between ordinary ones.
func oddRecords(magic, ticks uint32) *builder {
	return little().pcap(magic, 65535, 1).
		records(50, 1000, ticks/7, ticks).
		record(1008, 3, "", 60).
		record(1008, ticks, "a fraction of a whole second", 60).
		record(1009, 5, "longer than on the wire", 4).
		records(50, 1009, 1, ticks).
		record(9000, 5, "wild", 4).
		records(50, 1010, 1, ticks).
		record(0xffffffff, 5, "a gap", 4).
		record(0xffffffff, 0xffffffff, "past the last second there is", 4).
		record(3, 5, "back", 4).
		records(50, 3, 1, ticks).
		record(3, 500, strings.Repeat("x", maxFrame), maxFrame).
		records(700, 4, 1, ticks)
}

// blocks writes n packets of many lengths on interfaces 0 and 1, a number of ticks
// apart.
func (w *builder) blocks(n int, ticks, step uint64) *builder {
	for i := range n {
		size := i * 37 % 1500
		w.enhanced(uint32(i&1), ticks, text(i, size), uint32(size+i%3*100))
		ticks += step
	}
	return w
}

// oddBlocks is the same in pcapng. Its interfaces count microseconds, or what
// needs more than a multiplication.
func oddBlocks() *builder {
	w := little().section().iface(1, 0, nil).iface(101, 0, little().option(optionTSResol, "\x06")).
		iface(1, 0, little().option(optionTSResol, "\xa0")).
		iface(1, 0, little().option(optionTSResol, "\x0c")).
		iface(1, 0, little().option(optionTSOff, "\x01\x00\x00\x00\x00\x00\x00\x00")).
		iface(1, 0, little().option(optionTSResol, "\x7f")).
		blocks(50, 1000e6, 2e6).
		enhanced(0, 1100e6, "", 60).
		enhanced(0, 1100e6, "longer than on the wire", 4).
		enhanced(2, 1101<<32, "binary", 60).
		enhanced(3, 1102e12, "picoseconds", 60).
		enhanced(4, 1102e6, "a second later", 60).
		blocks(50, 1103e6, 1).
		enhanced(5, 1<<63, "time stands still", 60).
		enhanced(1, 1<<63, "late", 60).
		enhanced(1, 1<<64-1, "as late as can be", 60).
		blocks(50, 1103e6, 20e6).
		blocks(50, 2103e6, 1).
		enhanced(0, 9000e6, "wild", 60).
		blocks(50, 2103e6, 1).
		block(blockSimple, little().u32(6).raw("simple")).
		block(blockPacket, little().u16(1, 0).u32(0, 2104e6, 3, 9).raw("old")).
		blocks(50, 2104e6, 1).
		block(99, little().u32(0, 0, 2104e6, 14, 60).raw("something else")).
		block(blockEnhanced, little().u32(0, 0, 2104e6, 5, 9).raw("first").raw("   and something behind it")).
		blocks(50, 2104e6, 1).
		enhanced(0, 2104e6, strings.Repeat("x", maxFrame), maxFrame).
		blocks(700, 2104e6, 1).
		section().iface(1, 0, little().option(optionTSResol, "\x09")).iface(1, 0, nil)
	for i := range uint64(100) {
		w.enhanced(0, 2104e9+i, text(int(i), 60), 60)
	}
	return w
}

// What a run takes in is what would have been read one by one.
func TestRun(t *testing.T) {
	tooLong := strings.Repeat("x", maxFrame+1)
	pcap := func() *builder { return little().pcap(magicMicro, 65535, 1).records(40, 4, 1, 1e6) }
	ng := func() *builder { return ngFile(little()).iface(1, 0, nil).blocks(40, 1000, 1) }
	// What reads the same in either order, but for one field.
	const second, size = 0x01000001, 0x00010100
	bigPcap, bigNG := big().pcap(magicMicro, 65535, 1), ngFile(big()).iface(1, 0, nil).blocks(9, 1000, 1)
	modified := little().pcap(magicModified, 65535, 1)
	for i := range 20 {
		bigPcap.record(second, 0, text(i, size), 0x00010200)
		modified.u32(second, 0, 60, 60, 0, 0).raw(text(i, 60))
		bigNG.block(0x06000000, little().u32(0, 0, 1000, 60, 60).raw(text(i, size-blockMinLen-20)))
	}
	for name, test := range map[string]struct {
		capture *builder
		damaged bool
	}{
		"pcap, microseconds":          {oddRecords(magicMicro, 1e6), false},
		"pcap, nanoseconds":           {oddRecords(magicNano, 1e9), false},
		"pcap, cut off":               {oddRecords(magicMicro, 1e6).raw("cut"), true},
		"pcap, too long":              {pcap().record(4, 70, tooLong, maxFrame+1).record(4, 80, "y", 1), true},
		"pcap, big-endian":            {bigPcap, false},
		"pcap, modified":              {modified, false},
		"pcapng":                      {oddBlocks(), false},
		"pcapng, big-endian":          {bigNG, false},
		"pcapng, cut off":             {oddBlocks().raw("cut"), true},
		"pcapng, too long":            {ng().enhanced(0, 1000, tooLong, maxFrame+1).enhanced(0, 1000, "y", 1), true},
		"pcapng, no such interface":   {ng().enhanced(2, 1000, "x", 1).blocks(9, 1000, 1), true},
		"pcapng, longer than block":   {ng().block(blockEnhanced, little().u32(0, 0, 1000, 2, 60).raw("x")).blocks(9, 1000, 1), false},
		"pcapng, longer than padding": {ng().block(blockEnhanced, little().u32(0, 0, 1000, 5, 60).raw("x")).blocks(9, 1000, 1), true},
		"pcapng, lengths differ":      {ng().u32(blockEnhanced, 36, 0, 0, 1000, 1, 60, 'x', 40).blocks(9, 1000, 1), true},
		"pcapng, odd length":          {ng().u32(blockEnhanced, 34, 0, 0, 1000, 1, 60).raw("x\x00\x22\x00\x00\x00").blocks(9, 1000, 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{4 << 10, batchBytes, 1 << 20} {
				if _, err := sameOneByOne(t, test.capture.b, size); (err != nil) != test.damaged {
					t.Errorf("buffers of %d bytes: %v", size, err)
				}
			}
		})
	}
}

// Nearly all of an ordinary capture is taken in by runs.
func TestRunIsTaken(t *testing.T) {
	for name, data := range map[string][]byte{"pcap": ordinary(batchBytes), "pcapng": ordinaryNG(batchBytes)} {
		s := source(data, 4<<10, nil)
		f := s.files[0]
		if err := f.next(&Batch{}); err != nil {
			t.Fatal(err)
		}
		var frames []Frame
		var records []byte
		used := 0
		switch format := f.format.(type) {
		case *pcapFormat:
			records = data[pcapHeaderLen:]
			frames, used = format.run(records, make([]Frame, 0, 400), &f.clock)
		case *ngFormat:
			records = data[sectionMinLen+interfaceMinLen:]
			frames, used = format.run(records, make([]Frame, 0, 400), &f.clock)
		}
		if len(frames) < 370 || used < len(records)-2*(packetMinLen+meanPacket) {
			t.Errorf("%s: %d frames, %d bytes of %d", name, len(frames), used, len(records))
		}
	}
}
