package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/nametap/nametap/capture/fanout"
)

// LiveConfig says what to capture, and with how much memory.
type LiveConfig struct {
	// Interfaces to capture from, at least one; a tap often delivers each
	// direction on its own port. Only what arrives is captured, not what this
	// machine sends.
	Interfaces []string
	// Mode is how frames get from the kernel to us; "" means ModePacket.
	Mode Mode
	// Workers is for OpenLiveWorkers: how many sources to divide the frames
	// among. 0 means 1.
	Workers int
	// Subscribers, which must be the probe's, and Seed, which must not be its
	// (see fanout.Config), say which worker gets which packet. With one worker
	// they are not used.
	Subscribers []netip.Prefix
	Seed        uint64
	// Exact says to divide frames only where all packets of a subscriber, in
	// whatever tunnel, reach one worker, and to open one source elsewhere.
	Exact bool
	// RingBytes is the memory that the kernel has for each interface's
	// frames, which all workers share; BlockBytes is the size of the blocks
	// that a ring is divided into. 0 means what defaultRingBytes says, and a
	// block of at most 1 MiB, of which a ring has 32. Both are rounded:
	// blocks to a power of two, rings to whole blocks, at least two.
	RingBytes, BlockBytes int
	// BlockTimeout is how long a packet may wait in a block that does not
	// fill up. 0 means 10 ms.
	BlockTimeout time.Duration
	// Promiscuous asks for frames that are not addressed to this machine,
	// which on a tap is all of them.
	Promiscuous bool
	// SnapLen cuts frames after so many bytes; 0 does not.
	SnapLen int
	// Notify, if set, is told when an interface goes down, comes back or is bound
	// again, also that it is down at the start. It is called where packets are
	// read, and must not wait. Behind AF_XDP and libpcap going down is being
	// taken away.
	Notify func(name string, change LinkChange)
	// Filter is a pcap-filter expression (pcap-filter(7)). It needs libpcap.
	Filter string
}

// LinkChange is what happens to an interface.
type LinkChange uint8

// Link changes.
const (
	// LinkDown: it is down, has no carrier, or was taken away.
	LinkDown LinkChange = iota
	// LinkUp: it is up again.
	LinkUp
	// LinkRebound: capture goes on at a new interface of the same name.
	LinkRebound

	linkChanges
)

var linkChangeNames = [linkChanges]string{
	LinkDown: "interface is down", LinkUp: "interface is up again", LinkRebound: "interface is bound again: it is a new one of the same name",
}

// String returns the change in words.
func (c LinkChange) String() string { return linkChangeNames[c] }

// tell tells of a change, if anybody wants to know.
func (c *LiveConfig) tell(name string, change LinkChange) {
	if c.Notify != nil {
		c.Notify(name, change)
	}
}

// Mode is a way of capturing.
type Mode string

// Modes.
const (
	// ModePacket reads AF_PACKET rings (packet(7)): any interface, and what
	// arrives there goes on to whom it was sent to as well.
	ModePacket Mode = "packet"
	// ModeXDP reads AF_XDP sockets (Documentation/networking/af_xdp.rst in
	// the kernel tree): more packets, and on cards whose driver can do it
	// without a copy many more. It is for ports that do nothing but tap:
	// everything that arrives there is ours alone, and the machine cannot be
	// reached through them.
	ModeXDP Mode = "xdp"
)

// Notice is what an operator has to know before choosing the mode, in a
// sentence; empty if nothing.
func (m Mode) Notice() string {
	if m == ModeXDP {
		return "everything that arrives on the interfaces is taken from this machine: they must do nothing but tap"
	}
	return ""
}

// FanoutMethod is how frames find their worker.
type FanoutMethod uint8

// Fanout methods.
const (
	// FanoutNone: there is one source.
	FanoutNone FanoutMethod = iota
	// FanoutEBPF: by the subscriber, wherever in the packet it is.
	FanoutEBPF
	// FanoutClassic: by the subscriber, where the packet is simple.
	FanoutClassic
	// FanoutHash: by the outer addresses and ports.
	FanoutHash

	// FanoutMethods is their number.
	FanoutMethods
)

var fanoutMethodNames = [FanoutMethods]string{"none", "ebpf", "cbpf", "hash"}

// String returns the method's name in logs and metrics.
func (m FanoutMethod) String() string { return fanoutMethodNames[m] }

// FanoutInfo says how frames are divided among workers.
type FanoutInfo struct {
	Method FanoutMethod
	// Consequence is what the method costs the results, in a sentence; empty
	// if nothing. Reason is why it is not a better one.
	Consequence, Reason string

	counts func() fanout.Counts
}

// Counts returns what the fanout program has noticed so far; all 0 where there
// is none.
func (f FanoutInfo) Counts() fanout.Counts {
	if f.counts == nil {
		return fanout.Counts{}
	}
	return f.counts()
}

const (
	// A ring has to outlast the time for which nobody reads it: the longest
	// stall of a machine that does other things as well, 300 ms, at half a
	// million packets a second of 700 bytes. Such a packet takes 784 bytes
	// of a ring (68 of headers, 14 to place it, and padding), so that these
	// are 118 MB. The rest of 128 MiB is for the blocks that are being
	// filled and worked meanwhile: one each, and 8 that are on their way
	// through the probe. At 1.3 million packets a second it is 117 ms.
	defaultRingBytes = 128 << 20
	// Workers have unequal shares, so that their rings together are larger.
	defaultRingsBytes = 192 << 20
	// The control plane of five million subscribers who attach, move and
	// idle a few times an hour is some 20,000 messages a second, of 400 bytes
	// in a ring: this is for more than half a second of it.
	signalRingBytes = 8 << 20
	// A signal must not come later than what it announces, so that its block
	// is small and its time-out short. Messages that come one by one take a
	// block each: 128 last for half a second.
	signalBlockBytes = 64 << 10
	signalTimeout    = 4 * time.Millisecond
	// An AF_XDP packet takes 2 KiB, so that 300 ms are 307 MB; the memory has
	// to be a power of two. At 2 million packets a second it is 131 ms.
	defaultXDPBytes = 512 << 20

	defaultBlockTimeout = 10 * time.Millisecond
	defaultBlockBytes   = 1 << 20
	// leastBlockBytes holds the longest frame that a card hands over.
	leastBlockBytes = 256 << 10
	mostBlockBytes  = 16 << 20
	// ringBlocks is into how many blocks a ring is divided at least: a packet
	// every now and then takes a whole one each BlockTimeout.
	ringBlocks = 32

	// idleTimeout is after what time Next returns an empty batch.
	idleTimeout = 100 * time.Millisecond
)

// withDefaults returns c with every field set and in its bounds, RingBytes
// being that of one worker where there are several.
func (c LiveConfig) withDefaults() (LiveConfig, error) {
	if err := c.check(); err != nil {
		return c, err
	}
	if c.Mode == "" {
		c.Mode = ModePacket
	}
	c.Workers = max(c.Workers, 1)
	if c.RingBytes <= 0 {
		c.RingBytes = defaultRingBytes
		switch {
		case c.Mode == ModeXDP:
			c.RingBytes = defaultXDPBytes
		case c.Workers > 1:
			c.RingBytes = defaultRingsBytes
		}
	}
	if c.Mode == ModePacket && c.Filter == "" {
		c.RingBytes /= c.Workers
	}
	if c.BlockBytes <= 0 {
		c.BlockBytes = min(c.RingBytes/ringBlocks, defaultBlockBytes)
	}
	if c.BlockTimeout <= 0 {
		c.BlockTimeout = defaultBlockTimeout
	}
	size := leastBlockBytes
	for size < min(c.BlockBytes, mostBlockBytes) {
		size *= 2
	}
	c.BlockBytes = size
	c.RingBytes = max(c.RingBytes/size, 2) * size
	return c, nil
}

func (c *LiveConfig) check() error {
	if len(c.Interfaces) == 0 {
		return errors.New("no interface named: name one with --interface")
	}
	seen := map[string]bool{}
	for _, name := range c.Interfaces {
		if seen[name] {
			return fmt.Errorf("interface %s: named twice: every packet would count double; name it once", name)
		}
		seen[name] = true
	}
	if c.Workers > fanout.Partitions {
		return fmt.Errorf("%d capture workers: choose 1 to %d", c.Workers, fanout.Partitions)
	}
	switch c.Mode {
	case "", ModePacket, ModeXDP:
	default:
		return fmt.Errorf("capture mode %q: choose %s or %s", c.Mode, ModePacket, ModeXDP)
	}
	if c.Mode == ModeXDP && c.Filter != "" {
		return fmt.Errorf("capture mode %s with a filter: filters need libpcap: choose one of the two", ModeXDP)
	}
	return nil
}

// OpenLive captures from network interfaces. Without a filter it reads rings
// that are shared with the kernel (Linux); with one it needs libpcap, as
// everywhere else.
//
// Frames of several interfaces come in the order of their times. A frame waits
// for those of other interfaces that may be earlier, which is a little more
// than twice BlockTimeout at most.
//
// An interface that goes down is waited for, and so is one that is taken away:
// when a new one of its name appears, capture goes on there (see
// InterfaceStats.Rebinds).
func OpenLive(config LiveConfig) (Source, error) {
	config.Workers = 1
	sources, _, err := OpenLiveWorkers(config)
	if err != nil {
		return nil, err
	}
	return sources[0], nil
}

// OpenLiveWorkers captures as OpenLive does, and divides the frames among
// sources, one a worker: all packets of a subscriber, on whatever interface and
// in whatever tunnel, come out of one source, in the order of their times.
// Which one it is says package fanout; how well it was possible says the info.
//
// There are as many sources as config.Workers asks for, or a single one where
// the frames cannot be divided (libpcap, ModeXDP) or not as config.Exact asks;
// then Method is FanoutNone.
//
// The control plane is shown to all sources, as Batch.Signals. All of them have
// to be read: what one has not seen the kernel keeps for it, for as long as
// there is room.
//
// Each source has counters of its own, which add up; frames that the network
// card lost are in those of the first.
func OpenLiveWorkers(config LiveConfig) ([]Source, FanoutInfo, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, FanoutInfo{}, err
	}
	if config.Filter != "" {
		return single(config, openLibpcap, "a filter expression needs libpcap, which does not divide frames")
	}
	if config.Mode == ModeXDP {
		return single(config, openXDP, "the queues of the card have frames of all subscribers")
	}
	return openRings(config)
}

// single opens what can only be one source.
func single(config LiveConfig, open func(LiveConfig) (Source, error), reason string) ([]Source, FanoutInfo, error) {
	source, err := open(config)
	if err != nil {
		return nil, FanoutInfo{}, err
	}
	info := FanoutInfo{}
	if config.Workers > 1 {
		info.Consequence, info.Reason = "one goroutine reads and decodes all frames", reason
	}
	return []Source{source}, info, nil
}
