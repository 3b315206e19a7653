package dnsmap

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// seeds are the secret constants of a table's hash. They are odd, so that no
// factor is zero, and all drawn from one number, so that a table can be made
// again.
type seeds [8]uint64

// newest are the seeds asked for last. The tables of a program are made with one
// number each time, and then share their seeds: read for each packet, they are in the
// cache once, and not once a table.
var newest atomic.Pointer[seeded]

// seeded are the seeds of a number, two cache lines long so that nothing that is
// written lies in theirs.
type seeded struct {
	seeds seeds
	seed  uint64
	_     [7]uint64
}

// newSeeds spreads one number over all (the splitmix64 generator).
func newSeeds(seed uint64) *seeds {
	if n := newest.Load(); n != nil && n.seed == seed {
		return &n.seeds
	}
	n := &seeded{seed: seed}
	for i := range n.seeds {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		n.seeds[i] = (z ^ z>>31) | 1
	}
	newest.Store(n)
	return &n.seeds
}

// fold multiplies to 128 bits and folds the halves together: every bit of the
// result depends on every bit of both factors.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (s *seeds) key(k Key) uint64 {
	a := fold(k.Subscriber^s[0], k.Server.Hi^s[1])
	b := fold(k.Server.Lo^s[2], uint64(k.Scope)^s[3])
	return fold(a^s[2], b^s[0])
}

// check is a second hash of k. It has constants of its own and takes the parts
// of k in other pairs, so that keys with the same key have no more often the
// same check than any two.
func (s *seeds) check(k Key) uint32 {
	a := fold(k.Subscriber^s[4], k.Server.Lo^s[5])
	b := fold(k.Server.Hi^s[6], uint64(k.Scope)^s[7])
	return uint32(fold(a^s[6], b^s[4]) >> 32)
}

// bytes takes eight at a time. What is left is the last eight, of which some may have
// been taken already; only less than eight are gathered one by one.
func (s *seeds) bytes(b []byte) uint64 {
	h := s[0] ^ uint64(len(b))
	var tail uint64
	if n := len(b); n >= 8 {
		tail = binary.LittleEndian.Uint64(b[n-8:])
		for ; len(b) > 8; b = b[8:] {
			h = fold(h^binary.LittleEndian.Uint64(b), s[1])
		}
	} else {
		for i, c := range b {
			tail |= uint64(c) << (8 * i)
		}
	}
	return fold(fold(h^tail, s[2]), s[3])
}
