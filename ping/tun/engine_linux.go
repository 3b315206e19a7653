package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/nametap/nametap/ping"
)

const (
	nic = 1
	// inFlight is how many connections may wait for their server at the same
	// time; further SYNs go unanswered and come again.
	inFlight = 1024
	// dialTimeout: Linux gives up after some two minutes, applications
	// mostly long before that.
	dialTimeout = 75 * time.Second
	// receiveBuffer is the most that one connection may have under way from
	// the application to us, and sendBuffer the other way.
	receiveBuffer = 4 << 20
	sendBuffer    = 4 << 20
)

// Outputs are where results go; each may be nil.
type Outputs struct {
	Sink Sink
	// Sampled gets the TCP connections of each period. It is called from the
	// goroutine of the Sink and may keep its argument.
	Sampled func(*ping.Sample)
}

// Engine carries the connections of one TUN interface and measures them. It is
// safe for concurrent use.
type Engine struct {
	config  Config
	out     Outputs
	fd      int
	stack   *stack.Stack
	dialer  net.Dialer
	ctx     context.Context
	cancel  context.CancelFunc
	names   ping.Names
	tcp     table[*tcpConnection]
	udp     table[*udpAssociation]
	opened  atomic.Int64
	failed  atomic.Int64
	refused atomic.Int64

	lost     chan error    // the interface is gone
	finished chan struct{} // the sampling goroutine is

	mu       sync.Mutex
	stopping bool
	work     sync.WaitGroup // goroutines of connections
	stopped  sync.Once
	last     time.Time // of the sample before; sampling goroutine only
}

// StartWith is Start with a configuration and the outputs of this package's
// Go users. It takes fd over also where it fails.
func StartWith(fd int, config Config, out Outputs) (*Engine, error) {
	e, err := newEngine(fd, config, out)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot start on the TUN interface: %w", err)
	}
	go e.measure()
	return e, nil
}

func newEngine(fd int, config Config, out Outputs) (*Engine, error) {
	switch {
	case config.MTU < header.IPv6MinimumMTU || config.MTU > 65535:
		return nil, fmt.Errorf("an MTU of %d bytes; it is %d to 65535", config.MTU, header.IPv6MinimumMTU)
	case config.IntervalMillis < 1:
		return nil, errors.New("the period is not longer than 0")
	case config.MaxConnections < 1:
		return nil, errors.New("room for no connection at all")
	}
	e := &Engine{config: config, out: out, fd: fd, lost: make(chan error, 1), finished: make(chan struct{}), last: time.Now()}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.tcp.init(config.MaxConnections)
	e.udp.init(config.MaxConnections)
	// Keep-alives would be packets that no application asked for.
	e.dialer = net.Dialer{Timeout: dialTimeout, KeepAlive: -1, Control: e.control}
	if err := e.buildStack(); err != nil {
		e.cancel()
		return nil, err
	}
	return e, nil
}

// control readies a socket before it connects.
func (e *Engine) control(_, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr) { err = e.keepOut(int(fd)) }
	if cerr := c.Control(set); cerr != nil {
		return cerr
	}
	return err
}

func (e *Engine) keepOut(fd int) error {
	if e.config.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, e.config.Mark); err != nil {
			return os.NewSyscallError("setsockopt SO_MARK", err)
		}
	}
	if e.config.Device != "" {
		if err := unix.BindToDevice(fd, e.config.Device); err != nil {
			return os.NewSyscallError("setsockopt SO_BINDTODEVICE", err)
		}
	}
	if e.config.Protector != nil && !e.config.Protector.Protect(fd) {
		return errors.New("the socket could not be protected")
	}
	return nil
}

func (e *Engine) buildStack() error {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	e.stack = s
	if err := e.attach(); err != nil {
		s.Destroy()
		return err
	}
	return nil
}

func (e *Engine) attach() error {
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{e.fd}, MTU: uint32(e.config.MTU),
		// What comes out of the interface was made on this machine.
		RXChecksumOffload: true,
		ClosedFunc:        e.interfaceGone,
	})
	if err != nil {
		return err
	}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcp.DefaultReceiveBufferSize, Max: receiveBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcp.DefaultSendBufferSize, Max: sendBuffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &receive, &send} {
		if err := e.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return errors.New(err.String())
		}
	}
	e.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(e.stack, 0, inFlight, e.acceptTCP).HandlePacket)
	e.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(e.stack, e.acceptUDP).HandlePacket)
	silent := func(stack.TransportEndpointID, *stack.PacketBuffer) bool { return true }
	e.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, silent)
	e.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, silent)
	if err := e.stack.CreateNIC(nic, link); err != nil {
		return errors.New(err.String())
	}
	// All addresses are ours, as destinations and as sources.
	if err := e.stack.SetPromiscuousMode(nic, true); err != nil {
		return errors.New(err.String())
	}
	if err := e.stack.SetSpoofing(nic, true); err != nil {
		return errors.New(err.String())
	}
	e.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

// interfaceGone is called when reading ends: after Stop, or because the
// interface was taken away.
func (e *Engine) interfaceGone(err tcpip.Error) {
	reason := errors.New("the TUN interface was closed")
	if err != nil {
		reason = fmt.Errorf("the TUN interface failed: %s", err)
	}
	select {
	case e.lost <- reason:
	default:
	}
}

// Stop ends all connections, takes a last sample, and closes the interface. It
// returns when no goroutine of the engine is left. Further calls do nothing.
func (e *Engine) Stop() {
	e.stopped.Do(func() {
		e.mu.Lock()
		e.stopping = true
		e.mu.Unlock()
		e.cancel()
		<-e.finished
		for _, c := range e.tcp.all() {
			c.close()
		}
		for _, a := range e.udp.all() {
			a.close()
		}
		e.stack.Close()
		e.stack.RemoveNIC(nic)
		e.stack.Wait()
		e.work.Wait()
		_ = unix.Close(e.fd)
	})
}

// Done is closed when measuring has ended, by Stop or because the interface has
// gone. Stop must be called in either case.
func (e *Engine) Done() <-chan struct{} { return e.finished }

// begin takes note of a goroutine that works for a connection. False: the engine
// is stopping.
func (e *Engine) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.work.Add(1)
	return true
}

func addrPort(address tcpip.Address, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(address.AsSlice()) // of 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), port)
}
