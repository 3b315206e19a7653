package metrics

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

// flood is a source of forged frames that nobody has told it to expect: random
// names, server and subscriber addresses, and access point names.
type flood struct {
	t    *testing.T
	rng  *rand.Rand
	left int // rounds
	now  int64
	// told are the names and addresses that must not be in a label.
	told map[string]bool
	data []byte
	at   []int
	sent atomic.Uint64
}

func (f *flood) Interfaces() []string   { return []string{"eth0"} }
func (f *flood) Release(*capture.Batch) {}
func (f *flood) Close() error           { return nil }
func (f *flood) Stats() capture.Stats {
	return capture.Stats{Interfaces: []capture.InterfaceStats{{Name: "eth0", Packets: f.sent.Load()}}}
}

// Next makes a hundred rounds: the frames lie one after the other in data.
func (f *flood) Next(b *capture.Batch) error {
	if f.left == 0 {
		return io.EOF
	}
	f.data, f.at = make([]byte, 0, 1<<17), f.at[:0]
	for range min(100, f.left) {
		f.left--
		f.round()
	}
	b.Frames = b.Frames[:0]
	for i, from := range f.at {
		to := len(f.data)
		if i+1 < len(f.at) {
			to = f.at[i+1]
		}
		f.now += 500_000
		b.Frames = append(b.Frames, capture.Frame{Time: f.now, Data: f.data[from:to:to], WireLen: uint32(to - from), Link: decode.LinkRaw})
	}
	f.sent.Add(uint64(len(b.Frames)))
	return nil
}

func (f *flood) address(first byte) netip.Addr {
	a := netip.AddrFrom4([4]byte{first, byte(f.rng.Uint32()), byte(f.rng.Uint32()), byte(f.rng.Uint32())})
	f.told[a.String()] = true
	return a
}

func (f *flood) word() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, 8+f.rng.IntN(20))
	for i := range b {
		b[i] = letters[f.rng.IntN(len(letters))]
	}
	return string(b)
}

// round is a subscriber that nobody knew, who asks for a name that nobody knew and
// is told of a server that nobody knew; with a session of an access point name that
// nobody knew every tenth time.
func (f *flood) round() {
	subscriber, server, resolver := f.address(10), f.address(203), netip.AddrFrom4([4]byte{9, 9, 9, 9})
	name := f.word() + "." + []string{"whatsapp.net", "whatsapp.com", "example", "com"}[f.rng.IntN(4)]
	f.told[name] = true
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	r := new(dns.Msg).SetRcode(q, f.rng.IntN(16))
	r.Answer = append(r.Answer, &dns.A{
		Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: f.rng.Uint32N(1000)}, A: server.AsSlice(),
	})
	for i, m := range []*dns.Msg{q, r} {
		wire, err := m.Pack()
		if err != nil {
			f.t.Fatal(err)
		}
		if i == 0 {
			f.datagram(subscriber, resolver, 4000, 53, wire)
		} else {
			f.datagram(resolver, subscriber, 53, 4000, wire)
		}
	}
	segment := make([]byte, 20)
	binary.BigEndian.PutUint16(segment, uint16(1024+f.rng.IntN(60000)))
	binary.BigEndian.PutUint16(segment[2:], []uint16{443, 5222, 853, 80}[f.rng.IntN(4)])
	segment[12], segment[13] = 5<<4, 2 // SYN
	f.frame(subscriber, server, 6, segment)
	if f.left%10 == 0 {
		f.session(subscriber, server, segment)
	}
}

// session is one of GTPv1-C (TS 29.060 sections 7.3.1 and 7.3.2), and a packet in
// its tunnel.
func (f *flood) session(subscriber, server netip.Addr, segment []byte) {
	apn := f.word()
	f.told[apn] = true
	sgsn, ggsn := netip.AddrFrom4([4]byte{172, 16, 0, 1}), netip.AddrFrom4([4]byte{172, 16, 0, 2})
	seq, down, up := uint16(f.rng.Uint32()), f.rng.Uint32()|1, f.rng.Uint32()|1
	tlv := func(b []byte, kind byte, value ...byte) []byte {
		return append(append(b, kind, byte(len(value)>>8), byte(len(value))), value...)
	}
	message := func(kind byte, teid uint32, elements []byte) []byte {
		b := append([]byte{0x32, kind}, 0, byte(4+len(elements)))
		b = binary.BigEndian.AppendUint32(b, teid)
		b = append(binary.BigEndian.AppendUint16(b, seq), 0, 0)
		return append(b, elements...)
	}
	request := []byte{2}
	for range 8 { // IMSI
		request = append(request, byte(f.rng.IntN(10))<<4|byte(f.rng.IntN(10)))
	}
	request = binary.BigEndian.AppendUint32(append(request, 16), down)
	request = binary.BigEndian.AppendUint32(append(request, 17), down)
	request = append(request, 20, 5)
	request = tlv(request, 128, 0xf1, 0x21)
	request = tlv(request, 131, append([]byte{byte(len(apn))}, apn...)...)
	request = tlv(tlv(request, 133, sgsn.AsSlice()...), 133, sgsn.AsSlice()...)
	response := binary.BigEndian.AppendUint32([]byte{1, 128, 16}, up)
	response = binary.BigEndian.AppendUint32(append(response, 17), up)
	response = tlv(response, 128, append([]byte{0xf1, 0x21}, subscriber.AsSlice()...)...)
	response = tlv(tlv(response, 133, ggsn.AsSlice()...), 133, ggsn.AsSlice()...)
	f.datagram(sgsn, ggsn, 2123, 2123, message(16, 0, request))
	f.datagram(ggsn, sgsn, 2123, 2123, message(17, down, response))
	inner := ipOf(subscriber, server, 6, segment)
	pdu := binary.BigEndian.AppendUint32([]byte{0x30, 255, 0, byte(len(inner))}, up)
	f.datagram(sgsn, ggsn, 2152, 2152, append(pdu, inner...))
}

func (f *flood) datagram(src, dst netip.Addr, from, to uint16, payload []byte) {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	f.frame(src, dst, 17, append(append(b, 0, 0), payload...))
}

func ipOf(from, to netip.Addr, protocol byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	return append(b, payload...)
}

func (f *flood) frame(from, to netip.Addr, protocol byte, payload []byte) {
	f.at = append(f.at, len(f.data))
	f.data = append(f.data, ipOf(from, to, protocol, payload)...)
}

// seriesOf returns the series of the page, and all values of labels but le, whose
// numbers are the buckets' bounds.
func seriesOf(t *testing.T, page []byte) (series, values map[string]bool) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	series, values = map[string]bool{}, map[string]bool{}
	for name, f := range families {
		for _, m := range f.Metric {
			key := name
			for _, l := range m.Label {
				key += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
				values[l.GetValue()] = true
			}
			series[key] = true
			for _, n := range bounded(m) {
				series[key+n] = true
			}
		}
	}
	return series, values
}

// bounded are the names of a histogram's or summary's own series.
func bounded(m *dto.Metric) (names []string) {
	for _, b := range m.GetHistogram().GetBucket() {
		names = append(names, fmt.Sprintf(",le=%g", b.GetUpperBound()))
	}
	for _, q := range m.GetSummary().GetQuantile() {
		names = append(names, fmt.Sprintf(",quantile=%g", q.GetQuantile()))
	}
	return names
}

// TestSeriesAreFixedUnderFlood: a hundred thousand names, servers and subscribers
// and ten thousand access point names that nobody knew, through the engine, leave
// the page with the very series that it had before the first packet.
func TestSeriesAreFixedUnderFlood(t *testing.T) {
	rounds := 100_000
	if testing.Short() {
		rounds = 5_000
	}
	watcher := watch.New(nil)
	engine, err := probe.New(probe.Config{
		Shards: 2, Memory: probe.MinMemory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Rules: classify.Builtin(), APNs: []string{"internet", "wap"},
		Watch: watcher.Observe, WatchEvery: watch.Fine,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig
	cfg.Interfaces, cfg.Status = []string{"eth0"}, watcher.Status
	h := Handler(New(engine.Snapshot, cfg), nil)
	get(t, h, "text/plain") // the handler counts scrapes from the first on
	before, _ := seriesOf(t, get(t, h, "text/plain").Body.Bytes())

	f := &flood{t: t, rng: rand.New(rand.NewPCG(1, 9)), left: rounds, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano(), told: map[string]bool{}}
	if err := engine.Run(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	page := get(t, h, "text/plain").Body.Bytes()
	after, values := seriesOf(t, page)

	s := engine.Snapshot()
	opened := uint64(0)
	for i := range s.Classes {
		opened += s.Classes[i].Opened
	}
	n := uint64(rounds)
	if s.Outcomes[decode.TCP] < n || s.DNS.Addresses < n/20 || opened < n*9/10 || s.GTP.Created < n/11 || s.GTP.APNs[1].Flows < n/20 {
		t.Fatalf("the flood has not arrived: %d segments, %d addresses, %d flows, %d sessions, %d flows behind unknown access points",
			s.Outcomes[decode.TCP], s.DNS.Addresses, opened, s.GTP.Created, s.GTP.APNs[1].Flows)
	}
	for key := range after {
		if !before[key] {
			t.Errorf("new: %s", key)
		}
	}
	for key := range before {
		if !after[key] {
			t.Errorf("gone: %s", key)
		}
	}
	for v := range values {
		if _, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil || f.told[v] {
			t.Errorf("a label holds %q", v)
		}
	}
	t.Logf("%d series, before and after", len(after))
}
