package probe

import (
	"math/bits"

	"github.com/nametap/nametap/capture/decode"
)

// mix folds two words into one in which every bit hangs on all of theirs.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xa0761d6478bd642f)
	return hi ^ lo
}

// product is mix for words that have been given their pattern already.
func product(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// fingerprint stands for an address where only its being there matters. Two of
// 50 million addresses have the same with a probability of one in 15,000.
func fingerprint(seed uint64, a decode.Addr) uint64 {
	return mix(mix(a.Hi^seed, a.Lo), seed)
}

// partitionOf says which partition works the subscriber's packets.
func partitionOf(seed uint64, scope uint32, prefix uint64) uint8 {
	return uint8(mix(prefix^seed, uint64(scope)+1) >> (64 - 6))
}
