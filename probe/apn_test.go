package probe

import (
	"testing"
	"time"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/synth"
)

// TestAPNClasses: where all traffic is in tunnels, the access point names add up
// to the classes, whatever the number of shards.
func TestAPNClasses(t *testing.T) {
	list := frames(t, "quiet-hour", synth.Options{Seed: 3, Subscribers: 200, Duration: 5 * time.Minute, Encapsulation: "gtpu"})
	// A segment that is SYN and RST at once, of a flow that is settled and of one that
	// is not.
	g := newGn(t)
	g.now = list[len(list)-1].Time + second
	for i, flags := range []string{"A", "SR", "S", "SR"} {
		s := &session{g: g, sgw: "192.0.2.1", pgw: "192.0.2.2", up: 1, down: 2}
		s.uplink(g.tcp("10.9.9.9", server, 40000+i/2, 5222, flags, 1, 0, "hello"[:5-5*(i%2)]))
		g.wait(2 * time.Second)
	}
	list = append(list, g.list...)
	for _, shards := range []int{1, 3} {
		cfg := config(shards)
		cfg.APNs = []string{"internet"}
		e := newEngine(t, cfg)
		if err := e.Run(t.Context(), &memory{frames: list, batch: 500}); err != nil {
			t.Fatal(err)
		}
		s := e.Snapshot()
		behind := 0
		for i := range s.Classes {
			c := &s.Classes[i]
			var sum APNClassCounters
			for k := range s.GTP.APNs {
				if a := &s.GTP.APNs[k]; a.Classes != nil {
					sum.add(&a.Classes[i])
					behind++
				}
			}
			want := APNClassCounters{
				Bytes: c.Bytes, Flows: c.Opened, Attempts: c.Attempts, Carried: c.Carried, OneSided: c.OneSided,
				SYN: c.SYN, SYNACK: c.SYNACK, RST: c.RST,
			}
			if sum != want {
				t.Errorf("%d shards, %s/%s: access point names have %+v, the class %+v", shards, c.App, c.Class, sum, want)
			}
		}
		if behind < 2*len(s.Classes) || s.Classes[1].Carried == 0 || s.Classes[1].Bytes[flows.Up] == 0 {
			t.Errorf("%d shards: %d counters behind names: nothing to add up", shards, behind)
		}
	}
}
