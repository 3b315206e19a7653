package gtp

import "github.com/nametap/nametap/internal/arena"

// buckets are the chains' heads of a hash table that grows by one chain at a
// time (linear hashing, W. Litwin, VLDB 1980): no message ever waits until a
// whole table has moved, and of the memory reserved for the cap only so much is
// committed as is filled.
type buckets struct {
	heads []uint32 // the first item of each chain, 0 is none; heads[size:] are not in use yet
	size  uint32
	mask  uint32 // the power of two that is not under size, less one
}

const (
	firstBuckets = 64
	// Huge pages come once this many items are there: from a few megabytes on,
	// address translation is most of what a look-up costs.
	hugeFrom = 1 << 20
)

func bucketBytes(most int) int64 { return 4 * int64(max(most, firstBuckets)) }

func (b *buckets) init(most int) (err error) {
	b.size, b.mask = firstBuckets, firstBuckets-1
	b.heads, err = arena.Make[uint32](max(most, firstBuckets))
	return err
}

func (b *buckets) close() { _ = arena.Free(b.heads) }

// of returns the number of the chain that a hash belongs to.
func (b *buckets) of(hash uint32) uint32 {
	i := hash & b.mask
	if i >= b.size {
		i &= b.mask >> 1
	}
	return i
}

// short reports whether n items want another chain: one each, while there are
// any to be had.
func (b *buckets) short(n int) bool { return n > int(b.size) && int(b.size) < len(b.heads) }

// grow adds a chain. Items of the old one whose hash belongs to the added one are
// the caller's to move.
func (b *buckets) grow() (old, added uint32) {
	added = b.size
	b.size++
	if added > b.mask {
		b.mask = b.mask<<1 | 1
	}
	if b.size == hugeFrom {
		arena.AdviseHuge(b.heads)
	}
	return added & (b.mask >> 1), added
}

// directory finds items, which are numbered from 1 to its cap, by a hash of what
// they hold. It knows no keys: who looks there compares with the items
// themselves. 8 bytes an item. Items of one hash come in the order in which they
// were added.
type directory struct {
	buckets
	next []uint32 // by item: the one behind it in its chain
	n    int
	hash func(item uint32) uint32
}

func directoryBytes(items, chains int) int64 { return 4*int64(items+1) + bucketBytes(chains) }

func (d *directory) init(items, chains int, hash func(item uint32) uint32) (err error) {
	d.hash = hash
	if d.next, err = arena.Make[uint32](items + 1); err != nil {
		return err
	}
	return d.buckets.init(chains)
}

func (d *directory) close() {
	_ = arena.Free(d.next)
	d.buckets.close()
}

// first returns the first item that may have the hash, 0 for none; the others
// follow in next.
func (d *directory) first(hash uint32) uint32 { return d.heads[d.of(hash)] }

// add takes up an item that is not in the directory.
func (d *directory) add(item uint32) {
	d.append(d.of(d.hash(item)), item)
	if d.n++; d.short(d.n) {
		d.split()
	}
}

func (d *directory) append(chain, item uint32) {
	at := &d.heads[chain]
	for *at != 0 {
		at = &d.next[*at]
	}
	*at, d.next[item] = item, 0
}

func (d *directory) split() {
	old, added := d.grow()
	for at := &d.heads[old]; *at != 0; {
		item := *at
		if d.of(d.hash(item)) != added {
			at = &d.next[item]
			continue
		}
		*at = d.next[item]
		d.append(added, item)
	}
}

// remove takes an item out, which must be in it and still have the hash that it
// was added with.
func (d *directory) remove(item uint32) {
	at := &d.heads[d.of(d.hash(item))]
	for *at != item {
		at = &d.next[*at]
	}
	*at, d.next[item] = d.next[item], 0
	d.n--
}
