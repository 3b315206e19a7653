package decode

// Outcome is what became of one frame. Every frame ends in exactly one.
type Outcome uint8

// Outcomes. Those up to Held are what ordinary traffic gives; those after it
// are the reasons why a frame, or the packet in it, could not be used.
const (
	// TCP: a whole TCP segment; all TCP fields of the Packet are valid.
	TCP Outcome = iota
	// UDP: a whole UDP datagram.
	UDP
	// OtherIP: an IP packet of another protocol (ICMP, ESP, SCTP …).
	OtherIP
	// Held: a fragment whose packet is not whole yet, or the repeat of one.
	Held

	// NotIP: the frame carries no IP (ARP, LLDP, spanning tree …). A tunnel
	// without IP in it is the UDP or OtherIP packet that it looks like.
	NotIP
	// LinkType: a link type that we do not know.
	LinkType
	// CutFrame: the capture ends before the headers do.
	CutFrame
	// BadLink: a link-layer header that contradicts itself.
	BadLink
	// BadIP: an IP header that contradicts itself or its frame.
	BadIP
	// BadTransport: a TCP or UDP header that contradicts its packet.
	BadTransport
	// BadTunnel: a tunnel header that contradicts its packet.
	BadTunnel
	// TooDeep: more nested headers than any sane network has.
	TooDeep
	// BadFragment: fragments that overlap, exceed 65,535 bytes or
	// contradict each other (RFC 5722, RFC 8200 section 4.5).
	BadFragment
	// FragmentTable: a fragment dropped because the table of unfinished
	// packets has no room for its packet at all. What is merely pushed out
	// by newer packets shows in FragmentStats.
	FragmentTable

	// Outcomes is their number.
	Outcomes
)

var outcomeNames = [Outcomes]string{
	TCP: "tcp", UDP: "udp", OtherIP: "other_ip", Held: "fragment_held",
	NotIP: "not_ip", LinkType: "link_type", CutFrame: "cut_frame",
	BadLink: "bad_link", BadIP: "bad_ip", BadTransport: "bad_transport",
	BadTunnel: "bad_tunnel", TooDeep: "too_deep",
	BadFragment: "bad_fragment", FragmentTable: "fragment_table_full",
}

// String returns the outcome's name in metrics and summaries.
func (o Outcome) String() string { return outcomeNames[o] }

// Undecoded reports whether o is a reason why a frame could not be used.
func (o Outcome) Undecoded() bool { return o > Held }
