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
			if (p.Packets == 0) != (p.Last == nil) || (p.State == "delivers") != (p.PacketsPerSecond > 0) && p.State != "silent" {
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
	for range 60 {
		p.read(&s, now)
		now += int64(Fine)
		s.Packets += 50
		s.Bytes += 12_500
		s.Drops[0]++
		s.Drops[1] += 2
	}
	p.read(&s, now)
	got := p.show(now)
	if got.PacketsPerSecond != 5 || got.BitsPerSecond != 10_000 || got.DropsPerSecond != 0.3 || got.Packets != 4000 || got.Drops != 180 {
		t.Errorf("%+v", got)
	}
	if long := time.Duration(p.readings[len(p.readings)-1].at - p.readings[0].at); long != window {
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
