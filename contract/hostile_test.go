package contract

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// maxRSS is what no input may push the program beyond.
const maxRSS = 200 << 20

// modest checks that a run took no more memory than it may. The system counts the
// memory of this process as the child's from before it became nametap; where that
// alone is too much, the run is done again from a process that is small.
func (o *outcome) modest(t testing.TB) {
	t.Helper()
	if o.maxRSS <= maxRSS {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{nametap}, o.args...)...)
	cmd.Env = append(os.Environ(), measuring+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	took, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if took > maxRSS {
		t.Errorf("the run took %d MB, want at most %d", took>>20, maxRSS>>20)
	}
}

// complains checks for exit status 1 and one line on standard error that names
// the file.
func (o *outcome) complains(t testing.TB, file string) {
	t.Helper()
	o.modest(t)
	if lines := o.errorLines(); o.code != 1 || len(lines) != 1 || !strings.Contains(lines[0], file) {
		t.Errorf("exit status %d, standard error %q; want 1 and one line that names %s", o.code, o.stderr, file)
	}
}

// sane checks that a run is good or complains in one line.
func (o *outcome) sane(t testing.TB) {
	t.Helper()
	o.modest(t)
	if lines := o.errorLines(); o.code != len(lines) || o.code > 1 {
		t.Errorf("exit status %d, standard error %q; want 0 and nothing, or 1 and one line", o.code, o.stderr)
	}
}

// packetEnds finds out where each packet of a capture file ends, in the order of
// the file. boundaries are all offsets at which a file may end as it should.
func packetEnds(b []byte) (ends []int, boundaries map[int]bool) {
	boundaries = map[int]bool{}
	if bytes.Equal(b[:4], []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		return blockEnds(b, boundaries)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 0xa1 {
		order = binary.BigEndian
	}
	boundaries[24] = true
	for at := 24; at+16 <= len(b); {
		at += 16 + int(order.Uint32(b[at+8:]))
		if at > len(b) {
			break
		}
		ends = append(ends, at)
		boundaries[at] = true
	}
	return ends, boundaries
}

// blockEnds does so for pcapng.
func blockEnds(b []byte, boundaries map[int]bool) (ends []int, _ map[int]bool) {
	var order binary.ByteOrder = binary.LittleEndian
	for at := 0; at+12 <= len(b); {
		kind := order.Uint32(b[at:])
		if bytes.Equal(b[at:at+4], []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
			order, kind = binary.LittleEndian, 0
			if b[at+8] == 0x1a {
				order = binary.BigEndian
			}
		}
		at += int(order.Uint32(b[at+4:]))
		if at > len(b) {
			break
		}
		boundaries[at] = true
		if kind == 6 || kind == 3 || kind == 2 {
			ends = append(ends, at)
		}
	}
	return ends, boundaries
}

// TestCutFiles: every capture, cut anywhere, gives all the packets that are
// whole, and one line that says where it was cut.
func TestCutFiles(t *testing.T) {
	for _, path := range captureFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			ends, boundaries := packetEnds(b)
			rng := rand.New(rand.NewPCG(uint64(len(b)), 1))
			cuts := []int{4 + rng.IntN(len(b)-4), len(b) - 1, ends[rng.IntN(len(ends))]}
			for _, cut := range cuts {
				cutAt(t, b, cut, ends, boundaries)
			}
		})
	}
}

func cutAt(t *testing.T, b []byte, cut int, ends []int, boundaries map[int]bool) {
	t.Helper()
	file := saved(t, b[:cut])
	r := analyze(t, []string{file})
	want := uint64(0)
	for want < uint64(len(ends)) && ends[want] <= cut {
		want++
	}
	if got := r.summary.Capture.Packets; got != want {
		t.Errorf("cut at %d: %d packets, want %d", cut, got, want)
	}
	if r.summary.Capture.Truncated != !boundaries[cut] {
		t.Errorf("cut at %d: truncated is %v, want %v", cut, r.summary.Capture.Truncated, !boundaries[cut])
	}
	if boundaries[cut] {
		if r.modest(t); r.code != 0 || len(r.stderr) > 0 {
			t.Errorf("cut at %d, between two packets: exit status %d, %q; want 0 and nothing", cut, r.code, r.stderr)
		}
		return
	}
	r.complains(t, file)
}

// TestFlippedBits: no damage inside a capture makes the program fall over, or
// say things that do not add up.
func TestFlippedBits(t *testing.T) {
	for _, path := range captureFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(uint64(len(whole)), 2))
			for _, share := range []int{20, 2000} { // one bit in so many bytes
				b := slices.Clone(whole)
				for range max(1, len(b)/share) {
					b[24+rng.IntN(len(b)-24)] ^= 1 << rng.IntN(8)
				}
				r := produce(t, []string{saved(t, b)})
				r.sane(t)
			}
			// The frames alone, so that all of them are read.
			b := slices.Clone(whole)
			ends, _ := packetEnds(b)
			last := 24
			for _, end := range ends {
				from := max(last, end-40)
				if from+20 < end {
					b[from+rng.IntN(end-from-8)] ^= 1 << rng.IntN(8)
				}
				last = end
			}
			r := produce(t, []string{saved(t, b)})
			r.sane(t)
		})
	}
}

// TestRandomFrames: random bytes under every link type, and random bytes in
// each place of honest frames.
func TestRandomFrames(t *testing.T) {
	for _, link := range []uint32{linkNull, linkEthernet, 9, 12, 50, linkRaw, 104, linkLoop, linkSLL, linkIPv4, linkIPv6, linkSLL2, 147, 65535} {
		t.Run(fmt.Sprintf("link type %d", link), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(link), 3))
			tr := newTrace()
			tr.link = link
			for range 2000 {
				b := make([]byte, rng.IntN(200))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				if len(b) > 0 && rng.IntN(2) == 0 {
					b[0] = []byte{0x45, 0x60, 0x02, 0x0f}[rng.IntN(4)]
				}
				tr.raw(b)
			}
			r := analyze(t, []string{tr.save(t)})
			if r.sane(t); r.code != 0 || r.summary.Capture.Packets != 2000 {
				t.Errorf("exit status %d and %d packets, want 0 and 2000", r.code, r.summary.Capture.Packets)
			}
		})
	}
	t.Run("honest frames with a few bytes changed", func(t *testing.T) {
		t.Parallel()
		tr, _ := crowd(9, 60, 5)
		rng := rand.New(rand.NewPCG(9, 4))
		for i := range tr.frames {
			b := slices.Clone(tr.frames[i].data)
			for range 1 + rng.IntN(4) {
				b[rng.IntN(min(len(b), 120))] = byte(rng.Uint32())
			}
			tr.frames[i].data = b
		}
		r := produce(t, []string{tr.save(t)})
		r.records = decodeRecords(t, r.lines)
		r.inOrder(t)
		r.addsUp(t, true) // some tunnels lead elsewhere now
		if r.sane(t); r.code != 0 || r.summary.Capture.Packets != uint64(len(tr.frames)) {
			t.Errorf("exit status %d and %d packets, want 0 and %d", r.code, r.summary.Capture.Packets, len(tr.frames))
		}
	})
}

// raw adds a frame and lets a step pass.
func (tr *trace) raw(data []byte) {
	tr.frame(data)
	tr.now += tr.step
}

// TestNotACapture: what is no capture at all is named in one line.
func TestNotACapture(t *testing.T) {
	random := make([]byte, 100_000)
	rng := rand.New(rand.NewPCG(1, 5))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	var zeros bytes.Buffer
	w := gzip.NewWriter(&zeros)
	_, _ = w.Write(make([]byte, 64<<20))
	_ = w.Close()
	header := newTrace().pcap(binary.LittleEndian, false)
	ng := newTrace().pcapng(binary.LittleEndian)
	for says, b := range map[string][]byte{
		"nothing":                         nil,
		"one byte":                        {0xd4},
		"random bytes":                    random,
		"text":                            []byte("this is no capture\n"),
		"64 MiB of zeros, packed":         zeros.Bytes(),
		"gzip and nothing in it":          {0x1f, 0x8b},
		"random bytes that call it gzip":  join([]byte{0x1f, 0x8b, 8, 0}, random),
		"random bytes that call it zstd":  join([]byte{0x28, 0xb5, 0x2f, 0xfd}, random),
		"a header cut off":                header[:20],
		"a record that claims 4 GiB":      join(header, []byte{0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}),
		"a record that claims 1 GiB":      join(header, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x40}),
		"a pcapng block that claims 4 GB": join(ng, []byte{6, 0, 0, 0, 0xfc, 255, 255, 255}),
		"a pcapng block of no length":     join(ng, make([]byte, 40)),
		"random bytes behind a header":    join(header, random),
		"random bytes behind a section":   join(ng, random),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			file := saved(t, b)
			r := analyze(t, []string{file})
			r.complains(t, file)
		})
	}
}

// TestAHeaderAlone is a capture without packets, and no error.
func TestAHeaderAlone(t *testing.T) {
	for _, b := range [][]byte{newTrace().pcap(binary.BigEndian, true), newTrace().pcapng(binary.BigEndian)} {
		r := analyzed(t, []string{saved(t, b)})
		if c := r.summary.Capture; c.Packets != 0 || c.First != nil || c.Last != nil || c.Truncated {
			t.Errorf("the summary of an empty capture is %+v", c)
		}
	}
}

// TestTheRestIsRead: a file that is damaged, cut or no capture takes nothing from
// the others.
func TestTheRestIsRead(t *testing.T) {
	tr := newTrace()
	c := tr.conn(alice, server).whole()
	good := tr.save(t)
	whole := newTrace()
	d := whole.conn(bob, server).open().talk()
	b := whole.pcap(binary.LittleEndian, true)
	for says, bad := range map[string][]byte{
		"cut in its last packet": append(slices.Clone(b), make([]byte, 10)...),
		"damaged behind":         join(b, bytes.Repeat([]byte{0xff}, 500)),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			file := saved(t, bad)
			r := analyze(t, []string{file, good})
			r.complains(t, file)
			r.flows(t, c, d)
		})
	}
	t.Run("no capture", func(t *testing.T) {
		t.Parallel()
		file := saved(t, []byte("this is no capture\n"))
		r := analyze(t, []string{good, file})
		r.complains(t, file)
		r.flows(t, c)
	})
	t.Run("two that are none", func(t *testing.T) {
		t.Parallel()
		first, second := saved(t, []byte("this is no capture\n")), saved(t, nil)
		r := analyze(t, []string{first, good, second})
		r.complains(t, first)
		r.complains(t, second)
		r.flows(t, c)
	})
}

// TestDamageInsideAPacket: a frame that makes no sense is counted with its reason,
// and what follows it is read.
func TestDamageInsideAPacket(t *testing.T) {
	tr := newTrace()
	before := tr.conn(alice, server).whole()
	n := uint64(0)
	for _, frame := range [][]byte{
		{},
		{1, 2, 3},
		ethernet(etherIPv4, nil), ethernet(etherIPv4, []byte{0x45}), ethernet(etherIPv4, bytes.Repeat([]byte{0x41}, 60)),
		ethernet(etherIPv6, bytes.Repeat([]byte{0x61}, 30)), ethernet(0x8100, []byte{0}), ethernet(0x8847, bytes.Repeat([]byte{0}, 400)),
		ethernet(0x8864, []byte{0x11, 0}),
	} {
		tr.raw(frame)
		n++
	}
	after := tr.conn(bob, server).whole()
	r := analyzed(t, []string{tr.save(t)})
	r.flows(t, before, after)
	if got := r.summary.undecoded(); got != n {
		t.Errorf("%d frames not decoded, by reason %v; want %d", got, r.summary.Capture.Undecoded, n)
	}
}

// TestWildTimes: a single frame with a wild time changes nothing for the others.
func TestWildTimes(t *testing.T) {
	for says, wild := range map[string]int64{
		"2106": 1<<32 - 1, "1970": 0, "an hour ahead": base.Unix() + 3600, "an hour back": base.Unix() - 3600,
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			tr.answer(alice, chatName, 60, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server).open().talk()
			tr.frames = append(tr.frames, frame{at: wild * 1e9, data: ethernet(0x0806, make([]byte, 46)), wire: 60})
			d := tr.conn(alice, server).open().talk()
			c.talk().close()
			recs := analyzed(t, []string{tr.save(t)}).flows(t, c, d)
			recs[0].namedAs(t, chatBy("dns"))
			recs[1].namedAs(t, chatBy("dns"))
		})
	}
}

// TestTheEdgesOfTime: captures from the epoch on, and up to 2106.
func TestTheEdgesOfTime(t *testing.T) {
	for says, start := range map[string]time.Time{
		"from the epoch on": time.Unix(0, 0), "in 2038": time.Unix(1<<31-1, 0), "up to 2106": time.Unix(1<<32-10, 0),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			tr.at(start.Sub(base))
			tr.answer(alice, chatName, 60, server.Addr().String())
			tr.wait(100 * time.Millisecond)
			c := tr.conn(alice, server).whole()
			tr.analyzed(t).flows(t, c)[0].namedAs(t, chatBy("dns"))
		})
	}
}

// TestFlood: 200,000 SYNs from as many subscribers stay within their memory, and
// every one of them is accounted for.
func TestFlood(t *testing.T) {
	t.Parallel()
	tr := flood(1, 200_000)
	r := produce(t, []string{tr.save(t)}, "--memory", "64M")
	if r.modest(t); r.code != 0 || len(r.stderr) > 0 {
		t.Errorf("exit status %d, standard error %q", r.code, r.stderr)
	}
	if lines := bytes.Count(r.lines, []byte("\n")); lines != 200_000 {
		t.Errorf("%d records, want one a SYN", lines)
	}
	c := r.summary.class("other", "other")
	if c.Flows != 200_000 || c.Attempts != 200_000 || c.SYN != 200_000 || r.summary.tcpBytes() != tr.tcp.bytes {
		t.Errorf("%+v; want 200,000 flows, attempts and SYNs, and %d bytes", c, tr.tcp.bytes)
	}
	if !bytes.Contains(r.lines, []byte(`"end_reason":"evicted"`)) {
		t.Error("no flow was evicted: the flood proves too little")
	}
}

// TestFragmentFlood: fragments that never become whole, DNS over TCP that never
// ends and ClientHellos that never come do not pile up.
func TestFragmentFlood(t *testing.T) {
	t.Parallel()
	tr := newTrace()
	tr.step = 20 * time.Microsecond
	rng := rand.New(rand.NewPCG(1, 6))
	someone := func() netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())})
	}
	for i := range 20_000 {
		tr.packet(ipv4(someone(), server.Addr(), protocolTCP, uint16(i), 0x2000, make([]byte, 1200)), true)
	}
	for range 5_000 {
		tr.conn(someone(), server).syn().up(hello{sni: photoName, pad: 4000}.bytes()[:1200])
	}
	for range 5_000 {
		c := tr.conn(someone(), netip.AddrPortFrom(resolver, 53)).synAck()
		c.down(join([]byte{0xff, 0xff}, make([]byte, 1200)))
	}
	r := tr.analyzed(t, "--memory", "64M")
	r.modest(t)
	if len(r.records) != 10_000 {
		t.Errorf("%d records, want 10,000", len(r.records))
	}
}
