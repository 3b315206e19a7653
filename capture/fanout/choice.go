package fanout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
)

// Partitions is how many partitions subscribers are divided into.
const Partitions = 64

// Config says how to divide packets.
type Config struct {
	// Workers is the number of workers, 1 to Partitions. Worker w gets the
	// partitions n with n % Workers == w.
	Workers int
	// Seed of the hash. It must not be the one of the probe's hashes: each
	// worker divides its subscribers among tables of its own by a like
	// function, and with the same seed most of these would stay empty.
	Seed uint64
	// Subscribers are the prefixes that subscribers' addresses are in.
	Subscribers []netip.Prefix
}

func (c *Config) check() error {
	if c.Workers < 1 || c.Workers > Partitions {
		return fmt.Errorf("fanout to %d workers: choose 1 to %d", c.Workers, Partitions)
	}
	for _, p := range c.Subscribers {
		if !p.IsValid() {
			return errors.New("fanout: an invalid subscriber prefix")
		}
	}
	return nil
}

// Counts are what the program has noticed. None ever goes down.
type Counts struct {
	// Undecided packets have both or neither end in the subscribers'
	// prefixes; they went by the higher port.
	Undecided uint64
	// Followed fragments came after the first one of their datagram and went
	// where that went.
	Followed uint64
	// Stray fragments came before the first one of their datagram, or without
	// it. They decided for the whole datagram, by its outer addresses: in a
	// tunnel that is as good as never the subscriber's worker.
	Stray uint64
	// Control datagrams, of GTP-C and PFCP, went to worker 0.
	Control uint64
	// NotIP frames went to worker 0.
	NotIP uint64
}

// Partition returns the partition of a subscriber by the 64 bits that tell
// subscribers apart: ::ffff:a.b.c.d's lower half for IPv4, the /64 for IPv6.
func Partition(seed, prefix uint64) int {
	hi, lo := bits.Mul64(prefix^seed^mixA, 1^mixB)
	return int((hi ^ lo) >> (64 - 6))
}

// What goes into the product.
const (
	mixA = 0x9e3779b97f4a7c15
	mixB = 0xa0761d6478bd642f
)

// prefix is an address prefix in two halves with their masks, IPv4 in its mapped
// form.
type prefix struct {
	hi, lo, maskHi, maskLo uint64
	bits                   int
}

func prefixFrom(p netip.Prefix) prefix {
	m := prefix{bits: p.Bits()}
	if p.Addr().Is4() {
		m.bits += 96
	}
	m.maskHi = ^uint64(0) << (64 - min(m.bits, 64))
	m.maskLo = ^uint64(0) << (64 - max(m.bits-64, 0))
	b := p.Addr().As16()
	m.hi = binary.BigEndian.Uint64(b[:8]) & m.maskHi
	m.lo = binary.BigEndian.Uint64(b[8:]) & m.maskLo
	return m
}

// prefixesFrom returns the list without those that others contain.
func prefixesFrom(list []netip.Prefix) []prefix {
	var kept []prefix
	for i, p := range list {
		if !contained(p, i, list) {
			kept = append(kept, prefixFrom(p))
		}
	}
	return kept
}

func contained(p netip.Prefix, at int, list []netip.Prefix) bool {
	for i, other := range list {
		same := other.Masked() == p.Masked()
		if same && i < at || !same && other.Bits() <= p.Bits() && other.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
