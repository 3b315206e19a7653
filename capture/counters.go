package capture

import (
	"sync"
)

// maxInterfaces bounds what a hostile pcapng file can make us remember.
const maxInterfaces = 4096

// counters are the interfaces of a file source and what came from them. The
// lock is taken once a read, and held while what was read is parsed: formats add
// interfaces meanwhile, and their frames are counted.
type counters struct {
	mu    sync.Mutex
	index map[string]uint16
	stats Stats
}

// add returns the index of the interface with that name. Sections of one file
// and files of one capture share an interface by its name. It returns false if
// there are too many. The lock is held.
func (c *counters) add(name string) (uint16, bool) {
	if i, ok := c.index[name]; ok {
		return i, true
	}
	if len(c.stats.Interfaces) == maxInterfaces {
		return 0, false
	}
	if c.index == nil {
		c.index = make(map[string]uint16)
	}
	i := uint16(len(c.stats.Interfaces))
	c.index[name] = i
	c.stats.Interfaces = append(c.stats.Interfaces, InterfaceStats{Name: name})
	return i, true
}

// count counts frames. The lock is held.
func (c *counters) count(frames []Frame) {
	for i := range frames {
		c.tally(frames[i].Interface, 1, uint64(frames[i].WireLen))
	}
}

// tally counts frames of one interface. The lock is held.
func (c *counters) tally(iface uint16, packets, bytes uint64) {
	s := &c.stats.Interfaces[iface]
	s.Packets += packets
	s.Bytes += bytes
}

// names returns the interfaces' names.
func (c *counters) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, len(c.stats.Interfaces))
	for i := range names {
		names[i] = c.stats.Interfaces[i].Name
	}
	return names
}

// snapshot returns a copy.
func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Interfaces = append([]InterfaceStats(nil), s.Interfaces...)
	return s
}
