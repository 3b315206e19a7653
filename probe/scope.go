package probe

import (
	"strings"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/internal/arena"
)

// The key of a subscriber is ⟨scope, address⟩, because private addresses repeat
// between access points. What the scope is, is known best from the control
// plane, else from the tunnel, else from a configured VLAN:
//
//	0                    one address space (Gi)
//	1 … gtp.MaxScope     a session of the control plane: its serial number. The
//	                     address does not count then, so that a dual-stack
//	                     handset is one subscriber
//	gatewayScope | n     the gateway of a tunnel of which no session is known
//	vlanScope | VLAN     a VLAN, where these are said to be networks of their own
const (
	gatewayScope = 1 << 31
	vlanScope    = 1 << 30
)

// bySession reports whether the scope is a session's serial number.
func bySession(scope uint32) bool { return scope != 0 && scope < vlanScope }

// subscriberKey is what, beside the scope, tells subscribers apart.
func subscriberKey(scope uint32, a decode.Addr) uint64 {
	if bySession(scope) {
		return 0
	}
	return a.Prefix()
}

// identity is what the control plane says of a session's owner.
type identity struct {
	imsi gtp.Digits
	tac  uint32 // 0 is none
	apn  gtp.APN
}

// Labels of the APN counters: the configured ones come after these.
const (
	apnUnknown = iota // no session known
	apnOther          // an APN that is not in the configured list
	apnListed
	// MaxAPNs bounds the list, and with it the number of series.
	MaxAPNs = 32
)

// sessions follows the control plane for the dispatcher.
type sessions struct {
	table  *gtp.Table
	labels map[string]uint8 // of listed APNs, by name
	most   int              // sessions

	// tunnelled packets with and without a known session
	identified, anonymous uint64
}

func newSessions(memory int64, apns []string, seed uint64) (*sessions, error) {
	cfg := gtp.Config{Seed: seed}.ForMemory(memory)
	table, err := gtp.New(cfg)
	if err != nil {
		return nil, err
	}
	s := &sessions{
		table: table, labels: map[string]uint8{}, most: cfg.Sessions,
	}
	for i, apn := range apns {
		s.labels[strings.ToLower(apn)] = uint8(apnListed + i)
	}
	return s, nil
}

// controlMessage works a datagram of GTP-C or PFCP.
func (s *sessions) controlMessage(p *decode.Packet) {
	s.table.Control(p.Payload(), gtp.Addr(p.Src), gtp.Addr(p.Dst), p.SrcPort, p.DstPort, p.Time)
}

// advance lets old sessions go.
func (s *sessions) advance(now int64) { s.table.Advance(now) }

// find returns the scope of a tunnelled packet, the label of its APN and, where
// the tunnel's end tells it, its direction.
func (s *sessions) find(p *decode.Packet) (scope uint32, label uint8, dir flows.Direction, directed, ok bool) {
	ref, d, ok := s.table.ByTEID(gtp.Addr(p.OuterDst), p.TEID)
	if !ok {
		return 0, apnUnknown, 0, false, false
	}
	s.identified++
	label = s.label(ref)
	switch d {
	case gtp.Uplink:
		return ref.Scope, label, flows.Up, true, true
	case gtp.Downlink:
		return ref.Scope, label, flows.Down, true, true
	}
	return ref.Scope, label, 0, false, true
}

// owner returns the session of a subscriber whose packets pass outside of any
// tunnel, where the control plane says that the address is one session's alone.
func (s *sessions) owner(a decode.Addr) (scope uint32, label uint8, ok bool) {
	if s.table.Active() == 0 {
		return 0, apnUnknown, false
	}
	ref, ok := s.table.ByUE(gtp.Addr(a), gtp.NoAPN)
	if !ok {
		return 0, apnUnknown, false
	}
	return ref.Scope, s.label(ref), true
}

// label returns the label of the session's APN: that of its first packet, kept as
// the session's note.
func (s *sessions) label(ref gtp.Ref) uint8 {
	if label := s.table.Note(ref); label != 0 {
		return label
	}
	return s.learn(ref)
}

// learn finds the label of a session whose first packet this is.
func (s *sessions) learn(ref gtp.Ref) (label uint8) {
	session := s.table.Session(ref)
	if session == nil {
		return apnUnknown
	}
	label, listed := s.labels[s.table.APNName(session.APN)]
	if !listed {
		label = apnOther
	}
	s.table.SetNote(ref, label)
	return label
}

// identity says of a scope's owner what the control plane knows, for a while beyond
// the session's end too: its last flows end later.
func (s *sessions) identity(scope uint32) (identity, bool) {
	if !bySession(scope) {
		return identity{}, false
	}
	o, ok := s.table.Owner(scope)
	return identity{o.IMSI, o.TAC, o.APN}, ok
}

func (s *sessions) snapshot(to *GTPSnapshot) {
	to.Counters = *s.table.Counters()
	to.Sessions, to.Endpoints = s.table.Active(), s.table.Endpoints()
	to.Identified, to.Anonymous = s.identified, s.anonymous
	to.APNNames = s.table.APNNames()
}

// gateways numbers tunnel gateways where no session is known. A packet seen in
// two tunnels (S1-U and S5-U) shows that both lead to one subscriber: from then
// on the second gateway is another name of the first.
type gateways struct {
	numbers map[decode.Addr]uint32
	// latest are the ones looked up last, each where its address falls: a tap
	// sees few, and a map is slow for a packet.
	latest [64]gateway
	parent []uint32 // by number; 0 is none
	// behind remembers which gateway an address was seen behind last, for
	// packets of its owner outside of tunnels. A slot holds one address; the
	// next one with the same slot takes it over.
	behind []behindSlot
}

// gateway is one end of tunnels: its own number, and that of the first of the names
// that it has.
type gateway struct {
	addr         decode.Addr
	number, root uint32
}

// behindSlot counts once a packet of the address was seen in the tunnel and bare, or
// the tunnel has carried both directions. What is in a tunnel its sender has made up
// as he likes: one datagram of his must not move another one's bare packets.
type behindSlot struct {
	prefix uint64
	number uint32
	ways   uint8 // bits, by direction
}

const bothWays = 1<<flows.Up | 1<<flows.Down

// maxGateways bounds them; a network has dozens. Those beyond share the last
// number.
const maxGateways = 4096

func newGateways(addresses int) (gateways, error) {
	size := firstSlots
	for size < addresses {
		size *= 2
	}
	behind, err := arena.MakeDense[behindSlot](size)
	return gateways{numbers: map[decode.Addr]uint32{}, parent: []uint32{0}, behind: behind}, err
}

// at returns the gateway of that address. It stays there until the next call.
func (g *gateways) at(a decode.Addr) *gateway {
	l := &g.latest[product(a.Lo^gatewayMark, a.Hi^gatewayMark)%uint64(len(g.latest))]
	if l.addr != a || l.number == 0 {
		n := g.lookup(a)
		*l = gateway{a, n, g.root(n)}
	}
	return l
}

// gatewayMark keeps the product from being zero for addresses of IPv4.
const gatewayMark = 0x9e3779b97f4a7c15

func (g *gateways) lookup(a decode.Addr) uint32 {
	if n, ok := g.numbers[a]; ok {
		return n
	}
	if len(g.parent) > maxGateways {
		return maxGateways
	}
	n := uint32(len(g.parent))
	g.numbers[a] = n
	g.parent = append(g.parent, n)
	return n
}

// root returns the first of the names that the gateway of that number has. The way
// there is halved each time: outer addresses are what a sender likes, and can make
// a chain of all there are.
func (g *gateways) root(n uint32) uint32 {
	for g.parent[n] != n {
		g.parent[n] = g.parent[g.parent[n]]
		n = g.parent[n]
	}
	return n
}

// scope returns the scope that the gateway stands for, and remembers that a packet
// of the subscriber of the prefix, in that direction, was in its tunnel.
func (g *gateways) scope(w *gateway, prefix uint64, dir flows.Direction) uint32 {
	if s := g.slot(prefix); s.prefix == prefix && s.number == w.number {
		s.ways |= 1 << (dir & 1)
	} else {
		g.move(s, w, prefix, dir)
	}
	return gatewayScope | w.root
}

// move is scope where the packet before was in another gateway's tunnel or another
// address's. An address that is known to be behind one gateway stays there until a
// packet is seen both in front of another one and bare.
//
//go:noinline
func (g *gateways) move(s *behindSlot, w *gateway, prefix uint64, dir flows.Direction) {
	known := s.prefix == prefix && s.number != 0
	switch {
	case known && g.root(s.number) == w.root:
	case known && s.ways == bothWays:
		return
	default:
		*s = behindSlot{prefix: prefix, number: w.number}
	}
	s.ways |= 1 << (dir & 1)
}

// bare notes that a packet of the subscriber of the prefix, seen in front of the
// gateway, passed outside of its tunnel as well.
//
//go:noinline
func (g *gateways) bare(n uint32, prefix uint64) {
	if n == 0 {
		return // the other one was bare as well
	}
	*g.slot(prefix) = behindSlot{prefix, n, bothWays}
}

func (g *gateways) slot(prefix uint64) *behindSlot {
	return &g.behind[mix(prefix, 1)&uint64(len(g.behind)-1)]
}

// any reports whether a gateway is known.
func (g *gateways) any() bool { return len(g.parent) > 1 }

// owner returns the scope of a subscriber whose packet passes bare, by the prefix of
// its address.
func (g *gateways) owner(prefix uint64) uint32 {
	if !g.any() {
		return 0
	}
	if s := g.slot(prefix); s.prefix == prefix && s.ways == bothWays {
		return gatewayScope | g.root(s.number)
	}
	return 0
}

// same notes that two gateways lead to the same subscribers. The one that was
// met first keeps its name, because flows are open under it.
func (g *gateways) same(a, b uint32) {
	a, b = g.root(a), g.root(b)
	if a == b {
		return // as of every packet that passes in front of both
	}
	g.parent[max(a, b)] = min(a, b)
	for i := range g.latest {
		l := &g.latest[i]
		l.root = g.root(l.number)
	}
}

// APNCounters add up the TCP traffic in tunnels of one access point name.
type APNCounters struct {
	Bytes, Packets [2]uint64
	Flows          uint64
	SYN, SYNACK    uint64
	RST            uint64
}

func (c *APNCounters) count(p *decode.Packet, dir flows.Direction, ev flows.Event) {
	c.Packets[dir]++
	c.Bytes[dir] += uint64(p.IPBytes)
	if ev&flows.Opened != 0 {
		c.Flows++
	}
	if p.Flags&decode.RST != 0 {
		c.RST++ // beside a SYN as well, as a flow counts it
	}
	switch {
	case p.Flags&(decode.SYN|decode.ACK) == decode.SYN:
		c.SYN++
	case p.Flags&decode.SYN != 0:
		c.SYNACK++
	}
}

// APNClassCounters are what one class did in tunnels of one access point name:
// what it takes to tell a gateway that fails from an app that does. Bytes and
// segments count from a flow's first on, but only once its name is settled.
type APNClassCounters struct {
	Bytes             [2]uint64
	Flows, Attempts   uint64
	Carried, OneSided uint64
	SYN, SYNACK, RST  uint64
}

// settled counts a flow whose class was decided just now.
func (c *APNClassCounters) settled(f flows.Flow) {
	c.Flows++
	if f.SYNSeen() {
		c.Attempts++
	}
	if f.Carried() {
		c.Carried++
	}
	if f.OneSided() {
		c.OneSided++
	}
	c.SYN += uint64(f.SYNs)
	c.SYNACK += uint64(f.SYNACKs)
	c.RST += uint64(f.RSTs)
	for d := range c.Bytes {
		c.Bytes[d] += f.Bytes(flows.Direction(d))
	}
}

// count adds a later segment.
func (c *APNClassCounters) count(p *decode.Packet, dir flows.Direction, ev flows.Event) {
	c.Bytes[dir] += uint64(p.IPBytes)
	if ev&flows.NowCarried != 0 {
		c.Carried++
	}
	if p.Flags&decode.RST != 0 {
		c.RST++ // beside a SYN as well, as a flow counts it
	}
	switch {
	case p.Flags&(decode.SYN|decode.ACK) == decode.SYN:
		c.SYN++
	case p.Flags&decode.SYN != 0:
		c.SYNACK++
	}
}

func (c *APNClassCounters) add(o *APNClassCounters) {
	for d := range c.Bytes {
		c.Bytes[d] += o.Bytes[d]
	}
	c.Flows += o.Flows
	c.Attempts += o.Attempts
	c.Carried += o.Carried
	c.OneSided += o.OneSided
	c.SYN += o.SYN
	c.SYNACK += o.SYNACK
	c.RST += o.RST
}

func (c *APNCounters) add(o *APNCounters) {
	for d := range 2 {
		c.Bytes[d] += o.Bytes[d]
		c.Packets[d] += o.Packets[d]
	}
	c.Flows += o.Flows
	c.SYN += o.SYN
	c.SYNACK += o.SYNACK
	c.RST += o.RST
}
