package classify

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// checkStraight holds straight, where it does not give up, to scan.
func checkStraight(t *testing.T, b []byte) (taken bool) {
	t.Helper()
	if !beginsHello(b) {
		return false
	}
	got, ok := straight(make([]byte, 0, 255), b)
	if want := scan(make([]byte, 0, 255), b); ok && !same(got, want) {
		t.Fatalf("%x: %v, want %v", b, got, want)
	}
	return ok
}

func TestStraight(t *testing.T) {
	hellos := map[string][]byte{
		"upper case, final dot":     hello(sniExtension("E5.WhatsApp.Net."), extension(21, 0)),
		"ECH before the name":       hello(extension(extensionECH, 0), sniExtension("a.net")),
		"ECH alone, without a body": hello(extension(extensionECH)),
		"an address":                hello(sniExtension("192.0.2.1")),
		"empty name":                hello(sniExtension("")),
		"no extensions":             records(handshake(suites), maxRecord),
	}
	for what, h := range realHellos(t) {
		if len(h.b) < 4000 {
			hellos[what] = h.b
		}
	}
	for what, b := range hellos {
		t.Run(what, func(t *testing.T) {
			if !checkStraight(t, b) {
				t.Error("not taken")
			}
			for n := range b {
				checkStraight(t, b[:n])
			}
			r := rand.New(rand.NewPCG(1, uint64(len(b))))
			for range 5000 {
				changed := bytes.Clone(b[:len(b)-r.IntN(2)*r.IntN(len(b))])
				for range 1 + r.IntN(2) {
					if len(changed) > 0 {
						changed[r.IntN(len(changed))] = byte(r.IntN(256) >> r.IntN(8))
					}
				}
				checkStraight(t, changed)
			}
		})
	}
}

func TestStraightGivesUp(t *testing.T) {
	for what, b := range map[string][]byte{
		"two records":         records(message(hello(sniExtension("a.net"))), 30),
		"the name twice":      hello(sniExtension("a.net"), sniExtension("a.net")),
		"two names":           hello(extension(extensionSNI, vector(2, 1, 0, 1, 'a', nameTypeHost, 0, 1, 'b')...)),
		"more than it claims": hello(extension(0, 0, 9, 0, 0, 1, 'a')),
	} {
		if checkStraight(t, b) {
			t.Errorf("%s: taken", what)
		}
	}
}

func FuzzStraight(f *testing.F) {
	for _, h := range realHellos(f) {
		if len(h.b) < 4000 {
			f.Add(h.b)
		}
	}
	f.Add(hello(extension(extensionECH, 0), sniExtension("a.net")))
	f.Fuzz(func(t *testing.T, b []byte) { checkStraight(t, b) })
}
