package probe

import (
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/flows"
)

// dnsWindow is how much of a stream of DNS over TCP is held while a message is
// not whole: a thousand addresses. Of a longer message (RFC 1035 section 4.2.2
// allows 64 KiB), what begins it is read, and the stream is left alone after it:
// many small windows serve more subscribers than few large ones.
const dnsWindow = 16 << 10

// dnsSegment gathers a server's side of DNS over TCP, as far as a message needs
// (RFC 7766). A stream met in the middle has no known message boundary.
func (a *partition) dnsSegment(f *flows.Flow, p *decode.Packet) {
	if !f.Synchronized(flows.Down) {
		return
	}
	seq := p.Seq + uint32(p.Flags&decode.SYN>>1)
	at, ok := f.StreamOffset(flows.Down, seq)
	if !ok {
		return
	}
	if f.Stream == 0 {
		if at >= dnsWindow {
			return // its beginning was missed, or was too long
		}
		slot, ok := a.dnsStreams.Get()
		if !ok {
			a.shard.streamsRefused++
			return
		}
		f.Stream = slot + 1
	}
	a.dnsStreams.Add(f.Stream-1, at, p.Payload())
	a.dnsMessages(f, p.Time)
	if f.Closed() {
		a.dropStream(f) // the flow keeps its place for minutes yet
	}
}

// dnsMessages works the messages that are whole.
func (a *partition) dnsMessages(f *flows.Flow, now int64) {
	slot := f.Stream - 1
	rest := a.dnsStreams.Contiguous(slot)
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
	if len(rest) == dnsWindow {
		a.response(f.Key.Subscriber, f.Key.Scope, rest[2:], true, now)
		a.dropStream(f)
		return
	}
	a.dnsStreams.Consume(slot, used)
}
