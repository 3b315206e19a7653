package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/arena"
)

// flood is hostile packets, each made at its turn.
type flood struct {
	start, gap int64
	n          int
	forge      func(r *rand.Rand, i int, b []byte) []byte
}

// stage is what a flooded source plays: frames, then a flood.
type stage struct {
	frames []capture.Frame
	flood  *flood
}

// flooded is a Source of frames and floods. between is called where one stage
// ends.
type flooded struct {
	stages  []stage
	random  *rand.Rand
	between func()
	i       int
}

func (s *flooded) Next(b *capture.Batch) error {
	b.Frames = b.Frames[:0]
	for len(s.stages) > 0 {
		st := &s.stages[0]
		if len(st.frames) > 0 {
			n := min(256, len(st.frames))
			b.Frames = append(b.Frames, st.frames[:n]...)
			st.frames = st.frames[n:]
			return nil
		}
		if f := st.flood; f != nil && s.i < f.n {
			buf := b.Buffer(256 * 512)[:256*512]
			for range min(256, f.n-s.i) {
				data := f.forge(s.random, s.i, buf[:512:512])
				b.Frames = append(b.Frames, capture.Frame{
					Data: data, Time: f.start + int64(s.i)*f.gap, WireLen: uint32(len(data)), Link: decode.LinkRaw,
				})
				buf = buf[512:]
				s.i++
			}
			return nil
		}
		s.between()
		s.stages, s.i = s.stages[1:], 0
	}
	return io.EOF
}
func (s *flooded) Release(*capture.Batch) {}
func (s *flooded) Interfaces() []string   { return []string{"memory"} }
func (s *flooded) Stats() capture.Stats   { return capture.Stats{} }
func (s *flooded) Close() error           { return nil }

// put writes an address of four bytes.
func put(b []byte, network, host uint32) { binary.BigEndian.PutUint32(b, network|host) }

// synFlood forges bare SYN or SYN/ACK segments between random addresses.
func synFlood(subscribers, servers, hosts uint32, flags byte) func(*rand.Rand, int, []byte) []byte {
	return func(r *rand.Rand, i int, b []byte) []byte {
		b = b[:40]
		clear(b)
		b[0], b[3], b[8], b[9] = 0x45, 40, 60, 6
		binary.BigEndian.PutUint16(b[4:], uint16(i)|1)
		subscriber, server := b[12:], b[16:]
		from, to := b[20:22], b[22:24]
		if flags&decode.ACK != 0 {
			subscriber, server, from, to = server, subscriber, to, from
		}
		put(subscriber, subscribers, r.Uint32()&hosts)
		put(server, servers, r.Uint32()&hosts)
		binary.BigEndian.PutUint16(from, uint16(r.Uint32())|1024)
		binary.BigEndian.PutUint16(to, 443)
		binary.BigEndian.PutUint32(b[24:], r.Uint32())
		b[32], b[33], b[34] = 0x50, flags, 1
		return b
	}
}

// templated patches copies of templates: places hold random bytes.
func templated(templates [][]byte, patch func(r *rand.Rand, i int, b []byte)) func(*rand.Rand, int, []byte) []byte {
	return func(r *rand.Rand, i int, b []byte) []byte {
		b = b[:copy(b, templates[i%len(templates)])]
		binary.BigEndian.PutUint16(b[4:], uint16(i)|1)
		patch(r, i, b)
		return b
	}
}

// dnsFlood forges answers of random names and addresses to random subscribers.
func dnsFlood(g *gn) func(*rand.Rand, int, []byte) []byte {
	template := g.answer("198.51.100.53", "10.200.0.1", "aaaaaaaaaaaa.flood.example", "93.184.216.34", 3600)
	name := bytes.Index(template, []byte("aaaaaaaaaaaa"))
	return templated([][]byte{template}, func(r *rand.Rand, _ int, b []byte) {
		put(b[16:], 10<<24|128<<16, r.Uint32()&0x7fffff)
		for i := range 12 {
			b[name+i] = 'a' + byte(r.IntN(26))
		}
		put(b[len(b)-4:], 93<<24, r.Uint32()&0xffffff)
	})
}

// createFlood forges sessions of random subscribers: requests and responses.
func createFlood(g *gn) func(*rand.Rand, int, []byte) []byte {
	other := &gn{t: g.t, now: g.now, seq: 1000}
	other.attach("999999999999999", "flood", "10.200.0.1", "", 0x77000000)
	request, response := other.list[0].Data, other.list[1].Data
	imsi := bytes.Index(request, []byte{0x99, 0x99, 0x99, 0x99, 0x99, 0x99, 0x99, 0xf9})
	ue := bytes.Index(response, []byte{10, 200, 0, 1})
	var digits [4]byte
	return templated([][]byte{request, response}, func(r *rand.Rand, i int, b []byte) {
		serial := uint32(i / 2)
		binary.BigEndian.PutUint32(b[28+8:], serial<<8) // sequence number
		if i%2 == 0 {
			for d := range digits {
				b[imsi+2+d] = byte(r.IntN(10))<<4 | byte(r.IntN(10))
			}
		} else {
			put(b[ue:], 10<<24|128<<16, r.Uint32()&0x7fffff)
		}
		// TEIDs of this session alone: 0x770000xx in the templates.
		for at := 28; at+4 <= len(b); at++ {
			if b[at] == 0x77 && b[at+1] == 0 && b[at+2] == 0 && b[at+3] < 4 {
				binary.BigEndian.PutUint32(b[at:], 0x80000000|serial<<3|uint32(b[at+3]))
				at += 3
			}
		}
	})
}

// heap is what Go holds live, after a collection.
func heap() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// chatter is the ordinary life that goes on under a flood.
type chatter struct {
	*gn
	stages []stage
}

const (
	chatUsers  = 40
	chatServer = "157.240.1.1"
	nextServer = "157.240.1.2"
)

func chatUser(i int) string { return fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250) }

// outsider is a chat of which neither end is in the subscribers' prefixes, with
// the lower port at the subscriber's end: who sent the SYN decides.
func outsider(i int) string { return fmt.Sprintf("203.0.113.%d", 1+i) }

// stranger is another, whose DNS is not to be seen.
func stranger(i int) string { return fmt.Sprintf("198.18.0.%d", 1+i) }

func (c *chatter) open(user string, port int, server string, serverPort int) {
	c.frame(c.tcp(user, server, port, serverPort, "S", 100, 0, ""))
	c.frame(c.tcp(server, user, serverPort, port, "SA", 500, 101, ""))
	c.frame(c.tcp(user, server, port, serverPort, "A", 101, 501, ""))
	c.frame(c.tcp(user, server, port, serverPort, "A", 101, 501, "WA\x05\x02"))
	c.frame(c.tcp(server, user, serverPort, port, "A", 501, 105, "hello"))
}

// keepAlive lets every chat say something.
func (c *chatter) keepAlive(round int) {
	up, down := uint32(105+10*round), uint32(506+10*round)
	for i := range chatUsers {
		c.frame(c.tcp(chatUser(i), chatServer, 40000, 5222, "A", up, down, "0123456789"))
		c.frame(c.tcp(chatServer, chatUser(i), 5222, 40000, "A", down, up+10, "0123456789"))
		c.frame(c.tcp(outsider(i), "203.0.114.9", 300, 5222, "A", up, down, "0123456789"))
		c.frame(c.tcp("203.0.114.9", outsider(i), 5222, 300, "A", down, up+10, "0123456789"))
		c.frame(c.tcp(stranger(i), "203.0.114.9", 301, 5222, "A", up, down, "0123456789"))
		c.frame(c.tcp("203.0.114.9", stranger(i), 5222, 301, "A", down, up+10, "0123456789"))
	}
}

// play ends the stage with a flood, if there is one.
func (c *chatter) play(f *flood) {
	c.stages = append(c.stages, stage{c.list, f})
	c.list = nil
	if f != nil {
		c.now = f.start + int64(f.n)*f.gap
	}
}

const rounds = 4

// script is: chats open, then time and again a flood of a million packets a
// second, minutes of silence, and a word on every chat. In the end everybody
// goes to a second server of the first answer, and a newcomer to the first.
func script(t *testing.T, forge func(g *gn) func(*rand.Rand, int, []byte) []byte, n int) []stage {
	c := &chatter{gn: newGn(t)}
	for i := range chatUsers {
		c.frame(c.answer("10.255.0.53", chatUser(i), "e1.whatsapp.net", chatServer, 3600))
		c.frame(c.answer("10.255.0.53", chatUser(i), "e2.whatsapp.net", nextServer, 3600))
		c.frame(c.answer("10.255.0.53", outsider(i), "e3.whatsapp.net", "203.0.114.9", 3600))
	}
	for i := range chatUsers {
		c.open(chatUser(i), 40000, chatServer, 5222)
		c.open(outsider(i), 300, "203.0.114.9", 5222)
		c.open(chatUser(i), 40001, nextServer, 5222)
		c.open(stranger(i), 301, "203.0.114.9", 5222)
	}
	tunnel := c.attach("262011234567890", "internet", "10.9.9.9", "", 0x100)
	tunnel.downlink(c.answer("198.51.100.53", tunnel.v4, "e4.whatsapp.net", "157.240.1.4", 3600))
	tunnel.connects("157.240.1.4", 50000)
	for round := range rounds {
		c.wait(time.Second)
		c.play(&flood{start: c.now, gap: int64(time.Microsecond), n: n, forge: forge(c.gn)})
		c.wait(2 * time.Minute)
		c.keepAlive(round)
		tunnel.connects("157.240.1.4", 50001+round)
	}
	for i := range chatUsers {
		c.open(chatUser(i), 40002, nextServer, 5222)
	}
	for i := range chatUsers {
		c.open(stranger(i), 302, "203.0.114.9", 5222) // still named by what others were told
	}
	c.frame(c.answer("10.255.0.53", "10.1.99.1", "e1.whatsapp.net", chatServer, 3600))
	c.open("10.1.99.1", 40000, chatServer, 5222)
	c.play(nil)
	return c.stages
}

// TestFloods holds that no flood of a million packets a second evicts what was
// established before it, or moves memory: at the least budget, over minutes.
func TestFloods(t *testing.T) {
	n := 250_000
	if testing.Short() {
		n = 100_000
	}
	syn := func(subscribers, servers, hosts uint32, flags byte) func(*gn) func(*rand.Rand, int, []byte) []byte {
		return func(*gn) func(*rand.Rand, int, []byte) []byte { return synFlood(subscribers, servers, hosts, flags) }
	}
	for _, c := range []struct {
		what  string
		forge func(*gn) func(*rand.Rand, int, []byte) []byte
	}{
		{"SYN from random subscribers", syn(10<<24|128<<16, 31<<24, 0x7fffff, decode.SYN)},
		{"SYN between strangers", syn(45<<24, 31<<24, 0xffffff, decode.SYN)},
		{"SYN/ACK from random servers", syn(10<<24|128<<16, 31<<24, 0x7fffff, decode.SYN|decode.ACK)},
		{"DNS answers", dnsFlood},
		{"GTP-C creates", createFlood},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Run("outcome", func(t *testing.T) { testOutcome(t, script(t, c.forge, n)) })
			if !testing.Short() { // one goroutine works it: a race has nothing to show
				t.Run("memory", func(t *testing.T) { testMemory(t, script(t, c.forge, n)) })
			}
		})
	}
}

// floodConfig is the least there is.
func floodConfig() Config {
	cfg := config(1)
	cfg.Memory = MinMemory
	cfg.Dedup = 10 * time.Millisecond
	return cfg
}

func testOutcome(t *testing.T, stages []stage) {
	cfg := floodConfig()
	var kept []flows.Record
	cfg.Records = func(list []flows.Record) {
		for i := range list {
			if r := &list[i]; r.Evidence != "none" || r.Reason == flows.EndEvicted && r.Packets[flows.Down] > 1 {
				kept = append(kept, *r)
			}
		}
	}
	e := newEngine(t, cfg)
	source := &flooded{stages: stages, random: rand.New(rand.NewPCG(5, 6)), between: func() {}}
	if err := e.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	checkChats(t, kept)
	checkSession(t, kept)
	checkPresence(t, e.Snapshot())
}

// testMemory looks at all memory between the floods, and while records are given
// out.
func testMemory(t *testing.T, stages []stage) {
	before := arena.Reserved()
	cfg := floodConfig()
	var e *Engine
	waiting := 0
	cfg.Records = func([]flows.Record) { waiting = max(waiting, waitingRecords(e)) }
	e = newEngine(t, cfg)
	var reserved, live []int64
	source := &flooded{stages: stages, random: rand.New(rand.NewPCG(5, 6)), between: func() {
		reserved, live = append(reserved, arena.Reserved()-before), append(live, heap())
	}}
	if err := e.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	for i, r := range reserved {
		if r > MinMemory {
			t.Errorf("stage %d: %d bytes reserved of %d", i, r, MinMemory)
		}
		// The first flood fills the tables, the second the buffers of the other
		// steps; after that nothing grows.
		if i > 1 && (r > reserved[1]+64<<10 || live[i] > live[1]+8<<20) {
			t.Errorf("stage %d: %d bytes of tables and %d of heap, after the second flood %d and %d", i, r, live[i], reserved[1], live[1])
		}
	}
	if most := int(cfg.Memory) / 100 * recordsShare / int(unsafe.Sizeof(flows.Record{})); waiting == 0 || waiting > most {
		t.Errorf("%d records were waiting, %d take the memory they may have", waiting, most)
	}
	t.Logf("tables %v, heap %v, %d records", reserved, live, waiting)
}

// waitingRecords counts the room of an engine with one shard for records that
// have not been given out.
func waitingRecords(e *Engine) (n int) {
	for _, a := range e.parts {
		n += cap(a.ended[0]) + cap(a.ended[1])
	}
	return n
}

// checkChats holds that every chat is one flow with all of its packets, named by
// its own answer.
func checkChats(t *testing.T, kept []flows.Record) {
	t.Helper()
	chats := map[string]int{}
	for i := range kept {
		r := &kept[i]
		long := r.Key.SubscriberPort == 40000 || r.Key.SubscriberPort <= 301
		packets := [2]uint64{3, 2}
		if long && r.Key.Subscriber != addr("10.1.99.1") {
			packets = [2]uint64{3 + rounds, 2 + rounds}
		}
		evidence := "dns"
		if r.Key.SubscriberPort == 301 || r.Key.SubscriberPort == 302 {
			evidence = "server"
		}
		if r.Class != "chat" || r.Evidence != evidence || r.Key.ServerPort != 5222 {
			continue
		}
		if !r.SYNSeen || r.Packets != packets || r.Reason != flows.EndShutdown {
			t.Errorf("%v:%d -> %v: %v packets, ended by %v", r.Key.Subscriber.Netip(), r.Key.SubscriberPort, r.Key.Server.Netip(), r.Packets, r.Reason)
		}
		chats[fmt.Sprint(r.Key.SubscriberPort)]++
	}
	for port, want := range map[string]int{"40000": chatUsers + 1, "300": chatUsers, "301": chatUsers, "302": chatUsers, "40001": chatUsers, "40002": chatUsers} {
		if chats[port] != want {
			t.Errorf("%d chats from port %s, want %d", chats[port], port, want)
		}
	}
}

// checkSession holds that the subscriber in the tunnel stayed known.
func checkSession(t *testing.T, kept []flows.Record) {
	t.Helper()
	n := 0
	for i := range kept {
		if r := &kept[i]; r.Tunnel == decode.TunnelGTP {
			n++
			if r.APN != "internet" || r.Evidence != "dns" || r.Name != "e4.whatsapp.net" {
				t.Errorf("in the tunnel: APN %q, name %q by %s", r.APN, r.Name, r.Evidence)
			}
		}
	}
	if n != 1+rounds {
		t.Errorf("%d flows in the tunnel, want %d", n, 1+rounds)
	}
}

// checkPresence holds that chat users are counted, the newcomer too.
func checkPresence(t *testing.T, s *Snapshot) {
	t.Helper()
	for i := range s.Classes {
		if c := &s.Classes[i]; c.Class == "chat" && (c.ActiveSubscribers != 3*chatUsers+2 || c.Subscribers != 3*chatUsers+2) {
			t.Errorf("%d active chat users of %d ever, want %d", c.ActiveSubscribers, c.Subscribers, 3*chatUsers+2)
		}
	}
}

// TestFloodsAndShards: what a full set of servers refuses, and how often, does not
// hang on the number of shards either.
func TestFloodsAndShards(t *testing.T) {
	forge, r := synFlood(0x0a000000, 0xc6120000, 0x7fff, decode.SYN), rand.New(rand.NewPCG(1, 2))
	var list []capture.Frame
	for i := range 60_000 {
		b := slices.Clone(forge(r, i, make([]byte, 64)))
		list = append(list, capture.Frame{Time: int64(i+1) * 200_000, Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	late := list[0] // long after all have timed out, in the same minute for all
	late.Time = 110 * second
	list = append(list, late)
	cfg := config(1)
	cfg.Memory = MinMemory
	want := digest(t, cfg, list, 300)
	if strings.Contains(want, `"PresenceRefused":0`) {
		t.Error("nothing was refused: the flood proves too little")
	}
	for _, shards := range []int{2, 7} {
		cfg.Shards = shards
		if digest(t, cfg, list, 300) != want {
			t.Errorf("%d shards: another outcome than with one", shards)
		}
	}
}
