package tun

import (
	"net/netip"
	"time"

	"github.com/nametap/nametap/ping"
)

// measure takes a sample each period until the engine stops or the interface
// goes.
func (e *Engine) measure() {
	defer close(e.finished)
	ticker := time.NewTicker(time.Duration(e.config.IntervalMillis) * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case at := <-ticker.C:
			e.sample(at)
		case <-e.ctx.Done():
			e.end("")
			return
		case err := <-e.lost:
			e.end(err.Error())
			return
		}
	}
}

func (e *Engine) end(reason string) {
	e.sample(time.Now())
	if e.out.Sink != nil {
		e.out.Sink.Ended(reason)
	}
}

// sample asks the kernel for every connection, and tells what has moved.
func (e *Engine) sample(at time.Time) {
	started := time.Now()
	period := max(at.Sub(e.last), time.Millisecond)
	e.last = at
	s := &ping.Sample{Time: at, Period: period, Namespaces: 1}
	gone, shed := e.tcp.takeGone()
	live := e.tcp.all()
	s.Open, s.Skipped.Connections = len(live)+len(gone), shed
	for _, c := range live {
		e.sampleTCP(s, c, false)
	}
	for _, c := range gone {
		e.sampleTCP(s, c, true)
	}
	goneUDP, shedUDP := e.udp.takeGone()
	s.Skipped.Connections += shedUDP
	liveUDP := e.udp.all()
	if e.out.Sink != nil {
		for _, a := range liveUDP {
			e.sampleUDP(a, false)
		}
		for _, a := range goneUDP {
			e.sampleUDP(a, true)
		}
	}
	s.Took = time.Since(started)
	if e.out.Sampled != nil {
		e.out.Sampled(s)
	}
	if e.out.Sink != nil {
		e.out.Sink.Period(&Period{
			UnixMillis: at.UnixMilli(), PeriodMillis: period.Milliseconds(),
			OpenTCP: len(live), OpenUDP: len(liveUDP),
			Opened: e.opened.Load(), Failed: e.failed.Load(), Refused: e.refused.Load(),
		})
	}
}

func (e *Engine) sampleTCP(s *ping.Sample, c *tcpConnection, ended bool) {
	info, ok := ping.Info{}, false
	if !ended {
		info, ok = tcpInfo(c.raw)
	}
	if !ok {
		c.mu.Lock()
		info = c.final
		c.mu.Unlock()
	}
	counts := info.Since(&c.before)
	moved := ended || ping.Active(&info, &c.before, s.Period)
	c.before = info
	if !moved {
		return
	}
	source, _ := netip.ParseAddr(c.source) // made by ourselves
	connection := ping.Connection{
		Local: netip.AddrPortFrom(source, c.key.sourcePort), Remote: c.key.destination, Name: c.name, UID: -1,
		Info: info, Counts: counts, Ended: ended,
	}
	s.Connections = append(s.Connections, connection)
	if e.out.Sink != nil {
		e.out.Sink.Connection(bound(&connection))
	}
}

// bound is a connection in the types of bind.go.
func bound(c *ping.Connection) *Connection {
	micros := func(d time.Duration) int64 {
		if d == 0 {
			return -1
		}
		return d.Microseconds()
	}
	return &Connection{
		Protocol: "tcp", SourcePort: int(c.Local.Port()),
		Destination: c.Remote.Addr().String(), DestinationPort: int(c.Remote.Port()), Name: c.Name,
		RTTMicros: micros(c.Info.RTT), RTTVarMicros: micros(c.Info.RTTVar), MinRTTMicros: micros(c.Info.MinRTT),
		AgeMillis:    c.Age().Milliseconds(),
		DataSegments: int64(c.Counts.DataSegments), Retransmitted: int64(c.Counts.Retransmitted),
		Spurious: int64(c.Counts.Spurious), Reordered: int64(c.Counts.Reordered),
		BytesSent: int64(c.Counts.BytesAcked), BytesReceived: int64(c.Counts.BytesReceived),
		Ended: c.Ended,
	}
}

func (e *Engine) sampleUDP(a *udpAssociation, ended bool) {
	now := a.counts.snapshot()
	before := a.before
	a.before = now
	if now == before && !ended {
		return
	}
	e.out.Sink.Connection(&Connection{
		Protocol: "udp", SourcePort: int(a.key.sourcePort),
		Destination: a.key.destination.Addr().String(), DestinationPort: int(a.key.destination.Port()), Name: a.name,
		RTTMicros: -1, RTTVarMicros: -1, MinRTTMicros: -1, AgeMillis: -1,
		DataSegments: -1, Retransmitted: -1, Spurious: -1, Reordered: -1,
		BytesSent: now.bytesSent - before.bytesSent, BytesReceived: now.bytesReceived - before.bytesReceived,
		DatagramsSent: now.sent - before.sent, DatagramsReceived: now.received - before.received,
		Ended: ended,
	})
}
