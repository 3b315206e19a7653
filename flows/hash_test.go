package flows

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// HashOf returns the hash of a segment of that direction.
func (t *Table) HashOf(p *decode.Packet, scope uint32, dir Direction) uint64 {
	h := t.Hasher()
	return h.Packet(p, scope, dir)
}

// Hash returns that of a key.
func (t *Table) Hash(k *Key) uint64 {
	var p decode.Packet
	address(&p, k, Up)
	return t.HashOf(&p, k.Scope, Up)
}

// Touch returns the record that stands where a look-up of hash begins, Seek the one
// that it compares first.
func (t *Table) Touch(hash uint64) uint32 { return uint32(t.Look(hash)) }
func (t *Table) Seek(hash uint64) uint32  { return t.Found(t.Look(hash), hash) }

// sameHash holds that a connection has one hash: of its key, and of its segments in
// both directions.
func sameHash(t *testing.T, tab *Table, k *Key) {
	t.Helper()
	want := tab.Hash(k)
	for d := range Direction(2) {
		var p decode.Packet
		address(&p, k, d)
		if got := tab.HashOf(&p, k.Scope, d); got != want {
			t.Fatalf("%+v: the hash of direction %d is %x, of the key %x", *k, d, got, want)
		}
	}
}

func FuzzHash(f *testing.F) {
	tab := &Table{hasher: newHasher(1)}
	f.Add(make([]byte, 40))
	f.Add(append(make([]byte, 10), "\xff\xff\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02\x01\xbb\x80\x00\x00\x00\x00\x05"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 40 {
			return
		}
		k := Key{
			Subscriber: decode.AddrFrom16(b), Server: decode.AddrFrom16(b[16:]),
			SubscriberPort: binary.BigEndian.Uint16(b[32:]), ServerPort: binary.BigEndian.Uint16(b[34:]),
			Scope: binary.BigEndian.Uint32(b[36:]),
		}
		sameHash(t, tab, &k)
	})
}

func TestHashOf(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	tab := &Table{hasher: newHasher(3)}
	address := func() decode.Addr {
		switch rnd.IntN(3) {
		case 0:
			return addr(rnd.Uint32())
		case 1:
			return decode.Addr{Lo: rnd.Uint64()}
		}
		return decode.Addr{Hi: rnd.Uint64(), Lo: rnd.Uint64()}
	}
	for range 10_000 {
		sameHash(t, tab, &Key{address(), address(), rnd.Uint32N(3), uint16(rnd.Uint32()), uint16(rnd.Uint32())})
	}
}

// TestHashChosen: what somebody may choose who owns all of a /64 and does not know
// the seed. Neither moving bits from the port to the address, nor from one end or
// half to the other, makes connections whose hashes are the same.
func TestHashChosen(t *testing.T) {
	tab := &Table{hasher: newHasher(11)}
	const n = 1 << 14
	for name, key := range map[string]func(i uint64) Key{
		"port and top of the address": func(i uint64) Key {
			return Key{Subscriber: addr(1), Server: decode.Addr{Lo: i<<48 | 5}, SubscriberPort: 1, ServerPort: uint16(i)}
		},
		"port and top of a /64": func(i uint64) Key {
			return Key{Subscriber: addr(1), Server: decode.Addr{Hi: 7, Lo: i<<48 | 5}, SubscriberPort: 1, ServerPort: uint16(i)}
		},
		"both ends": func(i uint64) Key {
			return Key{Subscriber: decode.Addr{Hi: 1, Lo: i}, Server: decode.Addr{Hi: 2, Lo: i}, SubscriberPort: 1, ServerPort: 2}
		},
		"both ports": func(i uint64) Key {
			return Key{Subscriber: addr(1), Server: addr(2), SubscriberPort: uint16(i), ServerPort: uint16(i)}
		},
		"both halves": func(i uint64) Key {
			return Key{Subscriber: addr(1), Server: decode.Addr{Hi: i, Lo: i}, SubscriberPort: 1, ServerPort: 2}
		},
		"a factor of two": func(i uint64) Key {
			return Key{Subscriber: decode.Addr{Hi: 1, Lo: 1 << (i % 64)}, Server: decode.Addr{Hi: 1, Lo: 1 << (i / 64 % 64)}, SubscriberPort: uint16(i >> 12), ServerPort: 443}
		},
		"scope and address": func(i uint64) Key {
			return Key{Subscriber: addr(uint32(i)), Server: addr(uint32(i)), Scope: uint32(i), SubscriberPort: 1, ServerPort: 2}
		},
	} {
		seen := map[uint32]bool{}
		for i := range uint64(n) {
			k := key(i)
			seen[uint32(tab.Hash(&k)>>32)] = true
		}
		// Of n random tags of 32 bits, one in 30 sets of them has two that are the same.
		if len(seen) < n-2 {
			t.Errorf("%s: %d connections have %d tags", name, n, len(seen))
		}
	}
}
