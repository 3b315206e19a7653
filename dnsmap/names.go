package dnsmap

import (
	"math"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// NameID stands for an interned name. 0 is no name. An ID is valid while a
// reference to it is held; after that it may be given to another name.
type NameID uint32

// Names holds each name once, however many entries and flows carry it, for as
// long as one of them does.
//
// A name lives in records of 64 bytes: the first takes 42 characters, which is
// nearly every name in one cache line, and a longer one goes on in further
// records of the same size. All records being alike, a freed one fits any name
// that comes after: no mix of names can break the memory up, and a flood of
// random names leaves nothing behind.
//
// A name costs 64 bytes up to 42 characters, and its share of the index, 9.2
// bytes at the cap; memory is committed as it is first needed.
type Names struct {
	// What interning a known name needs comes first, in one cache line: there is a
	// Names a partition, and those who use it come by seldom.
	seeds   *seeds
	records []nameRecord // record 0 is never used
	index   index
	top     uint32 // records from here on were never used
	free    uint32 // first of the freed records, linked by next
	names   int
	inUse   int // records
	refused uint64
	scratch *[MaxName]byte // a long name, put together by Bytes
	_       [8]byte        // so that it begins where a line does
}

type nameRecord struct {
	class uint64 // the user's word
	refs  uint32 // 0: not the first record of a name
	tag   uint32 // its tag in the index, to find the slot at removal
	next  uint32 // further record of a long name; next free record
	size  uint16 // of the whole name
	text  [textLen]byte
}

const (
	textLen        = 42
	nameRecordSize = uint64(unsafe.Sizeof(nameRecord{}))
	nameCost       = nameRecordSize + 10 // with its share of the index
)

// NamesConfig limits a Names.
type NamesConfig struct {
	// Bytes is the most memory that names and their index may take. At
	// least one longest name always fits.
	Bytes uint64

	// Seed of the index's hash. Taken at random it keeps an attacker from
	// choosing names that collide; it has no influence on results.
	Seed uint64
}

// NamesStats is what a Names counts.
type NamesStats struct {
	Names   int    // held now
	Bytes   uint64 // taken by their text now, without the index
	Refused uint64 // names not interned because the table was full
}

// NewNames reserves the table. Errors come from the system refusing the
// address space.
func NewNames(cfg NamesConfig) (*Names, error) {
	n := min(max(cfg.Bytes/nameCost, (MaxName+textLen-1)/textLen), math.MaxUint32/2)
	records, err := arena.Make[nameRecord](int(n) + 1)
	if err != nil {
		return nil, err
	}
	x, err := newIndex(int(n))
	if err != nil {
		_ = arena.Free(records) // the first error says more
		return nil, err
	}
	return &Names{records: records, index: x, seeds: newSeeds(cfg.Seed), top: 1, scratch: new([MaxName]byte)}, nil
}

// Close gives the memory back. No method may be called after it.
func (n *Names) Close() error {
	records := n.records
	n.records = nil
	err := n.index.close()
	if e := arena.Free(records); e != nil {
		return e
	}
	return err
}

// Stats returns the counters.
func (n *Names) Stats() NamesStats {
	return NamesStats{Names: n.names, Bytes: uint64(n.inUse) * nameRecordSize, Refused: n.refused}
}

// Intern returns the ID of name with a reference that the caller now owns and
// ends with Release. name is copied.
//
// ok is false, and the ID 0, if the table is full (counted as refused), if
// name is longer than MaxName, or if it is empty: nothing is served at the
// root.
func (n *Names) Intern(name []byte) (id NameID, ok bool) {
	id, ok = n.TryIntern(name)
	if !ok && len(name) > 0 && len(name) <= MaxName {
		n.refused++
	}
	return id, ok
}

// TryIntern is Intern for a caller that can make room: that the table is full is
// not counted.
func (n *Names) TryIntern(name []byte) (id NameID, ok bool) {
	if len(name) == 0 || len(name) > MaxName {
		return 0, false
	}
	tag := uint32(n.seeds.bytes(name) >> 32)
	if r := n.lookup(tag, name); r != 0 {
		n.records[r].refs++
		return NameID(r), true
	}
	parts := (len(name) + textLen - 1) / textLen
	if n.inUse+parts >= len(n.records) || !n.index.room() {
		return 0, false
	}
	r := n.store(tag, name)
	n.index.add(tag, r)
	n.names++
	return NameID(r), true
}

// lookup returns the name's first record, 0 if there is none.
func (n *Names) lookup(tag uint32, name []byte) uint32 {
	r := n.index.first(tag)
	if r == 0 || n.equal(r, name) {
		return r
	}
	return n.lookupAlike(tag, name)
}

// lookupAlike is lookup where another name has the same tag.
//
//go:noinline
func (n *Names) lookupAlike(tag uint32, name []byte) uint32 {
	pos, dist := n.index.home(tag), 0
	for {
		r, at, d := n.index.seek(tag, pos, dist)
		if r == 0 || n.equal(r, name) {
			return r
		}
		pos, dist = n.index.next(at), d+1
	}
}

func (n *Names) equal(r uint32, name []byte) bool {
	rec := &n.records[r]
	if int(rec.size) != len(name) {
		return false
	}
	for len(name) > textLen {
		if string(rec.text[:]) != string(name[:textLen]) {
			return false
		}
		name = name[textLen:]
		rec = &n.records[rec.next]
	}
	return string(rec.text[:len(name)]) == string(name)
}

// store writes name to free records, of which there must be enough, and
// returns the first.
func (n *Names) store(tag uint32, name []byte) uint32 {
	first := n.take()
	rec := &n.records[first]
	*rec = nameRecord{refs: 1, tag: tag, size: uint16(len(name))}
	for {
		name = name[copy(rec.text[:], name):]
		if len(name) == 0 {
			return first
		}
		next := n.take()
		rec.next = next
		rec = &n.records[next]
		*rec = nameRecord{}
	}
}

func (n *Names) take() uint32 {
	n.inUse++
	r := n.free
	if r != 0 {
		n.free = n.records[r].next
		return r
	}
	r = n.top
	n.top++
	if uint64(n.top) == arena.HugePage/nameRecordSize {
		arena.AdviseHuge(n.records)
	}
	return r
}

// Retain adds a reference to id, which must be held already. ID 0 is ignored.
func (n *Names) Retain(id NameID) {
	if id != 0 {
		n.records[id].refs++
	}
}

// Release ends one reference to id. With the last one the name is forgotten,
// and its class with it. ID 0 is ignored.
func (n *Names) Release(id NameID) {
	if id != 0 {
		n.release(id)
	}
}

//go:noinline
func (n *Names) release(id NameID) {
	rec := &n.records[id]
	rec.refs--
	if rec.refs == 0 {
		n.forget(id, rec)
	}
}

// forget frees the records of the name that begins with rec.
//
//go:noinline
func (n *Names) forget(id NameID, rec *nameRecord) {
	n.index.remove(n.index.find(rec.tag, uint32(id)))
	n.names--
	left := int(rec.size)
	for r := uint32(id); ; {
		rec := &n.records[r]
		next := rec.next
		rec.next = n.free
		n.free = r
		n.inUse--
		left -= textLen
		if left <= 0 {
			return
		}
		r = next
	}
}

// Class returns the user's word for id: 0 for a new name, else what SetClass
// has put there.
func (n *Names) Class(id NameID) uint64 { return n.records[id].class }

// Is reports whether name is that of id, which must not be 0.
func (n *Names) Is(id NameID, name []byte) bool { return n.equal(uint32(id), name) }

// SetClass keeps a word with id until the name is forgotten. The caller's
// classification goes there, with the generation of the rules that made it.
// id must not be 0.
func (n *Names) SetClass(id NameID, class uint64) { n.records[id].class = class }

// Bytes returns the name of id, nil for 0. The slice belongs to the table, must
// not be changed, and is valid until the next call of Intern, Release or Bytes.
func (n *Names) Bytes(id NameID) []byte {
	if id == 0 {
		return nil
	}
	rec := &n.records[id]
	size := int(rec.size)
	if size <= textLen {
		return rec.text[:size:size]
	}
	for at := 0; ; rec = &n.records[rec.next] {
		at += copy(n.scratch[at:size], rec.text[:])
		if at == size {
			return n.scratch[:size:size]
		}
	}
}

// String returns the name of id as a string of its own, "" for 0.
func (n *Names) String(id NameID) string { return string(n.Bytes(id)) }

// Append appends the name of id to dst. Unlike Bytes it touches nothing in the
// table, so that several goroutines may read while none writes.
func (n *Names) Append(dst []byte, id NameID) []byte {
	if id == 0 {
		return dst
	}
	rec := &n.records[id]
	left := int(rec.size)
	for ; left > textLen; rec = &n.records[rec.next] {
		dst = append(dst, rec.text[:]...)
		left -= textLen
	}
	return append(dst, rec.text[:left]...)
}
