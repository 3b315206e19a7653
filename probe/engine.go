package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/internal/arena"
)

// step is the length of packet time after which the partitions' clocks move and
// what they have learned of servers is exchanged.
const step = 100_000_000

// Config of an Engine.
type Config struct {
	// Shards is the number of goroutines that work packets, the caller's among
	// them; 0 means one a processor.
	Shards int
	// Memory is the budget of all tables together, in bytes, and of the counters of
	// one shard of each engine. Those of each further shard, at most two megabytes,
	// come on top, because what tables hold does not hang on how many there are.
	Memory int64
	// Subscribers says which end of a packet is the subscriber.
	Subscribers []netip.Prefix
	// Cascade is the evidence that may name a flow, strongest first.
	Cascade classify.Cascade
	// DNSGrace is added to every TTL; DNSStale is how long after that an
	// answer may still name a flow.
	DNSGrace, DNSStale time.Duration
	Rules              *classify.Rules
	// Dedup is how long after a packet an equal one counts as its copy; 0
	// counts every copy as a packet.
	Dedup time.Duration
	// APNs are counted by name; all others together.
	APNs []string
	// VLANScopes says that each VLAN is an address space of its own.
	VLANScopes bool
	// Hash turns an IMSI into what may leave the process. Nil leaves it out.
	Hash func(gtp.Digits) string
	// OSOf tells the operating system of a type allocation code, "" where it
	// does not know. Nil leaves it to the SYN.
	OSOf func(tac string) string

	// Records, if set, is given the flows that have ended, in batches and in
	// no particular order. The slice is used again after the call.
	Records func([]flows.Record)
	// Watch, if set, is given a snapshot each time that packet time passes a
	// multiple of WatchEvery: exactly what was counted up to there. It is called
	// where packets are handed out and must neither wait nor call the engine.
	Watch      func(*Snapshot)
	WatchEvery time.Duration
	// Servings asks for Snapshot.Servings, which takes Watch.
	Servings bool
	// Answers, if set, is given each address of each DNS answer: the question's
	// name, its class, the address and the answer's packet time. Nothing of
	// the subscriber who asked is in it. name is used again after the call.
	Answers func(name []byte, class uint8, server decode.Addr, answered int64)
	// Clock, on a live tap, is the wall clock in nanoseconds: it moves packet
	// time on while nothing passes. Where it is set the source may wait, so nothing
	// is read ahead. Nil for a replay.
	Clock func() int64
	// Seed of all hashes. A replay has a fixed one, so that it is the same
	// every time even where tables overflow; a live tap takes a secret one.
	Seed uint64
}

// Engine runs packets from a source through all rooms.
type Engine struct {
	cfg     Config
	budget  budget
	common  *common
	number  int  // among the engines that have it in common
	apart   bool // the control plane comes as signals
	rules   *classify.Compiled
	shards  []*shard
	shardOf [partitions]int
	parts   [partitions]*partition

	// mu guards what whoever dispatches owns; it is held while a batch is
	// dispatched, never while a source waits.
	mu           sync.Mutex
	decoder      *decode.Decoder
	sides        *sides
	scoped       bool // the scope of a packet outside of tunnels takes looking up
	sessions     *sessions
	gateways     gateways
	dedup        dedup
	hasher       flows.Hasher
	sights       [group]sight // of the packets decoded together
	sink         uint64       // keeps the compiler from dropping the loads ahead
	current      *chunk
	inline       bool   // one shard, worked by the dispatcher
	thin         bool   // for now the dispatcher works all shards' packets
	stepBegan    uint64 // frames before the step
	now          int64  // packet time, never going back
	nextStep     int64
	steps        int
	counts       dispatchCounts
	pressure     uint8 // of the newest batch
	shedding     shedding
	last         facts // of the step before the newest one exchanged
	fresh        facts
	rosters      [2]*roster
	gatewaysTold int // gateways that the other engines' user knows of
	signal       decode.Packet
	signals      dedup  // of signals alone: the same message may be a frame as well
	nextLook     int64  // packet time of the next call of Watch
	awaited      int    // steps that every shard is known to be through with
	waiting      [2]int // frames, by phase, of which something waits for the end of the step
	ending       bool   // no shard is running, and all flows end

	pendingRules atomic.Pointer[classify.Compiled]

	chunkPool chan *chunk
	leasePool chan *lease
	source    capture.Source
	turns     turns
}

// dispatchCounts are the dispatcher's counters.
type dispatchCounts struct {
	frames, bytes uint64
	first, last   int64
	outcomes      [decode.Outcomes]uint64
	dnsQueries    uint64
}

// New returns an engine with empty tables. The memory is reserved here and
// committed as it fills.
func New(cfg Config) (*Engine, error) {
	b, err := planFor(&cfg, 1)
	if err != nil {
		return nil, err
	}
	c, err := newCommon(&cfg, &b, 1)
	if err != nil {
		return nil, err
	}
	return engineOf(c, 0, b, cfg)
}

// engineOf returns the engine of that number among those that have c in common.
func engineOf(c *common, number int, b budget, cfg Config) (*Engine, error) {
	if cfg.Shards <= 0 {
		cfg.Shards = runtime.GOMAXPROCS(0)
	}
	cfg.Shards = min(cfg.Shards, partitions)
	e := &Engine{cfg: cfg, budget: b, common: c, number: number, apart: len(c.inboxes) > 1, rules: c.rules}
	if err := e.allocate(); err != nil {
		return nil, fmt.Errorf("setting up tables for %d MiB: %w", cfg.Memory>>20, err)
	}
	return e, nil
}

func (e *Engine) allocate() error {
	var err error
	for i := range e.cfg.Shards {
		s := &shard{engine: e, number: i, ticked: make(chan struct{}, 2)}
		s.adopt(e.rules)
		e.shards = append(e.shards, s)
		owned := (partitions-1-i)/e.cfg.Shards + 1
		if s.slab, err = flows.NewSlab(owned * e.budget.flows); err != nil {
			return err
		}
		if e.cfg.Servings {
			if s.place, err = arena.Make[uint32](owned*e.budget.flows + 1); err != nil {
				return err
			}
		}
		for phase := range s.learned {
			if s.learned[phase], err = newLessons(owned, e.budget.facts); err != nil {
				return err
			}
		}
		s.room = make([]partition, owned)
		for n := i; n < partitions; n += e.cfg.Shards {
			a, err := newPartition(s, n, &e.budget, &e.cfg)
			if err != nil {
				return err
			}
			s.parts[n], e.parts[n] = a, a
			s.tables[n] = a.flows
			s.own = append(s.own, a)
			e.shardOf[n] = i
		}
	}
	for i := range e.rosters {
		if i > 0 && e.cfg.Shards == 1 {
			e.rosters[i] = e.rosters[0] // nobody reads it while it learns
			break
		}
		if e.rosters[i], err = newRoster(e.budget.roster, e.cfg.Seed); err != nil {
			return err
		}
	}
	for _, l := range []*facts{&e.last, &e.fresh} {
		if *l, err = newFacts(e.budget.learned() * min(len(e.common.inboxes), 2)); err != nil {
			return err
		}
	}
	if e.sides, err = newSides(e.cfg.Subscribers, e.budget.sides, e.cfg.Seed); err != nil {
		return err
	}
	if e.sessions, err = newSessions(e.budget.sessions, e.cfg.APNs, e.cfg.Seed); err != nil {
		return err
	}
	if e.gateways, err = newGateways(e.budget.sides); err != nil {
		return err
	}
	e.hasher = e.parts[0].flows.Hasher()
	e.dedup = newDedup(int64(e.cfg.Dedup), e.cfg.Seed)
	if e.apart {
		e.signals = newDedup(int64(e.cfg.Dedup), e.cfg.Seed)
	}
	e.decoder = decode.New(decode.Config{FragmentBytes: e.budget.fragments})
	e.pools()
	return nil
}

// Run works the source's frames until its end, an error of the source, or the
// end of ctx, which is a stop in good order. All flows are ended then, and the
// tables are empty. Run may be called again with another source.
//
// The error is the source's; what came before it has been worked.
func (e *Engine) Run(ctx context.Context, source capture.Source) error {
	e.mu.Lock()
	e.source = source
	e.mu.Unlock()
	e.turns.begin(len(e.shards), runtime.GOMAXPROCS(0), e.cfg.Clock != nil)
	for _, s := range e.shards {
		s.chunks = make(chan *chunk, cap(e.chunkPool))
	}
	var wait sync.WaitGroup
	for _, s := range e.shards[1:] {
		wait.Go(func() { s.run(ctx) })
	}
	e.shards[0].run(ctx)
	wait.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unread()
	e.finish()
	if errors.Is(e.turns.failure, io.EOF) {
		return nil
	}
	return e.turns.failure
}

// batch dispatches the frames of a batch.
func (e *Engine) batch(l *lease) {
	e.pressure = l.batch.Pressure
	e.shedding = e.shedding.under(e.pressure)
	e.decoder.Scratch = l.batch.Scratch[:0]
	done := 0
	for i := range l.batch.Signals {
		s := &l.batch.Signals[i]
		e.run(l, l.batch.Frames[done:s.Before])
		done = s.Before
		e.overhear(&s.Frame)
	}
	e.run(l, l.batch.Frames[done:])
	l.batch.Scratch = e.decoder.Scratch
	if len(l.batch.Frames) == 0 && e.cfg.Clock != nil {
		e.idle()
	}
	e.flush(0)
}

// run works frames of the lease.
func (e *Engine) run(l *lease, frames []capture.Frame) {
	for len(frames) > 0 {
		n := e.frames(l, frames)
		frames = frames[n:]
		e.early(n)
	}
}

// overhear works a message of the control plane that all engines are shown. It
// counts where it is a frame; here it only tells of sessions.
func (e *Engine) overhear(f *capture.Frame) {
	e.tell(f.Time)
	p := &e.signal
	p.Time = f.Time
	if e.decoder.Decode(f.Data, f.WireLen, f.Link, f.VLAN, p) != decode.UDP || !signalling(p) {
		return
	}
	if _, copied := e.signals.copied(p, e.signals.mark(p), f.Interface, 0); !copied {
		e.sessions.controlMessage(p)
	}
}

// idle moves packet time on while a live tap is silent. A second is left for
// packets that are still in the ring.
func (e *Engine) idle() {
	e.tell(e.cfg.Clock() - second)
}

// frames decodes the first few of the frames, gives their packets to the shards of
// their subscribers, and returns how many there were. They are decoded first and
// sorted out after that, so that the waits for what is remembered of their
// copies overlap. A step ends only before the first of them.
func (e *Engine) frames(l *lease, list []capture.Frame) int {
	if e.counts.frames == 0 {
		e.counts.first = list[0].Time
	}
	e.tell(list[0].Time)
	c := e.current
	if c == nil {
		c = e.begin(l)
	}
	packets := c.packets[c.n:]
	n := e.tally(list[:min(len(list), group, len(packets), e.room())])
	e.scoped = e.cfg.VLANScopes || e.sessions.table.Active() != 0 || e.gateways.any()
	list, packets = list[:n], packets[:n]
	e.decode(list, packets, c.n)
	e.sink += e.dedup.touch(e.sights[:n])
	e.sort(c, list, packets)
	if c.n += n; c.n == chunkPackets || e.inline {
		e.flush(0) // at once where nothing hops: what was decoded is still in the first-level cache
	}
	return n
}

// tally counts what frames tell without a look at their bytes, as far as they are
// of the step, and returns how many of them are: the first one always is.
func (e *Engine) tally(list []capture.Frame) int {
	bytes, first, last := uint64(0), e.counts.first, e.counts.last
	for i := range list {
		f := &list[i]
		if f.Time >= e.nextStep && i > 0 {
			list = list[:i]
			break
		}
		first, last = min(first, f.Time), max(last, f.Time)
		bytes += uint64(f.WireLen)
	}
	e.counts.frames += uint64(len(list))
	e.counts.bytes += bytes
	e.counts.first, e.counts.last = first, last
	e.now = max(e.now, last)
	return len(list)
}

// tell moves packet time on, if now is later.
func (e *Engine) tell(now int64) {
	if now <= e.now {
		return
	}
	e.now = now
	if now >= e.nextStep {
		e.endSteps()
	}
}

// origin is whose packet it is.
type origin struct {
	scope  uint32
	apn    uint8
	dir    flows.Direction
	prefix uint64 // of the subscriber's address; 0 where a session tells them apart
}

// origin finds out whose packet it is, and whether it is a copy of one that has
// been counted.
func (e *Engine) origin(p *decode.Packet, mark uint64, port uint16) (o origin, copied bool) {
	if p.Tunnel != decode.TunnelGTP {
		o.dir, o.prefix = e.sides.subscriber(p)
		var first uint32
		if first, copied = e.dedup.copied(p, mark, port, 0); copied {
			e.gateways.bare(first, o.prefix)
		} else if e.scoped {
			e.bareScope(p, &o)
		}
		return o, copied
	}
	e.scoped = true
	if e.sessions.table.Endpoints() == 0 {
		return e.behindGateway(p, mark, port) // no control plane on this tap: nothing to find
	}
	scope, apn, dir, directed, known := e.sessions.find(p)
	if !known {
		return e.behindGateway(p, mark, port)
	}
	o = origin{scope: scope, apn: apn, dir: dir}
	if !directed {
		o.dir = e.sides.direction(p)
	}
	_, copied = e.dedup.copied(p, mark, port, 0)
	return o, copied
}

// behindGateway is origin in a tunnel of which no session is known. It is not inlined,
// so that what it calls is.
//
//go:noinline
func (e *Engine) behindGateway(p *decode.Packet, mark uint64, port uint16) (o origin, copied bool) {
	e.sessions.anonymous++
	o.apn = apnUnknown
	o.dir, o.prefix = e.sides.subscriber(p)
	gateway := e.gateways.at(gatewayOf(p, o.dir))
	first, copied := e.dedup.copied(p, mark, port, gateway.number)
	switch {
	case !copied:
		o.scope = e.gateways.scope(gateway, o.prefix, o.dir)
	case first != 0 && first != gateway.number:
		e.gateways.same(first, gateway.number)
	}
	return o, copied
}

// subscriberOf returns the sender of what goes up and the receiver of what goes
// down.
func subscriberOf(p *decode.Packet, dir flows.Direction) decode.Addr {
	return either(p.Src, p.Dst, dir)
}

// gatewayOf returns the end of a packet's tunnel towards the servers.
func gatewayOf(p *decode.Packet, dir flows.Direction) decode.Addr {
	return either(p.OuterDst, p.OuterSrc, dir)
}

// either returns up or down by the direction. No branch: it would be guessed wrong
// for every other packet.
func either(up, down decode.Addr, dir flows.Direction) decode.Addr {
	mask := -uint64(dir & 1)
	return decode.Addr{Hi: up.Hi ^ (up.Hi^down.Hi)&mask, Lo: up.Lo ^ (up.Lo^down.Lo)&mask}
}

// bareScope fills in the scope of a packet outside of any tunnel.
func (e *Engine) bareScope(p *decode.Packet, o *origin) {
	if e.cfg.VLANScopes && p.VLAN != 0 {
		o.scope, o.apn = vlanScope|uint32(p.VLAN), apnUnknown
		return
	}
	if scope, apn, ok := e.sessions.owner(subscriberOf(p, o.dir)); ok {
		o.scope, o.apn, o.prefix = scope, apn, 0
		return
	}
	o.scope, o.apn = e.gateways.owner(o.prefix), apnUnknown
}

// UDP ports of signalling.
const (
	portGTPC = 2123 // TS 29.060, TS 29.274
	portPFCP = 8805 // TS 29.244
)

// datagram picks the DNS answers and the control plane out of UDP. A DNS answer
// comes from port 53 or, where a server answers from elsewhere, goes to it with
// the QR bit set (RFC 1035 section 4.1.1). Multicast DNS (5353), LLMNR (5355)
// and NetBIOS (137) have ports of their own and are not DNS here.
func (e *Engine) datagram(c *chunk, p *decode.Packet, at uint8, mark uint64, port uint16) {
	if p.SrcPort != portDNS {
		if p.DstPort == portGTPC || p.SrcPort == portGTPC || p.DstPort == portPFCP || p.SrcPort == portPFCP {
			e.control(p, mark, port)
			return
		}
		if p.DstPort != portDNS {
			return
		}
		if b := p.Payload(); len(b) < 3 || b[2]&0x80 == 0 {
			if _, copied := e.dedup.copied(p, mark, port, 0); !copied {
				e.counts.dnsQueries++
			}
			return
		}
	}
	o, copied := e.origin(p, mark, port)
	if copied {
		return
	}
	if b := p.Payload(); len(b) > 2 && b[2]&0x80 != 0 {
		e.sides.answered(p.Dst)
	}
	o.prefix = subscriberKey(o.scope, p.Dst)
	e.give(c, at, o, workDNS, 0) // whatever is touched for an answer is as good as any
}

// control works a message of the control plane, which never comes in a user's
// tunnel: what does, is a user's own.
func (e *Engine) control(p *decode.Packet, mark uint64, port uint16) {
	if !signalling(p) {
		return
	}
	if _, copied := e.dedup.copied(p, mark, port, 0); !copied && !e.apart {
		e.sessions.controlMessage(p)
		e.scoped = true
	}
}

// signalling reports whether a datagram is one of the control plane.
func signalling(p *decode.Packet) bool {
	return p.Tunnel == decode.TunnelNone &&
		(p.DstPort == portGTPC || p.SrcPort == portGTPC || p.DstPort == portPFCP || p.SrcPort == portPFCP)
}

// give hands the chunk's packet at the index to its subscriber's shard.
func (e *Engine) give(c *chunk, at uint8, o origin, w work, hash uint64) {
	part := partitionOf(e.cfg.Seed, o.scope, o.prefix) % partitions
	c.lists[part].add(itemOf(hash, at, part, w, o))
}

// endSteps closes the current step and, after a pause, the empty one behind it:
// what the last step before the pause taught is known from the first packet
// after it on.
func (e *Engine) endSteps() {
	pause := e.nextStep != 0 && e.now >= e.nextStep+step
	e.endStep()
	if pause {
		e.endStep()
	}
}

// endStep closes the current step: all partitions advance to the last multiple
// of the step's length, and what the step before taught is exchanged.
func (e *Engine) endStep() {
	tick := e.now - e.now%step
	e.nextStep = tick + step
	e.flush(max(tick, 1))
	e.thinned(e.counts.frames - e.stepBegan)
	e.stepBegan = e.counts.frames
	e.sessions.advance(tick)
	e.steps++
	if e.steps > 1 {
		e.exchange()
	}
	if e.cfg.Watch != nil && tick >= e.nextLook {
		e.nextLook = tick - tick%int64(e.cfg.WatchEvery) + int64(e.cfg.WatchEvery)
		e.await(e.steps)
		s := e.complete(e.begun())
		s.Time = tick
		e.beginServings()
		e.cfg.Watch(s)
	}
}

// beginServings begins the next period of Snapshot.Servings.
func (e *Engine) beginServings() {
	if !e.cfg.Servings {
		return
	}
	for _, a := range e.parts {
		a.shard.mu.Lock()
		a.serving.begin()
		a.shard.mu.Unlock()
	}
}

// await waits until every shard is through with so many steps.
func (e *Engine) await(steps int) {
	if e.inline {
		return
	}
	for ; e.awaited < steps; e.awaited++ {
		for _, s := range e.shards {
			take(&e.turns, s.ticked)
		}
	}
}

// exchange puts together what was learned in the step before the one just
// closed. That step is over in every shard once each has ticked for it, and its
// buffers, like the roster read in it, are not used again before the next step
// begins: nobody has to wait for a lock, and rarely for another shard.
func (e *Engine) exchange() {
	e.await(e.steps - 1)
	e.learn(e.steps & 1)
}

// learn puts together what was learned in the step of that phase.
func (e *Engine) learn(phase int) {
	e.fresh.reset()
	e.fresh.takeAll(e, phase)
	for _, a := range e.parts {
		e.collect(a, phase)
	}
	if e.cfg.Answers != nil {
		e.answers(&e.fresh)
	}
	e.waiting[phase] = 0
	e.common.exchange(e, phase)
	r := e.rosters[phase]
	if r == e.rosters[phase^1] {
		r.learn(&e.fresh)
		return
	}
	r.learn(&e.last)
	r.learn(&e.fresh)
	e.last, e.fresh = e.fresh, e.last
}

// answers gives what a step's DNS answers said to whoever wants to know.
func (e *Engine) answers(l *facts) {
	for i := range l.list {
		f := &l.list[i]
		e.cfg.Answers(l.name(f), f.class, f.server, f.answered)
	}
}

// identify adds to a record what the control plane knows of its subscriber.
func (e *Engine) identify(r *flows.Record) {
	id, ok := e.sessions.identity(r.Key.Scope)
	if !ok {
		return
	}
	r.APN = e.sessions.table.APNName(id.apn)
	if e.cfg.Hash != nil && id.imsi.Len() > 0 {
		r.IMSI = e.cfg.Hash(id.imsi)
	}
	if id.tac == 0 {
		return
	}
	r.TAC = fmt.Sprintf("%08d", id.tac)
	if e.cfg.OSOf == nil {
		return
	}
	if os := e.cfg.OSOf(r.TAC); os != "" {
		r.OSName = os
	}
}

// finish ends all flows. No shard is running.
func (e *Engine) finish() {
	e.await(e.steps)
	e.welcome()
	for next := range 2 { // the older step first
		phase := (e.steps + 1 + next) & 1
		e.common.meet(e, phase)
		for _, a := range e.parts {
			e.collect(a, phase)
		}
	}
	e.ending = true
	for _, a := range e.parts {
		a.shard.mu.Lock()
		a.flows.Shutdown(e.now)
		a.shard.welcome()
		a.shard.mu.Unlock()
		e.collect(a, a.shard.phase)
		e.common.meet(e, a.shard.phase) // flows that were named at their end
	}
	e.ending = false
	// Not before: what names a flow at its end is known 100 ms after it was told.
	for next := range 2 {
		e.learn((e.steps + 1 + next) & 1)
	}
}

// Reload replaces the naming rules. Live flows keep their class; names are
// classified anew when they next name a flow. On an error nothing changes.
func (e *Engine) Reload(rules *classify.Rules) error {
	compiled, err := e.common.registry.Adopt(rules)
	if err != nil {
		return err
	}
	e.pendingRules.Store(compiled)
	return nil
}
