package decode

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The frames of the tests are put together by hand, header by header, so that
// each test line shows what its frame is made of.

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// hx reads hexadecimal digits; spaces are for the eye.
func hx(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// patch returns b with the bytes at an offset replaced.
func patch(b []byte, at int, v ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], v)
	return b
}

const macs = "020000000002 020000000001"

func eth(etherType int, payload []byte) []byte {
	return cat(hx(macs), be16(etherType), payload)
}

func vlan(tci, etherType int, payload []byte) []byte {
	return cat(be16(tci), be16(etherType), payload)
}

func snap(oui string, etherType int, payload []byte) []byte {
	return cat(hx("aaaa03"), hx(oui), be16(etherType), payload)
}

// Addresses of the tests: a and b end to end, g and h gateways.
const (
	a4, b4, g4, h4 = "0a000001", "c0000202", "c6336401", "c6336402"
	a6             = "20010db8 00000000 00000000 00000001"
	b6             = "20010db8 00000000 00000000 00000002"
	g6             = "20010db8 ffff0000 00000000 00000001"
	h6             = "20010db8 ffff0000 00000000 00000002"
)

func ip4between(src, dst string, protocol int, payload []byte) []byte {
	return cat(hx("4500"), be16(20+len(payload)), hx("1234 4000 40"), []byte{byte(protocol)}, hx("0000"), hx(src), hx(dst), payload)
}

func ip4(protocol int, payload []byte) []byte { return ip4between(a4, b4, protocol, payload) }

func outer4(protocol int, payload []byte) []byte { return ip4between(g4, h4, protocol, payload) }

func ip6between(src, dst string, next int, payload []byte) []byte {
	return cat(hx("60000000"), be16(len(payload)), []byte{byte(next)}, hx("3f"), hx(src), hx(dst), payload)
}

func ip6(next int, payload []byte) []byte { return ip6between(a6, b6, next, payload) }

func outer6(next int, payload []byte) []byte { return ip6between(g6, h6, next, payload) }

// tcpOptions pads options and builds the segment 1000 > 443 with seq 7, ack 8.
func tcpOptions(options, payload []byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	return cat(be16(1000), be16(443), be32(7), be32(8), []byte{byte(5+len(options)/4) << 4, ACK | PSH},
		be16(512), hx("0000 0000"), options, payload)
}

func tcp(payload string) []byte { return tcpOptions(nil, []byte(payload)) }

// tcpTS has the usual time stamps, 1 and 2.
func tcpTS(payload string) []byte {
	return tcpOptions(hx("0101080a 00000001 00000002"), []byte(payload))
}

func udp(src, dst int, payload []byte) []byte {
	return cat(be16(src), be16(dst), be16(8+len(payload)), be16(0), payload)
}

// gtp builds a G-PDU with TEID 0xabcd; optional is what follows the first eight
// octets if flags asks for it.
func gtp(flags int, optional, tpdu []byte) []byte {
	return cat([]byte{byte(0x30 | flags), 255}, be16(len(optional)+len(tpdu)), be32(0xabcd), optional, tpdu)
}

func gtpu(flags int, optional, tpdu []byte) []byte {
	return udp(2152, 2152, gtp(flags, optional, tpdu))
}

func vxlan(frame []byte) []byte {
	return udp(55555, 4789, cat(hx("08000000 00000700"), frame))
}

// fragment4 is the part of payload from..to of an IPv4 packet between a and b.
func fragment4(id, protocol, from, to int, payload []byte) []byte {
	p := ip4(protocol, payload[from:to])
	word := from / 8
	if to < len(payload) {
		word |= moreFragments
	}
	copy(p[4:], be16(id))
	copy(p[6:], be16(word))
	return p
}

// fragment6 is the same between the IPv6 addresses.
func fragment6(id, next, from, to int, payload []byte) []byte {
	word := from
	if to < len(payload) {
		word |= 1
	}
	return ip6(protocolFragment, cat([]byte{byte(next), 0}, be16(word), be32(id), payload[from:to]))
}

// describe writes what a decoded packet means, so that a test line can state it.
func describe(o Outcome, p *Packet) string {
	s := o.String()
	if o > OtherIP {
		return s
	}
	src, dst := p.Src.Netip().String(), p.Dst.Netip().String()
	if o != OtherIP {
		src = netip.AddrPortFrom(p.Src.Netip(), p.SrcPort).String()
		dst = netip.AddrPortFrom(p.Dst.Netip(), p.DstPort).String()
	} else {
		s += fmt.Sprintf(" %d", p.Protocol)
	}
	s += fmt.Sprintf(" %s>%s ip %d", src, dst, p.IPBytes)
	if o != OtherIP {
		s += fmt.Sprintf(" payload %d", p.PayloadLen)
	}
	if o == TCP && p.HasTimestamps {
		s += fmt.Sprintf(" ts %d/%d", p.TSval, p.TSecr)
	}
	if p.VLAN != 0 {
		s += fmt.Sprintf(" vlan %d", p.VLAN)
	}
	if p.Tunnel == TunnelGTP {
		s += fmt.Sprintf(" gtp %#x %v>%v", p.TEID, p.OuterSrc.Netip(), p.OuterDst.Netip())
	}
	if p.Fragmented {
		s += " fragmented"
	}
	return s
}

// sample is a frame and what becomes of it.
type sample struct {
	name  string
	link  Link
	frame []byte
	want  string
}

// What the usual inner packets are.
const (
	want4    = "tcp 10.0.0.1:1000>192.0.2.2:443 ip 45 payload 5"
	want6    = "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 65 payload 5"
	wantGTP4 = want4 + " gtp 0xabcd 198.51.100.1>198.51.100.2"
	wantGTP6 = want6 + " gtp 0xabcd 198.51.100.1>198.51.100.2"
	wantUDP4 = "udp 10.0.0.1:53>192.0.2.2:1000 ip 32 payload 4"
)

// wellFormed returns frames without fault: none has an outcome Bad*, at
// whatever length it is cut.
func wellFormed() []sample {
	t4, t6 := ip4(6, tcp("hello")), ip6(6, tcp("hello"))
	gtp4 := outer4(17, gtpu(0, nil, t4))
	pppoe := func(ppp []byte) []byte { return cat(hx("11 00 0007"), be16(len(ppp)), ppp) }
	gre := func(flags, protocol int, rest ...[]byte) []byte {
		return outer4(47, cat(be16(flags), be16(protocol), cat(rest...)))
	}
	return []sample{
		// Link layers.
		{"ethernet ipv4", LinkEthernet, eth(0x0800, t4), want4},
		{"ethernet ipv6", LinkEthernet, eth(0x86dd, t6), want6},
		{"time stamps", LinkEthernet, eth(0x0800, ip4(6, tcpTS("hello"))), "tcp 10.0.0.1:1000>192.0.2.2:443 ip 57 payload 5 ts 1/2"},
		{"padding after ipv4", LinkEthernet, eth(0x0800, cat(ip4(6, tcp("")), make([]byte, 6))), "tcp 10.0.0.1:1000>192.0.2.2:443 ip 40 payload 0"},
		{"padding after ipv6", LinkEthernet, eth(0x86dd, cat(t6, make([]byte, 6))), want6},
		{"802.1Q", LinkEthernet, eth(0x8100, vlan(0x6064, 0x0800, t4)), want4 + " vlan 100"},
		{"802.1ad", LinkEthernet, eth(0x88a8, vlan(421, 0x8100, vlan(785, 0x86dd, t6))), want6 + " vlan 785"},
		{"9100 and 9200", LinkEthernet, eth(0x9100, vlan(1, 0x9200, vlan(2, 0x0800, t4))), want4 + " vlan 2"},
		{"priority tag in a vlan", LinkEthernet, eth(0x8100, vlan(5, 0x8100, vlan(0xe000, 0x0800, t4))), want4 + " vlan 5"},
		{"802.3 SNAP", LinkEthernet, eth(8+len(t4), snap("000000", 0x0800, t4)), want4},
		{"802.3 SNAP bridged", LinkEthernet, eth(8+len(t4), snap("0000f8", 0x0800, t4)), want4},
		{"vlan in SNAP", LinkEthernet, eth(12+len(t4), snap("000000", 0x8100, vlan(9, 0x0800, t4))), want4 + " vlan 9"},
		{"mpls ipv4", LinkEthernet, eth(0x8847, cat(hx("00010040 00011140"), t4)), want4},
		{"mpls two labels ipv6", LinkEthernet, eth(0x8848, cat(hx("00010040 00011140"), t6)), want6},
		{"mpls pseudowire", LinkEthernet, eth(0x8847, cat(hx("00011140"), eth(0x0800, t4))), want4},
		{"mpls pseudowire with control word", LinkEthernet, eth(0x8847, cat(hx("00011140 00000007"), eth(0x8100, vlan(3, 0x0800, t4)))), want4 + " vlan 3"},
		{"pppoe", LinkEthernet, eth(0x8864, pppoe(cat(hx("0021"), t4))), want4},
		{"pppoe ipv6, compressed", LinkEthernet, eth(0x8864, pppoe(cat(hx("57"), t6))), want6},
		{"pppoe in qinq", LinkEthernet, eth(0x8100, vlan(421, 0x8100, vlan(785, 0x8864, pppoe(cat(hx("0021"), t4))))), want4 + " vlan 785"},
		{"pppoe shorter than ip", LinkEthernet, eth(0x8864, cat(hx("11 00 0007 002a 0021"), ip4(6, tcp("\x00\x00\x00\x00\x00\x00")))), "tcp 10.0.0.1:1000>192.0.2.2:443 ip 46 payload 0"},
		{"raw ipv4", LinkRaw, t4, want4},
		{"raw ipv6", LinkRaw, t6, want6},
		{"raw 12", LinkRawBSD, t4, want4},
		{"raw 14", LinkRawBSDI, t6, want6},
		{"ipv4", LinkIPv4, t4, want4},
		{"ipv6", LinkIPv6, t6, want6},
		{"null little endian", LinkNull, cat(hx("02000000"), t4), want4},
		{"null big endian", LinkNull, cat(hx("00000002"), t4), want4},
		{"null linux", LinkNull, cat(hx("0a000000"), t6), want6},
		{"null netbsd", LinkNull, cat(hx("18000000"), t6), want6},
		{"null freebsd", LinkNull, cat(hx("0000001c"), t6), want6},
		{"loop darwin", LinkLoop, cat(hx("0000001e"), t6), want6},
		{"sll", LinkSLL, cat(hx("0000 0001 0006 020000000001 0000 0800"), t4), want4},
		{"sll vlan", LinkSLL, cat(hx("0000 0001 0006 020000000001 0000 8100"), vlan(7, 0x86dd, t6)), want6 + " vlan 7"},
		{"sll2", LinkSLL2, cat(hx("0800 0000 00000002 0001 00 06 0200000000010000"), t4), want4},
		{"ppp", LinkPPP, cat(hx("0021"), t4), want4},
		{"ppp with address", LinkPPP, cat(hx("ff03 0057"), t6), want6},
		{"ppp mpls", LinkPPP, cat(hx("0281 00011140"), t4), want4},
		{"ppp hdlc", LinkPPPHDLC, cat(hx("ff03 21"), t4), want4},
		{"ppp hdlc, cisco", LinkPPPHDLC, cat(hx("0f00 0800"), t4), want4},
		{"cisco hdlc", LinkCHDLC, cat(hx("8f00 86dd"), t6), want6},

		// IP and what is in it.
		{"ipv4 options", LinkRaw, cat(hx("4800"), be16(32+25), t4[4:20], hx("94040000 01010101 00000000"), tcp("hello")), "tcp 10.0.0.1:1000>192.0.2.2:443 ip 57 payload 5"},
		{"ipv4 ah", LinkRaw, ip4(51, cat(hx("0604 0000 00000001 00000002 000102030405060708090a0b"), tcp("hello"))), "tcp 10.0.0.1:1000>192.0.2.2:443 ip 69 payload 5"},
		{"ipv4 total length 0", LinkEthernet, eth(0x0800, patch(t4, 2, 0, 0)), want4},
		{"ipv6 payload length 0, tcp", LinkEthernet, eth(0x86dd, patch(t6, 4, 0, 0)), want6},
		{"ipv6 jumbogram", LinkEthernet, eth(0x86dd, patch(ip6(0, cat(hx("06 00 c2 04 00000021"), tcp("hello"))), 4, 0, 0)), "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 73 payload 5"},
		{"ipv6 extension headers", LinkRaw, ip6(0, cat(hx("3c 00 0104 00000000"), hx("2b 01 0104 00000000 00000000 00000000"), hx("87 00 0000 00000000"), hx("33 00 0000 00000000"),
			hx("06 04 0000 00000001 00000002 000102030405060708090a0b"), tcp("hello"))), "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 129 payload 5"},
		{"ipv6 atomic fragment", LinkRaw, ip6(44, cat(hx("06 00 0000 00000007"), tcp("hello"))), "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 73 payload 5"},
		{"ipv6 no next header", LinkRaw, ip6(59, nil), "other_ip 59 2001:db8::1>2001:db8::2 ip 40"},
		{"icmp", LinkRaw, ip4(1, hx("0800 0000 00010001")), "other_ip 1 10.0.0.1>192.0.2.2 ip 28"},
		{"ipv4 with an ipv6 extension's number", LinkRaw, ip4(60, hx("0600 0000 00000000")), "other_ip 60 10.0.0.1>192.0.2.2 ip 28"},
		{"udp", LinkRaw, ip4(17, udp(53, 1000, []byte("data"))), wantUDP4},
		{"udp length 0", LinkRaw, ip4(17, patch(udp(53, 1000, []byte("data")), 4, 0, 0)), wantUDP4},
		{"udp shorter than ip", LinkRaw, ip4(17, cat(udp(53, 1000, nil), hx("00000000"))), "udp 10.0.0.1:53>192.0.2.2:1000 ip 32 payload 0"},

		// Tunnels.
		{"4 in 4", LinkRaw, outer4(4, t4), want4},
		{"6 in 4", LinkRaw, outer4(41, t6), want6},
		{"4 in 6", LinkRaw, outer6(4, t4), want4},
		{"6 in 6", LinkRaw, outer6(41, t6), want6},
		{"gre", LinkRaw, gre(0, 0x0800, t4), want4},
		{"gre checksum, key, sequence", LinkRaw, gre(0xb000, 0x86dd, hx("00000000 00000001 00000002"), t6), want6},
		{"gre in ipv6", LinkRaw, outer6(47, cat(hx("0000 0800"), t4)), want4},
		{"gre ethernet", LinkRaw, gre(0x2000, 0x6558, be32(9), eth(0x0800, t4)), want4},
		{"gre mpls", LinkRaw, gre(0, 0x8847, hx("00011140"), t4), want4},
		{"erspan I", LinkRaw, gre(0, 0x88be, eth(0x0800, t4)), want4},
		{"erspan II", LinkRaw, gre(0x1000, 0x88be, be32(1), hx("10010001 00000000"), eth(0x8100, vlan(8, 0x0800, t4))), want4},
		{"erspan III", LinkRaw, gre(0x1000, 0x22eb, be32(1), hx("20010001 00000000 00000000"), eth(0x86dd, t6)), want6},
		{"erspan III with platform header", LinkRaw, gre(0x1000, 0x22eb, be32(1), hx("20010001 00000000 00000001 0000000000000000"), eth(0x0800, t4)), want4},
		{"pptp", LinkRaw, gre(0x3001, 0x880b, be16(49), hx("0001 00000001 ff03 0021"), t4), want4},
		{"pptp with acknowledgement", LinkRaw, gre(0x3081, 0x880b, be16(46), hx("0001 00000001 00000002 21"), t4), want4},
		{"pptp acknowledgement alone", LinkRaw, gre(0x2081, 0x880b, hx("0000 0001 00000002")), "other_ip 47 198.51.100.1>198.51.100.2 ip 32"},
		{"pptp encrypted", LinkRaw, gre(0x3001, 0x880b, hx("0004 0001 00000001 00fd 9000")), "other_ip 47 198.51.100.1>198.51.100.2 ip 36"},
		{"gre keep-alive", LinkRaw, gre(0, 0), "other_ip 47 198.51.100.1>198.51.100.2 ip 24"},
		{"gre with source routing", LinkRaw, gre(0x4000, 0x0800, be32(0)), "other_ip 47 198.51.100.1>198.51.100.2 ip 28"},
		{"gre version 2", LinkRaw, gre(2, 0x0800), "other_ip 47 198.51.100.1>198.51.100.2 ip 24"},
		{"gre arp", LinkRaw, gre(0, 0x6558, eth(0x0806, make([]byte, 28))), "other_ip 47 198.51.100.1>198.51.100.2 ip 66"},
		{"vxlan", LinkEthernet, eth(0x8100, vlan(4, 0x0800, outer4(17, vxlan(eth(0x8100, vlan(5, 0x0800, t4)))))), want4 + " vlan 4"},
		{"vxlan arp", LinkRaw, outer4(17, vxlan(eth(0x0806, make([]byte, 28)))), "udp 198.51.100.1:55555>198.51.100.2:4789 ip 78 payload 50"},
		{"vxlan port, no vxlan", LinkRaw, ip4(17, udp(53, 4789, make([]byte, 30))), "udp 10.0.0.1:53>192.0.2.2:4789 ip 58 payload 30"},
		{"vxlan port, short", LinkRaw, ip4(17, udp(53, 4789, make([]byte, 21))), "udp 10.0.0.1:53>192.0.2.2:4789 ip 49 payload 21"},
		{"teredo", LinkRaw, outer4(17, udp(3544, 1000, t6)), want6},
		{"teredo with origin", LinkRaw, outer4(17, udp(3544, 1000, cat(hx("0000 1234 01020304"), t6))), want6},
		{"teredo with authentication and origin", LinkRaw, outer4(17, udp(1000, 3544, cat(hx("0001 02 03 0000 000000 0000000000000000 00"), hx("0000 1234 01020304"), t6))), want6},
		{"teredo bubble", LinkRaw, outer4(17, udp(3544, 3544, ip6(59, nil))), "other_ip 59 2001:db8::1>2001:db8::2 ip 40"},
		{"teredo port, other length", LinkRaw, outer4(17, udp(3544, 1000, cat(t6, hx("00")))), "udp 198.51.100.1:3544>198.51.100.2:1000 ip 94 payload 66"},
		{"teredo port, other data", LinkRaw, outer4(17, udp(3544, 1000, hx("0001 ffff"))), "udp 198.51.100.1:3544>198.51.100.2:1000 ip 32 payload 4"},

		// GTP-U.
		{"gtp ipv4", LinkEthernet, eth(0x0800, gtp4), wantGTP4},
		{"gtp ipv6", LinkEthernet, eth(0x0800, outer4(17, gtpu(0, nil, t6))), wantGTP6},
		{"gtp in ipv6", LinkRaw, outer6(17, gtpu(0, nil, t4)), want4 + " gtp 0xabcd 2001:db8:ffff::1>2001:db8:ffff::2"},
		{"gtp sequence", LinkRaw, outer4(17, gtpu(2, hx("0001 00 00"), t4)), wantGTP4},
		{"gtp n-pdu number, other octets not valid", LinkRaw, outer4(17, gtpu(1, hx("ffff 05 85"), t4)), wantGTP4},
		{"gtp extension, none", LinkRaw, outer4(17, gtpu(4, hx("0000 00 00"), t4)), wantGTP4},
		{"gtp pdu session container", LinkRaw, outer4(17, gtpu(4, hx("0000 00 85 01 10 09 00"), t4)), wantGTP4},
		{"gtp extension chain", LinkRaw, outer4(17, gtpu(7, hx("0001 02 c0 01 0000 85 02 0000 0000 0000 00"), t6)), wantGTP6},
		{"gtp from another port", LinkRaw, outer4(17, udp(40000, 2152, gtp(0, nil, t4))), wantGTP4},
		{"gtp with trailing bytes", LinkRaw, outer4(17, udp(2152, 2152, cat(gtp(0, nil, t4), hx("0000")))), wantGTP4},
		{"gtp with padding in the t-pdu", LinkRaw, outer4(17, gtpu(0, nil, cat(t4, hx("0000")))), wantGTP4},
		{"gtp in gtp", LinkRaw, ip4between(a4, b4, 17, gtpu(0, nil, gtp4)), wantGTP4},
		{"gre in gtp", LinkRaw, outer4(17, gtpu(0, nil, ip4(47, cat(hx("0000 86dd"), t6)))), wantGTP6},
		{"gtp in vlan in mpls", LinkEthernet, eth(0x8100, vlan(6, 0x8847, cat(hx("00011140"), gtp4))), want4 + " vlan 6 gtp 0xabcd 198.51.100.1>198.51.100.2"},
		{"gtp echo", LinkRaw, outer4(17, udp(2152, 2152, hx("32 01 0004 00000000 0001 0000"))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 40 payload 12"},
		{"gtp end marker", LinkRaw, outer4(17, udp(2152, 2152, hx("30 fe 0000 00000001"))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 36 payload 8"},
		{"gtp with ethernet in it", LinkRaw, outer4(17, gtpu(0, nil, eth(0x0806, make([]byte, 28)))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 78 payload 50"},
		{"gtp without a t-pdu", LinkRaw, outer4(17, gtpu(0, nil, nil)), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 36 payload 8"},
		{"gtp port, dns", LinkRaw, outer4(17, udp(2152, 53, hx("6bcb 0100 0001 0000 0000 0000 0161 00 0001 0001"))), "udp 198.51.100.1:2152>198.51.100.2:53 ip 47 payload 19"},
		{"gtp port, too short", LinkRaw, outer4(17, udp(2152, 53, hx("30ff 0000"))), "udp 198.51.100.1:2152>198.51.100.2:53 ip 32 payload 4"},
		{"gtp prime", LinkRaw, outer4(17, udp(2152, 2152, patch(gtp(0, nil, t4), 0, 0x20))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 81 payload 53"},
		{"gtp version 2", LinkRaw, outer4(17, udp(2152, 2152, patch(gtp(0, nil, t4), 0, 0x50))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 81 payload 53"},
		{"gtp longer than its datagram", LinkRaw, outer4(17, udp(2152, 2152, patch(gtp(0, nil, t4), 2, 0xff, 0xff))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 81 payload 53"},
		{"gtp with trailing bytes and a bad extension", LinkRaw, outer4(17, udp(2152, 2152, cat(gtp(4, hx("0000 00 85 00"), t4), hx("0000")))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 88 payload 60"},
		{"gtp with trailing bytes and a bad ip header", LinkRaw, outer4(17, udp(2152, 2152, cat(gtp(0, nil, patch(t4, 2, 0xff)), hx("0000")))), "udp 198.51.100.1:2152>198.51.100.2:2152 ip 83 payload 55"},

		// No IP.
		{"arp", LinkEthernet, eth(0x0806, make([]byte, 28)), "not_ip"},
		{"pppoe discovery", LinkEthernet, eth(0x8863, hx("1109 0000 0000")), "not_ip"},
		{"pppoe lcp", LinkEthernet, eth(0x8864, pppoe(hx("c021 01010004"))), "not_ip"},
		{"spanning tree", LinkEthernet, eth(38, cat(hx("424203"), make([]byte, 35))), "not_ip"},
		{"SNAP of a vendor", LinkEthernet, eth(20, cat(snap("00000c", 0x2000, nil), make([]byte, 12))), "not_ip"},
		{"SNAP with a length", LinkEthernet, eth(20, cat(snap("000000", 0x0100, nil), make([]byte, 12))), "not_ip"},
		{"type between length and EtherType", LinkEthernet, eth(1501, make([]byte, 40)), "not_ip"},
		{"mpls associated channel", LinkEthernet, eth(0x8847, hx("00011140 10000021 00000000")), "not_ip"},
		{"null, other family", LinkNull, hx("07000000 00000000"), "not_ip"},
		{"sll, other protocol", LinkSLL, hx("0000 0001 0006 020000000001 0000 0806 0000"), "not_ip"},
	}
}

// malformed returns frames that contradict themselves.
func malformed() []sample {
	t4, t6 := ip4(6, tcp("hello")), ip6(6, tcp("hello"))
	gtpIn := func(flags int, optional, tpdu []byte) []byte { return outer4(17, gtpu(flags, optional, tpdu)) }
	labels := make([]byte, 0, 400)
	for range 40 {
		labels = append(labels, 0, 1, 0, 0x40)
	}
	nested := t4
	for range 40 {
		nested = outer4(4, nested)
	}
	tags := cat(be16(1), be16(0x0800), t4)
	for range 40 {
		tags = cat(be16(1), be16(0x8100), tags)
	}
	extensions := tcp("hello")
	for range 40 {
		extensions = cat(hx("3c 00 0104 00000000"), extensions)
	}
	var chain []byte
	for range 40 {
		chain = append(chain, 1, 0, 0, 0x85)
	}
	return []sample{
		{"unknown link type", 147, eth(0x0800, t4), "link_type"},
		{"empty ethernet", LinkEthernet, nil, "bad_link"},
		{"empty raw", LinkRaw, nil, "bad_ip"},
		{"empty null", LinkNull, nil, "bad_link"},
		{"empty sll", LinkSLL, nil, "bad_link"},
		{"empty sll2", LinkSLL2, nil, "bad_link"},
		{"empty ppp", LinkPPP, nil, "bad_link"},
		{"empty ppp hdlc", LinkPPPHDLC, nil, "bad_link"},
		{"empty cisco hdlc", LinkCHDLC, nil, "bad_link"},
		{"short ethernet", LinkEthernet, hx(macs), "bad_link"},
		{"vlan tag cut", LinkEthernet, eth(0x8100, hx("0001")), "bad_link"},
		{"llc cut", LinkEthernet, eth(3, hx("aaaa")), "bad_link"},
		{"SNAP cut", LinkEthernet, eth(3, hx("aaaa03")), "bad_link"},
		{"mpls without a bottom", LinkEthernet, eth(0x8847, hx("00010040 00010040")), "bad_link"},
		{"mpls with nothing behind", LinkEthernet, eth(0x8847, hx("00010140")), "bad_link"},
		{"pppoe version 2", LinkEthernet, eth(0x8864, cat(hx("21 00 0007 002f 0021"), t4)), "bad_link"},
		{"pppoe without data", LinkEthernet, eth(0x8864, hx("11 00 0007 0000")), "bad_link"},
		{"ppp protocol cut", LinkPPP, hx("00"), "bad_link"},
		{"raw, neither version", LinkRaw, patch(t4, 0, 0x55), "bad_ip"},
		{"ipv4 announced, ipv6 there", LinkEthernet, eth(0x0800, t6), "bad_ip"},
		{"ipv6 announced, ipv4 there", LinkEthernet, eth(0x86dd, t4), "bad_ip"},
		{"ipv4 header of 16 bytes", LinkRaw, patch(t4, 0, 0x44), "bad_ip"},
		{"ipv4 total length below the header's", LinkRaw, patch(t4, 2, 0, 19), "bad_ip"},
		{"ipv4 header longer than the packet", LinkRaw, patch(ip4(6, tcp("")[:4]), 0, 0x4f), "bad_ip"},
		{"ipv4 of 19 bytes", LinkRaw, t4[:19], "bad_ip"},
		{"ipv6 of 39 bytes", LinkRaw, t6[:39], "bad_ip"},
		{"ipv6 longer than its pppoe session", LinkEthernet, eth(0x8864, cat(hx("11 00 0007 0010 0057"), t6)), "bad_ip"},
		{"4 in 4 longer than the outer", LinkRaw, outer4(4, patch(t4, 3, 46)), "bad_ip"},
		{"6 in 4 longer than the outer", LinkRaw, outer4(41, patch(t6, 5, 26)), "bad_ip"},
		{"4 in 4 longer than the outer, in pppoe", LinkEthernet, eth(0x8864, cat(hx("11 00 0007 0043 0021"), outer4(4, patch(t4, 3, 46)))), "bad_ip"},
		{"extension header beyond the packet", LinkRaw, ip6(0, hx("06 01 0000 00000000")), "bad_ip"},
		{"extension header cut", LinkRaw, ip6(0, hx("06 00 0000")), "bad_ip"},
		{"ah beyond the packet", LinkRaw, ip4(51, hx("06 04 0000 00000000")), "bad_ip"},
		{"fragment header cut", LinkRaw, ip6(44, hx("06 00 0000")), "bad_ip"},
		{"tcp of 19 bytes", LinkRaw, ip4(6, tcp("")[:19]), "bad_transport"},
		{"tcp data offset 4", LinkRaw, ip4(6, patch(tcp("hello"), 12, 0x40)), "bad_transport"},
		{"tcp data offset beyond the packet", LinkRaw, ip4(6, patch(tcp("hello"), 12, 0x70)), "bad_transport"},
		{"udp of 7 bytes", LinkRaw, ip4(17, udp(1, 2, nil)[:7]), "bad_transport"},
		{"udp length 7", LinkRaw, ip4(17, patch(udp(1, 2, hx("00")), 5, 7)), "bad_transport"},
		{"udp length beyond the packet", LinkRaw, ip4(17, patch(udp(1, 2, hx("00")), 5, 10)), "bad_transport"},
		{"gre cut", LinkRaw, outer4(47, hx("0000")), "bad_tunnel"},
		{"gre key cut", LinkRaw, outer4(47, hx("2000 0800")), "bad_tunnel"},
		{"gre version 1 without a key", LinkRaw, outer4(47, hx("1001 880b 0000 0000 00000000")), "bad_tunnel"},
		{"erspan II cut", LinkRaw, outer4(47, hx("1000 88be 00000000 1001")), "bad_tunnel"},
		{"erspan III cut", LinkRaw, outer4(47, hx("1000 22eb 00000000 20010001 00000000 00000001")), "bad_tunnel"},
		{"gtp optional octets missing", LinkRaw, gtpIn(2, nil, hx("0000")), "bad_tunnel"},
		{"gtp extension of length 0", LinkRaw, gtpIn(4, hx("0000 00 85 00 000000"), t4), "bad_tunnel"},
		{"gtp extension beyond the message", LinkRaw, gtpIn(4, hx("0000 00 85 ff 000000"), t4), "bad_tunnel"},
		{"gtp extension chain without an end", LinkRaw, gtpIn(4, hx("0000 00 85 01 0000 85"), nil), "bad_tunnel"},
		{"gtp ipv4 longer than the message", LinkRaw, gtpIn(0, nil, patch(t4, 3, 46)), "bad_tunnel"},
		{"gtp ipv4 header of 16 bytes", LinkRaw, gtpIn(0, nil, patch(t4, 0, 0x44)), "bad_tunnel"},
		{"gtp ipv4 total length 0", LinkRaw, gtpIn(0, nil, patch(t4, 2, 0, 0)), "bad_tunnel"},
		{"gtp ipv4 of 3 bytes", LinkRaw, gtpIn(0, nil, t4[:3]), "bad_tunnel"},
		{"gtp ipv6 of 5 bytes", LinkRaw, gtpIn(0, nil, t6[:5]), "bad_tunnel"},
		{"gtp ipv6 longer than the message", LinkRaw, gtpIn(0, nil, patch(t6, 5, 26)), "bad_tunnel"},
		{"tcp in gtp with data offset 1", LinkRaw, gtpIn(0, nil, ip4(6, patch(tcp("hello"), 12, 0x10))), "bad_transport"},
		{"40 labels", LinkEthernet, eth(0x8847, cat(labels, hx("00010140"), t4)), "too_deep"},
		{"40 tunnels", LinkRaw, nested, "too_deep"},
		{"40 tags", LinkEthernet, eth(0x8100, tags), "too_deep"},
		{"40 extension headers", LinkRaw, ip6(60, extensions), "too_deep"},
		{"40 gtp extension headers", LinkRaw, gtpIn(4, cat(hx("0000 00 85"), chain, hx("01 0000 00")), t4), "too_deep"},
		{"ipv4 fragment of 12 bytes with more to come", LinkRaw, patch(fragment4(1, 17, 0, 16, make([]byte, 32)), 3, 32), "bad_fragment"},
		{"ipv4 fragment without bytes", LinkRaw, patch(ip4(17, nil), 6, 0x20), "bad_fragment"},
		{"ipv4 fragment beyond 65,535 bytes", LinkRaw, patch(ip4(17, make([]byte, 8)), 6, 0x1f, 0xff), "bad_fragment"},
		{"ipv4 fragment beyond 65,535 bytes with its header", LinkRaw, patch(ip4(17, make([]byte, 24)), 6, 0x1f, 0xfc), "bad_fragment"},
		{"ipv6 fragment beyond 65,535 bytes", LinkRaw, ip6(44, cat(hx("11 00 fff8 00000001"), make([]byte, 8))), "bad_fragment"},
	}
}
