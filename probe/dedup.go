package probe

import (
	"encoding/binary"
	"math"

	"github.com/nametap/nametap/capture/decode"
)

// One packet can pass a tap twice: on two mirror ports, on S1-U and again on
// S5-U, or going into and out of a switch whose port is mirrored. The copies are
// equal from the inner IP header on but for what a router changes, the TTL and
// checksums, and come within milliseconds. What keeps a true repeat of a sender
// from being taken for a copy:
//
//   - IPv4 with an identification (RFC 6864 lets a sender of atomic packets
//     choose any; most count): a repeat is a new packet with a new one. Same
//     identification and same headers within the window: a copy.
//   - IPv6, and IPv4 with identification 0: equal packets may be true ones
//     (three duplicate acknowledgments within a millisecond are). Only what was
//     seen in another place (interface, VLAN, tunnel or distance, by TTL) is a
//     copy.
//   - A retransmission comes a round trip or 200 ms later (RFC 6298), with
//     another TSval where time stamps are in use; the window is shorter.
//   - A third sighting in the place of the first is not explained by one tap
//     point more, so each place counts once.

// The table begins at 4,096 packets in 64 KiB, which stay in the second-level
// cache, and doubles up to 131,072 in 2 MiB while packets younger than the window
// have to make room: at two million packets a second and a window of 10 ms,
// 20,000 are of interest. What it knew is forgotten then, a few milliseconds'
// worth; which packets those are hangs on the packets before them alone.
const (
	firstBuckets = 1 << 11
	mostBuckets  = 1 << 16
	// crowdedEvery packets, one in crowdedShare may be pushed out too young.
	crowdedEvery = 1 << 14
	crowdedShare = 16
)

// dedup remembers the packets of the last few milliseconds.
type dedup struct {
	ticks   uint32 // the window in the unit of dedupSlot.time
	seed    uint64
	buckets []dedupBucket // none where it is turned off
	mask    uint64
	unseen  uint32 // packets until the next look at crowded
	crowded uint32 // of those since the last, the ones that pushed out one younger than the window
	// Packets and Bytes (IP) counted as copies.
	Packets, Bytes uint64
	// Early counts packets that were forgotten within the window for want of
	// room.
	Early uint64
}

// dedupBucket holds two packets, the younger one first.
type dedupBucket [2]dedupSlot

type dedupSlot struct {
	mark    uint32
	time    uint32 // 1<<tickBits nanoseconds, modulo 2^32
	place   uint32
	gateway uint32 // number of the tunnel's gateway, 0 without one
}

// tickBits: packet time is kept in ticks of 1,024 ns.
const tickBits = 10

// newDedup returns one with a window in nanoseconds; 0 turns it off.
func newDedup(window int64, seed uint64) dedup {
	d := dedup{ticks: uint32(min(window>>tickBits, math.MaxInt32)), seed: seed, unseen: crowdedEvery}
	if window > 0 {
		d.size(firstBuckets)
	}
	return d
}

func (d *dedup) size(buckets int) {
	d.buckets, d.mask = make([]dedupBucket, buckets), uint64(buckets-1)
}

// touch loads what copied will read first for each of the sights. It is a loop of
// its own: between two decoded packets, a load would hold up all that comes after
// it.
func (d *dedup) touch(sights []sight) uint64 {
	sink, buckets, mask := uint64(0), d.buckets, d.mask
	for i := range sights {
		if at := sights[i].mark & mask; at < uint64(len(buckets)) {
			sink += uint64(buckets[at][0].mark)
		}
	}
	return sink
}

// copied reports whether p is a copy of a packet seen a moment ago, and counts
// it. mark is d.mark(p); port says on which interface p was captured, gateway in
// front of which gateway; first is the gateway of the copy that counted.
func (d *dedup) copied(p *decode.Packet, mark uint64, port uint16, gateway uint32) (first uint32, copied bool) {
	at := mark & d.mask
	if at >= uint64(len(d.buckets)) {
		return 0, false // turned off
	}
	b := &d.buckets[at]
	now := uint32(p.Time >> tickBits)
	tag, place := uint32(mark>>32), placeOf(p, port)
	if b[0].mark == tag || b[1].mark == tag {
		if s := d.original(b, p, tag, place, now); s != nil {
			return s.gateway, true
		}
	}
	d.note(b, dedupSlot{tag, now, place, gateway})
	if d.unseen == 0 {
		d.look()
	}
	return 0, false
}

// note puts a packet where it will be found.
func (d *dedup) note(b *dedupBucket, s dedupSlot) {
	if s.time-b[1].time <= d.ticks {
		d.crowded++
		d.Early++
	}
	b[1] = b[0]
	b[0] = s
	d.unseen--
}

// fresh is copied for a packet outside of tunnels, if it plainly is no copy. If it
// reports false it has noted nothing, and the packet is for copied. It calls nothing.
func (d *dedup) fresh(mark uint64, place uint32, time int64) bool {
	at := mark & d.mask
	if at >= uint64(len(d.buckets)) {
		return true // turned off
	}
	b, tag := &d.buckets[at], uint32(mark>>32)
	if b[0].mark == tag || b[1].mark == tag || d.unseen == 1 {
		return false
	}
	d.note(b, dedupSlot{tag, uint32(time >> tickBits), place, 0})
	return true
}

// original returns what p, whose tag is one of the bucket's, is a copy of, and
// counts it.
func (d *dedup) original(b *dedupBucket, p *decode.Packet, tag, place, now uint32) *dedupSlot {
	for i := range b {
		s := &b[i]
		if s.mark != tag || p.IPID == 0 && s.place == place {
			continue
		}
		if now-s.time <= d.ticks || s.time-now <= d.ticks {
			d.Packets++
			d.Bytes += uint64(p.IPBytes)
			return s
		}
	}
	return nil
}

// look doubles the table if it was too small for what has passed since the last
// look.
func (d *dedup) look() {
	if d.crowded > crowdedEvery/crowdedShare && len(d.buckets) < mostBuckets {
		d.size(2 * len(d.buckets))
	}
	d.unseen, d.crowded = crowdedEvery, 0
}

// placeOf stands for where a packet was captured. Of packets outside of tunnels
// no two places have the same, as long as there are fewer than 4,096 interfaces.
func placeOf(p *decode.Packet, port uint16) uint32 {
	place := barePlace(p, port)
	if p.Tunnel != decode.TunnelNone {
		place ^= uint32(mix(uint64(p.TEID), p.OuterDst.Lo^p.OuterSrc.Lo<<1))
	}
	return place
}

// barePlace is placeOf outside of tunnels.
func barePlace(p *decode.Packet, port uint16) uint32 {
	return uint32(port)<<20 ^ uint32(p.VLAN)<<8 ^ uint32(p.TTL)
}

// mark stands for what copies have in common.
func (d *dedup) mark(p *decode.Packet) uint64 {
	if p.Protocol == decode.ProtocolTCP {
		return d.markTCP(p)
	}
	return d.markOther(p)
}

// markTCP is the mark of a TCP segment. The products do not wait for each other: a
// chain of them would be most of what a copy costs to recognise. The header is taken
// as it stands there, ports to urgent pointer; its checksum covers the payload, and
// two segments of one stream with the same numbers and other bytes are not copies.
func (d *dedup) markTCP(p *decode.Packet) uint64 {
	if len(p.Transport) < tcpHeader {
		return d.markOther(p)
	}
	header := (*[tcpHeader]byte)(p.Transport)
	mark := d.markEnds(p, header) ^ markRest(p, header)
	if p.Src.Hi|p.Dst.Hi != 0 {
		mark ^= d.markUpper(p)
	}
	return mark
}

func (d *dedup) markEnds(p *decode.Packet, header *[tcpHeader]byte) uint64 {
	return product(p.Src.Lo^d.seed^binary.LittleEndian.Uint64(header[:8]), p.Dst.Lo^markServer^binary.LittleEndian.Uint64(header[8:16]))
}

func markRest(p *decode.Packet, header *[tcpHeader]byte) uint64 {
	stamps := uint64(p.TSval)<<32 | uint64(p.TSecr)
	// Flags and window are taken twice, which does no harm. The identification goes over
	// the urgent pointer, which next to nobody uses: over the checksum, a step of the one
	// could undo a step of the other.
	what := binary.LittleEndian.Uint64(header[12:]) ^ (uint64(p.IPID)<<48 | uint64(p.IPBytes))
	return product(what^markHow, stamps^markStamps)
}

// tcpHeader is the length of a TCP header without options.
const tcpHeader = 20

// markUpper is the part of a mark that only IPv6 has.
func (d *dedup) markUpper(p *decode.Packet) uint64 {
	return product(p.Src.Hi^markUpper, p.Dst.Hi^d.seed)
}

// markOther is the mark of what is not TCP, or cut off within its header.
func (d *dedup) markOther(p *decode.Packet) uint64 {
	who := product(p.Src.Lo^d.seed, p.Dst.Lo^markServer) ^ d.markUpper(p)
	what := uint64(p.IPID)<<48 | uint64(p.SrcPort)<<32 | uint64(p.DstPort)<<16 | uint64(uint16(p.IPBytes))
	what ^= uint64(p.Protocol) << 56
	first := uint64(0)
	if payload := p.Payload(); len(payload) >= 8 {
		first = binary.BigEndian.Uint64(payload)
	}
	if p.Protocol == decode.ProtocolTCP {
		first = uint64(p.Seq)<<32 | uint64(p.Ack)
	}
	return mix(who^first, what)
}

// Odd numbers without a pattern, one for each kind of word: equal words in
// different places give different products.
const (
	markServer = 0xe30d65e5eccf7d57
	markUpper  = 0x9cb000fc4a11ffd3
	markHow    = 0xd514ed2cd3572a05
	markStamps = 0xe24408d225d05d37
)
