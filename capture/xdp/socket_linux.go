package xdp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// stampLen is the size of struct stamp in xdp.c, stampCheck what its
	// fields are together.
	stampLen   = 16
	stampCheck = 0x6e616d6574617021

	leastChunk  = 2048
	mostChunk   = 4096
	leastChunks = 4096
	mostChunks  = 1 << 22
)

// Socket is the socket of one queue. One goroutine may read it; Return, Losses
// and Lent may be called from any.
type Socket struct {
	fd     int
	queue  uint32
	memory []byte // packets, in chunks
	chunk  uint64 // bytes of one, a power of two
	zero   bool   // zero-copy mode

	received ring[unix.XDPDesc] // from the kernel
	next     uint32             // the consumer index, as we have it
	lent     atomic.Int64

	mu    sync.Mutex
	empty ring[uint64] // to the kernel
	fill  uint32       // the producer index

	done ring[uint64] // of packets sent: none
}

// ring is shared with the kernel: one side produces, the other one consumes.
type ring[T any] struct {
	memory             []byte
	producer, consumer *uint32
	flags              *uint32
	entries            []T // a power of two
}

// newSocket binds a socket to a queue, in zero-copy mode or not. chunks is a
// power of two.
func newSocket(index int, queue uint32, chunks, chunk int, zero bool) (*Socket, error) {
	s := &Socket{fd: -1, queue: queue, chunk: uint64(chunk), zero: zero}
	if err := s.open(index, chunks); err != nil {
		s.Free()
		return nil, err
	}
	return s, nil
}

func (s *Socket) open(index, chunks int) error {
	var err error
	if s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return fmt.Errorf("AF_XDP socket: %w", explain(err))
	}
	if err = s.share(chunks); err != nil {
		return err
	}
	address := &unix.SockaddrXDP{Flags: unix.XDP_USE_NEED_WAKEUP | unix.XDP_COPY, Ifindex: uint32(index), QueueID: s.queue}
	if s.zero {
		address.Flags = unix.XDP_USE_NEED_WAKEUP | unix.XDP_ZEROCOPY
	}
	if err = unix.Bind(s.fd, address); err != nil {
		return fmt.Errorf("bind to queue %d: %w", s.queue, err)
	}
	return nil
}

// share sets up the memory for packets and the rings.
func (s *Socket) share(chunks int) error {
	var err error
	s.memory, err = unix.Mmap(-1, 0, chunks*int(s.chunk), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("memory for packets: %w", err)
	}
	// A wish: it works without huge pages too.
	_ = unix.Madvise(s.memory, unix.MADV_HUGEPAGE)
	register := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(&s.memory[0]))), Len: uint64(len(s.memory)), Size: uint32(s.chunk),
	}
	if err := setsockopt(s.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&register), unsafe.Sizeof(register)); err != nil {
		return fmt.Errorf("share %d bytes with the kernel: %w", len(s.memory), explain(err))
	}
	for option, size := range map[int]int{
		unix.XDP_UMEM_FILL_RING: chunks, unix.XDP_UMEM_COMPLETION_RING: 64, unix.XDP_RX_RING: chunks,
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, option, size); err != nil {
			return fmt.Errorf("ring of %d: %w", size, err)
		}
	}
	var offsets unix.XDPMmapOffsets
	if err := getsockopt(s.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&offsets), unsafe.Sizeof(offsets)); err != nil {
		return fmt.Errorf("layout of the rings: %w", err)
	}
	if err := s.empty.open(s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, offsets.Fr, chunks); err != nil {
		return err
	}
	if err := s.done.open(s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, offsets.Cr, 64); err != nil {
		return err
	}
	if err := s.received.open(s.fd, unix.XDP_PGOFF_RX_RING, offsets.Rx, chunks); err != nil {
		return err
	}
	for i := range s.empty.entries {
		s.empty.entries[i] = uint64(i) * s.chunk
	}
	s.fill = uint32(chunks)
	atomic.StoreUint32(s.empty.producer, s.fill)
	return nil
}

func (r *ring[T]) open(fd int, at int64, o unix.XDPRingOffset, entries int) error {
	var entry T
	var err error
	r.memory, err = unix.Mmap(fd, at, int(o.Desc)+entries*int(unsafe.Sizeof(entry)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map a ring: %w", err)
	}
	r.producer = (*uint32)(unsafe.Pointer(&r.memory[o.Producer]))
	r.consumer = (*uint32)(unsafe.Pointer(&r.memory[o.Consumer]))
	r.flags = (*uint32)(unsafe.Pointer(&r.memory[o.Flags]))
	r.entries = unsafe.Slice((*T)(unsafe.Pointer(&r.memory[o.Desc])), entries)
	return nil
}

func (r *ring[T]) free() {
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
	}
}

// Free gives everything back. No packet of the socket may be used any more.
func (s *Socket) Free() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	s.received.free()
	s.empty.free()
	s.done.free()
	if s.memory != nil {
		_ = unix.Munmap(s.memory)
	}
}

// FD returns the socket's descriptor, which is readable when there are packets.
func (s *Socket) FD() int { return s.fd }

// Packet is a packet in the socket's memory.
type Packet struct {
	Data []byte
	// Time of CLOCK_MONOTONIC in nanoseconds, 0 if the driver has no room for
	// it.
	Time int64
	// Chunk is what to give to Return.
	Chunk uint64
}

// Available returns how many packets there are.
func (s *Socket) Available() int {
	return int(atomic.LoadUint32(s.received.producer) - s.next)
}

// Pressure is how many of the chunks that are not lent hold packets received, in
// percent: the others are all that the kernel has for what comes next.
func (s *Socket) Pressure() uint8 {
	left := len(s.received.entries) - int(s.Lent())
	if left <= 0 {
		return 100
	}
	return uint8(min(100*s.Available()/left, 100))
}

// First returns the first packet that there is: Available must have said so.
func (s *Socket) First() Packet {
	d := s.received.entries[s.next&uint32(len(s.received.entries)-1)]
	at := d.Addr
	p := Packet{Chunk: at &^ (s.chunk - 1)}
	// The kernel wrote the numbers; they are compared with the memory's size
	// nevertheless.
	if end := at + uint64(d.Len); end <= uint64(len(s.memory)) && end >= at {
		p.Data = s.memory[at:end:end]
	}
	if at-p.Chunk >= stampLen && at <= uint64(len(s.memory)) {
		stamp := (*[2]uint64)(unsafe.Pointer(&s.memory[at-stampLen]))
		if stamp[0]^stamp[1] == stampCheck {
			p.Time = int64(stamp[0])
		}
	}
	return p
}

// Skip goes on to the packet after the first, which is now lent.
func (s *Socket) Skip() { s.next++ }

// Took tells the kernel how far packets were read, n since the last call, and
// that many are lent.
func (s *Socket) Took(n int) {
	s.lent.Add(int64(n))
	atomic.StoreUint32(s.received.consumer, s.next)
}

// Return gives chunks back.
func (s *Socket) Return(chunks []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mask := uint32(len(s.empty.entries) - 1)
	for _, c := range chunks {
		s.empty.entries[s.fill&mask] = c
		s.fill++
	}
	atomic.StoreUint32(s.empty.producer, s.fill)
	s.lent.Add(-int64(len(chunks)))
	if atomic.LoadUint32(s.empty.flags)&unix.XDP_RING_NEED_WAKEUP != 0 {
		// The driver has run out and waits to be told; whether the call
		// finds a packet does not matter.
		_, _, _ = unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
}

// Lent returns how many packets were not returned.
func (s *Socket) Lent() int64 { return s.lent.Load() }

// Losses returns how many packets found no chunk or no place in the ring, or did
// not fit into a chunk.
func (s *Socket) Losses() uint64 {
	var x unix.XDPStatistics
	if getsockopt(s.fd, unix.XDP_STATISTICS, unsafe.Pointer(&x), unsafe.Sizeof(x)) != nil {
		return 0
	}
	return x.Rx_dropped + x.Rx_ring_full
}

// Gone reports whether the interface was taken away.
func (s *Socket) Gone() bool {
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || errno != 0
}

func setsockopt(fd, option int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value), size, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func getsockopt(fd, option int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value),
		uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// explain adds the mend to an error of the kernel.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: run as root, or give the program CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF", err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: this kernel has no AF_XDP: leave the mode out", err)
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: choose a smaller ring, or raise the limit of locked memory (ulimit -l)", err)
	}
	return err
}
