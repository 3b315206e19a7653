package flows

import "github.com/nametap/nametap/capture/decode"

// OS is the operating system that a SYN was probably written by.
type OS uint8

// Operating systems that the shape of a SYN tells apart.
const (
	OSUnknown OS = iota // no SYN of the subscriber seen
	OSAndroid
	OSIOS
	OSWindowsPhone
	OSBlackBerry
	OSAmbiguous

	// OSes is their number.
	OSes
)

var osNames = [OSes]string{"", "android", "ios", "windows-phone", "blackberry", "ambiguous"}

// String returns the system's name in records, empty for OSUnknown.
func (o OS) String() string { return osNames[o] }

// TCP option kinds without a length octet (RFC 9293 section 3.1).
const (
	optEnd = 0
	optNop = 1
)

// Option orders, four bits an option, first option highest. The order in which
// a stack writes its SYN options is code, not configuration: it decides first;
// window and initial TTL, which are tunable, only confirm.
const (
	orderApple      = 0x2_1_3_1_1_8_4_0 // mss,nop,ws,nop,nop,ts,sok,eol
	orderLinux      = 0x2_4_8_1_3       // mss,sok,ts,nop,ws
	orderWindows    = 0x2_1_3_1_1_4     // mss,nop,ws,nop,nop,sok
	orderBlackBerry = 0x2_1_1_4_1_1_8   // mss,nop,nop,sok,nop,nop,ts
)

// FingerprintSYN names the operating system whose SYN looks like p, by the
// order of its options, then by the initial TTL (rounded up to the next power
// of two: what is left of 64 or 128 after a few hops).
func FingerprintSYN(p *decode.Packet) OS {
	far := p.TTL > 64
	switch optionOrder(p.Options()) {
	case orderApple:
		if !far {
			return OSIOS
		}
	case orderLinux:
		if !far {
			return OSAndroid
		}
	case orderWindows:
		if far && p.Window == 8192 {
			return OSWindowsPhone
		}
	case orderBlackBerry:
		if far && p.Window == 65535 {
			return OSBlackBerry
		}
	}
	return OSAmbiguous
}

// optionOrder packs the kinds of the first options, end of list included once.
func optionOrder(b []byte) uint64 {
	var order uint64
	for n := 0; len(b) > 0 && n < 16; n++ {
		kind := b[0]
		if kind > 15 {
			kind = 15
		}
		order = order<<4 | uint64(kind)
		switch {
		case kind == optEnd:
			return order
		case kind == optNop:
			b = b[1:]
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return order
		default:
			b = b[b[1]:]
		}
	}
	return order
}
