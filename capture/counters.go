package capture

import (
	"sync"
)

// maxInterfaces bounds what a hostile pcapng file can make us remember.
const maxInterfaces = 4096

// counters are the interfaces of a file source and what came from them. The
// lock is taken once a batch.
type counters struct {
	mu    sync.Mutex
	index map[string]uint16
	stats Stats
}

// add returns the index of the interface with that name. Sections of one file
// and files of one capture share an interface by its name. It returns false if
// there are too many.
func (c *counters) add(name string) (uint16, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
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

// count adds a batch.
func (c *counters) count(frames []Frame, wild, badFractions uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.WildTimes += wild
	c.stats.BadFractions += badFractions
	for i := range frames {
		s := &c.stats.Interfaces[frames[i].Interface]
		s.Packets++
		s.Bytes += uint64(frames[i].WireLen)
	}
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
