package flows

import (
	"cmp"

	"github.com/nametap/nametap/capture/decode"
)

// NoSample stands for a round-trip time of which there is no sample.
const NoSample = -1

// Record is what is known of a flow at its end, in the terms of the flow
// record that the contract with the outside describes. Times are packet time
// in nanoseconds, round-trip times microseconds (NoSample without a sample);
// arrays are indexed by Direction, and of round-trip times Up is the server
// side of the tap and Down the access side.
type Record struct {
	Key        Key
	Start, End int64

	Name, DNSName, SNI string
	Evidence           string
	// DNSAnswered is when the answer behind DNSName came; valid with a
	// DNSName.
	DNSAnswered int64
	App, Class  string
	Transfer    bool // the class is one of transfers, which are scored

	SYNSeen, Established bool
	Reason               EndReason

	Packets, Bytes, Payload   [2]uint64
	SYN, SYNACK, FIN, RST     uint32
	Retransmitted, OutOfOrder [2]uint32
	LostBefore, Unseen        [2]uint32
	RTTHandshake              [2]int64
	RTTMin                    [2]int64
	RTTMean                   [2]float64
	RTTSamples                [2]uint32

	// OS is what the SYN looks like; OSName, where it is set, what the
	// device's type allocation code says, which is stronger.
	OS     OS
	OSName string
	Tunnel decode.Tunnel

	// Identity of the subscriber, where a control plane tells it: APN in
	// clear, IMSI as a keyed hash, TAC (type allocation code of the device)
	// in clear. Empty where it is not known.
	APN, IMSI, TAC string
}

// Record returns what the flow itself knows of a Record; names, class and
// identity are the caller's to add.
func (f Flow) Record() Record {
	r := Record{
		Key: f.Key, Start: f.Start, End: f.Last, Reason: f.Reason,
		SYNSeen: f.SYNSeen(), Established: f.Established(),
		DNSAnswered: f.DNSAnswered,
		SYN:         f.SYNs, SYNACK: f.SYNACKs, FIN: f.FINs, RST: f.RSTs,
		OS: f.OS, Tunnel: f.Tunnel,
	}
	for d := range f.Half {
		h, loss := &f.Half[d], &f.Loss[d]
		r.Packets[d] = uint64(h.Packets)
		r.Bytes[d] = f.Bytes(Direction(d))
		r.Payload[d] = f.Payload(Direction(d))
		r.Retransmitted[d] = loss.Retransmitted
		r.OutOfOrder[d] = loss.OutOfOrder
		r.LostBefore[d] = loss.LostBefore
		r.Unseen[d] = f.Unseen[d]
		r.RTTSamples[d] = h.RTTCount
		r.RTTHandshake[d] = int64(f.Handshake[d]) - 1
		r.RTTMin[d], r.RTTMean[d] = NoSample, NoSample
		if h.RTTCount > 0 {
			r.RTTMin[d] = int64(h.RTTMin)
			r.RTTMean[d] = f.RTTMean(Direction(d))
		}
	}
	return r
}

// Order is where a record stands among others: by end, then start, then 5-tuple
// and scope.
type Order struct {
	End, Start int64
	Key        Key
}

// Order returns the record's place.
func (r *Record) Order() Order { return Order{r.End, r.Start, r.Key} }

// Compare orders two records as they are written.
func (o *Order) Compare(p *Order) int {
	return cmp.Or(
		cmp.Compare(o.End, p.End),
		cmp.Compare(o.Start, p.Start),
		o.Key.Subscriber.Compare(p.Key.Subscriber),
		o.Key.Server.Compare(p.Key.Server),
		cmp.Compare(o.Key.SubscriberPort, p.Key.SubscriberPort),
		cmp.Compare(o.Key.ServerPort, p.Key.ServerPort),
		cmp.Compare(o.Key.Scope, p.Key.Scope),
	)
}

// Synchronized reports whether the SYN of direction d passed, so that stream
// offsets count from the first byte of the stream.
func (f *Hot) Synchronized(d Direction) bool { return f.Half[d].bits&halfISS != 0 }

// Live reports whether the record holds a flow at all.
func (f *Hot) Live() bool { return f.state != stateFree }

// Cap returns the most records the table can hold.
func (t *Table) Cap() int { return t.cfg.Flows }
