package ping

import (
	"net/netip"
	"time"
)

// Connection is one TCP connection in one period.
type Connection struct {
	Local, Remote netip.AddrPort // IPv4 never in mapped form
	// Name of the remote end, where DNS answers could be seen; else empty.
	Name string
	// Namespace is the inode of its network namespace, NamespaceName the name
	// under /run/netns or empty. Both are zero in package tun.
	Namespace     uint64
	NamespaceName string
	// UID is the owner of the socket; -1 where it is not known.
	UID int64
	Process
	// Info is the kernel's state at the sample, Counts what happened in the
	// period.
	Info   Info
	Counts Counts
	// WholeLife: Counts go back to the connection's start, because there is
	// no sample before this one.
	WholeLife bool
	// Ended: the connection is over, and Info is its last.
	Ended bool
}

// Process is who holds a socket. PID is 0 where that is not known: the process
// has gone, or belongs to somebody else.
type Process struct {
	PID     int
	Command string // comm: at most 15 bytes
	Cgroup  string // path in the hierarchy of systemd or of control groups v2
	Unit    string // of systemd: the innermost service or scope
}

// Age is the time since the last acknowledgment: the round-trip time is at least
// as old.
func (c *Connection) Age() time.Duration { return c.Info.SinceAck }

// Sample is one look at all connections.
type Sample struct {
	Time time.Time
	// Period since the sample before; of the first one, the time in which a
	// connection must have moved to count as active.
	Period time.Duration
	// Took is how long reading took.
	Took time.Duration
	// Connections are those that were active in the period, in no order.
	Connections []Connection
	// Open is the number of all connections of the period, idle ones and (in
	// package tun) ended ones included.
	Open int
	// Namespaces is the number of network namespaces that were read.
	Namespaces int
	Skipped    Skipped
}

// Skipped counts what could not be read.
type Skipped struct {
	// Namespaces that are known of and may not be entered (that takes
	// CAP_SYS_ADMIN), or whose dump failed.
	Namespaces int
	// Processes of other users: their namespaces cannot be known of, nor
	// their sockets be told apart (that takes CAP_SYS_PTRACE).
	Processes int
	// Answers counts network namespaces whose DNS answers may not be read (that
	// takes CAP_NET_RAW): their connections have no names.
	Answers int
	// Messages of the kernel that made no sense.
	Messages int
	// Connections beyond what fits in a table.
	Connections int
}

// Active tells whether a connection that was known before moved in the period.
func Active(now, before *Info, period time.Duration) bool {
	return now.SegmentsOut != before.SegmentsOut || now.SegmentsIn != before.SegmentsIn || recent(now, period)
}

func recent(now *Info, period time.Duration) bool {
	return min(now.SinceAck, now.SinceDataSent, now.SinceDataReceived) < period
}
