package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open makes the TUN interface of that name, or takes one that was made for this
// user (ip tuntap add dev NAME mode tun user USER), and returns its file
// descriptor for Start. Where the process may (CAP_NET_ADMIN), the MTU is set and
// the interface brought up; addresses and routes are left to who knows the
// network.
func Open(name string, mtu int) (int, error) {
	fd, err := open(name, mtu)
	if err != nil {
		return -1, fmt.Errorf("TUN interface %s: %w", name, err)
	}
	return fd, nil
}

func open(name string, mtu int) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, errors.New("a name has 1 to 15 bytes")
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			return -1, fmt.Errorf("%w; run as root, or let root make it: ip tuntap add dev %s mode tun user $USER", err, name)
		}
		return -1, err
	}
	if err := bringUp(name, mtu); err != nil && !errors.Is(err, unix.EPERM) {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func bringUp(name string, mtu int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(s) }() // only used for ioctls
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(s, unix.SIOCSIFMTU, request); err != nil {
		return os.NewSyscallError("setting the MTU", err)
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, request); err != nil {
		return os.NewSyscallError("reading the flags", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return os.NewSyscallError("bringing it up", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request))
}
