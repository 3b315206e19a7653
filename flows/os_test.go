package flows

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// SYN options as the stacks write them.
var (
	optMSS = []byte{2, 4, 5, 0xb4}
	optWS  = []byte{3, 3, 6}
	optSOK = []byte{4, 2}
	optTS  = []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 0}
	optTFO = []byte{34, 2}
	nop    = []byte{1}
	eol    = []byte{0}
)

func options(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func TestFingerprintSYN(t *testing.T) {
	apple := options(optMSS, nop, optWS, nop, nop, optTS, optSOK, eol, eol)
	linux := options(optMSS, optSOK, optTS, nop, optWS)
	windows := options(optMSS, nop, optWS, nop, nop, optSOK)
	blackberry := options(optMSS, nop, nop, optSOK, nop, nop, optTS)
	for _, c := range []struct {
		name    string
		options []byte
		ttl     uint8
		window  uint16
		want    OS
	}{
		{"iOS", apple, 64, 65535, OSIOS},
		{"iOS, a few hops on", apple, 57, 65535, OSIOS},
		{"Apple options from too far", apple, 128, 65535, OSAmbiguous},
		{"Apple options, one end of list", apple[:len(apple)-1], 64, 65535, OSIOS},
		{"Apple options without their end", apple[:len(apple)-2], 64, 65535, OSAmbiguous},
		{"Android, 2015", linux, 64, 14600, OSAndroid},
		{"Android, later", linux, 60, 65535, OSAndroid},
		{"Linux options from too far", linux, 128, 65535, OSAmbiguous},
		{"Windows Phone", windows, 128, 8192, OSWindowsPhone},
		{"Windows Phone, a few hops on", windows, 120, 8192, OSWindowsPhone},
		{"Windows of a desk", windows, 128, 64240, OSAmbiguous},
		{"Windows options from too near", windows, 64, 8192, OSAmbiguous},
		{"BlackBerry", blackberry, 128, 65535, OSBlackBerry},
		{"BlackBerry options, another window", blackberry, 128, 8192, OSAmbiguous},
		{"none", nil, 64, 65535, OSAmbiguous},
		{"MSS alone", optMSS, 64, 65535, OSAmbiguous},
		{"Linux with an option more", options(linux, optTFO), 64, 65535, OSAmbiguous},
		{"cut in an option", linux[:5], 64, 65535, OSAmbiguous},
		{"length beyond the end", []byte{2, 40, 1, 1}, 64, 65535, OSAmbiguous},
		{"length of none", []byte{2, 0, 4, 2}, 64, 65535, OSAmbiguous},
		{"length of one", []byte{2, 1, 4, 2}, 64, 65535, OSAmbiguous},
		{"forty noes", make([]byte, 40), 64, 65535, OSAmbiguous},
		{"forty times nothing", options(nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop, nop), 64, 65535, OSAmbiguous},
	} {
		p := decode.Packet{Transport: append(make([]byte, 20), c.options...), HeaderLen: uint8(20 + len(c.options)), TTL: c.ttl, Window: c.window}
		if got := FingerprintSYN(&p); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The subscriber's SYN tells, whoever opened the connection and whenever it
// came; the server's never does.
func TestWhoseSYN(t *testing.T) {
	ios := func(p *decode.Packet) {
		p.Transport = append(make([]byte, 20), options(optMSS, nop, optWS, nop, nop, optTS, optSOK, eol)...)
		p.HeaderLen = uint8(len(p.Transport))
	}
	for _, c := range []struct {
		name string
		play func(s *scene)
		want OS
	}{
		{"subscriber", func(s *scene) { s.syn(Up, 1, ios) }, OSIOS},
		{"server", func(s *scene) { s.syn(Down, 1, ios) }, OSUnknown},
		{"subscriber's SYN/ACK", func(s *scene) { s.syn(Down, 1).synack(Up, 1, ios) }, OSUnknown},
		{"simultaneous open", func(s *scene) { s.syn(Down, 1).syn(Up, 1, ios) }, OSIOS},
		{"late", func(s *scene) { s.data(Up, 5, seq(8)).settle(chat).syn(Up, 7, ios) }, OSIOS},
		{"mid-stream", func(s *scene) { s.data(Up, 5, seq(8)) }, OSUnknown},
	} {
		s := newScene(t, 16)
		c.play(s)
		if got := s.tab.Flow(1).OS; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
