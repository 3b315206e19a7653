package tun

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/nametap/nametap/ping"
)

// tcpConnection is an application's connection, inside, and its continuation,
// outside.
type tcpConnection struct {
	key      key
	source   string // local address of the application
	name     string
	inside   *gonet.TCPConn
	endpoint tcpip.Endpoint
	outside  *net.TCPConn
	raw      syscall.RawConn

	before ping.Info // at the last sample; sampling goroutine only

	mu    sync.Mutex
	final ping.Info // the last state before the socket was closed
}

// acceptTCP is called on a goroutine of its own for each SYN.
func (e *Engine) acceptTCP(r *tcp.ForwarderRequest) {
	if !e.begin() {
		r.Complete(true)
		return
	}
	defer e.work.Done()
	if !e.tcp.reserve() {
		e.refused.Add(1)
		r.Complete(true)
		return
	}
	defer e.tcp.release()
	c, err := e.connect(r)
	if err != nil {
		e.failed.Add(1)
		return
	}
	e.opened.Add(1)
	e.tcp.put(c.key, c)
	if e.ctx.Err() != nil {
		c.close() // Stop may have looked through the table before
	}
	c.relay()
	e.tcp.end(c.key, c)
}

// connect opens the outer connection first, so that the application is told what
// the server says. It completes r in either case.
func (e *Engine) connect(r *tcp.ForwarderRequest) (*tcpConnection, error) {
	id := r.ID()
	c := &tcpConnection{key: keyOf(id), source: addrPort(id.RemoteAddress, 0).Addr().String()}
	c.name = e.names.Of(c.key.destination.Addr())
	outside, err := e.dialer.DialContext(e.ctx, "tcp", c.key.destination.String())
	if err != nil {
		r.Complete(true)
		return nil, err
	}
	c.outside = outside.(*net.TCPConn)
	if c.raw, err = c.outside.SyscallConn(); err != nil {
		r.Complete(true)
		_ = c.outside.Close()
		return nil, err
	}
	var queue waiter.Queue
	endpoint, terr := r.CreateEndpoint(&queue)
	r.Complete(terr != nil)
	if terr != nil {
		_ = c.outside.Close()
		return nil, errors.New(terr.String())
	}
	c.endpoint = endpoint
	c.inside = gonet.NewTCPConn(&queue, endpoint)
	return c, nil
}

// relay carries bytes until both directions have ended. An end of one direction
// is passed on as FIN, a failure of either side as RST to the other.
func (c *tcpConnection) relay() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.pass(c.outside, c.inside)
	}()
	c.pass(c.inside, c.outside)
	<-done
	c.noteFinal()
	c.close()
}

func (c *tcpConnection) pass(to half, from io.Reader) {
	if err := pipe(to, from); err != nil {
		c.reset()
	}
}

// reset ends both sides at once, which also wakes the other direction. The
// kernel's figures are taken first: they go with the socket.
func (c *tcpConnection) reset() {
	c.noteFinal()
	_ = c.outside.SetLinger(0) // close with RST; fails where it is closed
	_ = c.outside.Close()
	c.endpoint.Abort()
}

func (c *tcpConnection) close() {
	_ = c.inside.Close()
	_ = c.outside.Close()
}

// noteFinal keeps what the kernel says while it still says it.
func (c *tcpConnection) noteFinal() {
	if info, ok := tcpInfo(c.raw); ok {
		c.mu.Lock()
		c.final = info
		c.mu.Unlock()
	}
}

// half is a side that can end one direction alone.
type half interface {
	io.Writer
	CloseWrite() error
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// pipe copies until the end of from, and passes that on.
func pipe(to half, from io.Reader) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return to.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// tcpInfo asks the kernel. It is false for a socket that is closed.
func tcpInfo(raw syscall.RawConn) (ping.Info, bool) {
	var buf [512]byte // the structure has 280 bytes, and grows
	length := uint32(len(buf))
	var errno syscall.Errno
	err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	})
	if err != nil || errno != 0 {
		return ping.Info{}, false
	}
	return ping.ParseInfo(buf[:min(int(length), len(buf))])
}
