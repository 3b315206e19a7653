package report

import (
	"time"

	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/probe"
)

// detectHops is how many steps of the detector are kept, the newest ones: eight
// weeks, three more than it takes its baselines from.
const detectHops = int64(8 * 7 * 24 * time.Hour / detect.Hop)

// detectBin is what the outage detector is told of one of its steps.
type detectBin struct {
	classes []detect.Bin
	users   map[string]*distinct
	groups  map[detect.Key]*detect.Bin
	dns     detect.DNS
}

// maxGroups bounds the access points, each with each app, of a bin.
const maxGroups = 64

// exactActive is up to which the active subscribers of a bin are counted
// exactly.
const exactActive = 128

// detection feeds the outage detector's bins.
func (c *Collector) detection(id int, r *Record, user uint64) {
	c.detect.reach(r.Start, r.End)
	app := c.list[id].key.App // the record's, unless there are too many
	group := detect.Key{App: app, Group: c.accessPoint(r.APN)}
	c.detect.span(r.Start, r.End, func(b *detectBin, from, to int64) {
		up, down := part(r.Bytes[0], r.Start, r.End, from, to), part(r.Bytes[1], r.Start, r.End, from, to)
		for _, x := range b.of(id, group) {
			if x != nil {
				x.BytesUp += up
				x.BytesDown += down
			}
		}
		b.active(app).add(user)
	})
	for _, x := range c.detect.at(r.Start).of(id, group) {
		if x != nil {
			began(x, r)
		}
	}
	for _, x := range c.detect.at(r.End).of(id, group) {
		if x != nil {
			x.RST += r.RST
		}
	}
}

// accessPoint returns the name if it is one of those that are told apart.
func (c *Collector) accessPoint(apn string) string {
	if apn == "" || c.apns[apn] {
		return apn
	}
	if len(c.apns) >= maxAPNs {
		c.refusedAPNs++
		return ""
	}
	c.apns[apn] = true
	return apn
}

func began(x *detect.Bin, r *Record) {
	x.Flows++
	x.SYN += r.SYN
	x.SYNACK += r.SYNACK
	if r.SYNSeen {
		x.Attempts++
	}
	if r.both() {
		x.Carried++
	}
	if oneWay(r) && r.Payload[0]+r.Payload[1] > 0 {
		x.OneSided++
	}
}

func oneWay(r *Record) bool { return (r.Packets[0] == 0) != (r.Packets[1] == 0) }

// of returns the class's bin and, where there is a group, the group's; nil for
// both in a bin that was forgotten.
func (b *detectBin) of(id int, group detect.Key) (out [2]*detect.Bin) {
	if b == nil {
		return out
	}
	if id >= len(b.classes) {
		b.classes = append(b.classes, make([]detect.Bin, id+1-len(b.classes))...)
	}
	out[0] = &b.classes[id]
	if group.Group == "" {
		return out
	}
	if b.groups == nil {
		b.groups = map[detect.Key]*detect.Bin{}
	}
	if b.groups[group] == nil {
		if len(b.groups) >= maxGroups {
			return out
		}
		b.groups[group] = &detect.Bin{}
	}
	out[1] = b.groups[group]
	return out
}

func (b *detectBin) active(app string) *distinct {
	if b.users == nil {
		b.users = map[string]*distinct{}
	}
	if b.users[app] == nil {
		b.users[app] = newDistinct(exactActive, coarse)
	}
	return b.users[app]
}

// resolving is how far the counts of DNS have been taken over.
type resolving struct {
	known   bool // there was a query
	at      int64
	counted detect.DNS
}

// ResolutionEvery is how often Resolved wants a snapshot, in packet time.
const ResolutionEvery = detect.Hop

// Resolved takes what an engine has counted of DNS up to a snapshot. Flow records
// do not hold it, and without it a resolver that fails looks like an app that
// does. Give it one after each multiple of ResolutionEvery, as probe.Config.Watch
// does, and one at the end; what came since the one before counts as of then. It
// keeps nothing of s.
func (c *Collector) Resolved(s *probe.Snapshot) {
	now := detect.DNS{Known: true, Asked: s.DNS.Queries, Answered: s.DNS.Responses}
	for _, code := range []int{2, 3, 5} { // RFC 1035 section 4.1.1: SERVFAIL, NXDOMAIN, REFUSED
		now.Failed += s.DNS.Rcodes[code]
	}
	at := c.resolution.at
	if at == 0 {
		at = s.First
	}
	before := c.resolution.counted
	c.resolution.counted, c.resolution.at = now, s.Time
	asked := now.Asked - before.Asked
	if asked == 0 || at == 0 {
		return
	}
	c.resolution.known = true
	c.detect.reach(at, at)
	b := c.detect.at(at)
	if b == nil {
		return
	}
	b.dns.Known = true
	b.dns.Asked += asked
	b.dns.Answered += min(now.Answered-before.Answered, asked)
	b.dns.Failed += now.Failed - before.Failed
}
