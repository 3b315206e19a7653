package ping

import (
	"encoding/binary"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// answers reads copies of the DNS answers that this machine receives, in one
// network namespace. It takes CAP_NET_RAW there.
type answers struct {
	file *os.File
	done chan struct{}
}

const portDNS = 53

// fromDNS lets UDP datagrams from port 53 pass, as a socket of type SOCK_DGRAM
// sees them: from the IP header on. Of fragments it lets the first one pass.
var fromDNS = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 0, Size: 1},
	bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x60, SkipTrue: 8},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x40, SkipTrue: 12},
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 10},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 8},
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 0, Size: 2},
	bpf.Jump{Skip: 3},
	bpf.LoadAbsolute{Off: 6, Size: 1}, // IPv6
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 40, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: portDNS, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// openAnswers opens a socket in the network namespace of this thread and tells
// names what it reads.
func openAnswers(names *Names) (*answers, error) {
	filter, err := bpf.Assemble(fromDNS)
	if err != nil {
		return nil, err
	}
	// Without a protocol it receives nothing before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	program := make([]unix.SockFilter, len(filter))
	for i, x := range filter {
		program[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("a socket for DNS answers", err)
	}
	a := &answers{file: os.NewFile(uintptr(fd), "DNS answers"), done: make(chan struct{})}
	go a.read(names)
	return a, nil
}

func (a *answers) read(names *Names) {
	defer close(a.done)
	b := make([]byte, 1<<16)
	for {
		n, err := a.file.Read(b)
		if err != nil {
			return // closed, or the namespace's last interface has gone
		}
		names.Learn(datagram(b[:n]))
	}
}

func (a *answers) close() {
	_ = a.file.Close() // which ends read
	<-a.done
}

// datagram is the payload of an IP packet that fromDNS has let pass; nil of one
// that is cut.
func datagram(b []byte) []byte {
	const header = 8 // of UDP
	at := 40
	if len(b) > 0 && b[0]>>4 == 4 {
		at = int(b[0]&15) * 4
	}
	if len(b) < at+header {
		return nil
	}
	length := int(binary.BigEndian.Uint16(b[at+4:]))
	if length < header || at+length > len(b) {
		return nil
	}
	return b[at+header : at+length]
}
