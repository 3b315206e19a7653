package watch

import (
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
)

// TestInterfaces: what each delivers, and how that is called.
func TestInterfaces(t *testing.T) {
	tests := []struct {
		name        string
		run         func(x *tap)
		first, last string // states of the ports
	}{
		{"nothing yet", func(*tap) {}, "nothing", "nothing"},
		{"both", func(x *tap) { x.run(10*time.Minute, nil) }, "delivers", "delivers"},
		{"one goes silent", func(x *tap) {
			x.run(time.Hour, nil)
			x.run(2*time.Minute, func(d *tick) { d.deadPort = true })
		}, "silent", "delivers"},
		{"one loses its carrier", func(x *tap) {
			x.run(time.Hour, nil)
			x.now.Source.Interfaces[0].Down = true
			x.run(2*time.Minute, func(d *tick) { d.deadPort = true })
		}, "down", "delivers"},
		{"one never delivered", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.deadPort = true })
		}, "nothing", "delivers"},
		{"and comes back", func(x *tap) {
			x.run(time.Hour, nil)
			x.run(10*time.Minute, func(d *tick) { d.deadPort = true })
			x.run(Fine, nil)
		}, "delivers", "delivers"},
		{"all traffic ends", func(x *tap) {
			x.run(time.Hour, nil)
			x.run(10*time.Minute, func(d *tick) { *d = tick{} })
		}, "nothing", "nothing"},
	}
	for _, tt := range tests {
		x := newTap(t)
		tt.run(x)
		ports := x.watcher.Summary().Interfaces
		if len(ports) != 2 || ports[0].Name != "up" || ports[0].State != tt.first || ports[1].State != tt.last {
			t.Errorf("%s: %+v, want states %s and %s", tt.name, ports, tt.first, tt.last)
			continue
		}
		for _, p := range ports {
			if (p.Packets == 0) != (p.Last == nil) || (p.State == "delivers") != (p.PacketsPerSecond > 0) && p.State != "silent" && p.State != "down" {
				t.Errorf("%s: %+v", tt.name, p)
			}
		}
	}
}

// TestPortRates: over five minutes, or what there is of them.
func TestPortRates(t *testing.T) {
	p := &port{name: "eth1"}
	s := capture.InterfaceStats{Packets: 1000, Bytes: 1000}
	now := epoch
	since := func() int64 { return now - int64(window) }
	for range 60 {
		p.read(&s, now, since())
		now += int64(Fine)
		s.Packets += 50
		s.Bytes += 12_500
		s.Drops[0]++
		s.Drops[1] += 2
	}
	p.read(&s, now, since())
	got := p.show(now, int64(window))
	if got.PacketsPerSecond != 5 || got.BitsPerSecond != 10_000 || got.DropsPerSecond != 0.3 || got.Packets != 4000 || got.Drops != 180 {
		t.Errorf("%+v", got)
	}
	if long := time.Duration(p.readings[len(p.readings)-1].bin - p.readings[0].bin); long != window {
		t.Errorf("readings of %v are kept", long)
	}
}

// TestReach: how far back there is anything to show, and when there will be.
func TestReach(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	x := newTap(t)
	at := func(after time.Duration) time.Time { return time.Unix(0, epoch).Add(after) }
	expect := func(when string, watched, reach time.Duration, fine, coarse time.Time) {
		t.Helper()
		if got := x.watcher.Watched(); got != watched {
			t.Errorf("%s: watched for %v, want %v", when, got, watched)
		}
		if got := x.watcher.Reach(); got != reach {
			t.Errorf("%s: reaches %v back, want %v", when, got, reach)
		}
		if step, got := x.watcher.Pending(time.Hour); step != Fine || !got.Equal(fine) {
			t.Errorf("%s: the next %v end at %v, want %v", when, step, got, fine)
		}
		if step, got := x.watcher.Pending(12 * time.Hour); step != Coarse || !got.Equal(coarse) {
			t.Errorf("%s: the next %v end at %v, want %v", when, step, got, coarse)
		}
	}
	// The bins in which the watch began are not whole.
	expect("at once", 0, 0, at(2*Fine), at(2*Coarse))
	x.run(time.Minute, nil)
	expect("after a minute", time.Minute, 50*time.Second, at(7*Fine), at(2*Coarse))
	x.run(2*Coarse, nil)
	expect("after some", 11*time.Minute, 11*time.Minute-Fine, at(11*time.Minute+Fine), at(3*Coarse))
	x.run(50*time.Hour, nil)
	if got := x.watcher.Reach(); got < 47*time.Hour || got > 49*time.Hour {
		t.Errorf("after days: reaches %v back", got)
	}
	if _, end := New(nil).Pending(time.Hour); !end.IsZero() {
		t.Errorf("of nothing the next ends at %v", end)
	}
}

// TestOneWindow: what the tap delivers and what its interfaces do is taken over the
// same time, from the first minute on and also where little passes.
func TestOneWindow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window float64 // seconds
		run    func(x *tap)
	}{
		{"the first minute", 60, func(x *tap) { x.run(time.Minute, nil) }},
		{"the first minute, from the middle of a bin on", 53, func(x *tap) {
			x.watcher = New(nil)
			x.start(epoch + int64(7*time.Second))
			x.now.Time = epoch
			x.run(time.Minute, nil)
		}},
		{"after an hour", 300, func(x *tap) { x.run(time.Hour, nil) }},
		{"snapshots that come late", 300, func(x *tap) {
			for i := range 60 {
				x.now.Time += int64(time.Duration(i%3) * time.Second)
				x.run(Fine, nil)
				x.now.Time -= int64(time.Duration(i%3) * time.Second)
			}
		}},
		{"a packet now and then", 300, func(x *tap) {
			x.run(time.Hour, nil)
			for i := range 20 {
				x.now.Time += int64(time.Duration(20+7*i%60) * time.Second)
				x.run(Fine, func(d *tick) { *d = tick{frames: 1} })
			}
		}},
		{"a hole", 60, func(x *tap) {
			x.run(time.Hour, nil)
			x.now.Time += int64(4 * time.Minute)
			x.run(30*time.Second, nil)
		}},
	} {
		x := newTap(t)
		tt.run(x)
		s := x.watcher.Summary()
		if s.Window != tt.window {
			t.Errorf("%s: watched for %g s, want %g", tt.name, s.Window, tt.window)
		}
		packets := 0.0
		for _, p := range s.Interfaces {
			packets += p.PacketsPerSecond
		}
		if far := packets/s.Tap.FramesPerSecond - 1; s.Tap.FramesPerSecond == 0 || far > 0.001 || far < -0.001 {
			t.Errorf("%s: %g frames a second, of all interfaces %g", tt.name, s.Tap.FramesPerSecond, packets)
		}
	}
}

// TestNoFlowsOfNobody: as long as the window has flows of somebody, somebody is
// there, also when the engine has just turned its minute.
func TestNoFlowsOfNobody(t *testing.T) {
	x := newTap(t)
	x.run(10*time.Minute, nil)
	gone := func(d *tick) { *d = tick{frames: 1} }
	x.run(50*time.Second, gone)
	if s := x.watcher.Summary(); s.Tap.Subscribers != 200 || s.Classes[0].Subscribers != 200 || s.Classes[0].FlowsPerMinute == 0 {
		t.Errorf("just after the turn: %+v", s.Classes[0])
	}
	x.run(time.Minute, gone)
	if s := x.watcher.Summary(); s.Tap.Subscribers != 0 || s.Classes[0].Subscribers != 0 {
		t.Errorf("two minutes later: %+v", s.Classes[0])
	}
}
