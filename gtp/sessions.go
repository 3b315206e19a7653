package gtp

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// Config sizes a Table. Zero fields take their default.
type Config struct {
	// Sessions is the most sessions kept, default 100,000.
	Sessions int
	// Endpoints is the most user-plane tunnel endpoints kept, default four a
	// session (S1-U and S5/S8-U, both directions). When they are used up,
	// sessions are evicted.
	Endpoints int
	// Exchanges is the most requests kept to match responses and repetitions
	// with, default a sixteenth of Sessions, at least 1024.
	Exchanges int
	// APNs is the most names kept, default 1024; others share OtherAPN.
	APNs int

	// Idle is how long a session lives without a G-PDU or a control message,
	// default 24 h. A session has no lifetime of its own: only the loss of
	// its delete leaves it behind.
	Idle time.Duration
	// Answer is how long a request waits for its response, default 30 s:
	// longer than T3-RESPONSE times N3-REQUESTS of any network.
	Answer time.Duration
	// Linger is how long a replaced or deleted endpoint still resolves,
	// default 2 s: packets are on their way then, and two mirror ports are
	// never in step. Somebody else's claim ends it at once.
	Linger time.Duration

	// Seed of the hash tables, against TEIDs that are crafted to collide. With
	// the same seed and input the results are the same.
	Seed uint64
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.Sessions, 100_000)
	set(&c.Endpoints, 4*c.Sessions)
	set(&c.Exchanges, max(1024, c.Sessions/16))
	set(&c.APNs, 1024)
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.Idle, 24 * time.Hour}, {&c.Answer, 30 * time.Second}, {&c.Linger, 2 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return c
}

const (
	// Per session: what one subscriber can have at most, beyond it the oldest
	// goes. 11 bearers with S1-U and S5/S8-U both ways are 44.
	maxUserEndpoints    = 64
	maxControlEndpoints = 24
	// maxSharing is the most sessions found under one control endpoint (the
	// 11 PDN connections of an UE share those on S11, TS 29.274 section 5.1)
	// or one user address.
	maxSharing = 16

	controlPerSession = 4
	lingerPlaces      = 1 << 14
)

// Bytes is the memory of a Table with this configuration in full use. Less is
// committed until then.
func (c Config) Bytes() int64 {
	c = c.withDefaults()
	n := c.Sessions
	return int64(n+1)*int64(unsafe.Sizeof(Session{})+4) +
		indexBytes(c.Endpoints, n) + indexBytes(controlPerSession*n, n) +
		indexBytes(n, n) + indexBytes(2*n, n) +
		exchangeBytes(c.Exchanges) + lingerPlaces*int64(unsafe.Sizeof(lingering{})) +
		int64(c.APNs)*2*maxAPN
}

// ForMemory returns c with Sessions as many as fit into a budget in bytes, the
// rest by default.
func (c Config) ForMemory(budget int64) Config {
	low, high := 64, 1<<28
	for low < high {
		c.Sessions = (low + high + 1) / 2
		c.Endpoints, c.Exchanges = 0, 0
		if c.Bytes() <= budget {
			low = c.Sessions
			continue
		}
		high = c.Sessions - 1
	}
	c.Sessions = low
	return c
}

// Ref names a session. It stays valid until the session ends, and never comes
// to mean another. The zero Ref is none.
type Ref struct {
	Index uint32
	// Scope is the serial number that tells subscribers apart whatever their
	// addresses; see the package comment. 0 is none.
	Scope uint32
}

// APN is the number of an access point name in its Table.
type APN uint16

// NoAPN is the absence of a name; OtherAPN stands for those beyond Config.APNs.
const (
	NoAPN APN = iota
	OtherAPN
)

// Session is a PDP context with its secondaries, a PDN connection or a PDU
// session. Records live in the Table and hold no pointers.
type Session struct {
	IMSI   Digits
	MSISDN Digits
	IMEI   Digits
	// UEv4 and UEv6 are the user's addresses, zero where there is none. Of
	// UEv6 only the first UEv6Prefix bits are the network's choice.
	UEv4, UEv6 Addr
	// Gateway is the control address of the PGW or GGSN, zero where unknown.
	Gateway Addr
	// Created is the packet time at which the session was first seen, Seen
	// that of the latest sign of life, to a fraction of Config.Idle.
	Created, Seen int64
	signalled     int64 // latest control message
	// farDirs remembers for PFCP which way a FAR sends, two bits each.
	farDirs uint64
	// Scope as in Ref.
	Scope uint32
	next  uint32 // of the free records
	APN   APN
	// Version of the protocol that made the session.
	Version    Version
	RAT        uint8 // TS 29.274 section 8.17
	EBI        uint8 // default EPS bearer, or NSAPI
	UEv6Prefix uint8 // bits
	state      sessionState
	keyed      bool // stands in Table.identities
	apnIsNI    bool
	carried    bool // a packet of its user was seen
}

type sessionState uint8

const (
	stateFree sessionState = iota
	stateActive
	stateEnding // deleted, its tunnels resolve a little longer
)

// Counters of a Table. None goes down.
type Counters struct {
	Messages [NumKinds]uint64
	// Malformed by verdict; OK counts the good ones.
	Malformed [NumVerdicts]uint64

	Repeated         uint64 // requests and responses seen before
	Unmatched        uint64 // responses whose request was not seen
	Unanswered       uint64 // requests whose response was not seen in time
	Refused          uint64 // responses with a cause of failure
	UnknownSession   uint64 // exchanges about a session that is not known
	ExchangesEvicted uint64 // requests forgotten while they waited: table full

	Created  uint64 // sessions
	Deleted  uint64 // by their protocol
	Replaced uint64 // by a new one of the same subscriber, or of the same address
	Expired  uint64 // idle
	Evicted  uint64 // table full
	Merged   uint64 // two that turned out to be one

	EndpointsReassigned uint64 // endpoints that went to another session
	EndpointsDropped    uint64 // more than a message or a session can hold
	UnknownInterfaces   uint64 // F-TEIDs of an interface type not known
	APNsRefused         uint64 // sightings of names beyond Config.APNs
}

// Table is the table of sessions. It belongs to one goroutine.
type Table struct {
	config   Config
	sessions []Session // from 1
	scopes   []uint32  // by session, apart from it: the hot path needs no more
	used     uint32    // records ever used
	free     uint32    // head of the free records
	active   int
	serial   uint32

	user       index // user-plane endpoints, one session each
	control    index // control endpoints and SEIDs
	identities index // ⟨IMSI or IMEI, APN, EBI⟩
	users      index // user addresses

	exchanges exchanges
	linger    []lingering
	// linger[lingerStart:lingerEnd] is in use, both modulo its length.
	lingerStart, lingerEnd uint64
	evictHand              uint64

	apns     map[string]APN
	apnNames []string

	now       int64
	sweepAt   int64
	sweepHand uint32

	message, late Message // scratch
	// owners is scratch: the session of each endpoint of request and response.
	owners [2][maxEndpoints]uint32

	counters Counters
}

// lingering is an endpoint (k.id != 0) or a session that goes away at due.
type lingering struct {
	due int64
	k   key
	ref Ref
}

// New returns an empty Table. An error means that the memory cannot be had.
// Close gives the memory back.
func New(c Config) (*Table, error) {
	c = c.withDefaults()
	if c.Sessions > 1<<28 || c.Endpoints > 1<<30 || c.Exchanges > 1<<30 || c.APNs > 1<<15 {
		return nil, fmt.Errorf("gtp: table of %d sessions, %d endpoints, %d exchanges, %d APNs is too large; lower the caps", c.Sessions, c.Endpoints, c.Exchanges, c.APNs)
	}
	t := &Table{
		config: c,
		apns:   make(map[string]APN), apnNames: []string{"", "other"},
	}
	if err := t.allocate(); err != nil {
		t.Close()
		return nil, fmt.Errorf("gtp: table of %d sessions: %w", c.Sessions, err)
	}
	return t, nil
}

func (t *Table) allocate() (err error) {
	n, seed := t.config.Sessions, t.config.Seed
	if t.sessions, err = arena.Make[Session](n + 1); err != nil {
		return err
	}
	if t.scopes, err = arena.Make[uint32](n + 1); err != nil {
		return err
	}
	if t.linger, err = arena.Make[lingering](lingerPlaces); err != nil {
		return err
	}
	for _, x := range []struct {
		*index
		entries int
	}{
		{&t.user, t.config.Endpoints},
		{&t.control, controlPerSession * n},
		{&t.identities, n},
		{&t.users, 2 * n},
	} {
		seed = seed*6364136223846793005 + 1442695040888963407
		if err = x.init(x.entries, n, seed); err != nil {
			return err
		}
	}
	return t.exchanges.init(t.config.Exchanges, seed^t.config.Seed)
}

// Close gives the memory back. The Table and all Sessions it returned are
// invalid then.
func (t *Table) Close() {
	_ = arena.Free(t.sessions)
	_ = arena.Free(t.scopes)
	_ = arena.Free(t.linger)
	t.user.close()
	t.control.close()
	t.identities.close()
	t.users.close()
	t.exchanges.close()
	t.sessions, t.scopes, t.linger = nil, nil, nil
}

// ByTEID finds the session of a G-PDU by the destination of its outer IP packet
// and its TEID, and which way it goes. ok is false where the endpoint is not
// known. It marks the session as alive.
func (t *Table) ByTEID(dst Addr, teid uint32) (r Ref, d Direction, ok bool) {
	if t.user.n == 0 {
		return Ref{}, DirectionUnknown, false // no control plane on this tap: spare the wait for memory
	}
	i := t.user.find(key{dst.Hi, dst.Lo, uint64(teid)})
	if i < 0 {
		return Ref{}, DirectionUnknown, false
	}
	e := &t.user.entries[i]
	if e.flags&flagUsed == 0 { // one write a sweep, not one a packet
		e.flags |= flagUsed
	}
	return Ref{e.session, t.scopes[e.session]}, e.dir, true
}

// Touch loads what ByTEID will read first, so that the loads of a batch overlap.
// The result only keeps the compiler from dropping the load.
func (t *Table) Touch(dst Addr, teid uint32) uint64 {
	if t.user.n == 0 {
		return 0
	}
	return uint64(t.user.entries[t.user.home(key{dst.Hi, dst.Lo, uint64(teid)})].session)
}

// ByUE finds the session of a user address outside of tunnels, as on Gi. apn
// may be NoAPN for any. ok is false where none or more than one has it, because
// private addresses repeat between APNs and gateways.
func (t *Table) ByUE(ue Addr, apn APN) (r Ref, ok bool) {
	ue = ue.ueKey()
	k := key{ue.Hi, ue.Lo, 0}
	found := uint32(0)
	for i := t.users.find(k); i >= 0; i = t.users.next(i, k) {
		e := &t.users.entries[i]
		if e.flags&flagCrowded != 0 {
			return Ref{}, false
		}
		if apn != NoAPN && t.sessions[e.session].APN != apn {
			continue
		}
		if found != 0 {
			return Ref{}, false
		}
		found = e.session
	}
	if found == 0 {
		return Ref{}, false
	}
	return t.ref(found), true
}

// Session returns the session of r, nil where it has ended. The record is valid
// until the next call of Control or Advance; it must not be written to.
func (t *Table) Session(r Ref) *Session {
	if r.Scope == 0 || r.Index == 0 || r.Index >= uint32(len(t.sessions)) || t.scopes[r.Index] != r.Scope {
		return nil
	}
	return &t.sessions[r.Index]
}

// APNName is the network identifier that a stands for: lower case, with dots,
// and nothing but letters, digits, '-', '_' and '.'.
func (t *Table) APNName(a APN) string {
	if int(a) >= len(t.apnNames) {
		return ""
	}
	return t.apnNames[a]
}

// APNNumber finds the number of a name; NoAPN where it was never seen.
func (t *Table) APNNumber(name string) APN { return t.apns[name] }

// Active is the number of sessions between create and delete.
func (t *Table) Active() int { return t.active }

// Endpoints is the number of user-plane endpoints that resolve.
func (t *Table) Endpoints() int { return t.user.n }

// Counters points to the live counters, to be read by the owner's goroutine.
func (t *Table) Counters() *Counters { return &t.counters }

func (t *Table) ref(s uint32) Ref { return Ref{s, t.scopes[s]} }

func (t *Table) alive(r Ref) bool {
	return r.Scope != 0 && t.scopes[r.Index] == r.Scope && t.sessions[r.Index].state == stateActive
}

// intern gives an APN its number.
func (t *Table) intern(name []byte) APN {
	if len(name) == 0 {
		return NoAPN
	}
	if a, ok := t.apns[string(name)]; ok {
		return a
	}
	if len(t.apns) >= t.config.APNs {
		t.counters.APNsRefused++
		return OtherAPN
	}
	a := APN(len(t.apnNames))
	s := string(name)
	t.apnNames = append(t.apnNames, s)
	t.apns[s] = a
	return a
}

// create makes an empty session, evicting one where there is no room.
func (t *Table) create(v Version) uint32 {
	if t.free == 0 && int(t.used) == t.config.Sessions && !t.evict(0) {
		return 0
	}
	s := t.free
	if s != 0 {
		t.free = t.sessions[s].next
	} else {
		t.used++
		s = t.used
	}
	if t.serial++; t.serial == 0 {
		t.serial = 1
	}
	t.sessions[s] = Session{
		Created: t.now, Seen: t.now, signalled: t.now,
		Scope: t.serial, Version: v, state: stateActive,
	}
	t.scopes[s] = t.serial
	t.active++
	t.counters.Created++
	return s
}

// end takes a session out of the control plane. Its tunnels resolve a little
// longer.
func (t *Table) end(s uint32, reason *uint64) {
	if t.sessions[s].state != stateActive {
		return
	}
	*reason++
	t.detach(s)
	t.sessions[s].state = stateEnding
	t.lingerOn(key{}, s)
}

func (t *Table) detach(s uint32) {
	if t.sessions[s].state == stateActive {
		t.active--
	}
	t.control.deleteAll(s)
	t.identities.deleteAll(s)
	t.users.deleteAll(s)
	t.sessions[s].keyed = false
}

// release frees a session's record at once.
func (t *Table) release(s uint32) {
	t.detach(s)
	t.user.deleteAll(s)
	t.sessions[s] = Session{next: t.free}
	t.scopes[s] = 0
	t.free = s
}

// lingerOn lets a session (k zero) or one of its endpoints go after a while.
func (t *Table) lingerOn(k key, s uint32) {
	if t.lingerEnd-t.lingerStart == uint64(len(t.linger)) {
		t.goOne()
	}
	t.linger[t.lingerEnd%uint64(len(t.linger))] = lingering{
		due: t.now + int64(t.config.Linger), k: k, ref: t.ref(s),
	}
	t.lingerEnd++
}

func (t *Table) goOne() {
	l := t.linger[t.lingerStart%uint64(len(t.linger))]
	t.lingerStart++
	s := l.ref.Index
	if l.k == (key{}) {
		if t.scopes[s] == l.ref.Scope && t.sessions[s].state == stateEnding {
			t.release(s)
		}
		return
	}
	// The endpoint may be in use again, by this session or another.
	if i := t.user.find(l.k); i >= 0 && t.user.entries[i].flags&flagOld != 0 {
		t.user.delete(i)
	}
}

// evictSample is how many sessions are looked at to find one that has been
// quiet for long.
const evictSample = 16

// evict frees the quietest of a few sessions, except one, and rather one whose
// user was never heard: a flood of requests makes only such. It reports whether
// it found any.
func (t *Table) evict(except uint32) bool {
	for t.lingerEnd != t.lingerStart {
		free := t.free
		t.goOne()
		if t.free != free {
			return true
		}
	}
	worst, seen := uint32(0), 0
	for n := uint32(0); n < t.used && seen < evictSample; n++ {
		s := uint32(t.evictHand%uint64(t.used)) + 1
		t.evictHand++
		if s == except || t.sessions[s].state == stateFree {
			continue
		}
		seen++
		t.noteUse(s)
		if worst == 0 || t.sessions[s].sooner(&t.sessions[worst]) {
			worst = s
		}
	}
	if worst == 0 {
		return false
	}
	t.counters.Evicted++
	t.release(worst)
	return true
}

// sooner reports whether s is to be evicted before o.
func (s *Session) sooner(o *Session) bool {
	if s.carried != o.carried {
		return o.carried
	}
	return s.Seen < o.Seen
}

// noteUse takes the marks of the user plane over into Seen.
func (t *Table) noteUse(s uint32) {
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		if e := &t.user.entries[i]; e.flags&flagUsed != 0 {
			e.flags &^= flagUsed
			t.sessions[s].Seen, t.sessions[s].carried = t.now, true
		}
	}
}

// sweepSteps bounds the work of one Advance.
const sweepSteps = 64

// Advance moves the clock to now (packet time in nanoseconds; it never goes
// back) and expires what is due, a bounded piece at a time. Control does it
// too; call it besides every few milliseconds of packet time where there is
// little control traffic. The caller sees to it that a single wild time stamp
// does not get here.
func (t *Table) Advance(now int64) {
	if now <= t.now {
		return
	}
	if t.now == 0 {
		t.sweepAt = now
	}
	t.now = now
	for t.lingerEnd != t.lingerStart && t.linger[t.lingerStart%uint64(len(t.linger))].due <= now {
		t.goOne()
	}
	for !t.exchanges.empty() {
		x := t.exchanges.oldest()
		if x.state != exchangeGone && x.born+int64(t.config.Answer) > now {
			break
		}
		t.expireExchange(x)
	}
	t.sweep()
}

// sweep visits every session several times in Config.Idle.
func (t *Table) sweep() {
	if t.used == 0 {
		t.sweepAt = t.now
		return
	}
	idle := int64(t.config.Idle)
	pause := max(1, idle/8/int64(t.used))
	t.sweepAt = max(t.sweepAt, t.now-idle/4) // no debt without end after a gap
	for range sweepSteps {
		if t.sweepAt+pause > t.now {
			return
		}
		t.sweepAt += pause
		if t.sweepHand++; t.sweepHand > t.used {
			t.sweepHand = 1
		}
		s := t.sweepHand
		if t.sessions[s].state != stateActive {
			continue
		}
		t.noteUse(s)
		if t.now-t.sessions[s].Seen > idle {
			t.counters.Expired++
			t.release(s)
		}
	}
}

// insert adds an entry for s, making room where there is none. nil means that
// there is none to be made. Places in x do not stay good.
func (t *Table) insert(x *index, k key, s uint32) *entry {
	for x.full() {
		if !t.evict(s) {
			t.counters.EndpointsDropped++
			return nil
		}
	}
	return x.insert(k, s)
}
