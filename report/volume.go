package report

import (
	"time"
)

// Times are the bins of a picture over time.
type Times struct {
	First string  `json:"first"` // start of the first bin
	Width float64 `json:"width_s"`
	first int64
}

// times returns the display bins that there are.
func (c *Collector) times() (Times, []*displayBin) {
	first, row := c.display.row()
	t := Times{Width: time.Duration(c.display.width).Seconds(), first: first}
	if len(row) > 0 {
		t.First = stamp(first)
	}
	return t, row
}

// WhoSection is who sends and receives how much.
type WhoSection struct {
	Notes
	Classes []ClassEntry `json:"classes"`
	Apps    []AppEntry   `json:"apps"`
	Over    VolumeOver   `json:"over_time"`
}

// ClassEntry is one class. The shares are of the app; everything else has none.
type ClassEntry struct {
	App              string  `json:"app"`
	Class            string  `json:"class"`
	Transfer         bool    `json:"transfer"`
	Flows            uint64  `json:"flows"`
	Attempts         uint64  `json:"attempts"`
	Midstream        uint64  `json:"midstream"`
	Subscribers      uint64  `json:"subscribers"`
	SubscribersExact bool    `json:"subscribers_exact"`
	UplinkBytes      uint64  `json:"uplink_bytes"`
	DownlinkBytes    uint64  `json:"downlink_bytes"`
	UplinkPackets    uint64  `json:"uplink_packets"`
	DownlinkPackets  uint64  `json:"downlink_packets"`
	SYN              uint64  `json:"syn"`
	SYNACK           uint64  `json:"syn_ack"`
	FIN              uint64  `json:"fin"`
	RST              uint64  `json:"rst"`
	ShareOfBytes     float64 `json:"share_of_app_bytes"`
	ShareOfFlows     float64 `json:"share_of_app_flows"`
}

// Bytes in both directions.
func (e *ClassEntry) Bytes() uint64 { return e.UplinkBytes + e.DownlinkBytes }

// AppEntry is one app as a whole.
type AppEntry struct {
	App              string  `json:"app"`
	Flows            uint64  `json:"flows"`
	Subscribers      uint64  `json:"subscribers"`
	SubscribersExact bool    `json:"subscribers_exact"`
	Bytes            uint64  `json:"bytes"`
	ShareOfAll       float64 `json:"share_of_all_bytes"`
	// MediaShare is the transfers' share of the app's bytes, VideoShare that
	// of the class video.
	MediaShare float64 `json:"media_share"`
	VideoShare float64 `json:"video_share"`
}

// VolumeOver is bytes over time by class.
type VolumeOver struct {
	Times
	Classes []VolumeLine `json:"classes"`
}

// VolumeLine is one class's bytes a bin.
type VolumeLine struct {
	Class    string   `json:"class"`
	Uplink   []uint64 `json:"uplink_bytes"`
	Downlink []uint64 `json:"downlink_bytes"`
}

func (c *Collector) whoSection() WhoSection {
	s := WhoSection{
		Notes: Notes{
			Shows:   "How many bytes, flows and subscribers each class has, and what part of the app's volume is media.",
			How:     "IP bytes in both directions of every TCP flow. A subscriber is an IPv4 address or an IPv6 /64. Over time, a flow's bytes are spread evenly from its first packet to its last. Media are the classes of kind transfer.",
			Unknown: "One address can be several people (a tether, an address translator) and one person several addresses. Calls and other UDP are not in the volume. Names of today hide which media are video.",
			Remarks: []string{},
		},
		Classes: []ClassEntry{}, Apps: []AppEntry{}, Over: VolumeOver{Classes: []VolumeLine{}},
	}
	apps, order, total := map[string]*AppEntry{}, []string{}, uint64(0)
	users := map[string]*distinct{}
	for _, id := range c.sorted() {
		k := c.list[id]
		a := apps[k.key.App]
		if a == nil {
			a = &AppEntry{App: k.key.App}
			apps[k.key.App], users[k.key.App] = a, newDistinct(exactUsers, fine)
			order = append(order, k.key.App)
		}
		bytes := k.bytes[0] + k.bytes[1]
		total += bytes
		a.Flows += k.flows
		a.Bytes += bytes
		users[k.key.App].merge(k.users)
		if k.transfer {
			a.MediaShare += float64(bytes)
		}
		if k.key.Class == "video" {
			a.VideoShare += float64(bytes)
		}
	}
	for _, id := range c.sorted() {
		s.Classes = append(s.Classes, c.list[id].entry(apps[c.list[id].key.App]))
	}
	for _, app := range order {
		a := apps[app]
		a.Subscribers, a.SubscribersExact = users[app].count()
		a.ShareOfAll = share(a.Bytes, total)
		if a.Bytes > 0 {
			a.MediaShare, a.VideoShare = round(a.MediaShare/float64(a.Bytes)), round(a.VideoShare/float64(a.Bytes))
		}
		s.Apps = append(s.Apps, *a)
	}
	c.volumeOver(&s.Over)
	return s
}

func (k *class) entry(a *AppEntry) ClassEntry {
	e := ClassEntry{
		App: k.key.App, Class: k.key.Class, Transfer: k.transfer, Flows: k.flows, Attempts: k.attempts, Midstream: k.midstream,
		UplinkBytes: k.bytes[0], DownlinkBytes: k.bytes[1], UplinkPackets: k.packets[0], DownlinkPackets: k.packets[1],
		SYN: k.syn, SYNACK: k.synack, FIN: k.fin, RST: k.rst,
		ShareOfBytes: share(k.bytes[0]+k.bytes[1], a.Bytes), ShareOfFlows: share(k.flows, a.Flows),
	}
	e.Subscribers, e.SubscribersExact = k.users.count()
	return e
}

func (c *Collector) volumeOver(o *VolumeOver) {
	var row []*displayBin
	o.Times, row = c.times()
	for _, id := range c.sorted() {
		line := VolumeLine{Class: c.list[id].key.String(), Uplink: make([]uint64, len(row)), Downlink: make([]uint64, len(row))}
		for i, b := range row {
			if x := b.peek(id); x != nil {
				line.Uplink[i], line.Downlink[i] = x.bytes[0], x.bytes[1]
			}
		}
		o.Classes = append(o.Classes, line)
	}
}

// peek returns a class's bin, nil where there is none.
func (b *displayBin) peek(id int) *classBin {
	if b == nil || id >= len(b.classes) {
		return nil
	}
	return b.classes[id]
}
