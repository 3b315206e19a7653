package decode

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

const (
	// maxIPLen is the most bytes an IP packet can have (RFC 791 section
	// 3.1), or the part of an IPv6 packet after its unfragmented headers
	// (RFC 8200 section 4.5).
	maxIPLen = 65535

	// fragmentTimeout, in nanoseconds of packet time, is how long an
	// unfinished packet may wait. RFC 791 section 3.2 starts from 15 s, RFC
	// 8200 section 4.5 wants 60 s of a receiver. A tap needs not wait for a
	// receiver's worst case, and the sooner an identification is forgotten,
	// the fewer packets are mixed up when it comes round (RFC 4963).
	fragmentTimeout = 30e9

	// repeatWindow, in nanoseconds of packet time, is how long the
	// fragments of a packet that is whole already are taken for repeats.
	// A second mirror port delivers them within milliseconds; the 65,536
	// identifications of a busy pair of gateways come round in 80 ms at
	// best (100 Gb/s, every tenth packet fragmented).
	repeatWindow = 50e6

	// maxPieces is the most fragments one packet may have. 65,535 bytes over
	// links of 576 bytes need 119; thousands of crumbs are an attack on the
	// search below.
	maxPieces = 128

	// blockLen is the unit in which fragments are stored, and
	// blocksPerEntry the number of them for each packet that may wait: the
	// second half of a tunnelled packet is rarely more than 100 bytes, the
	// first fills six blocks.
	blockLen       = 256
	blocksPerEntry = 4

	// entrySize and blockSize are the bytes of an entry and a block.
	entrySize = 128
	blockSize = 16
)

// fragmentKey tells fragmented packets apart (RFC 791 section 3.2, RFC 8200
// section 4.5). Addresses are private to a GTP tunnel and often to a VLAN.
type fragmentKey struct {
	src, dst Addr
	gateway  Addr // destination of the GTP tunnel around the fragment
	id, teid uint32
	vlan     uint16
	protocol uint8 // IPv6: protocolFragment, as the rest may differ
}

// piece is one fragment on its way into the table.
type piece struct {
	b          []byte // as captured, at most end-start bytes
	start, end int    // in the fragmented part of the packet
	limit      int    // end can be no more
	ipBytes    uint32 // total length of the IP packet that brought it
	more       bool
	protocol   uint8
	ttl        uint8
}

// block is the bookkeeping of blockLen bytes in fragments.data. The first block
// of a piece stands for the piece.
type block struct {
	next  int32 // block with the piece's next bytes; or next free block
	piece int32 // first block of the packet's next piece, by offset

	// start and end of the piece and its captured bytes.
	start, end, captured uint16
}

type entryState uint8

const (
	waiting entryState = iota
	whole              // was put together a moment ago
	spoilt             // its fragments contradict each other
)

// entry is a fragmented packet.
type entry struct {
	key           fragmentKey
	since         int64 // packet time of the first fragment, if whole of the last
	older, newer  int32 // in the list of its state
	chain         int32 // next in the bucket; or next free entry
	first, last   int32 // pieces
	have, total   uint32
	ipBytes       uint32
	pieces        uint8
	protocol, ttl uint8
	state         entryState
}

// list is a queue of entries.
type list struct{ oldest, newest int32 }

// fragments is the table of fragmented packets. Entries and blocks live in two
// arrays made once, and refer to each other by index; index 0 is none.
type fragments struct {
	entries []entry
	blocks  []block
	data    []byte  // blockLen for each block
	buckets []int32 // by hash, to the first entry of a chain

	// Elements from usedEntries and usedBlocks on were never in use, so that
	// the memory behind them stays untouched until it is needed.
	usedEntries, usedBlocks int32
	freeEntry, freeBlock    int32 // heads of the lists of used and freed ones
	freeBlocks              int   // blocks in no piece

	unfinished list // waiting
	finished   list // whole and spoilt; they hold no blocks

	expired, evicted uint64
	waiting          int
	seed             uint64 // keeps a sender from choosing buckets
}

// reserve makes the arrays within budget bytes.
func (t *fragments) reserve(budget int) {
	const entryCost = entrySize + 2*4 + // at most two buckets
		blocksPerEntry*(blockSize+blockLen)
	n := min(budget/entryCost, 1<<24)
	if n <= 0 {
		return
	}
	t.entries = make([]entry, n+1)
	t.blocks = make([]block, n*blocksPerEntry+1)
	t.data = make([]byte, len(t.blocks)*blockLen)
	t.buckets = make([]int32, 1<<bits.Len(uint(n)))
	t.usedEntries, t.usedBlocks = 1, 1
	t.freeBlocks = n * blocksPerEntry
	t.seed = rand.Uint64()
}

// fragment files a fragment, whose IP header p describes and whose bytes come
// next at the cursor. If it makes its packet whole, decoding goes on there.
func (d *Decoder) fragment(c *cursor, p *Packet, id uint32, f piece) header {
	k := fragmentKey{src: p.Src, dst: p.Dst, id: id, vlan: p.VLAN, protocol: f.protocol}
	if c.v6 {
		k.protocol = protocolFragment
	}
	if p.Tunnel == TunnelGTP {
		k.gateway, k.teid = p.OuterDst, p.TEID
	}
	f.b, f.end = c.b, f.start+c.left
	f.ipBytes, f.ttl = p.IPBytes, p.TTL

	t := &d.fragments
	i, outcome := t.add(&k, &f, p.Time)
	if i == 0 {
		return c.end(outcome)
	}
	e := &t.entries[i]
	c.b, c.left = d.assemble(e), int(e.total)
	p.IPBytes, p.TTL = e.ipBytes, e.ttl
	p.Fragmented = true
	t.finish(i, whole, p.Time)
	return c.above(e.protocol, p)
}

// assemble copies what was captured of a whole packet, up to the first gap,
// behind Scratch.
func (d *Decoder) assemble(e *entry) []byte {
	t := &d.fragments
	if cap(d.Scratch)-len(d.Scratch) < int(e.total) {
		d.Scratch = make([]byte, 0, maxIPLen)
	}
	from := len(d.Scratch)
	for i := e.first; i != 0; i = t.blocks[i].piece {
		left := int(t.blocks[i].captured)
		for j := i; left > 0; j = t.blocks[j].next {
			n := min(left, blockLen)
			d.Scratch = append(d.Scratch, t.bytes(j)[:n]...)
			left -= n
		}
		if t.blocks[i].captured < t.blocks[i].end-t.blocks[i].start {
			break
		}
	}
	return d.Scratch[from:len(d.Scratch):len(d.Scratch)]
}

// add files f at packet time now. It returns the entry if its packet is whole
// now, otherwise 0 and what became of the fragment.
func (t *fragments) add(k *fragmentKey, f *piece, now int64) (int32, Outcome) {
	n := f.end - f.start
	if n == 0 || f.end > f.limit || (f.more && n%8 != 0) {
		return 0, BadFragment
	}
	if len(t.entries) == 0 {
		return 0, FragmentTable
	}
	t.expire(now)
	bucket := t.bucket(k)
	i := t.find(k, bucket)
	if i != 0 && t.old(i, now) {
		t.giveUp(i, &t.expired)
		i = 0
	}
	if i == 0 {
		i = t.open(k, bucket, now)
	}
	e := &t.entries[i]
	switch e.state {
	case whole:
		return 0, Held
	case spoilt:
		return 0, BadFragment
	}
	after, how := t.place(e, f)
	if how == repeated {
		return 0, Held
	}
	if how == clashing || e.pieces == maxPieces {
		t.finish(i, spoilt, e.since)
		return 0, BadFragment
	}
	if !t.store(i, f, after) {
		return 0, FragmentTable
	}
	if e.have != e.total {
		return 0, Held
	}
	return i, Held
}

// fit says how a fragment goes with those that are there.
type fit uint8

const (
	fitting fit = iota
	repeated
	clashing
)

// place finds the piece behind which f goes, 0 for the front. Fragments may
// not overlap: no sender makes such, and receivers differ in what they make of
// them (RFC 8200 section 4.5, RFC 5722; for IPv4 RFC 1858 and 3128 tell the
// same story). An exact repeat is allowed, as mirrors make them all the time.
func (t *fragments) place(e *entry, f *piece) (after int32, how fit) {
	if e.total != 0 && f.end > int(e.total) {
		return 0, clashing
	}
	if e.last == 0 || int(t.blocks[e.last].end) <= f.start {
		return e.last, fitting
	}
	if !f.more && f.end < int(t.blocks[e.last].end) {
		return 0, clashing
	}
	for i := e.first; i != 0; i = t.blocks[i].piece {
		b := &t.blocks[i]
		switch {
		case int(b.end) <= f.start:
			after = i
		case f.end <= int(b.start):
			return after, fitting
		case int(b.start) == f.start && int(b.end) == f.end && t.same(i, f.b):
			return 0, repeated
		default:
			return 0, clashing
		}
	}
	return after, fitting
}

// same compares piece i with b as far as both were captured.
func (t *fragments) same(i int32, b []byte) bool {
	left := min(int(t.blocks[i].captured), len(b))
	for left > 0 {
		n := min(left, blockLen)
		if !bytes.Equal(t.bytes(i)[:n], b[:n]) {
			return false
		}
		b, left, i = b[n:], left-n, t.blocks[i].next
	}
	return true
}

// store copies f into blocks and files it behind the piece after. It reports
// false if there is no room even with all other packets evicted.
func (t *fragments) store(i int32, f *piece, after int32) bool {
	e := &t.entries[i]
	if !t.makeRoom(i, max(1, (len(f.b)+blockLen-1)/blockLen)) {
		if e.first == 0 {
			t.remove(i)
		}
		return false
	}
	first := t.take()
	t.blocks[first] = block{start: uint16(f.start), end: uint16(f.end), captured: uint16(len(f.b))}
	b := f.b[copy(t.bytes(first), f.b):]
	for last := first; len(b) > 0; {
		next := t.take()
		t.blocks[next] = block{}
		t.blocks[last].next = next
		last = next
		b = b[copy(t.bytes(next), b):]
	}

	t.link(e, first, after)
	e.pieces++
	e.have += uint32(f.end - f.start)
	e.ipBytes += f.ipBytes
	if !f.more {
		e.total = uint32(f.end)
	}
	if f.start == 0 {
		e.protocol, e.ttl = f.protocol, f.ttl
	}
	return true
}

// link files the piece first behind the piece after.
func (t *fragments) link(e *entry, first, after int32) {
	if after == 0 {
		t.blocks[first].piece = e.first
		e.first = first
	} else {
		t.blocks[first].piece = t.blocks[after].piece
		t.blocks[after].piece = first
	}
	if e.last == after {
		e.last = first
	}
}

// makeRoom evicts the packets that have waited longest, but not entry keep,
// until n blocks are free. Whoever sends fragments that never become whole
// thus pushes out his own before those that have just begun.
func (t *fragments) makeRoom(keep int32, n int) bool {
	for t.freeBlocks < n {
		i := t.unfinished.oldest
		if i == keep {
			i = t.entries[i].newer
		}
		if i == 0 {
			return false
		}
		t.giveUp(i, &t.evicted)
	}
	return true
}

// expire gives up packets that have waited too long: two at most, twice as many
// as a fragment can open, so that a single wild time stamp cannot clear the
// table.
func (t *fragments) expire(now int64) {
	for range 2 {
		i := t.unfinished.oldest
		if i == 0 || !t.old(i, now) {
			return
		}
		t.giveUp(i, &t.expired)
	}
}

// old reports whether entry i means nothing any more at packet time now. Time
// may step back a little where captures are merged; an entry from far in the
// future was opened by a wild time stamp.
func (t *fragments) old(i int32, now int64) bool {
	e := &t.entries[i]
	limit := int64(fragmentTimeout)
	if e.state == whole {
		limit = repeatWindow
	}
	age := now - e.since
	return age > limit || age < -limit
}

// giveUp removes entry i and counts it if its packet was unfinished.
func (t *fragments) giveUp(i int32, counter *uint64) {
	if t.entries[i].state == waiting {
		*counter++
	}
	t.remove(i)
}

// open makes an entry for the key k.
func (t *fragments) open(k *fragmentKey, bucket uint64, now int64) int32 {
	if t.freeEntry == 0 && int(t.usedEntries) == len(t.entries) {
		if t.finished.oldest != 0 {
			t.remove(t.finished.oldest)
		} else {
			t.giveUp(t.unfinished.oldest, &t.evicted)
		}
	}
	i := t.freeEntry
	if i != 0 {
		t.freeEntry = t.entries[i].chain
	} else {
		i = t.usedEntries
		t.usedEntries++
	}
	t.entries[i] = entry{key: *k, since: now, chain: t.buckets[bucket]}
	t.buckets[bucket] = i
	t.push(&t.unfinished, i)
	t.waiting++
	return i
}

// finish frees the blocks of a waiting entry, but remembers its key.
func (t *fragments) finish(i int32, state entryState, since int64) {
	e := &t.entries[i]
	t.release(e)
	t.unlink(&t.unfinished, i)
	t.waiting--
	e.state, e.since = state, since
	t.push(&t.finished, i)
}

// remove frees entry i and its blocks.
func (t *fragments) remove(i int32) {
	e := &t.entries[i]
	if e.state == waiting {
		t.release(e)
		t.unlink(&t.unfinished, i)
		t.waiting--
	} else {
		t.unlink(&t.finished, i)
	}
	at := &t.buckets[t.bucket(&e.key)]
	for *at != i {
		at = &t.entries[*at].chain
	}
	*at = e.chain
	e.chain = t.freeEntry
	t.freeEntry = i
}

// release frees the blocks of e.
func (t *fragments) release(e *entry) {
	for i := e.first; i != 0; {
		piece := t.blocks[i].piece
		for i != 0 {
			next := t.blocks[i].next
			t.blocks[i].next = t.freeBlock
			t.freeBlock = i
			t.freeBlocks++
			i = next
		}
		i = piece
	}
	e.first, e.last = 0, 0
}

// take takes a free block; there must be one.
func (t *fragments) take() int32 {
	t.freeBlocks--
	i := t.freeBlock
	if i != 0 {
		t.freeBlock = t.blocks[i].next
		return i
	}
	i = t.usedBlocks
	t.usedBlocks++
	return i
}

// bytes returns the memory of block i.
func (t *fragments) bytes(i int32) []byte {
	from := int(i) * blockLen
	return t.data[from : from+blockLen : from+blockLen]
}

// push appends entry i to l.
func (t *fragments) push(l *list, i int32) {
	e := &t.entries[i]
	e.older, e.newer = l.newest, 0
	if l.newest != 0 {
		t.entries[l.newest].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
}

// unlink takes entry i out of l.
func (t *fragments) unlink(l *list, i int32) {
	e := &t.entries[i]
	if e.older != 0 {
		t.entries[e.older].newer = e.newer
	} else {
		l.oldest = e.newer
	}
	if e.newer != 0 {
		t.entries[e.newer].older = e.older
	} else {
		l.newest = e.older
	}
}

// find returns the entry of k, or 0.
func (t *fragments) find(k *fragmentKey, bucket uint64) int32 {
	i := t.buckets[bucket]
	for i != 0 && t.entries[i].key != *k {
		i = t.entries[i].chain
	}
	return i
}

// bucket hashes k.
func (t *fragments) bucket(k *fragmentKey) uint64 {
	h := t.seed
	for _, w := range [...]uint64{
		k.src.Hi, k.src.Lo, k.dst.Hi, k.dst.Lo, k.gateway.Hi, k.gateway.Lo,
		uint64(k.id)<<32 | uint64(k.teid), uint64(k.vlan)<<8 | uint64(k.protocol),
	} {
		hi, lo := bits.Mul64(h^w, 0x9e3779b97f4a7c15)
		h = hi ^ lo
	}
	return h & uint64(len(t.buckets)-1)
}

// fragmentHeader reads an IPv6 fragment header (RFC 8200 section 4.5), of
// which at least extensionLen bytes are there.
func (d *Decoder) fragmentHeader(c *cursor, p *Packet) header {
	b := c.b
	word := binary.BigEndian.Uint16(b[2:4])
	c.skip(extensionLen)
	start, more := int(word&^7), word&1 != 0
	if start == 0 && !more {
		return c.above(b[0], p) // an atomic fragment is whole (RFC 6946)
	}
	return d.fragment(c, p, binary.BigEndian.Uint32(b[4:8]), piece{
		start: start, limit: maxIPLen, more: more, protocol: b[0],
	})
}
