package capture

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/nametap/nametap/capture/decode"
)

// maxFrame is the longest frame that a file may hold: libpcap's own
// MAXIMUM_SNAPLEN. A record that claims more is damage, not a frame.
const maxFrame = 256 << 10

// The magic numbers of pcap files, as a little-endian machine reads those that
// a little-endian machine wrote
// (https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ section 4).
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
	// magicModified is A. N. Kuznetzov's patched libpcap of the nineties,
	// whose records carry eight more bytes.
	magicModified = 0xa1b2cd34
)

const (
	pcapHeaderLen     = 24
	pcapRecordLen     = 16
	pcapModifiedExtra = 8
)

// pcapFormat reads pcap files. gopacket's pcapgo reads them too, and is the
// oracle in the tests; it is not used here because it believes a record's
// length before the bytes are there (a 40-byte file can claim 4 GiB), copies
// every frame, and hands them out one by one.
type pcapFormat struct {
	name    string
	stats   *counters
	started bool
	// swap says that the file was written in big-endian order.
	swap bool
	// recordLen is the length of a record's header.
	recordLen int
	// unit is the length of a tick of the fraction in nanoseconds, and ticks
	// their number in a second.
	unit  int64
	ticks uint32
	link  decode.Link
	// iface is the file's one interface.
	iface uint16
	// second is the one in which the records of a run lie, base is that in
	// nanoseconds.
	second uint32
	base   int64
}

// magicOfPcap returns the magic number of a pcap file, and whether the file is
// in big-endian order. It returns 0 if head is no pcap file.
func magicOfPcap(head []byte) (magic uint32, swap bool) {
	m := binary.LittleEndian.Uint32(head)
	switch m {
	case magicMicro, magicNano, magicModified:
		return m, false
	}
	switch m = bits.ReverseBytes32(m); m {
	case magicMicro, magicNano, magicModified:
		return m, true
	}
	return 0, false
}

// header reads the 24 bytes at the start of the file. The snap length there is
// not read: writers lie about it, and each record has its own length.
func (p *pcapFormat) header(data []byte) error {
	magic, swap := magicOfPcap(data)
	p.swap = swap
	if major := p.u16(data[4:]); major != 2 {
		return damaged(4, fmt.Sprintf("pcap version %d.%d, not 2.4,", major, p.u16(data[6:])))
	}
	p.recordLen, p.unit, p.ticks = pcapRecordLen, 1000, 1e6
	if magic == magicNano {
		p.unit, p.ticks = 1, 1e9
	}
	if magic == magicModified {
		p.recordLen += pcapModifiedExtra
	}
	// The upper 16 bits say whether frames end in a frame check sequence. It
	// does no harm: lengths come from the IP header.
	p.link = decode.Link(p.u32(data[20:]))
	iface, ok := p.stats.add(p.name)
	if !ok {
		return tooManyInterfaces(0)
	}
	p.iface, p.started = iface, true
	return nil
}

func (p *pcapFormat) parse(data []byte, at int64, frames []Frame, c *clock) ([]Frame, int, int, error) {
	used := 0
	if !p.started {
		if len(data) < pcapHeaderLen {
			return frames, 0, pcapHeaderLen, nil
		}
		if err := p.header(data); err != nil {
			return frames, 0, 0, err
		}
		used = pcapHeaderLen
	}
	for {
		var ran int
		frames, ran = p.run(data[used:], frames, c)
		used += ran
		rest := data[used:]
		if len(rest) < p.recordLen {
			return frames, used, p.recordLen, nil
		}
		captured := p.u32(rest[8:])
		if captured > maxFrame {
			what := fmt.Sprintf("a packet record claims %d bytes, over the %d a frame can have,", captured, maxFrame)
			return frames, used, 0, damaged(at+int64(used), what)
		}
		size := p.recordLen + int(captured)
		if len(rest) < size {
			return frames, used, size, nil
		}
		frames = append(frames, Frame{
			Data:      rest[p.recordLen:size:size],
			Time:      p.time(p.u32(rest), p.u32(rest[4:])),
			WireLen:   max(captured, p.u32(rest[12:])),
			Link:      p.link,
			Interface: p.iface,
		})
		c.settle(frames)
		used += size
	}
}

// run takes in the records at the front of data for as long as they are what
// nearly all are: of the common format, in little-endian order, in the second of
// the one before, and not empty. It returns frames, and how many bytes it used.
// Whatever it leaves is parse's, which would have done the same with all of it,
// in three times the instructions.
func (p *pcapFormat) run(data []byte, frames []Frame, c *clock) ([]Frame, int) {
	second := c.prev / 1e9
	if p.swap || p.recordLen != pcapRecordLen || !c.settled() || second > math.MaxUint32 {
		return frames, 0
	}
	// What comes in the second of the last frame is near it.
	p.second, p.base = uint32(second), second*1e9
	// What is whole within this is no longer than maxFrame.
	data = data[:min(len(data), maxFrame+2*pcapRecordLen)]
	slots := frames[len(frames):cap(frames)]
	n, left, bytes := p.take(data, slots)
	if n > 0 {
		c.prev = slots[n-1].Time
		c.stats.tally(p.iface, uint64(n), bytes)
	}
	return frames[:len(frames)+n], len(data) - left
}

// take is the loop of run. It returns how many slots it filled, how many bytes of
// data are left, and how many there were on the wire. It is not inlined so that
// its variables have the registers to themselves.
//
//go:noinline
func (p *pcapFormat) take(data []byte, slots []Frame) (n, left int, bytes uint64) {
	for n < len(slots) && len(data) >= pcapRecordLen {
		header := (*[pcapRecordLen]byte)(data)
		captured := int(binary.LittleEndian.Uint32(header[8:]))
		// The next header has to be whole as well: then the compiler sees that
		// no slice here is out of bounds or empty.
		if captured == 0 || captured > len(data)-2*pcapRecordLen {
			break
		}
		fraction, wire := binary.LittleEndian.Uint32(header[4:]), binary.LittleEndian.Uint32(header[12:])
		if binary.LittleEndian.Uint32(header[:]) != p.second || fraction >= p.ticks || wire < uint32(captured) {
			break
		}
		size := pcapRecordLen + captured
		f := &slots[n]
		f.Data = data[pcapRecordLen:size:size]
		f.Time = p.base + int64(fraction)*p.unit
		f.WireLen = wire
		f.Link, f.Interface = p.link, p.iface
		f.VLAN = 0
		bytes += uint64(wire)
		n++
		data = data[size:len(data):len(data)]
	}
	return n, len(data), bytes
}

// time returns a record's time in nanoseconds. A fraction of a second or more
// is wrong, but what writers that add without carrying produce: so it is
// carried here, and counted. Garbage in that place moves the time by 4.3 s at
// most (nanoseconds) or 72 min (microseconds), which the clock then judges.
func (p *pcapFormat) time(seconds, fraction uint32) int64 {
	if fraction >= p.ticks {
		p.stats.stats.BadFractions++
	}
	return int64(seconds)*1e9 + int64(fraction)*p.unit
}

func (p *pcapFormat) pending() bool { return !p.started }

func (p *pcapFormat) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if p.swap {
		return bits.ReverseBytes16(v)
	}
	return v
}

func (p *pcapFormat) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if p.swap {
		return bits.ReverseBytes32(v)
	}
	return v
}

func tooManyInterfaces(at int64) *FileError {
	return damaged(at, fmt.Sprintf("more than %d interfaces", maxInterfaces))
}
