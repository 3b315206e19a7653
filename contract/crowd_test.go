package contract

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var crowdNames = []string{
	chatName, "g.whatsapp.net", photoName, "mms7.whatsapp.net", "mmv2.whatsapp.net", "mmg.whatsapp.net",
	"web.whatsapp.com", "pps.whatsapp.net", "new.whatsapp.net", "www.example.org", "cdn.example.net",
}

// crowd is a trace of many subscribers at once, half of them in tunnels: they
// ask, connect, talk, wait, reset, take ports again. No two packets have the same
// time, so that there is one order only.
func crowd(seed uint64, subscribers, flowsEach int) (*trace, []*conn) {
	rng := rand.New(rand.NewPCG(seed, 42))
	tr := newTrace()
	var conns []*conn
	for s := range subscribers {
		who := netip.AddrFrom4([4]byte{10, byte(s >> 8), byte(s), byte(1 + rng.IntN(250))})
		if s%5 == 0 {
			who = netip.MustParseAddr(fmt.Sprintf("fd00:0:%x:1::%x", s, 1+rng.IntN(1000)))
		}
		tr.wrap = plainEthernet
		if rng.IntN(2) == 0 {
			tr.wrap = inGTP(2, nil)
		}
		for i := range flowsEach {
			// Steps are whole 10 µs, so that the nanoseconds keep passages apart.
			tr.at(time.Duration(rng.Int64N(int64(30*time.Minute/(10*time.Microsecond))))*10*time.Microsecond +
				time.Duration(s*flowsEach+i))
			conns = append(conns, tr.passage(rng, who)...)
		}
	}
	slices.SortStableFunc(tr.frames, func(a, b frame) int { return int(a.at - b.at) })
	return tr, conns
}

// some is a random time of whole milliseconds.
func some(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most/time.Millisecond))) * time.Millisecond
}

// passage is one answer and one connection of a subscriber, or two on one port.
func (tr *trace) passage(rng *rand.Rand, who netip.Addr) []*conn {
	tr.step = time.Duration(1+rng.IntN(80)) * time.Millisecond
	number := rng.IntN(40)
	to := serverAt(1 + number)
	if who.Is6() {
		to = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", 1+number)), 443)
	}
	name := crowdNames[number%len(crowdNames)]
	if rng.IntN(10) == 0 {
		name = crowdNames[rng.IntN(len(crowdNames))]
	}
	if rng.IntN(3) > 0 {
		tr.answer(who, name, uint32(rng.IntN(100)), to.Addr().String())
		tr.wait(some(rng, 2*time.Minute))
	}
	c := tr.conn(who, to)
	switch rng.IntN(6) {
	case 0:
		return []*conn{c.syn().ends("idle")}
	case 1:
		return []*conn{c.syn().reset(down)}
	case 2:
		return []*conn{c.talk().ends("idle")}
	case 3:
		return []*conn{c.open().up(hello{sni: name}.bytes()).down(make([]byte, 1400)).close()}
	}
	c.open()
	for range rng.IntN(10) {
		c.up(make([]byte, rng.IntN(1400)))
		tr.wait(some(rng, 4*time.Minute))
		c.down(make([]byte, rng.IntN(1400)))
	}
	return []*conn{c.close(), c.again().whole()}
}

// same checks that two runs wrote the same bytes.
func (r *report) same(t testing.TB, says string, other *report) {
	t.Helper()
	if !bytes.Equal(r.lines, other.lines) {
		t.Errorf("%s: other records (%d bytes and %d)", says, len(other.lines), len(r.lines))
	}
	if !bytes.Equal(r.stdout, other.stdout) {
		t.Errorf("%s: another summary:\n%s\nand\n%s", says, other.stdout, r.stdout)
	}
}

// TestShardsChangeNothing: the output is the same bytes run after run, and
// whatever the number of shards.
func TestShardsChangeNothing(t *testing.T) {
	t.Parallel()
	tr, conns := crowd(1, 400, 5)
	// Long enough for every time-out, an hour for chat.
	conns = append(conns, tr.at(3*time.Hour).conn(alice, serverAt(200)).whole())
	file := tr.save(t)
	reference := analyzed(t, []string{file}, "--shards", "1")
	reference.flows(t, conns...)
	if got := reference.summary.tcpBytes(); got != tr.tcp.bytes {
		t.Errorf("the classes add up to %d bytes of TCP, the trace has %d", got, tr.tcp.bytes)
	}
	for evidence, n := range reference.summary.Naming {
		if n == 0 {
			t.Errorf("the trace has no flow named by %s: it proves too little", evidence)
		}
	}
	for _, shards := range []string{"1", "2", "2", "3", "7", "64", "1000"} {
		reference.same(t, "--shards "+shards, produce(t, []string{file}, "--shards", shards))
	}
	reference.same(t, "by default", produce(t, []string{file}))
}

// TestOverflowIsTheSameEveryTime: also where the tables are far too small.
func TestOverflowIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	tr := flood(3, 150_000)
	for s := range 8_000 {
		who := netip.AddrFrom4([4]byte{10, 200 + byte(s>>14), byte(s >> 7), byte(s)})
		var addrs []string
		for i := range 64 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{198, 18, byte(s + i), byte(i)}).String())
		}
		tr.answer(who, crowdNames[s%len(crowdNames)], 300, addrs...)
	}
	for s := range 4_000 {
		tr.conn(netip.AddrFrom4([4]byte{10, 200, byte(s >> 7), byte(s)}), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(s), 0}), 443)).open().talk()
	}
	file := tr.save(t)
	reference := analyzed(t, []string{file}, "--memory", "64M", "--shards", "1")
	evicted := 0
	for i := range reference.records {
		if reference.records[i].EndReason == "evicted" {
			evicted++
		}
	}
	if evicted == 0 {
		t.Error("no flow was evicted: the trace proves too little")
	}
	if got := reference.summary.tcpBytes(); got != tr.tcp.bytes {
		t.Errorf("the classes add up to %d bytes of TCP, the trace has %d", got, tr.tcp.bytes)
	}
	for _, shards := range []string{"2", "7"} {
		reference.same(t, "--shards "+shards, produce(t, []string{file}, "--memory", "64M", "--shards", shards))
	}
}

// flood is a SYN each from so many subscribers to as many servers.
func flood(seed uint64, syns int) *trace {
	rng := rand.New(rand.NewPCG(seed, 7))
	tr := newTrace()
	tr.step = 10 * time.Microsecond
	for range syns {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}), uint16(1024+rng.IntN(60000)))
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}), 443)
		tr.connFrom(client, to).syn()
	}
	return tr
}

// TestFilesAreMerged: what was captured in several files, one a direction, an
// interface or an hour, gives what one file gives.
func TestFilesAreMerged(t *testing.T) {
	tr, _ := crowd(2, 100, 5)
	part := func(keep func(i int, f frame) bool) string {
		p := newTrace()
		for i, f := range tr.frames {
			if keep(i, f) {
				p.frames = append(p.frames, f)
			}
		}
		return p.save(t)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	random := make([]int, len(tr.frames))
	for i := range random {
		random[i] = rng.IntN(3)
	}
	fromSubscriber := func(f frame) bool { // the inner source is what plain frames show; tunnelled ones go by the outer
		return be.Uint16(f.data[12:]) == etherIPv4 && (f.data[26] == 10 || f.data[26] == 172 && f.data[28] == 1) ||
			be.Uint16(f.data[12:]) == etherIPv6 && f.data[22] == 0xfd
	}
	reference := analyzed(t, []string{tr.save(t)})
	splits := map[string][]string{
		"one a direction": {
			part(func(_ int, f frame) bool { return fromSubscriber(f) }),
			part(func(_ int, f frame) bool { return !fromSubscriber(f) }),
		},
		"one after the other, named in the wrong order": {
			part(func(i int, _ frame) bool { return i > len(tr.frames)/2 }),
			part(func(i int, _ frame) bool { return i <= len(tr.frames)/2 }),
		},
		"three at random": {
			part(func(i int, _ frame) bool { return random[i] == 0 }),
			part(func(i int, _ frame) bool { return random[i] == 1 }),
			part(func(i int, _ frame) bool { return random[i] == 2 }),
		},
	}
	for says, files := range splits {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			r := analyzed(t, files)
			if !bytes.Equal(r.lines, reference.lines) {
				t.Errorf("other records than those of one file")
			}
			if r.summary.Capture.Files != len(files) {
				t.Errorf("capture.files is %d, want %d", r.summary.Capture.Files, len(files))
			}
			want := strings.Replace(string(reference.stdout), `"files": 1`, fmt.Sprintf(`"files": %d`, len(files)), 1)
			if string(r.stdout) != want {
				t.Errorf("summary\n%s\nwant\n%s", r.stdout, want)
			}
		})
	}
}

// TestMergedFormats: files of several formats and link types merge, too.
func TestMergedFormats(t *testing.T) {
	whole := newTrace()
	conns, wants := conversation(whole, alice, server)
	parts := []*trace{newTrace(), newTrace()}
	parts[1].link = linkRaw
	for i, f := range whole.frames {
		if i%2 == 1 {
			f.data, f.wire = f.data[14:], f.wire-14
		}
		parts[i%2].frames = append(parts[i%2].frames, f)
	}
	files := []string{saved(t, parts[0].pcapng(binary.BigEndian)), saved(t, parts[1].pcap(binary.LittleEndian, false))}
	recs := analyzed(t, files).flows(t, conns...)
	for i := range recs {
		recs[i].namedAs(t, wants[i])
	}
}

// TestPseudonyms: by default no subscriber's address is written out; what stands
// in its place is the same in every run and keeps prefixes.
func TestPseudonyms(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	tr := newTrace()
	same24 := []netip.Addr{alice, alice.Next()}
	in6 := netip.MustParseAddr("fd00:1:2:3::1")
	for _, a := range append(same24, bob) {
		tr.answer(a, chatName, 300, server.Addr().String())
		tr.conn(a, server).whole()
	}
	server6 := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
	tr.conn(in6, server6).whole()
	file := tr.save(t)
	run := func(args ...string) []byte {
		args = append([]string{"analyze", "--flows", "-"}, append(args, file)...)
		o := execute(t, nil, args...)
		if o.code != 0 || len(o.stderr) > 0 {
			t.Fatalf("exit status %d, standard error %q", o.code, o.stderr)
		}
		return o.stdout
	}
	first := run()
	if !bytes.Equal(first, run()) || !bytes.Equal(first, run("--shards", "7")) {
		t.Error("the pseudonyms of a second run are others")
	}
	if !bytes.Equal(first, run("--subscriber-ids", "pseudonym")) {
		t.Error("--subscriber-ids pseudonym is not the default")
	}
	for _, a := range []netip.Addr{alice, same24[1], bob, in6} {
		if bytes.Contains(first, []byte(`"`+a.String()+`"`)) {
			t.Errorf("the records show the subscriber %s", a)
		}
	}
	recs := decodeRecords(t, first)
	byPort := map[uint16]netip.Addr{}
	for _, r := range recs {
		byPort[r.SubscriberPort] = r.Subscriber
		if r.Server != server.Addr() && r.Server != server6.Addr() {
			t.Errorf("the server %s is no pseudonym's business", r.Server)
		}
		if r.Subscriber.Is4() != (r.Server == server.Addr()) {
			t.Errorf("%s: the pseudonym is of another family", &r)
		}
	}
	a, b := byPort[40001].As4(), byPort[40002].As4()
	if a == b || !bytes.Equal(a[:3], b[:3]) {
		t.Errorf("the pseudonyms %v and %v of one /24 share no /24, or are one", a, b)
	}
	keys, err := filepath.Glob(filepath.Join(home, "*", "*"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("files in the configuration directory: %v, %v; want the one key", keys, err)
	}
	if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v; want 0600", info.Mode(), err)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if bytes.Equal(first, run()) {
		t.Error("another key gives the same pseudonyms")
	}
}
