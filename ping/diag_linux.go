package ping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// sock_diag (man 7 sock_diag; include/uapi/linux/inet_diag.h).
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	inetDiagInfo     = 2  // INET_DIAG_INFO, an attribute and bit 1 of the request's idiag_ext

	headerLength  = 16 // struct nlmsghdr
	requestLength = 56 // struct inet_diag_req_v2
	messageLength = 72 // struct inet_diag_msg
)

// wantedStates are those in which a connection has, or may still get, round-trip
// times: established and all ways of closing but TIME_WAIT, of which the kernel
// keeps no tcp_info.
const wantedStates = 1<<1 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// diagSocket is a netlink socket. It stays in the network namespace in which it
// was opened, whatever its user's thread does later, and keeps that alive.
type diagSocket struct {
	fd  int
	seq uint32
	buf []byte
	// answers are the DNS answers in the same namespace; nil where they may
	// not be read.
	answers *answers
}

// openDiag opens a socket in the network namespace of this thread. Names is told
// of the DNS answers there, where that is allowed.
func openDiag(names *Names) (*diagSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// A dump takes milliseconds; a kernel that does not answer must not hold
	// up the other namespaces for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	// The kernel fills up to 32 KiB a read (net/netlink/af_netlink.c).
	d := &diagSocket{fd: fd, buf: make([]byte, 64<<10)}
	d.answers, _ = openAnswers(names) // nil is counted as skipped
	return d, nil
}

func (d *diagSocket) close() {
	_ = unix.Close(d.fd)
	if d.answers != nil {
		d.answers.close()
	}
}

// dump calls each for every TCP connection of the namespace, both families.
func (d *diagSocket) dump(each func(*diagMessage)) (bad int, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		n, err := d.dumpFamily(family, each)
		bad += n
		if errors.Is(err, unix.ENOENT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return bad, err
		}
	}
	return bad, nil
}

func (d *diagSocket) dumpFamily(family uint8, each func(*diagMessage)) (bad int, err error) {
	d.seq++
	if err := unix.Sendto(d.fd, request(family, d.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	for {
		n, _, flags, _, err := unix.Recvmsg(d.fd, d.buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return bad, os.NewSyscallError("recvmsg", err)
		case flags&unix.MSG_TRUNC != 0:
			return bad, errors.New("sock_diag: the kernel's message is larger than 64 KiB")
		}
		done, broken, err := parseDump(d.buf[:n], d.seq, each)
		bad += broken
		if done || err != nil {
			return bad, err
		}
	}
}

// request is a dump request with its netlink header.
func request(family uint8, seq uint32) []byte {
	b := make([]byte, headerLength+requestLength)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], seq)
	r := b[headerLength:]
	r[0] = family
	r[1] = unix.IPPROTO_TCP
	r[2] = 1 << (inetDiagInfo - 1)
	binary.NativeEndian.PutUint32(r[4:], wantedStates)
	return b
}

// diagMessage is one connection of a dump.
type diagMessage struct {
	local, remote netip.AddrPort
	cookie        uint64 // names the socket for as long as it lives, and no other
	uid, inode    uint32
	info          Info
}

// parseDump takes one datagram of the kernel apart. Messages of an older request,
// which a time-out may have left, are passed over; bad counts what makes no
// sense.
func parseDump(b []byte, seq uint32, each func(*diagMessage)) (done bool, bad int, err error) {
	for len(b) >= headerLength {
		length := binary.NativeEndian.Uint32(b)
		if length < headerLength || uint64(length) > uint64(len(b)) {
			return false, bad, fmt.Errorf("sock_diag: a message of %d bytes in %d", length, len(b))
		}
		kind, body := binary.NativeEndian.Uint16(b[4:]), b[headerLength:length]
		mine := binary.NativeEndian.Uint32(b[8:]) == seq
		b = b[min(len(b), (int(length)+3)&^3):]
		if !mine {
			continue
		}
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			return true, bad, netlinkError(body)
		case sockDiagByFamily:
			var m diagMessage
			if !m.parse(body) {
				bad++
				continue
			}
			if m.info.Known != 0 || m.info.State != 0 {
				each(&m)
			}
		}
	}
	return false, bad, nil
}

func netlinkError(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
		return os.NewSyscallError("sock_diag", unix.Errno(-code))
	}
	return nil
}

// parse reads a struct inet_diag_msg and the attributes behind it. A socket
// without tcp_info is well formed; its Info stays zero.
func (m *diagMessage) parse(b []byte) bool {
	if len(b) < messageLength {
		return false
	}
	var ok bool
	if m.local, ok = endpoint(b[0], b[4:6], b[8:24]); !ok {
		return false
	}
	m.remote, _ = endpoint(b[0], b[6:8], b[24:40])
	m.cookie = binary.NativeEndian.Uint64(b[44:])
	m.uid = binary.NativeEndian.Uint32(b[64:])
	m.inode = binary.NativeEndian.Uint32(b[68:])
	for b = b[messageLength:]; len(b) >= 4; {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return false
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == inetDiagInfo {
			if m.info, ok = ParseInfo(b[4:length]); !ok {
				return false
			}
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return true
}

func endpoint(family uint8, port, addr []byte) (netip.AddrPort, bool) {
	number := binary.BigEndian.Uint16(port)
	switch family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), number), true
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), number), true
	}
	return netip.AddrPort{}, false
}
