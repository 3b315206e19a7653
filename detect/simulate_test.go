package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// network is a simulated operator: a population with a daily and a weekly
// rhythm, autocorrelated noise, heavy-tailed volumes and spikes.
type network struct {
	rng         *rand.Rand
	subscribers float64
	groups      []string
	noise       map[string]*float64 // AR(1) state by class
	spike       map[string]spike
	growth      float64
	dst         int // bin from which local time is an hour on; 0: never
}

type spike struct {
	until           int
	attempts, bytes float64
}

type class struct {
	app, name string
	rate      float64 // attempts per active subscriber and bin
	up, down  float64 // mean bytes a flow
	sigma     float64 // of the logarithm of one flow's bytes
	success   float64
}

var classes = []class{
	{"whatsapp", "chat", 1.0, 2500, 2200, 0.9, 0.985},
	{"whatsapp", "photo", 0.02, 35000, 55000, 0.9, 0.98},
	{"whatsapp", "audio", 0.015, 40000, 60000, 1.1, 0.98},
	{"whatsapp", "video", 0.005, 250000, 600000, 1.2, 0.97},
	{"other", "other", 0.8, 4000, 60000, 1.6, 0.95},
}

// failure is what goes wrong for a while: factors on the healthy values.
type failure struct {
	name        string
	apps        string // "whatsapp" or "all"
	group       string
	attempts    float64
	success     float64 // share of the flows that would carry and still do
	answered    float64 // share of SYNs still answered
	bytes       float64 // of the flows that fail, beside those that do not
	tap         bool    // nothing is seen at all
	downOnly    bool    // the downlink port is unplugged
	dns         float64 // share of queries that fail
	droppedTap  bool
	recoverFrom float64 // attempts just after the end
}

func newNetwork(seed uint64, subscribers float64, groups ...string) *network {
	n := &network{
		rng: rand.New(rand.NewPCG(seed, 17)), subscribers: subscribers,
		noise: map[string]*float64{}, spike: map[string]spike{}, growth: 0.01,
	}
	n.groups = groups
	if len(groups) == 0 {
		n.groups = []string{""}
	}
	for _, c := range classes {
		n.noise[c.name] = new(float64)
	}
	return n
}

const perDay = int(24 * time.Hour / Width)

// load of a bin of the local day, weekends later and lower.
func (n *network) load(bin int) float64 {
	local := bin
	if n.dst > 0 && bin >= n.dst {
		local += int(time.Hour / Width)
	}
	hour := float64(local%perDay) / float64(perDay) * 24
	day := local / perDay % 7
	l := 0.08 + 0.92*math.Pow(0.5-0.5*math.Cos(2*math.Pi*(hour-4)/24), 1.3)
	if day >= 5 {
		l *= 0.85
	}
	return l * (1 + n.growth*float64(bin)/float64(7*perDay))
}

func (n *network) poisson(mean float64) float64 {
	if mean > 50 {
		return math.Max(0, math.Round(mean+math.Sqrt(mean)*n.rng.NormFloat64()))
	}
	limit, k, p := math.Exp(-mean), 0, 1.0
	for {
		p *= n.rng.Float64()
		if p <= limit {
			return float64(k)
		}
		k++
	}
}

// some draws how many of n have a property of probability p: the rarer side is
// nearly Poisson.
func (n *network) some(of, p float64) float64 {
	switch {
	case p >= 1:
		return of
	case p > 0.5:
		return math.Max(0, of-n.poisson(of*(1-p)))
	}
	return math.Min(of, n.poisson(of*p))
}

// volume is the sum over n flows of a heavy-tailed size.
func (n *network) volume(flows, mean, sigma float64) float64 {
	if flows <= 0 {
		return 0
	}
	spread := math.Sqrt((math.Exp(sigma*sigma) - 1) / flows)
	return flows * mean * math.Exp(spread*n.rng.NormFloat64()-spread*spread/2)
}

// step makes the bin of that number. part is how much of it f covers; after is
// the number of bins since the end of f, 0 during or before it.
func (n *network) step(bin int, f *failure, part float64, after int) *Step {
	s := &Step{Start: epoch + int64(bin)*int64(Width)}
	l := n.load(bin)
	active := n.subscribers * math.Min(1, 0.35+0.65*l)
	for _, c := range classes {
		x := n.noise[c.name]
		*x = 0.9**x + 0.05*n.rng.NormFloat64()
		sp := n.spikes(c.name, bin)
		for g, group := range n.groups {
			weight := 1 / float64(len(n.groups))
			if len(n.groups) > 1 && g == 0 {
				weight *= 1.2
			}
			mean := active * weight * c.rate * l / (0.35 + 0.65*l) * math.Exp(*x) * sp.attempts
			b := n.bin(&c, mean, sp.bytes, f, part, after, group)
			b.Subscribers = uint64(n.poisson(active * weight))
			if f != nil && f.tap {
				b.Subscribers = uint64(float64(b.Subscribers) * (1 - part))
			}
			if group != "" {
				s.Samples = append(s.Samples, Sample{Key{c.app, c.name, group}, b})
			}
			s.Samples = append(s.Samples, Sample{Key{c.app, c.name, ""}, b})
		}
	}
	s.Samples = fold(s.Samples)
	n.resolve(s, l, f, part)
	return s
}

// fold adds the groups' shares of a series up.
func fold(in []Sample) (out []Sample) {
	at := map[Key]int{}
	for _, x := range in {
		i, ok := at[x.Key]
		if !ok {
			at[x.Key] = len(out)
			out = append(out, x)
			continue
		}
		sum := out[i].Subscribers + x.Subscribers
		out[i].add(&x.Bin)
		out[i].Subscribers = sum
	}
	return out
}

func (n *network) bin(c *class, mean, bytes float64, f *failure, part float64, after int, group string) (b Bin) {
	fails := f != nil && (f.apps == "all" || f.apps == c.app) && (f.group == "" || f.group == group)
	healthy, sick := mean, 0.0
	if fails {
		healthy, sick = mean*(1-part), mean*part*f.attempts
		if after > 0 && f.recoverFrom > 1 {
			healthy *= 1 + (f.recoverFrom-1)*math.Exp(-float64(after)/5)
		}
	}
	n.flows(&b, c, n.poisson(healthy), 1, 1, bytes, 1)
	if fails && part > 0 {
		n.flows(&b, c, n.poisson(sick), f.success, f.answered, bytes, f.bytes)
		if f.downOnly {
			b.SYNACK, b.Carried, b.BytesDown = uint64(float64(b.SYNACK)*(1-part)), uint64(float64(b.Carried)*(1-part)), uint64(float64(b.BytesDown)*(1-part))
			b.OneSided = uint64(float64(b.Flows) * part)
		}
	}
	return b
}

func (n *network) flows(b *Bin, c *class, count, success, answered, bytes, failedBytes float64) {
	syn := count + n.some(count, 0.02)
	ok := n.some(count, c.success*success)
	b.Attempts += uint64(count)
	b.Flows += uint64(count)
	b.SYN += uint64(syn)
	b.SYNACK += uint64(n.some(syn, 0.985*answered))
	b.Carried += uint64(ok)
	b.RST += uint64(n.some(count, 0.05) + 0.4*(count*c.success-math.Min(ok, count*c.success)))
	full := n.volume(ok, bytes, c.sigma)
	failed := (count - ok) * failedBytes
	b.BytesUp += uint64(c.up*full) + uint64(math.Max(0, failed)*400)
	b.BytesDown += uint64(c.down*full) + uint64(math.Max(0, failed)*200)
}

// spikes: once in a few days a class has an hour of a match or a feast.
func (n *network) spikes(name string, bin int) spike {
	s := n.spike[name]
	if bin < s.until {
		return s
	}
	if n.rng.Float64() < 1.0/float64(4*perDay) {
		s = spike{bin + 3 + n.rng.IntN(20), 1 + 2*n.rng.Float64(), 0.7 + 3*n.rng.Float64()}
		n.spike[name] = s
		return s
	}
	return spike{0, 1, 1}
}

func (n *network) resolve(s *Step, load float64, f *failure, part float64) {
	asked := n.poisson(n.subscribers * load * 0.6)
	bad := 0.02
	if f != nil && part > 0 {
		if f.tap {
			asked *= 1 - part
		}
		bad += f.dns * part
	}
	failed := n.some(asked, math.Min(bad, 1))
	s.DNS = DNS{Known: true, Asked: uint64(asked), Answered: uint64(asked), Failed: uint64(failed)}
	s.Tap = Tap{Known: true, Frames: uint64(asked * 100)}
	if f != nil && f.droppedTap && part > 0 {
		s.Tap.Dropped = uint64(float64(s.Tap.Frames) * 0.3 * part)
	}
}

// epoch is a Monday, midnight.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// trial runs a network for some days with a failure between two bins, which may
// lie within one (fractions).
type trial struct {
	net        *network
	days       int
	fail       *failure
	from, to   float64 // in bins; 0: none
	detector   *Detector
	transform  func(*Step) *Step // nil: as it is
	opened     []Event
	openedAt   []int64
	finished   []Event
	everything []Event
}

func (t *trial) run() {
	if t.detector == nil {
		t.detector = New()
	}
	for bin := range t.days * perDay {
		part, after := 0.0, 0
		if t.fail != nil && t.to > t.from {
			part = math.Max(0, math.Min(float64(bin+1), t.to)-math.Max(float64(bin), t.from))
			if float64(bin) >= t.to {
				after = bin - int(t.to) + 1
			}
		}
		s := t.net.step(bin, t.fail, part, after)
		if t.transform != nil {
			if s = t.transform(s); s == nil {
				continue
			}
		}
		for _, e := range t.detector.Step(s) {
			t.everything = append(t.everything, e)
			switch {
			case e.End == 0:
				t.opened = append(t.opened, e)
				t.openedAt = append(t.openedAt, s.Start+int64(Width))
			case e.RecoveryEnd == 0:
				t.finished = append(t.finished, e)
			}
		}
	}
}

func (t *trial) at(bin float64) int64 { return epoch + int64(bin*float64(Width)) }

func describe(e *Event) string {
	end := "open"
	if e.End != 0 {
		end = time.Unix(0, e.End).UTC().Format("Jan _2 15:04")
	}
	return fmt.Sprintf("%s/%s%v %s..%s %s %.2f down=%.2f up=%.2f att=%.2f ok=%.2f→%.2f %v",
		e.App, e.Group, e.Classes, time.Unix(0, e.Start).UTC().Format("Jan _2 15:04"), end, e.Verdict, e.Confidence,
		e.ResidueDown, e.ResidueUp, e.Attempts, e.SuccessBefore, e.Success, e.Reasons)
}
