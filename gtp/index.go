package gtp

import (
	"math/bits"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// key of an endpoint: the address of its node, and the TEID or SEID.
type key struct{ hi, lo, id uint64 }

// word is a narrow key: an IPv4 node and a 32-bit identifier, as nearly all are.
// Other keys are wide and take a place more in the table. 240.0.0.0/4, which no
// node has (RFC 1112 section 4), is what tells the two apart in an entry.
const wide = 0xf << 28

func narrow(a Addr) bool { return a.Hi == 0 && a.Lo-v4Prefix < wide }

func (k key) word() (word uint64, ok bool) {
	return k.lo<<32 | k.id, narrow(Addr{k.hi, k.lo}) && k.id>>32 == 0
}

// entry says which session an endpoint belongs to. Entries fill their memory from
// its beginning and never move: 24 bytes each and 4 of the chains' heads, and of
// a wide key 24 more.
type entry struct {
	// word is a narrow key. Of a wide one it has the lower half of the
	// identifier, and above that the place of the rest, marked wide.
	word    uint64
	session uint32
	chain   uint32 // next of its hash chain, or of the free places
	own     uint32 // next older one of its session
	slot    slot
	bearer  uint8
	dir     Direction
	flags   uint8
}

// Flags of an entry.
const (
	flagUsed      = 1 << iota // a G-PDU went by since the last sweep
	flagTentative             // asked for and not answered yet
	flagOld                   // replaced, resolves for a little longer
	flagMark                  // about to be replaced by the message at hand
)

// rest is the place of the rest of a wide key, 0 where the key is narrow.
func (e *entry) rest() uint32 {
	if e.word < wide<<32 {
		return 0
	}
	return uint32(e.word>>32) &^ wide
}

// restOf is what an entry has no room for, as an entry that belongs to no session.
func restOf(k key) entry {
	id := uint32(k.id >> 32)
	return entry{
		word: k.hi, chain: uint32(k.lo >> 32), own: uint32(k.lo),
		slot: slot(id), bearer: uint8(id >> 8), dir: Direction(id >> 16), flags: uint8(id >> 24),
	}
}

// keyOf returns the key that restOf took apart. id is its identifier's lower half.
func (e *entry) keyOf(id uint32) key {
	high := uint32(e.slot) | uint32(e.bearer)<<8 | uint32(e.dir)<<16 | uint32(e.flags)<<24
	return key{e.word, uint64(e.chain)<<32 | uint64(e.own), uint64(high)<<32 | uint64(id)}
}

// index finds sessions by their endpoints, and a session's endpoints. A key may
// stand in it several times. A place, which is an entry's number, stays good
// until the entry is deleted.
type index struct {
	entries []entry  // from 1
	heads   []uint32 // by session: its newest entry, 0 for none
	counts  []uint8  // by session
	chains  buckets
	seed    [3]uint64
	n, max  int
	used    uint32 // places ever used
	free    uint32 // head of those that are free again
	vacant  int
}

const entryBytes = int64(unsafe.Sizeof(entry{}))

// indexBytes is the memory of an index in full use.
func indexBytes(entries, sessions int) int64 {
	return int64(entries+2)*entryBytes + bucketBytes(entries) + int64(sessions+1)*5
}

func (x *index) init(entries, sessions int, seed uint64) (err error) {
	x.max = entries
	x.vacant = entries + 1 // so that the last one may be wide
	for i := range x.seed {
		seed += 0x9e3779b97f4a7c15 // splitmix64: one seed gives three
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		x.seed[i] = z ^ z>>31 | 1
	}
	if x.entries, err = arena.Make[entry](entries + 2); err != nil {
		return err
	}
	if x.heads, err = arena.Make[uint32](sessions + 1); err != nil {
		return err
	}
	if x.counts, err = arena.Make[uint8](sessions + 1); err != nil {
		return err
	}
	return x.chains.init(entries)
}

func (x *index) close() {
	_ = arena.Free(x.entries)
	_ = arena.Free(x.heads)
	_ = arena.Free(x.counts)
	x.chains.close()
	*x = index{}
}

// hash of a key. The seed is secret to whoever sends the TEIDs: keys cannot be
// made to pile up.
func (x *index) hash(k key) uint32 {
	word, ok := k.word()
	if !ok {
		h, l := bits.Mul64(k.lo^x.seed[1], k.hi^x.seed[2])
		h, l = bits.Mul64(h^l^k.id, x.seed[2])
		word = h ^ l
	}
	return x.hashWord(word)
}

func (x *index) hashWord(word uint64) uint32 {
	h, l := bits.Mul64(word^x.seed[0], x.seed[1])
	return uint32(h ^ l)
}

// findWord returns the place of the first entry for a narrow key, 0 for none.
func (x *index) findWord(word uint64) uint32 { return x.searchWord(x.head(word), word) }

// touchWord loads what findWord will read first.
func (x *index) touchWord(word uint64) uint64 { return x.entries[x.head(word)].word }

func (x *index) head(word uint64) uint32 { return x.chains.heads[x.chains.of(x.hashWord(word))] }

// find returns the place of k's first entry, or -1.
func (x *index) find(k key) int { return x.search(x.chains.heads[x.chains.of(x.hash(k))], k) }

// next returns the place of k's next entry behind i, or -1.
func (x *index) next(i int, k key) int { return x.search(x.entries[i].chain, k) }

func (x *index) search(at uint32, k key) int {
	if word, ok := k.word(); ok {
		return placeOf(x.searchWord(at, word))
	}
	for at != 0 && x.key(int(at)) != k {
		at = x.entries[at].chain
	}
	return placeOf(at)
}

func (x *index) searchWord(at uint32, word uint64) uint32 {
	for at != 0 {
		e := &x.entries[at]
		if e.word == word {
			break
		}
		at = e.chain
	}
	return at
}

// key of the entry at i.
func (x *index) key(i int) key {
	e := &x.entries[i]
	if rest := e.rest(); rest != 0 {
		return x.entries[rest].keyOf(uint32(e.word))
	}
	return key{0, v4Prefix | e.word>>32, e.word & (1<<32 - 1)}
}

// findOf returns the place of session's entry for k, or -1.
func (x *index) findOf(k key, session uint32) int {
	i := x.find(k)
	for i >= 0 && x.entries[i].session != session {
		i = x.next(i, k)
	}
	return i
}

func (x *index) full() bool { return x.n >= x.max || x.vacant < 2 }

// insert adds an entry behind those of the same key. The index must not be full.
func (x *index) insert(k key, session uint32) *entry {
	at := x.take()
	e := &x.entries[at]
	word, ok := k.word()
	if !ok {
		rest := x.take()
		x.entries[rest] = restOf(k)
		word = uint64(wide|rest)<<32 | uint64(uint32(k.id))
	}
	*e = entry{word: word, session: session, own: x.heads[session]}
	x.append(x.chains.of(x.hash(k)), at)
	x.heads[session] = at
	x.counts[session]++
	if x.n++; x.chains.short(x.n) {
		x.split()
	}
	return e
}

func (x *index) take() uint32 {
	x.vacant--
	if at := x.free; at != 0 {
		x.free = x.entries[at].chain
		return at
	}
	if x.used++; x.used == hugeFrom {
		arena.AdviseHuge(x.entries)
	}
	return x.used
}

func (x *index) give(at uint32) {
	x.entries[at] = entry{chain: x.free}
	x.free = at
	x.vacant++
}

func (x *index) append(chain, place uint32) {
	at := &x.chains.heads[chain]
	for *at != 0 {
		at = &x.entries[*at].chain
	}
	*at, x.entries[place].chain = place, 0
}

func (x *index) split() {
	old, added := x.chains.grow()
	for at := &x.chains.heads[old]; *at != 0; {
		place := *at
		if x.chains.of(x.hash(x.key(int(place)))) != added {
			at = &x.entries[place].chain
			continue
		}
		*at = x.entries[place].chain
		x.append(added, place)
	}
}

// delete removes the entry at i.
func (x *index) delete(i int) {
	place := uint32(i)
	e := &x.entries[i]
	at := &x.chains.heads[x.chains.of(x.hash(x.key(i)))]
	for *at != place {
		at = &x.entries[*at].chain
	}
	*at = e.chain
	at = &x.heads[e.session]
	for *at != place {
		at = &x.entries[*at].own
	}
	*at = e.own
	x.counts[e.session]--
	x.n--
	if rest := e.rest(); rest != 0 {
		x.give(rest)
	}
	x.give(place)
}

// first returns the place of session's newest entry, or -1; older returns that
// of the next older one.
func (x *index) first(session uint32) int { return placeOf(x.heads[session]) }
func (x *index) older(i int) int          { return placeOf(x.entries[i].own) }

func placeOf(link uint32) int {
	if link == 0 {
		return -1
	}
	return int(link)
}

// oldest returns the place of session's oldest entry, or -1.
func (x *index) oldest(session uint32) int {
	last := -1
	for i := x.first(session); i >= 0; i = x.older(i) {
		last = i
	}
	return last
}

func (x *index) deleteAll(session uint32) {
	for x.heads[session] != 0 {
		x.delete(int(x.heads[session]))
	}
}

// giveAll makes all entries of one session another's, as its newest.
func (x *index) giveAll(from, to uint32) {
	last := -1
	for i := x.first(from); i >= 0; i = x.older(i) {
		x.entries[i].session = to
		last = i
	}
	if last < 0 {
		return
	}
	x.entries[last].own = x.heads[to]
	x.heads[to] = x.heads[from]
	x.counts[to] += x.counts[from]
	x.heads[from], x.counts[from] = 0, 0
}
