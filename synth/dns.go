package synth

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// nameTemplate stands for one name, or for one a number of a range.
type nameTemplate struct {
	prefix, suffix string
	from, to       int
	ranged         bool
}

func (t nameTemplate) count() int { return t.to - t.from + 1 }

func (t nameTemplate) append(b []byte, i int) []byte {
	b = append(b, t.prefix...)
	if t.ranged {
		b = strconv.AppendInt(b, int64(t.from+i), 10)
	}
	return append(b, t.suffix...)
}

// parseTemplate reads a name such as mmi{100..199}.whatsapp.net.
func parseTemplate(s string) (nameTemplate, error) {
	t := nameTemplate{prefix: s}
	if open := strings.IndexByte(s, '{'); open >= 0 {
		end := strings.IndexByte(s, '}')
		from, to, ok := "", "", false
		if end > open {
			from, to, ok = strings.Cut(s[open+1:end], "..")
		}
		a, err1 := strconv.Atoi(from)
		z, err2 := strconv.Atoi(to)
		if !ok || err1 != nil || err2 != nil || a < 0 || z < a || z-a >= 1<<16 {
			return t, fmt.Errorf("%q is no name or range of names such as mmi{100..199}.whatsapp.net", s)
		}
		t = nameTemplate{prefix: s[:open], suffix: s[end+1:], from: a, to: z, ranged: true}
	}
	name := string(t.append(nil, t.to-t.from))
	if len(name) > 200 || strings.ToLower(name) != name || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return t, fmt.Errorf("%q is no lower-case DNS name", s)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return t, fmt.Errorf("%q has a label that is empty or longer than 63", s)
		}
	}
	return t, nil
}

// A name's number is its service's in the upper bits and its own among the
// service's names below.
const nameBits = 22

func (g *Generator) nameID(service uint8, i int) uint32 { return uint32(service)<<nameBits | uint32(i) }

// appendName appends the text of a name.
func (g *Generator) appendName(b []byte, id uint32) []byte {
	i := int(id & (1<<nameBits - 1))
	for _, t := range g.services[id>>nameBits].templates {
		if i < t.count() {
			return t.append(b, i)
		}
		i -= t.count()
	}
	return b
}

// lookup is a subscriber's question, until it is answered or given up and
// nothing of it is on its way.
type lookup struct {
	id, gen  uint32
	refs     int32 // packets on their way, and the connection that carries it
	sub      uint32
	name     uint32
	base     int32 // first server of the answer, in the pool
	active   int32 // servers of the pool that answers choose from
	ttl      uint32
	count    uint8
	tries    uint8
	dnsID    uint16
	sport    uint16
	live     bool
	done     bool
	tcp      bool // the answer by UDP is cut, and comes by TCP
	aaaa     bool // AAAA is asked too
	unseen   bool // the answer takes a way without a tap
	mixed    bool // the question's case is mixed (0x20)
	then     request
	answered bool
}

// lookupTries and lookupWait are a stub resolver's habits.
const (
	lookupTries = 4
	lookupWait  = 3e9
)

// resolve asks for the name of r, over what the subscriber uses.
func (g *Generator) resolve(sub uint32, r request) {
	sv := &g.services[r.service]
	id, l := g.lookups.get()
	gen := l.gen + 1
	s := &g.subs[sub]
	*l = lookup{id: id, gen: gen, live: true, sub: sub, name: r.name, then: r, count: uint8(sv.Answers)}
	p := g.pools[sv.pool]
	l.active = int32(p.active(g.load(g.now)))
	l.count = uint8(min(int(l.count), int(l.active)))
	if sv.Rotate {
		l.base = int32(g.rng.below(int(l.active)))
	} else {
		l.base = int32(r.name&(1<<nameBits-1)) % l.active
	}
	// The operator's resolver has had the answer for some part of its time.
	full := max(1, int64(time.Duration(sv.TTL)/time.Second))
	l.ttl = uint32(g.rng.between(max(1, full/10), full+1))
	l.dnsID = uint16(g.rng.next())
	l.sport = s.takePort(g)
	l.tcp = g.rng.chance(g.sc.DNS.TCP)
	l.aaaa = !s.v6 && g.rng.chance(g.sc.DNS.AAAA)
	l.unseen = g.rng.chance(g.sc.Tap.DNSUnseen)
	l.mixed = g.rng.chance(g.sc.DNS.MixedCase)
	if s.encrypted {
		g.dialLookup(l)
		return
	}
	g.ask(l)
}

// ask sends l's question once more.
func (g *Generator) ask(l *lookup) {
	if l.tries >= lookupTries {
		l.done = true
		g.failed(l.sub, l.then)
		g.settleLookup(l)
		return
	}
	l.tries++
	g.queue.push(g.now+lookupWait, evLookup, l.id, l.gen)
	g.sendDNS(l, packetQuery, 0)
	if l.aaaa {
		g.sendDNS(l, packetQueryAAAA, 50e3)
	}
}

func (g *Generator) sendDNS(l *lookup, kind uint8, think int64) {
	p := g.newPacket(kind, l.id)
	p.down = kind >= packetAnswer
	g.udpID++
	p.ipid = g.udpID
	p.size = 120
	l.refs++
	g.launch(p, think)
}

// receiveDNS is where a question or an answer arrives.
func (g *Generator) receiveDNS(p *packet) {
	l := g.lookups.at(p.ref)
	l.refs--
	switch {
	case p.kind == packetQuery && l.tcp:
		g.sendDNS(l, packetTruncated, g.rng.between(1e6, 5e6))
	case p.kind == packetQuery:
		g.sendDNS(l, packetAnswer, g.rng.between(1e6, 20e6))
	case p.kind == packetQueryAAAA:
		g.sendDNS(l, packetAnswerAAAA, g.rng.between(1e6, 20e6))
	case p.kind == packetAnswer && !l.done:
		g.resolved(l)
	case p.kind == packetTruncated && !l.done:
		l.done = true
		g.dialLookup(l)
	}
	g.settleLookup(l)
}

// resolved is when the subscriber has l's answer.
func (g *Generator) resolved(l *lookup) {
	l.done, l.answered = true, true
	s := &g.subs[l.sub]
	hold := max(int64(l.ttl)*1e9, int64(g.sc.Devices[s.device].DNSHold))
	g.remember(s, cached{name: l.name, base: l.base, active: l.active, count: l.count, until: g.now + hold})
	g.dial(l.sub, l.then, g.pick(l.name, l.base, l.active, l.count))
}

// settleLookup gives l back once nothing refers to it.
func (g *Generator) settleLookup(l *lookup) {
	if l.live && l.done && l.refs == 0 {
		l.live = false
		g.lookups.put(l.id)
	}
}

// pick returns one of an answer's servers: a client takes any.
func (g *Generator) pick(name uint32, base, active int32, count uint8) int32 {
	return g.answerServer(name, base, active, uint8(g.rng.below(int(count))))
}

// answerServer returns the server of an answer's address i.
func (g *Generator) answerServer(name uint32, base, active int32, i uint8) int32 {
	p := g.pools[g.services[name>>nameBits].pool]
	return int32(p.first) + (base+int32(i))%active
}

// DNS types (RFC 1035 section 3.2.2, RFC 3596).
const (
	typeA     = 1
	typeCNAME = 5
	typeSOA   = 6
	typeAAAA  = 28
)

// appendQuestion appends a header and the question.
func (g *Generator) appendQuestion(b []byte, l *lookup, flags uint16, answers, authority int, kind uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, l.dnsID)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 1, 0, byte(answers), 0, byte(authority), 0, 0)
	g.text = g.appendName(g.text[:0], l.name)
	if l.mixed {
		bits := mix(uint64(l.dnsID)<<32 | uint64(l.name))
		for i, ch := range g.text {
			if ch >= 'a' && ch <= 'z' && bits>>(i%64)&1 != 0 {
				g.text[i] = ch - 'a' + 'A'
			}
		}
	}
	b = appendLabels(b, g.text)
	b = binary.BigEndian.AppendUint16(b, kind)
	return append(b, 0, 1)
}

// appendLabels appends a name in wire form (RFC 1035 section 3.1).
func appendLabels(b, name []byte) []byte {
	at := len(b)
	b = append(b, 0)
	for _, ch := range name {
		if ch == '.' {
			at = len(b)
			b = append(b, 0)
			continue
		}
		b = append(b, ch)
		b[at]++
	}
	return append(b, 0)
}

func (g *Generator) questionType(l *lookup) uint16 {
	if g.subs[l.sub].v6 {
		return typeAAAA
	}
	return typeA
}

// appendQuery appends l's question; aaaa asks for what is not there.
func (g *Generator) appendQuery(b []byte, l *lookup, aaaa bool) []byte {
	kind := g.questionType(l)
	if !aaaa {
		return g.appendQuestion(b, l, 0x0100, 0, 0, kind)
	}
	l.dnsID++ // both are open at once
	b = g.appendQuestion(b, l, 0x0100, 0, 0, typeAAAA)
	l.dnsID--
	return b
}

// appendAnswer appends the answer of the given packet kind.
func (g *Generator) appendAnswer(b []byte, l *lookup, kind uint8) []byte {
	start := len(b)
	switch kind {
	case packetTruncated:
		return g.appendQuestion(b, l, 0x8380, 0, 0, g.questionType(l))
	case packetAnswerAAAA:
		l.dnsID++
		b = g.appendQuestion(b, l, 0x8180, 0, 1, typeAAAA)
		l.dnsID--
		return appendSOA(b)
	}
	sv := &g.services[l.name>>nameBits]
	owner := uint16(0xc00c) // the question
	b = g.appendQuestion(b, l, 0x8180, len(sv.cnames)+int(l.count), 0, g.questionType(l))
	for _, t := range sv.cnames {
		b = binary.BigEndian.AppendUint16(b, owner)
		b = append(b, 0, typeCNAME, 0, 1)
		b = binary.BigEndian.AppendUint32(b, 3600)
		g.text = t.append(g.text[:0], int(l.name&0xff)%t.count())
		at := len(b)
		b = appendLabels(append(b, 0, 0), g.text)
		binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
		owner = 0xc000 | uint16(at+2-start)
	}
	v6 := g.subs[l.sub].v6
	for i := range l.count {
		server := &g.servers[g.answerServer(l.name, l.base, l.active, i)]
		b = binary.BigEndian.AppendUint16(b, owner)
		if v6 {
			b = append(b, 0, typeAAAA, 0, 1)
			b = binary.BigEndian.AppendUint32(b, l.ttl)
			b = append(append(b, 0, 16), server.addr6[:]...)
			continue
		}
		b = append(b, 0, typeA, 0, 1)
		b = binary.BigEndian.AppendUint32(b, l.ttl)
		b = append(append(b, 0, 4), server.addr4[:]...)
	}
	return b
}

// appendSOA appends what comes with an empty answer (RFC 2308 section 2.2).
func appendSOA(b []byte) []byte {
	b = append(b, 0xc0, 0x0c, 0, typeSOA, 0, 1, 0, 0, 0, 60)
	at := len(b)
	b = append(b, 0, 0)
	b = appendLabels(b, []byte("ns.example"))
	b = appendLabels(b, []byte("hostmaster.example"))
	for _, v := range []uint32{1, 3600, 600, 86400, 60} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}
