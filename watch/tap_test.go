package watch

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tap is an engine that is only told what it counts.
type tap struct {
	t       *testing.T
	now     probe.Snapshot
	watcher *Watcher
	told    []Event
	odd     uint64 // makes the traffic a little uneven
}

// epoch is a Tuesday, on the boundary of a coarse bin.
var epoch = time.Date(2014, 2, 18, 12, 0, 0, 0, time.UTC).UnixNano()

const (
	other = iota
	chat
	photo
)

func newTap(t *testing.T) *tap {
	x := &tap{t: t}
	x.watcher = New(func(e Event) { x.told = append(x.told, e) })
	x.start(epoch)
	return x
}

// start is a daemon that has just begun.
func (x *tap) start(at int64) {
	x.now = probe.Snapshot{Time: at, First: at, Last: at, Classes: []probe.ClassSnapshot{
		other: {ClassInfo: classify.ClassInfo{App: "other", Class: "other"}},
		chat:  {ClassInfo: classify.ClassInfo{App: "whatsapp", Class: "chat"}},
		photo: {ClassInfo: classify.ClassInfo{App: "whatsapp", Class: "photo", Kind: classify.Transfer}},
	}}
	for _, name := range []string{"unknown", "other", "internet", "wap"} {
		x.now.GTP.APNs = append(x.now.GTP.APNs, probe.APNSnapshot{Name: name})
	}
	x.now.Source.Interfaces = []capture.InterfaceStats{{Name: "up"}, {Name: "down"}}
	x.now.Frames = 1
	x.observe()
}

func (x *tap) observe() {
	s := x.now
	s.Classes = slices.Clone(s.Classes)
	s.Source.Interfaces = slices.Clone(s.Source.Interfaces)
	s.GTP.APNs = slices.Clone(s.GTP.APNs)
	for i := range s.GTP.APNs {
		s.GTP.APNs[i].Classes = slices.Clone(s.GTP.APNs[i].Classes)
	}
	x.watcher.Observe(&s)
}

// tick is what ten seconds bring: what passes is in d, to be changed by a test.
type tick struct {
	attempts, carried, answered [3]uint64
	resets                      [3]uint64
	bytes                       [3]uint64 // each way
	oneSided                    uint64    // of a hundred attempts
	upOnly                      bool
	frames, dropped, duplicates uint64
	deadPort                    bool   // the first of the two, which has a third of the frames
	shed                        uint64 // segments that passed while work was left out
	unseen                      uint64 // of a thousand bytes
	queries, responses          uint64
	encrypted                   uint64
	fromOthers                  bool
	subscribers                 int
	// tunnels puts half of the traffic behind each of two access point names;
	// brokenAPN, 2 or 3, is that of which no flow succeeds.
	tunnels   bool
	brokenAPN int
}

// usual returns an ordinary tick.
func (x *tap) usual() tick {
	x.odd = (x.odd*6364136223846793005 + 1442695040888963407)
	n := 18 + x.odd>>60&3
	return tick{
		attempts: [3]uint64{n, n, 12}, carried: [3]uint64{n, n, 12}, answered: [3]uint64{n, n, 12}, resets: [3]uint64{1, 1, 0},
		bytes: [3]uint64{40_000 + n*100, 9_000 + n*50, 30_000 + n*100}, frames: 900 + n, queries: 30 + n, responses: 30 + n, subscribers: 200,
	}
}

// run lets time pass; change says how it is out of the ordinary.
func (x *tap) run(long time.Duration, change func(d *tick)) {
	for end := x.now.Time + int64(long); x.now.Time < end; {
		d := x.usual()
		if change != nil {
			change(&d)
		}
		x.apply(&d)
		x.now.Time += int64(Fine)
		if d.frames > 0 {
			x.now.Last = x.now.Time
		}
		x.observe()
	}
}

func (x *tap) apply(d *tick) {
	s := &x.now
	s.Frames += d.frames
	s.Bytes += d.frames * 500
	s.Outcomes[decode.TCP] += d.frames
	s.Duplicates += d.duplicates
	s.Overload.Segments[probe.WorkSNI] += d.shed
	s.Source.Interfaces[1].Drops[0] += d.dropped
	if !d.deadPort {
		s.Source.Interfaces[0].Packets += d.frames / 3
	}
	s.Source.Interfaces[1].Packets += d.frames - d.frames/3
	s.DNS.Queries += d.queries
	s.DNS.Responses += d.responses
	s.DNS.Encrypted += d.encrypted
	for i := range s.Classes {
		c := &s.Classes[i]
		c.Opened += d.attempts[i]
		c.Attempts += d.attempts[i]
		c.SYN += d.attempts[i]
		c.SYNACK += d.answered[i]
		c.Established += d.answered[i]
		c.Carried += d.carried[i]
		c.RST += d.resets[i]
		c.OneSided += d.attempts[i] * d.oneSided / 100
		for _, dir := range []flows.Direction{flows.Up, flows.Down} {
			if d.upOnly && dir == flows.Down {
				continue
			}
			c.Bytes[dir] += d.bytes[i]
			c.Payload[dir] += d.bytes[i]
			c.Packets[dir] += d.frames / 6
			c.Unseen[dir] += d.bytes[i] * d.unseen / 1000
		}
		if d.answered[i] > 0 {
			c.RTT[flows.Up].Observe(0.110, d.answered[i])
			c.RTT[flows.Down].Observe(0.050, d.answered[i])
		}
		evidence := classify.EvidenceDNS
		if d.fromOthers {
			evidence = classify.EvidenceServer
		}
		c.Named[evidence] += d.attempts[i]
		c.ActiveSubscribers = d.subscribers
	}
	if d.tunnels {
		x.applyTunnels(d)
	}
	s.Classes[photo].Experience[flows.Good] += d.carried[photo]
}

func (x *tap) applyTunnels(d *tick) {
	for apn := 2; apn < 4; apn++ {
		a := &x.now.GTP.APNs[apn]
		if a.Classes == nil {
			a.Classes = make([]probe.APNClassCounters, len(x.now.Classes))
		}
		for i := range a.Classes {
			c, share := &a.Classes[i], uint64(2)
			n := d.attempts[i] / share
			c.Flows += n
			c.Attempts += n
			c.SYN += n
			if apn == d.brokenAPN {
				c.RST += n
				continue
			}
			c.SYNACK += n
			c.Carried += n
			for dir := range c.Bytes {
				c.Bytes[dir] += d.bytes[i] / share
			}
		}
	}
}

// What goes wrong.

// brokenGateway fails one app's flows behind one access point name.
func brokenGateway(d *tick) {
	d.tunnels, d.brokenAPN = true, 3
	for _, i := range []int{chat, photo} {
		d.carried[i] -= d.carried[i] / 2
		d.answered[i] -= d.answered[i] / 2
	}
}

func outage(d *tick) {
	for _, i := range []int{chat, photo} {
		d.attempts[i] *= 4
		d.answered[i] *= 4
		d.resets[i] = d.attempts[i]
		d.carried[i] = 0
		d.bytes[i] /= 10
	}
}

func nothing(d *tick) { *d = tick{subscribers: 0} }

func downlinkGone(d *tick) {
	d.oneSided, d.upOnly = 100, true
	d.carried, d.answered = [3]uint64{}, [3]uint64{}
	d.frames /= 2
	d.responses = 0
}

func (x *tap) active() (names []string) {
	for _, c := range x.watcher.Health().Checks {
		if c.Active {
			names = append(names, c.Reason)
		}
	}
	return names
}
