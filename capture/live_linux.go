package capture

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// borrowed is what a live source has lent to a batch.
type borrowed struct {
	// blocks of rings, and whether there are any.
	blocks []lease
	leased bool
	// xsk is the socket whose chunks the frames lie in, if any.
	xsk    *xsk
	chunks []uint64
}

// lease is a batch's use of a block.
type lease struct {
	ring  *ring
	block int
}

// live is a Source that reads one ring an interface, and merges them by time.
type live struct {
	taps   *taps
	worker int
	lanes  []lane
	epoll  int
	// wake ends a wait: an eventfd.
	wake   int
	events []unix.EpollEvent
	tended time.Time
	// hold is how long a frame waits for frames of other rings that may be
	// earlier.
	hold time.Duration
	// users counts who uses the sockets and the rings' memory: one for the
	// source until it is closed, one for each running call, one for each batch
	// that is not released. The last one frees.
	users  atomic.Int64
	closed atomic.Bool
}

// lane is a source's ring on one interface.
type lane struct {
	tap *tap
	// ring is written by the reader alone, under mu.
	ring *ring
	// incoming is a ring on an interface that has taken the place of the one
	// ring is on; retired are rings that were replaced and still have blocks
	// in use.
	incoming atomic.Pointer[ring]
	retired  []*ring
	// walker is in the block that is being read, if open; lent says that the
	// batch that is being filled has a use of it.
	walker walker
	open   bool
	lent   bool

	packets, bytes atomic.Uint64
	// mu guards what Stats adds up: the kernel's counters start at 0 again
	// after each look.
	mu             sync.Mutex
	drops, freezes uint64
}

// holdSlack is what a block's timer may be late by.
const holdSlack = 5 * time.Millisecond

// newLive returns a worker's source on its rings.
func newLive(t *taps, worker int) (*live, error) {
	s := &live{
		taps: t, worker: worker, lanes: make([]lane, len(t.list)),
		epoll: -1, wake: -1, events: make([]unix.EpollEvent, len(t.list)+1),
		// The kernel's timer may have just looked when a block's first
		// packet comes, and looks again twice.
		hold: 2*t.config.BlockTimeout + holdSlack,
	}
	for i, tap := range t.list {
		s.lanes[i].tap, s.lanes[i].ring = tap, tap.rings[worker]
	}
	if err := s.open(); err != nil {
		s.freeWaits()
		return nil, fmt.Errorf("live capture: %w", err)
	}
	s.users.Store(1)
	return s, nil
}

func (s *live) open() error {
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if err = s.watch(s.wake, unix.EPOLLIN); err != nil {
		return err
	}
	for i := range s.lanes {
		if err = s.watchRing(s.lanes[i].ring); err != nil {
			return err
		}
	}
	return nil
}

func (s *live) watch(fd int, events uint32) error {
	err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// watchRing waits for the edge: a ring is readable for as long as its last block
// is with the consumer, and a level would keep waking us for it.
func (s *live) watchRing(r *ring) error {
	return s.watch(r.fd, unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLET)
}

// Next fills b with frames of one block of one ring, and of the other rings
// those that came meanwhile; see Source.
func (s *live) Next(b *Batch) error {
	b.Frames = b.Frames[:0]
	if b.borrowed.leased {
		return errors.New("live capture: Next was given a batch that is not released: call Release first")
	}
	if !s.enter() {
		return io.EOF
	}
	defer s.exit()
	s.tend()
	for waited := false; ; waited = true {
		if s.closed.Load() {
			return io.EOF
		}
		pause := s.fill(b)
		if pause == 0 || waited && pause == idleTimeout {
			return nil
		}
		if err := s.wait(pause); err != nil {
			return err
		}
	}
}

// fill puts frames into b, and returns 0; or how long to wait for some.
func (s *live) fill(b *Batch) time.Duration {
	for {
		pause := s.merge(b)
		if len(b.Frames) > 0 {
			return 0
		}
		if !b.borrowed.leased {
			return pause
		}
		s.Release(b) // a block of nothing but frames that are left out
	}
}

// merge puts the lanes' frames into b by their times, to the end of the first
// block that ends. Where no frame's turn has come, it returns for how long.
func (s *live) merge(b *Batch) time.Duration {
	s.advance()
	certain, absurd := s.times()
	pause := idleTimeout
	for {
		i, limit := s.first(certain, absurd)
		if i < 0 {
			break
		}
		l := &s.lanes[i]
		if l.walker.time > limit {
			pause = max(time.Duration(l.walker.time-limit), time.Millisecond)
			break
		}
		s.lend(l, b)
		n := len(b.Frames)
		var bytes uint64
		b.Frames, bytes = l.walker.take(b.Frames, uint16(i), limit)
		l.packets.Add(uint64(len(b.Frames) - n))
		l.bytes.Add(bytes)
		if l.walker.left == 0 {
			l.finish()
			break
		}
	}
	for i := range s.lanes {
		s.lanes[i].lent = false
	}
	return pause
}

// advance begins the next block of each lane that is in none.
func (s *live) advance() {
	for i := range s.lanes {
		l := &s.lanes[i]
		for !l.open {
			if !l.ring.ready() {
				if s.replace(l) {
					continue
				}
				break
			}
			l.walker, l.open = l.ring.walk(), true
			if l.walker.left == 0 {
				l.finish()
			}
		}
	}
}

// finish leaves the block that is read to its end.
func (l *lane) finish() {
	l.walker.ring.leave(l.walker.block)
	l.open = false
}

// times returns the time up to which all frames have come that will come: the
// kernel keeps none back for longer than hold. A frame from later than absurd
// was stamped before the clock was set back, and has to wait for nothing.
func (s *live) times() (certain, absurd int64) {
	if len(s.lanes) == 1 {
		return math.MaxInt64, math.MaxInt64
	}
	now := time.Now().UnixNano()
	absurd = now + int64(time.Second)
	for i := range s.lanes {
		if !s.lanes[i].open {
			return now - int64(s.hold), absurd
		}
	}
	return math.MaxInt64, absurd
}

// first returns the lane whose next frame is the earliest, and up to what time
// it may be read on before another one's turn comes; -1 if there is no frame.
func (s *live) first(certain, absurd int64) (first int, limit int64) {
	first, limit = -1, certain
	for i := range s.lanes {
		l := &s.lanes[i]
		switch {
		case !l.open:
		case l.walker.time > absurd:
			return i, math.MaxInt64
		case first < 0:
			first = i
		case l.walker.time < s.lanes[first].walker.time:
			limit = min(limit, s.lanes[first].walker.time)
			first = i
		default:
			limit = min(limit, l.walker.time)
		}
	}
	return first, limit
}

// lend gives b a use of the lane's block, once.
func (s *live) lend(l *lane, b *Batch) {
	if l.lent {
		return
	}
	l.lent = true
	l.walker.ring.uses[l.walker.block].Add(1)
	if !b.borrowed.leased {
		b.borrowed.leased = true
		s.users.Add(1)
	}
	b.borrowed.blocks = append(b.borrowed.blocks, lease{l.walker.ring, l.walker.block})
}

// Release hands b's blocks back to the kernel.
func (s *live) Release(b *Batch) {
	b.Frames = b.Frames[:0]
	if !b.borrowed.leased {
		return
	}
	b.borrowed.leased = false
	for _, lease := range b.borrowed.blocks {
		lease.ring.leave(lease.block)
	}
	clear(b.borrowed.blocks)
	b.borrowed.blocks = b.borrowed.blocks[:0]
	s.exit()
}

// wait waits for a block, an error or the end, for so long at most. Which it was
// shows in the rings.
func (s *live) wait(pause time.Duration) error {
	pause = min(pause, idleTimeout) + time.Millisecond - 1 // rounded up
	_, err := unix.EpollWait(s.epoll, s.events, int(pause.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("live capture: epoll: %w", err)
	}
	return nil
}

// replace goes over to the ring that has taken the place of the lane's, if there
// is one.
func (s *live) replace(l *lane) bool {
	r := l.incoming.Swap(nil)
	if r == nil {
		return false
	}
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, l.ring.fd, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ask()
	l.retired = append(l.retired, l.ring)
	l.ring = r
	// Unwatched, it would be read ten times a second, from tend on.
	_ = s.watchRing(r)
	return true
}

// tend looks after the interfaces and the rings now and then. It asks each
// socket rather than wait for an event: on a busy tap nobody waits.
func (s *live) tend() {
	now := time.Now()
	if now.Sub(s.tended) < tendEvery {
		return
	}
	s.tended = now
	for i := range s.lanes {
		l := &s.lanes[i]
		for k := len(l.retired) - 1; k >= 0; k-- {
			if l.retired[k].unused() {
				l.retired[k].free()
				l.retired = append(l.retired[:k], l.retired[k+1:]...)
			}
		}
	}
	s.taps.tend(now)
}

// Interfaces returns the names in the order of LiveConfig.
func (s *live) Interfaces() []string {
	names := make([]string, len(s.lanes))
	for i := range s.lanes {
		names[i] = s.lanes[i].tap.name
	}
	return names
}

// Stats returns the counters; after Close, those of the last call.
func (s *live) Stats() Stats {
	alive := s.enter()
	if alive {
		defer s.exit()
	}
	stats := Stats{Interfaces: make([]InterfaceStats, len(s.lanes))}
	for i := range s.lanes {
		stats.Interfaces[i] = s.lanes[i].stats(alive)
		if s.worker == 0 {
			s.lanes[i].tap.add(&stats.Interfaces[i], alive)
		}
	}
	return stats
}

// ask adds up what was lost since the last look. The lock is held.
func (l *lane) ask() {
	if k, err := unix.GetsockoptTpacketStatsV3(l.ring.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		l.drops += uint64(k.Drops)
		l.freezes += uint64(k.Freeze_q_cnt)
	}
}

func (l *lane) stats(alive bool) InterfaceStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	if alive {
		l.ask()
	}
	s := InterfaceStats{
		Name:    l.tap.name,
		Packets: l.packets.Load(),
		Bytes:   l.bytes.Load(),
		Freezes: l.freezes,
	}
	s.Drops[DropRingFull] = l.drops
	return s
}

// Close ends the capture. The rings stay mapped until the last batch is
// released.
func (s *live) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := wake(s.wake)
	s.exit()
	return err
}

// wake ends the wait of whoever waits for the eventfd.
func wake(eventfd int) error {
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // an eventfd takes any number but 0
	if _, err := unix.Write(eventfd, one[:]); err != nil {
		return fmt.Errorf("live capture: wake the reader: %w", err)
	}
	return nil
}

// enter joins the users, unless everything is freed already.
func (s *live) enter() bool { return join1(&s.users) }

// join1 counts one more user, unless there is none any more.
func join1(users *atomic.Int64) bool {
	for {
		n := users.Load()
		if n == 0 {
			return false
		}
		if users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// exit takes leave of the users; the last one frees.
func (s *live) exit() {
	if s.users.Add(-1) == 0 {
		s.free()
	}
}

// free gives everything back.
func (s *live) free() {
	s.taps.leave()
	for i := range s.lanes {
		l := &s.lanes[i]
		for _, r := range append(l.retired, l.ring, l.incoming.Swap(nil)) {
			if r != nil {
				r.free()
			}
		}
	}
	s.freeWaits()
}

func (s *live) freeWaits() {
	for _, fd := range [...]int{s.wake, s.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
