package report

import (
	"cmp"
	"math"
	"net/netip"

	"github.com/nametap/nametap/flows"
)

// Record is one finished flow as the report sees it. Times are packet time in
// nanoseconds, arrays are indexed by flows.Direction, and of round-trip times Up
// is the server side of the tap and Down the access side.
type Record struct {
	Start, End int64
	// Subscriber only has to tell one from the other; it may be a pseudonym.
	Subscriber netip.Addr
	Server     netip.Addr
	ServerPort uint16
	// Hidden says that Server is a pseudonym, of an address that is itself a
	// subscriber's: it counts, but is neither shown nor looked up.
	Hidden bool

	Name, SNI string
	Evidence  string
	// DNSAge is how long before the first packet the answer came, in seconds;
	// NaN without one.
	DNSAge     float64
	App, Class string

	SYNSeen   bool
	EndReason string

	Bytes, Packets, Payload   [2]uint64
	SYN, SYNACK, FIN, RST     uint64
	Retransmitted, OutOfOrder [2]uint64
	// LostBefore are segments that filled holes late (lost before the tap),
	// Unseen bytes that were acknowledged and never passed (lost by the tap).
	LostBefore, Unseen [2]uint64
	// RTTMin and RTTHandshake in seconds; NaN without a sample.
	RTTMin, RTTHandshake [2]float64

	OS, APN string
}

// FromFlow makes the Record of a flow that the engine has ended. The addresses
// are those to show: the subscriber's pseudonym, and the server's.
func FromFlow(f *flows.Record, subscriber, server netip.Addr, hidden bool) Record {
	r := Record{
		Start: f.Start, End: f.End, Subscriber: subscriber, Server: server, ServerPort: f.Key.ServerPort, Hidden: hidden,
		Name: f.Name, SNI: f.SNI, Evidence: f.Evidence, DNSAge: math.NaN(), App: f.App, Class: f.Class,
		SYNSeen: f.SYNSeen, EndReason: f.Reason.String(),
		Bytes: f.Bytes, Packets: f.Packets, Payload: f.Payload,
		SYN: uint64(f.SYN), SYNACK: uint64(f.SYNACK), FIN: uint64(f.FIN), RST: uint64(f.RST),
		OS: cmp.Or(f.OSName, f.OS.String()), APN: f.APN,
	}
	if f.DNSName != "" {
		r.DNSAge = float64(f.Start-f.DNSAnswered) / 1e9
	}
	for d := range r.Bytes {
		r.Retransmitted[d], r.OutOfOrder[d] = uint64(f.Retransmitted[d]), uint64(f.OutOfOrder[d])
		r.LostBefore[d], r.Unseen[d] = uint64(f.LostBefore[d]), uint64(f.Unseen[d])
		r.RTTMin[d], r.RTTHandshake[d] = seconds(f.RTTMin[d]), seconds(f.RTTHandshake[d])
	}
	return r
}

// seconds converts microseconds, of which NoSample is none.
func seconds(us int64) float64 {
	if us < 0 {
		return math.NaN()
	}
	return float64(us) / 1e6
}

// Duration from the first packet to the last, in seconds.
func (r *Record) Duration() float64 { return float64(r.End-r.Start) / 1e9 }

// both reports payload in both directions.
func (r *Record) both() bool { return r.Payload[flows.Up] > 0 && r.Payload[flows.Down] > 0 }

// ended reports an end that was seen or waited for. The other flows were cut off
// by the end of the trace or by a full table: how long they last is not known.
func (r *Record) ended() bool { return r.EndReason != "shutdown" && r.EndReason != "evicted" }

// whole reports a flow of which the start and the end are known.
func (r *Record) whole() bool { return r.SYNSeen && r.ended() }
