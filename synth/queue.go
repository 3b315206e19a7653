package synth

// Kinds of event.
const (
	evTap    = iota // a packet passes the tap; ref: packet
	evArrive        // a packet reaches its receiver; ref: packet
	evCopy          // the mirror port's second copy of a packet; ref: packet
	evNear          // a connection's retransmission, delayed ACK or close timer
	evApp           // a connection's next application step
	evKeep          // a connection's keep-alive, give-up or expiry
	evAct           // a subscriber does something; ref: subscriber
	evLookup        // a lookup's retry timer; ref: lookup
	evLadder        // a subscriber's next reconnect; ref: subscriber
	evDetach        // a subscriber's idle check; ref: subscriber
)

// event is one entry of the queue. Events at the same time run in the order
// in which they were scheduled, so that a seed gives one trace.
type event struct {
	at    int64
	order uint64 // count<<8 | kind
	ref   uint32
	gen   uint32 // of the connection or lookup; another one makes it stale
}

func (e event) kind() uint8 { return uint8(e.order) }

func (e event) before(o event) bool {
	return e.at < o.at || e.at == o.at && e.order < o.order
}

// queue is a four-way heap: half the levels of a binary one, and the four
// children share cache lines.
type queue struct {
	heap  []event
	count uint64
}

func (q *queue) push(at int64, kind uint8, ref, gen uint32) {
	q.count++
	e := event{at: at, order: q.count<<8 | uint64(kind), ref: ref, gen: gen}
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top := q.heap[0]
	n := len(q.heap) - 1
	e := q.heap[n]
	q.heap = q.heap[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for j := first + 1; j < min(first+4, n); j++ {
			if q.heap[j].before(q.heap[least]) {
				least = j
			}
		}
		if !q.heap[least].before(e) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	q.heap[i] = e
	return top
}
