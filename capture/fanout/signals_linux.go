package fanout

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// How many headers Signals looks behind. The kernel has taken one VLAN tag off
// already.
const (
	signalTags   = 2
	signalLabels = 4
)

// Signals returns a program in classic BPF, for SO_ATTACH_FILTER of a raw packet
// socket, that lets nothing through but datagrams of the control plane (GTP-C on
// UDP port 2123, PFCP on 8805): over IPv4, and IPv6 without extension headers,
// behind VLAN tags and MPLS labels. bare says that frames have no link header.
//
// A datagram in fragments does not get through: only its first has ports.
func Signals(bare bool) ([]unix.SockFilter, error) {
	a := &assembler{labels: map[string]int{}}
	if bare {
		a.set(0)
		a.toX()
	} else {
		a.etherTypes()
	}
	a.signal()
	return a.finish()
}

// etherTypes leaves in X where the IP header begins.
func (a *assembler) etherTypes() {
	a.absolute(unix.BPF_H, 12)
	a.store(mSum)
	a.set(14)
	a.toX()
	for n := range signalTags {
		a.load(mSum)
		for _, tag := range []uint32{0x8100, 0x88a8, 0x9100} {
			a.when(unix.BPF_JEQ, tag, fmt.Sprint("tag ", n))
		}
		a.jump("type")
		a.label(fmt.Sprint("tag ", n))
		a.at(unix.BPF_H, 2)
		a.store(mSum)
		a.forward(4)
	}
	a.label("type")
	a.load(mSum)
	for _, label := range []uint32{0x8847, 0x8848} {
		a.when(unix.BPF_JEQ, label, "label 0")
	}
	a.when(unix.BPF_JEQ, 0x0800, "ip")
	a.when(unix.BPF_JEQ, 0x86dd, "ip")
	a.jump("nothing")
	for n := range signalLabels {
		a.label(fmt.Sprint("label ", n))
		a.at(unix.BPF_B, 2)
		a.store(mSum)
		a.forward(4)
		a.load(mSum)
		a.when(unix.BPF_JSET, 1, "ip") // the bottom of the stack (RFC 3032 section 2.1)
	}
	a.jump("nothing")
}

// forward moves X.
func (a *assembler) forward(by uint32) {
	a.fromX()
	a.alu(unix.BPF_ADD, by)
	a.toX()
}

// signal decides on the IP packet at X.
func (a *assembler) signal() {
	a.label("ip")
	a.at(unix.BPF_B, 0)
	a.alu(unix.BPF_RSH, 4)
	a.when(unix.BPF_JEQ, 4, "v4")
	a.when(unix.BPF_JEQ, 6, "v6")
	a.jump("nothing")

	a.label("v6")
	a.at(unix.BPF_B, 6)
	a.store(mSum)
	a.forward(40)
	a.jump("protocol")

	a.label("v4")
	a.at(unix.BPF_H, 6)
	a.when(unix.BPF_JSET, 0x3fff, "nothing") // a fragment
	a.at(unix.BPF_B, 9)
	a.store(mSum)
	a.at(unix.BPF_B, 0)
	a.alu(unix.BPF_AND, 15)
	a.alu(unix.BPF_MUL, 4)
	a.addX()
	a.toX()

	a.label("protocol")
	a.load(mSum)
	a.when(unix.BPF_JEQ, 17, "udp")
	a.jump("nothing")
	a.label("udp")
	for _, end := range []uint32{0, 2} {
		a.at(unix.BPF_H, end)
		for _, port := range []uint32{2123, 8805} {
			a.when(unix.BPF_JEQ, port, "signal")
		}
	}
	a.label("nothing")
	a.emit(unix.BPF_RET|unix.BPF_K, 0)
	a.label("signal")
	a.emit(unix.BPF_RET|unix.BPF_K, 1<<18)
}
