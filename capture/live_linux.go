package capture

import (
	"errors"
	"fmt"
	"io"
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
	// chunks of AF_XDP sockets.
	chunks []loan
}

// lease is a batch's use of a block.
type lease struct {
	ring  *ring
	block int
}

// live is a Source that reads one ring an interface, where there are several
// workers also one with the signals of the interface, and merges them by time.
type live struct {
	taps   *taps
	worker int
	// lanes in the order of the interfaces; those of their signals follow.
	lanes  []lane
	heads  []head  // of the lanes
	frames []Frame // of signals, for a moment
	// signalled is when there was a signal last.
	signalled time.Time
	waiter    waiter
	tended    time.Time
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
	// ring is written by the reader alone, under mu; cursor is where it is.
	ring   *ring
	cursor cursor
	// incoming is a ring on an interface that has taken the place of the one
	// ring is on; retired are rings that were replaced and still have blocks
	// in use.
	incoming atomic.Pointer[ring]
	retired  []*ring
	// walker is in the block that is being read, if the lane has a head; lent
	// says that the batch that is being filled has a use of it.
	walker walker
	lent   bool

	packets, bytes atomic.Uint64
	// mu guards what Stats adds up: the kernel's counters start at 0 again
	// after each look.
	mu             sync.Mutex
	drops, freezes uint64
}

// holdSlack is what a block's timer may be late by: it counts in ticks of up to
// 10 ms, and a busy machine looks at it late.
const holdSlack = 15 * time.Millisecond

// newLive returns a worker's source on its rings.
func newLive(t *taps, worker int) (*live, error) {
	lanes := len(t.list)
	if t.list[0].signals != nil {
		lanes *= 2
	}
	s := &live{
		taps: t, worker: worker, lanes: make([]lane, lanes), heads: make([]head, lanes),
		// The kernel's timer may have just looked when a block's first
		// packet comes, and looks again twice.
		hold:      2*t.config.BlockTimeout + holdSlack,
		signalled: time.Now(),
	}
	for i, tap := range t.list {
		s.lanes[i].tap, s.lanes[i].ring = tap, tap.rings[worker]
		if tap.signals != nil {
			l := s.signalLane(i)
			l.tap, l.ring = tap, tap.signals
		}
	}
	err := s.waiter.open()
	for i := range s.lanes {
		if err == nil {
			err = s.waiter.watch(s.lanes[i].ring.fd)
		}
	}
	if err != nil {
		s.waiter.free()
		return nil, fmt.Errorf("live capture: %w", err)
	}
	s.users.Store(1)
	return s, nil
}

// signalLane returns the lane of an interface's signals.
func (s *live) signalLane(tap int) *lane { return &s.lanes[len(s.taps.list)+tap] }

// Next fills b with frames of one block of one ring, and of the other rings
// those that came meanwhile; see Source.
func (s *live) Next(b *Batch) error {
	b.Frames, b.Signals = b.Frames[:0], b.Signals[:0]
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
			b.Pressure = s.pressure()
			return nil
		}
		if err := s.waiter.wait(pause); err != nil {
			return err
		}
	}
}

// fill puts frames into b, and returns 0; or how long to wait for some.
func (s *live) fill(b *Batch) time.Duration {
	for {
		pause := s.merge(b)
		if len(b.Frames) > 0 || len(b.Signals) > 0 {
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
	looked := time.Now()
	s.advance()
	bounds := boundsOf(looked, s.awaited(looked), s.hold)
	wait := idleTimeout
	for {
		i, limit := bounds.first(s.heads)
		if i < 0 {
			break
		}
		if s.heads[i].time > limit {
			wait = until(s.heads[i].time, limit)
			break
		}
		l := &s.lanes[i]
		s.lend(l, b)
		if tap := i - len(s.taps.list); tap >= 0 {
			s.takeSignals(b, l, uint16(tap), limit)
		} else {
			l.take(b, uint16(i), limit)
		}
		s.look(i)
		if !s.heads[i].some {
			break
		}
	}
	for i := range s.lanes {
		s.lanes[i].lent = false
	}
	return wait
}

// signalSilence is for how long there is no signal before frames wait for none.
// What waits has left the processor's caches: a tap without a control plane, on
// Gi, need not pay for that. Of one whose control plane begins to be seen, the
// first signals may come a block's time-out late.
const signalSilence = 10 * time.Second

// awaited are the heads of the lanes whose frames others wait for.
func (s *live) awaited(now time.Time) []head {
	frames := len(s.taps.list)
	for _, h := range s.heads[frames:] {
		if h.some {
			s.signalled = now
		}
	}
	if now.Sub(s.signalled) > signalSilence {
		return s.heads[:frames]
	}
	return s.heads
}

// take adds the lane's frames up to the time limit to b.
func (l *lane) take(b *Batch, tap uint16, limit int64) {
	n := len(b.Frames)
	var bytes uint64
	b.Frames, bytes = l.walker.take(b.Frames, tap, limit)
	l.packets.Add(uint64(len(b.Frames) - n))
	l.bytes.Add(bytes)
}

// takeSignals adds the lane's frames up to the time limit to b, as signals. They
// are counted where they are captured as frames.
func (s *live) takeSignals(b *Batch, l *lane, tap uint16, limit int64) {
	s.frames, _ = l.walker.take(s.frames[:0], tap, limit)
	for i := range s.frames {
		b.Signals = append(b.Signals, Signal{Frame: s.frames[i], Before: len(b.Frames)})
	}
}

// advance begins the next block of each lane that is in none.
func (s *live) advance() {
	for i := range s.lanes {
		l := &s.lanes[i]
		for !s.heads[i].some {
			if !l.ring.ready(l.cursor) {
				if s.replace(l) {
					continue
				}
				break
			}
			l.walker = l.ring.walk(&l.cursor)
			s.look(i)
		}
	}
}

// look looks for the lane's next frame in the block that it is in, and leaves
// that if it has no more.
func (s *live) look(i int) {
	w := &s.lanes[i].walker
	s.heads[i] = head{w.time, w.left > 0}
	if w.left == 0 {
		w.ring.leave(w.block)
	}
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
	b.Frames, b.Signals = b.Frames[:0], b.Signals[:0]
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

// replace goes over to the ring that has taken the place of the lane's, if there
// is one.
func (s *live) replace(l *lane) bool {
	r := l.incoming.Swap(nil)
	if r == nil {
		return false
	}
	s.waiter.forget(l.ring.fd)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ask()
	l.retired = append(l.retired, l.ring)
	l.ring, l.cursor = r, cursor{}
	// Unwatched, it would be read ten times a second, from tend on.
	_ = s.waiter.watch(r.fd)
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
				l.retired[k].release()
				l.retired = append(l.retired[:k], l.retired[k+1:]...)
			}
		}
	}
	s.taps.tend(now)
}

// Interfaces returns the names in the order of LiveConfig.
func (s *live) Interfaces() []string {
	names := make([]string, len(s.taps.list))
	for i, tap := range s.taps.list {
		names[i] = tap.name
	}
	return names
}

// Stats returns the counters; after Close, those of the last call.
func (s *live) Stats() Stats {
	alive := s.enter()
	if alive {
		defer s.exit()
	}
	stats := Stats{Interfaces: make([]InterfaceStats, len(s.taps.list))}
	for i, tap := range s.taps.list {
		to := &stats.Interfaces[i]
		*to = s.lanes[i].stats(alive)
		if s.worker != 0 {
			continue
		}
		tap.add(to, alive)
		if len(s.lanes) > len(s.taps.list) {
			// Signals that none of the workers was shown are packets lost.
			signals := s.signalLane(i).stats(alive)
			to.Drops[DropRingFull] += signals.Drops[DropRingFull]
			to.Freezes += signals.Freezes
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
		Path:    string(ModePacket),
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
	err := s.waiter.end()
	s.exit()
	return err
}

// enter joins the users, unless everything is freed already.
func (s *live) enter() bool { return enter(&s.users) }

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
				r.release()
			}
		}
	}
	s.waiter.free()
}
