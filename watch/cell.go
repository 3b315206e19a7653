package watch

import (
	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/quantile"
	"github.com/nametap/nametap/probe"
)

// Cell is what one class did in one bin. Arrays are indexed by flows.Direction,
// and of round-trip times Up is the server side of the tap.
type Cell struct {
	Bytes         [2]uint64 `json:"bytes,omitzero"`
	Packets       [2]uint64 `json:"packets,omitzero"`
	Retransmitted [2]uint64 `json:"retransmitted,omitzero"`
	// LostBefore counts those of Retransmitted that were lost before the tap.
	LostBefore [2]uint64 `json:"lost_before,omitzero"`

	Opened      uint64 `json:"opened,omitzero"`
	Attempts    uint64 `json:"attempts,omitzero"`
	Established uint64 `json:"established,omitzero"`
	Carried     uint64 `json:"carried,omitzero"`
	OneSided    uint64 `json:"one_sided,omitzero"`
	SYN         uint64 `json:"syn,omitzero"`
	SYNACK      uint64 `json:"syn_ack,omitzero"`
	RST         uint64 `json:"rst,omitzero"`

	// Experience counts transfers that ended in the bin, by rating.
	Experience [flows.Ratings]uint64 `json:"experience,omitzero"`

	// RTT is the median of the bin's samples in seconds, of which there are
	// Samples.
	RTT     [2]float64 `json:"rtt,omitzero"`
	Samples [2]uint64  `json:"samples,omitzero"`

	// Named counts flows that were named, FromOthers those of them that only
	// other subscribers' answers named.
	Named      uint64 `json:"named,omitzero"`
	FromOthers uint64 `json:"from_others,omitzero"`

	// Levels at the end of the bin.
	Active      int `json:"active,omitzero"`
	Subscribers int `json:"subscribers,omitzero"`
	Servers     int `json:"servers,omitzero"`
}

// add adds what o counted to c. Of levels the later ones stand; of round-trip
// times the mean of the medians, weighted by their samples.
func (c *Cell) add(o *Cell) {
	for d := range 2 {
		c.Bytes[d] += o.Bytes[d]
		c.Packets[d] += o.Packets[d]
		c.Retransmitted[d] += o.Retransmitted[d]
		c.LostBefore[d] += o.LostBefore[d]
		if n := c.Samples[d] + o.Samples[d]; n > 0 {
			c.RTT[d] = (c.RTT[d]*float64(c.Samples[d]) + o.RTT[d]*float64(o.Samples[d])) / float64(n)
			c.Samples[d] = n
		}
	}
	c.Opened += o.Opened
	c.Attempts += o.Attempts
	c.Established += o.Established
	c.Carried += o.Carried
	c.OneSided += o.OneSided
	c.SYN += o.SYN
	c.SYNACK += o.SYNACK
	c.RST += o.RST
	for r := range c.Experience {
		c.Experience[r] += o.Experience[r]
	}
	c.Named += o.Named
	c.FromOthers += o.FromOthers
	c.Active, c.Subscribers, c.Servers = o.Active, o.Subscribers, o.Servers
}

// cellBetween returns what a class did from one snapshot to the next.
func cellBetween(a, b *probe.ClassSnapshot) Cell {
	c := Cell{
		Opened: b.Opened - a.Opened, Attempts: b.Attempts - a.Attempts, Established: b.Established - a.Established,
		Carried: b.Carried - a.Carried, OneSided: b.OneSided - a.OneSided,
		SYN: b.SYN - a.SYN, SYNACK: b.SYNACK - a.SYNACK, RST: b.RST - a.RST,
		Active: int(b.Active), Subscribers: b.ActiveSubscribers, Servers: b.ActiveServers,
	}
	for d := range 2 {
		c.Bytes[d] = b.Bytes[d] - a.Bytes[d]
		c.Packets[d] = b.Packets[d] - a.Packets[d]
		c.Retransmitted[d] = b.Retransmitted[d] - a.Retransmitted[d]
		c.LostBefore[d] = b.LostBefore[d] - a.LostBefore[d]
		c.RTT[d], c.Samples[d] = medianBetween(&a.RTT[d], &b.RTT[d])
	}
	for r := range c.Experience {
		c.Experience[r] = b.Experience[r] - a.Experience[r]
	}
	for e := range b.Named {
		n := b.Named[e] - a.Named[e]
		switch classify.Evidence(e) {
		case classify.EvidenceNone:
		case classify.EvidenceServer:
			c.FromOthers += n
			c.Named += n
		default:
			c.Named += n
		}
	}
	return c
}

// medianBetween returns the median of what a histogram took in from one snapshot
// to the next, estimated within its bucket, which is 9 % wide; 0 without any.
func medianBetween(a, b *flows.Histogram) (median float64, n uint64) {
	s := quantile.Between(a, b)
	if s.Count() == 0 {
		return 0, 0
	}
	return s.At(0.5), s.Count()
}

// TapCell is what the tap did in one bin.
type TapCell struct {
	Frames, Bytes       uint64 // on the wire
	Dropped             uint64
	TCP, Duplicates     uint64 // packets; those of TCP include copies
	Queries, Responses  uint64
	Failed              uint64 // responses SERVFAIL, NXDOMAIN and REFUSED
	Encrypted           uint64 // flows to resolvers that cannot be read
	Unseen, Payload     uint64 // bytes
	Undecoded           uint64
	Evicted, MapEvicted uint64 // flows and DNS entries given up for want of room
	Shed                uint64 // segments of TCP that passed while optional work was left out
}

func (t *TapCell) add(o *TapCell) {
	t.Frames += o.Frames
	t.Bytes += o.Bytes
	t.Dropped += o.Dropped
	t.TCP += o.TCP
	t.Duplicates += o.Duplicates
	t.Queries += o.Queries
	t.Responses += o.Responses
	t.Failed += o.Failed
	t.Encrypted += o.Encrypted
	t.Unseen += o.Unseen
	t.Payload += o.Payload
	t.Undecoded += o.Undecoded
	t.Evicted += o.Evicted
	t.MapEvicted += o.MapEvicted
	t.Shed += o.Shed
}

// tapBetween returns what the tap did from one snapshot to the next.
func tapBetween(a, b *probe.Snapshot) TapCell {
	t := TapCell{
		Frames: b.Frames - a.Frames, Bytes: b.Bytes - a.Bytes,
		Dropped:    dropped(&b.Source) - min(dropped(&a.Source), dropped(&b.Source)),
		TCP:        b.Outcomes[decode.TCP] - a.Outcomes[decode.TCP],
		Duplicates: b.Duplicates - a.Duplicates,
		Queries:    b.DNS.Queries - a.DNS.Queries, Responses: b.DNS.Responses - a.DNS.Responses,
		Encrypted: b.DNS.Encrypted - a.DNS.Encrypted,
		Shed:      b.Overload.Segments[probe.WorkSNI] - a.Overload.Segments[probe.WorkSNI], // the first to go
		Evicted:   b.Tables.FlowsEvicted - a.Tables.FlowsEvicted, MapEvicted: b.Tables.EntriesEvicted - a.Tables.EntriesEvicted,
	}
	for _, code := range []int{2, 3, 5} { // RFC 1035 section 4.1.1: SERVFAIL, NXDOMAIN, REFUSED
		t.Failed += b.DNS.Rcodes[code] - a.DNS.Rcodes[code]
	}
	for o := range b.Outcomes {
		if decode.Outcome(o).Undecoded() {
			t.Undecoded += b.Outcomes[o] - a.Outcomes[o]
		}
	}
	for i := range b.Classes {
		var before flows.Counters
		if i < len(a.Classes) {
			before.Unseen, before.Payload = a.Classes[i].Unseen, a.Classes[i].Payload
		}
		for d := range 2 {
			t.Unseen += b.Classes[i].Unseen[d] - before.Unseen[d]
			t.Payload += b.Classes[i].Payload[d] - before.Payload[d]
		}
	}
	return t
}

func dropped(s *capture.Stats) (n uint64) {
	for i := range s.Interfaces {
		for _, d := range s.Interfaces[i].Drops {
			n += d
		}
	}
	return n
}
