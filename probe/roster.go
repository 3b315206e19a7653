package probe

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/internal/arena"
)

// claims is how many classes a server may have in the roster. A server with
// more is nobody's evidence.
const claims = 4

// fact is one address of one DNS answer, on its way to the roster.
type fact struct {
	server     decode.Addr
	answered   int64
	until      int64 // the answer can name flows up to here, stale included
	subscriber uint32
	class      uint8
	nameLen    uint16
	nameAt     uint32 // into the buffer that travels with the facts
	next       uint32 // in lessons: of the same partition, counted from 1
}

// facts is a list with the bytes of its names.
type facts struct {
	list   []fact
	names  []byte
	newest uint16 // length of the last of the names
	noName bool   // there was no room for it
	// most facts are kept, with nameRoom bytes of names for each; 0 keeps all.
	most int
	// refused counts those beyond.
	refused uint64
}

// nameRoom is for a name of 48 octets in answers of two addresses.
const nameRoom = 24

// newFacts returns an empty list for so many facts.
func newFacts(most int) (facts, error) {
	list, err := arena.Make[fact](most)
	if err != nil {
		return facts{}, err
	}
	names, err := arena.Make[byte](most * nameRoom)
	return facts{list: list[:0], names: names[:0], most: most}, err
}

func (l *facts) reset() { l.list, l.names = l.list[:0], l.names[:0] }

// holds reports whether there is room for so many more.
func (l *facts) holds(facts, names int) bool {
	return l.most == 0 || len(l.list)+facts <= l.most && len(l.names)+names <= l.most*nameRoom
}

// add adds a fact about the name that was kept last, if there is room.
func (l *facts) add(f fact) {
	if l.noName || !l.holds(1, 0) {
		l.refused++
		return
	}
	f.nameAt, f.nameLen = uint32(len(l.names))-uint32(l.newest), l.newest
	l.list = append(l.list, f)
}

// keep keeps a name for the facts that follow.
func (l *facts) keep(name []byte) {
	if l.noName = !l.holds(1, len(name)); l.noName {
		return
	}
	l.names = append(l.names, name...)
	l.newest = uint16(len(name))
}

// take adds what is in o, and empties that.
func (l *facts) take(o *facts) {
	l.copy(o)
	o.reset()
}

// copy adds what is in o.
func (l *facts) copy(o *facts) {
	first, base := len(l.list), uint32(len(l.names))
	l.list = append(l.list, o.list...)
	l.names = append(l.names, o.names...)
	for i := range l.list[first:] {
		l.list[first+i].nameAt += base
	}
}

func (l *facts) name(f *fact) []byte { return l.names[f.nameAt:][:f.nameLen] }

// lessons are the facts that a shard's partitions learn in a step. They lie together,
// because a list of each partition's own would be out of the caches whenever its next
// fact comes. But each partition has its own bounds, and what they have learned is put
// together in their order: neither hangs on the number of shards.
type lessons struct {
	facts
	of   [partitions]lesson
	each int // facts of a partition that are kept, with nameRoom bytes of names for each
}

// lesson is one partition's part.
type lesson struct {
	first, last  uint32 // of its facts, counted from 1
	facts, names uint32 // how many, and bytes
}

// newLessons returns an empty list for so many partitions.
func newLessons(partitions, each int) (lessons, error) {
	list, err := newFacts(partitions * each)
	return lessons{facts: list, each: each}, err
}

// keep keeps a name for the facts of the partition that follow.
func (l *lessons) keep(partition int, name []byte) {
	of := &l.of[partition%partitions]
	if l.noName = int(of.facts) == l.each || int(of.names)+len(name) > l.each*nameRoom; l.noName {
		return
	}
	of.names += uint32(len(name))
	l.facts.keep(name)
}

// add adds a fact about the name that was kept last, if there is room.
func (l *lessons) add(partition int, f fact) {
	of := &l.of[partition%partitions]
	if l.noName || int(of.facts) == l.each {
		l.refused++
		return
	}
	l.facts.add(f)
	at := uint32(len(l.list))
	if of.facts == 0 {
		of.first = at
	} else {
		l.list[of.last-1].next = at
	}
	of.last = at
	of.facts++
}

// takeAll adds what the shards' partitions have learned in a step of that phase, in
// the order of partitions, and empties their lists.
func (l *facts) takeAll(e *Engine, phase int) {
	var base [partitions]uint32
	for i, s := range e.shards {
		base[i] = uint32(len(l.names))
		l.names = append(l.names, s.learned[phase].names...)
	}
	for i, shard := range e.shardOf {
		from := &e.shards[shard].learned[phase]
		for at := from.of[i].first; at != 0; {
			f := from.list[at-1]
			at, f.next = f.next, 0
			f.nameAt += base[shard]
			l.list = append(l.list, f)
		}
	}
	for _, s := range e.shards {
		s.learned[phase].reset()
		s.learned[phase].of = [partitions]lesson{}
	}
}

// roster knows for each server which classes the answers of all subscribers
// give it: the evidence "server". A claim is recent as long as an answer behind
// it could still name a flow of its own subscriber, as valid or stale.
type roster struct {
	entries []rosterEntry // 0 is never used
	// index finds them: a word has the number of an entry below, and above it as
	// many of the upper bits of its server's hash as there is room for, so that a
	// look hardly ever goes to the entry of another server. 0 is nothing.
	index   []uint32
	mask    uint64
	numbers uint32 // the bits of a word that are the number
	used    int
	hand    int
	seed    uint64
	names   *dnsmap.Names
	shared  int    // entries of which several subscribers were told
	sink    uint64 // keeps the compiler from dropping the loads ahead
	// Evicted counts servers that made room for others.
	Evicted uint64
}

// rosterEntry is three lines of the cache. Of a server with one class, which is
// nearly every one, and of one with too many, all that is asked is in the first.
type rosterEntry struct {
	server decode.Addr
	mixed  int64         // up to here more classes than claims were recent
	class  [claims]uint8 // of the claims, 0: no claim, and none behind it
	recent bool          // answered since the hand passed
	shared bool          // several subscribers were told of it
	claim  [claims]claim
	_      [32]byte // or every other entry would begin in the middle of a line
}

type claim struct {
	first, newest int64 // of its unbroken run of answers
	until         int64
	name          dnsmap.NameID // of the newest answer
	subscriber    uint32        // who asked, 0 for several
}

const rosterCost = int64(unsafe.Sizeof(rosterEntry{})) + 8 + nameCost

func newRoster(servers int, seed uint64) (*roster, error) {
	names, err := dnsmap.NewNames(dnsmap.NamesConfig{Bytes: uint64(servers) * nameCost, Seed: seed})
	if err != nil {
		return nil, err
	}
	entries, err := arena.Make[rosterEntry](servers + 1)
	if err != nil {
		return nil, err
	}
	index, err := arena.MakeDense[uint32](firstSlots)
	if err != nil {
		return nil, err
	}
	return &roster{
		entries: entries, index: index, mask: firstSlots - 1, numbers: 1<<bits.Len(uint(servers)) - 1,
		used: 1, hand: 1, seed: seed, names: names,
	}, nil
}

func (r *roster) hash(server decode.Addr) uint64 { return fingerprint(r.seed, server) }

// tagged reports whether the word has the tag of the hash: it is most likely that
// of the same server.
func (r *roster) tagged(word uint32, hash uint64) bool {
	return (word^uint32(hash>>32))&^r.numbers == 0
}

// find returns the server's entry, 0 if it has none, and where its word stands in
// the index, or would.
func (r *roster) find(server decode.Addr, hash uint64) (e uint32, at uint64) {
	for at = hash & r.mask; ; at = (at + 1) & r.mask {
		word := r.index[at]
		if word == 0 {
			return 0, at
		}
		if e = word & r.numbers; r.tagged(word, hash) && r.entries[e].server == server {
			return e, at
		}
	}
}

// place puts the word of the entry e into the index, at a place that find gave.
func (r *roster) place(e uint32, hash, at uint64) {
	r.index[at] = uint32(hash>>32)&^r.numbers | e
}

// learn adds the facts, in their order, a group of them at a time: what is read
// for all of a group is loaded first, so that the waits overlap.
func (r *roster) learn(l *facts) {
	var hashes [group]uint64
	for list := l.list; len(list) > 0; {
		n := min(len(list), group)
		r.touch(list[:n], &hashes)
		for i := range list[:n] {
			r.add(&list[i], hashes[i%group], l.name(&list[i]))
		}
		list = list[n:]
	}
}

// touch hashes the servers of the facts, at most a group of them, and loads what
// add reads of nearly each.
func (r *roster) touch(list []fact, hashes *[group]uint64) {
	var words [group]uint32
	for i := range list {
		hash := r.hash(list[i].server)
		hashes[i%group], words[i%group] = hash, r.index[hash&r.mask]
	}
	sink := uint64(0)
	for i, word := range words[:len(list)] {
		e := word & r.numbers
		if !r.tagged(word, hashes[i]) {
			e = 0 // of which there is nothing to wait for
		}
		sink += r.entries[e].server.Lo
	}
	r.sink = sink
}

func (r *roster) add(f *fact, hash uint64, name []byte) {
	e := r.entry(f.server, hash, f.answered)
	if e.add(r.names, f, name) && !e.shared {
		e.shared = true
		r.shared++
	}
}

func (r *roster) entry(server decode.Addr, hash uint64, now int64) *rosterEntry {
	n, at := r.find(server, hash)
	if n == 0 {
		n = r.enter(server, hash, at, now)
	}
	e := &r.entries[n]
	if !e.recent {
		e.recent = true
	}
	return e
}

// enter gives the server, which has no entry yet, one. Its word would stand at that
// place in the index.
func (r *roster) enter(server decode.Addr, hash, at uint64, now int64) uint32 {
	e := uint32(r.used)
	if r.used == len(r.entries) {
		e = r.evict(now)
		_, at = r.find(server, hash)
	} else if r.used++; 2*r.used > len(r.index) && r.grow() {
		_, at = r.find(server, hash)
	}
	r.entries[e].server = server
	r.place(e, hash, at)
	return e
}

// grow doubles the index. Where memory for that is refused, the index stays at
// a higher load; refused for long it fills up, and the entries with it.
func (r *roster) grow() bool {
	next, err := arena.MakeDense[uint32](2 * len(r.index))
	if err != nil {
		return false
	}
	old := r.index
	r.index, r.mask = next, uint64(len(next)-1)
	for _, word := range old {
		if word != 0 {
			e := word & r.numbers
			server := r.entries[e].server
			hash := r.hash(server)
			_, at := r.find(server, hash)
			r.place(e, hash, at)
		}
	}
	_ = arena.Free(old) // what cannot be given back stays reserved, no more
	return true
}

// mostSpared bounds how many servers one eviction passes over because several
// subscribers were told of them.
const mostSpared = 1024

// evict takes an entry that has not been used for a turn of the hand. A server
// that only one subscriber was told of helps nobody yet: such go first, unless
// they are less than a quarter, so that a flood of random answers pushes out
// itself.
func (r *roster) evict(now int64) uint32 {
	crowded := r.shared > len(r.entries)/4*3
	spared := 0
	for {
		e := &r.entries[r.hand]
		at := uint32(r.hand)
		if r.hand++; r.hand == len(r.entries) {
			r.hand = 1
		}
		if e.shared && !crowded && spared < mostSpared && e.lasts(now) {
			spared++
			continue
		}
		if e.recent {
			e.recent = false
			continue
		}
		_, hole := r.find(e.server, r.hash(e.server))
		r.unplace(hole)
		for i := range e.claim {
			r.names.Release(e.claim[i].name)
		}
		if e.shared {
			r.shared--
		}
		*e = rosterEntry{}
		r.Evicted++
		return at
	}
}

// lasts reports whether what is known of the server may still name a flow.
func (e *rosterEntry) lasts(now int64) bool {
	for i := range e.claim {
		if e.class[i] != 0 && e.claim[i].until >= now {
			return true
		}
	}
	return false
}

func (r *roster) unplace(hole uint64) {
	for at := (hole + 1) & r.mask; ; at = (at + 1) & r.mask {
		word := r.index[at]
		if word == 0 {
			r.index[hole] = 0
			return
		}
		home := r.hash(r.entries[word&r.numbers].server) & r.mask
		if (at-home)&r.mask >= (at-hole)&r.mask {
			r.index[hole] = word
			hole = at
		}
	}
}

// add counts one answer for the entry, and reports whether several subscribers were
// told the same.
func (e *rosterEntry) add(names *dnsmap.Names, f *fact, name []byte) (several bool) {
	i := e.claimOf(f.class)
	if i == claims {
		if i = e.freeClaim(f.answered); i == claims {
			e.mixed = max(e.mixed, f.until)
			return false
		}
	}
	c := &e.claim[i%claims]
	if e.class[i%claims] != f.class || c.until < f.answered {
		names.Release(c.name)
		e.class[i%claims] = f.class
		*c = claim{first: f.answered, newest: f.answered - 1, subscriber: f.subscriber}
	}
	if c.subscriber != f.subscriber {
		c.subscriber = 0
	}
	c.first = min(c.first, f.answered)
	c.until = max(c.until, f.until)
	if f.answered > c.newest {
		c.newest = f.answered
		if c.name == 0 || !names.Is(c.name, name) {
			names.Release(c.name)
			c.name, _ = names.Intern(name)
		}
	}
	return c.subscriber == 0
}

// claimOf returns which of the claims the class has, or claims. All four classes are
// compared at once, each in its byte: which it is, is chance.
func (e *rosterEntry) claimOf(class uint8) int {
	const ones, tops = 0x01010101, 0x80808080
	differ := binary.LittleEndian.Uint32(e.class[:]) ^ uint32(class)*ones
	zero := (differ - ones) &^ differ & tops // the lowest bit stands in the first byte that is 0
	return bits.TrailingZeros32(zero) / 8
}

// freeClaim returns the first of the claims that is none, or not recent any more, or
// claims.
func (e *rosterEntry) freeClaim(now int64) int {
	for i := range e.claim {
		if e.class[i] == 0 || e.claim[i].until < now {
			return i
		}
	}
	return claims
}

// lookup appends to dst the name that other subscribers' recent answers, as of
// time at, give the server, if all of them agree on one class; nil where there are
// more classes than claims, which no answer to come will change. It changes nothing, so
// that all shards may look at once.
func (r *roster) lookup(dst []byte, server decode.Addr, at int64, subscriber uint32) []byte {
	n, _ := r.find(server, r.hash(server))
	e := &r.entries[n] // 0 has no claims
	if at <= e.mixed {
		return nil
	}
	var found *claim
	for i := range e.claim {
		if e.class[i] == 0 {
			break
		}
		c := &e.claim[i]
		if c.subscriber == subscriber || at < c.first || at > c.until {
			continue
		}
		if found != nil {
			return dst
		}
		found = c
	}
	if found == nil {
		return dst
	}
	return r.names.Append(dst, found.name)
}
