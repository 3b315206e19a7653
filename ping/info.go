package ping

import (
	"encoding/binary"
	"time"
)

// Info is what the kernel keeps about one TCP connection: struct tcp_info of
// include/uapi/linux/tcp.h, as far as it is of use here. Counters are the
// connection's own, from its start, and wrap at 32 bits.
type Info struct {
	State uint8 // 1 established, 4 FIN_WAIT1 … as in include/net/tcp_states.h

	// RTT is smoothed (RFC 6298), RTTVar its variation, MinRTT the least of
	// the last minutes (net.ipv4.tcp_min_rtt_wlen). 0: no sample yet.
	RTT, RTTVar, MinRTT time.Duration
	// Since a segment with data was sent or received, and since an
	// acknowledgment came, which is when RTT can have changed last.
	SinceDataSent, SinceDataReceived, SinceAck time.Duration

	SegmentsOut, SegmentsIn         uint32
	DataSegmentsOut, DataSegmentsIn uint32 // with payload, repeats included
	Retransmitted                   uint32 // segments sent again, SYN and FIN included
	Spurious                        uint32 // repeats that the peer had already: D-SACK (RFC 2883)
	Reordering                      uint32 // the reordering that is reckoned with, in segments
	Reordered                       uint32 // times that reordering was seen
	OutOfOrder                      uint32 // segments that came in out of order
	BytesAcked, BytesReceived       uint64 // payload; the SYN counts as one byte acknowledged

	// Known says which of the figures this kernel has at all.
	Known Known
}

// Known tells which of the younger fields a kernel delivers.
type Known uint8

// The fields came with Linux 4.2 (Bytes, Segments), 4.6 (MinRTT, DataSegments),
// 4.19 (Spurious, Reordered) and 5.5 (OutOfOrder).
const (
	KnowsBytes Known = 1 << iota
	KnowsSegments
	KnowsMinRTT
	KnowsDataSegments
	KnowsSpurious
	KnowsReordered
	KnowsOutOfOrder
)

// Where the fields lie in struct tcp_info. It only ever grows at its end.
const (
	offState           = 0
	offSinceDataSent   = 44
	offSinceDataRecv   = 52
	offSinceAck        = 56
	offRTT             = 68
	offRTTVar          = 72
	offReordering      = 88
	offRetransmitted   = 100
	offBytesAcked      = 120
	offBytesReceived   = 128
	offSegmentsOut     = 136
	offSegmentsIn      = 140
	offMinRTT          = 148
	offDataSegmentsIn  = 152
	offDataSegmentsOut = 156
	offSpurious        = 216
	offReordered       = 220
	offOutOfOrder      = 224

	// leastInfo is the length of the structure in Linux 2.6: shorter ones do
	// not exist.
	leastInfo = 104
	// noRTT is what tcpi_min_rtt holds before the first sample.
	noRTT = ^uint32(0)
)

// ParseInfo reads a tcp_info of any length, as getsockopt(TCP_INFO) and
// INET_DIAG_INFO deliver it, in the byte order of this machine. What the kernel
// does not deliver stays 0, and Known tells. It returns false for what is too
// short to be a tcp_info.
func ParseInfo(b []byte) (Info, bool) {
	if len(b) < leastInfo {
		return Info{}, false
	}
	r := fields{b: b}
	i := Info{
		State:             b[offState],
		SinceDataSent:     r.milliseconds(offSinceDataSent),
		SinceDataReceived: r.milliseconds(offSinceDataRecv),
		SinceAck:          r.milliseconds(offSinceAck),
		RTT:               r.microseconds(offRTT),
		RTTVar:            r.microseconds(offRTTVar),
		Reordering:        r.uint32(offReordering),
		Retransmitted:     r.uint32(offRetransmitted),
	}
	if r.has(offBytesReceived+8, KnowsBytes) {
		i.BytesAcked, i.BytesReceived = r.uint64(offBytesAcked), r.uint64(offBytesReceived)
	}
	if r.has(offSegmentsIn+4, KnowsSegments) {
		i.SegmentsOut, i.SegmentsIn = r.uint32(offSegmentsOut), r.uint32(offSegmentsIn)
	}
	if r.has(offMinRTT+4, KnowsMinRTT) && r.uint32(offMinRTT) != noRTT {
		i.MinRTT = r.microseconds(offMinRTT)
	}
	if r.has(offDataSegmentsOut+4, KnowsDataSegments) {
		i.DataSegmentsIn, i.DataSegmentsOut = r.uint32(offDataSegmentsIn), r.uint32(offDataSegmentsOut)
	}
	if r.has(offSpurious+4, KnowsSpurious) {
		i.Spurious = r.uint32(offSpurious)
	}
	if r.has(offReordered+4, KnowsReordered) {
		i.Reordered = r.uint32(offReordered)
	}
	if r.has(offOutOfOrder+4, KnowsOutOfOrder) {
		i.OutOfOrder = r.uint32(offOutOfOrder)
	}
	i.Known = r.known
	return i, true
}

// fields reads a structure of which only a front part may be there.
type fields struct {
	b     []byte
	known Known
}

func (r *fields) has(end int, what Known) bool {
	if len(r.b) < end {
		return false
	}
	r.known |= what
	return true
}

func (r *fields) uint32(at int) uint32 { return binary.NativeEndian.Uint32(r.b[at:]) }
func (r *fields) uint64(at int) uint64 { return binary.NativeEndian.Uint64(r.b[at:]) }

func (r *fields) milliseconds(at int) time.Duration {
	return time.Duration(r.uint32(at)) * time.Millisecond
}

func (r *fields) microseconds(at int) time.Duration {
	return time.Duration(r.uint32(at)) * time.Microsecond
}

// Counts are events of one period, or sums of those. They add up over
// connections and periods, so that shares are made of sums and never averaged.
type Counts struct {
	DataSegments         uint64 // sent with payload, repeats included
	Retransmitted        uint64 // sent again
	Spurious             uint64 // of these, needlessly: the peer had them already
	Reordered            uint64 // times that reordering was seen
	DataSegmentsReceived uint64
	OutOfOrder           uint64 // segments received out of order
	BytesAcked           uint64 // sent and acknowledged
	BytesReceived        uint64
}

// Since returns what was counted between two looks at one connection. The zero
// Info stands for the time before its first segment.
func (i *Info) Since(before *Info) Counts {
	return Counts{
		// Unsigned differences are right across the wrap of 32 bits.
		DataSegments:         uint64(i.DataSegmentsOut - before.DataSegmentsOut),
		Retransmitted:        uint64(i.Retransmitted - before.Retransmitted),
		Spurious:             uint64(i.Spurious - before.Spurious),
		Reordered:            uint64(i.Reordered - before.Reordered),
		DataSegmentsReceived: uint64(i.DataSegmentsIn - before.DataSegmentsIn),
		OutOfOrder:           uint64(i.OutOfOrder - before.OutOfOrder),
		BytesAcked:           i.BytesAcked - before.BytesAcked,
		BytesReceived:        i.BytesReceived - before.BytesReceived,
	}
}

// Add adds more to c.
func (c *Counts) Add(more Counts) {
	c.DataSegments += more.DataSegments
	c.Retransmitted += more.Retransmitted
	c.Spurious += more.Spurious
	c.Reordered += more.Reordered
	c.DataSegmentsReceived += more.DataSegmentsReceived
	c.OutOfOrder += more.OutOfOrder
	c.BytesAcked += more.BytesAcked
	c.BytesReceived += more.BytesReceived
}

// Lost is the number of segments that had to be sent again. A D-SACK comes a
// round trip after its repeat, so in a short period there may be more of them
// than repeats; that is no negative loss.
func (c *Counts) Lost() uint64 {
	if c.Spurious >= c.Retransmitted {
		return 0
	}
	return c.Retransmitted - c.Spurious
}

// LossShare is Lost over DataSegments, on the way out only. It is false where
// nothing was sent. A repeated SYN or FIN is a loss without a data segment, hence
// the bound at 1.
func (c *Counts) LossShare() (float64, bool) {
	if c.DataSegments == 0 {
		return 0, false
	}
	return min(1, float64(c.Lost())/float64(c.DataSegments)), true
}
