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
	// Endpoints is the most user-plane tunnel endpoints kept, those of IPv6
	// nodes counted twice. Default is what perSession says. When they are used
	// up, sessions are evicted.
	Endpoints int
	// Exchanges is the most requests by which repetitions are known, default a
	// sixteenth of Sessions, at least 1024. Of them, a sixteenth, but at least
	// 1024, can wait for their responses at the same time.
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
	set(&c.Endpoints, perSession(c.Sessions))
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

	lingerPlaces = 1 << 14

	maxSessions = 1 << 26 // endpoints are numbered with 28 bits
)

// perSession is how many endpoints of the user plane, and of the control plane,
// so many sessions have: two each, as on Gn or S5/S8, and some to spare for those
// that linger. Where a tap sees more of each (S11 and S1-U: three; S11 and
// S5/S8: four; PFCP's 64-bit SEIDs and IPv6 nodes count twice), endpoints run out
// before sessions do.
func perSession(sessions int) int { return 2*sessions + sessions/16 + 64 }

// pastShare is one in how many sessions is remembered once it has ended, for the
// records of its last flows.
const pastShare = 4

func pastPlaces(sessions int) int { return sessions/pastShare + 1024 }

// Bytes is the memory of a Table with this configuration in full use. Less is
// committed until then.
func (c Config) Bytes() int64 {
	c = c.withDefaults()
	n := c.Sessions
	places, past := perSession(n), pastPlaces(n)
	return int64(n+1)*int64(unsafe.Sizeof(record{})+unsafe.Sizeof(tag{})) +
		indexBytes(c.Endpoints, n) + indexBytes(places, n) +
		2*directoryBytes(n, n) + directoryBytes(2*n+1, n) +
		int64(past+1)*int64(unsafe.Sizeof(Owner{})) + directoryBytes(past, past) +
		exchangeBytes(c.Exchanges) + lingerPlaces*int64(unsafe.Sizeof(lingering{})) +
		int64(c.APNs)*2*maxAPN + maxGateways*2*int64(unsafe.Sizeof(Addr{}))
}

// ForMemory returns c with Sessions as many as fit into a budget in bytes, the
// rest by default.
func (c Config) ForMemory(budget int64) Config {
	low, high := 64, maxSessions
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

// MaxScope is the largest scope. Only after so many further sessions is a scope
// given out again.
const MaxScope = 1<<30 - 1

// APN is the number of an access point name in its Table.
type APN uint16

// NoAPN is the absence of a name; OtherAPN stands for those beyond Config.APNs.
const (
	NoAPN APN = iota
	OtherAPN
)

// Session is what a Table knows of a PDP context with its secondaries, a PDN
// connection or a PDU session.
type Session struct {
	IMSI   Digits
	MSISDN Digits
	IMEI   Digits
	// UEv4 and UEv6 are the user's addresses, zero where there is none. Of
	// UEv6 the first 64 bits are kept; only the first UEv6Prefix are the
	// network's choice.
	UEv4, UEv6 Addr
	// Gateway is the control address of the PGW or GGSN, zero where unknown.
	Gateway Addr
	// Created is the packet time at which the session was first seen, Seen
	// that of the latest sign of life, to a fraction of Config.Idle; both to
	// an eighth of a second.
	Created, Seen int64
	// Scope as in Ref.
	Scope uint32
	APN   APN
	// Version of the protocol that made the session.
	Version    Version
	RAT        uint8 // TS 29.274 section 8.17
	EBI        uint8 // default EPS bearer, or NSAPI
	UEv6Prefix uint8 // bits
}

// record is a session in the Table. With all that finds it, a session costs some
// 254 bytes: 72 here, 8 of its tag, 116 of four endpoints and those to spare, 10 of
// their lists, 8 for its identity and its scope each, 12 for its addresses; besides,
// 8 for a fourth of one that has ended and 12 for a sixteenth of an exchange.
type record struct {
	IMSI, MSISDN, IMEI Digits
	ue6                uint64 // the /64 of the user's IPv6 address, 0 is none
	// farDirs remembers for PFCP which way a FAR sends, two bits each.
	farDirs uint64
	ue4     uint32
	created tick
	seen    tick // latest sign of life
	// signalled is the latest control message.
	signalled  tick
	gateway    uint16 // in Table.gateways
	APN        APN
	keyAPN     APN // with keyEBI what it stands under in Table.identities
	keyEBI     uint8
	EBI        uint8
	Version    Version
	RAT        uint8
	UEv6Prefix uint8
	state      sessionState
	flags      recordFlags
}

type recordFlags uint8

const (
	flagKeyed     recordFlags = 1 << iota // stands in Table.identities
	flagKeyIMEI                           // under its IMEI
	flagAPNIsNI                           // the APN comes from a PFCP Network Instance
	flagCarried                           // a packet of its user was seen
	flagListedV4                          // stands in Table.users
	flagListedV6                          //
	flagCrowdedV4                         // more sessions had the address than are kept
	flagCrowdedV6                         //
)

func (r *record) is(f recordFlags) bool { return r.flags&f != 0 }

func (r *record) set(f recordFlags, on bool) {
	r.flags &^= f
	if on {
		r.flags |= f
	}
}

func (r *record) v4() Addr {
	if r.ue4 == 0 {
		return Addr{}
	}
	return Addr{0, v4Prefix | uint64(r.ue4)}
}

func (r *record) v6() Addr { return Addr{Hi: r.ue6} }

// tag is what a packet needs of its session, apart from the rest, so that it
// waits for memory once.
type tag struct {
	scope uint32
	note  uint8 // see Table.Note
	met   bool  // had a note under this scope
}

// tick is packet time in units of 2^27 ns since the Table's first message: it
// ends after 18 years.
type tick uint32

const tickBits = 27

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
	sessions []record // from 1
	tags     []tag    // by session
	used     uint32   // records ever used
	free     uint32   // head of the free records, which go on in identities.next
	active   int
	serial   uint32

	user       index     // user-plane endpoints, one session each
	control    index     // control endpoints and SEIDs
	identities directory // sessions by ⟨IMSI or IMEI, APN, EBI⟩
	users      directory // of user addresses, two a session: see userItem
	scopes     directory // sessions by scope
	past       past
	gateways   gateways
	seed       [2]uint64 // of the directories

	exchanges exchanges
	linger    []lingering
	// linger[lingerStart:lingerEnd] is in use, both modulo its length.
	lingerStart, lingerEnd uint64
	evictHand              uint64

	apns     map[string]APN
	apnNames []string

	now       int64
	epoch     int64 // of ticks
	clock     tick  // now
	sweepAt   int64
	sweepHand uint32

	message, late Message // scratch
	shown         Session // likewise
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
	if c.Sessions > maxSessions || c.Endpoints >= wide>>4 || c.Exchanges > 1<<30 || c.APNs > 1<<15 {
		return nil, fmt.Errorf("gtp: table of %d sessions, %d endpoints, %d exchanges, %d APNs is too large; lower the caps", c.Sessions, c.Endpoints, c.Exchanges, c.APNs)
	}
	t := &Table{
		config: c,
		apns:   make(map[string]APN), apnNames: []string{"", "other"},
		gateways: newGateways(),
	}
	if err := t.allocate(); err != nil {
		t.Close()
		return nil, fmt.Errorf("gtp: table of %d sessions: %w", c.Sessions, err)
	}
	return t, nil
}

func (t *Table) allocate() (err error) {
	n, seed := t.config.Sessions, t.config.Seed
	if t.sessions, err = arena.Make[record](n + 1); err != nil {
		return err
	}
	if t.tags, err = arena.Make[tag](n + 1); err != nil {
		return err
	}
	if t.linger, err = arena.Make[lingering](lingerPlaces); err != nil {
		return err
	}
	next := func() uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed
	}
	if err = t.user.init(t.config.Endpoints, n, next()); err != nil {
		return err
	}
	if err = t.control.init(perSession(n), n, next()); err != nil {
		return err
	}
	t.seed = [2]uint64{next(), next() | 1}
	if err = t.identities.init(n, n, t.identityHash); err != nil {
		return err
	}
	if err = t.users.init(2*n+1, n, t.userHash); err != nil {
		return err
	}
	if err = t.scopes.init(n, n, t.scopeHash); err != nil {
		return err
	}
	if err = t.past.init(pastPlaces(n), t.seed); err != nil {
		return err
	}
	return t.exchanges.init(t.config.Exchanges, next())
}

// Close gives the memory back. The Table and all Sessions it returned are
// invalid then.
func (t *Table) Close() {
	_ = arena.Free(t.sessions)
	_ = arena.Free(t.tags)
	_ = arena.Free(t.linger)
	t.user.close()
	t.control.close()
	t.identities.close()
	t.users.close()
	t.scopes.close()
	t.past.close()
	t.exchanges.close()
	t.sessions, t.tags, t.linger = nil, nil, nil
}

// ByTEID finds the session of a G-PDU by the destination of its outer IP packet
// and its TEID, and which way it goes. ok is false where the endpoint is not
// known. It marks the session as alive.
func (t *Table) ByTEID(dst Addr, teid uint32) (r Ref, d Direction, ok bool) {
	i := uint32(0)
	if narrow(dst) {
		i = t.user.findWord(dst.Lo<<32 | uint64(teid))
	} else {
		i = uint32(max(t.user.find(key{dst.Hi, dst.Lo, uint64(teid)}), 0))
	}
	if i == 0 {
		return Ref{}, DirectionUnknown, false
	}
	e := &t.user.entries[i]
	if e.flags&flagUsed == 0 { // one write a sweep, not one a packet
		e.flags |= flagUsed
	}
	return Ref{e.session, t.tags[e.session].scope}, e.dir, true
}

// Touch loads what ByTEID will read first, so that the loads of a batch overlap.
// The result only keeps the compiler from dropping the load.
func (t *Table) Touch(dst Addr, teid uint32) uint64 {
	if !narrow(dst) {
		return 0
	}
	return t.user.touchWord(dst.Lo<<32 | uint64(teid))
}

// ByUE finds the session of a user address outside of tunnels, as on Gi. apn
// may be NoAPN for any. ok is false where none or more than one has it, because
// private addresses repeat between APNs and gateways.
func (t *Table) ByUE(ue Addr, apn APN) (r Ref, ok bool) {
	a := userOf(ue)
	found := uint32(0)
	for i := t.users.first(t.addressHash(a)); i != 0; i = t.users.next[i] {
		if t.user64(i) != a {
			continue
		}
		s, family := i/2, i%2
		if t.sessions[s].is(flagCrowdedV4 << family) {
			return Ref{}, false
		}
		if apn != NoAPN && t.sessions[s].APN != apn {
			continue
		}
		if found != 0 {
			return Ref{}, false
		}
		found = s
	}
	if found == 0 {
		return Ref{}, false
	}
	return t.ref(found), true
}

// Session returns the session of r, nil where it has ended. What is returned is
// valid until the next call of any method.
func (t *Table) Session(r Ref) *Session {
	if r.Scope == 0 || r.Index == 0 || r.Index >= uint32(len(t.sessions)) || t.tags[r.Index].scope != r.Scope {
		return nil
	}
	s := &t.sessions[r.Index]
	t.shown = Session{
		IMSI: s.IMSI, MSISDN: s.MSISDN, IMEI: s.IMEI, UEv4: s.v4(), UEv6: s.v6(), Gateway: t.gateways.addr(s.gateway),
		Created: t.time(s.created), Seen: t.time(s.seen), Scope: r.Scope,
		APN: s.APN, Version: s.Version, RAT: s.RAT, EBI: s.EBI, UEv6Prefix: s.UEv6Prefix,
	}
	return &t.shown
}

// Note is a number that the Table's user keeps with a session, 0 until SetNote.
// It lies where ByTEID has just read. r must come from ByTEID or ByUE with no
// call of Control or Advance since.
func (t *Table) Note(r Ref) uint8 { return t.tags[r.Index].note }

// SetNote sets it, to anything but 0. A session that had a note is remembered for
// a while after its end: see Owner.
func (t *Table) SetNote(r Ref, note uint8) {
	k := &t.tags[r.Index]
	k.note, k.met = note, true
}

// APNName is the network identifier that a stands for: lower case, with dots,
// and nothing but letters, digits, '-', '_' and '.'.
func (t *Table) APNName(a APN) string {
	if int(a) >= len(t.apnNames) {
		return ""
	}
	return t.apnNames[a]
}

// APNNames are all names that messages have had so far, those beyond Config.APNs
// left out. They do not change any more.
func (t *Table) APNNames() []string {
	return t.apnNames[OtherAPN+1 : len(t.apnNames) : len(t.apnNames)]
}

// APNNumber finds the number of a name; NoAPN where it was never seen.
func (t *Table) APNNumber(name string) APN { return t.apns[name] }

// Active is the number of sessions between create and delete.
func (t *Table) Active() int { return t.active }

// Endpoints is the number of user-plane endpoints that resolve.
func (t *Table) Endpoints() int { return t.user.n }

// Counters points to the live counters, to be read by the owner's goroutine.
func (t *Table) Counters() *Counters { return &t.counters }

func (t *Table) ref(s uint32) Ref { return Ref{s, t.tags[s].scope} }

// since is how long ago a tick was, in nanoseconds; time is when it was.
func (t *Table) since(k tick) int64 { return int64(t.clock-k) << tickBits }
func (t *Table) time(k tick) int64  { return t.epoch + int64(k)<<tickBits }

func (t *Table) alive(r Ref) bool {
	return r.Scope != 0 && t.tags[r.Index].scope == r.Scope && t.sessions[r.Index].state == stateActive
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
		t.free = t.identities.next[s]
		t.identities.next[s] = 0
	} else {
		t.used++
		s = t.used
		if s == hugeFrom {
			arena.AdviseHuge(t.sessions)
			arena.AdviseHuge(t.tags)
		}
	}
	t.serial = t.serial%MaxScope + 1
	t.sessions[s] = record{created: t.clock, seen: t.clock, signalled: t.clock, Version: v, state: stateActive}
	t.tags[s] = tag{scope: t.serial}
	t.scopes.add(s)
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
	t.withdraw(s)
	t.unlistUser(s, familyV4)
	t.unlistUser(s, familyV6)
}

// release frees a session's record at once.
func (t *Table) release(s uint32) {
	t.detach(s)
	t.user.deleteAll(s)
	if t.tags[s].met {
		t.remember(t.tags[s].scope, &t.sessions[s])
	}
	t.scopes.remove(s)
	t.sessions[s], t.tags[s] = record{}, tag{}
	t.identities.next[s], t.free = t.free, s
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
		if t.tags[s].scope == l.ref.Scope && t.sessions[s].state == stateEnding {
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

// sooner reports whether r is to be evicted before o.
func (r *record) sooner(o *record) bool {
	if r.is(flagCarried) != o.is(flagCarried) {
		return o.is(flagCarried)
	}
	return r.seen < o.seen
}

// noteUse takes the marks of the user plane over into Seen.
func (t *Table) noteUse(s uint32) {
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		if e := &t.user.entries[i]; e.flags&flagUsed != 0 {
			e.flags &^= flagUsed
			t.sessions[s].seen = t.clock
			t.sessions[s].flags |= flagCarried
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
		t.sweepAt, t.epoch = now, now
	}
	t.now = now
	t.clock = tick((now - t.epoch) >> tickBits)
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
		if t.since(t.sessions[s].seen) > idle {
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
