package flows

import (
	"math/bits"

	"github.com/nametap/nametap/capture/decode"
)

// Hasher makes the hash of a connection, of what is secret on a live tap, from a
// segment of either direction, for which no key has to be made. Tables of the same
// seed have the same.
type Hasher struct{ ends, factor uint64 }

func newHasher(seed uint64) Hasher {
	ends := product(seed^hash1, hash2)
	return Hasher{ends: ends, factor: product(ends^hash3, hash1) | 1}
}

const (
	hash1 = 0x9e3779b97f4a7c15
	hash2 = 0xd6e8feb86659fd93
	hash3 = 0xa0761d6478bd642f
)

// Packet returns the hash of the connection that a TCP segment of that direction
// belongs to.
func (h *Hasher) Packet(p *decode.Packet, scope uint32, dir Direction) uint64 {
	if p.Src.Hi|p.Dst.Hi|(p.Src.Lo|p.Dst.Lo)>>portAt != 0 {
		return h.long(p, scope, dir)
	}
	return h.both(IPv4End(p.Src, p.SrcPort), IPv4End(p.Dst, p.DstPort), scope, dir)
}

// IPv4End makes one word of an IPv4 address and a port.
func IPv4End(a decode.Addr, port uint16) uint64 { return a.Lo | uint64(port)<<portAt }

// IPv4Prefix returns the Prefix of the address in what IPv4End made.
func IPv4Prefix(end uint64) uint64 { return end & (1<<portAt - 1) }

// IPv4 is Packet where both addresses are IPv4 and the scope is 0, of the two ends.
func (h *Hasher) IPv4(subscriber, server uint64) uint64 {
	return product(product(subscriber^h.ends, server^h.factor), h.factor)
}

// portAt is where an IPv4 address has 16 bits to spare: one word holds an end of a
// connection, each a different one.
const portAt = 48

// long is the hash where addresses have more than 48 bits.
//
//go:noinline
func (h *Hasher) long(p *decode.Packet, scope uint32, dir Direction) uint64 {
	return h.both(h.end(p.Src, p.SrcPort), h.end(p.Dst, p.DstPort), scope, dir)
}

// end makes one word of an end of a connection. The two halves of the address are
// not as free as they look: whoever owns a /64 has 2^64 addresses to choose from.
func (h *Hasher) end(a decode.Addr, port uint16) uint64 {
	return product(a.Hi^h.factor, a.Lo^h.ends) ^ uint64(port)<<portAt
}

// both folds the two ends of a segment and a scope into one hash. No branch asks for
// the direction, which would be guessed wrong for every other packet: the ends are
// exchanged by the bits in which they differ.
func (h *Hasher) both(from, to uint64, scope uint32, dir Direction) uint64 {
	exchange := (from ^ to) & -uint64(dir&1)
	return product(product(from^exchange^h.ends^uint64(scope)*h.factor, to^exchange^h.factor), h.factor)
}

// product is a word in which every bit hangs on many of both factors.
func product(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
