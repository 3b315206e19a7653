package dnsmap

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPlainName holds what is read eight octets at a time to what is read one by
// one, and such names to being read so.
func TestPlainName(t *testing.T) {
	const usual = "abcxyzABCXYZ0189-_"
	r := rand.New(rand.NewPCG(7, 8))
	var m, slow Message
	for i := range 50_000 {
		b := make([]byte, headerLen, 300)
		b[2], b[5] = 0x80, 1
		odd, room := r.IntN(2) == 0, maxWireName-1
		for range 1 + r.IntN(12) {
			longest := min(40, room-1)
			if longest < 1 {
				break
			}
			n := 1 + r.IntN(longest)
			room -= 1 + n
			b = append(b, byte(n))
			for range n {
				if odd && r.IntN(10) == 0 {
					b = append(b, byte(r.IntN(256)))
				} else {
					b = append(b, usual[r.IntN(len(usual))])
				}
			}
		}
		b = append(b, 0, 0, 1, 0, 1)
		b = append(b, make([]byte, r.IntN(9))...)
		if v := m.Parse(b, false); v != OK {
			t.Fatalf("%d: verdict %d for %x", i, v, b)
		}
		if want := slow.name[:slow.oddName(b)]; !bytes.Equal(m.QName, want) {
			t.Fatalf("%x: %s, want %s", b, m.QName, want)
		}
	}
	b := typicalQuestion
	if !m.plainName(b, len(b)-len("\x00\x00\x01\x00\x01\xc0\x0c\x00\x01")-firstLabel, 2) || string(m.name[:15]) != "e5.whatsapp.net" {
		t.Errorf("%q is not read as plain", b)
	}
}

// typicalQuestion is a header with a question and what follows it.
var typicalQuestion = []byte("\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" +
	"\x02E5\x08whatsapp\x03net\x00\x00\x01\x00\x01\xc0\x0c\x00\x01")
