package fanout

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/pcapgo"

	"github.com/nametap/nametap/capture/decode"
)

// Addresses of the tests: subscribers s, servers d, gateways g and h.
const (
	s4, d4, g4, h4 = "0a010203", "cb007105", "c6336401", "c6336402"
	s6             = "fd001234 00050006 00070008 0009000a"
	d6             = "20010db8 00000000 00000000 00000002"
	g6             = "20010db8 ffff0000 00000000 00000001"
	h6             = "20010db8 ffff0000 00000000 00000002"
	resolver       = "08080808"
)

func hx(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }
func be16(v int) []byte          { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v int) []byte          { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

func eth(etherType int, payload []byte) []byte {
	return cat(hx("020000000002 020000000001"), be16(etherType), payload)
}

func tag(tci, etherType int, payload []byte) []byte { return cat(be16(tci), be16(etherType), payload) }

func ip4(src, dst string, protocol int, payload []byte) []byte {
	return cat(hx("4500"), be16(20+len(payload)), hx("1234 4000 40"), []byte{byte(protocol)}, hx("0000"), hx(src), hx(dst), payload)
}

func ip6(src, dst string, next int, payload []byte) []byte {
	return cat(hx("60000000"), be16(len(payload)), []byte{byte(next)}, hx("3f"), hx(src), hx(dst), payload)
}

func tcp(src, dst int) []byte {
	return cat(be16(src), be16(dst), be32(7), be32(8), hx("5010 0200 0000 0000"), []byte("payload"))
}

func udp(src, dst int, payload []byte) []byte {
	return cat(be16(src), be16(dst), be16(8+len(payload)), be16(0), payload)
}

func dns(src, dst int, flags string) []byte {
	return udp(src, dst, hx("beef"+flags+"0001 0000 0000 0000 0165 0000 0100 01"))
}

// gtp is a datagram with a G-PDU; optional follows the first eight octets.
func gtp(flags int, optional, tpdu []byte) []byte {
	return udp(2152, 2152, cat([]byte{byte(0x30 | flags), 255}, be16(len(optional)+len(tpdu)), be32(0xabcd), optional, tpdu))
}

func gn(tpdu []byte) []byte { return eth(0x800, ip4(g4, h4, 17, gtp(0, nil, tpdu))) }

var defaults = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
}

const testSeed = 0x0123456789abcdef

// most workers, so that a wrong choice shows.
func load(t testing.TB, prefixes []netip.Prefix) *Program {
	t.Helper()
	p, err := Load(Config{Workers: Partitions, Seed: testSeed, Subscribers: prefixes})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("eBPF programs are not allowed here: ", err)
	}
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *Program) run(t testing.TB, frame []byte) int {
	t.Helper()
	worker, err := p.objects.Fanout.Run(&ebpf.RunOptions{Data: frame})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("this kernel runs no socket filter for a test: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(worker)
}

func address(s string) netip.Addr {
	a, _ := netip.AddrFromSlice(hx(s))
	return a
}

func partitionOf(a netip.Addr) int { return Partition(testSeed, decode.AddrFrom(a).Prefix()) }

// The table of what reaches whom. Ends are named by their address, "" is worker
// 0.
var choices = []struct {
	name  string
	frame []byte
	end   string
}{
	{"uplink segment", eth(0x800, ip4(s4, d4, 6, tcp(40000, 443))), s4},
	{"downlink segment", eth(0x800, ip4(d4, s4, 6, tcp(443, 40000))), s4},
	{"port of the subscriber is lower", eth(0x800, ip4(s4, d4, 6, tcp(443, 40000))), s4},
	{"DNS query", eth(0x800, ip4(s4, resolver, 17, dns(40000, 53, "0100"))), s4},
	{"DNS answer", eth(0x800, ip4(resolver, s4, 17, dns(53, 40000, "8180"))), s4},
	{"DNS answer from a resolver that is inside", eth(0x800, ip4("0a000035", s4, 17, dns(53, 40000, "8180"))), s4},
	{"the resolver's own query", eth(0x800, ip4("0a000035", resolver, 17, dns(40000, 53, "0000"))), "0a000035"},
	{"DNS, both ports 53", eth(0x800, ip4(resolver, "0a000035", 17, dns(53, 53, "8180"))), "0a000035"},
	{"an answer to port 53", eth(0x800, ip4(resolver, "0a000035", 17, dns(1053, 53, "8180"))), "0a000035"},
	{"DNS over TCP", eth(0x800, ip4(resolver, s4, 6, tcp(53, 40000))), s4},
	{"neither end inside: the higher port", eth(0x800, ip4(g4, d4, 6, tcp(40000, 443))), g4},
	{"… and back", eth(0x800, ip4(d4, g4, 6, tcp(443, 40000))), g4},
	{"both inside", eth(0x800, ip4("0a000001", s4, 6, tcp(80, 40000))), s4},
	{"… same ports: the higher address", eth(0x800, ip4(s4, "0a000001", 17, udp(123, 123, nil))), s4},
	{"… and back", eth(0x800, ip4("0a000001", s4, 17, udp(123, 123, nil))), s4},
	{"neither, no ports", eth(0x800, ip4(d4, g4, 1, hx("0800 0000 0000 0000"))), d4},
	{"IPv4 options", eth(0x800, cat(hx("4700 0030 1234 4000 4006 0000"), hx(g4), hx(d4), hx("01010101 01010100"), tcp(9, 10))), d4},
	{"IPv6", eth(0x86dd, ip6(s6, d6, 6, tcp(40000, 443))), s6},
	{"IPv6 down", eth(0x86dd, ip6(d6, s6, 6, tcp(443, 40000))), s6},
	{"IPv6 answer behind options", eth(0x86dd, ip6(d6, s6, 0, cat(hx("3c00 0104 00000000 1100 0104 00000000"), dns(53, 4000, "8180")))), s6},
	{"mapped address in an IPv6 header", eth(0x86dd, ip6("00000000 00000000 0000ffff 0a010203", d6, 6, tcp(4, 5))), s4},
	{"one tag", eth(0x8100, tag(42, 0x800, ip4(d4, s4, 6, tcp(443, 40000)))), s4},
	{"two tags", eth(0x88a8, tag(42, 0x8100, tag(7, 0x86dd, ip6(d6, s6, 6, tcp(443, 40000))))), s6},
	{"three old tags", eth(0x9100, tag(42, 0x9200, tag(7, 0x8100, tag(1, 0x800, ip4(d4, s4, 6, tcp(443, 40000)))))), s4},
	{"QinQ, PPPoE, GTP-U", eth(0x88a8, tag(421, 0x8100, tag(785, 0x8864, cat(hx("1100 0001"), be16(100), hx("0021"), ip4(g4, h4, 17, gtp(0, nil, ip4(d4, s4, 6, tcp(443, 4000)))))))), s4},
	{"PPPoE, one-octet protocol, IPv6", eth(0x8864, cat(hx("1100 0001"), be16(100), hx("57"), ip6(d6, s6, 6, tcp(443, 4000)))), s6},
	{"PPPoE control", eth(0x8864, hx("1100 0001 0004 c021 0101 0004")), ""},
	{"MPLS", eth(0x8847, cat(hx("00010040 00020140"), ip4(d4, s4, 6, tcp(443, 4000)))), s4},
	{"MPLS, IPv6", eth(0x8847, cat(hx("00010140"), ip6(d6, s6, 6, tcp(443, 4000)))), s6},
	{"MPLS, pseudowire with control word", eth(0x8847, cat(hx("00010140 00000000"), eth(0x8100, tag(1, 0x800, ip4(d4, s4, 6, tcp(443, 4000)))))), s4},
	{"MPLS, pseudowire without", eth(0x8847, cat(hx("00010140"), eth(0x800, ip4(d4, s4, 6, tcp(443, 4000))))), s4},
	{"802.3 SNAP", eth(100, cat(hx("aaaa03 000000 0800"), ip4(d4, s4, 6, tcp(443, 4000)))), s4},
	{"spanning tree", eth(38, hx("424203 0000 00 00 00")), ""},
	{"ARP", eth(0x806, hx("0001080006040001 020000000001 0a010203 000000000000 0a010204")), ""},
	{"GTP-U up", gn(ip4(s4, d4, 6, tcp(40000, 443))), s4},
	{"GTP-U down", gn(ip4(d4, s4, 6, tcp(443, 40000))), s4},
	{"GTP-U, DNS answer", gn(ip4(resolver, s4, 17, dns(53, 40000, "8180"))), s4},
	{"GTP-U, IPv6 inside", gn(ip6(d6, s6, 6, tcp(443, 40000))), s6},
	{"GTP-U over IPv6", eth(0x86dd, ip6(g6, h6, 17, gtp(0, nil, ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U, IPv6 in IPv6", eth(0x86dd, ip6(g6, h6, 17, gtp(0, nil, ip6(d6, s6, 17, dns(53, 99, "8180"))))), s6},
	{"GTP-U, sequence number", eth(0x800, ip4(g4, h4, 17, gtp(2, hx("0001 00 85"), ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U, E and no extension", eth(0x800, ip4(g4, h4, 17, gtp(4, hx("0001 00 00"), ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U, PDU session container", eth(0x800, ip4(g4, h4, 17, gtp(4, hx("0000 00 85 01 00 09 00"), ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U, two extensions", eth(0x800, ip4(g4, h4, 17, gtp(7, hx("0000 00 c0 01 00 09 85 02 0000000000 00 00"), ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U, extension of length 0", eth(0x800, ip4(g4, h4, 17, gtp(4, hx("0000 00 85 00 00 09 00"), ip4(s4, d4, 6, tcp(40000, 443))))), h4},
	{"GTP-U echo", eth(0x800, ip4(g4, h4, 17, udp(2152, 2152, hx("3201 0004 00000000 0001 0000")))), h4},
	{"GTP-U, PPP inside", eth(0x800, ip4(g4, h4, 17, gtp(0, nil, hx("ff03 0021 4500")))), h4},
	{"GTP-U, inner length does not fit", eth(0x800, ip4(g4, h4, 17, gtp(0, nil, ip4(s4, d4, 6, tcp(1, 2))[:30]))), h4},
	{"port 2152, not GTP", eth(0x800, ip4(s4, d4, 17, udp(2152, 999, []byte("nothing of the kind")))), s4},
	{"DNS to a client on port 2152", eth(0x800, ip4(resolver, s4, 17, dns(53, 2152, "8180"))), s4},
	{"GTP-U in GTP-U", gn(ip4(h4, g4, 17, gtp(0, nil, ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GTP-U behind a tag", eth(0x8100, tag(5, 0x800, ip4(g4, h4, 17, gtp(0, nil, ip4(d4, s4, 6, tcp(443, 40000)))))), s4},
	{"GTP-C", eth(0x800, ip4(g4, h4, 17, udp(2123, 2123, hx("4801 0004 00000000")))), ""},
	{"GTP-C from any port", eth(0x800, ip4(g4, h4, 17, udp(40000, 2123, hx("4801 0004 00000000")))), ""},
	{"PFCP", eth(0x86dd, ip6(g6, h6, 17, udp(8805, 8805, hx("2001 0004 00000000")))), ""},
	{"port 2123 in a tunnel is the subscriber's", gn(ip4(s4, d4, 17, udp(2123, 2123, nil))), s4},
	{"DNS to a client on port 2123", eth(0x800, ip4(resolver, s4, 17, dns(53, 2123, "8180"))), s4},
	{"IP in IP", eth(0x800, ip4(g4, h4, 4, ip4(s4, d4, 6, tcp(40000, 443)))), s4},
	{"IPv6 in IPv4", eth(0x800, ip4(g4, h4, 41, ip6(s6, d6, 6, tcp(40000, 443)))), s6},
	{"GRE", eth(0x800, ip4(g4, h4, 47, cat(hx("0000 0800"), ip4(s4, d4, 6, tcp(40000, 443))))), s4},
	{"GRE with key and sequence number", eth(0x800, ip4(g4, h4, 47, cat(hx("3000 86dd 00000001 00000002"), ip6(s6, d6, 6, tcp(40000, 443))))), s6},
	{"ERSPAN type I", eth(0x800, ip4(g4, h4, 47, cat(hx("0000 88be"), eth(0x800, ip4(s4, d4, 6, tcp(40000, 443)))))), s4},
	{"ERSPAN type II, GTP-U", eth(0x800, ip4(g4, h4, 47, cat(hx("1000 88be 00000001 1000000000000000"), gn(ip4(s4, d4, 6, tcp(40000, 443)))))), s4},
	{"ERSPAN type III", eth(0x800, ip4(g4, h4, 47, cat(hx("1000 22eb 00000001 200000000000000000000000"), eth(0x800, ip4(s4, d4, 6, tcp(40000, 443)))))), s4},
	{"ERSPAN type III, platform", eth(0x800, ip4(g4, h4, 47, cat(hx("1000 22eb 00000001 200000000000000000000001 0000000000000000"), eth(0x800, ip4(s4, d4, 6, tcp(40000, 443)))))), s4},
	{"VXLAN", eth(0x800, ip4(g4, h4, 17, udp(55555, 4789, cat(hx("08000000 00000700"), eth(0x8100, tag(1, 0x800, ip4(s4, d4, 6, tcp(40000, 443)))))))), s4},
	{"authentication header", eth(0x800, ip4(g4, h4, 51, cat(hx("0604 0000 00000001 00000001 000000000000000000000000"), tcp(40000, 443)))), g4},
	{"atomic fragment", eth(0x86dd, ip6(d6, s6, 44, cat(hx("1100 0000 00000001"), dns(53, 40000, "8180")))), s6},
	{"cut in the IP header", eth(0x8100, tag(1, 0x800, hx("4500 0030 1234 4000 4006"))), ""},
	{"cut in the ports", eth(0x800, cat(ip4(s4, d4, 6, nil), hx("99"))), s4},
}

func TestChoices(t *testing.T) {
	p := load(t, defaults)
	oracle := newOracle(defaults)
	for _, c := range choices {
		want := 0
		if c.end != "" {
			want = partitionOf(address(c.end))
		}
		if got := p.run(t, c.frame); got != want {
			t.Errorf("%s: worker %d, want %d", c.name, got, want)
		}
		if partition, ok := oracle.partition(c.frame); ok && partition != want {
			t.Errorf("%s: the probe has partition %d, want %d", c.name, partition, want)
		}
	}
}

// oracle says in which partition the probe has a frame's packet.
type oracle struct {
	decoder  *decode.Decoder
	prefixes []netip.Prefix
}

func newOracle(prefixes []netip.Prefix) *oracle {
	return &oracle{decode.New(decode.Config{FragmentBytes: 1 << 20}), prefixes}
}

func (o *oracle) inside(a decode.Addr) bool {
	return slices.ContainsFunc(o.prefixes, func(p netip.Prefix) bool { return p.Contains(a.Netip()) })
}

// partition returns false for frames that the probe does not hand on, or whose
// subscriber hangs on more than the frame.
func (o *oracle) partition(frame []byte) (int, bool) {
	var p decode.Packet
	switch o.decoder.Decode(frame, uint32(len(frame)), decode.LinkEthernet, 0, &p) {
	case decode.TCP:
		src, dst := o.inside(p.Src), o.inside(p.Dst)
		if src == dst {
			return 0, false
		}
		if src {
			return Partition(testSeed, p.Src.Prefix()), true
		}
		return Partition(testSeed, p.Dst.Prefix()), true
	case decode.UDP:
		if p.SrcPort == 53 || p.DstPort == 53 && len(p.Payload()) > 2 && p.Payload()[2]&0x80 != 0 {
			return Partition(testSeed, p.Dst.Prefix()), true
		}
	}
	return 0, false
}

// The program's arithmetic in 32-bit pieces is the probe's in 128 bits, and a
// prefix contains what net/netip says it does, listed or in the trie.
func TestRandomAddresses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() netip.Addr {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte(b[:]))
		}
		b[0] = []byte{0x20, 0xfd}[r.IntN(2)]
		return netip.AddrFrom16(b)
	}
	var many []netip.Prefix
	for range 40 {
		a := random()
		many = append(many, netip.PrefixFrom(a, r.IntN(a.BitLen()/2)+2).Masked())
	}
	lists := map[string][]netip.Prefix{
		"none": nil, "defaults": defaults, "many": many,
		"half of everything": {netip.MustParsePrefix("128.0.0.0/1"), netip.MustParsePrefix("fd00::/9")},
		"all":                {netip.MustParsePrefix("::/0")},
		"all of IPv4":        {netip.MustParsePrefix("0.0.0.0/0")},
		"hosts":              {netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("fd00::1/128")},
	}
	for name, list := range lists {
		p := load(t, list)
		if trie := len(prefixesFrom(list)) > listedPrefixes; trie != (name == "many") {
			t.Fatalf("%s: trie %v", name, trie)
		}
		inside := func(a netip.Addr) bool {
			return slices.ContainsFunc(list, func(p netip.Prefix) bool {
				return p.Contains(a) || p == netip.MustParsePrefix("::/0")
			})
		}
		for range 2000 {
			src, dst := random(), random()
			if src.BitLen() != dst.BitLen() {
				continue
			}
			sport, dport := r.IntN(65536), r.IntN(65536)
			// The frame's bytes: IPv4 or IPv6.
			s, d := hex.EncodeToString(src.AsSlice()), hex.EncodeToString(dst.AsSlice())
			frame := eth(0x86dd, ip6(s, d, 6, tcp(sport, dport)))
			if src.Is4() {
				frame = eth(0x800, ip4(s, d, 6, tcp(sport, dport)))
			}
			isDst := dport > sport || dport == sport && dst.Compare(src) > 0
			if inside(src) != inside(dst) {
				isDst = inside(dst)
			}
			want := partitionOf(src)
			if isDst {
				want = partitionOf(dst)
			}
			if got := p.run(t, frame); got != want {
				t.Fatalf("%s: %v:%d > %v:%d: worker %d, want %d", name, src, sport, dst, dport, got, want)
			}
		}
	}
}

// Partition is the upper six bits of a product's two halves, exclusive or, and
// deals neighbours out evenly.
func TestPartition(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		seed, prefix := r.Uint64(), r.Uint64()
		x := new(big.Int).SetUint64(prefix ^ seed ^ 0x9e3779b97f4a7c15)
		product := x.Mul(x, new(big.Int).SetUint64(1^0xa0761d6478bd642f))
		low := new(big.Int).And(product, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
		high := new(big.Int).Rsh(product, 64).Uint64()
		if got, want := Partition(seed, prefix), int((high^low)>>58); got != want {
			t.Fatalf("seed %x, prefix %x: %d, want %d", seed, prefix, got, want)
		}
	}
	counts := [Partitions]int{}
	for i := range uint64(64000) {
		counts[Partition(testSeed, 0xffff<<32|0x0a000000+i)]++
	}
	for n, count := range counts {
		if count < 850 || count > 1150 {
			t.Errorf("partition %d has %d of 64000 neighbours, want about 1000", n, count)
		}
	}
}

// part is one fragment of an IPv4 packet.
func part(src, dst string, id, protocol, from, to int, payload []byte) []byte {
	p := ip4(src, dst, protocol, payload[from:to])
	word := from / 8
	if to < len(payload) {
		word |= 0x2000
	}
	copy(p[4:], be16(id))
	copy(p[6:], be16(word))
	return p
}

func part6(src, dst string, id, protocol, from, to int, payload []byte) []byte {
	word := from
	if to < len(payload) {
		word |= 1
	}
	return ip6(src, dst, 44, cat([]byte{byte(protocol), 0}, be16(word), be32(id), payload[from:to]))
}

// Fragments of a datagram go where its first fragment goes, which is where its
// subscriber is; out of order they meet all the same.
func TestFragments(t *testing.T) {
	p := load(t, defaults)
	long := cat(tcp(443, 40000), make([]byte, 500))
	tunnel := gtp(0, nil, ip4(d4, s4, 6, long))
	answer := dns(53, 40000, "8180")
	answer = cat(answer, make([]byte, 300))
	own := partitionOf(address(s4))
	v4 := func(id, from, to int) []byte { return eth(0x800, part(g4, h4, id, 17, from, to, tunnel)) }
	v6 := func(id, from, to int) []byte { return eth(0x86dd, part6(g6, h6, id, 17, from, to, tunnel)) }
	end := len(tunnel)
	for _, test := range []struct {
		name   string
		frames [][]byte
		want   int // -1: any, but one
	}{
		{"in order", [][]byte{v4(1, 0, 400), v4(1, 400, 480), v4(1, 480, end)}, own},
		{"later ones in disorder", [][]byte{v4(2, 0, 400), v4(2, 480, end), v4(2, 400, 480)}, own},
		{"first one last", [][]byte{v4(3, 400, 480), v4(3, 480, end), v4(3, 0, 400)}, -1},
		{"the first one lost", [][]byte{v4(4, 400, 480), v4(4, 480, end)}, -1},
		{"the same identification again", [][]byte{v4(1, 0, 400), v4(1, 400, end)}, own},
		{"IPv6", [][]byte{v6(1, 0, 400), v6(1, 400, 480), v6(1, 480, end)}, own},
		{"IPv6, first one last", [][]byte{v6(2, 400, 480), v6(2, 480, end), v6(2, 0, 400)}, -1},
		{"DNS answer", [][]byte{eth(0x800, part(resolver, s4, 5, 17, 0, 200, answer)), eth(0x800, part(resolver, s4, 5, 17, 200, 300, answer))}, own},
		{"DNS answer, first one last", [][]byte{eth(0x800, part(resolver, s4, 6, 17, 200, 300, answer)), eth(0x800, part(resolver, s4, 6, 17, 0, 200, answer))}, own},
		{"inside the tunnel", [][]byte{gn(part(d4, s4, 7, 6, 0, 200, long)), gn(part(d4, s4, 7, 6, 200, len(long), long))}, own},
		{"inside the tunnel, in disorder", [][]byte{gn(part(d4, s4, 8, 6, 200, len(long), long)), gn(part(d4, s4, 8, 6, 0, 200, long))}, own},
	} {
		var got []int
		for _, frame := range test.frames {
			got = append(got, p.run(t, frame))
		}
		if got[0] != slices.Min(got) || got[0] != slices.Max(got) || test.want >= 0 && got[0] != test.want {
			t.Errorf("%s: workers %v, want %d", test.name, got, test.want)
		}
	}
	// A fragment of a fragment: the tunnel's datagram in two, the subscriber's too.
	inner := gtp(0, nil, part(d4, s4, 9, 6, 0, 320, long))
	rest := gtp(0, nil, part(d4, s4, 9, 6, 320, len(long), long))
	for i, frame := range [][]byte{
		part(g4, h4, 20, 17, 0, 160, inner), part(g4, h4, 20, 17, 160, len(inner), inner),
		part(g4, h4, 21, 17, 0, 160, rest), part(g4, h4, 21, 17, 160, len(rest), rest),
	} {
		if got := p.run(t, eth(0x800, frame)); got != own {
			t.Errorf("fragment %d of fragments: worker %d, want %d", i, got, own)
		}
	}
	counts, err := p.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if counts.Stray != 5 || counts.Followed == 0 || counts.NotIP != 0 || counts.Control != 0 {
		t.Errorf("%+v", counts)
	}
}

func TestCounts(t *testing.T) {
	p := load(t, defaults)
	for _, frame := range [][]byte{
		eth(0x800, ip4(g4, d4, 6, tcp(40000, 443))),
		eth(0x800, ip4(g4, h4, 17, udp(2123, 2123, hx("4801 0004 00000000")))),
		eth(0x800, ip4(g4, h4, 17, udp(8805, 8805, hx("4801 0004 00000000")))),
		eth(0x806, make([]byte, 28)),
		eth(0x800, ip4(s4, d4, 6, tcp(40000, 443))),
	} {
		p.run(t, frame)
	}
	if got, err := p.Counts(); err != nil || got != (Counts{Undecided: 1, Control: 2, NotIP: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// Over real captures, the program and the decoder agree on the subscriber.
func TestCaptures(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/captures/*.pcap*")
	if len(files) == 0 {
		t.Skip("no captures beside the checkout")
	}
	p := load(t, defaults)
	compared := 0
	for _, file := range files {
		oracle := newOracle(defaults)
		for n, frame := range ethernetFrames(t, file) {
			want, ok := oracle.partition(frame)
			if len(frame) < 14 {
				continue
			}
			if got := p.run(t, frame); ok && got != want {
				t.Errorf("%s, frame %d: worker %d, the probe has partition %d", filepath.Base(file), n+1, got, want)
			} else if ok {
				compared++
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d frames compared", compared)
	}
	t.Logf("%d frames compared", compared)
}

// ethernetFrames returns the frames of a file that gopacket can read whole.
func ethernetFrames(t *testing.T, name string) [][]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var read func() ([]byte, error)
	if ng, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions); err == nil && ng.LinkType() == 1 {
		read = func() ([]byte, error) { b, _, err := ng.ReadPacketData(); return b, err }
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	} else if r, err := pcapgo.NewReader(f); err == nil && r.LinkType() == 1 {
		read = func() ([]byte, error) { b, _, err := r.ReadPacketData(); return b, err }
	} else {
		return nil
	}
	var frames [][]byte
	for {
		frame, err := read()
		if err != nil {
			return frames
		}
		frames = append(frames, slices.Clone(frame))
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []Config{{}, {Workers: 65}, {Workers: -1}, {Workers: 1, Subscribers: make([]netip.Prefix, 1)}} {
		if _, err := Load(c); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func BenchmarkProgram(b *testing.B) {
	p := load(b, defaults)
	for name, frame := range map[string][]byte{
		"gi":        eth(0x800, cat(ip4(d4, s4, 6, tcp(443, 40000)), make([]byte, 600))),
		"gtp":       cat(gn(ip4(d4, s4, 6, tcp(443, 40000))), make([]byte, 600)),
		"undecided": eth(0x800, ip4(d4, g4, 6, tcp(443, 40000))),
	} {
		b.Run(name, func(b *testing.B) {
			_, each, err := p.objects.Fanout.Benchmark(frame, max(b.N, 1000), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "kernel-ns/packet")
		})
	}
}
