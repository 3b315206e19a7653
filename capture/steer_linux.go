package capture

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/fanout"
)

// steerer makes the kernel divide an interface's frames among the workers.
type steerer struct {
	info    FanoutInfo
	program *fanout.Program
	classic []unix.SockFilter
}

// fanoutMethodsOf returns the ways to divide frames, the best one first.
func fanoutMethodsOf(workers int) []FanoutMethod {
	if workers == 1 {
		return []FanoutMethod{FanoutNone}
	}
	return []FanoutMethod{FanoutEBPF, FanoutClassic, FanoutHash}
}

var fanoutConsequences = [FanoutMethods]string{
	FanoutEBPF: "in tunnels, a handset that uses IPv4 and IPv6 at once may be two workers' business: " +
		"an answer that comes over one then names no flow over the other, and it counts as two subscribers",
	FanoutClassic: "packets behind a second VLAN tag, MPLS, PPPoE, GTP-U extension headers or in fragments " +
		"may reach a worker that does not see their subscriber's DNS: their flows stay unnamed",
	FanoutHash: "DNS answers and the flows they name reach different workers, " +
		"and in tunnels all subscribers share one: most flows stay unnamed by DNS",
}

func newSteerer(method FanoutMethod, config *LiveConfig) (*steerer, error) {
	s := &steerer{info: FanoutInfo{Method: method, Consequence: fanoutConsequences[method]}}
	c := fanout.Config{Workers: config.Workers, Seed: config.Seed, Subscribers: config.Subscribers}
	var err error
	switch method {
	case FanoutEBPF:
		if s.program, err = fanout.Load(c); errors.Is(err, os.ErrPermission) {
			// What the library says besides is a guess at the limit of locked
			// memory, which counts before Linux 5.11 only.
			return nil, errors.New("no right to load the fanout program: it takes root, or CAP_BPF and CAP_NET_ADMIN; before Linux 5.11 the limit of locked memory may be too low as well")
		} else if err != nil {
			return nil, err
		}
		// Where it cannot be read any more, after the end, it has its last
		// values.
		var last fanout.Counts
		s.info.counts = func() fanout.Counts {
			if now, err := s.program.Counts(); err == nil {
				last = now
			}
			return last
		}
	case FanoutClassic:
		s.classic, err = fanout.Classic(c)
	}
	return s, err
}

// free lets go of the program. Sockets that use it keep it.
func (s *steerer) free() {
	if s.program != nil {
		_ = s.program.Close()
	}
}

// refusedError says that the kernel does not divide frames in that way.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

func isRefused(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused)
}

// join puts the rings of one interface into a group, in their order.
func (s *steerer) join(rings []*ring) error {
	if s.info.Method == FanoutNone {
		return nil
	}
	kind := unix.PACKET_FANOUT_HASH
	switch s.info.Method {
	case FanoutEBPF:
		kind = unix.PACKET_FANOUT_EBPF
	case FanoutClassic:
		kind = unix.PACKET_FANOUT_CBPF
	}
	kind |= unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if s.info.Method == FanoutHash {
		kind |= unix.PACKET_FANOUT_FLAG_DEFRAG // without it, fragments part
	}
	group := 0
	for i, r := range rings {
		flags := kind
		if i == 0 {
			flags |= unix.PACKET_FANOUT_FLAG_UNIQUEID
		}
		if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, flags<<16|group); err != nil {
			return &refusedError{fmt.Errorf("join a fanout group (%s): %w", s.info.Method, err)}
		}
		if i > 0 {
			continue
		}
		value, err := unix.GetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return &refusedError{fmt.Errorf("fanout group's number: %w", err)}
		}
		group = value & 0xffff
	}
	if err := s.attach(rings[0].fd); err != nil {
		return &refusedError{fmt.Errorf("attach the fanout program (%s): %w", s.info.Method, err)}
	}
	return nil
}

// attach gives the program to the group that the socket is in.
func (s *steerer) attach(fd int) error {
	switch s.info.Method {
	case FanoutEBPF:
		return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, s.program.FD())
	case FanoutClassic:
		return unix.SetsockoptSockFprog(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA,
			&unix.SockFprog{Len: uint16(len(s.classic)), Filter: &s.classic[0]})
	}
	return nil
}
