package probe

import (
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/stream"
)

const (
	second = int64(1e9)
	minute = 60 * second

	portDNS = 53
)

// partition is a nametap in small: the tables of a sixty-fourth of the
// subscribers. It is worked by one shard.
//
// What a flow's life needs of it is in few lines of the cache (a test holds them):
// between two flows of a partition come those of all others.
type partition struct {
	shard   *shard
	number  int
	flows   *flows.Table
	names   *dnsmap.Names
	dns     *dnsmap.Map
	serving *serving          // nil where nobody wants it
	hellos  *stream.Assembler // first bytes of TLS clients
	dnsLong *stream.Assembler // DNS over TCP, server to client: long messages

	recent      *recent  // servers
	subscribers presence // which counts in the shard's pairs

	dnsStreams *stream.Assembler // like dnsLong, for the others
	_          [32]byte

	late lateQueue

	ended [2][]flows.Record // of a step, in the buffer of the step's phase

	_ [16]byte // to an odd number of lines, so that those of all partitions lie in other sets of a cache
}

func newPartition(s *shard, number int, b *budget, cfg *Config) (*partition, error) {
	p := &s.room[len(s.own)]
	*p = partition{shard: s, number: number, late: lateQueue{most: uint32(b.late)}, recent: new(recent)}
	p.late.step()
	var err error
	p.names, err = dnsmap.NewNames(dnsmap.NamesConfig{Bytes: uint64(b.names * nameCost), Seed: cfg.Seed})
	if err != nil {
		return nil, err
	}
	p.dns, err = dnsmap.New(dnsmap.Config{
		Entries: b.entries, Grace: int64(cfg.DNSGrace), Stale: int64(cfg.DNSStale), Seed: cfg.Seed,
	}, p.names)
	if err != nil {
		return nil, err
	}
	p.flows, err = flows.New(flows.Config{
		Flows: b.flows, Slab: s.slab, HoleLists: b.holes, Seed: cfg.Seed,
		IdleTimeout: &s.timeouts, Transfers: &s.transfers, Classes: &s.classes, OnEnd: p.onEnd, MostTimedOut: b.timedOut,
	})
	if err != nil {
		return nil, err
	}
	if cfg.Servings {
		if p.serving, err = newServing(b, s.place); err != nil {
			return nil, err
		}
	}
	subscribers, err := newPresence(b.subscribers)
	if err != nil {
		return nil, err
	}
	p.subscribers = *subscribers
	p.subscribers.pairCounts = &s.subscribers
	p.hellos = stream.New(classify.MaxHello, b.hellos*classify.MaxHello)
	p.dnsStreams = stream.New(dnsWindow, b.dnsStreams*dnsWindow)
	p.dnsLong = stream.New(dnsLongWindow, b.dnsLong*dnsLongWindow)
	return p, nil
}

// segment works a TCP segment that does not plainly carry on its flow, which is r if
// it is known, else 0.
//
//go:noinline
func (a *partition) segment(r uint32, p *decode.Packet, scope uint32, dir flows.Direction, hash uint64, apn uint8) {
	r, ev := a.flows.Take(r, p, scope, dir, hash)
	if f := a.flows.Hot(r); f.Reported^allReported(a.shard.minute)|uint32(p.Tunnel|f.Tunnel) != 0 {
		a.counted(r, p, scope, dir, ev, apn)
	}
}

// counted does what is left to do for a segment that its flow r has counted: nothing,
// where Reported is allReported outside of tunnels.
//
//go:noinline
func (a *partition) counted(r uint32, p *decode.Packet, scope uint32, dir flows.Direction, ev flows.Event, apn uint8) {
	f := a.flows.Flow(r)
	if p.Tunnel != decode.TunnelNone {
		a.shard.apns[apn].count(p, dir, ev)
	}
	if ev&flows.Opened != 0 {
		f.Tunnel, f.APN = p.Tunnel, apn
		if encryptedDNS(f.Key.Server, f.Key.ServerPort) {
			a.shard.encryptedDNS++
		}
		a.opened(r, f)
	}
	if !f.Settled() {
		if ev&flows.SubscriberPayload != 0 || f.Closed() {
			a.unsettled(r, f, p, ev)
		}
	} else {
		if reportedIn(f.Hot) != a.shard.minute {
			key := flows.KeyOf(p, scope, dir) // which the flow has in a line that is not at hand
			a.present(f.Hot, &key)
			a.serving.resume(r, f, dir, ev)
		}
		if f.Tunnel != decode.TunnelNone {
			a.shard.apnClasses[f.APN][f.Class].count(p, dir, ev)
		}
	}
	if p.SrcPort == portDNS && dir == flows.Down && p.PayloadLen > 0 {
		a.dnsSegment(f, p)
	}
}

// onEnd is called by the flow table when a flow is over for good.
func (a *partition) onEnd(r uint32, f flows.Flow) {
	if !f.Settled() {
		a.conclude(r, f)
	}
	a.serving.ended(r, f)
	a.dropStream(f)
	if a.shard.engine.cfg.Records != nil {
		a.keepRecord(f)
	}
	a.names.Release(dnsmap.NameID(f.Name))
	a.names.Release(dnsmap.NameID(f.DNSName))
	a.names.Release(dnsmap.NameID(f.SNI))
}

func (a *partition) record(f flows.Flow) flows.Record {
	rec := f.Record()
	info := a.shard.rules.Info(f.Class)
	rec.App, rec.Class = info.App, info.Class
	rec.Transfer = info.Kind == classify.Transfer
	rec.Evidence = classify.Evidence(f.Evidence).String()
	rec.Name = a.names.String(dnsmap.NameID(f.Name))
	rec.DNSName = rec.Name
	if f.DNSName != f.Name {
		rec.DNSName = a.names.String(dnsmap.NameID(f.DNSName))
	}
	rec.SNI = rec.Name
	if f.SNI != f.Name {
		rec.SNI = a.names.String(dnsmap.NameID(f.SNI))
	}
	return rec
}

// dropStream gives back the place where the flow's first bytes were gathered.
func (a *partition) dropStream(f flows.Flow) {
	if f.Stream == 0 {
		return
	}
	if f.Key.ServerPort == portDNS {
		streams, slot := a.streamOf(f)
		streams.Put(slot)
	} else {
		a.hellos.Put(f.Stream - 1)
	}
	f.Stream = 0
}

// response works one message from port 53 to the subscriber.
func (a *partition) response(subscriber decode.Addr, scope uint32, b []byte, cut bool, now int64) {
	s := a.shard
	m := &s.message
	switch m.Parse(b, cut) {
	case dnsmap.NotResponse:
		return
	case dnsmap.Cut:
		if !m.Response {
			return // cut before the header said what it is
		}
	case dnsmap.Malformed:
		s.dnsMalformed++
		return
	}
	s.dnsResponses++
	s.dnsRcodes[m.Rcode&15]++
	if len(m.Answers) == 0 || len(m.QName) == 0 {
		return
	}
	k := dnsmap.Key{Subscriber: subscriberKey(scope, subscriber), Scope: scope}
	a.touchAnswers(k, m.Answers)
	a.drainLate(now)
	// A name without a place in the table still ends the one that it replaces.
	name, named := a.internAnswered(m.QName, now)
	class := classify.Other
	if named {
		class = a.classOf(name)
	}
	asker := uint32(mix(k.Subscriber^s.engine.cfg.Seed, uint64(scope))) | 1
	reach := int64(s.engine.cfg.DNSGrace + s.engine.cfg.DNSStale)
	learned := &s.learned[s.phase]
	if named {
		learned.keep(a.number, m.QName)
	}
	awaited := false
	for i := range m.Answers {
		if i > 0 && i%dnsmap.MaxTouch == 0 {
			a.touchAnswers(k, m.Answers[i:])
		}
		answer := &m.Answers[i]
		k.Server = answer.Addr
		hash := s.answers[i%dnsmap.MaxTouch]
		a.dns.InsertHash(k, hash, name, now, answer.TTL)
		awaited = awaited || a.late.concerns(hash)
		s.dnsAddresses++
		if !named {
			continue
		}
		learned.add(a.number, fact{
			server: decode.Addr(answer.Addr), answered: now,
			until:      now + int64(answer.TTL)*second + reach,
			subscriber: asker, class: class,
		})
	}
	if awaited {
		a.answered(k)
	}
	a.names.Release(name)
}

// relieves bounds what one answer may cost the map: a name that many entries
// hold does not come free with one of them.
const relieves = 4

// internAnswered interns the name of an answer. Where there is no room, answers
// that nothing has used yet give up theirs, the oldest first: a flood of random
// names pushes out itself.
func (a *partition) internAnswered(qname []byte, now int64) (dnsmap.NameID, bool) {
	for range relieves {
		if name, ok := a.names.TryIntern(qname); ok {
			return name, true
		}
		if !a.dns.Relieve(now) {
			break
		}
	}
	return a.names.Intern(qname)
}

// touchAnswers hashes the keys of the first answers and touches what inserting
// them will read: the addresses of an answer have nothing else in common.
func (a *partition) touchAnswers(k dnsmap.Key, answers []dnsmap.Answer) {
	n := min(len(answers), dnsmap.MaxTouch)
	hashes := &a.shard.answers
	for i := range answers[:n] {
		k.Server = answers[i].Addr
		hashes[i] = a.dns.Hash(k)
	}
	if n == 1 {
		a.shard.sink += a.dns.Expect(hashes[0]) // nothing to overlap with but what comes first
		return
	}
	a.shard.sink += a.dns.Touch(hashes[:n])
}

// classOf returns the class of an interned name, from the name's own slot where
// the rules have not changed since.
func (a *partition) classOf(name dnsmap.NameID) uint8 {
	rules := a.shard.rules
	word := a.names.Class(name)
	if uint32(word>>32) == rules.Generation() {
		return uint8(word)
	}
	id, drift := rules.IDBytes(a.names.Bytes(name))
	if drift {
		a.shard.drift++
	}
	a.names.SetClass(name, uint64(rules.Generation())<<32|uint64(id))
	return id
}

// advance moves the partition's clock to now, the end of a step.
func (a *partition) advance(now int64) {
	a.drainLate(now)
	a.late.step()
	a.flows.Advance(now)
	a.shard.welcome()
	if (a.shard.steps+a.number)%sweepEvery == 0 {
		a.dns.Sweep(now, sweepEvery*(1+a.dns.Len()/sweepSteps))
	}
	a.serving.advance(now, int64(a.shard.engine.cfg.WatchEvery), a.flows, uint32(now/minute))
}

const (
	// sweepSteps is in how many steps the DNS map is gone through: 55 minutes, a
	// small part of the hours that its entries live.
	sweepSteps = 1 << 15

	// sweepEvery is how many steps' worth of it is gone through at once, of one
	// partition in so many each step: entries that lie together are a cache line, and
	// the map itself is several, which are no longer at hand after a tenth of a second.
	sweepEvery = 8
)
