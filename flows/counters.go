package flows

// Counters add up everything that a class exports. One array of them serves
// all the tables that one goroutine owns. Index 0 of that array gathers what
// belongs to flows without a settled name; it is never exported.
type Counters struct {
	Bytes, Packets, Payload [2]uint64
	Retransmitted           [2]uint64
	LostBefore              [2]uint64
	OutOfOrder              [2]uint64
	Unseen                  [2]uint64

	SYN, SYNACK, FIN, RST uint64

	Opened      uint64 // flows
	Midstream   uint64 // flows of which no SYN was seen
	Attempts    uint64 // flows that a SYN opened
	Established uint64 // attempts whose initiator went on after its SYN
	Carried     uint64 // flows that have had payload in both directions
	OneSided    uint64 // attempts that went on after their SYN with nothing seen of the other end
	OneWay      uint64 // flows that ended with packets of one direction only

	Closed [EndReasons]uint64
	Active int64

	// RTT[Up] is the server side, RTT[Down] the access side.
	RTT        [2]Histogram
	Duration   Histogram
	Size       [2]Histogram
	Throughput [2]Histogram
	// Experience counts transfers that ended, by how long they took.
	Experience [Ratings]uint64
}

// Rating is what a user thinks of a transfer's duration.
type Rating uint8

// Ratings. In the study 50 people found transfers good up to 20 s and bad beyond
// 40 s, whatever their size.
const (
	Good Rating = iota
	Acceptable
	Bad

	// Ratings is their number.
	Ratings
)

var ratingNames = [Ratings]string{"good", "acceptable", "bad"}

// String returns the rating as metrics spell it.
func (r Rating) String() string { return ratingNames[r] }

// Where the ratings end, nanoseconds.
const (
	GoodUntil       = 20 * second
	AcceptableUntil = 40 * second
)

// RatingOf returns what a user thinks of a transfer that takes so long, in
// nanoseconds.
func RatingOf(duration int64) Rating {
	switch {
	case duration <= GoodUntil:
		return Good
	case duration <= AcceptableUntil:
		return Acceptable
	}
	return Bad
}

// MaxClasses bounds the number of classes: a class is a byte in a flow and a
// bit in a word.
const MaxClasses = 64

// Classes is one goroutine's counters by class.
type Classes [MaxClasses]Counters

// ThroughputFloor is the least number of bytes in a direction for which a
// throughput is taken: below it, slow start decides the figure.
const ThroughputFloor = 1_000_000

// Add adds o to c.
func (c *Counters) Add(o *Counters) {
	for d := range 2 {
		c.Bytes[d] += o.Bytes[d]
		c.Packets[d] += o.Packets[d]
		c.Payload[d] += o.Payload[d]
		c.Retransmitted[d] += o.Retransmitted[d]
		c.LostBefore[d] += o.LostBefore[d]
		c.OutOfOrder[d] += o.OutOfOrder[d]
		c.Unseen[d] += o.Unseen[d]
		c.RTT[d].Add(&o.RTT[d])
		c.Size[d].Add(&o.Size[d])
		c.Throughput[d].Add(&o.Throughput[d])
	}
	c.Duration.Add(&o.Duration)
	c.SYN += o.SYN
	c.SYNACK += o.SYNACK
	c.FIN += o.FIN
	c.RST += o.RST
	c.Opened += o.Opened
	c.Midstream += o.Midstream
	c.Attempts += o.Attempts
	c.Established += o.Established
	c.Carried += o.Carried
	c.OneSided += o.OneSided
	c.OneWay += o.OneWay
	for i := range c.Closed {
		c.Closed[i] += o.Closed[i]
	}
	for i := range c.Experience {
		c.Experience[i] += o.Experience[i]
	}
	c.Active += o.Active
}
