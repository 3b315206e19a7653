package capture

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/fanout"
)

// tendEvery is the least time between two looks at the state of the interfaces.
const tendEvery = 250 * time.Millisecond

// taps are the interfaces of a capture, which its sources share.
type taps struct {
	config  LiveConfig
	steerer *steerer
	list    []*tap
	sources []*live

	// mu guards what follows; it is held while the interfaces are looked
	// after.
	mu     sync.Mutex
	tended time.Time
	// left is how many sources are freed. From the first one on interfaces are
	// not looked after any more: the capture is ending.
	left int
}

// tap is one interface and the rings on it.
type tap struct {
	name string
	// rings in the order of the workers, the newest ones; signals is read by
	// all of them, nil where there is only one.
	rings   []*ring
	signals *ring
	// ailing says that the interface is down or gone, as far as we know.
	ailing  bool
	down    atomic.Bool // somebody was told that it is
	rebinds atomic.Uint64

	mu     sync.Mutex // guards losses
	losses losses
}

// openRings opens a source for each worker, with the best way to divide frames
// that is to be had.
func openRings(config LiveConfig) ([]Source, FanoutInfo, error) {
	methods := fanoutMethodsOf(config.Workers)
	if !config.Exact || config.Workers == 1 {
		return openRingsBy(config, methods...)
	}
	sources, info, err := openRingsBy(config, methods[0])
	var impossible *impossibleError
	if !errors.As(err, &impossible) {
		return sources, info, err
	}
	return single(config, openRing, impossible.reason)
}

// openRing opens the rings of one source.
func openRing(config LiveConfig) (Source, error) {
	config.RingBytes *= config.Workers
	config.Workers = 1
	sources, _, err := openRingsBy(config, FanoutNone)
	if err != nil {
		return nil, err
	}
	return sources[0], nil
}

// impossibleError says that frames cannot be divided in any way that was asked
// for.
type impossibleError struct {
	workers int
	reason  string
}

func (e *impossibleError) Error() string {
	return fmt.Sprintf("dividing frames among %d workers: %s: capture with one", e.workers, e.reason)
}

// openRingsBy tries the methods in turn.
func openRingsBy(config LiveConfig, methods ...FanoutMethod) ([]Source, FanoutInfo, error) {
	refused := ""
	for _, method := range methods {
		s, err := newSteerer(method, &config)
		if err != nil {
			refused = err.Error()
			continue
		}
		sources, err := openTaps(config, s)
		if err == nil {
			s.info.Reason = refused
			return sources, s.info, nil
		}
		s.free()
		if !isRefused(err) {
			return nil, FanoutInfo{}, err
		}
		refused = err.Error()
	}
	return nil, FanoutInfo{}, &impossibleError{config.Workers, refused}
}

// openTaps opens the rings of all workers on all interfaces.
func openTaps(config LiveConfig, s *steerer) ([]Source, error) {
	t := &taps{config: config, steerer: s}
	for _, name := range config.Interfaces {
		p := &tap{name: name}
		t.list = append(t.list, p)
		var err error
		if p.rings, p.signals, err = t.open(name); err != nil {
			t.free()
			return nil, fmt.Errorf("capture on %s: %w", name, err)
		}
		p.losses.begin(name)
	}
	sources := make([]Source, config.Workers)
	for i := range sources {
		l, err := newLive(t, i)
		if err != nil {
			t.free()
			return nil, err
		}
		sources[i], t.sources = l, append(t.sources, l)
	}
	return sources, nil
}

// free gives back what was opened before an error.
func (t *taps) free() {
	for _, p := range t.list {
		freeRings(p.rings)
		if p.signals != nil {
			p.signals.free()
		}
	}
	for _, s := range t.sources {
		s.waiter.free()
	}
}

func freeRings(rings []*ring) {
	for _, r := range rings {
		r.free()
	}
}

// open opens all rings of an interface.
func (t *taps) open(name string) (rings []*ring, signals *ring, err error) {
	if rings, err = t.rings(name); err != nil || len(rings) == 1 {
		return rings, nil, err
	}
	if signals, err = t.signals(name); err != nil {
		freeRings(rings)
		return nil, nil, err
	}
	return rings, signals, nil
}

// signals opens the ring of an interface's control plane, which is shown to all
// workers: a subscriber's packets are one worker's, but a session's control
// messages have other addresses, and tell of several subscribers. One socket for
// all workers costs the kernel a look at each packet, and not one for each
// worker.
func (t *taps) signals(name string) (*ring, error) {
	config := t.config
	config.RingBytes, config.BlockBytes, config.BlockTimeout = signalRingBytes, signalBlockBytes, signalTimeout
	r, err := newRing(name, &config, t.config.Workers)
	if err != nil {
		return nil, err
	}
	err = func() error {
		index, _, _, err := r.state()
		if err != nil {
			return r.explain("find the interface", err)
		}
		if err := r.findLink(); err != nil {
			return err
		}
		// Before it is bound, so that nothing else gets in.
		program, err := fanout.Signals(r.noLink)
		if err != nil {
			return err
		}
		if err := r.filter(program); err != nil {
			return r.explain("filter the control plane", err)
		}
		if err := r.bind(index); err != nil {
			return r.explain("bind", err)
		}
		return nil
	}()
	if err != nil {
		r.free()
		return nil, err
	}
	return r, nil
}

// rings opens a ring for each worker on an interface. The kernel numbers the
// sockets of a group in the order in which they join it, and in that of their
// making when the interface goes down and up: both are the workers' order. None
// hears anything before all have joined.
func (t *taps) rings(name string) ([]*ring, error) {
	rings := make([]*ring, 0, t.config.Workers)
	err := func() error {
		for range t.config.Workers {
			r, err := newRing(name, &t.config, 1)
			if err != nil {
				return err
			}
			rings = append(rings, r)
		}
		return t.connect(rings)
	}()
	if err != nil {
		freeRings(rings)
		return nil, err
	}
	return rings, nil
}

// connect binds the rings to their interface and lets them hear.
func (t *taps) connect(rings []*ring) error {
	for _, r := range rings {
		if err := r.plug(); err != nil {
			return r.explain("plug the socket", err)
		}
		index, _, _, err := r.state()
		if err != nil {
			return r.explain("find the interface", err)
		}
		if err := r.bind(index); err != nil {
			return r.explain("bind", err)
		}
	}
	if err := t.steerer.join(rings); err != nil {
		return err
	}
	for _, r := range rings {
		if err := r.unplug(); err != nil {
			return r.explain("unplug the socket", err)
		}
	}
	return nil
}

// tend looks after the interfaces, unless another source does.
func (t *taps) tend(now time.Time) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	if t.left > 0 || now.Sub(t.tended) < tendEvery {
		return
	}
	t.tended = now
	for i := range t.list {
		t.look(i)
	}
}

// look looks after an interface that is down or gone. The kernel goes on by
// itself when the same interface comes up again; a new one of the same name has
// to be bound to.
func (t *taps) look(i int) {
	p := t.list[i]
	failed := false
	for _, r := range p.rings {
		failed = r.failed() || failed
	}
	p.ailing = p.ailing || failed
	r := p.rings[0]
	index, up, runs, err := r.state()
	if !p.down.Load() && (failed || err != nil || !runs) {
		p.down.Store(true)
		t.config.tell(p.name, LinkDown)
	}
	if err != nil {
		return // not there: look again
	}
	if p.ailing {
		t.heal(i, index, up)
	}
	if p.down.Load() && runs && !p.ailing {
		p.down.Store(false)
		t.config.tell(p.name, LinkUp)
	}
}

// heal looks whether capture goes on at an interface of that index.
func (t *taps) heal(i, index int, up bool) {
	p := t.list[i]
	r := p.rings[0]
	if r.boundTo(index) {
		// Seen up, it is well. Seen down, it may yet be taken away, and of
		// that the socket would not be told.
		p.ailing = !up
		return
	}
	if t.follow(i, index) {
		p.rebinds.Add(1)
		p.ailing = !up
		t.config.tell(p.name, LinkRebound)
	}
}

// follow goes on with interface i's namesake. A socket in a fanout group cannot
// be bound again, so that each worker gets a new ring.
func (t *taps) follow(i, index int) bool {
	p := t.list[i]
	if len(p.rings) == 1 {
		return p.rings[0].bind(index) == nil
	}
	rings, signals, err := t.open(p.name)
	if err != nil {
		return false // look again
	}
	p.rings, p.signals = rings, signals
	for w, s := range t.sources {
		s.lanes[i].give(rings[w])
		s.signalLane(i).give(signals)
	}
	return true
}

// give has the lane go over to a ring as soon as it has read the one that it has.
func (l *lane) give(r *ring) {
	if unread := l.incoming.Swap(r); unread != nil {
		unread.release()
	}
}

// leave is called by each source that is freed, before it is.
func (t *taps) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left++
	if t.left == len(t.sources) {
		t.steerer.free()
	}
}

// failed reports whether the interface has gone down since the last call.
func (r *ring) failed() bool {
	// ENETDOWN, which is all that a packet socket can have; taken away by
	// being read.
	errno, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || errno != 0
}

// boundTo reports whether the socket is bound to the interface of that index.
// One whose interface was taken away is bound to -1.
func (r *ring) boundTo(index int) bool {
	address, err := unix.Getsockname(r.fd)
	if err != nil {
		return false
	}
	link, ok := address.(*unix.SockaddrLinklayer)
	return ok && link.Ifindex == index
}

// add adds to s what is the interface's and no worker's.
func (p *tap) add(s *InterfaceStats, alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if alive {
		p.losses.look(p.name)
	}
	s.Drops[DropInterface] = p.losses.sum
	s.Rebinds, s.Down = p.rebinds.Load(), p.down.Load()
}

// losses are what a card and its driver have lost since the beginning, over all
// interfaces of one name.
type losses struct{ sum, last uint64 }

func (l *losses) begin(name string) { l.last, _ = interfaceLosses(name) }

func (l *losses) look(name string) {
	now, ok := interfaceLosses(name)
	if !ok {
		return
	}
	if now < l.last { // a new interface, which begins at 0
		l.last = 0
	}
	l.sum += now - l.last
	l.last = now
}

// interfaceLosses returns how many frames the card and its driver have lost
// (Documentation/ABI/testing/sysfs-class-net-statistics in the kernel tree), if
// the files can be read.
func interfaceLosses(name string) (uint64, bool) {
	sum := uint64(0)
	for _, counter := range [...]string{"rx_missed_errors", "rx_fifo_errors"} {
		text, err := os.ReadFile("/sys/class/net/" + name + "/statistics/" + counter)
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0, false
		}
		sum += n
	}
	return sum, true
}
