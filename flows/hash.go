package flows

import (
	"math/bits"

	"github.com/nametap/nametap/capture/decode"
)

// hasher makes the hash of a connection, of what is secret on a live tap, from a
// segment of either direction, for which no key has to be made.
type hasher struct{ ends, factor uint64 }

func newHasher(seed uint64) hasher {
	ends := product(seed^hash1, hash2)
	return hasher{ends: ends, factor: product(ends^hash3, hash1) | 1}
}

const (
	hash1 = 0x9e3779b97f4a7c15
	hash2 = 0xd6e8feb86659fd93
	hash3 = 0xa0761d6478bd642f
)

// HashOf returns the hash of the key of a TCP segment of that direction, which needs
// not be made for it. Both directions of a connection have the same.
func (t *Table) HashOf(p *decode.Packet, scope uint32, dir Direction) uint64 {
	h := &t.hasher
	if p.Src.Hi|p.Dst.Hi|(p.Src.Lo|p.Dst.Lo)>>portAt != 0 {
		return h.long(p, scope, dir)
	}
	return h.both(p.Src.Lo|uint64(p.SrcPort)<<portAt, p.Dst.Lo|uint64(p.DstPort)<<portAt, scope, dir)
}

// portAt is where an IPv4 address has 16 bits to spare: one word holds an end of a
// connection, each a different one.
const portAt = 48

// long is the hash where addresses have more than 48 bits.
//
//go:noinline
func (h *hasher) long(p *decode.Packet, scope uint32, dir Direction) uint64 {
	return h.both(h.end(p.Src, p.SrcPort), h.end(p.Dst, p.DstPort), scope, dir)
}

// end makes one word of an end of a connection. The two halves of the address are
// not as free as they look: whoever owns a /64 has 2^64 addresses to choose from.
func (h *hasher) end(a decode.Addr, port uint16) uint64 {
	return product(a.Hi^h.factor, a.Lo^h.ends) ^ uint64(port)<<portAt
}

// both folds the two ends of a segment and a scope into one hash. No branch asks for
// the direction, which would be guessed wrong for every other packet: the ends are
// exchanged by the bits in which they differ.
func (h *hasher) both(from, to uint64, scope uint32, dir Direction) uint64 {
	exchange := (from ^ to) & -uint64(dir&1)
	return product(product(from^exchange^h.ends^uint64(scope)*h.factor, to^exchange^h.factor), h.factor)
}

// product is a word in which every bit hangs on many of both factors.
func product(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
