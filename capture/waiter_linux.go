package capture

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// waiter waits for sockets, and can be woken.
type waiter struct {
	epoll int
	wake  int // an eventfd
	// events has room for a few: which socket it was, shows in the rings.
	events [16]unix.EpollEvent
	ending [1]unix.PollFd
}

func (w *waiter) open() error {
	var err error
	w.epoll, w.wake = -1, -1
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	return w.add(w.wake, unix.EPOLLIN)
}

func (w *waiter) add(fd int, events uint32) error {
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// watch waits for the edge: a ring is readable for as long as its last block is
// with the consumer, and a level would keep waking us for it.
func (w *waiter) watch(fd int) error {
	return w.add(fd, unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLET)
}

func (w *waiter) forget(fd int) { _ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

// wait waits for a packet, an error or the end, for so long at most. Which it
// was shows in the rings.
func (w *waiter) wait(pause time.Duration) error {
	pause += time.Millisecond - 1 // rounded up
	_, err := unix.EpollWait(w.epoll, w.events[:], int(min(pause, idleTimeout).Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("live capture: epoll: %w", err)
	}
	return nil
}

// gather waits a millisecond, for more packets to come or for the end.
func (w *waiter) gather() {
	w.ending[0] = unix.PollFd{Fd: int32(w.wake), Events: unix.POLLIN}
	_, _ = unix.Poll(w.ending[:], 1)
}

// end ends all waiting.
func (w *waiter) end() error {
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // an eventfd takes any number but 0
	if _, err := unix.Write(w.wake, one[:]); err != nil {
		return fmt.Errorf("live capture: wake the reader: %w", err)
	}
	return nil
}

func (w *waiter) free() {
	for _, fd := range [...]int{w.wake, w.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// enter counts one more user, unless there is none any more.
func enter(users *atomic.Int64) bool {
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
