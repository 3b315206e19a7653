package classify

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// dialled returns what a client of crypto/tls sends first.
func dialled(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, config).Handshake() // the server hangs up on it
	}()
	var b []byte
	for {
		record := make([]byte, recordHeader)
		if _, err := io.ReadFull(server, record); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint16(record[3:]))
		if _, err := io.ReadFull(server, body); err != nil {
			t.Fatal(err)
		}
		b = append(append(b, record...), body...)
		if m := message(b); len(m) >= messageHeader && len(m) == messageHeader+int(binary.BigEndian.Uint32(append([]byte{0}, m[1:4]...))) {
			break
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	return b
}

// message takes the records away.
func message(b []byte) (m []byte) {
	for len(b) >= recordHeader {
		n := recordHeader + int(binary.BigEndian.Uint16(b[3:]))
		m = append(m, b[recordHeader:n]...)
		b = b[n:]
	}
	return m
}

// records cuts a message into records of n bytes.
func records(m []byte, n int) (b []byte) {
	for len(m) > 0 {
		k := min(n, len(m))
		b = append(b, recordHandshake, 3, 1, byte(k>>8), byte(k))
		b = append(b, m[:k]...)
		m = m[k:]
	}
	return b
}

func vector(size int, body ...byte) []byte {
	b := make([]byte, size, size+len(body))
	for i, n := size-1, len(body); i >= 0; i, n = i-1, n>>8 {
		b[i] = byte(n)
	}
	return append(b, body...)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func extension(kind uint16, body ...byte) []byte {
	return cat([]byte{byte(kind >> 8), byte(kind)}, vector(2, body...))
}

func sniExtension(name string) []byte {
	return extension(extensionSNI, vector(2, cat([]byte{nameTypeHost}, vector(2, []byte(name)...))...)...)
}

// handshake builds a ClientHello message of what follows the random.
func handshake(rest ...[]byte) []byte {
	body := cat(append([][]byte{{3, 3}, bytes.Repeat([]byte{0xaa}, 32)}, rest...)...)
	return cat([]byte{messageHello}, vector(3, body...))
}

var suites = cat(vector(1), vector(2, 0x13, 0x01), vector(1, 0))

// hello is one record with a ClientHello with the extensions given.
func hello(extensions ...[]byte) []byte {
	return records(handshake(suites, vector(2, cat(extensions...)...)), maxRecord)
}

func echConfigList(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := cat([]byte{7, 0, 0x20}, vector(2, key.PublicKey().Bytes()...), vector(2, 0, 1, 0, 1), []byte{64}, vector(1, []byte("front.example")...), vector(2))
	return vector(2, cat([]byte{0xfe, 0x0d}, vector(2, contents...))...)
}

func alpn(bytes int) (list []string) {
	for n := 0; n < bytes; n += 201 {
		list = append(list, strings.Repeat("p", 200))
	}
	return list
}

func realHellos(t testing.TB) map[string]struct {
	b    []byte
	want Hello
} {
	type hello = struct {
		b    []byte
		want Hello
	}
	name := "media-mxp1-1.cdn.whatsapp.net"
	done := Hello{State: HelloDone, SNI: []byte(name)}
	all := map[string]hello{
		"default, post-quantum": {dialled(t, &tls.Config{ServerName: name}), done},
		"tls 1.2":               {dialled(t, &tls.Config{ServerName: name, MaxVersion: tls.VersionTLS12}), done},
		"classic key share":     {dialled(t, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}), done},
		"upper case":            {dialled(t, &tls.Config{ServerName: strings.ToUpper(name)}), done},
		"8 KB of ALPN":          {dialled(t, &tls.Config{ServerName: name, NextProtos: alpn(8000)}), done},
		"two records":           {dialled(t, &tls.Config{ServerName: name, NextProtos: alpn(20000)}), done},
		"no name":               {dialled(t, &tls.Config{InsecureSkipVerify: true}), Hello{State: HelloDone}}, //nolint:gosec // nothing is verified here
		"address for a name":    {dialled(t, &tls.Config{ServerName: "192.0.2.1"}), Hello{State: HelloDone}},  // crypto/tls leaves it out
		"encrypted":             {dialled(t, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigList(t)}), Hello{State: HelloDone, ECH: true}},
	}
	return all
}

func same(a, b Hello) bool {
	return a.State == b.State && a.ECH == b.ECH && string(a.SNI) == string(b.SNI)
}

func TestRealHellos(t *testing.T) {
	for what, tt := range realHellos(t) {
		t.Run(what, func(t *testing.T) {
			t.Logf("%d bytes", len(tt.b))
			checkHello(t, tt.b, tt.want)
			m := message(tt.b)
			for _, n := range []int{1, 3, 64, 1000} {
				if len(m)/n < 4000 {
					checkHello(t, records(m, n), tt.want)
				}
			}
		})
	}
}

// checkHello holds a whole hello to what it tells, and each of its prefixes to
// telling nothing before its time.
func checkHello(t *testing.T, b []byte, want Hello) {
	t.Helper()
	dst := make([]byte, 0, 255)
	if got := ClientHello(dst, b); !same(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if got := ClientHello(dst, append(bytes.Clone(b), 0x17, 3, 3, 0, 1, 0)); !same(got, want) {
		t.Errorf("with early data behind it: %v", got)
	}
	step := 1 + len(b)/800
	found := false
	for n := 0; n < len(b); n += step {
		if got := ClientHello(dst, b[:n]); got.State != HelloNeed || got.SNI != nil {
			t.Fatalf("%d of %d bytes: %v", n, len(b), got)
		}
		sni, ech := PartialSNI(dst, b[:n])
		if ech && !want.ECH {
			t.Fatalf("%d of %d bytes: ECH", n, len(b))
		}
		if found && !ech && len(sni) == 0 {
			t.Fatalf("%d of %d bytes: the name is gone again", n, len(b))
		}
		if len(sni) > 0 && !want.ECH && string(sni) != string(want.SNI) {
			t.Fatalf("%d of %d bytes: name %q", n, len(b), sni)
		}
		found = len(sni) > 0
	}
	sni, ech := PartialSNI(dst, b)
	if string(sni) != string(want.SNI) || ech != want.ECH {
		t.Errorf("whole, as partial: %q, %v", sni, ech)
	}
}

func TestPartialSNIStartsWithTheExtension(t *testing.T) {
	b := hello(extension(0x0a0a), sniExtension("e5.whatsapp.net"), extension(0x0a0a, make([]byte, 100)...), extension(extensionECH, 1))
	end := bytes.Index(b, []byte("e5.whatsapp.net")) + len("e5.whatsapp.net")
	ech := len(b) - 5 // of type, length and body only the type must be there
	for n := range len(b) {
		sni, gotECH := PartialSNI(nil, b[:n])
		want := ""
		if n >= end && n < ech+2 {
			want = "e5.whatsapp.net"
		}
		if string(sni) != want || gotECH != (n >= ech+2) {
			t.Fatalf("%d of %d bytes: %q, ECH %v; want %q", n, len(b), sni, gotECH, want)
		}
	}
}

func TestHandmadeHellos(t *testing.T) {
	name := "e5.whatsapp.net"
	done := func(sni string) Hello { return Hello{State: HelloDone, SNI: []byte(sni)} }
	ech := Hello{State: HelloDone, ECH: true}
	broken := Hello{State: HelloBroken}
	notTLS := Hello{State: HelloNotTLS}
	need := Hello{State: HelloNeed}
	good := hello(sniExtension(name))
	with := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	longest := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "abc" // 253
	for _, tt := range []struct {
		what string
		b    []byte
		want Hello
	}{
		{"plain", good, done(name)},
		{"SSL 3.0 record", with(2, 0), done(name)},
		{"minor version of TLS 1.3", with(2, 4), done(name)},
		{"no extensions at all", records(handshake(suites), maxRecord), done("")},
		{"empty list of extensions", hello(), done("")},
		{"session id", records(handshake(vector(1, make([]byte, 32)...), vector(2, 0x13, 1), vector(1, 0), vector(2, sniExtension(name)...)), maxRecord), done(name)},
		{"other message behind it in the record", records(cat(message(good), []byte{16, 0, 0, 1, 0}), maxRecord), done(name)},
		{"other extensions around", hello(extension(43, 2, 3, 4), sniExtension(name), extension(0xff01, 0)), done(name)},

		{"upper case", hello(sniExtension("E5.WhatsApp.Net")), done(name)},
		{"final dot", hello(sniExtension(name + ".")), done(name)},
		{"two final dots", hello(sniExtension(name + "..")), done("")},
		{"a dot alone", hello(sniExtension(".")), done("")},
		{"empty name", hello(sniExtension("")), done("")},
		{"empty label", hello(sniExtension("e5..whatsapp.net")), done("")},
		{"leading dot", hello(sniExtension(".whatsapp.net")), done("")},
		{"NUL inside", hello(sniExtension("e5.whatsapp.net\x00.example.com")), done("")},
		{"space", hello(sniExtension("e5 .whatsapp.net")), done("")},
		{"beyond ASCII", hello(sniExtension("e5.wh\xc3\xa4tsapp.net")), done("")},
		{"IPv4 address", hello(sniExtension("192.0.2.1")), done("")},
		{"IPv6 address", hello(sniExtension("2001:db8::1")), done("")},
		{"digits before letters", hello(sniExtension("1.2.3.4.in-addr.arpa")), done("1.2.3.4.in-addr.arpa")},
		{"underscore", hello(sniExtension("_dns.example.com")), done("_dns.example.com")},
		{"single label", hello(sniExtension("localhost")), done("localhost")},
		{"longest name", hello(sniExtension(longest)), done(longest)},
		{"longest name and dot", hello(sniExtension(longest + ".")), done(longest)},
		{"name too long", hello(sniExtension(longest + "d")), done("")},
		{"much too long", hello(sniExtension(strings.Repeat("a.", 4000) + "net")), done("")},
		{"longest label", hello(sniExtension(strings.Repeat("a", 63) + ".net")), done(strings.Repeat("a", 63) + ".net")},
		{"label too long", hello(sniExtension(strings.Repeat("a", 64) + ".net")), done("")},

		{"name of another type before", hello(extension(0, vector(2, cat([]byte{9}, vector(2, 'x', 'y'), []byte{0}, vector(2, []byte(name)...))...)...)), done(name)},
		{"name of another type alone", hello(extension(0, vector(2, cat([]byte{9}, vector(2, []byte(name)...))...)...)), done("")},
		{"two host names: the first", hello(extension(0, vector(2, cat([]byte{0}, vector(2, []byte(name)...), []byte{0}, vector(2, []byte("x.org")...))...)...)), done(name)},
		{"two host names, the first is none", hello(extension(0, vector(2, cat([]byte{0}, vector(2, '!'), []byte{0}, vector(2, []byte("x.org")...))...)...)), done("")},
		{"empty list of names", hello(extension(0, 0, 0)), done("")},

		{"ECH", hello(sniExtension("front.example"), extension(extensionECH, 0, 0, 1)), ech},
		{"ECH first", hello(extension(extensionECH, 0, 0, 1), sniExtension("front.example")), ech},
		{"ECH, empty", hello(extension(extensionECH), sniExtension("front.example")), ech},
		{"ECH without a name", hello(extension(extensionECH, 1)), ech},
		{"ECH in a name's bytes only", hello(sniExtension("a.net"), extension(21, 0xfe, 0x0d, 0, 0)), done("a.net")},

		{"name extension twice", hello(sniExtension(name), sniExtension("x.org")), broken},
		{"name extension empty", hello(extension(0)), broken},
		{"name list longer than its extension", hello(extension(0, 0, 9, 0, 0, 1, 'a')), broken},
		{"name list shorter than its extension", hello(extension(0, 0, 4, 0, 0, 1, 'a', 0)), broken},
		{"name longer than its list", hello(extension(0, 0, 4, 0, 0, 2, 'a')), broken},
		{"extension longer than the message", records(handshake(suites, vector(2, 0, 9, 0, 5, 1)), maxRecord), broken},
		{"extensions longer than the message", records(handshake(suites, []byte{0, 9, 0, 9, 0, 0}), maxRecord), broken},
		{"extensions shorter than the message", records(handshake(suites, vector(2), []byte{0}), maxRecord), broken},
		{"half a length of extensions", records(handshake(suites, []byte{0}), maxRecord), broken},
		{"message ends in the random", records(cat([]byte{1}, vector(3, 3, 3, 1)), maxRecord), broken},
		{"empty message", records([]byte{1, 0, 0, 0}, maxRecord), broken},
		{"session id beyond the message", records(handshake([]byte{200, 1}), maxRecord), broken},
		{"empty record in between", cat(records(message(good)[:20], maxRecord), []byte{22, 3, 1, 0, 0}, records(message(good)[20:], maxRecord)), broken},
		{"alert in between", cat(records(message(good)[:20], maxRecord), []byte{21, 3, 1, 0, 2, 1, 0}), broken},
		{"one byte of an alert in between", cat(records(message(good)[:20], maxRecord), []byte{21}), broken},
		{"second record too long", cat(records(message(good)[:20], maxRecord), []byte{22, 3, 1, 0x40, 1}), broken},

		{"nothing", nil, need},
		{"message longer than will ever come", cat([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}), need},
		{"application data", with(0, 23), notTLS},
		{"alert", with(0, 21), notTLS},
		{"server hello", with(5, 2), notTLS},
		{"hello request", with(5, 0), notTLS},
		{"version 2", with(1, 2), notTLS},
		{"version 3.5", with(2, 5), notTLS},
		{"empty first record", []byte{22, 3, 1, 0, 0}, notTLS},
		{"first record too long", []byte{22, 3, 1, 0x40, 1}, notTLS},
		{"DTLS", []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1}, notTLS},
		{"SSL 2 form of a hello", []byte{0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10}, notTLS},
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), notTLS},
		{"chat, 2012", []byte("WA\x01\x05\x00\x00"), notTLS},
		{"chat, today", []byte("ED\x00\x01"), notTLS},
		{"one byte of chat", []byte("E"), notTLS},
	} {
		t.Run(tt.what, func(t *testing.T) {
			before := bytes.Clone(tt.b)
			got := ClientHello(make([]byte, 0, 255), tt.b)
			if !same(got, tt.want) {
				t.Errorf("got %v %q, want %v %q", got, got.SNI, tt.want, tt.want.SNI)
			}
			if !bytes.Equal(before, tt.b) {
				t.Error("the input was changed")
			}
			if tt.want.State == HelloDone && len(tt.b) > 0 && len(message(tt.b)) < 1000 {
				for _, n := range []int{1, 4, 9} {
					if got := ClientHello(nil, records(message(tt.b), n)); !same(got, tt.want) {
						t.Errorf("in records of %d: %v", n, got)
					}
				}
			}
		})
	}
}

// A snap length may cut a hello of another kind too: what is broken or no TLS
// has no name, however much of one there is.
func TestPartialSNIOfNoHello(t *testing.T) {
	for what, b := range map[string][]byte{
		"broken behind the name": records(handshake(suites, vector(2, sniExtension("a.net")...), []byte{0}), maxRecord),
		"no TLS":                 []byte("GET / HTTP/1.1\r\nHost: a.net"),
		"nothing":                nil,
	} {
		if sni, ech := PartialSNI(nil, b); sni != nil || ech {
			t.Errorf("%s: %q, %v", what, sni, ech)
		}
	}
}

func TestHelloAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 255)
	for what, b := range map[string][]byte{
		"good":   dialled(t, &tls.Config{ServerName: "e5.whatsapp.net"}),
		"large":  dialled(t, &tls.Config{ServerName: "e5.whatsapp.net", NextProtos: alpn(12000)}),
		"cut":    hello(sniExtension("e5.whatsapp.net"))[:60],
		"broken": hello(extension(0, 0, 9, 0, 0, 1, 'a')),
		"chat":   []byte("WA\x01\x05"),
	} {
		if n := testing.AllocsPerRun(100, func() {
			ClientHello(buf, b)
			PartialSNI(buf, b)
		}); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
		// A caller's buffer on the stack must stay there.
		if n := testing.AllocsPerRun(100, func() {
			var dst [255]byte
			if h := ClientHello(dst[:0], b); h.State == HelloDone && len(h.SNI) == 0 {
				t.Error("no name")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations with a buffer on the stack", what, n)
		}
	}
}

// bytesConn is a connection on which b arrives and nothing else happens.
type bytesConn struct{ r *bytes.Reader }

func (c bytesConn) Read(p []byte) (int, error)     { return c.r.Read(p) }
func (bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (bytesConn) Close() error                     { return nil }
func (bytesConn) LocalAddr() net.Addr              { return nil }
func (bytesConn) RemoteAddr() net.Addr             { return nil }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }

var errSeen = errors.New("seen")

// accepted asks crypto/tls for the server name of a hello.
func accepted(b []byte) (name string, ok bool) {
	config := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, errSeen
	}}
	_ = tls.Server(bytesConn{bytes.NewReader(b)}, config).Handshake() // always fails: the hello is all that comes
	return name, ok
}

// FuzzClientHello holds the scanner to its own promises on any bytes, and to
// crypto/tls where that accepts them.
func FuzzClientHello(f *testing.F) {
	for _, h := range realHellos(f) {
		if len(h.b) < 4000 {
			f.Add(h.b, uint16(100))
		}
	}
	f.Add(hello(sniExtension("E5.WhatsApp.Net."), extension(21, 0)), uint16(60))
	f.Add(records(handshake(suites, vector(2, sniExtension("a.net")...)), 7), uint16(33))
	f.Add(hello(extension(extensionECH, 0), sniExtension("a.net")), uint16(57))
	f.Add(hello(sniExtension("a.net"), sniExtension("a.net")), uint16(3))
	f.Add([]byte("WA\x01\x05"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		before := bytes.Clone(b)
		whole := ClientHello(make([]byte, 0, 255), b)
		if !bytes.Equal(before, b) {
			t.Fatal("the input was changed")
		}
		if len(whole.SNI) > 0 && (whole.State != HelloDone || whole.ECH || !validHost(whole.SNI)) {
			t.Fatalf("name %q in %v", whole.SNI, whole)
		}
		prefix := b[:min(int(cut), len(b))]
		if early := ClientHello(nil, prefix); early.State != HelloNeed && !same(early, whole) {
			t.Fatalf("%v after %d bytes, %v after %d", early, len(prefix), whole, len(b))
		}
		sni, ech := PartialSNI(nil, prefix)
		if ech && len(sni) > 0 || len(sni) > 0 && !validHost(sni) {
			t.Fatalf("partial name %q, ECH %v", sni, ech)
		}
		if whole.State == HelloDone && !whole.ECH && len(sni) > 0 && !bytes.Equal(sni, whole.SNI) {
			t.Fatalf("partial name %q, whole %q", sni, whole.SNI)
		}
		name, ok := accepted(b)
		if !ok || b[1] != 3 || b[2] > 4 { // crypto/tls lets other record versions pass
			return
		}
		if whole.State != HelloDone {
			t.Fatalf("crypto/tls accepts it, we say %v", whole)
		}
		want := lowerASCII(name)
		if !validHost(want) || whole.ECH {
			want = ""
		}
		if string(whole.SNI) != want {
			t.Fatalf("name %q, crypto/tls has %q", whole.SNI, name)
		}
	})
}

func BenchmarkClientHello(b *testing.B) {
	for _, bench := range []struct {
		what string
		b    []byte
	}{
		{"post-quantum", dialled(b, &tls.Config{ServerName: "media-mxp1-1.cdn.whatsapp.net"})},
		{"chat", []byte("ED\x00\x01\x00\x00\x00\x00\x00")},
	} {
		b.Run(fmt.Sprintf("%s-%d", bench.what, len(bench.b)), func(b *testing.B) {
			dst := make([]byte, 0, 255)
			b.ReportAllocs()
			for b.Loop() {
				ClientHello(dst, bench.b)
			}
		})
	}
}
