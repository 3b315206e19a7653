package capture

import (
	"errors"
	"fmt"
	"time"
)

// LiveConfig says what to capture, and with how much memory.
type LiveConfig struct {
	// Interfaces to capture from, at least one; a tap often delivers each
	// direction on its own port. Only what arrives is captured, not what this
	// machine sends.
	Interfaces []string
	// RingBytes is the size of each interface's ring in the kernel, BlockBytes
	// that of the blocks it is divided into. 0 means 64 MiB and 1 MiB. Both
	// are rounded: blocks to a power of two, the ring to whole blocks, at
	// least two.
	RingBytes, BlockBytes int
	// BlockTimeout is how long a packet may wait in a block that does not
	// fill up. 0 means 10 ms.
	BlockTimeout time.Duration
	// Promiscuous asks for frames that are not addressed to this machine,
	// which on a tap is all of them.
	Promiscuous bool
	// SnapLen cuts frames after so many bytes; 0 does not.
	SnapLen int
	// Filter is a pcap-filter expression (pcap-filter(7)). It needs libpcap.
	Filter string
}

const (
	defaultRingBytes    = 64 << 20
	defaultBlockBytes   = 1 << 20
	defaultBlockTimeout = 10 * time.Millisecond
	// leastBlockBytes holds the longest frame that a card hands over.
	leastBlockBytes = 256 << 10
	mostBlockBytes  = 16 << 20
	// idleTimeout is after what time Next returns an empty batch.
	idleTimeout = 100 * time.Millisecond
)

// withDefaults returns c with every field set and in its bounds.
func (c LiveConfig) withDefaults() (LiveConfig, error) {
	if len(c.Interfaces) == 0 {
		return c, errors.New("no interface named: name one with --interface")
	}
	seen := map[string]bool{}
	for _, name := range c.Interfaces {
		if seen[name] {
			return c, fmt.Errorf("interface %s: named twice: every packet would count double; name it once", name)
		}
		seen[name] = true
	}
	if c.RingBytes <= 0 {
		c.RingBytes = defaultRingBytes
	}
	if c.BlockBytes <= 0 {
		c.BlockBytes = defaultBlockBytes
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

// OpenLive captures from network interfaces. Without a filter it reads
// AF_PACKET rings (Linux); with one it needs libpcap, as everywhere else.
//
// Several interfaces are merged block by block, by the time of each block's
// first frame: packet times may go back by about BlockTimeout between one batch
// and the next.
//
// An interface that goes down is waited for, and so is one that is taken away:
// when a new one of its name appears, capture goes on there (see
// InterfaceStats.Rebinds).
func OpenLive(config LiveConfig) (Source, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if config.Filter != "" {
		return openLibpcap(config)
	}
	return openRings(config)
}
