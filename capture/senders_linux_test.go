package capture

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
)

// The senders of load tests. Each sends frames as fast as it can and returns how
// many the kernel took.

// loadFrames are frames of a size, of as many connections, that a sender goes
// through again and again. Each time a connection goes on: the same segment
// again would be a repeat, which takes who reads it longer than it should.
func loadFrames(n, size int) [][]byte {
	frames := make([][]byte, n)
	for i := range frames {
		subscriber := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		p := packet(server4, subscriber, 6, i, append(segment(443, 40000, i, decode.ACK), make([]byte, size-14-40-12)...))
		frames[i] = ethernetFrame(0x800, p)
	}
	return frames
}

// Where the frames have the lower half of their subscriber's address, their
// sequence number and their payload.
const (
	subscriberAt = 14 + 16 + 2
	sequenceAt   = 14 + 20 + 4
	payloadAt    = 14 + 20 + 20
)

// goOn makes of each frame the one that follows in its connection.
func goOn(frames [][]byte) {
	for _, f := range frames {
		number := f[sequenceAt : sequenceAt+4]
		binary.BigEndian.PutUint32(number, binary.BigEndian.Uint32(number)+uint32(len(f)-payloadAt))
	}
}

// stay binds the test's thread, and what it starts, to one processor. What one end
// of a pair sends, the other end receives on the sender's processor, or goes on
// receiving where something was being received at that moment. If that is another
// one, it has to share that with the reader: the queue of 256 frames between the
// ends fills, and frames are lost that no capture has seen. (For the same reason
// the ends have no addresses: what the kernel says comes from any processor.)
// It also keeps frames in order.
func stay(t *testing.T) {
	t.Helper()
	var one unix.CPUSet
	one.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

// bulkSocket is a packet socket for sending past the queueing discipline.
func bulkSocket(t *testing.T, name string) int {
	t.Helper()
	stay(t)
	s := newSender(t, name)
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		t.Fatal(err)
	}
	return s.fd
}

// sendMany sends with sendmmsg(2), as fast as it can.
func sendMany(t *testing.T, name string, frames [][]byte, n int) int {
	t.Helper()
	return sendPaced(t, name, frames, n, 0)
}

// sendPaced sends with sendmmsg(2), at so many packets a second where that is not
// 0 and can be reached.
func sendPaced(t *testing.T, name string, frames [][]byte, n, rate int) int {
	t.Helper()
	fd := bulkSocket(t, name)
	type message struct { // struct mmsghdr
		header unix.Msghdr
		length uint32
	}
	const batch = 64
	messages, vectors := make([]message, len(frames)), make([]unix.Iovec, len(frames))
	for i, f := range frames {
		vectors[i].Base = &f[0]
		vectors[i].SetLen(len(f))
		messages[i].header.Iov = &vectors[i]
		messages[i].header.SetIovlen(1)
	}
	sent := 0
	for start := time.Now(); sent < n; {
		if rate > 0 && float64(sent) > time.Since(start).Seconds()*float64(rate) {
			time.Sleep(time.Millisecond)
			continue
		}
		at := sent % len(frames)
		most := min(batch, len(frames)-at, n-sent)
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[at])), uintptr(most), 0, 0, 0)
		if errno == unix.ENOBUFS || errno == unix.EAGAIN {
			continue
		}
		if errno != 0 {
			t.Errorf("sendmmsg: %v", errno)
			return sent
		}
		goOn(frames[at : at+int(k)])
		sent += int(k)
	}
	return sent
}

// sendRing sends from a TX ring, in which the frames lie already.
func sendRing(t *testing.T, name string, frames [][]byte, n int) int {
	t.Helper()
	const slot, block = 2048, 1 << 20
	fd := bulkSocket(t, name)
	slots := len(frames) / (block / slot) * (block / slot)
	if slots == 0 {
		t.Fatalf("a ring has %d frames at least", block/slot)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		t.Fatal(err)
	}
	request := unix.TpacketReq{Block_size: block, Block_nr: uint32(slots * slot / block), Frame_size: slot, Frame_nr: uint32(slots)}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &request); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(fd, 0, slots*slot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	// The data begin after the header, without the address.
	const start = (unix.SizeofTpacket2Hdr + 15) &^ 15
	header := func(i int) *unix.Tpacket2Hdr { return (*unix.Tpacket2Hdr)(unsafe.Pointer(&memory[i*slot])) }
	for i := range slots {
		copy(memory[i*slot+start:], frames[i])
		header(i).Len = uint32(len(frames[i]))
	}
	sent := 0
	for sent < n {
		k := min(slots, n-sent)
		for i := range k {
			header(i).Status = unix.TP_STATUS_SEND_REQUEST
		}
		// Each call goes on where the last one ended: round the ring.
		if _, err := unix.SendmsgN(fd, nil, nil, nil, 0); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("send the ring: %v", err)
			return sent
		}
		if k < slots {
			k = slots // the rest has been sent before, and is not again
			n = sent + min(slots, n-sent)
		}
		sent += min(k, n-sent)
	}
	return sent
}

// Verdicts of linux/bpf.h.
const (
	xdpPass = 2
	xdpTx   = 3
)

// injected is how many connections injected frames have, a power of two.
const injected = 1 << 12

// injectXDP has the kernel make frames out of one, as if the interface had
// received them (xdpPass) or as if a program on it sent them (xdpTx). Their
// subscribers are random, and each one's connection goes on.
func injectXDP(t *testing.T, name string, verdict int32, frame []byte, n int) int {
	t.Helper()
	stay(t)
	sequence, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: injected})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("no BPF maps here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sequence.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // data
			asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // data_end
			asm.Mov.Reg(asm.R3, asm.R6),
			asm.Add.Imm(asm.R3, sequenceAt+4),
			asm.JGT.Reg(asm.R3, asm.R2, "end"),
			asm.FnGetPrandomU32.Call(),
			asm.And.Imm(asm.R0, injected-1),
			asm.StoreMem(asm.R6, subscriberAt, asm.R0, asm.Half),
			asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
			asm.LoadMapPtr(asm.R1, sequence.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
			asm.Add.Imm(asm.R1, int32(len(frame)-payloadAt)),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.StoreMem(asm.R6, sequenceAt, asm.R1, asm.Word),
			asm.Mov.Imm(asm.R0, verdict).WithSymbol("end"),
			asm.Return(),
		},
	})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("no XDP programs here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	// struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
	// egress_ifindex.
	var context []byte
	for _, v := range []uint32{0, uint32(len(frame)), 0, uint32(i.Index), 0, 0} {
		context = binary.NativeEndian.AppendUint32(context, v)
	}
	const live = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES
	if _, err = program.Run(&ebpf.RunOptions{Data: slices.Clone(frame), Context: context, Repeat: uint32(n), Flags: live}); err != nil {
		t.Skip("this kernel makes no frames of an XDP test: ", err)
	}
	return n
}
