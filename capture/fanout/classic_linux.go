package fanout

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Classic returns the program in classic BPF, for PACKET_FANOUT_DATA of a
// PACKET_FANOUT_CBPF group. It makes the same choices as the one in eBPF, about
// less: one VLAN tag more than the kernel takes off, GTP-U without extension
// headers, IPv6 without extension headers, and no memory for fragments, which go
// by their addresses. Everything else goes by the addresses it can find, or to
// worker 0.
//
// Classic BPF has two 32-bit registers, 16 words of memory, no calls and no
// loops, so that all of it is unrolled here.
func Classic(c Config) ([]unix.SockFilter, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	list := prefixesFrom(c.Subscribers)
	if len(list) > classicPrefixes {
		return nil, fmt.Errorf("%d subscriber prefixes: classic BPF has room for %d", len(list), classicPrefixes)
	}
	a := &assembler{labels: map[string]int{}}
	a.link()
	a.ip("outer", true)
	a.ip("inner", false)
	a.choose(list)
	a.hash(c.Seed, uint32(c.Workers))
	return a.finish()
}

// classicPrefixes is for how many the program, of 4096 instructions at most,
// has room.
const classicPrefixes = 64

// Words of memory.
const (
	mSrc     = 0 // to 3: addresses as 128 bits, IPv4 in mapped form
	mDst     = 4 // to 7
	mSrcPort = 8
	mDstPort = 9
	mPorts   = 10 // whether there are ports
	mSrcIn   = 11
	mBase    = 12 // where the IP header begins
	mSum     = 13
	mDigit   = 14 // a digit of the product
)

// Where the kernel's ancillary data begin (linux/filter.h), and in them the
// EtherType.
const (
	ancillary         = -0x1000 & math.MaxUint32
	ancillaryProtocol = ancillary + 0
)

// assembler puts instructions in a row. Jumps go forward, to labels.
type assembler struct {
	program []unix.SockFilter
	labels  map[string]int
	jumps   []jump
}

type jump struct {
	at int
	to string
}

func (a *assembler) emit(code uint16, k uint32) {
	a.program = append(a.program, unix.SockFilter{Code: code, K: k})
}

func (a *assembler) label(name string) { a.labels[name] = len(a.program) }

// jump goes to a label, however far.
func (a *assembler) jump(to string) {
	a.jumps = append(a.jumps, jump{len(a.program), to})
	a.emit(unix.BPF_JMP|unix.BPF_JA, 0)
}

// when goes to a label if the comparison of A with k holds.
func (a *assembler) when(comparison uint16, k uint32, to string) {
	a.program = append(a.program, unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, Jf: 1, K: k})
	a.jump(to)
}

// whenX is when with X in the place of k.
func (a *assembler) whenX(comparison uint16, to string) {
	a.program = append(a.program, unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_X, Jf: 1})
	a.jump(to)
}

func (a *assembler) load(m uint32)               { a.emit(unix.BPF_LD|unix.BPF_MEM, m) }
func (a *assembler) loadX(m uint32)              { a.emit(unix.BPF_LDX|unix.BPF_MEM, m) }
func (a *assembler) store(m uint32)              { a.emit(unix.BPF_ST, m) }
func (a *assembler) set(k uint32)                { a.emit(unix.BPF_LD|unix.BPF_IMM, k) }
func (a *assembler) alu(op uint16, k uint32)     { a.emit(unix.BPF_ALU|op|unix.BPF_K, k) }
func (a *assembler) addX()                       { a.emit(unix.BPF_ALU|unix.BPF_ADD|unix.BPF_X, 0) }
func (a *assembler) toX()                        { a.emit(unix.BPF_MISC|unix.BPF_TAX, 0) }
func (a *assembler) fromX()                      { a.emit(unix.BPF_MISC|unix.BPF_TXA, 0) }
func (a *assembler) at(size uint16, k uint32)    { a.emit(unix.BPF_LD|size|unix.BPF_IND, k) } // at X+k
func (a *assembler) setTo(m uint32, k uint32)    { a.set(k); a.store(m) }
func (a *assembler) worker(number uint32)        { a.emit(unix.BPF_RET|unix.BPF_K, number) }
func (a *assembler) absolute(s uint16, k uint32) { a.emit(unix.BPF_LD|s|unix.BPF_ABS, k) }

// link finds the IP header.
func (a *assembler) link() {
	// The kernel refuses programs that may read a word before it is written.
	for _, m := range []uint32{mBase, mPorts, mSrcPort, mDstPort} {
		a.setTo(m, 0)
	}
	a.absolute(unix.BPF_W, ancillaryProtocol)
	a.when(unix.BPF_JEQ, 0x8100, "tag")
	a.when(unix.BPF_JEQ, 0x88a8, "tag")
	a.jump("type")
	a.label("tag")
	a.setTo(mBase, 4)
	a.absolute(unix.BPF_H, 2)
	a.label("type")
	a.when(unix.BPF_JEQ, 0x0800, "outer")
	a.when(unix.BPF_JEQ, 0x86dd, "outer")
	a.worker(0)
}

// ip reads the IP header at mBase and, if it may be one around a tunnel, goes on
// to the inner one.
func (a *assembler) ip(name string, tunnel bool) {
	a.label(name)
	a.loadX(mBase)
	a.at(unix.BPF_B, 0)
	a.alu(unix.BPF_RSH, 4)
	a.when(unix.BPF_JEQ, 4, name+" v4")
	a.when(unix.BPF_JEQ, 6, name+" v6")
	a.worker(0)

	a.label(name + " v6")
	for i := range uint32(8) { // mSrc and mDst lie in a row
		a.at(unix.BPF_W, 8+4*i)
		a.store(mSrc + i)
	}
	a.at(unix.BPF_B, 6)
	a.store(mSum) // the protocol, for a while
	a.fromX()
	a.alu(unix.BPF_ADD, 40)
	a.toX()
	a.jump(name + " transport")

	a.label(name + " v4")
	for _, m := range []uint32{mSrc, mDst} {
		a.setTo(m, 0)
		a.setTo(m+1, 0)
		a.setTo(m+2, 0xffff)
	}
	a.at(unix.BPF_W, 12)
	a.store(mSrc + 3)
	a.at(unix.BPF_W, 16)
	a.store(mDst + 3)
	a.at(unix.BPF_B, 9)
	a.store(mSum)
	a.at(unix.BPF_H, 6)
	a.alu(unix.BPF_AND, 0x3fff)
	a.when(unix.BPF_JGT, 0, "choose") // a fragment
	a.at(unix.BPF_B, 0)
	a.alu(unix.BPF_AND, 15)
	a.alu(unix.BPF_MUL, 4)
	a.addX()
	a.toX()

	a.label(name + " transport")
	a.load(mSum)
	a.when(unix.BPF_JEQ, 6, name+" tcp")
	a.when(unix.BPF_JEQ, 17, name+" udp")
	a.jump("choose")

	a.label(name + " tcp")
	a.ports()
	a.jump("choose")

	a.label(name + " udp")
	a.ports()
	a.load(mSrcPort)
	a.when(unix.BPF_JEQ, 53, "dst")
	a.load(mDstPort)
	a.when(unix.BPF_JEQ, 53, name+" query")
	if tunnel {
		a.gtpu(name)
	}
	a.jump("choose")

	a.label(name + " query")
	a.at(unix.BPF_B, 8+2)
	a.when(unix.BPF_JSET, 0x80, "dst")
	a.jump("src")
}

// ports reads the ports at X.
func (a *assembler) ports() {
	a.at(unix.BPF_H, 0)
	a.store(mSrcPort)
	a.at(unix.BPF_H, 2)
	a.store(mDstPort)
	a.setTo(mPorts, 1)
}

// gtpu goes to the inner header of the G-PDU in the datagram at X.
func (a *assembler) gtpu(name string) {
	a.when(unix.BPF_JEQ, 2152, name+" gtp") // A is the destination port
	a.load(mSrcPort)
	a.when(unix.BPF_JEQ, 2152, name+" gtp")
	for _, m := range []uint32{mSrcPort, mDstPort} {
		for _, port := range []uint32{2123, 8805} {
			a.load(m)
			a.when(unix.BPF_JEQ, port, "control")
		}
	}
	a.jump("choose")

	a.label(name + " gtp")
	a.at(unix.BPF_H, 8)
	a.alu(unix.BPF_AND, 0xf0ff)
	a.when(unix.BPF_JEQ, 0x30ff, name+" gpdu")
	a.jump("choose")
	a.label(name + " gpdu")
	a.at(unix.BPF_B, 8)
	a.when(unix.BPF_JSET, 7, name+" optional")
	a.fromX()
	a.alu(unix.BPF_ADD, 16)
	a.jump(name + " tpdu")
	a.label(name + " optional")
	a.when(unix.BPF_JSET, 4, name+" extended")
	a.jump(name + " long")
	a.label(name + " extended")
	a.at(unix.BPF_B, 8+11)
	a.when(unix.BPF_JGT, 0, "choose") // an extension header
	a.label(name + " long")
	a.fromX()
	a.alu(unix.BPF_ADD, 20)
	a.label(name + " tpdu")
	a.store(mBase)
	a.toX()
	a.at(unix.BPF_B, 0)
	a.alu(unix.BPF_RSH, 4)
	a.when(unix.BPF_JEQ, 4, name+" enter")
	a.when(unix.BPF_JEQ, 6, name+" enter")
	a.jump("choose")
	a.label(name + " enter")
	a.setTo(mPorts, 0)
	a.jump("inner")
}

// choose finds the end that is the subscriber, as fanout.c does.
func (a *assembler) choose(list []prefix) {
	a.label("control")
	a.worker(0)
	a.label("choose")
	a.setTo(mSrcIn, 0)
	a.inside("src in", mSrc, list, "source is in")
	a.jump("destination")
	a.label("source is in")
	a.setTo(mSrcIn, 1)
	a.label("destination")
	a.inside("dst in", mDst, list, "destination is in")
	a.load(mSrcIn)
	a.when(unix.BPF_JEQ, 1, "src")
	a.jump("undecided")
	a.label("destination is in")
	a.load(mSrcIn)
	a.when(unix.BPF_JEQ, 0, "dst")

	a.label("undecided")
	a.load(mPorts)
	a.when(unix.BPF_JEQ, 0, "by address")
	a.loadX(mSrcPort)
	a.load(mDstPort)
	a.whenX(unix.BPF_JGT, "dst")
	a.whenX(unix.BPF_JEQ, "by address")
	a.jump("src")
	a.label("by address")
	for i := range uint32(4) {
		a.loadX(mSrc + i)
		a.load(mDst + i)
		a.whenX(unix.BPF_JGT, "dst")
		a.whenX(unix.BPF_JEQ, fmt.Sprint("next word ", i))
		a.jump("src")
		a.label(fmt.Sprint("next word ", i))
	}
	a.jump("src")

	a.label("dst")
	for i := range uint32(4) {
		a.load(mDst + i)
		a.store(mSrc + i)
	}
	a.label("src")
}

// inside goes to a label if the address in memory is in one of the prefixes.
func (a *assembler) inside(name string, m uint32, list []prefix, to string) {
	for n, p := range list {
		next := fmt.Sprint(name, n)
		words := [4][2]uint32{
			{uint32(p.hi >> 32), uint32(p.maskHi >> 32)},
			{uint32(p.hi), uint32(p.maskHi)},
			{uint32(p.lo >> 32), uint32(p.maskLo >> 32)},
			{uint32(p.lo), uint32(p.maskLo)},
		}
		for i, w := range words {
			if w[1] == 0 {
				continue
			}
			equal := fmt.Sprint(next, " word ", i)
			a.load(m + uint32(i))
			a.alu(unix.BPF_AND, w[1])
			a.when(unix.BPF_JEQ, w[0], equal)
			a.jump(next)
			a.label(equal)
		}
		a.jump(to)
		a.label(next)
	}
}

// hash returns the worker of the address at mSrc: Partition, in digits of 16
// bits.
func (a *assembler) hash(seed uint64, workers uint32) {
	// The key is the address's upper half, of IPv4 the lower one.
	a.load(mSrc)
	a.when(unix.BPF_JGT, 0, "key")
	a.load(mSrc + 1)
	a.when(unix.BPF_JGT, 0, "key")
	a.load(mSrc + 2)
	a.when(unix.BPF_JEQ, 0xffff, "mapped")
	a.jump("key")
	a.label("mapped")
	a.store(mSrc)
	a.load(mSrc + 3)
	a.store(mSrc + 1)
	a.label("key")

	// Digits of the first factor go to words 4 to 7, the lowest first.
	x := seed ^ mixA
	for i, k := range []uint32{uint32(x), uint32(x >> 32)} {
		low := mDst + 2*uint32(i)
		a.load(mSrc + 1 - uint32(i))
		a.alu(unix.BPF_XOR, k)
		a.store(low)
		a.alu(unix.BPF_RSH, 16)
		a.store(low + 1)
		a.load(low)
		a.alu(unix.BPF_AND, 0xffff)
		a.store(low)
	}
	y := uint64(1 ^ mixB)
	a.setTo(mSum, 0)
	for column := range 8 {
		for i := range 4 {
			// Each product counts with its lower digit in its own column
			// and with its upper one in the next.
			if j := column - i; j >= 0 && j < 4 {
				a.product(i, uint32(y>>(16*j))&0xffff, unix.BPF_AND, 0xffff)
			}
			if j := column - i - 1; j >= 0 && j < 4 {
				a.product(i, uint32(y>>(16*j))&0xffff, unix.BPF_RSH, 16)
			}
		}
		a.load(mSum)
		if column == 3 { // bits 48 to 63
			a.alu(unix.BPF_AND, 0xffff)
			a.store(mDigit)
			a.load(mSum)
		}
		a.alu(unix.BPF_RSH, 16*b2u(column < 7))
		a.store(mSum)
	}
	// Both halves' upper six bits, exclusive or.
	a.loadX(mDigit)
	a.alu(unix.BPF_AND, 0xffff)
	a.emit(unix.BPF_ALU|unix.BPF_XOR|unix.BPF_X, 0)
	a.alu(unix.BPF_RSH, 10)
	a.alu(unix.BPF_MOD, workers)
	a.emit(unix.BPF_RET|unix.BPF_A, 0)
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// product adds one digit of a product to the sum.
func (a *assembler) product(digit int, factor uint32, op uint16, k uint32) {
	a.load(mDst + uint32(digit))
	a.alu(unix.BPF_MUL, factor)
	a.alu(op, k)
	a.loadX(mSum)
	a.addX()
	a.store(mSum)
}

// finish resolves the jumps.
func (a *assembler) finish() ([]unix.SockFilter, error) {
	for _, j := range a.jumps {
		to, ok := a.labels[j.to]
		if !ok || to <= j.at {
			return nil, fmt.Errorf("fanout program in classic BPF: no way from %d to %q", j.at, j.to)
		}
		a.program[j.at].K = uint32(to - j.at - 1)
	}
	if len(a.program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("fanout program in classic BPF: %d instructions are too many", len(a.program))
	}
	return a.program, nil
}
