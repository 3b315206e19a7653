package capture

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/capture/xdp"
)

const (
	// xdpFrames is how many frames a batch has at most: about as many as a
	// block of a ring.
	xdpFrames = 1024
	// xdpFew is how many packets are not worth being woken for: the kernel has
	// no timer here as it has for blocks, and wakes us for each.
	xdpFew = 256
	// xdpHold is by how much one socket may be later than another one: packets
	// come in bunches, at the end of an interrupt's work.
	xdpHold = 3 * time.Millisecond
)

// loan is a batch's use of a socket's chunks.
type loan struct {
	socket *xdp.Socket
	chunks []uint64
}

// xdpLive is a Source that reads the AF_XDP sockets of whole interfaces, and
// merges them by time.
type xdpLive struct {
	config LiveConfig
	lanes  []xdpLane
	heads  []head // of the lanes
	waiter waiter
	tended time.Time
	// offset is the wall clock less the monotonic one.
	offset int64
	// retired are ports whose interface is gone and whose packets are not all
	// returned.
	retired []*xdp.Port
	users   atomic.Int64 // as of live
	closed  atomic.Bool

	// mu guards what is below, and the end of the capture against new ports.
	mu    sync.Mutex
	ports []xdpPort
}

// xdpPort is an interface.
type xdpPort struct {
	*xdp.Port
	packets, bytes *atomic.Uint64
	// gone says that the interface was taken away, as far as we know.
	gone bool
	// down says that it is that, or down, or has no carrier.
	down bool
	// dropped are the sockets' losses, before those of earlier ports of the
	// name.
	dropped, before uint64
	losses          losses
	rebinds         uint64
}

// xdpLane is a queue of an interface.
type xdpLane struct {
	socket *xdp.Socket
	iface  uint16
	next   xdp.Packet // if the lane has a head
	loan   int        // in the batch that is being filled, or -1
}

// openXDP takes over the interfaces.
func openXDP(config LiveConfig) (Source, error) { return openXDPBy(config) }

// openXDPBy tries the modes in turn.
func openXDPBy(config LiveConfig, modes ...xdp.Mode) (*xdpLive, error) {
	s := &xdpLive{config: config}
	s.setClock()
	if err := s.waiter.open(); err != nil {
		s.waiter.free()
		return nil, fmt.Errorf("live capture: %w", err)
	}
	for _, name := range config.Interfaces {
		port, err := xdp.Open(name, config.RingBytes, modes...)
		if err != nil {
			_ = s.detach() // the error that counts is there already
			s.free()
			return nil, fmt.Errorf("capture on %s: %w", name, err)
		}
		p := xdpPort{Port: port, packets: new(atomic.Uint64), bytes: new(atomic.Uint64)}
		p.losses.begin(name)
		s.ports = append(s.ports, p)
	}
	s.users.Store(1)
	s.line()
	return s, nil
}

// line makes a lane of every socket.
func (s *xdpLive) line() {
	s.lanes, s.heads = s.lanes[:0], s.heads[:0]
	for i := range s.ports {
		for _, socket := range s.ports[i].Sockets {
			s.lanes = append(s.lanes, xdpLane{socket: socket, iface: uint16(i), loan: -1})
			s.heads = append(s.heads, head{})
			// Unwatched, it is read ten times a second; watched again, it
			// stays so.
			_ = s.waiter.watch(socket.FD())
		}
	}
}

// setClock looks at both clocks.
func (s *xdpLive) setClock() {
	var monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) == nil {
		s.offset = time.Now().UnixNano() - monotonic.Nano()
	}
}

// Next fills b with frames of all sockets; see Source.
func (s *xdpLive) Next(b *Batch) error {
	b.Frames = b.Frames[:0]
	if b.borrowed.leased {
		return errors.New("live capture: Next was given a batch that is not released: call Release first")
	}
	if !enter(&s.users) {
		return io.EOF
	}
	defer s.exit()
	s.tend()
	for waited := false; ; waited = true {
		if s.closed.Load() {
			return io.EOF
		}
		pause := s.merge(b)
		if len(b.Frames) > 0 || waited && pause == idleTimeout {
			b.Pressure = s.pressure()
			return nil
		}
		if err := s.waiter.wait(pause); err != nil {
			return err
		}
		if s.available() < xdpFew {
			s.waiter.gather()
		}
	}
}

// available returns how many packets there are.
func (s *xdpLive) available() int {
	n := 0
	for i := range s.lanes {
		n += s.lanes[i].socket.Available()
	}
	return n
}

// merge puts the lanes' frames into b by their times. Where no frame's turn has
// come, it returns for how long.
func (s *xdpLive) merge(b *Batch) time.Duration {
	looked := time.Now()
	for i := range s.lanes {
		s.look(i)
	}
	bounds := boundsOf(looked, s.heads, xdpHold)
	wait := idleTimeout
	for len(b.Frames) < xdpFrames {
		i, limit := bounds.first(s.heads)
		if i < 0 {
			break
		}
		if s.heads[i].time > limit {
			wait = until(s.heads[i].time, limit)
			break
		}
		s.take(i, b, limit)
		if !s.heads[i].some {
			break
		}
	}
	s.settle(b)
	return wait
}

// look looks at the lane's next packet.
func (s *xdpLive) look(i int) {
	l := &s.lanes[i]
	if s.heads[i].some || l.socket.Available() == 0 {
		return
	}
	s.peek(i)
}

// peek reads the lane's next packet, which is there.
func (s *xdpLive) peek(i int) {
	l := &s.lanes[i]
	l.next = l.socket.First()
	at := l.next.Time + s.offset
	if l.next.Time == 0 {
		at = time.Now().UnixNano() // the driver has no room for the time
	}
	s.heads[i] = head{max(at, 0), true}
}

// take moves the lane's packets up to the time limit into b.
func (s *xdpLive) take(i int, b *Batch, limit int64) {
	l, h := &s.lanes[i], &s.heads[i]
	if l.loan < 0 {
		l.loan = lend(b, l.socket)
		if !b.borrowed.leased {
			b.borrowed.leased = true
			s.users.Add(1)
		}
	}
	chunks := b.borrowed.chunks[l.loan].chunks
	left, bytes, n := l.socket.Available(), uint64(0), len(b.Frames)
	for h.some && h.time <= limit && len(b.Frames) < xdpFrames {
		b.Frames = append(b.Frames, Frame{
			Data: l.next.Data, Time: h.time, WireLen: uint32(len(l.next.Data)), Link: decode.LinkEthernet, Interface: l.iface,
		})
		chunks = append(chunks, l.next.Chunk)
		bytes += uint64(len(l.next.Data))
		l.socket.Skip()
		if left--; left == 0 {
			h.some = false
			break
		}
		s.peek(i)
	}
	b.borrowed.chunks[l.loan].chunks = chunks
	s.ports[l.iface].packets.Add(uint64(len(b.Frames) - n))
	s.ports[l.iface].bytes.Add(bytes)
}

// lend makes a place for a socket's chunks in b.
func lend(b *Batch, socket *xdp.Socket) int {
	n := len(b.borrowed.chunks)
	if n < cap(b.borrowed.chunks) {
		b.borrowed.chunks = b.borrowed.chunks[:n+1]
		b.borrowed.chunks[n].socket = socket
		return n
	}
	b.borrowed.chunks = append(b.borrowed.chunks, loan{socket: socket})
	return n
}

// settle tells the sockets what was taken from them.
func (s *xdpLive) settle(b *Batch) {
	for i := range s.lanes {
		if l := &s.lanes[i]; l.loan >= 0 {
			l.socket.Took(len(b.borrowed.chunks[l.loan].chunks))
			l.loan = -1
		}
	}
}

// Release gives b's chunks back to their sockets.
func (s *xdpLive) Release(b *Batch) {
	b.Frames = b.Frames[:0]
	if !b.borrowed.leased {
		return
	}
	b.borrowed.leased = false
	for i := range b.borrowed.chunks {
		l := &b.borrowed.chunks[i]
		l.socket.Return(l.chunks)
		l.socket, l.chunks = nil, l.chunks[:0]
	}
	b.borrowed.chunks = b.borrowed.chunks[:0]
	s.exit()
}

// tend looks after the clock and the interfaces now and then.
func (s *xdpLive) tend() {
	now := time.Now()
	if now.Sub(s.tended) < tendEvery {
		return
	}
	s.tended = now
	s.setClock()
	for k := len(s.retired) - 1; k >= 0; k-- {
		if s.retired[k].Lent() == 0 {
			s.retired[k].Free()
			s.retired = append(s.retired[:k], s.retired[k+1:]...)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return
	}
	for i := range s.ports {
		if !s.ports[i].gone && s.ports[i].Sockets[0].Gone() {
			s.ports[i].gone = true
			s.config.tell(s.config.Interfaces[i], LinkDown)
		}
		if s.ports[i].gone {
			s.follow(i)
		}
		s.ports[i].down = s.ports[i].gone || !runs(s.config.Interfaces[i])
	}
}

// runs reports whether an interface is up and has a carrier. An AF_XDP socket cannot
// be asked.
func runs(name string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // not known to be down
	}
	defer func() { _ = unix.Close(fd) }() // only asked
	_, _, runs, err := stateOf(fd, name)
	return err == nil && runs
}

// follow takes over the interface that has the name of one that is gone, if
// there is one. What was not read of the old one is lost.
func (s *xdpLive) follow(i int) {
	p := &s.ports[i]
	port, err := xdp.Open(s.config.Interfaces[i], s.config.RingBytes)
	if err != nil {
		return // not there, or not ready: look again
	}
	_ = p.Detach() // it has gone with its interface
	for _, socket := range p.Sockets {
		p.before += socket.Losses()
		s.waiter.forget(socket.FD())
	}
	s.retired = append(s.retired, p.Port)
	p.Port, p.gone = port, false
	p.rebinds++
	s.config.tell(s.config.Interfaces[i], LinkRebound)
	s.line()
}

// Interfaces returns the names in the order of LiveConfig.
func (s *xdpLive) Interfaces() []string { return append([]string(nil), s.config.Interfaces...) }

// Stats returns the counters; after Close, those of the last call.
func (s *xdpLive) Stats() Stats {
	alive := enter(&s.users)
	if alive {
		defer s.exit()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Interfaces: make([]InterfaceStats, len(s.ports))}
	for i := range s.ports {
		stats.Interfaces[i] = s.ports[i].stats(s.config.Interfaces[i], alive)
	}
	return stats
}

func (p *xdpPort) stats(name string, alive bool) InterfaceStats {
	if alive {
		p.dropped = p.before
		for _, socket := range p.Sockets {
			p.dropped += socket.Losses()
		}
		p.losses.look(name)
	}
	s := InterfaceStats{
		Name: name, Path: p.Mode.String(), Packets: p.packets.Load(), Bytes: p.bytes.Load(), Rebinds: p.rebinds, Down: p.down,
	}
	s.Drops[DropRingFull] = p.dropped
	s.Drops[DropInterface] = p.losses.sum
	return s
}

// Close ends the capture and gives the interfaces back to the kernel. The memory
// of packets stays until the last batch is released.
func (s *xdpLive) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := errors.Join(s.detach(), s.waiter.end())
	s.exit()
	return err
}

func (s *xdpLive) detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := range s.ports {
		if err := s.ports[i].Detach(); err != nil {
			errs = append(errs, fmt.Errorf("capture on %s: give the interface back: %w", s.config.Interfaces[i], err))
		}
	}
	return join(errs)
}

// exit takes leave of the users; the last one frees.
func (s *xdpLive) exit() {
	if s.users.Add(-1) == 0 {
		s.free()
	}
}

func (s *xdpLive) free() {
	for i := range s.ports {
		s.ports[i].Free()
	}
	for _, p := range s.retired {
		p.Free()
	}
	s.waiter.free()
}
