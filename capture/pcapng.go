package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode"

	"github.com/nametap/nametap/capture/decode"
)

// Block types (https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
// section 4; the obsolete Packet Block is in its appendix A).
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockPacket     = 2
	blockSimple     = 3
	blockEnhanced   = 6
	byteOrderMagic  = 0x1a2b3c4d
	blockHeaderLen  = 8
	blockTrailerLen = 4
	blockMinLen     = blockHeaderLen + blockTrailerLen
	sectionMinLen   = 28
	interfaceMinLen = 20
	simpleMinLen    = 16
	packetMinLen    = 32
	packetDataAt    = 28
)

// Options of an Interface Description Block (section 4.2).
const (
	optionEnd     = 0
	optionName    = 2
	optionTSResol = 9
	optionTSOff   = 14
)

const (
	// maxBlock bounds a block that has to be in memory as a whole. A packet
	// block may carry options after its frame, each up to 64 KiB.
	maxBlock = 1 << 20
	// maxName bounds an interface's name; Linux allows 15 bytes.
	maxName = 64
)

// ngInterface is one interface of the current section.
type ngInterface struct {
	link  decode.Link
	index uint16
	snap  uint32
	clock ngClock
}

// ngFormat reads pcapng files; why not gopacket, see pcapFormat.
type ngFormat struct {
	name  string
	stats *counters
	// swap says that this section was written in big-endian order.
	swap       bool
	interfaces []ngInterface
	// last is the time of the frame before, for blocks that have none.
	last int64
	// from is the earliest time that a run takes in, counts is where it counts.
	from   int64
	counts []InterfaceStats
	// skip is what is left of a block that we pass over, its trailer
	// excluded; skipping is that block's length, 0 when there is none, and
	// skipAt its place. Such a block is never held in memory.
	skip     int64
	skipping uint32
	skipAt   int64
}

func (g *ngFormat) pending() bool { return g.skipping != 0 }

func (g *ngFormat) parse(data []byte, at int64, frames []Frame, c *clock) ([]Frame, int, int, error) {
	used := 0
	for {
		if g.skipping != 0 {
			n, err := g.pass(data[used:])
			used += n
			if err != nil || g.skipping != 0 {
				return frames, used, 0, err
			}
		}
		var ran int
		frames, ran = g.run(data[used:], frames, c)
		used += ran
		rest := data[used:]
		if len(rest) < blockMinLen {
			return frames, used, blockMinLen, nil
		}
		place := at + int64(used)
		kind := g.u32(rest)
		if kind == blockSection {
			if err := g.order(rest, place); err != nil {
				return frames, used, 0, err
			}
		}
		size := g.u32(rest[4:])
		if size < blockMinLen || size%4 != 0 {
			what := fmt.Sprintf("a block claims a length of %d bytes", size)
			return frames, used, 0, damaged(place, what)
		}
		if !held(kind) {
			g.skip, g.skipping, g.skipAt = int64(size)-blockTrailerLen, size, place
			continue
		}
		if size > maxBlock {
			what := fmt.Sprintf("a block claims %d bytes, over the %d that one can have,", size, maxBlock)
			return frames, used, 0, damaged(place, what)
		}
		if uint32(len(rest)) < size {
			return frames, used, int(size), nil
		}
		block := rest[:size:size]
		if err := g.trailer(block, size, place); err != nil {
			return frames, used, 0, err
		}
		var err error
		before := len(frames)
		frames, err = g.block(kind, block, place, frames)
		if err != nil {
			return frames, used, 0, err
		}
		if len(frames) > before {
			c.settle(frames)
		}
		used += int(size)
	}
}

// run takes in the blocks at the front of data for as long as they are what nearly
// all are: Enhanced Packet Blocks in little-endian order, with times that need no
// more than a multiplication, and not empty. It returns frames, and how many bytes
// it used. Whatever it leaves is parse's, which would have done the same with all
// of it, in several times the instructions.
func (g *ngFormat) run(data []byte, frames []Frame, c *clock) ([]Frame, int) {
	if g.swap || !c.settled() {
		return frames, 0
	}
	g.from, g.counts = c.prev-maxStep/2, c.stats.stats.Interfaces
	// What is whole within this is no longer than maxFrame.
	data = data[:min(len(data), maxFrame+2*packetMinLen)]
	slots := frames[len(frames):cap(frames)]
	n, left := g.take(data, slots)
	if n > 0 {
		g.last = slots[n-1].Time
		c.prev = g.last
	}
	return frames[:len(frames)+n], len(data) - left
}

// take is the loop of run. It returns how many slots it filled, and how many bytes
// of data are left. It is not inlined so that its variables have the registers to
// themselves.
//
//go:noinline
func (g *ngFormat) take(data []byte, slots []Frame) (n, left int) {
	for n < len(slots) && len(data) >= packetMinLen {
		block := (*[packetMinLen]byte)(data)
		size, captured := int(binary.LittleEndian.Uint32(block[4:])), int(binary.LittleEndian.Uint32(block[20:]))
		// The next block has to be there as well, as far as a header goes: then
		// the compiler sees that no slice here is out of bounds or empty.
		if captured == 0 || captured > size-packetMinLen || size > len(data)-packetMinLen {
			break
		}
		kind, end := binary.LittleEndian.Uint32(block[:]), binary.LittleEndian.Uint32(data[size-blockTrailerLen:size:size])
		if kind != blockEnhanced || end != uint32(size) || size%4 != 0 {
			break
		}
		id := binary.LittleEndian.Uint32(block[8:])
		if uint(id) >= uint(len(g.interfaces)) {
			break
		}
		i := &g.interfaces[id]
		// The upper half of the ticks comes first.
		ticks := bits.RotateLeft64(binary.LittleEndian.Uint64(block[12:]), 32)
		time, wire := int64(ticks*i.clock.mul), binary.LittleEndian.Uint32(block[24:])
		// Of times that are all within half a minute of one, each is near the
		// one before it.
		if ticks >= i.clock.plain || uint64(time-g.from) > maxStep || wire < uint32(captured) {
			break
		}
		count := &g.counts[i.index]
		count.Packets++
		count.Bytes += uint64(wire)
		f := &slots[n]
		f.Data = data[packetDataAt : packetDataAt+captured : packetDataAt+captured]
		f.Time = time
		f.WireLen = wire
		f.Link, f.Interface = i.link, i.index
		f.VLAN = 0
		n++
		data = data[size:len(data):len(data)]
	}
	return n, len(data)
}

// held reports whether a block's content is wanted.
func held(kind uint32) bool {
	switch kind {
	case blockSection, blockInterface, blockPacket, blockSimple, blockEnhanced:
		return true
	}
	return false
}

// pass passes over a block that is not wanted, or as much of it as is there,
// and returns how many bytes it used.
func (g *ngFormat) pass(data []byte) (int, error) {
	n := int(min(g.skip, int64(len(data))))
	g.skip -= int64(n)
	if g.skip > 0 || len(data)-n < blockTrailerLen {
		return n, nil
	}
	if g.u32(data[n:]) != g.skipping {
		return n, g.mismatch(data[n:], g.skipping, g.skipAt)
	}
	g.skipping = 0
	return n + blockTrailerLen, nil
}

// trailer compares the length at the block's end with the one at its start.
func (g *ngFormat) trailer(block []byte, size uint32, at int64) error {
	end := block[size-blockTrailerLen:]
	if g.u32(end) == size {
		return nil
	}
	return g.mismatch(end, size, at)
}

func (g *ngFormat) mismatch(end []byte, size uint32, at int64) error {
	return damaged(at, fmt.Sprintf("a block's two lengths, %d and %d bytes, differ", size, g.u32(end)))
}

// block takes in a whole block.
func (g *ngFormat) block(kind uint32, block []byte, at int64, frames []Frame) ([]Frame, error) {
	switch kind {
	case blockEnhanced, blockPacket:
		return g.packet(kind, block, at, frames)
	case blockSimple:
		return g.simple(block, at, frames)
	case blockInterface:
		return frames, g.describe(block, at)
	}
	return frames, g.section(block, at)
}

// order finds a new section's byte order. Its block type reads the same in
// both, its length does not.
func (g *ngFormat) order(block []byte, at int64) error {
	switch binary.LittleEndian.Uint32(block[8:]) {
	case byteOrderMagic:
		g.swap = false
	case bits.ReverseBytes32(byteOrderMagic):
		g.swap = true
	default:
		return damaged(at, fmt.Sprintf("a section header without a byte order (% x)", block[8:12]))
	}
	return nil
}

// section starts a new section. The length it claims is not needed; a writer
// that cannot seek back says -1.
func (g *ngFormat) section(block []byte, at int64) error {
	if len(block) < sectionMinLen {
		return damaged(at, fmt.Sprintf("a section header of only %d bytes", len(block)))
	}
	if major := g.u16(block[12:]); major != 1 {
		return damaged(at, fmt.Sprintf("a section of pcapng version %d.%d, not 1.0,", major, g.u16(block[14:])))
	}
	g.interfaces = g.interfaces[:0]
	return nil
}

// describe takes in an Interface Description Block.
func (g *ngFormat) describe(block []byte, at int64) error {
	if len(block) < interfaceMinLen {
		return damaged(at, fmt.Sprintf("an interface description of only %d bytes", len(block)))
	}
	if len(g.interfaces) == maxInterfaces {
		return tooManyInterfaces(at)
	}
	i := ngInterface{link: decode.Link(g.u16(block[8:])), snap: g.u32(block[12:])}
	name := g.name + ":" + strconv.Itoa(len(g.interfaces))
	resolution, offset := byte(6), int64(0)
	for options := block[16 : len(block)-blockTrailerLen]; len(options) >= 4; {
		code, size := g.u16(options), int(g.u16(options[2:]))
		padded := 4 + (size+3)&^3
		if code == optionEnd {
			break
		}
		if padded > len(options) {
			return damaged(at, "an option that runs past its block")
		}
		value := options[4 : 4+size]
		options = options[padded:]
		switch {
		case code == optionName && size > 0:
			name = cleanName(value)
		case code == optionTSResol && size == 1:
			resolution = value[0]
		case code == optionTSOff && size == 8:
			offset = int64(g.u64(value))
		}
	}
	i.clock = newClock(resolution, offset)
	index, ok := g.stats.add(name)
	if !ok {
		return tooManyInterfaces(at)
	}
	i.index = index
	g.interfaces = append(g.interfaces, i)
	return nil
}

// cleanName makes a name from a file fit for labels and terminals.
func cleanName(raw []byte) string {
	raw, _, _ = bytes.Cut(raw, []byte{0})
	raw = raw[:min(len(raw), maxName)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(raw))
}

// packet takes in an Enhanced Packet Block or the obsolete Packet Block, which
// differ in the width of the interface's number only.
func (g *ngFormat) packet(kind uint32, block []byte, at int64, frames []Frame) ([]Frame, error) {
	if len(block) < packetMinLen {
		return frames, damaged(at, fmt.Sprintf("a packet block of only %d bytes", len(block)))
	}
	id := g.u32(block[8:])
	if kind == blockPacket {
		id = uint32(g.u16(block[8:]))
	}
	if id >= uint32(len(g.interfaces)) {
		return frames, damaged(at, fmt.Sprintf("a packet from interface %d, which nothing describes,", id))
	}
	captured := g.u32(block[20:])
	if room := uint32(len(block) - packetMinLen); captured > room || captured > maxFrame {
		what := fmt.Sprintf("a packet of %d bytes in a block with room for %d", captured, min(room, maxFrame))
		return frames, damaged(at, what)
	}
	i := &g.interfaces[id]
	g.last = i.clock.time(uint64(g.u32(block[12:]))<<32 | uint64(g.u32(block[16:])))
	end := packetDataAt + captured
	return append(frames, Frame{
		Data:      block[packetDataAt:end:end],
		Time:      g.last,
		WireLen:   max(captured, g.u32(block[24:])),
		Link:      i.link,
		Interface: i.index,
	}), nil
}

// simple takes in a Simple Packet Block: interface 0, no time, and a captured
// length that follows from the others (section 4.4).
func (g *ngFormat) simple(block []byte, at int64, frames []Frame) ([]Frame, error) {
	if len(block) < simpleMinLen {
		return frames, damaged(at, fmt.Sprintf("a packet block of only %d bytes", len(block)))
	}
	if len(g.interfaces) == 0 {
		return frames, damaged(at, "a packet from interface 0, which nothing describes,")
	}
	i := &g.interfaces[0]
	wire := g.u32(block[8:])
	captured := min(wire, uint32(len(block)-simpleMinLen))
	if i.snap != 0 {
		captured = min(captured, i.snap)
	}
	if captured > maxFrame {
		what := fmt.Sprintf("a packet of %d bytes in a block with room for %d", captured, maxFrame)
		return frames, damaged(at, what)
	}
	end := 12 + captured
	return append(frames, Frame{
		Data:      block[12:end:end],
		Time:      g.last,
		WireLen:   wire,
		Link:      i.link,
		Interface: i.index,
	}), nil
}

func (g *ngFormat) u16(b []byte) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if g.swap {
		return bits.ReverseBytes16(v)
	}
	return v
}

func (g *ngFormat) u32(b []byte) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if g.swap {
		return bits.ReverseBytes32(v)
	}
	return v
}

func (g *ngFormat) u64(b []byte) uint64 {
	v := binary.LittleEndian.Uint64(b)
	if g.swap {
		return bits.ReverseBytes64(v)
	}
	return v
}

// ngClock turns an interface's time stamps into nanoseconds.
type ngClock struct {
	// A tick is mul/div nanoseconds if shift is 0, else 1e9/2^shift.
	mul, div uint64
	shift    uint
	// offset in nanoseconds is added.
	offset int64
	// plain is the first number of ticks that needs more than to be multiplied
	// with mul: 0 if all do.
	plain uint64
}

// newClock reads if_tsresol, of which the upper bit chooses between negative
// powers of 2 and of 10, and if_tsoffset, in seconds (section 4.2).
func newClock(resolution byte, offset int64) ngClock {
	c := ngClock{mul: 1, div: 1}
	exponent := uint(resolution & 0x7f)
	switch {
	case resolution&0x80 != 0 && exponent > 0:
		c.shift = exponent
	case resolution&0x80 != 0:
		c.mul = 1e9
	case exponent <= 9:
		c.mul = power10(9 - exponent)
	case exponent <= 9+19:
		c.div = power10(exponent - 9)
	default:
		c.mul = 0 // a tick so short that 2^64 of them are no nanosecond
	}
	c.offset = saturate(offset)
	if c.shift == 0 && c.div == 1 && c.mul != 0 && offset == 0 {
		c.plain = math.MaxInt64/c.mul + 1
	}
	return c
}

func power10(n uint) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// saturate returns seconds in nanoseconds, as far as they go.
func saturate(seconds int64) int64 {
	const most = math.MaxInt64 / 1_000_000_000
	return min(max(seconds, -most), most) * 1e9
}

// time returns the time of a time stamp, held between 0 and the end of int64.
func (c *ngClock) time(ticks uint64) int64 {
	var high, low uint64
	if c.shift == 0 {
		high, low = bits.Mul64(ticks, c.mul)
		low /= c.div // div is 1 wherever high can be more than 0
	} else {
		high, low = bits.Mul64(ticks, 1e9)
		low = low>>c.shift | high<<(64-c.shift) | high>>(c.shift-64)
		high >>= c.shift
	}
	if high != 0 || low > math.MaxInt64 {
		low = math.MaxInt64
	}
	t := int64(low)
	if c.offset > 0 && t > math.MaxInt64-c.offset {
		return math.MaxInt64
	}
	return max(t+c.offset, 0)
}
