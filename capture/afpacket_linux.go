package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
)

// This file reads TPACKET_V3 rings (Documentation/networking/packet_mmap.rst in
// the kernel tree). gopacket has a reader too, which needs cgo and hands packets
// out one by one; here a batch is a block of the ring, as it lies in the memory
// shared with the kernel.

// Constants of linux/if_packet.h that x/sys does not have.
const (
	blockOfKernel = 0 // TP_STATUS_KERNEL
	blockOfUser   = 1 // TP_STATUS_USER
	// ringFrameSize divides blocks for versions 1 and 2 of the ring; in
	// version 3 the kernel only checks it.
	ringFrameSize = 2048
	vlanTagLen    = 4
)

// tendEvery is the least time between two looks at the state of the interfaces.
const tendEvery = 250 * time.Millisecond

// live is a Source that reads one ring an interface.
type live struct {
	rings []*ring
	epoll int
	// wake ends a wait: an eventfd.
	wake   int
	events []unix.EpollEvent
	tended time.Time
	// users counts who uses the sockets and the rings' memory: one for the
	// source until it is closed, one for each running call, one for each batch
	// that is not released. The last one frees.
	users  atomic.Int64
	closed atomic.Bool
}

// ring is one interface's socket and the memory it shares with the kernel.
type ring struct {
	name   string
	config *LiveConfig
	fd     int
	memory []byte
	// next is the block to be read next, and held the blocks that are with
	// the consumer.
	next int
	held []atomic.Bool
	link decode.Link
	// noLink says that the interface has no link header: frames begin with
	// the network header.
	noLink bool
	// ailing says that the interface is down or gone, as far as we know.
	ailing bool

	packets, bytes, rebinds atomic.Uint64
	// mu guards what Stats adds up: the kernel's counters start at 0 again
	// after each look.
	mu             sync.Mutex
	drops, freezes uint64
	lost, lostLast uint64
}

// openRings opens a ring on each interface.
func openRings(config LiveConfig) (Source, error) {
	s := &live{epoll: -1, wake: -1, events: make([]unix.EpollEvent, len(config.Interfaces)+1)}
	if err := s.open(&config); err != nil {
		s.free()
		return nil, err
	}
	s.users.Store(1)
	return s, nil
}

func (s *live) open(config *LiveConfig) error {
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("live capture: epoll: %w", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("live capture: eventfd: %w", err)
	}
	if err = s.watch(s.wake, unix.EPOLLIN); err != nil {
		return fmt.Errorf("live capture: epoll: %w", err)
	}
	for _, name := range config.Interfaces {
		r := &ring{name: name, config: config, fd: -1}
		s.rings = append(s.rings, r)
		if err = r.open(); err != nil {
			return fmt.Errorf("capture on %s: %w", name, err)
		}
		// Edge-triggered: a ring is readable for as long as its last block is
		// with the consumer, and a level would keep waking us for it.
		if err = s.watch(r.fd, unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLET); err != nil {
			return fmt.Errorf("capture on %s: epoll: %w", name, err)
		}
	}
	return nil
}

func (s *live) watch(fd int, events uint32) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// open sets up the socket. It hears nothing until it is bound, so that no
// packet of another interface gets in.
func (r *ring) open() error {
	var err error
	if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return r.explain("socket", err)
	}
	index, _, err := r.state()
	if err != nil {
		return r.explain("find the interface", err)
	}
	if err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("leave out what this machine sends: %w: needs Linux 4.20", err)
	}
	if err = r.cut(); err != nil {
		return r.explain("cut frames", err)
	}
	if err = r.share(); err != nil {
		return err
	}
	if err = r.bind(index); err != nil {
		return r.explain("bind", err)
	}
	r.lostLast, _ = interfaceLosses(r.name)
	return nil
}

// explain adds the mend to an error of the kernel.
func (r *ring) explain(what string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w: run as root, or give the program CAP_NET_RAW (setcap cap_net_raw+ep)", what, err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%s: %w: %d bytes of kernel memory are not to be had: choose a smaller ring",
			what, err, r.config.RingBytes)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s: %w: see ip link for the names", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cut makes the kernel keep no more than the snap length of each frame: a
// filter program of one instruction that returns it.
func (r *ring) cut() error {
	if r.config.SnapLen <= 0 {
		return nil
	}
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(r.config.SnapLen)}}
	return unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// share sets up the ring and maps it.
func (r *ring) share() error {
	c := r.config
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return r.explain("ring version 3", err)
	}
	blocks := c.RingBytes / c.BlockBytes
	request := unix.TpacketReq3{
		Block_size:     uint32(c.BlockBytes),
		Block_nr:       uint32(blocks),
		Frame_size:     ringFrameSize,
		Frame_nr:       uint32(c.RingBytes / ringFrameSize),
		Retire_blk_tov: uint32(max(c.BlockTimeout.Milliseconds(), 1)),
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return r.explain("ring", err)
	}
	memory, err := unix.Mmap(r.fd, 0, c.RingBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return r.explain("map the ring", err)
	}
	r.memory, r.held = memory, make([]atomic.Bool, blocks)
	return nil
}

// bind starts the capture on the interface of that index, again if need be.
func (r *ring) bind(index int) error {
	if err := r.findLink(); err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)
	address := unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index}
	if err := unix.Bind(r.fd, &address); err != nil {
		return err
	}
	if !r.config.Promiscuous {
		return nil
	}
	// Goes away with the socket, or with the interface.
	member := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	return unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member)
}

// findLink asks for the interface's hardware type.
func (r *ring) findLink() error {
	request, err := unix.NewIfreq(r.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFHWADDR, request); err != nil {
		return err
	}
	// ifr_hwaddr is a sockaddr, its family the hardware type.
	hardware := request.Uint16()
	link, noLink, ok := linkOf(hardware)
	if !ok {
		return fmt.Errorf("hardware type %d is not known: "+
			"capture on an Ethernet, loopback, PPP or IP tunnel interface", hardware)
	}
	r.link, r.noLink = link, noLink
	return nil
}

// linkOf returns the link type for a hardware type of linux/if_arp.h, and
// whether its frames begin with the network header. (PPP belongs to these: the
// kernel takes its header off before packet sockets see the frame.)
func linkOf(hardware uint16) (link decode.Link, noLink, ok bool) {
	switch hardware {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return decode.LinkEthernet, false, true
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP, unix.ARPHRD_PPP,
		unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT,
		unix.ARPHRD_IPGRE, unix.ARPHRD_IP6GRE:
		return decode.LinkRaw, true, true
	}
	return 0, false, false
}

// state returns the interface's index and whether it is up, in the network
// namespace of the socket.
func (r *ring) state() (index int, up bool, err error) {
	request, err := unix.NewIfreq(r.name)
	if err != nil {
		return 0, false, fmt.Errorf("%w: the name of an interface has 1 to 15 bytes", err)
	}
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, false, err
	}
	index = int(request.Uint32())
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFFLAGS, request); err != nil {
		return 0, false, err
	}
	return index, request.Uint16()&unix.IFF_UP != 0, nil
}

// Next fills b with the frames of one block of one ring; see Source.
func (s *live) Next(b *Batch) error {
	b.Frames = b.Frames[:0]
	if b.leased {
		return errors.New("live capture: Next was given a batch that is not released: call Release first")
	}
	if !s.enter() {
		return io.EOF
	}
	defer s.leave()
	s.tend()
	for waited := false; ; waited = true {
		if s.closed.Load() {
			return io.EOF
		}
		if i := s.ready(); i >= 0 {
			s.take(i, b)
			return nil
		}
		if waited {
			return nil
		}
		if err := s.wait(); err != nil {
			return err
		}
	}
}

// ready returns the ring whose next block is full and begins earliest, or -1.
func (s *live) ready() int {
	first, earliest := -1, int64(0)
	for i, r := range s.rings {
		if r.held[r.next].Load() {
			continue // the ring has gone round: the consumer has all of it
		}
		h := r.header(r.next)
		if atomic.LoadUint32(&h.Block_status)&blockOfUser == 0 {
			continue
		}
		at := int64(h.Ts_first_pkt.Sec)*1e9 + int64(h.Ts_first_pkt.Usec) // nanoseconds, whatever it is called
		if first < 0 || at < earliest {
			first, earliest = i, at
		}
	}
	return first
}

// wait waits for a block, an error or the end, for idleTimeout at most. Which
// it was shows in the rings.
func (s *live) wait() error {
	_, err := unix.EpollWait(s.epoll, s.events, int(idleTimeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("live capture: epoll: %w", err)
	}
	return nil
}

// take makes b a view of ring i's next block.
func (s *live) take(i int, b *Batch) {
	r := s.rings[i]
	r.held[r.next].Store(true)
	s.users.Add(1)
	b.ring, b.block, b.leased = i, r.next, true
	b.Frames = r.walk(r.next, uint16(i), b.Frames)
	r.next = (r.next + 1) % len(r.held)

	bytes := uint64(0)
	for k := range b.Frames {
		bytes += uint64(b.Frames[k].WireLen)
	}
	r.packets.Add(uint64(len(b.Frames)))
	r.bytes.Add(bytes)
}

// header returns a block's header, which follows two words of version.
func (r *ring) header(block int) *unix.TpacketHdrV1 {
	d := (*unix.TpacketBlockDesc)(unsafe.Pointer(&r.memory[block*r.config.BlockBytes]))
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&d.Hdr))
}

// walk appends a block's frames to frames. The kernel wrote the block; what it
// says is compared with the block's size nevertheless.
func (r *ring) walk(block int, iface uint16, frames []Frame) []Frame {
	size := r.config.BlockBytes
	memory := r.memory[block*size : (block+1)*size : (block+1)*size]
	h := r.header(block)
	at := int(h.Offset_to_first_pkt)
	for range h.Num_pkts {
		if at < 0 || at > size-unix.SizeofTpacket3Hdr {
			return frames
		}
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&memory[at]))
		start, captured, wire := at+int(p.Mac), int(p.Snaplen), p.Len
		if r.noLink && p.Net > p.Mac {
			skip := int(p.Net - p.Mac)
			start, captured, wire = start+skip, max(captured-skip, 0), wire-min(wire, uint32(skip))
		}
		end := start + captured
		if end > size || end < start {
			return frames
		}
		frame := Frame{
			Data:      memory[start:end:end],
			Time:      int64(p.Sec)*1e9 + int64(p.Nsec),
			WireLen:   max(wire, uint32(captured)),
			Link:      r.link,
			Interface: iface,
		}
		if hasTag(p) {
			frame.VLAN, frame.HasVLAN = uint16(p.Hv1.Vlan_tci), true
			frame.WireLen += vlanTagLen
		}
		frames = append(frames, frame)
		if p.Next_offset == 0 {
			return frames
		}
		at += int(p.Next_offset)
	}
	return frames
}

// hasTag reports whether a VLAN tag was taken out of the frame: the kernel does
// so even where the card does not. Its protocol is that of a customer's or a
// service provider's tag (IEEE 802.1Q), where the kernel gives it.
func hasTag(p *unix.Tpacket3Hdr) bool {
	if p.Status&unix.TP_STATUS_VLAN_VALID == 0 {
		return false
	}
	if p.Status&unix.TP_STATUS_VLAN_TPID_VALID == 0 {
		return true
	}
	return p.Hv1.Vlan_tpid == unix.ETH_P_8021Q || p.Hv1.Vlan_tpid == unix.ETH_P_8021AD
}

// tend looks after the interfaces now and then. It asks each socket rather than
// wait for an event: on a busy tap nobody waits.
func (s *live) tend() {
	if time.Since(s.tended) < tendEvery {
		return
	}
	s.tended = time.Now()
	for _, r := range s.rings {
		r.tend()
	}
}

// tend looks after an interface that is down or gone. The kernel goes on by
// itself when the same interface comes up again; a new one of the same name has
// to be bound to.
func (r *ring) tend() {
	// ENETDOWN, which is all that a packet socket can have; taken away by
	// being read.
	if errno, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		r.ailing = true
	}
	if !r.ailing {
		return
	}
	index, up, err := r.state()
	if err != nil {
		return // not there: look again
	}
	if r.boundTo(index) {
		// Seen up, it is well. Seen down, it may yet be taken away, and of
		// that the socket would not be told.
		r.ailing = !up
		return
	}
	if r.bind(index) == nil {
		r.rebinds.Add(1)
		r.ailing = !up
	}
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

// Release hands b's block back to the kernel.
func (s *live) Release(b *Batch) {
	b.Frames = b.Frames[:0]
	if !b.leased {
		return
	}
	b.leased = false
	r := s.rings[b.ring]
	// In this order, or a reader that has gone round the ring would take the
	// block for a new one.
	atomic.StoreUint32(&r.header(b.block).Block_status, blockOfKernel)
	r.held[b.block].Store(false)
	s.leave()
}

// Interfaces returns the names in the order of LiveConfig.
func (s *live) Interfaces() []string {
	names := make([]string, len(s.rings))
	for i, r := range s.rings {
		names[i] = r.name
	}
	return names
}

// Stats returns the counters; after Close, those of the last call.
func (s *live) Stats() Stats {
	if s.enter() {
		for _, r := range s.rings {
			r.askKernel()
		}
		s.leave()
	}
	stats := Stats{Interfaces: make([]InterfaceStats, len(s.rings))}
	for i, r := range s.rings {
		stats.Interfaces[i] = r.stats()
	}
	return stats
}

// askKernel adds up what was lost since the last look.
func (r *ring) askKernel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		r.drops += uint64(k.Drops)
		r.freezes += uint64(k.Freeze_q_cnt)
	}
	lost, ok := interfaceLosses(r.name)
	if !ok {
		return
	}
	if lost >= r.lostLast { // else a new interface, which begins at 0
		lost, r.lostLast = lost-r.lostLast, lost
	} else {
		r.lostLast = lost
	}
	r.lost += lost
}

func (r *ring) stats() InterfaceStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := InterfaceStats{
		Name:    r.name,
		Packets: r.packets.Load(),
		Bytes:   r.bytes.Load(),
		Freezes: r.freezes,
		Rebinds: r.rebinds.Load(),
	}
	s.Drops[DropRingFull] = r.drops
	s.Drops[DropInterface] = r.lost
	return s
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

// Close ends the capture. The rings stay mapped until the last batch is
// released.
func (s *live) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // an eventfd takes any number but 0
	_, err := unix.Write(s.wake, one[:])
	s.leave()
	if err != nil {
		return fmt.Errorf("live capture: wake the reader: %w", err)
	}
	return nil
}

// enter joins the users, unless everything is freed already.
func (s *live) enter() bool {
	for {
		n := s.users.Load()
		if n == 0 {
			return false
		}
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave takes leave of them; the last one frees.
func (s *live) leave() {
	if s.users.Add(-1) == 0 {
		s.free()
	}
}

// free gives everything back.
func (s *live) free() {
	for _, r := range s.rings {
		if r.memory != nil {
			_ = unix.Munmap(r.memory)
		}
		if r.fd >= 0 {
			_ = unix.Close(r.fd)
		}
	}
	for _, fd := range [...]int{s.wake, s.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
