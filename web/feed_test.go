package web

import (
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// feed is a Watcher that is told of made-up traffic, the same at every run.
type feed struct {
	watcher *watch.Watcher
	s       probe.Snapshot
	rng     *rand.Rand
}

var epoch = time.Date(2014, 2, 22, 9, 0, 0, 0, time.UTC).UnixNano()

func newFeed(classes ...string) *feed {
	f := &feed{watcher: watch.New(nil), rng: rand.New(rand.NewPCG(1, 2))}
	f.s = probe.Snapshot{Time: epoch, First: epoch, Last: epoch, Frames: 1}
	f.s.Source.Interfaces = []capture.InterfaceStats{{Name: "eth1"}, {Name: "eth2"}}
	if classes == nil {
		classes = []string{"chat", "photo", "video", "media"}
	}
	f.s.Classes = []probe.ClassSnapshot{{ClassInfo: classify.ClassInfo{App: "other", Class: "other"}}}
	for i, c := range classes {
		info := classify.ClassInfo{App: "whatsapp", Class: c, Kind: classify.Transfer}
		if i == 0 {
			info.Kind = classify.Session
		}
		f.s.Classes = append(f.s.Classes, probe.ClassSnapshot{ClassInfo: info})
	}
	f.observe()
	return f
}

func (f *feed) observe() {
	s := f.s
	s.Classes = append([]probe.ClassSnapshot(nil), s.Classes...)
	s.Source.Interfaces = append([]capture.InterfaceStats(nil), s.Source.Interfaces...)
	f.watcher.Observe(&s)
}

// run lets time pass, with an outage or without. The last class has no traffic.
func (f *feed) run(long time.Duration, outage bool) *feed {
	for end := f.s.Time + int64(long); f.s.Time < end; {
		f.s.Time += int64(watch.Fine)
		f.s.Last = f.s.Time
		f.s.Frames += 900
		f.s.Bytes += 700_000
		for i := range f.s.Source.Interfaces {
			f.s.Source.Interfaces[i].Packets += 450
			f.s.Source.Interfaces[i].Bytes += 350_000
		}
		f.s.DNS.Queries += 40
		f.s.DNS.Responses += 40
		for i := range f.s.Classes[:len(f.s.Classes)-1] {
			f.class(&f.s.Classes[i], uint64(40>>i)+uint64(f.rng.IntN(4)), outage && i > 0)
		}
		f.observe()
	}
	return f
}

func (f *feed) class(c *probe.ClassSnapshot, n uint64, outage bool) {
	carried, bytes := n, 2000*n*uint64(1+f.rng.IntN(4))
	if outage {
		n, carried, bytes = 4*n, 0, bytes/20
		c.RST += n
	}
	c.Opened += n
	c.Attempts += n
	c.Established += n
	c.SYN += n
	c.SYNACK += n
	c.RST += n / 20
	c.Carried += carried
	c.Active = int64(3 * n)
	c.ActiveSubscribers, c.ActiveServers = 200, 40
	c.Bytes[flows.Down] += bytes
	c.Bytes[flows.Up] += bytes / 4
	c.Packets[flows.Down] += bytes / 500
	c.Packets[flows.Up] += bytes / 600
	c.Named[classify.EvidenceDNS] += n
	for range n {
		c.RTT[flows.Up].Observe(0.100+0.02*f.rng.Float64(), 1)
		c.RTT[flows.Down].Observe(0.040+0.05*f.rng.Float64(), 1)
	}
	if c.Kind == classify.Transfer {
		for range carried {
			c.Experience[flows.RatingOf(int64(f.rng.ExpFloat64()*15e9))]++
		}
	}
}

// served starts a server over the feed; it ends with the test.
func served(t *testing.T, f *feed, limits bounds) *Server {
	t.Helper()
	s, err := start(f.config(), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}
