package tun

// This file has what gomobile binds. It knows int, int64, float64, string, bool,
// []byte, error, interfaces and pointers to structs of these, and skips the rest.

// Sink takes what was measured. Its methods are called from one goroutine, one
// after the other, and must not call Stop.
type Sink interface {
	// Connection is called for each connection that was active in a period,
	// and for each that ended in it. It may keep c.
	Connection(c *Connection)
	// Period is called at the end of each period, after its connections.
	Period(p *Period)
	// Ended is called last: with the reason, or an empty one after Stop.
	Ended(reason string)
}

// Protector keeps a socket out of the interface. Android's VpnService has this
// method.
type Protector interface {
	// Protect is called before a socket connects. False makes the connection
	// fail.
	Protect(fd int) bool
}

// Config says how an Engine works. NewConfig has the defaults.
type Config struct {
	// MTU of the interface, in bytes.
	MTU int
	// IntervalMillis is the length of a period.
	IntervalMillis int
	// MaxConnections bounds TCP connections, and UDP associations again.
	// What is beyond is refused and counted.
	MaxConnections int
	// Mark, Device and Protector keep the engine's sockets out of the
	// interface; 0, empty and nil leave them alone. At least one is needed
	// where the interface is the default route of the engine itself.
	Mark      int
	Device    string
	Protector Protector
}

// NewConfig returns the defaults: an MTU of 1500 bytes, periods of 10 s, 4096
// connections.
func NewConfig() *Config {
	return &Config{MTU: 1500, IntervalMillis: 10_000, MaxConnections: 4096}
}

// Connection is one connection in one period. A figure that is not known is -1.
type Connection struct {
	Protocol        string // tcp or udp
	SourcePort      int
	Destination     string // address
	DestinationPort int
	// Name is the queried name of a DNS answer with the destination that
	// went through the interface; empty where there was none.
	Name string

	RTTMicros, RTTVarMicros, MinRTTMicros int64
	// AgeMillis is the time since the last acknowledgment: the round-trip
	// time is at least as old.
	AgeMillis int64

	// Of the period. Segments and repeats are of TCP and on the way out:
	// what is lost on the way in is not seen.
	DataSegments, Retransmitted, Spurious, Reordered int64
	BytesSent, BytesReceived                         int64
	// DatagramsSent and DatagramsReceived are of UDP.
	DatagramsSent, DatagramsReceived int64
	Ended                            bool
}

// Period is the end of a period.
type Period struct {
	UnixMillis   int64
	PeriodMillis int64
	// Open now.
	OpenTCP, OpenUDP int
	// Since the start of the engine: connections that went on, that could
	// not be opened to the server, and that a full table refused.
	Opened, Failed, Refused int64
}

// Start measures what comes through the file descriptor of a TUN interface
// (IP packets, without packet information) and takes that over: Stop closes it.
// Android's ParcelFileDescriptor.detachFd() is such a one.
func Start(fd int, sink Sink) (*Engine, error) { return StartConfig(fd, sink, NewConfig()) }

// StartConfig is Start with a configuration of one's own.
func StartConfig(fd int, sink Sink, config *Config) (*Engine, error) {
	return StartWith(fd, *config, Outputs{Sink: sink})
}
