package watch

import (
	"time"

	"github.com/nametap/nametap/flows"
)

// Reason is why what the tap delivers cannot be trusted: a closed list.
type Reason uint8

// Reasons.
const (
	// Drops: packets were on the wire and not captured.
	Drops Reason = iota
	// OneDirection: connections go on with nothing seen of the other end, or
	// all packets go one way.
	OneDirection
	// Duplicates: most packets come more than twice.
	Duplicates
	// UnseenBytes: bytes are acknowledged that never passed: lost before us.
	UnseenBytes
	// DNSMissing: connections begin and there are next to no DNS answers.
	DNSMissing
	// EncryptedDNS: subscribers resolve names where the tap cannot read.
	EncryptedDNS
	// NamesMissing: flows to servers of an app whose name only other
	// subscribers' answers tell.
	NamesMissing
	// WarmUp: the tap has not yet seen the answers that name the traffic.
	WarmUp
	// NoPackets: nothing passes.
	NoPackets
	// Blind: the outage detector found that all traffic fell at once.
	Blind
	// PortSilent: an interface that had its part of the packets delivers none,
	// while others go on.
	PortSilent
	// Overload: optional work is left out, because the rings fill.
	Overload

	// Reasons is their number.
	Reasons
)

// criterion is how a reason is told: limit of a share, unless text says otherwise.
// The text is read in both states: first what is measured, then, from "If" on, what
// it means beyond the limit and what to do.
type criterion struct {
	name  string
	limit float64
	text  string
}

const (
	warmUp = 20 * time.Minute
	// window is what shares are taken over.
	window = 5 * time.Minute
	// silence is how long nothing may pass.
	silence = 30 * time.Second

	// Below these a share says nothing.
	leastFlows     = 50
	leastPackets   = 1000
	leastBytes     = 1 << 20
	leastUsers     = 20
	answersPerFlow = 0.05
)

var criteria = [Reasons]criterion{
	Drops:        {"drops", 0.01, "Packets that were on the wire and not captured, of all. If above: give the rings more room, or the daemon more cores."},
	OneDirection: {"one_direction", 0.2, "Connections that go on with nothing seen of the other end, of all that began. If above: look whether both mirror ports deliver."},
	Duplicates:   {"duplicates", 0.55, "Copies, of all packets: half of them where a mirror sends each packet twice. If above: it sends most of them three times or more; choose fewer tap points."},
	UnseenBytes:  {"unseen_bytes", 0.01, "Bytes that were acknowledged but never passed, of all payload. If above: packets are lost between the network and the capture; look at the load of the mirror."},
	DNSMissing:   {"dns_missing", 0.1, "DNS answers per active subscriber in five minutes. If below, while connections begin: too few to name them; does the resolver lie beyond the tap?"},
	EncryptedDNS: {"encrypted_dns", 0.2, "Flows to resolvers that cannot be read, of these and plain answers. If above: much of what is resolved has no name here."},
	NamesMissing: {"names_missing", 0.5, "Flows of apps that only other subscribers' answers named, of all that were named. If above: most subscribers' own answers do not pass the tap."},
	WarmUp:       {"warm_up", warmUp.Seconds(), "Seconds since the first packet. If fewer: connections whose names were resolved before it have none yet, and outages are not judged."},
	NoPackets:    {"no_packets", silence.Seconds(), "Seconds since the last packet. If above: nothing passes; look at the links and at the mirror session."},
	PortSilent:   {"port_silent", portSilence.Seconds(), "Seconds since the last packet of an interface that had its part of them, while others go on. If above: look at its link and at the mirror session."},
	Overload:     {"overload", 0.2, "TCP segments that passed while server names, and with fuller rings round-trip times, were left out so that no packet is lost, of all. If above: give the daemon more cores (--workers), or the rings more room."},
	Blind:        {"blind", 1, "Whether all traffic fell at once, or one direction of it. If so: the outage detector says nothing of apps."},
}

// String returns the reason as labels spell it.
func (r Reason) String() string { return criteria[r].name }

// problem is the state of one reason.
type problem struct {
	active   bool
	measured bool    // there was enough to tell
	value    float64 // in the terms of the criterion
	since    int64   // packet time, of active
}

// share returns of/all, where all is at least the number that a share needs.
func share(of, all, least uint64) (v float64, measured bool) {
	if all < max(least, 1) {
		return 0, false
	}
	return float64(of) / float64(all), true
}

// measure tells how the tap did in the window.
func (w *Watcher) measure() (p [Reasons]problem) {
	tap, cells, _ := w.fine.sum(int64(window))
	var all, apps Cell
	users := 0
	for i := range cells {
		all.add(&cells[i])
		users = max(users, cells[i].Subscribers)
		if w.classes[i].App != otherApp {
			apps.add(&cells[i])
		}
	}
	put := func(r Reason, v float64, measured bool) {
		p[r] = problem{value: v, measured: measured, active: measured && v > criteria[r].limit}
	}
	measure := func(r Reason, of, total, least uint64) {
		v, ok := share(of, total, least)
		put(r, v, ok)
	}
	measure(Drops, tap.Dropped, tap.Frames+tap.Dropped, leastPackets)
	measure(OneDirection, all.OneSided, all.Attempts, leastFlows)
	if one, sum := min(all.Packets[flows.Up], all.Packets[flows.Down]), all.Packets[flows.Up]+all.Packets[flows.Down]; one == 0 && sum >= leastPackets {
		put(OneDirection, 1, true)
	}
	measure(Duplicates, tap.Duplicates, tap.TCP, leastPackets)
	segments := tap.TCP - min(tap.Duplicates, tap.TCP)
	measure(Overload, min(tap.Shed, segments), segments, leastPackets)
	measure(UnseenBytes, tap.Unseen, tap.Payload+tap.Unseen, leastBytes)
	measure(EncryptedDNS, tap.Encrypted, tap.Encrypted+tap.Responses, leastFlows)
	measure(NamesMissing, apps.FromOthers, apps.Named, leastFlows)
	if users >= leastUsers && all.Attempts >= leastFlows {
		v := float64(tap.Responses) / float64(users)
		few := float64(tap.Responses) < answersPerFlow*float64(all.Attempts)
		p[DNSMissing] = problem{value: v, measured: true, active: few && v < criteria[DNSMissing].limit}
	}
	age := w.now - w.began
	warm := w.began != 0 && age >= int64(warmUp)
	p[WarmUp] = problem{value: seconds(min(max(age, 0), int64(warmUp))), measured: true, active: !warm}
	if w.began == 0 {
		p[WarmUp].value = 0
	}
	quiet := w.now - w.heard
	p[NoPackets] = problem{measured: w.heard != 0, value: seconds(quiet), active: w.heard == 0 || quiet > int64(silence)}
	if w.heard == 0 {
		p[NoPackets].value = 0
	}
	if w.blind {
		p[Blind] = problem{active: true, measured: true, value: 1}
	} else {
		p[Blind] = problem{measured: true}
	}
	p[PortSilent] = w.silentPort()
	return p
}

// judge takes the measures over.
func (w *Watcher) judge() {
	p := w.measure()
	for r := range p {
		if !p[r].active {
			continue
		}
		p[r].since = w.now
		if w.problems[r].active {
			p[r].since = w.problems[r].since
		}
	}
	w.problems = p
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }
