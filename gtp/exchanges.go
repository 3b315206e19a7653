package gtp

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// exchangeKey joins a response to its request: the peers, the port that the
// request came from and the sequence number, which is unique for what is
// outstanding from that port (TS 29.060 section 9.3.1.1, TS 29.274 section 7.6,
// TS 29.244 section 6.4). A piggybacked request is known by port 0: its response
// travels alone, and to another port than the datagram that carried it.
type exchangeKey struct {
	initiator, responder Addr
	seq                  uint32
	port                 uint16
	request              uint8 // message type of the request
	version              Version
}

type exchangeState uint8

const (
	exchangeGone         exchangeState = iota
	exchangeAsked                      // request seen
	exchangeAnswered                   // both seen
	exchangeInverted                   // response seen first, m is the response
	exchangeRefusedFirst               // likewise, and it refused
)

// exchange is a request that waits for its response, or is kept a while to
// know repetitions. Its message, twenty times as large, is kept only while it
// waits.
type exchange struct {
	key   exchangeKey
	born  int64
	sum   uint64 // of the request's octets
	ref   Ref    // opDelete: what is to go; exchangeInverted: what the response made
	hash  uint32
	m     uint32 // number of the request, but see exchangeInverted; 0 is none
	state exchangeState
}

// exchanges is a ring of the latest requests, oldest first, with a hash index.
type exchanges struct {
	ring        []exchange
	slots       []uint32 // place in the ring + 1
	first, last uint64   // ring[first:last] is in use, both modulo its length
	seed        uint64

	messages []Message // from 1, of those that wait
	idle     []uint32  // stack of messages that are free again, idle[:idles]
	idles    int
	used     uint32 // messages ever used
}

func exchangeBytes(n int) int64 {
	return int64(n)*int64(unsafe.Sizeof(exchange{})) + int64(slotsFor(n))*4 +
		int64(messagesFor(n)+1)*(int64(unsafe.Sizeof(Message{}))+4)
}

// messagesFor: an answer takes milliseconds, a repetition may take half a minute.
func messagesFor(n int) int { return min(n, max(1024, n/16)) }

// slotsFor is a power of two, at least twice n.
func slotsFor(n int) int { return 1 << bits.Len(uint(2*n-1)) }

func (x *exchanges) init(n int, seed uint64) (err error) {
	x.seed = seed | 1
	if x.ring, err = arena.Make[exchange](n); err != nil {
		return err
	}
	if x.messages, err = arena.Make[Message](messagesFor(n) + 1); err != nil {
		return err
	}
	if x.idle, err = arena.Make[uint32](messagesFor(n) + 1); err != nil {
		return err
	}
	x.slots, err = arena.Make[uint32](slotsFor(n))
	return err
}

func (x *exchanges) close() {
	_ = arena.Free(x.ring)
	_ = arena.Free(x.slots)
	_ = arena.Free(x.messages)
	_ = arena.Free(x.idle)
	*x = exchanges{}
}

func (x *exchanges) hash(k *exchangeKey) uint32 {
	h, l := bits.Mul64(k.initiator.Lo^x.seed, k.initiator.Hi^0x9e3779b97f4a7c15)
	h, l = bits.Mul64(h^l^k.responder.Lo, k.responder.Hi^0xbf58476d1ce4e5b9)
	rest := uint64(k.seq)<<32 | uint64(k.port)<<16 | uint64(k.request)<<8 | uint64(k.version)
	h, l = bits.Mul64(h^l^rest, x.seed)
	return uint32(h ^ l)
}

func (x *exchanges) find(k *exchangeKey) *exchange {
	mask := uint32(len(x.slots) - 1)
	for i := x.hash(k) & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if e := &x.ring[x.slots[i]-1]; e.key == *k {
			return e
		}
	}
	return nil
}

func (x *exchanges) full() bool  { return x.last-x.first == uint64(len(x.ring)) }
func (x *exchanges) empty() bool { return x.last == x.first }

// crowded reports whether all messages are taken.
func (x *exchanges) crowded() bool { return x.idles == 0 && int(x.used) == len(x.messages)-1 }

// keep gives e a message of its own, of which there must be one.
func (x *exchanges) keep(e *exchange) *Message {
	if x.idles > 0 {
		x.idles--
		e.m = x.idle[x.idles]
	} else {
		x.used++
		e.m = x.used
	}
	return &x.messages[e.m]
}

// message of an exchange that waits.
func (x *exchanges) message(e *exchange) *Message { return &x.messages[e.m] }

// settle lets go the message of an exchange that waits no longer.
func (x *exchanges) settle(e *exchange) {
	if e.m == 0 {
		return
	}
	x.idle[x.idles] = e.m
	x.idles++
	e.m = 0
}

// oldest returns the oldest exchange; there must be one.
func (x *exchanges) oldest() *exchange { return &x.ring[x.first%uint64(len(x.ring))] }

// add makes room for an exchange; the ring must not be full. The caller sets
// everything but key and hash. It has no message yet.
func (x *exchanges) add(k *exchangeKey) *exchange {
	at := uint32(x.last % uint64(len(x.ring)))
	x.last++
	e := &x.ring[at]
	e.key, e.hash, e.m = *k, x.hash(k), 0
	mask := uint32(len(x.slots) - 1)
	i := e.hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = at + 1
	return e
}

// forget takes e out of the index. Its place in the ring is free once it is the
// oldest.
func (x *exchanges) forget(e *exchange) {
	mask := uint32(len(x.slots) - 1)
	i := e.hash & mask
	for &x.ring[x.slots[i]-1] != e {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; x.slots[j] != 0; j = (j + 1) & mask {
		home := x.ring[x.slots[j]-1].hash & mask
		if (j-home)&mask < (j-i)&mask {
			continue // home lies behind i
		}
		x.slots[i] = x.slots[j]
		i = j
	}
	x.slots[i] = 0
	e.state = exchangeGone
	x.settle(e)
}

// shift frees the oldest place.
func (x *exchanges) shift() {
	if e := x.oldest(); e.state != exchangeGone {
		x.forget(e)
	}
	x.first++
}

// checksum of a message's octets, to tell a repetition from a new request with
// an old sequence number: 16 bits of GTPv1 wrap within seconds on a busy link.
func checksum(b []byte, seed uint64) uint64 {
	h := seed ^ uint64(len(b))
	for len(b) >= 8 {
		hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(b), 0x9e3779b97f4a7c15)
		h = hi ^ lo
		b = b[8:]
	}
	for _, c := range b {
		hi, lo := bits.Mul64(h^uint64(c), 0xbf58476d1ce4e5b9)
		h = hi ^ lo
	}
	return h
}
