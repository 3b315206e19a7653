package ping

import (
	"fmt"
	"time"
)

// Sampler reads the connections of this machine. It is not safe for concurrent
// use. Close it.
type Sampler struct {
	interval   time.Duration
	namespaces *namespaces
	owners     *owners
	names      *Names
	before     map[socketKey]known
	now        map[socketKey]known
	alive      map[uint32]struct{} // inodes of the sample that is under way
	active     int                 // connections in the sample before
	last       time.Time
}

// socketKey names a socket for as long as it lives. Cookies are given per
// network namespace.
type socketKey struct{ namespace, cookie uint64 }

// known is what is kept of a socket from one sample to the next. The name is that
// which its remote address had when it was first seen.
type known struct {
	Info
	name string
}

// NewSampler opens what it needs in its own network namespace. Interval is what
// the first Sample takes for its period.
func NewSampler(interval time.Duration) (*Sampler, error) {
	names := &Names{}
	n, err := newNamespaces(names)
	if err != nil {
		return nil, fmt.Errorf("cannot read TCP connections: %w; sock_diag needs a kernel with CONFIG_INET_TCP_DIAG", err)
	}
	return &Sampler{
		interval: interval, namespaces: n, owners: newOwners(), names: names,
		before: map[socketKey]known{}, now: map[socketKey]known{}, alive: map[uint32]struct{}{},
	}, nil
}

// Close gives the sockets back.
func (s *Sampler) Close() error {
	s.namespaces.close()
	return nil
}

// Sample reads all connections. What cannot be read is counted in Skipped; it
// fails only where nothing at all can be read. Time is that of the sample, and
// the period the time since the one before, at least a millisecond.
func (s *Sampler) Sample(at time.Time) (*Sample, error) {
	started := time.Now()
	out := &Sample{Time: at, Period: s.interval}
	if !s.last.IsZero() {
		out.Period = max(at.Sub(s.last), time.Millisecond)
	}
	pids, err := processes()
	if err != nil {
		return nil, fmt.Errorf("cannot read the processes: %w; mount /proc", err)
	}
	s.namespaces.scan(pids)
	clear(s.now)
	clear(s.alive)
	out.Connections = make([]Connection, 0, s.active+s.active/8)
	inodes := make([]uint32, 0, cap(out.Connections))
	for _, ns := range s.namespaces.known {
		if ns.diag == nil {
			out.Skipped.Namespaces++
			continue
		}
		if ns.diag.answers == nil {
			out.Skipped.Answers++
		}
		first := len(out.Connections)
		bad, dumpErr := ns.diag.dump(func(m *diagMessage) {
			s.alive[m.inode] = struct{}{}
			if c, ok := s.connection(ns, m, out.Period); ok {
				out.Connections = append(out.Connections, c)
				inodes = append(inodes, m.inode)
			}
		})
		out.Skipped.Messages += bad
		ns.sampled = dumpErr == nil
		if dumpErr != nil {
			err = dumpErr
			out.Skipped.Namespaces++
			out.Connections, inodes = out.Connections[:first], inodes[:first]
			continue
		}
		out.Namespaces++
	}
	if out.Namespaces == 0 && err != nil {
		return nil, fmt.Errorf("cannot read TCP connections: %w", err)
	}
	s.owners.keep(s.alive)
	s.owners.resolve(inodes, pids)
	for i := range out.Connections {
		out.Connections[i].Process = s.owners.byInode[inodes[i]]
	}
	out.Open = len(s.now)
	s.active = len(out.Connections)
	out.Skipped.Processes = max(s.namespaces.unseen, s.owners.unseen)
	s.before, s.now = s.now, s.before
	s.last = at
	out.Took = time.Since(started)
	return out, nil
}

// connection notes what the kernel says and tells whether it belongs into the
// sample. A connection that moves between buckets during a dump can come twice.
func (s *Sampler) connection(ns *namespace, m *diagMessage, period time.Duration) (Connection, bool) {
	key := socketKey{ns.inode, m.cookie}
	if _, twice := s.now[key]; twice {
		return Connection{}, false
	}
	before, met := s.before[key]
	if !met {
		before.name = s.names.Of(m.remote.Addr())
	}
	s.now[key] = known{m.info, before.name}
	c := Connection{
		Local: m.local, Remote: m.remote, Name: before.name, Namespace: ns.inode, NamespaceName: ns.name,
		UID: int64(m.uid), Info: m.info, Counts: m.info.Since(&before.Info),
	}
	switch {
	case met:
		return c, Active(&m.info, &before.Info, period)
	case ns.sampled:
		return c, true // not there at the sample before: all it has counted is of this period
	}
	c.WholeLife = true
	return c, recent(&m.info, period)
}
