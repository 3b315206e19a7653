package trial

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/nametap/nametap/detect"
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
	summerTime  int // step from which local time is an hour on; 0: never
}

type spike struct {
	until           int
	attempts, bytes float64
}

type class struct {
	app, name string
	rate      float64 // attempts per active subscriber and detect.Width
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

// failure is what is different for a while: factors on the healthy values.
type failure struct {
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

// perDay is how many steps a day has.
const perDay = int(24 * time.Hour / detect.Hop)

// load of a step of the local day, weekends lower.
func (n *network) load(step int) float64 {
	local := step
	if n.summerTime > 0 && step >= n.summerTime {
		local += int(time.Hour / detect.Hop)
	}
	hour := float64(local%perDay) / float64(perDay) * 24
	day := local / perDay % 7
	l := 0.08 + 0.92*math.Pow(0.5-0.5*math.Cos(2*math.Pi*(hour-4)/24), 1.3)
	if day >= 5 {
		l *= 0.85
	}
	return l * (1 + n.growth*float64(step)/float64(7*perDay))
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

// The noise of a class's rate: its deviation is 11 %, and what is left of it after
// five minutes is nine tenths.
const (
	noiseKept = 0.949
	noiseNew  = 0.036
)

// step makes the step of that number. part is how much of it f covers; after is
// the number of steps since the end of f, 0 during or before it.
func (n *network) step(step int, f *failure, part float64, after int) *detect.Step {
	s := &detect.Step{Start: epoch + int64(step)*int64(detect.Hop)}
	l := n.load(step)
	active := n.subscribers * math.Min(1, 0.35+0.65*l)
	for _, c := range classes {
		x := n.noise[c.name]
		*x = noiseKept**x + noiseNew*n.rng.NormFloat64()
		sp := n.spikes(c.name, step)
		for g, group := range n.groups {
			weight := 1 / float64(len(n.groups))
			if len(n.groups) > 1 && g == 0 {
				weight *= 1.2
			}
			rate := c.rate * float64(detect.Hop) / float64(detect.Width)
			mean := active * weight * rate * l / (0.35 + 0.65*l) * math.Exp(*x) * sp.attempts
			b := n.bin(&c, mean, sp.bytes, f, part, after, group)
			b.Subscribers = uint64(n.poisson(active * weight))
			if f != nil && f.tap {
				b.Subscribers = uint64(float64(b.Subscribers) * (1 - part))
			}
			if group != "" {
				s.Samples = append(s.Samples, detect.Sample{Key: detect.Key{App: c.app, Class: c.name, Group: group}, Bin: b})
			}
			s.Samples = append(s.Samples, detect.Sample{Key: detect.Key{App: c.app, Class: c.name}, Bin: b})
		}
	}
	s.Samples = fold(s.Samples)
	n.resolve(s, l, f, part)
	return s
}

// fold adds the groups' shares of a series up.
func fold(in []detect.Sample) (out []detect.Sample) {
	at := map[detect.Key]int{}
	for _, x := range in {
		i, ok := at[x.Key]
		if !ok {
			at[x.Key] = len(out)
			out = append(out, x)
			continue
		}
		add(&out[i].Bin, &x.Bin)
	}
	return out
}

func add(x, y *detect.Bin) {
	x.Attempts, x.SYN, x.SYNACK, x.RST = x.Attempts+y.Attempts, x.SYN+y.SYN, x.SYNACK+y.SYNACK, x.RST+y.RST
	x.Flows, x.Carried, x.OneSided = x.Flows+y.Flows, x.Carried+y.Carried, x.OneSided+y.OneSided
	x.BytesUp, x.BytesDown, x.Subscribers = x.BytesUp+y.BytesUp, x.BytesDown+y.BytesDown, x.Subscribers+y.Subscribers
}

func (n *network) bin(c *class, mean, bytes float64, f *failure, part float64, after int, group string) (b detect.Bin) {
	fails := f != nil && (f.apps == "all" || f.apps == c.app) && (f.group == "" || f.group == group)
	healthy, sick := mean, 0.0
	if fails {
		healthy, sick = mean*(1-part), mean*part*f.attempts
		if after > 0 && f.recoverFrom > 1 {
			healthy *= 1 + (f.recoverFrom-1)*math.Exp(-float64(after)*float64(detect.Hop)/float64(25*time.Minute))
		}
	}
	n.flows(&b, c, n.poisson(healthy), 1, 1, bytes, 1)
	if fails && part > 0 {
		n.flows(&b, c, n.poisson(sick), f.success, f.answered, bytes, f.bytes)
		if f.downOnly {
			seen := func(n uint64) uint64 { return uint64(float64(n) * (1 - part)) }
			b.SYNACK, b.Carried, b.BytesDown = seen(b.SYNACK), seen(b.Carried), seen(b.BytesDown)
			b.OneSided = uint64(float64(b.Flows) * part)
		}
	}
	return b
}

func (n *network) flows(b *detect.Bin, c *class, count, success, answered, bytes, failedBytes float64) {
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
func (n *network) spikes(name string, step int) spike {
	s := n.spike[name]
	if step < s.until {
		return s
	}
	if n.rng.Float64() < 1.0/float64(4*perDay) {
		s = spike{step + 6 + n.rng.IntN(40), 1 + 2*n.rng.Float64(), 0.7 + 3*n.rng.Float64()}
		n.spike[name] = s
		return s
	}
	return spike{0, 1, 1}
}

func (n *network) resolve(s *detect.Step, load float64, f *failure, part float64) {
	asked := n.poisson(n.subscribers * load * 0.3)
	bad := 0.02
	if f != nil && part > 0 {
		if f.tap {
			asked *= 1 - part
		}
		bad += f.dns * part
	}
	failed := n.some(asked, math.Min(bad, 1))
	s.DNS = detect.DNS{Known: true, Asked: uint64(asked), Answered: uint64(asked), Failed: uint64(failed)}
	s.Tap = detect.Tap{Known: true, Frames: uint64(asked * 100)}
	if f != nil && f.droppedTap && part > 0 {
		s.Tap.Dropped = uint64(float64(s.Tap.Frames) * 0.3 * part)
	}
}

// epoch is a Monday, midnight.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
