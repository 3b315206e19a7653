package ping

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

// ipv4 and ipv6 wrap a payload in headers of UDP.
func ipv4(protocol byte, fragment uint16, options int, source uint16, payload []byte) []byte {
	b := make([]byte, 20+4*options, 60)
	b[0], b[9] = 0x45+byte(options), protocol
	b[6], b[7] = byte(fragment>>8), byte(fragment)
	return append(b, udp(source, payload)...)
}

func ipv6(next byte, source uint16, payload []byte) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	return append(b, udp(source, payload)...)
}

func udp(source uint16, payload []byte) []byte {
	n := 8 + len(payload)
	return append([]byte{byte(source >> 8), byte(source), 0xc0, 1, byte(n >> 8), byte(n), 0, 0}, payload...)
}

func TestFromDNS(t *testing.T) {
	vm, err := bpf.NewVM(fromDNS)
	if err != nil {
		t.Fatal(err)
	}
	hello := []byte("hello")
	for _, test := range []struct {
		what   string
		packet []byte
		passes bool
		want   []byte
	}{
		{"IPv4", ipv4(17, 0, 0, 53, hello), true, hello},
		{"IPv4 with options", ipv4(17, 0, 3, 53, hello), true, hello},
		{"IPv4, do not fragment", ipv4(17, 0x4000, 0, 53, hello), true, hello},
		{"IPv6", ipv6(17, 53, hello), true, hello},
		{"another port", ipv4(17, 0, 0, 5353, hello), false, nil},
		{"another port, IPv6", ipv6(17, 54, hello), false, nil},
		{"TCP", ipv4(6, 0, 0, 53, hello), false, nil},
		{"TCP, IPv6", ipv6(6, 53, hello), false, nil},
		{"a later fragment", ipv4(17, 1, 0, 53, hello), false, nil},
		{"a first fragment, which is cut", ipv4(17, 0x2000, 0, 53, hello)[:30], true, nil},
		{"no IP", bytes.Repeat([]byte{0x35}, 60), false, nil},
		{"nothing", nil, false, nil},
		{"a length below the header's", func() []byte { b := ipv4(17, 0, 0, 53, hello); b[25] = 7; return b }(), true, nil},
	} {
		n, err := vm.Run(test.packet)
		if err != nil || (n > 0) != test.passes {
			t.Errorf("%s: passes %v (%v), want %v", test.what, n > 0, err, test.passes)
		}
		if test.passes && !bytes.Equal(datagram(test.packet), test.want) {
			t.Errorf("%s: payload %q, want %q", test.what, datagram(test.packet), test.want)
		}
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(ipv4(17, 0, 0, 53, []byte("x")))
	f.Add(ipv6(17, 53, []byte("x")))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = datagram(b) })
}

// TestNamesOfConnections: in another network namespace a name is asked for over
// UDP, and a connection to the address in the answer bears it.
func TestNamesOfConnections(t *testing.T) {
	ns := newNamespace(t, "ping-names")
	s := sampler(t)
	at := time.Now()
	if out := sample(t, s, at); out.Skipped.Answers > 0 {
		t.Skip("DNS answers may not be read here")
	}
	var server net.PacketConn
	var client net.Conn
	inside(t, ns, func() {
		var err error
		if server, err = net.ListenPacket("udp", "127.0.0.1:53"); err == nil {
			client, err = net.Dial("udp", "127.0.0.1:53")
		}
		if err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	defer server.Close()
	defer client.Close()
	name := "names.example"
	answer := reply(t, name, nil, name+". 1 A 127.0.0.9")
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	_, from, err := server.ReadFrom(b)
	if err == nil {
		_, err = server.WriteTo(answer, from)
	}
	if err == nil {
		_, err = client.Read(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("127.0.0.9")
	for deadline := time.Now().Add(10 * time.Second); s.names.Of(address) == ""; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the answer was not read")
		}
	}
	c, d := listenDial(t, ns, ns, "127.0.0.9:0")
	exchange(t, c, d, 2)
	local, remote := c.LocalAddr().String(), c.RemoteAddr().String()
	got := find(sample(t, s, at.Add(10*time.Second)), local, remote)
	if got == nil || got.Name != name {
		t.Fatalf("%+v", got)
	}
	// A newer answer names new connections, and no old one.
	s.names.Learn(reply(t, "newer.example", nil, "newer.example. 1 A 127.0.0.9"))
	exchange(t, c, d, 2)
	if got := find(sample(t, s, at.Add(time.Minute)), local, remote); got == nil || got.Name != name {
		t.Errorf("after a newer answer: %+v", got)
	}
	if back := find(sample(t, s, at.Add(time.Hour)), remote, local); back == nil || back.Name != "" {
		t.Errorf("the server's end: %+v", back)
	}
}
