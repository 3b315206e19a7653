package xdp

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Mode is how packets get from the card to us.
type Mode uint8

// Modes, the fastest one first.
const (
	// ZeroCopy: the card writes them into our memory.
	ZeroCopy Mode = iota
	// Native: the driver hands them to the program before it makes anything of
	// them, and the kernel copies them.
	Native
	// Generic: the kernel hands them to the program; any interface can.
	Generic
)

// String returns the mode's name in logs and metrics.
func (m Mode) String() string {
	return [...]string{"xdp zero-copy", "xdp native copy", "xdp generic copy"}[m]
}

// Port is an interface all of whose packets come to us.
type Port struct {
	Sockets []*Socket
	Mode    Mode

	index   int
	objects programObjects
	link    link.Link
}

// Open takes over an interface with one of the modes, the first that goes; none
// means any. memory is for packets, in bytes; it is rounded down to a power of
// two for each queue.
func Open(name string, memory int, modes ...Mode) (*Port, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("find the interface: %w: see ip link for the names", err)
	}
	if err := bare(i); err != nil {
		return nil, err
	}
	chunk, err := chunkFor(i.MTU)
	if err != nil {
		return nil, err
	}
	queues, err := queuesOf(name)
	if err != nil {
		return nil, err
	}
	chunks := leastChunks
	for chunks*2*chunk*queues <= memory && chunks < mostChunks {
		chunks *= 2
	}
	if len(modes) == 0 {
		modes = []Mode{ZeroCopy, Native, Generic}
	}
	// Before Linux 5.11 maps count as locked memory. Where raising the limit
	// is not allowed, loading tells.
	_ = rlimit.RemoveMemlock()
	var failures []error
	for _, mode := range modes {
		p := &Port{Mode: mode, index: i.Index}
		if err = p.open(queues, chunks, chunk); err == nil {
			return p, nil
		}
		_ = p.Detach()
		p.Free()
		failures = append(failures, fmt.Errorf("%s: %w", mode, err))
	}
	return nil, failures[len(failures)-1] // the others failed for the driver
}

// bare refuses an interface by which this machine is reached.
func bare(i *net.Interface) error {
	addresses, err := i.Addrs()
	if err != nil {
		return fmt.Errorf("addresses of the interface: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return fmt.Errorf("the interface has the address %s, and capture mode xdp takes everything that arrives there "+
				"from this machine: take the address away (ip addr flush dev %s) if it is a port that only taps, "+
				"or leave the mode out", n.IP, i.Name)
		}
	}
	return nil
}

// chunkFor returns the size of the chunks that frames of an interface fit into:
// header and VLAN tags, and in front of them the headroom.
func chunkFor(mtu int) (int, error) {
	const headers = 14 + 2*4
	for chunk := leastChunk; chunk <= mostChunk; chunk *= 2 {
		if unix.XDP_PACKET_HEADROOM+headers+mtu <= chunk {
			return chunk, nil
		}
	}
	return 0, fmt.Errorf("frames of %d bytes: AF_XDP takes %d: set a lower MTU, or leave the mode out",
		mtu, mostChunk-unix.XDP_PACKET_HEADROOM-headers)
}

func (p *Port) open(queues, chunks, chunk int) error {
	spec, err := loadProgram()
	if err != nil {
		return err
	}
	spec.Maps["sockets"].MaxEntries = uint32(queues)
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return fmt.Errorf("load the program: %w", explain(err))
	}
	flags := link.XDPDriverMode
	if p.Mode == Generic {
		flags = link.XDPGenericMode
	}
	p.link, err = link.AttachXDP(link.XDPOptions{Program: p.objects.Redirect, Interface: p.index, Flags: flags})
	if err != nil {
		return fmt.Errorf("attach the program: %w", explain(err))
	}
	for queue := range uint32(queues) {
		s, err := newSocket(p.index, queue, chunks, chunk, p.Mode == ZeroCopy)
		if err != nil {
			return err
		}
		p.Sockets = append(p.Sockets, s)
	}
	// Only now, so that no packet is taken away before all sockets are there.
	for _, s := range p.Sockets {
		if err := p.objects.Sockets.Put(s.queue, uint32(s.fd)); err != nil {
			return fmt.Errorf("enter the socket of queue %d: %w", s.queue, err)
		}
	}
	return nil
}

// Detach gives the interface back to the kernel. Packets that were received stay
// readable until Free.
func (p *Port) Detach() error {
	var err error
	if p.link != nil {
		err = p.link.Close()
		p.link = nil
	}
	return errors.Join(err, p.objects.Close())
}

// Free frees the sockets and the packets' memory.
func (p *Port) Free() {
	for _, s := range p.Sockets {
		s.Free()
	}
}

// Lent returns how many packets were not returned.
func (p *Port) Lent() int64 {
	n := int64(0)
	for _, s := range p.Sockets {
		n += s.Lent()
	}
	return n
}

// queuesOf returns how many receive queues an interface has (ethtool -l).
func queuesOf(name string) (int, error) {
	// struct ethtool_channels and struct ifreq (linux/ethtool.h, linux/if.h).
	channels := struct {
		command                              uint32
		mostRx, mostTx, mostOther, mostJoint uint32
		rx, tx, other, joint                 uint32
	}{command: unix.ETHTOOL_GCHANNELS}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&channels)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the queues: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written to it
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 { // a driver that does not say has one
		return 1, nil
	}
	return int(max(channels.rx+channels.joint, 1)), nil
}
