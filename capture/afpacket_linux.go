package capture

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
)

// This file reads TPACKET_V3 rings (Documentation/networking/packet_mmap.rst in
// the kernel tree). gopacket has a reader too, which needs cgo and hands packets
// out one by one; here a batch is a block of the ring, as it lies in the memory
// shared with the kernel. (What makes a source of rings is in live_linux.go, what
// makes workers of sources in taps_linux.go.)

// Constants of linux/if_packet.h that x/sys does not have.
const (
	blockOfKernel = 0 // TP_STATUS_KERNEL
	blockOfUser   = 1 // TP_STATUS_USER
	// ringFrameSize divides blocks for versions 1 and 2 of the ring; in
	// version 3 the kernel only checks it.
	ringFrameSize = 2048
	vlanTagLen    = 4
	// After a frame's header comes the address it was received from.
	packetHeaders = unix.SizeofTpacket3Hdr + unix.SizeofSockaddrLinklayer
	packetKind    = unix.SizeofTpacket3Hdr + 10 // sll_pkttype
)

// ring is a socket on one interface and the memory it shares with the kernel.
type ring struct {
	name   string
	config *LiveConfig
	fd     int
	memory []byte
	// readers is how many sources read the ring, each of them all of it;
	// owners are those that have not let go of it yet.
	readers int32
	owners  atomic.Int32
	// uses says of each block how many use it, readers and batches, plus one;
	// 0 if no reader has come to it yet, or if it is the kernel's.
	uses []atomic.Int32
	link decode.Link
	// noLink says that the interface has no link header: frames begin with
	// the network header.
	noLink bool
}

// cursor is where a reader is in a ring.
type cursor struct {
	block int    // to be read next
	seen  uint64 // number of the last one read; the kernel counts from 1
}

// newRing sets up a ring for so many readers. It hears nothing until it is
// bound, so that no packet of another interface gets in.
func newRing(name string, config *LiveConfig, readers int) (*ring, error) {
	r := &ring{name: name, config: config, fd: -1, readers: int32(readers)}
	r.owners.Store(r.readers)
	if err := r.open(); err != nil {
		r.free()
		return nil, err
	}
	return r, nil
}

func (r *ring) open() error {
	var err error
	if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return r.explain("socket", err)
	}
	if _, _, _, err = r.state(); err != nil {
		return r.explain("find the interface", err)
	}
	if err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("leave out what this machine sends: %w: needs Linux 4.20", err)
	}
	return r.share()
}

// release is called by each owner when it is done; the last one frees.
func (r *ring) release() {
	if r.owners.Add(-1) == 0 {
		r.free()
	}
}

// free gives everything back.
func (r *ring) free() {
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
		r.memory = nil
	}
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
}

// unused reports whether no block is in use.
func (r *ring) unused() bool {
	for i := range r.uses {
		if r.uses[i].Load() != 0 {
			return false
		}
	}
	return true
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

// plug makes the socket deaf: the kernel keeps no byte of any frame.
func (r *ring) plug() error { return r.keep(0) }

// unplug makes the kernel keep no more than the snap length of each frame.
func (r *ring) unplug() error {
	if r.config.SnapLen > 0 {
		return r.keep(uint32(r.config.SnapLen))
	}
	return unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// keep attaches a filter program of one instruction, which returns how many
// bytes to keep.
func (r *ring) keep(bytes uint32) error {
	return r.filter([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: bytes}})
}

// filter attaches a filter program.
func (r *ring) filter(program []unix.SockFilter) error {
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
	r.memory, r.uses = memory, make([]atomic.Int32, blocks)
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

// state returns the interface's index, whether it is up, and whether it runs: it is
// up and has a carrier (netdevice(7)), in the network namespace of the socket.
func (r *ring) state() (index int, up, runs bool, err error) { return stateOf(r.fd, r.name) }

// stateOf asks through a socket of a family that knows of interfaces.
func stateOf(fd int, name string) (index int, up, runs bool, err error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, false, false, fmt.Errorf("%w: the name of an interface has 1 to 15 bytes", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, false, false, err
	}
	index = int(request.Uint32())
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return 0, false, false, err
	}
	flags := request.Uint16()
	up = flags&unix.IFF_UP != 0
	return index, up, up && flags&unix.IFF_RUNNING != 0, nil
}

// header returns a block's header, which follows two words of version.
func (r *ring) header(block int) *unix.TpacketHdrV1 {
	d := (*unix.TpacketBlockDesc)(unsafe.Pointer(&r.memory[block*r.config.BlockBytes]))
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&d.Hdr))
}

// ready reports whether the kernel has filled the block that the reader comes to
// next. A block that it has read, and others or batches still use, has its old
// number.
func (r *ring) ready(c cursor) bool {
	h := r.header(c.block)
	return atomic.LoadUint32(&h.Block_status)&blockOfUser != 0 && h.Seq_num > c.seen
}

// leave ends one use of a block; the last one hands it back to the kernel.
func (r *ring) leave(block int) {
	if r.uses[block].Add(-1) != 1 {
		return
	}
	// In this order: from the second on, the kernel may fill it anew.
	r.uses[block].Store(0)
	atomic.StoreUint32(&r.header(block).Block_status, blockOfKernel)
}

// walker stands before a frame of a block, or at its end.
type walker struct {
	ring *ring
	// block is the block's number, memory its bytes, left the number of
	// frames that are still to come and at the place of the next one.
	block  int
	memory []byte
	left   uint32
	at     int
	// time is the next frame's.
	time int64
}

// walk begins the reader's next block, which is ready, and moves the cursor
// behind it. The kernel wrote the block; what it says is compared with the
// block's size nevertheless.
func (r *ring) walk(c *cursor) walker {
	block, size := c.block, r.config.BlockBytes
	h := r.header(block)
	c.block, c.seen = (block+1)%len(r.uses), h.Seq_num
	r.uses[block].CompareAndSwap(0, 1+r.readers) // the first to come, for all of them
	w := walker{ring: r, block: block, memory: r.memory[block*size : (block+1)*size : (block+1)*size]}
	w.left, w.at = h.Num_pkts, int(h.Offset_to_first_pkt)
	w.look()
	return w
}

// look reads the time of the next frame, if there is one.
func (w *walker) look() {
	if w.at < 0 || w.at > len(w.memory)-packetHeaders {
		w.left = 0
	}
	if w.left > 0 {
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&w.memory[w.at]))
		w.time = int64(p.Sec)*1e9 + int64(p.Nsec)
	}
}

// take appends to frames those up to the time limit, and returns their bytes on
// the wire besides.
func (w *walker) take(frames []Frame, iface uint16, limit int64) ([]Frame, uint64) {
	r, memory, bytes := w.ring, w.memory, uint64(0)
	for w.left > 0 && w.time <= limit {
		p := (*unix.Tpacket3Hdr)(unsafe.Pointer(&memory[w.at]))
		start, captured, wire := w.at+int(p.Mac), int(p.Snaplen), p.Len
		if r.noLink && p.Net > p.Mac {
			skip := int(p.Net - p.Mac)
			start, captured, wire = start+skip, max(captured-skip, 0), wire-min(wire, uint32(skip))
		}
		end := start + captured
		if end > len(memory) || end < start {
			w.left = 0
			break
		}
		if memory[w.at+packetKind] != unix.PACKET_OUTGOING {
			// Written in place: a frame is too long to be put together in
			// registers.
			frames = slices.Grow(frames, 1)[:len(frames)+1]
			f := &frames[len(frames)-1]
			f.Data = memory[start:end:end]
			f.Time = w.time
			f.WireLen = max(wire, uint32(captured))
			f.Link, f.Interface = r.link, iface
			f.VLAN = 0
			if hasTag(p) {
				f.VLAN = uint16(p.Hv1.Vlan_tci)
				f.WireLen += vlanTagLen
			}
			bytes += uint64(f.WireLen)
		}
		w.at += int(p.Next_offset)
		w.left--
		if p.Next_offset == 0 {
			w.left = 0
		}
		w.look()
	}
	return frames, bytes
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
