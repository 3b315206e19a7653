package report

import (
	"net/netip"
	"strings"

	"github.com/nametap/nametap/classify"
)

// CaptureFacts are what only the captures themselves can tell.
type CaptureFacts struct {
	Packets      uint64            `json:"packets"`
	Bytes        uint64            `json:"bytes"`
	Truncated    bool              `json:"truncated"`
	Undecoded    map[string]uint64 `json:"undecoded"`
	DNSQueries   uint64            `json:"dns_queries"`
	DNSResponses uint64            `json:"dns_responses"`
	DNSMalformed uint64            `json:"dns_malformed"`
	FlowsEvicted uint64            `json:"flows_evicted"`
}

// trust is what is gathered of how well the tap sees.
type trust struct {
	evidence      map[string]*evidence
	oneWay        uint64
	midstream     uint64
	unseen        [2]uint64
	payload       [2]uint64
	packets       [2]uint64
	retransmitted [2]uint64
	outOfOrder    [2]uint64
	lostBefore    [2]uint64
	cut           uint64

	flows, encryptedFlows uint64
	encryptedUsers        *distinct
	plainUsers            *distinct
	unnamed               map[netip.Addr]uint64
	unnamedRefused        uint64
	dnsAge                histogram
}

type evidence struct{ flows, bytes uint64 }

func (t *trust) init() {
	t.evidence = map[string]*evidence{}
	for e := range classify.EvidenceCount {
		t.evidence[e.String()] = &evidence{}
	}
	t.encryptedUsers, t.plainUsers = newDistinct(exactUsers, fine), newDistinct(exactUsers, fine)
	t.unnamed = map[netip.Addr]uint64{}
}

// resolvers are names of public resolvers that speak DNS over HTTPS or TLS.
var resolvers = []string{
	"dns.google", "dns64.dns.google", "cloudflare-dns.com", "one.one.one.one", "quad9.net", "nextdns.io", "adguard.com",
	"adguard-dns.com", "opendns.com", "cleanbrowsing.org", "mullvad.net", "controld.com", "dns.sb", "doh.pub", "alidns.com",
}

const portDoT = 853 // RFC 7858 section 3.1

// encrypted reports a flow that carries DNS where the tap cannot read it.
func encrypted(r *Record) bool {
	if r.ServerPort == portDoT {
		return true
	}
	if r.ServerPort != 443 {
		return false
	}
	name := r.SNI
	if name == "" {
		name = r.Name
	}
	for _, d := range resolvers {
		if strings.HasSuffix(name, d) && (len(name) == len(d) || name[len(name)-len(d)-1] == '.') {
			return d != "mullvad.net" && d != "adguard.com" && d != "opendns.com" || strings.Contains(name, "dns.") || strings.Contains(name, "doh.")
		}
	}
	return false
}

func (t *trust) add(r *Record, user uint64) {
	t.flows++
	e := t.evidence[r.Evidence]
	if e == nil {
		e = t.evidence[classify.EvidenceNone.String()]
	}
	e.flows++
	e.bytes += r.Bytes[0] + r.Bytes[1]
	if oneWay(r) {
		t.oneWay++
	}
	if !r.SYNSeen {
		t.midstream++
	}
	if !r.ended() {
		t.cut++
	}
	for d := range r.Unseen {
		t.unseen[d] += r.Unseen[d]
		t.payload[d] += r.Payload[d]
		t.packets[d] += r.Packets[d]
		t.retransmitted[d] += r.Retransmitted[d]
		t.outOfOrder[d] += r.OutOfOrder[d]
		t.lostBefore[d] += r.LostBefore[d]
	}
	if encrypted(r) {
		t.encryptedFlows++
		t.encryptedUsers.add(user)
	}
	if r.DNSAge == r.DNSAge { // not NaN
		t.plainUsers.add(user)
		t.dnsAge.add(r.DNSAge)
	}
	if r.Evidence == classify.EvidenceNone.String() {
		if _, ok := t.unnamed[r.Server]; !ok && len(t.unnamed) >= maxUnnamed {
			t.unnamedRefused++
			return
		}
		t.unnamed[r.Server]++
	}
}

// TrustSection is how far to trust the rest.
type TrustSection struct {
	Notes
	Capture  *CaptureFacts   `json:"capture"`
	Evidence []EvidenceEntry `json:"evidence"`
	Figures  []Figure        `json:"figures"`
	DNSAge   Quantiles       `json:"dns_age_s"`
}

// EvidenceEntry is what flows were named by.
type EvidenceEntry struct {
	Evidence string  `json:"evidence"`
	Flows    uint64  `json:"flows"`
	Bytes    uint64  `json:"bytes"`
	Share    float64 `json:"share_of_flows"`
	Weight   float64 `json:"share_of_bytes"`
}

// Figure is a number with what it means. Of is what it is a part of, 0 where it
// stands by itself.
type Figure struct {
	Key   string `json:"key"`
	Label string `json:"label"`
	Value uint64 `json:"value"`
	Of    uint64 `json:"of"`
	Unit  string `json:"unit"`
	Means string `json:"means"`
}

func (c *Collector) trustSection() TrustSection {
	t := &c.trust
	s := TrustSection{
		Notes: Notes{
			Shows:   "What the tap did not see, and how the flows came by their names: how far everything above can be trusted.",
			How:     "From the flows themselves: what one end acknowledged and the tap never saw, flows of which one direction is missing, and the evidence behind each name.",
			Unknown: "Copies that a mirror port makes are taken out before counting where they can be told, and are not listed here. Traffic over UDP and names inside encrypted ClientHellos are out of sight altogether.",
			Remarks: []string{},
		},
		Capture: c.facts, Evidence: []EvidenceEntry{}, DNSAge: t.dnsAge.quantiles(),
	}
	var flows, bytes uint64
	for _, e := range t.evidence {
		flows, bytes = flows+e.flows, bytes+e.bytes
	}
	for e := range classify.EvidenceCount {
		x := t.evidence[e.String()]
		s.Evidence = append(s.Evidence, EvidenceEntry{e.String(), x.flows, x.bytes, share(x.flows, flows), share(x.bytes, bytes)})
	}
	users, _ := c.users.count()
	hidden, _ := t.encryptedUsers.count()
	plain, _ := t.plainUsers.count()
	known := uint64(0)
	for a, n := range t.unnamed {
		for _, k := range c.list {
			if _, ok := k.servers[a]; ok && k.key.App != classify.OtherName {
				known += n
				break
			}
		}
	}
	none := t.evidence[classify.EvidenceNone.String()].flows
	s.Figures = []Figure{
		{"named", "flows with a name", flows - none, flows, "flows", "the rest is in other/other, whatever it is"},
		{"known_unnamed", "flows without a name to servers of the apps", known, flows, "flows", "names that were asked out of sight: encrypted or cached DNS, or before the recording began"},
		{"one_sided", "flows seen in one direction only", t.oneWay, flows, "flows", "a mirror port that is missing, asymmetric routing, or servers that do not answer"},
		{"midstream", "flows met in mid-stream", t.midstream, flows, "flows", "they began before the recording, or their SYN was not captured"},
		{"cut", "flows cut off by the end of the input", t.cut, flows, "flows", "how long they lasted is not known; they are in no duration"},
		{"unseen_up", "uplink bytes acknowledged but never seen", t.unseen[0], t.payload[0] + t.unseen[0], "bytes", "lost by the capture, not by the network"},
		{"unseen_down", "downlink bytes acknowledged but never seen", t.unseen[1], t.payload[1] + t.unseen[1], "bytes", "lost by the capture, not by the network"},
		{"lost_up", "uplink segments lost before the tap", t.lostBefore[0], t.packets[0], "segments", "lost between subscriber and tap"},
		{"lost_down", "downlink segments lost before the tap", t.lostBefore[1], t.packets[1], "segments", "lost between server and tap"},
		{"again_up", "uplink segments sent again", t.retransmitted[0], t.packets[0], "segments", "of what the tap had seen: lost beyond it, or not acknowledged in time"},
		{"again_down", "downlink segments sent again", t.retransmitted[1], t.packets[1], "segments", "of what the tap had seen: lost beyond it, or not acknowledged in time"},
		{"reordered_up", "uplink segments out of order", t.outOfOrder[0], t.packets[0], "segments", "overtaken on the way to the tap, or by a mirror of two ports"},
		{"reordered_down", "downlink segments out of order", t.outOfOrder[1], t.packets[1], "segments", "overtaken on the way to the tap, or by a mirror of two ports"},
		{"dns_users", "subscribers whose DNS answers were seen and used", plain, users, "subscribers", "the others are named by TLS or by other subscribers' answers, if at all"},
		{"encrypted_users", "subscribers with encrypted DNS", hidden, users, "subscribers", "flows to port 853, or to a known resolver's name on 443: their names are invisible unless TLS shows them"},
	}
	if c.facts != nil {
		s.remark("What the capture dropped before a file was written is not read from the files; bytes that were acknowledged but never seen tell of it.")
	} else {
		s.remark("The input is flow records: how many packets the capture dropped or could not decode is not in them.")
	}
	if c.refusedServers > 0 {
		s.remark("%d flows went to addresses beyond the %d a class that are kept; counts of addresses are too low.", c.refusedServers, maxServers)
	}
	if c.refusedAPNs > 0 {
		s.remark("%d flows were of access points beyond the %d that are told apart.", c.refusedAPNs, maxAPNs)
	}
	if c.refusedClasses > 0 {
		s.remark("%d flows were of classes beyond the %d that are kept, and count as other/other.", c.refusedClasses, maxClasses)
	}
	return s
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return round(float64(part) / float64(whole))
}
