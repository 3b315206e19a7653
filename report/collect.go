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
	resolution                                                resolving
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

// displayBin is one bin of time of the pictures.
type displayBin struct{ classes []*classBin }

type classBin struct {
	bytes                        [2]uint64
	flows, syn, synack, fin, rst uint64
	servers                      *distinct
	rated                        [ratings]uint64
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
		detect:  newTimeline[detectBin](detect.Hop, detectHops, nil),
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
