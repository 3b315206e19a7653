package tun

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/nametap/nametap/ping"
)

const (
	// udpIdle: an association that is silent for as long ends. RFC 4787
	// section 4.3 (REQ-5) asks for two minutes at least.
	udpIdle = 2 * time.Minute
	// dnsIdle: a resolver's answer comes within seconds or never.
	dnsIdle = 20 * time.Second
	dnsPort = 53
)

// udpAssociation is what an application sends from one port to one destination,
// and gets back.
type udpAssociation struct {
	key     key
	name    string
	inside  *gonet.UDPConn
	outside net.Conn
	idle    time.Duration
	timer   *time.Timer
	once    sync.Once

	counts udpCounts
	before udpSnapshot // at the last sample; sampling goroutine only
}

type udpCounts struct{ sent, received, bytesSent, bytesReceived atomic.Int64 }

// udpSnapshot is the same at one moment.
type udpSnapshot struct{ sent, received, bytesSent, bytesReceived int64 }

func (c *udpCounts) snapshot() udpSnapshot {
	return udpSnapshot{c.sent.Load(), c.received.Load(), c.bytesSent.Load(), c.bytesReceived.Load()}
}

// acceptUDP is called for the first datagram of an association, on the goroutine
// that reads packets. It always takes the datagram: an answer "port unreachable"
// would look like the server's.
func (e *Engine) acceptUDP(r *udp.ForwarderRequest) bool {
	if !e.begin() {
		return true
	}
	if !e.udp.reserve() {
		e.work.Done()
		e.refused.Add(1)
		return true
	}
	var queue waiter.Queue
	endpoint, err := r.CreateEndpoint(&queue)
	if err != nil {
		e.udp.release()
		e.work.Done()
		e.failed.Add(1)
		return true
	}
	a := &udpAssociation{key: keyOf(r.ID()), inside: gonet.NewUDPConn(&queue, endpoint), idle: udpIdle}
	go func() {
		defer e.work.Done()
		defer e.udp.release()
		e.associate(a)
	}()
	return true
}

func (e *Engine) associate(a *udpAssociation) {
	a.name = e.names.Of(a.key.destination.Addr())
	var err error
	if a.outside, err = e.dialer.DialContext(e.ctx, "udp", a.key.destination.String()); err != nil {
		e.failed.Add(1)
		_ = a.inside.Close()
		return
	}
	e.opened.Add(1)
	if a.key.destination.Port() == dnsPort {
		a.idle = dnsIdle
	}
	a.timer = time.AfterFunc(a.idle, a.close)
	e.udp.put(a.key, a)
	if e.ctx.Err() != nil {
		a.close() // Stop may have looked through the table before
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.send()
	}()
	a.receive(&e.names)
	<-done
	a.timer.Stop()
	e.udp.end(a.key, a)
}

// close ends both directions.
func (a *udpAssociation) close() {
	a.once.Do(func() {
		_ = a.inside.Close()
		_ = a.inside.SetReadDeadline(time.Unix(1, 0)) // a reader is not woken by Close
		_ = a.outside.Close()
	})
}

func (a *udpAssociation) send() {
	defer a.close()
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := a.inside.Read(buf[:])
		if err != nil {
			return
		}
		a.timer.Reset(a.idle)
		// A datagram that cannot be sent is lost, as datagrams are.
		if _, err := a.outside.Write(buf[:n]); err == nil {
			a.counts.sent.Add(1)
			a.counts.bytesSent.Add(int64(n))
		}
	}
}

func (a *udpAssociation) receive(names *ping.Names) {
	defer a.close()
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := a.outside.Read(buf[:])
		if err != nil {
			return
		}
		a.timer.Reset(a.idle)
		if a.key.destination.Port() == dnsPort {
			names.Learn(buf[:n])
		}
		if _, err := a.inside.Write(buf[:n]); err == nil {
			a.counts.received.Add(1)
			a.counts.bytesReceived.Add(int64(n))
		}
	}
}
