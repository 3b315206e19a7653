package synth

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxSubscribers is the largest population.
const MaxSubscribers = 1_000_000

// internal service numbers follow the scenario's.
const (
	serviceDNS = iota
	serviceDoT
	serviceDoH
	internalServices
)

// service is a Service made ready.
type service struct {
	Service
	templates   []nameTemplate
	names       int
	cnames      []nameTemplate
	pool        int
	certificate []byte
	inOutage    bool // belongs to the app that fails
}

// site is a Site made ready.
type site struct {
	oneWay int64
}

// server is one server address pair.
type server struct {
	addr4 [4]byte
	addr6 [16]byte
	site  uint8
	hints [2][]hint // by its IPv4 and its IPv6 address: to the tap they are strangers
}

// hint is that an answer has named a server so.
type hint struct {
	name uint32
	at   int64
}

// serverPool is a Pool: servers first to first+count.
type serverPool struct {
	first, count, least int
}

// active returns how many servers of the pool are in use at a load.
func (p serverPool) active(load float64) int {
	if p.least == 0 {
		return p.count
	}
	n := p.least + int(math.Round(float64(p.count-p.least)*load))
	return min(max(n, 1), p.count)
}

// cached is a name in a subscriber's own cache.
type cached struct {
	name         uint32
	base, active int32
	count        uint8
	until        int64
}

// known is a name for a server that an answer to a subscriber, seen at the
// tap, has given.
type known struct {
	server int32
	name   uint32
	ttl    uint32
	at     int64
}

// subscriber is one member of the population.
type subscriber struct {
	device      uint8
	node        uint8 // access node
	v6          bool
	encrypted   bool // DNS
	attached    bool
	gtp2        bool
	identified  bool // its session's creation has been seen
	laddering   bool
	moving      bool // a handover is under way, to what follows
	nextNode    uint8
	nextTEID    uint32
	nextControl uint32
	addr        uint32 // IPv4
	prefix      uint64 // IPv6, upper half
	delay       int64  // one way to the tap
	upNS        int64  // of a byte on the link
	downNS      int64
	upFree      int64 // when the link is idle
	downFree    int64
	upLast      int64 // last delivery, which the next does not overtake
	downLast    int64
	radioAt     int64 // last packet on the radio
	port        uint16
	apn         uint8
	rung        int16
	factor      float32 // activity against the mean
	chat        int32   // its chat connection, -1
	first       int32   // of its connections, -1
	conns       int32
	goneServer  int32 // of the chat connection that it left without a word, -1
	gonePort    uint16
	goneDport   uint16
	lastAct     int64
	sequence    uint16 // of GTP-C
	teidUp      uint32
	teidDown    uint32
	controlUp   uint32
	controlDn   uint32
	number      uint64 // IMSI's and MSISDN's digits
	serial      uint32 // of the IMEI
	tac         uint8
	cache       []cached
	known       []known
}

func (s *subscriber) ipHeader() int {
	if s.v6 {
		return 40
	}
	return 20
}

// takePort returns the next ephemeral port.
func (s *subscriber) takePort(g *Generator) uint16 {
	st := g.devices[s.device].stack
	s.port++
	if s.port >= st.portTo || s.port < st.portFrom {
		s.port = st.portFrom
	}
	return s.port
}

// device is a Device made ready.
type device struct {
	*Device
	stack *stack
}

// load is the rhythm at a moment.
func (g *Generator) load(at int64) float64 {
	const hour = int64(time.Hour)
	t := at + int64(g.sc.Rhythm.UTCOffset) - hour/2
	day := t % (24 * hour)
	if day < 0 {
		day += 24 * hour
	}
	h := day / hour
	part := float64(day%hour) / float64(hour)
	return g.sc.Rhythm.Hourly[h]*(1-part) + g.sc.Rhythm.Hourly[(h+1)%24]*part
}

// build makes servers, services and subscribers ready.
func (g *Generator) build() error {
	if err := g.buildServers(); err != nil {
		return err
	}
	if err := g.buildServices(); err != nil {
		return err
	}
	g.buildSubscribers()
	return nil
}

func (g *Generator) buildServers() error {
	used := map[netip.Prefix]int{}
	siteOf := map[string]int{}
	for i, s := range g.sc.Sites {
		siteOf[s.ID] = i
		g.sites = append(g.sites, site{oneWay: int64(s.RTT) / 2})
	}
	for _, p := range g.sc.Pools {
		g.pools = append(g.pools, serverPool{first: len(g.servers), count: p.Count, least: p.ActiveMin})
		type place struct {
			site   int
			prefix netip.Prefix
		}
		var places []place
		for _, id := range p.Sites {
			for _, text := range g.sc.Sites[siteOf[id]].Prefixes {
				pre, err := netip.ParsePrefix(text)
				if err != nil {
					return err
				}
				places = append(places, place{siteOf[id], pre})
			}
		}
		for i := range p.Count {
			pl := places[i%len(places)]
			used[pl.prefix]++
			if used[pl.prefix] > 220 {
				return fmt.Errorf("pool %s: prefix %s has no address left: give its site more prefixes", p.ID, pl.prefix)
			}
			s := server{site: uint8(pl.site), addr4: pl.prefix.Addr().As4()}
			s.addr4[3] = byte(16 + used[pl.prefix])
			s.addr6 = synthesized(s.addr4)
			if p.IPv6 {
				pre, err := netip.ParsePrefix(g.sc.Sites[pl.site].Prefix6)
				if err != nil {
					return err
				}
				s.addr6 = pre.Addr().As16()
				binary.BigEndian.PutUint64(s.addr6[8:], uint64(len(g.servers)+1)<<16|0x167)
			}
			g.servers = append(g.servers, s)
		}
	}
	return g.buildResolvers()
}

// synthesized is a DNS64 address in the well-known prefix (RFC 6052 section 2.1).
func synthesized(a [4]byte) [16]byte {
	v6 := [16]byte{0, 0x64, 0xff, 0x9b}
	copy(v6[12:], a[:])
	return v6
}

// buildResolvers adds the operator's resolver and a public one.
func (g *Generator) buildResolvers() error {
	a, err := netip.ParseAddr(g.sc.DNS.Resolver)
	if err != nil {
		return err
	}
	g.sites = append(g.sites, site{oneWay: 2e6}, site{oneWay: 9e6})
	r := server{addr4: a.As4(), addr6: synthesized(a.As4()), site: uint8(len(g.sites) - 2)}
	if a6, err := netip.ParseAddr(g.sc.DNS.Resolver6); err == nil {
		r.addr6 = a6.As16()
	}
	public := server{addr4: [4]byte{192, 0, 2, 9}, addr6: synthesized([4]byte{192, 0, 2, 9}), site: uint8(len(g.sites) - 1)}
	g.resolver = int32(len(g.servers))
	g.servers = append(g.servers, r, public)
	return nil
}

func (g *Generator) buildServices() error {
	random := rng{7}
	for i := range g.sc.Services {
		sv := service{Service: g.sc.Services[i]}
		sv.pool = slices.IndexFunc(g.sc.Pools, func(p Pool) bool { return p.ID == sv.Pool })
		sv.inOutage = g.sc.Outage != nil && g.sc.Outage.App == sv.App
		for _, text := range sv.Names {
			t, err := parseTemplate(text)
			if err != nil {
				return err
			}
			sv.templates = append(sv.templates, t)
			sv.names += t.count()
		}
		for _, text := range sv.CNAME {
			t, err := parseTemplate(text)
			if err != nil {
				return err
			}
			sv.cnames = append(sv.cnames, t)
		}
		name := string(sv.templates[0].append(nil, 0))
		if _, parent, ok := strings.Cut(name, "."); ok && strings.Contains(parent, ".") {
			name = "*." + parent
		}
		var err error
		if sv.certificate, err = certificate(name, &random); err != nil {
			return err
		}
		g.services = append(g.services, sv)
	}
	g.internal = uint8(len(g.services))
	doh := nameTemplate{prefix: "dns.example"}
	dohTemplates := []nameTemplate{doh}
	if len(g.sc.DNS.DoH) > 0 {
		dohTemplates = dohTemplates[:0]
		for _, n := range g.sc.DNS.DoH {
			dohTemplates = append(dohTemplates, nameTemplate{prefix: n})
		}
	}
	g.services = append(g.services,
		service{Service: Service{ID: "dns-tcp", App: "other", Class: "other"}, templates: []nameTemplate{doh}, names: 1},
		service{Service: Service{ID: "dot", App: "other", Class: "other", TLS13: true}, templates: []nameTemplate{doh}, names: 1},
		service{
			Service:   Service{ID: "doh", App: "other", Class: "other", TLS13: true, SNI: 1},
			templates: dohTemplates, names: len(dohTemplates),
		})
	return nil
}

func (g *Generator) buildSubscribers() {
	total := 0.0
	for i := range g.sc.Devices {
		d := &g.sc.Devices[i]
		g.devices = append(g.devices, device{d, stacks[d.Stack]})
		total += d.Share
	}
	g.subs = make([]subscriber, g.opt.Subscribers)
	a := &g.sc.Access
	for i := range g.subs {
		s := &g.subs[i]
		r := &rng{mix(g.opt.Seed) ^ mix(uint64(i)+1)}
		pick := r.float() * total
		for pick -= g.sc.Devices[s.device].Share; pick >= 0 && int(s.device) < len(g.devices)-1; pick -= g.sc.Devices[s.device].Share {
			s.device++
		}
		s.v6 = r.chance(g.sc.IPv6.Share)
		s.encrypted = r.chance(g.sc.DNS.Encrypted)
		s.addr = 10<<24 | uint32(i+2)
		s.prefix = 0x20010db8<<32 | uint64(i+1)
		s.delay = r.between(int64(a.DelayMin), int64(a.DelayMax))
		s.upNS = byteTime(r, a.UplinkMin, a.UplinkMax)
		s.downNS = byteTime(r, a.DownlinkMin, a.DownlinkMax)
		s.radioAt = -1 << 62
		st := g.devices[s.device].stack
		s.port = st.portFrom + uint16(r.below(int(st.portTo-st.portFrom)))
		// Activity differs between people; a mean of 1.
		s.factor = float32(min(math.Exp(0.8*r.normal()-0.32), 8))
		s.chat, s.first, s.goneServer = -1, -1, -1
		g.buildIdentity(s, r, uint64(i))
		g.planAct(uint32(i), g.start)
	}
}

// byteTime draws a link rate, rather near the upper end, as nanoseconds a byte.
func byteTime(r *rng, lo, hi int64) int64 {
	u := r.float()
	rate := float64(hi) - u*u*float64(hi-lo)
	return int64(8e9 / rate)
}

func (g *Generator) buildIdentity(s *subscriber, r *rng, i uint64) {
	e := &g.sc.Encapsulation
	s.gtp2 = r.chance(e.GTPv2)
	s.node = uint8(r.below(max(e.Nodes, 1)))
	s.number = i + 1
	s.serial = uint32(r.below(1_000_000))
	s.tac = uint8(r.below(len(g.sc.Devices[s.device].TAC)))
	s.apn = uint8(r.below(max(len(e.APNs), 1)))
	s.sequence = uint16(r.next())
	s.attached = !g.layers.gtp || !r.chance(e.AttachSeen)
	s.newTunnel(r)
}

// newTunnel gives s the tunnel endpoints of a new session.
func (s *subscriber) newTunnel(r *rng) {
	s.teidUp = uint32(r.next()) | 1
	s.teidDown = uint32(r.next()) | 1
	s.controlUp = uint32(r.next()) | 1
	s.controlDn = uint32(r.next()) | 1
}

// imsi is of the test network (MCC 001, MNC 01; ITU-T E.212 annex).
func (s *subscriber) imsi() string { return fmt.Sprintf("00101%010d", s.number) }

func (s *subscriber) msisdn() string { return fmt.Sprintf("43699%08d", s.number) }

func (g *Generator) tacOf(s *subscriber) string { return g.sc.Devices[s.device].TAC[s.tac] }

// imeisv is TAC, serial number and software version (TS 23.003 section 6.2.2).
func (g *Generator) imeisv(s *subscriber) string {
	return g.tacOf(s) + fmt.Sprintf("%06d", s.serial) + "01"
}

func (g *Generator) apnOf(s *subscriber) string {
	if len(g.sc.Encapsulation.APNs) == 0 {
		return "internet"
	}
	return g.sc.Encapsulation.APNs[s.apn]
}

// address is the subscriber's for a connection with the interface identifier
// iid, which only IPv6 uses.
func (s *subscriber) address(iid uint64) netip.Addr {
	if !s.v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], s.addr)
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.prefix)
	binary.BigEndian.PutUint64(b[8:], iid)
	return netip.AddrFrom16(b)
}

// stableIID is the interface identifier that DNS is asked from.
func (s *subscriber) stableIID() uint64 { return mix(s.prefix)&^(1<<57) | 1 }

// currentIID is the one for new connections (RFC 8981).
func (g *Generator) currentIID(s *subscriber) uint64 {
	every := int64(g.sc.IPv6.PrivacyRotation)
	if every == 0 {
		return s.stableIID()
	}
	return mix(s.prefix^mix(uint64(g.now/every))) | 1
}

// family is 0 for IPv4, 1 for IPv6.
func (s *subscriber) family() int {
	if s.v6 {
		return 1
	}
	return 0
}

func (g *Generator) serverAddr(s *subscriber, i int32) netip.Addr {
	if s.v6 {
		return netip.AddrFrom16(g.servers[i].addr6)
	}
	return netip.AddrFrom4(g.servers[i].addr4)
}

// remember keeps a name in the subscriber's own cache.
func (g *Generator) remember(s *subscriber, c cached) {
	kept := s.cache[:0]
	for _, o := range s.cache {
		if o.until > g.now && o.name != c.name {
			kept = append(kept, o)
		}
	}
	s.cache = append(kept, c)
}

// recall finds a name in it.
func (g *Generator) recall(s *subscriber, name uint32) *cached {
	for i := range s.cache {
		if s.cache[i].name == name && s.cache[i].until > g.now {
			return &s.cache[i]
		}
	}
	return nil
}

// rung is one step of the ladder that a client goes down when it fails.
type rung struct {
	service uint8
	port    uint16
}

func parseRung(sc *Scenario, text string) (rung, error) {
	id, port, ok := strings.Cut(text, ":")
	i := slices.IndexFunc(sc.Services, func(s Service) bool { return s.ID == id })
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || i < 0 || err != nil || n == 0 {
		return rung{}, fmt.Errorf("%q is no service's id and port such as chat:5222", text)
	}
	return rung{uint8(i), uint16(n)}, nil
}
