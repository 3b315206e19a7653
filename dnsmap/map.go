package dnsmap

import (
	"math"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// Key says who was told to go where.
type Key struct {
	// Subscriber is the low half of an IPv4 address in mapped form, or the
	// /64 of an IPv6 address (decode.Addr.Prefix).
	Subscriber uint64

	// Server is an address that the answer holds.
	Server Addr

	// Scope tells apart subscribers with the same address: another network,
	// or another owner of the address. A caller that learns of a new owner
	// changes the scope, and what the former one asked is out of reach.
	Scope uint32
}

// State says how good the evidence that At gives is.
type State uint8

// States.
const (
	None  State = iota // no answer, or one gone or not yet given
	Valid              // within TTL + grace of the answer, the bound included
	Stale              // past that by no more than the stale period, the bound included
)

// Config shapes a Map. Durations are nanoseconds.
type Config struct {
	Entries int   // cap; at least 1
	Grace   int64 // added to every TTL
	Stale   int64 // how long past TTL + grace an answer is still stale evidence

	// Seed of the hash. Taken at random it keeps an attacker from choosing
	// addresses that collide; it has no influence on results.
	Seed uint64
}

// Stats is what a Map counts. All but Entries and LastEvictedAge only grow.
type Stats struct {
	Lookups   uint64 // calls of At
	Hits      uint64 // those that gave Valid or Stale
	Entries   int    // held now, gone ones not yet swept up included
	Inserts   uint64 // calls of Insert
	Replaced  uint64 // inserts that met an entry of their key and renewed it
	Late      uint64 // inserts older than what their key already held
	Evictions uint64 // entries given up for want of room
	Refused   uint64 // answers not taken in, because nothing was found to give up for them
	Expired   uint64 // entries reclaimed after their stale period

	// LastEvictedAge is the age in nanoseconds, since its answer, of the
	// entry evicted last: how far back the map reaches. 0 before the first.
	LastEvictedAge int64
}

// Map remembers which name each subscriber was last told for a server.
//
// At its cap an entry costs 41.2 bytes: the record of 32 and 9.2 for its slot in
// the index, which is full to 7/8. Below the cap the index is between 7/16 and
// 7/8 full. Both are committed as they are first touched, so that a cap of
// 50 M entries over all partitions is 2.1 GB when full and little until then.
//
// A full map gives up what nobody has asked for first. An entry is proven once
// a flow looked it up or a second answer confirmed it; as long as others take a
// quarter of the map, a flood of answers that no connection follows pushes out
// itself and leaves the proven ones alone.
type Map struct {
	// What a look-up needs comes first, in two cache lines: there is a Map a
	// partition, and those who use it come by seldom.
	names   *Names
	seeds   *seeds
	entries []entry // entry 0 is never used
	index   index
	grace   uint64
	stale   uint64
	stats   Stats
	top     uint32   // entries from here on were never used
	free    uint32   // first of the freed entries, linked by check
	sweep   uint32   // where Sweep goes on
	hand    uint32   // where eviction goes on
	proven  int      // entries in use that are proven
	_       [48]byte // so that it begins where a line does
}

// entry is 32 bytes with no gap, two in a cache line:
//
//	12  96 bits of hash that stand for the key, of which 32 are the tag in the index
//	 8  answered: nanoseconds, because a flow starts milliseconds after its answer
//	 4  name (31 bits) and whether the entry is proven (1 bit)
//	 4  TTL (31 bits) and whether the entry was used since the hand passed (1 bit)
//	 4  back
//
// The key whole would be 28 bytes. A look-up meets the hash of a key that is not
// its own with a probability of 2^-96 for each entry of the map: at a million
// look-ups a second, in a map of a million entries, once in 2.5 billion years.
// The hash is seeded, so that nobody who does not know the seed can do better.
type entry struct {
	hash     uint64
	answered int64
	check    uint32 // of a free entry: the next free one
	name     NameID // 0: free
	ttl      uint32

	// back is how many nanoseconds before answered the same name was first
	// answered, with no gap in its validity. A tap delivers answers twice,
	// and flows are judged as of their first packet: one that starts
	// between the two copies must find its answer. 32 bits reach 4.29 s.
	back uint32
}

const (
	// hugeEntries fill a huge page: a map that holds so many asks for them.
	hugeEntries = arena.HugePage / unsafe.Sizeof(entry{})

	used    = 1 << 31 // in entry.ttl
	ttlMask = used - 1
	proven  = 1 << 31 // in entry.name; Names gives out no such ID

	// sweepWhenFull and maxPasses bound what one insert into a full map may
	// cost: entries looked at for a gone one, then, 4 KiB in a row, for one
	// to give up.
	sweepWhenFull = 8
	maxPasses     = 128

	// provenNum of provenDen is the share of a full map that proven entries may take
	// before they too have to go.
	provenNum, provenDen = 3, 4

	// maxPeriod keeps sums of three durations within 64 bits: 36 years.
	maxPeriod = 1 << 60

	second = 1_000_000_000
)

// New reserves a Map whose names are in names. Errors come from the system
// refusing the address space.
func New(cfg Config, names *Names) (*Map, error) {
	n := min(max(cfg.Entries, 1), math.MaxInt32-1)
	entries, err := arena.Make[entry](n + 1)
	if err != nil {
		return nil, err
	}
	x, err := newIndex(n)
	if err != nil {
		_ = arena.Free(entries) // the first error says more
		return nil, err
	}
	return &Map{
		names:   names,
		entries: entries,
		index:   x,
		seeds:   newSeeds(cfg.Seed),
		grace:   period(cfg.Grace),
		stale:   period(cfg.Stale),
		top:     1,
		sweep:   1,
		hand:    1,
	}, nil
}

func period(d int64) uint64 { return uint64(min(max(d, 0), maxPeriod)) }

// Close gives the memory back. No method may be called after it. References to
// names are not released: Names is closed with the Map.
func (m *Map) Close() error {
	entries := m.entries
	m.entries = nil
	err := m.index.close()
	if e := arena.Free(entries); e != nil {
		return e
	}
	return err
}

// Stats returns the counters.
func (m *Map) Stats() Stats { return m.stats }

// Len returns how many entries are held, gone ones not yet swept up included.
func (m *Map) Len() int { return m.stats.Entries }

// Hash returns the hash of k, for all that take one.
func (m *Map) Hash(k Key) uint64 { return m.seeds.key(k) }

// Touch brings what look-ups and inserts of these hashes will read into the
// cache. Called with those of a batch ahead of the first, it lets their cache
// misses overlap: a pass loads one thing for all keys, and the loads that miss
// wait for no branch. It looks at the first MaxTouch hashes. The caller puts the
// result, which means nothing, where the compiler cannot tell that nobody reads it.
func (m *Map) Touch(hashes []uint64) (sum uint64) {
	var records [MaxTouch]uint32
	hashes = hashes[:min(len(hashes), MaxTouch)]
	for _, h := range hashes {
		sum += m.Expect(h)
	}
	for i, h := range hashes {
		records[i] = m.index.first(uint32(h >> 32))
	}
	for _, r := range records[:len(hashes)] {
		e := &m.entries[r]
		sum += e.hash
	}
	return sum
}

// Expect brings the place in the index where a look-up or an insert of that hash
// begins into the cache: for one key, while there is something else to do. The
// result is as that of Touch.
func (m *Map) Expect(hash uint64) uint64 { return m.index.slots[m.index.home(uint32(hash>>32))] }

// MaxTouch is the largest batch that Touch takes: beyond some 32 keys the first
// ones may have left the cache again before they are used.
const MaxTouch = 32

// Insert is InsertHash for a caller with no use for the hash.
func (m *Map) Insert(k Key, name NameID, now int64, ttl uint32) {
	m.InsertHash(k, m.Hash(k), name, now, ttl)
}

// InsertHash notes an answer: from packet time now, k's server is name, for ttl
// seconds and the grace. hash must be Hash(k). The map takes a reference of its
// own to name.
//
// It replaces what k had, unless that was answered later than now: an answer
// that comes late is counted and dropped. A ttl above 2^31-1 is 0 (RFC 2181
// section 8). Name 0, an answer whose name could not be interned, only ends
// what k had: better no name than a superseded one.
func (m *Map) InsertHash(k Key, hash uint64, name NameID, now int64, ttl uint32) {
	m.stats.Inserts++
	if ttl > maxTTL {
		ttl = 0
	}
	if r := m.find(k, hash); r != 0 {
		m.renew(r, name, now, ttl)
		return
	}
	if name == 0 {
		return
	}
	m.names.Retain(name)
	if !m.makeRoom(now) {
		m.names.Release(name)
		m.stats.Refused++
		return
	}
	r := m.take()
	m.entries[r] = entry{hash: hash, answered: now, check: m.seeds.check(k), name: name, ttl: ttl}
	m.index.add(uint32(hash>>32), r)
	m.stats.Entries++
}

// renew applies an answer to the entry r.
func (m *Map) renew(r uint32, name NameID, now int64, ttl uint32) {
	e := &m.entries[r]
	if now < e.answered {
		m.stats.Late++
		if name == e.id() {
			m.reachBack(e, now, ttl)
		}
		return
	}
	m.stats.Replaced++
	if name == 0 {
		m.forget(r)
		return
	}
	m.prove(e)
	back := uint32(0)
	if name == e.id() {
		back = m.backTo(e, now)
	} else {
		m.names.Retain(name)
		m.names.Release(e.id())
		e.name = name | proven
	}
	e.answered = now
	e.ttl = ttl | used
	e.back = back
}

// id is the entry's name.
func (e *entry) id() NameID { return e.name &^ proven }

// prove notes that the entry is not one of those that nothing ever follows.
func (m *Map) prove(e *entry) {
	if e.name&proven == 0 {
		e.name |= proven
		m.proven++
	}
}

// backTo returns the back of e once it is answered again, with the same name,
// at now: to its first answer if that is near enough, else to its last.
func (m *Map) backTo(e *entry, now int64) uint32 {
	age := uint64(now) - uint64(e.answered)
	if age > m.validity(e) {
		return 0
	}
	if age <= math.MaxUint32-uint64(e.back) {
		return uint32(age) + e.back
	}
	if age <= math.MaxUint32 {
		return uint32(age)
	}
	return 0
}

// reachBack notes that e's name was answered before, at then for ttl seconds,
// if that joins up with what e knows.
func (m *Map) reachBack(e *entry, then int64, ttl uint32) {
	ago := uint64(e.answered) - uint64(then)
	if ago > math.MaxUint32 || ago <= uint64(e.back) {
		return
	}
	if ago-uint64(e.back) > uint64(ttl)*second+m.grace {
		return
	}
	e.back = uint32(ago)
}

// EntryID stands for what a Map holds of a key, until its next Insert, Sweep or
// Relieve. 0 is nothing.
type EntryID uint32

// FindHash returns what the map holds of k. hash must be Hash(k).
func (m *Map) FindHash(k Key, hash uint64) EntryID {
	return EntryID(m.find(k, hash))
}

// At returns the name that the entry's server had as of packet time at, and the
// packet time of the answer that says so.
//
// An answer later than at says nothing about it, and the one it replaced is
// forgotten, unless it gave the same name: that is None. The caller that keeps
// the name beyond its next Insert or Sweep retains it.
func (m *Map) At(id EntryID, at int64) (name NameID, answered int64, state State) {
	m.stats.Lookups++
	if id == 0 {
		return 0, 0, None
	}
	e := &m.entries[id]
	answered, state = m.judge(e, at)
	if state == None {
		return 0, 0, None
	}
	m.stats.Hits++
	if e.ttl&used == 0 {
		e.ttl |= used
		m.prove(e)
	}
	return e.id(), answered, state
}

// judge returns what e says as of at, and the time of the answer.
func (m *Map) judge(e *entry, at int64) (int64, State) {
	if at < e.answered {
		if uint64(e.answered)-uint64(at) <= uint64(e.back) {
			return e.answered - int64(e.back), Valid
		}
		return 0, None
	}
	age := uint64(at) - uint64(e.answered)
	valid := m.validity(e)
	switch {
	case age <= valid:
		return e.answered, Valid
	case age <= valid+m.stale:
		return e.answered, Stale
	}
	return 0, None
}

// validity is how long e is valid after its answer.
func (m *Map) validity(e *entry) uint64 { return uint64(e.ttl&ttlMask)*second + m.grace }

// gone reports whether e is past its stale period.
func (m *Map) gone(e *entry, now int64) bool {
	return now > e.answered && uint64(now)-uint64(e.answered) > m.validity(e)+m.stale
}

// find returns the entry of k, whose hash is given, 0 if there is none.
func (m *Map) find(k Key, hash uint64) uint32 {
	r := m.index.first(uint32(hash >> 32))
	if r == 0 {
		return 0
	}
	if e := &m.entries[r]; e.hash == hash && e.check == m.seeds.check(k) {
		return r
	}
	return m.findAlike(k, hash)
}

// findAlike is find where another key has the same tag.
//
//go:noinline
func (m *Map) findAlike(k Key, hash uint64) uint32 {
	tag, check := uint32(hash>>32), m.seeds.check(k)
	pos, dist := m.index.home(tag), 0
	for {
		r, at, d := m.index.seek(tag, pos, dist)
		if r == 0 {
			return 0
		}
		if e := &m.entries[r]; e.hash == hash && e.check == check {
			return r
		}
		pos, dist = m.index.next(at), d+1
	}
}

// Sweep looks at up to budget entries, from where it last stopped, reclaims
// those gone as of now, and returns how many. Called regularly, it keeps room
// for new answers and lets names go; what it has not reached yet is never
// given by At either.
func (m *Map) Sweep(now int64, budget int) (reclaimed int) {
	for range min(budget, int(m.top)-1) {
		if m.sweep >= m.top {
			m.sweep = 1
		}
		r := m.sweep
		m.sweep++
		e := &m.entries[r]
		if e.name == 0 || !m.gone(e, now) {
			continue
		}
		m.forget(r)
		m.stats.Expired++
		reclaimed++
	}
	return reclaimed
}

// makeRoom makes sure that there is a free entry, and room for it in the index.
// It reports whether that was possible.
func (m *Map) makeRoom(now int64) bool {
	if m.free == 0 && int(m.top) == len(m.entries) || !m.index.room() {
		return m.Sweep(now, sweepWhenFull) > 0 || m.evict(now)
	}
	return true
}

// evict gives up an entry, and reports whether it found one to give up. Since
// entries are laid down in the order of their answers, the hand meets the oldest
// first. It passes over proven entries, unless those have more than their share:
// then the first goes that was not used since the hand was last there (the CLOCK
// rule, an approximation of least recently used that costs one bit).
func (m *Map) evict(now int64) bool {
	crowded := m.proven > m.stats.Entries/provenDen*provenNum
	for pass := 1; pass <= maxPasses; pass++ {
		r := m.turn()
		e := &m.entries[r]
		switch {
		case e.name == 0:
		case e.name&proven == 0:
			m.give(r, now)
			return true
		case crowded && (e.ttl&used == 0 || pass == maxPasses):
			m.give(r, now)
			return true
		case crowded:
			e.ttl &^= used
		}
	}
	return false
}

// turn moves the hand on by one, and returns where it was.
func (m *Map) turn() uint32 {
	if m.hand >= m.top {
		m.hand = 1
	}
	m.hand++
	return m.hand - 1
}

// give gives the entry r up.
func (m *Map) give(r uint32, now int64) {
	m.stats.Evictions++
	m.stats.LastEvictedAge = max(now-m.entries[r].answered, 0)
	m.forget(r)
}

// Relieve gives up the oldest entry that is not proven, for the sake of the
// name that it holds, and reports whether it found one among the next few.
func (m *Map) Relieve(now int64) bool {
	for range min(maxPasses, int(m.top)-1) {
		r := m.turn()
		if e := &m.entries[r]; e.name != 0 && e.name&proven == 0 {
			m.give(r, now)
			return true
		}
	}
	return false
}

// forget frees the entry r.
func (m *Map) forget(r uint32) {
	e := &m.entries[r]
	m.index.remove(m.index.find(uint32(e.hash>>32), r))
	m.names.Release(e.id())
	if e.name&proven != 0 {
		m.proven--
	}
	*e = entry{check: m.free}
	m.free = r
	m.stats.Entries--
}

func (m *Map) take() uint32 {
	r := m.free
	if r != 0 {
		m.free = m.entries[r].check
		return r
	}
	r = m.top
	m.top++
	if m.top == uint32(hugeEntries) {
		arena.AdviseHuge(m.entries)
	}
	return r
}
