package gtp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// Small builders, one a protocol: they write what the parsers read, and nothing
// of them is used outside of tests.

func ip(s string) Addr {
	a := netip.MustParseAddr(s).As16()
	return addrFrom16(a[:])
}

func raw(s string) []byte {
	a := netip.MustParseAddr(s)
	return a.AsSlice()
}

func be16(v int) []byte    { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func tbcd(digits string) (b []byte) {
	for i := 0; i < len(digits); i += 2 {
		o := digits[i] - '0'
		if i+1 < len(digits) {
			o |= (digits[i+1] - '0') << 4
		} else {
			o |= 0xf0
		}
		b = append(b, o)
	}
	return b
}

func labels(name string) (b []byte) {
	start := 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			b = append(b, byte(i-start))
			b = append(b, name[start:i]...)
			start = i + 1
		}
	}
	return b
}

func digits(s string) Digits { return digitsFromTBCD(tbcd(s)) }

func clearDigits(d Digits) string { return string(d.AppendDigits(nil)) }

// GTPv1-C.

func v1msg(typ byte, teid uint32, seq int, ies ...[]byte) []byte {
	body := slices.Concat(ies...)
	b := append([]byte{0x32, typ}, be16(len(body)+4)...)
	b = append(b, be32(teid)...)
	b = append(b, be16(seq)...)
	return append(append(b, 0, 0), body...)
}

func tv(t byte, v ...byte) []byte { return append([]byte{t}, v...) }

func tlv(t byte, v ...byte) []byte { return slices.Concat([]byte{t}, be16(len(v)), v) }

func v1imsi(s string) []byte {
	b := tbcd(s)
	for len(b) < 8 {
		b = append(b, 0xff)
	}
	return tv(v1IMSI, b...)
}

func v1teid(t byte, teid uint32) []byte { return tv(t, be32(teid)...) }

func v1eua(addrs ...string) []byte {
	b := []byte{0xf1, euaIPv4}
	for _, a := range addrs {
		r := raw(a)
		switch {
		case len(addrs) == 2:
			b[1] = euaDual
		case len(r) == 16:
			b[1] = euaIPv6
		}
		b = append(b, r...)
	}
	return tlv(v1EUA, b...)
}

// GTPv2-C.

func v2msg(typ byte, teid uint32, seq uint32, ies ...[]byte) []byte {
	body := slices.Concat(ies...)
	b := append([]byte{0x48, typ}, be16(len(body)+8)...)
	b = append(b, be32(teid)...)
	b = append(b, be32(seq<<8)...)
	return append(b, body...)
}

func ie(t byte, v ...byte) []byte { return iei(t, 0, v...) }

func iei(t, instance byte, v ...byte) []byte {
	return slices.Concat([]byte{t}, be16(len(v)), []byte{instance}, v)
}

func fteid(instance, iface byte, teid uint32, addrs ...string) []byte {
	b := append([]byte{iface}, be32(teid)...)
	for _, a := range addrs {
		r := raw(a)
		if len(r) == 4 {
			b[0] |= 0x80
		} else {
			b[0] |= 0x40
		}
		b = append(b, r...)
	}
	return iei(v2FTEID, instance, b...)
}

func paa(addrs ...string) []byte {
	switch {
	case len(addrs) == 2: // IPv6 first, section 8.14
		return ie(v2PAA, slices.Concat([]byte{3, 64}, raw(addrs[1]), raw(addrs[0]))...)
	case netip.MustParseAddr(addrs[0]).Is4():
		return ie(v2PAA, slices.Concat([]byte{1}, raw(addrs[0]))...)
	}
	return ie(v2PAA, slices.Concat([]byte{2, 64}, raw(addrs[0]))...)
}

func bearer(instance, ebi byte, ies ...[]byte) []byte {
	return iei(v2BearerContext, instance, slices.Concat(ie(v2EBI, ebi), slices.Concat(ies...))...)
}

func cause2(c byte) []byte { return ie(v2Cause, c, 0) }

// piggyback sets P on the first of two messages and joins them.
func piggyback(first, second []byte) []byte {
	b := slices.Clone(first)
	b[0] |= 0x10
	return append(b, second...)
}

// PFCP.

func pfcpmsg(typ byte, seid uint64, seq uint32, ies ...[]byte) []byte {
	body := slices.Concat(ies...)
	b := append([]byte{0x21, typ}, be16(len(body)+12)...)
	b = append(b, be64(seid)...)
	b = append(b, be32(seq<<8)...)
	return append(b, body...)
}

func pie(t int, parts ...[]byte) []byte {
	v := slices.Concat(parts...)
	return slices.Concat(be16(t), be16(len(v)), v)
}

func fseid(seid uint64, addr string) []byte {
	flags := byte(0x02)
	if len(raw(addr)) == 16 {
		flags = 0x01
	}
	return pie(pfcpFSEID, []byte{flags}, be64(seid), raw(addr))
}

func pfteid(teid uint32, addr string) []byte {
	flags := byte(0x01)
	if len(raw(addr)) == 16 {
		flags = 0x02
	}
	return pie(pfcpFTEID, []byte{flags}, be32(teid), raw(addr))
}

func pchoose() []byte { return pie(pfcpFTEID, []byte{0x07}) }

func pdr(typ, id int, source byte, ies ...[]byte) []byte {
	return pie(typ, pie(pfcpPDRID, be16(id)),
		pie(pfcpPDI, pie(pfcpSourceInterface, []byte{source}), slices.Concat(ies...)))
}

func far(typ int, id uint32, destination byte, ies ...[]byte) []byte {
	params := pfcpForwarding
	if typ == pfcpUpdateFAR {
		params = pfcpUpdateForwarding
	}
	var dst []byte
	if destination != pfcpNone {
		dst = pie(pfcpDestinationInterface, []byte{destination})
	}
	return pie(typ, pie(pfcpFARID, be32(id)), pie(params, dst, slices.Concat(ies...)))
}

func outer(teid uint32, addr string) []byte {
	flags := byte(0x01)
	if len(raw(addr)) == 16 {
		flags = 0x02
	}
	return pie(pfcpOuterHeaderCreation, []byte{flags, 0}, be32(teid), raw(addr))
}

func pue(addr string) []byte {
	flags := byte(0x02)
	if len(raw(addr)) == 16 {
		flags = 0x01
	}
	return pie(pfcpUEAddress, []byte{flags}, raw(addr))
}

// core is a table with a clock and addresses by name.
type core struct {
	t   testing.TB
	tab *Table
	now int64
}

const second = int64(1e9)

func newCore(t testing.TB, c Config) *core {
	t.Helper()
	if c.Sessions == 0 {
		c.Sessions = 256 // the invariants walk everything
	}
	tab, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	return &core{t: t, tab: tab, now: 1_700_000_000 * second}
}

// send passes one datagram by the tap, a millisecond after the one before.
func (c *core) send(from, to string, payload []byte) {
	c.t.Helper()
	c.sendPorts(from, to, PortGTPC, PortGTPC, payload)
}

func (c *core) sendPorts(from, to string, sport, dport uint16, payload []byte) {
	c.t.Helper()
	c.now += second / 1000
	if v := c.tab.Control(payload, ip(from), ip(to), sport, dport, c.now); !v.Usable() {
		c.t.Fatalf("%s -> %s: verdict %v", from, to, v)
	}
	c.check()
}

func (c *core) n4(from, to string, payload []byte) {
	c.t.Helper()
	c.sendPorts(from, to, PortPFCP, PortPFCP, payload)
}

func (c *core) wait(seconds float64) {
	c.now += int64(seconds * float64(second))
	for range 64 { // a sweep is done in pieces
		c.now++
		c.tab.Advance(c.now)
	}
}

// tunnel returns the scope and direction of a G-PDU to an endpoint.
func (c *core) tunnel(addr string, teid uint32) (uint32, Direction) {
	r, d, _ := c.tab.ByTEID(ip(addr), teid)
	return r.Scope, d
}

// session returns the one that a G-PDU belongs to; there must be one.
func (c *core) session(addr string, teid uint32) *Session {
	c.t.Helper()
	r, _, ok := c.tab.ByTEID(ip(addr), teid)
	if !ok {
		c.t.Fatalf("no session at %s TEID %#x", addr, teid)
	}
	s := c.tab.Session(r)
	if s == nil {
		c.t.Fatalf("%s TEID %#x: session %v has ended", addr, teid, r)
	}
	return s
}

func (c *core) want(what string, got, want any) {
	c.t.Helper()
	if got != want {
		c.t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// gone asserts that no session has the endpoint.
func (c *core) gone(addr string, teid uint32) {
	c.t.Helper()
	if r, _, ok := c.tab.ByTEID(ip(addr), teid); ok {
		c.t.Fatalf("%s TEID %#x still belongs to %v", addr, teid, r)
	}
}

// check holds the invariants that no message may break.
func (c *core) check() {
	c.t.Helper()
	if err := c.tab.invariants(); err != "" {
		c.t.Fatal(err)
	}
}
