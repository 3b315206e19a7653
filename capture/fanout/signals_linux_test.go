package fanout

import (
	"testing"

	"golang.org/x/net/bpf"
)

// signals runs the filter in user space.
func signals(t *testing.T, bare bool) func(frame []byte) bool {
	t.Helper()
	program, err := Signals(bare)
	if err != nil {
		t.Fatal(err)
	}
	var raw []bpf.RawInstruction
	for _, f := range program {
		raw = append(raw, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("not a program")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		kept, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		if kept != 0 && kept < len(frame) {
			t.Fatalf("%d of %d bytes are kept", kept, len(frame))
		}
		return kept != 0
	}
}

func TestSignals(t *testing.T) {
	const a, b, a6, b6 = g4, h4, g6, h6
	message := make([]byte, 40)
	ask, answer := ip4(a, b, 17, udp(2123, 2123, message)), ip4(b, a, 17, udp(2123, 40000, message))
	pfcp, ask6 := ip4(a, b, 17, udp(40000, 8805, message)), ip6(a6, b6, 17, udp(2123, 2123, message))
	options := ip4(a, b, 17, udp(2123, 2123, message))
	options = cat([]byte{0x46}, options[1:20], []byte{1, 1, 1, 1}, options[20:])
	fragment := ip4(a, b, 17, udp(2123, 2123, message))
	fragment[6] = 0x20 // more fragments
	for _, test := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"GTP-C", eth(0x800, ask), true},
		{"GTP-C, an answer to another port", eth(0x800, answer), true},
		{"PFCP", eth(0x800, pfcp), true},
		{"IPv6", eth(0x86dd, ask6), true},
		{"behind options", eth(0x800, options), true},
		{"a tag that the kernel left", eth(0x8100, tag(5, 0x800, ask)), true},
		{"two of them", eth(0x88a8, tag(5, 0x8100, tag(6, 0x86dd, ask6))), true},
		{"three are too many", eth(0x88a8, tag(5, 0x8100, tag(6, 0x8100, tag(7, 0x800, ask)))), false},
		{"MPLS", eth(0x8847, cat(hx("00010140"), ask)), true},
		{"a tag and labels", eth(0x8100, tag(5, 0x8847, cat(hx("00010040 00020140"), ask6))), true},
		{"five labels", eth(0x8847, cat(hx("00010040 00020040 00030040 00040040 00050140"), ask)), false},
		{"GTP-U", gn(ask), false},
		{"TCP", eth(0x800, ip4(a, b, 6, tcp(2123, 8805))), false},
		{"DNS", eth(0x800, ip4(a, b, 17, udp(53, 40000, message))), false},
		{"the first fragment", eth(0x800, fragment), false},
		{"ARP", eth(0x806, make([]byte, 28)), false},
		{"cut in the ports", eth(0x800, ask[:21]), false},
		{"cut in the type", ask[:13], false},
		{"empty", nil, false},
	} {
		if got := signals(t, false)(test.frame); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	for name, want := range map[string]struct {
		packet []byte
		want   bool
	}{
		"GTP-C": {ask, true}, "IPv6": {ask6, true}, "PFCP": {pfcp, true}, "Ethernet": {eth(0x800, ask), false},
	} {
		if got := signals(t, true)(want.packet); got != want.want {
			t.Errorf("without a link header: %s: %v", name, got)
		}
	}
}
