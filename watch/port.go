package watch

import (
	"time"

	"github.com/nametap/nametap/capture"
)

// port is one of the interfaces that the tap delivers to.
type port struct {
	name     string
	readings []reading // of the bins of the window and the next, oldest first

	packets uint64  // all that it delivered
	heard   int64   // packet time at which it was last seen to deliver
	share   float64 // of the packets of all, over about the last hour
	missed  float64 // packets that were to be expected of it since then
	down    bool    // as InterfaceStats.Down
}

// reading is what an interface had counted when a fine bin began.
type reading struct {
	bin                   int64 // start of that bin
	packets, bytes, drops uint64
}

const (
	// portSilence is how long a port may deliver nothing while others go on.
	portSilence = time.Minute
	// portMemory is how slowly a port's share follows. One that stays dead is
	// forgotten after two or three times as long: it has become usual.
	portMemory = time.Hour
	// Below these a silence says nothing.
	leastPortShare = 0.05
	leastMissed    = 50
)

// hearPorts takes over what each port delivered in a fine bin.
func (w *Watcher) hearPorts(interfaces []capture.InterfaceStats) {
	for len(w.ports) < len(interfaces) {
		i := &interfaces[len(w.ports)]
		p := port{name: i.Name, packets: i.Packets, heard: w.now}
		w.ports = append(w.ports, p)
	}
	var all uint64
	for i := range interfaces {
		all += interfaces[i].Packets - min(w.ports[i].packets, interfaces[i].Packets)
	}
	for i := range interfaces {
		p := &w.ports[i]
		p.read(&interfaces[i], w.fine.open*w.fine.width, w.fine.since(int64(window)))
		came := interfaces[i].Packets - min(p.packets, interfaces[i].Packets)
		p.packets, p.down = interfaces[i].Packets, interfaces[i].Down
		if came > 0 {
			p.heard, p.missed = w.now, 0
		} else {
			p.missed += p.share * float64(all)
		}
		if all > 0 {
			p.share += (float64(came)/float64(all) - p.share) * float64(Fine) / float64(portMemory)
		}
	}
}

// read notes what the interface has counted when the bin begins, and forgets what
// is older than the window: the rates are those of the bins that the tap's are.
func (p *port) read(s *capture.InterfaceStats, bin, since int64) {
	r := reading{bin: bin, packets: s.Packets, bytes: s.Bytes}
	for _, n := range s.Drops {
		r.drops += n
	}
	p.readings = append(p.readings, r)
	old := 0
	for old < len(p.readings)-1 && p.readings[old].bin < since {
		old++
	}
	p.readings = append(p.readings[:0], p.readings[old:]...)
}

// silent says that the port had its part of the packets and delivers none, while
// others go on.
func (p *port) silent(now int64) bool {
	return p.share >= leastPortShare && p.missed >= leastMissed && now-p.heard > int64(portSilence)
}

// Port is one of the interfaces that the tap delivers to: rates over the last five
// minutes, and counts since the start.
type Port struct {
	Name string `json:"name"`
	// State is delivers, down (no carrier, or it is not there), silent (reason
	// port_silent: it had its part of the packets) or nothing: no packet in the last
	// five minutes.
	State            string  `json:"state"`
	PacketsPerSecond float64 `json:"packets_per_s"`
	BitsPerSecond    float64 `json:"bits_per_s"`
	DropsPerSecond   float64 `json:"drops_per_s"`
	Packets          uint64  `json:"packets"`
	Drops            uint64  `json:"drops"`
	// Last is when it was last seen to deliver; nil where it has not yet.
	Last *string `json:"last"`
}

// show returns the port as it is shown, where so much of the window was watched.
func (p *port) show(now, got int64) Port {
	first, last := p.readings[0], p.readings[len(p.readings)-1]
	per := func(from, to uint64) float64 {
		if got == 0 {
			return 0
		}
		return round(float64(to-min(from, to)) / seconds(got))
	}
	out := Port{
		Name: p.name, State: "delivers", Packets: last.packets, Drops: last.drops, PacketsPerSecond: per(first.packets, last.packets),
		BitsPerSecond: per(8*first.bytes, 8*last.bytes), DropsPerSecond: per(first.drops, last.drops),
	}
	switch {
	case p.down:
		out.State = "down"
	case p.silent(now):
		out.State = "silent"
	case last.packets == first.packets:
		out.State = "nothing"
	}
	if last.packets > 0 {
		out.Last = stampOrNil(p.heard)
	}
	return out
}

// silentPort is the state of reason PortSilent: that of the port that has been
// silent for longest among those that had a part.
func (w *Watcher) silentPort() problem {
	out := problem{measured: len(w.ports) > 1}
	for i := range w.ports {
		p := &w.ports[i]
		if p.share < leastPortShare || p.missed < leastMissed {
			continue
		}
		out.value = max(out.value, seconds(w.now-p.heard))
		out.active = out.active || p.silent(w.now)
	}
	return out
}
