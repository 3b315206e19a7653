// Package flows keeps one entry a TCP connection: its life, its counters, its
// round-trip times and its losses, as a tap between the two ends can see them.
//
// It is pure: no I/O, no clock, no lock, no log. Time is packet time, passed
// in. A Table belongs to one goroutine at a time.
package flows

import (
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
)

// Direction of a segment as the subscriber sees it.
type Direction uint8

// Directions, and indexes into everything that is kept once a direction.
const (
	Up   Direction = 0 // subscriber → server
	Down Direction = 1 // server → subscriber
)

// Reverse returns the other direction.
func (d Direction) Reverse() Direction { return d ^ 1 }

// Key names a connection: the 5-tuple (the protocol is always TCP) and the
// scope in which the subscriber's address is unique.
type Key struct {
	Subscriber, Server         decode.Addr
	Scope                      uint32
	SubscriberPort, ServerPort uint16
}

// EndReason says why a flow ended.
type EndReason uint8

// End reasons, in the words of the flow record.
const (
	NotEnded EndReason = iota
	EndFIN
	EndRST
	EndIdle
	EndReused
	EndEvicted
	EndShutdown

	// EndReasons is their number.
	EndReasons
)

var endReasonNames = [EndReasons]string{
	"", "fin", "rst", "idle", "reused", "evicted", "shutdown",
}

// String returns the reason as records and metrics spell it.
func (r EndReason) String() string { return endReasonNames[r] }

// state of a flow decides which list holds it and how long it may be silent.
type state uint8

const (
	// stateFree: the record is on the free list.
	stateFree state = iota
	// stateHalfOpen: nothing but SYN segments seen.
	stateHalfOpen
	// stateOpen: traffic beyond the handshake.
	stateOpen
	// stateClosed: both FINs or a RST seen; the record stays for late
	// segments (RFC 9293 section 3.6, TIME-WAIT).
	stateClosed
)

// Bits of Flow.flags.
const (
	flagSYN           = 1 << iota // a SYN without ACK was seen, in time to count the flow as an attempt
	flagAwaited                   // the initiator has not gone on after its SYN yet
	flagInitiatorDown             // the server sent the SYN
	flagSettled                   // the name is settled
	flagCountedClose              // the close is in the class counters
	flagHoles                     // a half has had holes
	flagLost                      // Lost is not zero
)

// Bits of Half.bits.
const (
	halfSeen     = 1 << iota // nxt is valid
	halfSupposed             // nxt comes from a segment without data: any data may move it
	halfAcked                // una is valid
	halfISS                  // iss is that of a SYN
	halfSYNACK               // the SYN acknowledged one
	halfSYNTwice             // the SYN of this direction was repeated
	halfFIN                  // a FIN was seen
	halfZeroWin              // the last window advertised was 0
	halfProbed               // the byte before nxt went into a closed window
	halfTS                   // lastTS is valid
	halfTSBare               // lastTS was first seen on a segment without data
	probeArmed               // probe waits for its echo
	probeTS                  // probe is a TSval, not a sequence number
	probeSYN                 // probe was armed by a SYN
	halfTrain                // segments behind the probe wait in the table's train
	halfPayload              // a segment had payload
)

// Half is one direction of a connection: what its sender sent, as far as every
// segment needs it.
type Half struct {
	// bytes and payload are those of Flow.Bytes and Flow.Payload, modulo 2^32.
	bytes, payload uint32
	Packets        uint32

	nxt uint32 // sequence number after the highest seen
	una uint32 // highest acknowledgment of this half's bytes

	lastTS uint32 // newest TSval seen (RFC 7323)
	// probe is the TSval of the segment that waits for an echo, or the
	// sequence number after it; probeTime is when it passed, packet time in
	// microseconds modulo 2^32: 71 minutes, of which a probe lives 10 seconds.
	probe, probeTime uint32

	bits  uint16
	holes uint16 // index into the table's hole lists, 0 without holes

	// RTTMin, RTTSum and RTTCount are the round-trip samples of the path
	// beyond the tap in this direction, in microseconds: Half[Up] holds the
	// server side. The sum is modulo 2^32, 71 minutes, which a long transfer
	// passes: differences of it hold, a mean is Flow.RTTMean. RTTMin is valid if
	// RTTCount > 0.
	RTTMin, RTTSum, RTTCount uint32
}

// Loss is what went wrong with the segments of one direction.
type Loss struct {
	// Retransmitted counts segments that the sender sent again: repeats of
	// what the tap saw (lost after the tap) and holes filled later than
	// reordering explains (lost before the tap: LostBefore).
	Retransmitted uint32
	LostBefore    uint32
	// OutOfOrder counts segments that filled a hole in time.
	OutOfOrder uint32
}

// Flow is one connection: the records that the table has of it. Exported fields are
// for whoever writes the flow record; the rest is the table's. None of them holds a
// pointer: ten million of them give the garbage collector nothing to walk.
//
// Their size is paid once a flow, FlowBytes or 2.9 GB for ten million (a test holds it
// there), and their layout once a packet: in a table beyond the caches each line of 64
// bytes costs a trip to memory. So what every segment reads or writes is apart from
// the rest, in two whole lines; what opening and closing need is in two more; and what
// few flows ever need is in neither.
type Flow struct {
	*Hot
	*Cold
	*Lost
}

// FlowBytes is what the records of a flow take.
const FlowBytes = int64(unsafe.Sizeof(Hot{}) + unsafe.Sizeof(Cold{}) + unsafe.Sizeof(Lost{}) + unsafe.Sizeof(links{}))

// Hot is what every segment reads or writes. The key is not in it: a segment is
// known by the hash, whose seed is secret. It meets the hash of another connection
// with a probability of 2^-64 for each of the table: at ten million flows and a
// hundred thousand new ones a second, once in 200 days. Of the two, which are told
// apart by their sequence numbers or, where a segment is not plain, by their keys, some
// bare acknowledgments are then counted in the other.
type Hot struct {
	hash uint64 // of Cold.Key

	Last int64 // packet time of the last packet

	// spoke is the second, on the table's clock and modulo 2^32, in which the
	// flow was last heard: Last, but for packets that come out of order.
	spoke uint32

	// Class is the class the flow is counted in; 0 until it is settled.
	Class uint8
	state state
	flags uint8
	// Naming is the owner's: how far naming has got.
	Naming uint8
	// Reported is the owner's: what it has told others of the flow, and when.
	Reported uint32
	Tunnel   decode.Tunnel
	// APN is the owner's.
	APN uint8
	// Segments counts the subscriber's segments with payload, up to 255,
	// until the flow is settled. The owner keeps it.
	Segments uint8

	_ uint8

	Half [2]Half
}

// halves returns that of direction d and the other one.
func (f *Hot) halves(d Direction) (h, other *Half) {
	i := uint(d) & 1
	return &f.Half[i], &f.Half[i^1]
}

// Touch loads a word of each line, so that the loads of a batch overlap. The result
// only keeps the compiler from dropping them.
func (f *Hot) Touch() uint64 { return f.hash ^ uint64(f.Half[Down].nxt) }

// Cold is what openings, closings and records need. What is read again when the flow
// is closed and, minutes later, forgotten, is in its first line.
type Cold struct {
	Start int64 // packet time of the first packet

	slot uint16 // wheel slot, valid in stateOpen

	Reason EndReason
	// Evidence is the owner's.
	Evidence uint8
	OS       OS

	// rttWraps is how often Half.RTTSum has begun anew, by direction. It stops at
	// 255, after a sum of twelve days.
	rttWraps [2]uint8

	SYNs, SYNACKs, FINs, RSTs uint32

	// Name, DNSName and SNI are interned names, 0 without one. The flow
	// holds a reference to each.
	Name, DNSName, SNI uint32
	// Stream is the slot in which the owner of the table gathers the first
	// bytes of the stream; 0 without one.
	Stream uint32

	// bytesWraps and payloadWraps are how often Half.bytes and Half.payload have
	// begun anew, by direction: once in 4 GiB. They stop at 65,535.
	bytesWraps, payloadWraps [2]uint16

	// Unseen counts bytes that were acknowledged but never passed the tap, by
	// direction: the capture lost them. It stops at 2^32-1.
	Unseen [2]uint32

	Key Key

	iss [2]uint32 // initial sequence numbers, by direction
	// Handshake is the round-trip time of the SYN or SYN/ACK in
	// microseconds plus one, by direction; 0 without a sample.
	Handshake [2]uint32

	// DNSAnswered is when the answer behind DNSName came.
	DNSAnswered int64
}

// Lost is what the flow lost on its way. It is zero where flagLost is not set.
type Lost struct {
	Loss [2]Loss // by direction, as Half
}

// links are a flow's neighbours in its list, 0 ends; of a free record next alone
// counts. They are apart from all else, so that those of a table's youngest flows,
// which are linked and unlinked all the time, take few lines.
type links struct{ prev, next uint32 }

// Bytes returns the IP bytes of direction d.
func (f Flow) Bytes(d Direction) uint64 {
	return uint64(f.bytesWraps[d])<<32 | uint64(f.Half[d].bytes)
}

// Payload returns the TCP payload bytes of direction d, repeats included.
func (f Flow) Payload(d Direction) uint64 {
	return uint64(f.payloadWraps[d])<<32 | uint64(f.Half[d].payload)
}

// RTTMean returns the mean of the round-trip samples of direction d, in
// microseconds. It is valid if there is one.
func (f Flow) RTTMean(d Direction) float64 {
	return float64(uint64(f.rttWraps[d])<<32|uint64(f.Half[d].RTTSum)) / float64(f.Half[d].RTTCount)
}

// SYNSeen reports whether the connection's first SYN passed the tap: the flow
// is a connection attempt, not one picked up in mid-stream. A SYN that comes
// after the flow was settled comes too late, because what the class has counted
// stays counted.
func (f *Hot) SYNSeen() bool { return f.flags&flagSYN != 0 }

// Established reports whether the handshake was seen to succeed.
func (f *Hot) Established() bool { return f.flags&(flagSYN|flagAwaited) == flagSYN }

// Settled reports whether the flow's class is decided.
func (f *Hot) Settled() bool { return f.flags&flagSettled != 0 }

// Closed reports whether the connection was closed by FIN or RST.
func (f *Hot) Closed() bool { return f.state == stateClosed }

// StreamOffset returns where the byte with sequence number seq lies in the
// stream of direction d, counted from the first byte after the SYN, or from the
// first byte seen if the SYN was not. ok is false for bytes before that. A SYN
// takes a sequence number of its own: data in it (RFC 7413) starts at seq+1.
func (f *Cold) StreamOffset(d Direction, seq uint32) (offset uint32, ok bool) {
	off := int32(seq - f.iss[d] - 1)
	return uint32(off), off >= 0
}
