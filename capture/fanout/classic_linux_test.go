package fanout

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// classicVM runs the program in user space. What it cannot know, the EtherType
// that the kernel has, is put in for each frame.
func classicVM(t *testing.T, prefixes []netip.Prefix) func(frame []byte) int {
	t.Helper()
	program, err := Classic(Config{Workers: Partitions, Seed: testSeed, Subscribers: prefixes})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d prefixes: %d instructions", len(prefixes), len(program))
	protocol := slices.IndexFunc(program, func(f unix.SockFilter) bool { return f.K == ancillaryProtocol })
	return func(frame []byte) int {
		raw := make([]bpf.RawInstruction, len(program))
		for i, f := range program {
			raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
		}
		etherType := binary.BigEndian.Uint16(frame[12:])
		raw[protocol] = bpf.RawInstruction{K: uint32(etherType)} // ld #
		instructions, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatal("not a program")
		}
		vm, err := bpf.NewVM(instructions)
		if err != nil {
			t.Fatal(err)
		}
		worker, err := vm.Run(frame[14:])
		if err != nil {
			t.Fatal(err)
		}
		return worker
	}
}

// What the classic program does not know.
var beyondClassic = []string{
	"behind options", "two tags", "three old tags", "QinQ", "PPPoE", "MPLS", "SNAP", "extension", "over IPv6 of", "GTP-U in GTP-U",
	"IP in IP", "IPv6 in IPv4", "GRE", "ERSPAN", "VXLAN", "container", "atomic", "does not fit", "cut in", "authentication",
}

func TestClassicChoices(t *testing.T) {
	run := classicVM(t, defaults)
	done := 0
	for _, c := range choices {
		if slices.ContainsFunc(beyondClassic, func(s string) bool { return strings.Contains(c.name, s) }) {
			run(c.frame) // no fault
			continue
		}
		want := 0
		if c.end != "" {
			want = partitionOf(address(c.end))
		}
		if got := run(c.frame); got != want {
			t.Errorf("%s: worker %d, want %d", c.name, got, want)
		}
		done++
	}
	if done < 25 {
		t.Errorf("only %d choices are left", done)
	}
	// Fragments go by their addresses, all of them.
	answer := cat(dns(53, 40000, "8180"), make([]byte, 300))
	for _, frame := range [][]byte{part(resolver, s4, 5, 17, 0, 200, answer), part(resolver, s4, 5, 17, 200, 300, answer)} {
		if got, want := run(eth(0x800, frame)), partitionOf(address(s4)); got != want {
			t.Errorf("fragment: worker %d, want %d", got, want)
		}
	}
}

func TestClassicRandomAddresses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	run := classicVM(t, defaults)
	for range 300 {
		b := make([]byte, 16)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		a4 := hex.EncodeToString(append([]byte{10}, b[:3]...))
		b[0] = 0xfd
		a6 := hex.EncodeToString(b)
		for _, test := range []struct {
			frame []byte
			end   string
		}{
			{eth(0x800, ip4(a4, d4, 6, tcp(1, 2))), a4},
			{gn(ip4(d4, a4, 6, tcp(1, 2))), a4},
			{eth(0x86dd, ip6(d6, a6, 6, tcp(1, 2))), a6},
			{gn(ip6(a6, d6, 6, tcp(1, 2))), a6},
		} {
			if got, want := run(test.frame), partitionOf(address(test.end)); got != want {
				t.Fatalf("%s: worker %d, want %d", test.end, got, want)
			}
		}
	}
}

func TestClassicLimits(t *testing.T) {
	var list []netip.Prefix
	for i := range classicPrefixes + 1 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i), 15: 1}), 128))
	}
	if program, err := Classic(Config{Workers: 2, Subscribers: list[1:]}); err != nil {
		t.Error(err)
	} else {
		t.Logf("%d instructions", len(program))
	}
	for _, c := range []Config{{Workers: 2, Subscribers: list}, {Workers: 0}} {
		if _, err := Classic(c); err == nil {
			t.Errorf("%d workers, %d prefixes: no error", c.Workers, len(c.Subscribers))
		}
	}
}
