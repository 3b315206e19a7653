package flows

import (
	"errors"
	"fmt"
	"math"

	"github.com/nametap/nametap/internal/arena"
)

const second = int64(1e9)

// Time-outs that do not depend on the class.
const (
	// HalfOpenTimeout is how long a connection may stay at its handshake.
	HalfOpenTimeout = 60 * second
	// ClosedTimeout is how long a closed connection keeps its place for late
	// segments: twice the maximum segment lifetime of two minutes (RFC 9293
	// section 3.4.2), the time a TCP endpoint itself spends in TIME-WAIT.
	ClosedTimeout = 240 * second
)

// MinFlows is the least size of a table.
const MinFlows = 16

// wheelSlots are one second each; a longer time-out is re-inserted on its way.
// Behind them is a slot of flows that are due and have to wait for the next
// Advance (Config.MostTimedOut).
const (
	wheelSlots = 4096
	overdue    = wheelSlots
)

// Config of a Table.
type Config struct {
	// Flows is the most connections the table holds, at least MinFlows.
	Flows int
	// Slab is where the table's records lie, together with those of other
	// tables; nil gives it a slab of its own.
	Slab *Slab
	// HoleLists is the most connection directions whose missing segments are
	// followed at the same time; more than 65534 are not used.
	HoleLists int
	// MostTimedOut is the most flows that one Advance ends, so that whoever
	// keeps what OnEnd is told knows how much that can be; those beyond have to
	// wait for the next. 0 is no limit.
	MostTimedOut int
	// OnEnd is called once for every flow, just before its record is used
	// again. The flow's Reason is set.
	OnEnd func(index uint32, f Flow)
	// Transfers are the classes whose flows are rated by their duration; nil
	// for none.
	Transfers *[MaxClasses]bool
	// Seed of the hash: fixed for a replay, secret on a live tap.
	Seed uint64
	// IdleTimeout is the time-out of an open flow by class, nanoseconds; 0 for a
	// class that no flow has. Whoever changes it tells its tables (NewTimeouts).
	IdleTimeout *[MaxClasses]int64
	// Classes is where the table counts.
	Classes *Classes
}

// Table holds the connections of some subscribers. Records lie in a slab, never
// move and stay the table's once they are; an index of (tag, record) words finds
// them, so that growing moves eight bytes a flow.
//
// Many tables are in use at once. So what every segment reads are two lines of the
// cache, from cfg.IdleTimeout to trains, and each train is one (a test holds them there);
// and what is large stands elsewhere, or the tables, pages each, would have those
// lines in the same few sets of the cache.
type Table struct {
	mayEnd int // flows that this Advance may still end

	cfg      Config
	hasher   Hasher
	slab     *Slab // where the records lie, those of other tables too
	halfOpen list
	closed   list

	index   []uint64 // tag<<32 | record, 0 is empty
	second  packetSecond
	mask    uint32
	skipRTT bool
	loss    Event // what the segment at hand was counted as
	trains  *[trainSlots]train

	entries   int
	free      uint32 // head of the free list, linked by next
	used      uint32 // records ever taken, and one
	last      uint32 // the record taken last
	freeHoles uint16
	usedHoles uint16
	wheel     *[wheelSlots + 1]uint32
	wheelNow  int64 // the second up to which the wheel has turned: the table's clock
	wheelMin  int64 // no flow is due before this second
	advanced  int64 // the second to which Advance came last
	// Evicted counts flows that had to go because the table was full.
	Evicted uint64
	// HolesDropped counts holes that were forgotten because a list or the
	// pool of lists was full.
	HolesDropped uint64

	runs  []uint32 // the first of each run of records that is the table's
	holes []holeList

	// reserve is arena.MakeDense; tests let it fail.
	reserve func(n int) ([]uint64, error)
}

// list is a queue of flows, oldest first, linked by prev and next.
type list struct{ head, tail uint32 }

const (
	firstIndex = 64
	// roomyIndex is up to how many words, 256 KiB of them, an index is filled
	// to the half only.
	roomyIndex = 1 << 15
)

// New returns an empty table. The memory of its records is reserved at once and
// committed by the system as flows come; Free gives it back.
func New(cfg Config) (*Table, error) {
	if cfg.Flows < MinFlows || cfg.Flows > math.MaxInt32 {
		return nil, fmt.Errorf("flows: a table of %d flows; give at least %d, at most %d", cfg.Flows, MinFlows, math.MaxInt32)
	}
	lists := min(max(cfg.HoleLists, 0), math.MaxUint16-1)
	t := &Table{
		cfg: cfg, hasher: newHasher(cfg.Seed), mask: firstIndex - 1, used: 1, usedHoles: 1, reserve: arena.MakeDense[uint64],
		trains: new([trainSlots]train), wheel: new([wheelSlots + 1]uint32),
	}
	var errs [3]error
	errs[0] = t.enlist()
	t.holes, errs[1] = arena.Make[holeList](lists + 1)
	t.index, errs[2] = t.reserve(firstIndex)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, t.Free())
	}
	return t, nil
}

// enlist finds the slab in which the table's records will lie.
func (t *Table) enlist() (err error) {
	t.slab = t.cfg.Slab
	if t.slab == nil {
		if t.slab, err = NewSlab(t.cfg.Flows); err != nil {
			return err
		}
	}
	t.runs = make([]uint32, 0, (t.cfg.Flows+run-1)/run)
	return t.slab.promise(t.cfg.Flows)
}

// Free gives the table's memory back, but for its part of a slab that it shares.
// No flow of it may be used any more.
func (t *Table) Free() error {
	err := errors.Join(arena.Free(t.holes), arena.Free(t.index))
	if t.cfg.Slab == nil && t.slab != nil {
		err = errors.Join(err, t.slab.Free())
	}
	t.slab, t.holes, t.index = nil, nil, nil
	return err
}

// Len returns the number of records in use, closed ones included.
func (t *Table) Len() int { return t.entries }

// Flow returns the flow at index, which stays where it is until OnEnd.
func (t *Table) Flow(index uint32) Flow {
	return Flow{&t.slab.hot[index], &t.slab.cold[index], &t.slab.lost[index]}
}

// Hot returns what every segment needs of the flow at index.
func (t *Table) Hot(index uint32) *Hot { return &t.slab.hot[index] }

// Hasher returns what makes the hashes of the table's connections.
func (t *Table) Hasher() Hasher { return t.hasher }

// Look returns the word of the index at which a look-up of hash begins. Whoever looks
// for a batch takes all words first, so that their loads overlap.
func (t *Table) Look(hash uint64) (word uint64) {
	return t.index[uint32(hash>>32)&t.mask]
}

// Found returns the record that a look-up of hash will compare first, of the word that
// Look has returned for it since the index changed: mostly that is it, because the flows
// that speak are young (place).
func (t *Table) Found(word, hash uint64) uint32 {
	if (word^hash)>>32 == 0 {
		return uint32(word)
	}
	return t.found(hash)
}

// found is Found where another flow's word stands first.
//
//go:noinline
func (t *Table) found(hash uint64) uint32 {
	tag := uint32(hash >> 32)
	return t.seek(tag, tag&t.mask)
}

// seek goes on from a word of the index.
func (t *Table) seek(tag, at uint32) uint32 {
	for ; ; at = (at + 1) & t.mask {
		word := t.index[at]
		if uint32(word>>32) == tag || word == 0 {
			return uint32(word)
		}
	}
}

// equal compares word by word; == on a struct of this size is a call.
func (k *Key) equal(o *Key) bool {
	return k.Subscriber == o.Subscriber && k.Server == o.Server && k.ports() == o.ports() && k.Scope == o.Scope
}

// ports is one load.
func (k *Key) ports() uint32 { return uint32(k.SubscriberPort) | uint32(k.ServerPort)<<16 }

// find returns the record of k, or 0.
func (t *Table) find(k *Key, hash uint64) uint32 {
	tag := uint32(hash >> 32)
	for at := tag & t.mask; ; at = (at + 1) & t.mask {
		word := t.index[at]
		if word == 0 {
			return 0
		}
		if uint32(word>>32) == tag && t.slab.hot[uint32(word)].hash == hash && t.slab.cold[uint32(word)].Key.equal(k) {
			return uint32(word)
		}
	}
}

// insert makes a record for k and returns it, with all but its key and state
// zero. The caller links it into a list.
func (t *Table) insert(k *Key, hash uint64) uint32 {
	full := t.free == 0 && int(t.used) > t.cfg.Flows
	if full || t.crowded() && !t.grow() && t.packed() {
		t.evict()
	}
	r := t.free
	if r != 0 {
		t.free = t.slab.links[r].next
		t.slab.hot[r], t.slab.cold[r] = Hot{}, Cold{}
	} else {
		r = t.fresh()
	}
	t.slab.hot[r].hash, t.slab.cold[r].Key = hash, *k
	t.entries++
	t.place(uint64(uint32(hash>>32))<<32 | uint64(r))
	return r
}

// fresh takes a record that no flow has had yet: it is zero.
func (t *Table) fresh() uint32 {
	if n := t.used - 1; n%run == 0 {
		t.last = t.slab.take(min(run, uint32(t.cfg.Flows)-n))
		t.runs = append(t.runs, t.last)
	} else {
		t.last++
	}
	t.used++
	return t.last
}

// record returns the record that the table took when it had n.
func (t *Table) record(n uint32) uint32 { return t.runs[n/run] + n%run }

// place puts the word of a new flow where a look-up begins, and what stood there
// behind the others. Flows that have closed stay for minutes and are hardly asked for
// again, while those that speak are the youngest, and so are found at once.
func (t *Table) place(word uint64) {
	home := uint32(word>>32) & t.mask
	at := t.vacant(home)
	t.index[at] = t.index[home]
	t.index[home] = word
}

// vacant returns the first empty place from at on.
func (t *Table) vacant(at uint32) uint32 {
	for t.index[at] != 0 {
		at = (at + 1) & t.mask
	}
	return at
}

// indexHolds is how many flows an index of so many words may hold before it grows:
// while growing costs little memory, half of that.
func indexHolds(words uint32) uint32 {
	if words <= roomyIndex {
		return words / 2
	}
	return words / 4 * 3
}

// IndexBytes is how long the index of a table gets that holds so many flows.
func IndexBytes(flows int) int64 {
	words := uint32(firstIndex)
	for int64(indexHolds(words)) < int64(flows) {
		words *= 2
	}
	return int64(words) * 8
}

// packed reports whether one more flow would fill the index beyond three
// quarters, where probing grows long.
func (t *Table) packed() bool { return uint32(t.entries) >= (t.mask+1)/4*3 }

// crowded reports whether the index should grow.
func (t *Table) crowded() bool { return uint32(t.entries) >= indexHolds(t.mask+1) }

// grow doubles the index, and reports whether there was memory for it. A table
// is one of many small ones, so that the pause is short; it ends when the table
// has reached its size once.
func (t *Table) grow() bool {
	old := t.index
	next, err := t.reserve(2 * len(old))
	if err != nil {
		return false
	}
	t.index, t.mask = next, uint32(len(next)-1)
	for _, word := range old {
		if word != 0 { // of those with one home, the youngest comes first
			t.index[t.vacant(uint32(word>>32)&t.mask)] = word
		}
	}
	_ = arena.Free(old) // what cannot be given back stays reserved, no more
	return true
}

// remove takes the record out of index and lists and frees it.
func (t *Table) remove(r uint32, f *Hot) {
	t.unlink(r, f)
	if f.flags&(flagHoles|flagLost) != 0 {
		t.dropLosses(r, f)
	}
	want := f.hash>>32<<32 | uint64(r)
	at := uint32(f.hash>>32) & t.mask
	for t.index[at] != want {
		at = (at + 1) & t.mask
	}
	t.unplace(at)
	f.state = stateFree
	t.slab.links[r].next = t.free
	t.free = r
	t.entries--
}

// dropLosses frees what few flows have.
//
//go:noinline
func (t *Table) dropLosses(r uint32, f *Hot) {
	t.dropHoles(&f.Half[Up])
	t.dropHoles(&f.Half[Down])
	t.slab.lost[r] = Lost{}
}

// unplace empties an index slot and moves later words of the same run back, so
// that no tombstone is needed.
func (t *Table) unplace(hole uint32) {
	for at := (hole + 1) & t.mask; ; at = (at + 1) & t.mask {
		word := t.index[at]
		if word == 0 {
			t.index[hole] = 0
			return
		}
		home := uint32(word>>32) & t.mask
		if (at-home)&t.mask >= (at-hole)&t.mask {
			t.index[hole] = word
			hole = at
		}
	}
}

// evict makes room: closed flows go first, then half-open ones (a flood of
// SYNs pushes out itself), then the open flow that would time out soonest.
func (t *Table) evict() {
	r := t.closed.head
	if r == 0 {
		r = t.halfOpen.head
	}
	if r == 0 {
		r = t.soonest()
	}
	t.Evicted++
	t.end(r, EndEvicted)
}

// soonest returns the open flow that would time out first. A flow that spoke
// since it was put into the wheel is put back further on, as the wheel itself
// would do; after a few of those any must do, so that no segment waits long.
func (t *Table) soonest() uint32 {
	if r := t.wheel[overdue]; r != 0 && t.due(t.Hot(r)) < t.wheelNow {
		return r
	}
	sec := max(t.wheelMin, t.wheelNow)
	for tries := 0; sec < t.wheelNow+wheelSlots; {
		r := t.wheel[sec%wheelSlots]
		if r == 0 {
			sec++
			continue
		}
		t.wheelMin = sec
		f := t.Hot(r)
		if tries == 16 || t.due(f) <= sec {
			return r
		}
		tries++
		t.leave(r)
		t.schedule(r, f)
	}
	return 0
}

// end finishes the flow for good: OnEnd sees it, then the record is free. A
// flow closed earlier keeps the reason it was closed for.
func (t *Table) end(r uint32, why EndReason) {
	f := t.Flow(r)
	if f.Reason == NotEnded {
		f.Reason = why
	}
	t.cfg.OnEnd(r, f)
	t.countClose(f)
	t.remove(r, f.Hot)
}

// Shutdown ends every flow: at packet time now those whose time-out has passed as
// idle, the others because all is over. The table can be used on.
func (t *Table) Shutdown(now int64) {
	for n := range t.used - 1 {
		r := t.record(n)
		f := t.Hot(r)
		switch {
		case f.state == stateFree:
		case now-f.Last > t.timeout(f):
			t.end(r, EndIdle)
		default:
			t.end(r, EndShutdown)
		}
	}
}

// timeout returns how long the flow may stay silent.
func (t *Table) timeout(f *Hot) int64 {
	switch f.state {
	case stateHalfOpen:
		return HalfOpenTimeout
	case stateClosed:
		return ClosedTimeout
	}
	return t.cfg.IdleTimeout[f.Class]
}

// maxAhead is how many seconds a packet may be ahead of the table's clock.
const maxAhead = HalfOpenTimeout / second

// clock returns a packet's time as the second in which it reached the table. A
// packet from the past speaks now: were its flow as old as its time stamp, the
// next Advance would cut it short. One from far in the future, which is wrong,
// must not hold up those that come after it.
func (t *Table) clock(packet int64) uint32 {
	sec := packet / second
	if t.wheelNow == 0 {
		t.wheelNow = max(sec, 0)
	}
	return uint32(min(max(sec, t.wheelNow), t.wheelNow+maxAhead))
}

// spoken is clock, of a second that the table knows mostly.
func (t *Table) spoken(packet int64) uint32 {
	if uint64(packet-t.second.start) < t.second.length {
		return t.second.spoke
	}
	return t.clock(packet)
}

// Advance moves the table's clock to now and ends the flows that have been
// silent for too long. It is to be called at least once a minute of packet time,
// before the first segment of that minute; the more often, the sooner flows end,
// to the second. Whenever it is called, a flow is never continued over a pause
// longer than its time-out. Where Config.MostTimedOut does not let all of them
// end, the next call goes on, in the same second too.
func (t *Table) Advance(now int64) {
	sec := now / second
	if sec == t.advanced {
		return // whatever spoke since is due in a later second
	}
	t.mayEnd = t.cfg.MostTimedOut
	if t.mayEnd == 0 {
		t.mayEnd = math.MaxInt
	}
	t.turn(overdue, sec)
	t.expire(&t.halfOpen, sec)
	t.expire(&t.closed, sec)
	if t.entries == 0 {
		t.wheelNow = max(t.wheelNow, sec) // nothing is due
	}
	// After a jump of more than a turn every slot is due, once.
	t.wheelNow = max(t.wheelNow, sec-wheelSlots)
	for t.wheelNow < sec {
		t.turn(uint16(t.wheelNow%wheelSlots), sec)
		t.wheelNow++
	}
	t.second.length = 0 // what clock said no longer holds
	if t.mayEnd > 0 {
		t.advanced = sec // nobody has to wait
	}
}

func (t *Table) expire(l *list, sec int64) {
	for l.head != 0 && t.mayEnd > 0 && t.due(t.Hot(l.head)) < sec {
		t.timeOut(l.head)
	}
}

func (t *Table) timeOut(r uint32) {
	t.mayEnd--
	t.end(r, EndIdle)
}

// turn visits the flows of one slot: those that spoke since they were put
// there go to the slot of their new deadline, those that must not end yet to
// the overdue ones.
func (t *Table) turn(slot uint16, sec int64) {
	r := t.wheel[slot]
	for r != 0 && (t.mayEnd > 0 || slot != overdue) {
		f, next := t.Hot(r), t.slab.links[r].next
		switch {
		case t.due(f) >= sec:
			t.giveUpProbes(f)
			t.leave(r)
			t.schedule(r, f)
		case t.mayEnd > 0:
			t.timeOut(r)
		default:
			t.leave(r)
			t.wait(r, overdue)
		}
		r = next
	}
}

// due returns the last second in which the flow may be silent.
func (t *Table) due(f *Hot) int64 {
	age := int64(int32(uint32(t.wheelNow) - f.spoke))
	return t.wheelNow - age + (t.timeout(f)+second-1)/second
}

// schedule puts an open flow into the slot of its deadline, never into the one
// that is being turned.
func (t *Table) schedule(r uint32, f *Hot) {
	sec := min(max(t.due(f), t.wheelNow+1), t.wheelNow+wheelSlots-1)
	t.wheelMin = min(t.wheelMin, sec)
	t.wait(r, uint16(sec)%wheelSlots)
}

// The lists are kept without asking whether a flow has a neighbour, which would be
// guessed wrong as often as not: what is written to the links of 0 is never read.

// wait puts an open flow into a slot.
func (t *Table) wait(r uint32, slot uint16) {
	head, l := &t.wheel[slot], t.slab.links
	t.slab.cold[r].slot = slot
	l[r] = links{next: *head}
	l[*head].prev = r
	*head = r
}

// leave is the contrary of wait.
func (t *Table) leave(r uint32) {
	l := t.slab.links
	n := l[r]
	l[n.next].prev = n.prev
	l[n.prev].next = n.next
	if n.prev == 0 {
		t.wheel[t.slab.cold[r].slot] = n.next
	}
}

// push puts a flow at the young end of a list.
func (t *Table) push(q *list, r uint32) {
	l := t.slab.links
	l[r] = links{prev: q.tail}
	l[q.tail].next = r
	head := q.head
	if head == 0 {
		head = r
	}
	q.head, q.tail = head, r
}

// pull is the contrary of push.
func (t *Table) pull(q *list, r uint32) {
	l := t.slab.links
	n := l[r]
	l[n.next].prev = n.prev
	l[n.prev].next = n.next
	head, tail := q.head, q.tail
	if n.prev == 0 {
		head = n.next
	}
	if n.next == 0 {
		tail = n.prev
	}
	q.head, q.tail = head, tail
}

// link puts the flow into the list of its state.
func (t *Table) link(r uint32, f *Hot) {
	switch f.state {
	case stateOpen:
		t.schedule(r, f)
	case stateHalfOpen:
		t.push(&t.halfOpen, r)
	default:
		t.push(&t.closed, r)
	}
}

// unlink takes the flow out of whichever list holds it.
func (t *Table) unlink(r uint32, f *Hot) {
	switch f.state {
	case stateClosed:
		t.pull(&t.closed, r)
	case stateOpen:
		t.leave(r)
	default:
		t.pull(&t.halfOpen, r)
	}
}

// renew moves a flow to the young end of the list that holds it.
func (t *Table) renew(q *list, r uint32) {
	if q.tail != r {
		t.pull(q, r)
		t.push(q, r)
	}
}

// enter moves the flow to another state.
func (t *Table) enter(r uint32, f *Hot, s state) {
	t.unlink(r, f)
	f.state = s
	t.link(r, f)
}

// reschedule is called when a flow's class, and with it its time-out, changed.
func (t *Table) reschedule(r uint32, f *Hot) {
	if f.state == stateOpen {
		t.leave(r)
		t.schedule(r, f)
	}
}
