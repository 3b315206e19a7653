package report

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/flows"
)

// Caps. Beyond them the report says what it left out.
const (
	maxClasses     = 64
	maxServers     = 100_000 // of one class
	maxAllServers  = 400_000
	maxUnnamed     = 100_000
	maxNames       = 20_000
	maxNameServers = 64
	maxPorts       = 16
	maxAPNs        = 24
	exactUsers     = 1 << 16
	displayBins    = 240
	detectBins     = 16 << 10
	largeFlow      = 1_000_000 // bytes from which throughput means something
)

// Options of a report.
type Options struct {
	Title string
	// Rules give the kind of a class, and the class of a name.
	Rules *classify.Rules
	Marks Marks
	// Places, Tap and Events are nil where they are not known.
	Places *Places
	Tap    *Position
	Events *Outside
}

// classKey names a class.
type classKey struct{ App, Class string }

func (k classKey) String() string { return k.App + "/" + k.Class }

// Collector gathers what a report tells. It is not safe for concurrent use.
type Collector struct {
	opt   Options
	index map[classKey]int
	list  []*class

	first, last int64
	lastStart   int64 // of a flow
	flows       uint64
	users       *distinct

	display  *timeline[displayBin]
	detect   *timeline[detectBin]
	presence *presence
	servers  int // entries of all classes

	names   map[string]*name
	devices map[deviceKey]*device
	scores  scores
	trust   trust

	refusedClasses, refusedServers, refusedNames, refusedAPNs uint64
	apns                                                      map[string]bool
	facts                                                     *CaptureFacts
	inputs                                                    Inputs
}

// class is what is gathered of one class.
type class struct {
	key      classKey
	rank     int // in the rules; others after
	transfer bool

	flows, attempts, midstream uint64
	bytes, packets             [2]uint64
	syn, synack, fin, rst      uint64
	users                      *distinct

	size       [3]histogram // up, down, both
	duration   histogram
	throughput [2]histogram
	small      uint64 // flows under 10 KB
	large      uint64 // over 70 KB

	servers map[netip.Addr]*server
}

// server is one address of a class.
type server struct {
	flows, bytes uint64
	rtt          float32 // least, in seconds; 0 without a sample
	mask         uint64
	hidden       bool
}

// displayBin and detectBin are one bin of time: of pictures, and of the
// detector.
type displayBin struct{ classes []*classBin }

type classBin struct {
	bytes                        [2]uint64
	flows, syn, synack, fin, rst uint64
	servers                      *distinct
	rated                        [ratings]uint64
}

type detectBin struct {
	classes []detect.Bin
	users   map[string]*distinct
	groups  map[detect.Key]*detect.Bin
}

// NewCollector returns a Collector that has seen nothing.
func NewCollector(opt Options) *Collector {
	if opt.Rules == nil {
		opt.Rules = classify.Builtin()
	}
	if opt.Marks == (Marks{}) {
		opt.Marks = DefaultMarks()
	}
	c := &Collector{
		opt: opt, index: map[classKey]int{}, users: newDistinct(exactUsers, fine),
		display: newTimeline(time.Second, displayBins, mergeDisplay),
		detect:  newTimeline(detect.Width, detectBins, mergeDetect),
		names:   map[string]*name{}, devices: map[deviceKey]*device{}, apns: map[string]bool{},
	}
	c.presence = newPresence(func(fn func(*uint64)) {
		for _, k := range c.list {
			for _, s := range k.servers {
				fn(&s.mask)
			}
		}
	})
	c.scores.init()
	c.trust.init()
	return c
}

// class returns the class of a key, for classes beyond the most that there can
// be that of everything else.
func (c *Collector) class(key classKey) (int, *class) {
	if i, ok := c.index[key]; ok {
		return i, c.list[i]
	}
	other := classKey{classify.OtherName, classify.OtherName}
	if len(c.list) >= maxClasses-1 && key != other {
		c.refusedClasses++
		return c.class(other)
	}
	k := &class{key: key, users: newDistinct(exactUsers, fine), servers: map[netip.Addr]*server{}}
	k.rank, k.transfer = rank(c.opt.Rules, key)
	c.index[key] = len(c.list)
	c.list = append(c.list, k)
	return len(c.list) - 1, k
}

// rank returns where the rules have a class, and whether it is one of transfers.
func rank(rules *classify.Rules, key classKey) (int, bool) {
	n := 0
	for _, app := range rules.Apps() {
		for i := range app.Classes {
			if n++; app.Name == key.App && app.Classes[i].Name == key.Class {
				return n, app.Classes[i].Kind == classify.Transfer
			}
		}
		if n++; app.Name == key.App && key.Class == classify.OtherName {
			return n, false
		}
	}
	if key.App == classify.OtherName {
		return math.MaxInt, false
	}
	return math.MaxInt - 1, false
}

// Add takes a flow. It keeps nothing of r.
func (c *Collector) Add(r *Record) {
	id, k := c.class(classKey{r.App, r.Class})
	if c.flows == 0 || r.Start < c.first {
		c.first = r.Start
	}
	c.last = max(c.last, r.End)
	c.lastStart = max(c.lastStart, r.Start)
	c.flows++
	user := hashAddr(r.Subscriber, true)
	c.users.add(user)
	k.add(r, user)
	c.server(k, r)
	c.bin(id, r)
	c.detection(id, r, user)
	c.name(r)
	c.device(k, r)
	if k.transfer {
		c.scores.add(c, id, r)
	}
	c.trust.add(r, user)
}

func (k *class) add(r *Record, user uint64) {
	k.flows++
	if r.SYNSeen {
		k.attempts++
	} else {
		k.midstream++
	}
	k.users.add(user)
	both := r.Bytes[flows.Up] + r.Bytes[flows.Down]
	k.size[2].add(float64(both))
	if both < 10_000 {
		k.small++
	}
	if both > 70_000 {
		k.large++
	}
	took := r.Duration()
	if r.whole() {
		k.duration.add(took)
	}
	for d := range r.Bytes {
		k.bytes[d] += r.Bytes[d]
		k.packets[d] += r.Packets[d]
		k.size[d].add(float64(r.Bytes[d]))
		if r.Bytes[d] > largeFlow && took > 0 {
			k.throughput[d].add(float64(r.Bytes[d]) / took)
		}
	}
	k.syn, k.synack, k.fin, k.rst = k.syn+r.SYN, k.synack+r.SYNACK, k.fin+r.FIN, k.rst+r.RST
}

func (c *Collector) server(k *class, r *Record) {
	mask := c.presence.mask(r.Start, r.End)
	s := k.servers[r.Server]
	if s == nil {
		if len(k.servers) >= maxServers || c.servers >= maxAllServers {
			c.refusedServers++
			return
		}
		s = &server{hidden: r.Hidden}
		k.servers[r.Server] = s
		c.servers++
	}
	s.mask |= mask
	s.flows++
	s.bytes += r.Bytes[0] + r.Bytes[1]
	for _, rtt := range []float64{r.RTTMin[flows.Up], r.RTTHandshake[flows.Up]} {
		if rtt > 0 && (s.rtt == 0 || float32(rtt) < s.rtt) {
			s.rtt = float32(rtt)
		}
	}
}

// exactServers is up to which the active addresses of a bin are counted exactly.
const exactServers = 512

func (b *displayBin) class(id int) *classBin {
	for len(b.classes) <= id {
		b.classes = append(b.classes, nil)
	}
	if b.classes[id] == nil {
		b.classes[id] = &classBin{servers: newDistinct(exactServers, coarse)}
	}
	return b.classes[id]
}

// bin spreads the flow over the bins of the pictures: its bytes evenly from its
// first packet to its last, SYN segments where it began, FIN and RST where it
// ended.
func (c *Collector) bin(id int, r *Record) {
	c.display.reach(r.Start, r.End)
	server := hashAddr(r.Server, false)
	c.display.span(r.Start, r.End, func(b *displayBin, from, to int64) {
		x := b.class(id)
		for d := range x.bytes {
			x.bytes[d] += part(r.Bytes[d], r.Start, r.End, from, to)
		}
		x.servers.add(server)
	})
	b := c.display.at(r.Start).class(id)
	b.flows++
	b.syn += r.SYN
	b.synack += r.SYNACK
	b = c.display.at(r.End).class(id)
	b.fin += r.FIN
	b.rst += r.RST
}

func mergeDisplay(into, from *displayBin) {
	for id, f := range from.classes {
		if f == nil {
			continue
		}
		x := into.class(id)
		for d := range x.bytes {
			x.bytes[d] += f.bytes[d]
		}
		x.flows, x.syn, x.synack = x.flows+f.flows, x.syn+f.syn, x.synack+f.synack
		x.fin, x.rst = x.fin+f.fin, x.rst+f.rst
		x.servers.merge(f.servers)
		for i := range x.rated {
			x.rated[i] += f.rated[i]
		}
	}
}

// exactActive is up to which the active subscribers of a bin are counted
// exactly.
const exactActive = 128

// detection feeds the outage detector's bins.
func (c *Collector) detection(id int, r *Record, user uint64) {
	c.detect.reach(r.Start, r.End)
	apn := r.APN
	if apn != "" && !c.apns[apn] {
		if len(c.apns) >= maxAPNs {
			c.refusedAPNs++
			apn = ""
		} else {
			c.apns[apn] = true
		}
	}
	group := detect.Key{App: r.App, Group: apn}
	c.detect.span(r.Start, r.End, func(b *detectBin, from, to int64) {
		up, down := part(r.Bytes[0], r.Start, r.End, from, to), part(r.Bytes[1], r.Start, r.End, from, to)
		for _, x := range b.of(id, group) {
			if x != nil {
				x.BytesUp += up
				x.BytesDown += down
			}
		}
		b.active(r.App).add(user)
	})
	for _, x := range c.detect.at(r.Start).of(id, group) {
		if x != nil {
			count(x, r)
		}
	}
	for _, x := range c.detect.at(r.End).of(id, group) {
		if x != nil {
			x.RST += r.RST
		}
	}
}

func count(x *detect.Bin, r *Record) {
	x.Flows++
	x.SYN += r.SYN
	x.SYNACK += r.SYNACK
	if r.SYNSeen {
		x.Attempts++
	}
	if r.both() {
		x.Carried++
	}
	if oneWay(r) && r.Payload[0]+r.Payload[1] > 0 {
		x.OneSided++
	}
}

func oneWay(r *Record) bool { return (r.Packets[0] == 0) != (r.Packets[1] == 0) }

// of returns the class's bin and, where there is a group, the group's.
func (b *detectBin) of(id int, group detect.Key) [2]*detect.Bin {
	if id >= len(b.classes) {
		b.classes = append(b.classes, make([]detect.Bin, id+1-len(b.classes))...)
	}
	out := [2]*detect.Bin{&b.classes[id]}
	if group.Group == "" {
		return out
	}
	if b.groups == nil {
		b.groups = map[detect.Key]*detect.Bin{}
	}
	if b.groups[group] == nil {
		b.groups[group] = &detect.Bin{}
	}
	out[1] = b.groups[group]
	return out
}

func (b *detectBin) active(app string) *distinct {
	if b.users == nil {
		b.users = map[string]*distinct{}
	}
	if b.users[app] == nil {
		b.users[app] = newDistinct(exactActive, coarse)
	}
	return b.users[app]
}

func mergeDetect(into, from *detectBin) {
	add := func(x, y *detect.Bin) {
		x.Attempts, x.SYN, x.SYNACK, x.RST = x.Attempts+y.Attempts, x.SYN+y.SYN, x.SYNACK+y.SYNACK, x.RST+y.RST
		x.Flows, x.Carried, x.OneSided = x.Flows+y.Flows, x.Carried+y.Carried, x.OneSided+y.OneSided
		x.BytesUp, x.BytesDown = x.BytesUp+y.BytesUp, x.BytesDown+y.BytesDown
	}
	for id := range from.classes {
		add(into.of(id, detect.Key{})[0], &from.classes[id])
	}
	for k, g := range from.groups {
		add(into.of(0, k)[1], g)
	}
	for app, u := range from.users {
		into.active(app).merge(u)
	}
}

// sorted returns the classes in the order of the rules, everything else last.
func (c *Collector) sorted() []int {
	ids := make([]int, len(c.list))
	for i := range ids {
		ids[i] = i
	}
	slices.SortFunc(ids, func(a, b int) int {
		x, y := c.list[a], c.list[b]
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(x.key.App, y.key.App), cmp.Compare(x.key.Class, y.key.Class))
	})
	return ids
}
