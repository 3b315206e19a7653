package synth

import (
	"encoding/binary"
	"slices"
	"time"
)

// Options of a SYN in the order in which a stack writes them (facts that p0f
// and others have measured since 2000: the order tells systems apart).
const (
	optMSS = iota
	optSACK
	optTimestamp
	optNop
	optScale
	optEnd
)

// stack is the TCP of an operating system at a time.
type stack struct {
	options  []byte
	window   uint16 // in the SYN
	receive  uint32 // bytes announced once connected
	scale    uint8
	ttl      uint8
	ecn      bool          // ECN set-up SYN (RFC 3168 section 6.1.1)
	clock    time.Duration // tick of the timestamp option
	delayed  time.Duration // longest delay of an ACK
	initial  uint32        // initial congestion window in segments
	portFrom uint16        // ephemeral ports
	portTo   uint16
}

var (
	androidOrder = []byte{optMSS, optSACK, optTimestamp, optNop, optScale}
	appleOrder   = []byte{optMSS, optNop, optScale, optNop, optNop, optTimestamp, optSACK, optEnd}
	windowsOrder = []byte{optMSS, optNop, optScale, optNop, optNop, optSACK}
	berryOrder   = []byte{optMSS, optNop, optNop, optSACK, optNop, optNop, optTimestamp}
)

var stacks = map[string]*stack{
	"android-2014": {
		options: androidOrder, window: 14600, receive: 131072, scale: 4, ttl: 64,
		clock: 10 * time.Millisecond, delayed: 40 * time.Millisecond, initial: 10, portFrom: 32768, portTo: 61000,
	},
	"android-2020": {
		options: androidOrder, window: 65535, receive: 262144, scale: 8, ttl: 64,
		clock: time.Millisecond, delayed: 40 * time.Millisecond, initial: 10, portFrom: 32768, portTo: 61000,
	},
	"ios-2014": {
		options: appleOrder, window: 65535, receive: 131072, scale: 4, ttl: 64,
		clock: time.Millisecond, delayed: 100 * time.Millisecond, initial: 4, portFrom: 49152, portTo: 65535,
	},
	"ios-2018": {
		options: appleOrder, window: 65535, receive: 131072, scale: 6, ttl: 64, ecn: true,
		clock: time.Millisecond, delayed: 100 * time.Millisecond, initial: 10, portFrom: 49152, portTo: 65535,
	},
	"windows-phone": {
		options: windowsOrder, window: 8192, receive: 65536, scale: 8, ttl: 128,
		delayed: 200 * time.Millisecond, initial: 4, portFrom: 49152, portTo: 65535,
	},
	"blackberry": {
		options: berryOrder, window: 65535, receive: 65535, ttl: 128,
		clock: 500 * time.Millisecond, delayed: 200 * time.Millisecond, initial: 3, portFrom: 49152, portTo: 65535,
	},
}

// serverStack is a server's, which offers only what the client has offered.
var serverStack = &stack{
	options: androidOrder, window: 28960, receive: 131072, scale: 7, ttl: 64,
	clock: time.Millisecond, delayed: 40 * time.Millisecond, initial: 10,
}

func stackNames() []string {
	var names []string
	for n := range stacks {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (s *stack) has(option byte) bool { return slices.Contains(s.options, option) }

// synOptions writes the options of a SYN, or of a SYN/ACK that leaves out
// what peer has not offered, to b and returns their length, a multiple of 4.
func (s *stack) synOptions(b []byte, mss uint16, tsval, tsecr uint32, peer *stack) int {
	order := s.options
	if peer != nil && !peer.has(optTimestamp) {
		order = []byte{optMSS, optNop, optNop, optSACK, optNop, optScale}
	}
	unscaled := peer != nil && !peer.has(optScale)
	n := 0
	for i, o := range order {
		switch o {
		case optMSS:
			b[n], b[n+1] = 2, 4
			binary.BigEndian.PutUint16(b[n+2:], mss)
			n += 4
		case optSACK:
			b[n], b[n+1] = 4, 2
			n += 2
		case optTimestamp:
			b[n], b[n+1] = 8, 10
			binary.BigEndian.PutUint32(b[n+2:], tsval)
			binary.BigEndian.PutUint32(b[n+6:], tsecr)
			n += 10
		case optNop:
			if i+1 < len(order) && order[i+1] == optScale && unscaled {
				continue // there is nothing to align
			}
			b[n] = 1
			n++
		case optScale:
			if unscaled {
				continue
			}
			b[n], b[n+1], b[n+2] = 3, 3, s.scale
			n += 3
		case optEnd:
			b[n] = 0
			n++
		}
	}
	for ; n%4 != 0; n++ {
		if order[len(order)-1] == optEnd {
			b[n] = 0
		} else {
			b[n] = 1
		}
	}
	return n
}
