package probe

import (
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/flows"
)

// How far the naming of a flow has got, in Flow.Naming.
const (
	// namingHello: the subscriber's first bytes begin like a TLS ClientHello
	// and more of it is awaited.
	namingHello = 1 << iota
	// namingJudged: evidence was taken and there was none; only a late answer
	// can name the flow now.
	namingJudged
	// namingLate: the flow waits in the queue for late answers.
	namingLate
	// namingStale: the answer behind DNSName had expired at the first packet.
	namingStale
	// namingHeld: when it was last looked for, the map held an answer for the flow
	// that did not name it, being one of another time.
	namingHeld
	// namingMixed: the roster knew too many classes of the server to name the flow.
	namingMixed
)

// lateAnswers is how long after its first packet a flow that nothing names
// stays open to an answer: mirrored directions are never perfectly in step.
const lateAnswers = second

// opened takes the evidence of DNS for a new flow, as of its first packet.
func (a *partition) opened(r uint32, f flows.Flow) {
	k := mapKey(f.Cold)
	hash := a.dns.Hash(k)
	held := a.dns.FindHash(k, hash)
	name, answered, state := a.dns.At(held, f.Start)
	if state != dnsmap.None {
		a.keepAnswer(f, name, answered)
	}
	if state == dnsmap.Valid {
		return
	}
	if state == dnsmap.Stale {
		f.Naming = namingStale
		if a.shard.engine.cfg.Cascade.Has(classify.EvidenceDNSStale) {
			return
		}
	}
	f.Naming |= namingLate
	if a.late.full() {
		a.shard.hurried++
		a.drainOne()
	}
	a.late.push(lateFlow{f.Start, r, lateMark(k)}, hash)
	if held != 0 {
		f.Naming |= namingHeld
		a.late.held = a.late.tail
	}
}

// held returns what the map holds for the flow.
func (a *partition) held(f flows.Flow) dnsmap.EntryID {
	k := mapKey(f.Cold)
	return a.dns.FindHash(k, a.dns.Hash(k))
}

// mayBeHeld reports whether the map may hold what names the flow. While a flow
// waits, each answer that its subscriber gets is held against it at once: where the
// map had nothing for it before, there is nothing now.
func mayBeHeld(f flows.Flow) bool { return f.Naming&(namingLate|namingHeld) != namingLate }

func mapKey(f *flows.Cold) dnsmap.Key {
	return dnsmap.Key{Subscriber: subscriberKey(f.Key.Scope, f.Key.Subscriber), Scope: f.Key.Scope, Server: dnsmap.Addr(f.Key.Server)}
}

func (a *partition) keepAnswer(f flows.Flow, name dnsmap.NameID, answered int64) {
	a.names.Retain(name)
	a.names.Release(dnsmap.NameID(f.DNSName))
	f.DNSName, f.DNSAnswered = uint32(name), answered
}

// unsettled follows a flow until its name is settled, from a segment with payload of the
// subscriber's, or one after which it is closed: evidence is taken when the first payload
// has passed, or when the flow closes without any.
func (a *partition) unsettled(r uint32, f flows.Flow, p *decode.Packet, ev flows.Event) {
	if f.Naming&namingJudged != 0 {
		return
	}
	if ev&flows.SubscriberPayload != 0 {
		if f.Segments < 255 {
			f.Segments++
		}
		if a.hello(f, p) {
			a.judge(r, f)
			return
		}
	}
	if f.Closed() {
		a.partialHello(f)
		a.judge(r, f)
	}
}

// hello looks for a server name in the subscriber's first bytes. It reports
// whether there is nothing more to wait for.
func (a *partition) hello(f flows.Flow, p *decode.Packet) bool {
	payload := p.Payload()
	at, ok := f.StreamOffset(flows.Up, p.Seq+uint32(p.Flags&decode.SYN>>1))
	if !ok {
		return false // before the first byte: a keep-alive or a stray
	}
	cut := uint32(len(payload)) < p.PayloadLen
	if f.Naming&namingHello == 0 {
		if a.shard.shedding.leavesOut(WorkSNI) {
			a.shard.unexamined++
			return true
		}
		if at == 0 {
			h := classify.ClientHello(a.shard.sni[:0], payload)
			if h.State != classify.HelloNeed {
				a.keepSNI(f, h.SNI)
				return true
			}
			if cut {
				sni, _ := classify.PartialSNI(a.shard.sni[:0], payload)
				a.keepSNI(f, sni)
				return true
			}
		}
		if f.Key.ServerPort == portDNS || !a.gather(f) {
			return true
		}
	}
	slot := f.Stream - 1
	a.hellos.Add(slot, at, payload)
	first := a.hellos.Contiguous(slot)
	h := classify.ClientHello(a.shard.sni[:0], first)
	switch {
	case len(first) == 0 && !cut && f.Segments < classify.MaxSegments:
		return false // its beginning is still on the way
	case h.State != classify.HelloNeed:
		a.keepSNI(f, h.SNI)
	case cut || f.Segments >= classify.MaxSegments || len(first) >= classify.MaxHello:
		sni, _ := classify.PartialSNI(a.shard.sni[:0], first)
		a.keepSNI(f, sni)
	default:
		return false
	}
	f.Naming &^= namingHello
	a.dropStream(f)
	return true
}

// gather takes a place for the flow's first bytes.
func (a *partition) gather(f flows.Flow) bool {
	slot, ok := a.hellos.Get()
	if !ok {
		a.shard.streamsRefused++
		return false
	}
	f.Stream = slot + 1
	f.Naming |= namingHello
	return true
}

// partialHello takes what there is of a hello that will not be completed.
func (a *partition) partialHello(f flows.Flow) {
	if f.Naming&namingHello == 0 {
		return
	}
	sni, _ := classify.PartialSNI(a.shard.sni[:0], a.hellos.Contiguous(f.Stream-1))
	a.keepSNI(f, sni)
	f.Naming &^= namingHello
	a.dropStream(f)
}

func (a *partition) keepSNI(f flows.Flow, sni []byte) {
	if len(sni) == 0 || f.SNI != 0 {
		return
	}
	if id := dnsmap.NameID(f.DNSName); id != 0 && a.names.Is(id, sni) { // as nearly always: no need to look for it
		a.names.Retain(id)
		f.SNI = f.DNSName
		return
	}
	id, _ := a.names.Intern(sni)
	f.SNI = uint32(id)
}

// judge settles the flow's name by the evidence there is. A flow without any,
// in its first second, is left open to a late answer.
func (a *partition) judge(r uint32, f flows.Flow) {
	a.delayedAnswer(f)
	name, evidence := a.evidence(f)
	if evidence == classify.EvidenceNone && f.Naming&namingLate != 0 {
		f.Naming |= namingJudged
		if f.Tunnel == decode.TunnelNone { // settle counts what tunnelled would
			f.Reported = a.shard.reported(&f.Key)
		}
		return
	}
	a.settle(r, f, name, evidence)
}

// evidence returns the strongest name there is, with a reference to it.
func (a *partition) evidence(f flows.Flow) (dnsmap.NameID, classify.Evidence) {
	for _, e := range a.shard.engine.cfg.Cascade {
		var name dnsmap.NameID
		switch e {
		case classify.EvidenceSNI:
			name = dnsmap.NameID(f.SNI)
		case classify.EvidenceDNS:
			if f.Naming&namingStale == 0 {
				name = dnsmap.NameID(f.DNSName)
			}
		case classify.EvidenceDNSStale:
			if f.Naming&namingStale != 0 {
				name = dnsmap.NameID(f.DNSName)
			}
		case classify.EvidenceServer:
			if id := a.fromRoster(f); id != 0 {
				return id, e
			}
		}
		if name != 0 {
			a.names.Retain(name)
			return name, e
		}
	}
	return 0, classify.EvidenceNone
}

// fromRoster asks what other subscribers' answers say of the flow's server. Of a flow
// that waits it is asked again at the end, but not where that would be the same: a
// server of too many classes at a flow's first packet stays one, unless it is forgotten.
func (a *partition) fromRoster(f flows.Flow) dnsmap.NameID {
	s := a.shard
	roster := s.engine.rosters[s.phase]
	if f.Naming&namingMixed != 0 && roster.Evicted == 0 {
		return 0
	}
	asker := uint32(mix(subscriberKey(f.Key.Scope, f.Key.Subscriber)^s.engine.cfg.Seed, uint64(f.Key.Scope))) | 1
	name := roster.lookup(s.nameBuf[:0], f.Key.Server, f.Start, asker)
	if name == nil {
		f.Naming |= namingMixed
	}
	if len(name) == 0 {
		return 0
	}
	id, _ := a.names.Intern(name)
	return id
}

// settle decides the flow's name and with it its class. The reference to name
// becomes the flow's.
func (a *partition) settle(r uint32, f flows.Flow, name dnsmap.NameID, evidence classify.Evidence) {
	class := classify.Other
	if name != 0 {
		class = a.classOf(name)
	}
	f.Name, f.Evidence = uint32(name), uint8(evidence)
	if evidence != classify.EvidenceDNS && f.DNSAnswered > f.Start {
		a.keepAnswer(f, 0, 0) // only a flow that nothing else names is open to a late answer
	}
	a.dropHello(f)
	a.flows.Settle(r, class)
	if f.Tunnel != decode.TunnelNone {
		a.shard.apnClasses[f.APN][class].settled(f)
	}
	a.shard.named[class][evidence]++
	a.present(f.Hot, &f.Key)
	a.serving.follow(r, class)
}

func (a *partition) dropHello(f flows.Flow) {
	if f.Naming&namingHello != 0 {
		f.Naming &^= namingHello
		a.dropStream(f)
	}
}

// conclude settles a flow that is over.
func (a *partition) conclude(r uint32, f flows.Flow) {
	if f.Naming&namingLate != 0 {
		a.lastAnswer(f)
		f.Naming &^= namingLate
	}
	a.partialHello(f)
	name, evidence := a.evidence(f)
	a.settle(r, f, name, evidence)
}

// delayedAnswer takes an answer that by its packet time was valid at the flow's
// first packet but reached us behind it: the queues of a network card are no
// more in step than mirrors are.
func (a *partition) delayedAnswer(f flows.Flow) {
	if !validAnswer(f) && mayBeHeld(f) {
		a.takeDelayed(f, a.held(f))
	}
}

func validAnswer(f flows.Flow) bool { return f.DNSName != 0 && f.Naming&namingStale == 0 }

func (a *partition) takeDelayed(f flows.Flow, held dnsmap.EntryID) bool {
	name, answered, state := a.dns.At(held, f.Start)
	if state != dnsmap.Valid {
		return false
	}
	a.takeAnswer(f, name, answered)
	return true
}

// takeAnswer lets an answer name a flow that may have waited for one.
func (a *partition) takeAnswer(f flows.Flow, name dnsmap.NameID, answered int64) {
	a.keepAnswer(f, name, answered)
	f.Naming &^= namingStale | namingLate
}

// lateAnswer takes an answer that came in the flow's first second, if there is
// one.
func (a *partition) lateAnswer(f flows.Flow) bool {
	if validAnswer(f) {
		return true
	}
	held := a.held(f)
	if held == 0 {
		return false
	}
	if a.takeDelayed(f, held) {
		return true
	}
	name, answered, state := a.dns.At(held, f.Start+lateAnswers)
	if state == dnsmap.None || answered <= f.Start {
		f.Naming |= namingHeld
		return false
	}
	a.takeAnswer(f, name, answered)
	return true
}

// lastAnswer is lateAnswer at the end of the flow's wait.
func (a *partition) lastAnswer(f flows.Flow) {
	if mayBeHeld(f) {
		a.lateAnswer(f)
	}
}

// lateFlow is a flow without an answer in its first second. The subscriber is
// a hash: one of another only costs a look-up.
type lateFlow struct {
	start              int64
	record, subscriber uint32
}

// lateMark is the hash of a map key's subscriber.
func lateMark(k dnsmap.Key) uint32 { return uint32(mix(k.Subscriber, uint64(k.Scope))) }

// lateQueue holds them in the order of their first packets. Its first line of the cache
// is what every flow that waits needs.
type lateQueue struct {
	ring       []lateFlow // a power of two long, and grows as need be
	head, tail uint32
	due        int64 // the wait of the one at head is over behind that time
	// held is behind the last flow that may be one of namingHeld.
	held   uint32
	turned uint32
	young  uint32
	left   uint32 // of lateShare in this step
	most   uint32 // flows; beyond, the oldest waits no longer

	// marks have the keys of all flows that wait: the ones at young have those from
	// turned on, the others those before.
	marks lateMarks
}

// lateMarks are two sets of keys by their hashes, large enough that with some hundred
// flows in them, those of a partition at a million packets a second, they seem to hold
// few others. Words of the same hashes stand together, and of the words only as many
// are used as the ring's length asks for: a partition with few flows touches few lines.
type lateMarks [64][2]uint64

// words is how many of the marks' words are in use.
func (q *lateQueue) words() int { return min(max(len(q.ring)/4, 16), len(q.marks)) }

// mark returns the words in which the hash may be marked.
func (q *lateQueue) mark(hash uint64) *[2]uint64 {
	return &q.marks[hash>>6&uint64(q.words()-1)%uint64(len(q.marks))]
}

// lateTurn is the least number of flows between two turns of the marks.
const lateTurn = 64

// lateShare is one in how many of those that may wait are settled in a step of a
// tenth of a second: more than come to the end of their second in it, so that only
// after a pause some wait longer, and what they leave of their servers is bounded.
const lateShare = 8

func (q *lateQueue) step() { q.left = max(q.most/lateShare, 1) }

func (q *lateQueue) at(i uint32) *lateFlow { return &q.ring[i&uint32(len(q.ring)-1)] }

func (q *lateQueue) push(l lateFlow, hash uint64) {
	if int(q.tail-q.head) == len(q.ring) {
		q.grow()
	}
	if q.head == q.tail {
		q.due = l.start + lateAnswers
	}
	*q.at(q.tail) = l
	q.tail++
	if q.tail-q.turned > lateTurn && int32(q.head-q.turned) >= 0 {
		q.turn()
	}
	q.mark(hash)[q.young&1] |= 1 << (hash % 64)
}

// grow doubles the ring, and with it the marks: what was in one of their words may
// now be looked for in two.
func (q *lateQueue) grow() {
	next := make([]lateFlow, max(2*len(q.ring), firstSlots))
	for i := range q.tail - q.head {
		next[i] = *q.at(q.head + i)
	}
	q.turned, q.held = q.turned-q.head, q.held-q.head
	before := q.words()
	q.ring, q.head, q.tail = next, 0, q.tail-q.head
	if q.words() > before {
		copy(q.marks[before:], q.marks[:before])
	}
}

// turn begins anew with the older marks, of which no flow waits any longer.
func (q *lateQueue) turn() {
	q.young ^= 1
	for i := range q.words() {
		q.marks[i][q.young] = 0
	}
	q.turned = q.tail - 1
	if int32(q.held-q.head) < 0 {
		q.held = q.head // or it would be ahead again after 2^31 flows
	}
}

// concerns reports whether an answer for the key with that hash may name a flow that
// waits: one of that key, or one for which something was held already.
func (q *lateQueue) concerns(hash uint64) bool {
	words := q.mark(hash)
	return (words[0]|words[1])>>(hash%64)&1 != 0 || int32(q.held-q.head) > 0
}

func (q *lateQueue) full() bool { return q.tail-q.head == q.most }

// pop takes the one at the head out.
func (q *lateQueue) pop() lateFlow {
	l := *q.at(q.head)
	if q.head++; q.head != q.tail {
		q.due = q.at(q.head).start + lateAnswers
	}
	return l
}

// drainLate is called before anything that is younger than now: flows whose
// first second is over take the answer that came in it, or stay without.
func (a *partition) drainLate(now int64) {
	for a.late.left > 0 && a.late.head != a.late.tail && a.late.due < now {
		if a.drainOne() {
			a.late.left--
		}
	}
}

// drainOne ends the wait of the flow at the head of the queue, and reports whether
// it was settled.
func (a *partition) drainOne() bool {
	l := a.late.pop()
	f, ok := a.waiting(&l)
	if !ok {
		return false
	}
	a.lastAnswer(f)
	a.unblock(l.record, f)
	return f.Settled()
}

// answered lets the subscriber's flows that wait take the answer that has just
// come: a second one must not rename them.
func (a *partition) answered(k dnsmap.Key) {
	mark := lateMark(k)
	ring, tail := a.late.ring, a.late.tail
	for at := a.late.head; at != tail; at++ {
		l := &ring[at&uint32(len(ring)-1)]
		if l.subscriber != mark {
			continue
		}
		f, ok := a.waiting(l)
		switch {
		case !ok:
		case a.lateAnswer(f):
			a.unblock(l.record, f)
		case f.Naming&namingHeld != 0 && int32(at-a.late.held) >= 0:
			a.late.held = at + 1
		}
	}
}

// waiting returns the flow, and whether it still waits. Its record may be another's
// by now.
func (a *partition) waiting(l *lateFlow) (f flows.Flow, ok bool) {
	f = a.flows.Flow(l.record)
	return f, f.Naming&namingLate != 0 && f.Live() && !f.Settled() && f.Start == l.start
}

// unblock ends the flow's wait, and settles it if only that was missing.
func (a *partition) unblock(r uint32, f flows.Flow) {
	f.Naming &^= namingLate
	if f.Naming&namingJudged == 0 {
		return
	}
	name, evidence := a.evidence(f)
	a.settle(r, f, name, evidence)
}
