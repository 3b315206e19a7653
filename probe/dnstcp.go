package probe

import (
	"encoding/binary"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/stream"
)

// Of a stream of DNS over TCP, what is not a whole message yet is held in a window.
// Nearly all messages fit into a small one, a thousand addresses, and many small
// windows serve more subscribers than few large ones; for the others there are
// some that hold the longest (RFC 1035 section 4.2.2). Where none of these is
// free, what begins the message is read, and the stream is left alone after it.
const (
	dnsWindow     = 16 << 10
	dnsLongWindow = 68 << 10
	// longStream, in Flow.Stream, says that the window is a long one.
	longStream = 1 << 31
)

// dnsSegment gathers a server's side of DNS over TCP, as far as a message needs
// (RFC 7766). A stream met in the middle has no known message boundary.
func (a *partition) dnsSegment(f flows.Flow, p *decode.Packet) {
	if !f.Synchronized(flows.Down) {
		return
	}
	seq := p.Seq + uint32(p.Flags&decode.SYN>>1)
	at, ok := f.StreamOffset(flows.Down, seq)
	if !ok {
		return
	}
	payload := p.Payload()
	if f.Stream == 0 {
		if at >= dnsWindow {
			return // its beginning was missed, or was too long
		}
		long := at == 0 && (isLong(payload) || len(payload) > dnsWindow)
		if f.Stream, ok = a.takeStream(0, long); !ok {
			a.shard.streamsRefused++
			return
		}
	}
	streams, slot := a.streamOf(f)
	streams.Add(slot, at, payload)
	a.dnsMessages(f, p.Time)
	if f.Closed() {
		a.dropStream(f) // the flow keeps its place for minutes yet
	}
}

// isLong reports whether the message that b begins needs a long window.
func isLong(b []byte) bool { return len(b) >= 2 && 2+int(binary.BigEndian.Uint16(b)) > dnsWindow }

// takeStream takes a window that begins at the offset base of a stream: a long
// one if long and there is one, else a small one.
func (a *partition) takeStream(base uint32, long bool) (stream uint32, ok bool) {
	if long {
		if slot, ok := a.dnsLong.GetAt(base); ok {
			return longStream | (slot + 1), true
		}
	}
	if slot, ok := a.dnsStreams.GetAt(base); ok {
		return slot + 1, true
	}
	return 0, false
}

// streamOf returns where the flow's window is.
func (a *partition) streamOf(f flows.Flow) (*stream.Assembler, uint32) {
	if f.Stream&longStream != 0 {
		return a.dnsLong, f.Stream&^longStream - 1
	}
	return a.dnsStreams, f.Stream - 1
}

// dnsMessages works the messages that are whole.
func (a *partition) dnsMessages(f flows.Flow, now int64) {
	streams, slot := a.streamOf(f)
	rest := streams.Contiguous(slot)
	used := 0
	for {
		message, next, ok := dnsmap.NextTCP(rest)
		if !ok {
			break
		}
		a.response(f.Key.Subscriber, f.Key.Scope, message, false, now)
		used += len(rest) - len(next)
		rest = next
	}
	streams.Consume(slot, used)
	if f.Stream&longStream != 0 || !isLong(rest) || a.lengthen(f) || len(rest) < dnsWindow {
		return
	}
	a.response(f.Key.Subscriber, f.Key.Scope, rest[2:], true, now)
	a.dropStream(f)
}

// lengthen moves the flow's stream to a long window, and reports whether there
// was one.
func (a *partition) lengthen(f flows.Flow) bool {
	slot := f.Stream - 1
	base := a.dnsStreams.Base(slot)
	next, ok := a.dnsLong.GetAt(base)
	if !ok {
		return false
	}
	a.dnsLong.Add(next, base, a.dnsStreams.Contiguous(slot))
	a.dnsStreams.Put(slot)
	f.Stream = longStream | (next + 1)
	return true
}
