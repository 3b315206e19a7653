package synth

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the 16-bit big-endian words of b to s (RFC 1071). It adds eight
// bytes at a time with the carry fed back, which one's complement allows
// (section 2, "parallel summation"); s may hold any partial sum.
func sum(b []byte, s uint64) uint64 {
	var carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b[24:]), carry)
		s, carry = bits.Add64(s, 0, carry)
		s += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.BigEndian.Uint64(b), 0)
		s += carry
		b = b[8:]
	}
	var tail uint64
	for i := range b {
		tail |= uint64(b[i]) << (56 - 8*i)
	}
	s, carry = bits.Add64(s, tail, 0)
	return s + carry
}

// fold returns the checksum for a sum.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return ^uint16(s)
}
