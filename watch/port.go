package watch

import (
	"time"

	"github.com/nametap/nametap/capture"
)

// port is one of the interfaces that the tap delivers to.
type port struct {
	packets uint64  // all that it delivered
	heard   int64   // packet time at which it was last seen to deliver
	share   float64 // of the packets of all, over about the last hour
	missed  float64 // packets that were to be expected of it since then
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
		p := port{packets: interfaces[len(w.ports)].Packets, heard: w.now}
		w.ports = append(w.ports, p)
	}
	var all uint64
	for i := range interfaces {
		all += interfaces[i].Packets - min(w.ports[i].packets, interfaces[i].Packets)
	}
	for i := range interfaces {
		p := &w.ports[i]
		came := interfaces[i].Packets - min(p.packets, interfaces[i].Packets)
		p.packets = interfaces[i].Packets
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

// silentPort is the state of reason PortSilent: that of the port that has been
// silent for longest among those that had a part.
func (w *Watcher) silentPort() problem {
	out := problem{measured: len(w.ports) > 1}
	for i := range w.ports {
		p := &w.ports[i]
		if p.share < leastPortShare || p.missed < leastMissed {
			continue
		}
		quiet := seconds(w.now - p.heard)
		out.value = max(out.value, quiet)
		out.active = out.active || quiet > portSilence.Seconds()
	}
	return out
}
