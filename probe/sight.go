package probe

import (
	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
)

// Nearly all packets are segments over IPv4 outside of any tunnel, the first octets
// of whose addresses tell the subscriber. Two loops that call nothing, so that what
// they need stays in registers, decode those and give them to the shards. Whatever is
// not plain stops a loop and goes the way of all packets, on which a plain one would
// have become the same.

// sight is what is known of a decoded packet before it is asked whether it is a copy.
type sight struct {
	mark    uint64
	item    item   // valid if plain
	place   uint32 // valid if plain
	outcome decode.Outcome
	plain   bool // item is what becomes of it, unless it is a copy or there are scopes
}

// decode decodes frames and counts what came of them. The first packet is the
// chunk's at the index.
func (e *Engine) decode(list []capture.Frame, packets []decode.Packet, at int) {
	for i := 0; i < len(list); {
		i = e.decodePlain(list, packets, i, at)
		i = e.decodeOther(list, packets, i, at)
	}
}

// decodePlain decodes frames from i on until one is not plain, whose index it
// returns.
//
//go:noinline
func (e *Engine) decodePlain(list []capture.Frame, packets []decode.Packet, i, at int) int {
	list, packets, sights := list[i:], packets[i:], e.sights[i:]
	packets, sights, at = packets[:len(list)], sights[:len(list)], at+i
	n := 0
	for n < len(list) {
		f, p := &list[n], &packets[n]
		if !e.decoder.Plain(f.Data, f.Link, f.VLAN, p) {
			break
		}
		p.Time = f.Time
		e.see(p, (*[tcpHeader]byte)(p.Transport), f.Interface, at+n, &sights[n])
		n++
	}
	e.counts.outcomes[decode.TCP] += uint64(n)
	return i + n
}

// see notes what is seen of a segment with that header, over IPv4 and outside of any
// tunnel: its mark, and the item that segment would make of it. What it calls is small
// enough to be inlined here, where the ends of the connection are loaded once.
func (e *Engine) see(p *decode.Packet, header *[tcpHeader]byte, port uint16, at int, s *sight) {
	s.mark = e.dedup.markEnds(p, header) ^ markRest(p, header)
	s.place = barePlace(p, port)
	dir, ok := e.sides.byOctets(p)
	subscriber, server := flows.IPv4End(p.Src, p.SrcPort), flows.IPv4End(p.Dst, p.DstPort)
	exchange := (subscriber ^ server) & -uint64(dir) // for what goes down, they are the other way round
	subscriber, server = subscriber^exchange, server^exchange
	part := partitionOf(e.cfg.Seed, 0, flows.IPv4Prefix(subscriber))
	s.item = itemOf(e.hasher.IPv4(subscriber, server), uint8(at), part, work(dir), origin{})
	s.outcome, s.plain = decode.TCP, ok
}

// vlanID is the VLAN's part of a tag control information (IEEE 802.1Q).
const vlanID = 0xfff

// decodeOther decodes frames from i on up to one next to which plain ones are likely:
// in no tunnel, under no tag, over IPv4. It returns the index after it.
//
//go:noinline
func (e *Engine) decodeOther(list []capture.Frame, packets []decode.Packet, i, at int) int {
	packets, sights := packets[:len(list)], e.sights[:len(list)]
	sessions := e.sessions.table.Endpoints() != 0
	for ; i < len(list); i++ {
		f, p, s := &list[i], &packets[i], &sights[i]
		p.Time = f.Time
		outcome := e.decoder.Other(f.Data, f.WireLen, f.Link, f.VLAN, p)
		e.counts.outcomes[outcome]++
		s.outcome, s.plain = outcome, false
		switch outcome {
		case decode.TCP:
			if _, _, ok := p.IPv4(); ok && p.Tunnel == decode.TunnelNone && len(p.Transport) >= tcpHeader {
				e.see(p, (*[tcpHeader]byte)(p.Transport), f.Interface, at+i, s)
			} else {
				s.mark = e.dedup.markTCP(p)
			}
		case decode.UDP:
			s.mark = e.dedup.markOther(p)
		default:
			continue
		}
		if p.Tunnel == decode.TunnelNone {
			if p.VLAN == f.VLAN&vlanID && p.Src.Hi == 0 {
				return i + 1
			}
		} else if sessions {
			e.sink += e.sessions.table.Touch(gtp.Addr(p.OuterDst), p.TEID)
		}
	}
	return i
}

// sort gives the packets to the shards of their subscribers.
func (e *Engine) sort(c *chunk, list []capture.Frame, packets []decode.Packet) {
	for i := 0; i < len(list); {
		if !e.scoped {
			i = e.sortPlain(c, packets, i)
		}
		i = e.sortOther(c, list, packets, i)
	}
}

// sortPlain gives packets from i on to their shards until one is not plain, or may
// be a copy, whose index it returns.
//
//go:noinline
func (e *Engine) sortPlain(c *chunk, packets []decode.Packet, i int) int {
	packets, sights := packets[i:], e.sights[i:]
	sights = sights[:len(packets)]
	n := 0
	for n < len(packets) {
		s := &sights[n]
		if s.plain && e.dedup.fresh(s.mark, s.place, packets[n].Time) {
			c.lists[s.item.partition()%partitions].add(s.item)
			n++
			continue
		}
		break
	}
	return i + n
}

// sortOther gives packets from i on to their shards until the next one is plain,
// whose index it returns.
//
//go:noinline
func (e *Engine) sortOther(c *chunk, list []capture.Frame, packets []decode.Packet, i int) int {
	packets, sights := packets[:len(list)], e.sights[:len(list)]
	for i < len(list) {
		p, s, port := &packets[i], &sights[i], list[i].Interface
		switch s.outcome {
		case decode.TCP:
			e.segment(c, p, uint8(c.n+i), s.mark, port)
		case decode.UDP:
			e.datagram(c, p, uint8(c.n+i), s.mark, port)
		}
		if i++; i < len(list) && sights[i].plain && !e.scoped {
			break
		}
	}
	return i
}

// segment hands a TCP segment to the shard of its subscriber. It is not inlined, so
// that what it calls is.
//
//go:noinline
func (e *Engine) segment(c *chunk, p *decode.Packet, at uint8, mark uint64, port uint16) {
	if o, copied := e.origin(p, mark, port); !copied {
		e.give(c, at, o, work(o.dir), e.hasher.Packet(p, o.scope, o.dir))
	}
}
