package export

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// Summary is what `nametap analyze` says of its whole input. Its JSON is part of
// the contract.
type Summary struct {
	Capture CaptureSummary `json:"capture"`
	DNS     DNSSummary     `json:"dns"`
	Tunnels TunnelSummary  `json:"tunnels"`
	// Naming counts flows by the evidence that named them.
	Naming  map[string]uint64 `json:"naming"`
	Classes []ClassSummary    `json:"classes"`
}

// CaptureSummary is about frames. Bytes are bytes on the wire, link layer
// included; First and Last are nil for an input without a frame.
type CaptureSummary struct {
	Files     int               `json:"files"`
	Packets   uint64            `json:"packets"`
	Bytes     uint64            `json:"bytes"`
	First     *string           `json:"first"`
	Last      *string           `json:"last"`
	Truncated bool              `json:"truncated"`
	Undecoded map[string]uint64 `json:"undecoded"`
	// Decoded counts the other frames by what they were.
	Decoded map[string]uint64 `json:"decoded"`
}

// DNSSummary is about DNS responses.
type DNSSummary struct {
	Responses uint64            `json:"responses"`
	Addresses uint64            `json:"addresses"`
	Malformed uint64            `json:"malformed"`
	Rcodes    map[string]uint64 `json:"rcodes"`
}

// TunnelSummary is about GTP. Packets are those of TCP and DNS in GTP-U, Identified
// those of them whose session was known; Sessions are known at the end.
type TunnelSummary struct {
	Packets    uint64   `json:"packets"`
	Identified uint64   `json:"identified"`
	Messages   uint64   `json:"messages"` // of the control plane
	Created    uint64   `json:"sessions_created"`
	Sessions   int      `json:"sessions"`
	APNs       []string `json:"apns"`
	// AccessPoints is the TCP traffic in tunnels by access point name: those that
	// --apn names, "other" for all the rest, "unknown" where no session is known.
	// It is empty where no tunnel was seen.
	AccessPoints []AccessPointSummary `json:"access_points"`
}

// AccessPointSummary is about the tunnelled TCP segments of one access point name.
type AccessPointSummary struct {
	APN             string `json:"apn"`
	Flows           uint64 `json:"flows"`
	UplinkBytes     uint64 `json:"uplink_bytes"`
	DownlinkBytes   uint64 `json:"downlink_bytes"`
	UplinkPackets   uint64 `json:"uplink_packets"`
	DownlinkPackets uint64 `json:"downlink_packets"`
	SYN             uint64 `json:"syn"`
	SYNACK          uint64 `json:"syn_ack"`
	RST             uint64 `json:"rst"`
}

// ClassSummary is about the flows of one class.
type ClassSummary struct {
	App         string `json:"app"`
	Class       string `json:"class"`
	Flows       uint64 `json:"flows"`
	Attempts    uint64 `json:"attempts"`
	Established uint64 `json:"established"`
	// OneSided are attempts that went on with nothing seen of the other end.
	OneSided        uint64 `json:"one_sided"`
	Subscribers     int    `json:"subscribers"`
	Servers         int    `json:"servers"`
	UplinkBytes     uint64 `json:"uplink_bytes"`
	DownlinkBytes   uint64 `json:"downlink_bytes"`
	UplinkPackets   uint64 `json:"uplink_packets"`
	DownlinkPackets uint64 `json:"downlink_packets"`
	SYN             uint64 `json:"syn"`
	SYNACK          uint64 `json:"syn_ack"`
	FIN             uint64 `json:"fin"`
	RST             uint64 `json:"rst"`
	// Segments that were sent again.
	UplinkRetransmitted   uint64 `json:"uplink_retransmitted"`
	DownlinkRetransmitted uint64 `json:"downlink_retransmitted"`
}

// rcodeNames are the mnemonics of RFC 1035 and RFC 2136; others go by number.
var rcodeNames = [...]string{"noerror", "formerr", "servfail", "nxdomain", "notimp", "refused"}

// Summarize makes a Summary of the final snapshot of an engine.
func Summarize(s *probe.Snapshot, files int, truncated bool) *Summary {
	sum := &Summary{
		Capture: CaptureSummary{
			Files: files, Packets: s.Frames, Bytes: s.Bytes, Truncated: truncated,
			Undecoded: map[string]uint64{}, Decoded: map[string]uint64{},
		},
		DNS: DNSSummary{
			Responses: s.DNS.Responses, Addresses: s.DNS.Addresses, Malformed: s.DNS.Malformed,
			Rcodes: map[string]uint64{},
		},
		Tunnels: TunnelSummary{
			Packets: s.GTP.Identified + s.GTP.Anonymous, Identified: s.GTP.Identified,
			Created: s.GTP.Created, Sessions: s.GTP.Sessions, APNs: append([]string{}, s.GTP.APNNames...),
			AccessPoints: []AccessPointSummary{},
		},
		Naming:  map[string]uint64{},
		Classes: []ClassSummary{},
	}
	for _, n := range s.GTP.Messages {
		sum.Tunnels.Messages += n
	}
	slices.Sort(sum.Tunnels.APNs)
	if sum.Tunnels.Packets+sum.Tunnels.Messages > 0 {
		sum.Tunnels.AccessPoints = accessPoints(s.GTP.APNs)
	}
	if s.Frames > 0 {
		first, last := formatTime(s.First), formatTime(s.Last)
		sum.Capture.First, sum.Capture.Last = &first, &last
	}
	for o, n := range s.Outcomes {
		outcome := decode.Outcome(o)
		switch {
		case n == 0:
		case outcome.Undecoded():
			sum.Capture.Undecoded[outcome.String()] = n
		default:
			sum.Capture.Decoded[outcome.String()] = n
		}
	}
	for code, n := range s.DNS.Rcodes {
		if n > 0 {
			sum.DNS.Rcodes[rcodeName(code)] = n
		}
	}
	for e := range classify.EvidenceCount {
		sum.Naming[e.String()] = 0
	}
	for i := range s.Classes {
		sum.add(&s.Classes[i])
	}
	return sum
}

func accessPoints(list []probe.APNSnapshot) []AccessPointSummary {
	out := make([]AccessPointSummary, 0, len(list))
	for i := range list {
		a := &list[i]
		out = append(out, AccessPointSummary{
			APN: a.Name, Flows: a.Flows,
			UplinkBytes: a.Bytes[flows.Up], DownlinkBytes: a.Bytes[flows.Down],
			UplinkPackets: a.Packets[flows.Up], DownlinkPackets: a.Packets[flows.Down],
			SYN: a.SYN, SYNACK: a.SYNACK, RST: a.RST,
		})
	}
	return out
}

func rcodeName(code int) string {
	if code < len(rcodeNames) {
		return rcodeNames[code]
	}
	return fmt.Sprintf("rcode%d", code)
}

func formatTime(ns int64) string { return time.Unix(0, ns).UTC().Format(timeFormat) }

func (s *Summary) add(c *probe.ClassSnapshot) {
	for e, n := range c.Named {
		s.Naming[classify.Evidence(e).String()] += n
	}
	s.Classes = append(s.Classes, ClassSummary{
		App: c.App, Class: c.Class,
		Flows: c.Opened, Attempts: c.Attempts, Established: c.Established, OneSided: c.OneSided,
		Subscribers: c.Subscribers, Servers: c.Servers,
		UplinkBytes: c.Bytes[flows.Up], DownlinkBytes: c.Bytes[flows.Down],
		UplinkPackets: c.Packets[flows.Up], DownlinkPackets: c.Packets[flows.Down],
		SYN: c.SYN, SYNACK: c.SYNACK, FIN: c.FIN, RST: c.RST,
		UplinkRetransmitted: c.Retransmitted[flows.Up], DownlinkRetransmitted: c.Retransmitted[flows.Down],
	})
}

// WriteJSON writes the summary as one indented JSON object.
func (s *Summary) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}

// WriteTable writes the summary for a person. Classes without a flow are left
// out; columns line up whatever the numbers.
func (s *Summary) WriteTable(w io.Writer) error {
	b := &strings.Builder{}
	s.writeHead(b)
	if slices.ContainsFunc(s.Classes, func(c ClassSummary) bool { return c.Flows > 0 }) {
		s.writeClasses(b)
		s.writeAccessPoints(b)
		s.writeNaming(b)
	} else {
		s.writeNothing(b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) writeHead(b *strings.Builder) {
	c := &s.Capture
	b.WriteString(plural(c.Packets, "packet"))
	if c.Files > 0 { // else they came from no file
		fmt.Fprintf(b, " in %s", plural(uint64(c.Files), "file"))
	}
	fmt.Fprintf(b, ", %s", size(c.Bytes))
	if c.First != nil {
		first, _ := time.Parse(timeFormat, *c.First)
		last, _ := time.Parse(timeFormat, *c.Last)
		fmt.Fprintf(b, ", %s, %s UTC", span(last.Sub(first)), first.Format("2006-01-02 15:04:05"))
	}
	b.WriteString("\n")
	fmt.Fprintf(b, "%s from DNS with %s", plural(s.DNS.Responses, "answer"), plural(s.DNS.Addresses, "address"))
	if s.DNS.Malformed > 0 {
		fmt.Fprintf(b, ", %d malformed", s.DNS.Malformed)
	}
	b.WriteString("\n")
	s.writeTunnels(b)
	if len(c.Decoded) > 0 {
		fmt.Fprintf(b, "decoded: %s\n", counts(c.Decoded))
	}
	if len(c.Undecoded) > 0 {
		fmt.Fprintf(b, "not decoded: %s\n", counts(c.Undecoded))
	}
	s.writeOneDirection(b)
	b.WriteString("\n")
}

// oneInSoMany is the share of one-sided connections from which on a direction is
// taken to be missing in part, as watch's one_direction has it.
const oneInSoMany = 5

// writeOneDirection says so where one direction is missing: names and times are too
// then, and nothing else in the table tells. SYNs, their answers and RSTs alone prove
// nothing: that is what a scan, or one that was forged in somebody's name, looks like.
func (s *Summary) writeOneDirection(b *strings.Builder) {
	var all ClassSummary
	for i := range s.Classes {
		c := &s.Classes[i]
		all.Attempts, all.OneSided = all.Attempts+c.Attempts, all.OneSided+c.OneSided
		all.UplinkPackets, all.DownlinkPackets = all.UplinkPackets+c.UplinkPackets, all.DownlinkPackets+c.DownlinkPackets
		all.SYN, all.SYNACK, all.RST = all.SYN+c.SYN, all.SYNACK+c.SYNACK, all.RST+c.RST
	}
	switch {
	case all.UplinkPackets+all.DownlinkPackets <= all.SYN+all.SYNACK+all.RST:
	case all.DownlinkPackets == 0:
		b.WriteString("one direction only: nothing that servers sent is here, so no round-trip times and hardly any names; give the other file, or mirror both directions\n")
	case all.UplinkPackets == 0:
		b.WriteString("one direction only: nothing that subscribers sent is here, so no connection attempts and no names from ClientHellos; give the other file, or mirror both directions\n")
	case all.OneSided*oneInSoMany > all.Attempts:
		fmt.Fprintf(b, "part of one direction is missing: %d of %s went on with nothing seen of the other end; look whether both mirror ports deliver\n",
			all.OneSided, plural(all.Attempts, "connection attempt"))
	}
}

// mostAPNs is how many access points the table names.
const mostAPNs = 8

func (s *Summary) writeTunnels(b *strings.Builder) {
	t := &s.Tunnels
	if t.Packets+t.Messages == 0 {
		return
	}
	fmt.Fprintf(b, "%s of TCP and DNS in GTP-U, %d of them of known sessions; %s, %s, %d at the end",
		plural(t.Packets, "packet"), t.Identified, plural(t.Messages, "control message"), plural(t.Created, "session"), t.Sessions)
	if n := len(t.APNs); n > 0 {
		fmt.Fprintf(b, ", %s: %s", plural(uint64(n), "access point"), strings.Join(t.APNs[:min(n, mostAPNs)], ", "))
		if n > mostAPNs {
			b.WriteString(" …")
		}
	}
	b.WriteString("\n")
}

// writeNothing says why there are no flows.
func (s *Summary) writeNothing(b *strings.Builder) {
	c := &s.Capture
	switch {
	case c.Packets == 0:
		b.WriteString("no flows: no packets\n")
	case c.Decoded[decode.TCP.String()] > 0:
		b.WriteString("no flows: none of the TCP segments is of an open connection\n")
	case len(c.Decoded) == 0:
		b.WriteString("no flows: nothing could be decoded\n")
	default:
		b.WriteString("no flows: TCP is what nametap measures, and there is none\n")
	}
}

func (s *Summary) writeClasses(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "app/class\tflows\tattempts\testablished\tusers\tservers\tup\tdown\tSYN\tSYN/ACK\tFIN\tRST\tresent\t")
	var none []string
	for i := range s.Classes {
		c := &s.Classes[i]
		name := c.App + "/" + c.Class
		if c.Flows == 0 {
			none = append(none, name)
			continue
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", name,
			c.Flows, c.Attempts, c.Established, c.Subscribers, c.Servers,
			size(c.UplinkBytes), size(c.DownlinkBytes), c.SYN, c.SYNACK, c.FIN, c.RST,
			c.UplinkRetransmitted+c.DownlinkRetransmitted)
	}
	_ = t.Flush() // a strings.Builder takes everything
	if len(none) > 0 {
		fmt.Fprintf(b, "no flows: %s\n", strings.Join(none, ", "))
	}
}

// writeAccessPoints writes those that had traffic.
func (s *Summary) writeAccessPoints(b *strings.Builder) {
	list := slices.DeleteFunc(slices.Clone(s.Tunnels.AccessPoints), func(a AccessPointSummary) bool {
		return a.UplinkPackets+a.DownlinkPackets == 0
	})
	if len(list) == 0 {
		return
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "access point\tflows\tup\tdown\tSYN\tSYN/ACK\tRST\t")
	for i := range list {
		a := &list[i]
		_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\t%d\t%d\t\n", a.APN, a.Flows,
			size(a.UplinkBytes), size(a.DownlinkBytes), a.SYN, a.SYNACK, a.RST)
	}
	_ = t.Flush() // a strings.Builder takes everything
}

func (s *Summary) writeNaming(b *strings.Builder) {
	var parts []string
	for e := range classify.EvidenceCount {
		if n := s.Naming[e.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", e, n))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "\nflows named by: %s\n", strings.Join(parts, ", "))
	}
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// counts lists reasons by name.
func counts(m map[string]uint64) string {
	var parts []string
	for o := range decode.Outcomes {
		if n := m[o.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", o, n))
		}
	}
	return strings.Join(parts, ", ")
}

// size writes bytes with a decimal prefix and three digits.
func size(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, 0
	for v >= 999.5 && unit < len(units)-1 {
		v /= 1000
		unit++
	}
	digits := 2
	for limit := 9.995; digits > 0 && v >= limit; limit = limit*10 + 0.05 {
		digits--
	}
	return fmt.Sprintf("%.*f %cB", digits, v, units[unit])
}

// span writes a duration: the longer, the coarser.
func span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.String()
	case d < time.Minute:
		return d.Round(time.Millisecond).String()
	case d >= 24*time.Hour:
		hours := int64(d.Round(time.Hour) / time.Hour)
		return fmt.Sprintf("%d d %d h", hours/24, hours%24)
	}
	return d.Round(time.Second).String()
}
