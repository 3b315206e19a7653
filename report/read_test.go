package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
)

// goodLine is a record as nametap writes it, all keys.
const goodLine = `{"start":"2014-02-21T23:00:07.735018766Z","end":"2014-02-21T23:00:09.124040917Z","duration_s":1.389022151,` +
	`"subscriber":"77.192.223.70","subscriber_port":57487,"server":"67.228.47.20","server_port":443,"name":"mmi615.whatsapp.net",` +
	`"dns_name":"mmi615.whatsapp.net","sni":null,"evidence":"dns","dns_age_s":0.077528338,"app":"whatsapp","class":"photo","syn_seen":true,` +
	`"end_reason":"fin","uplink_bytes":20842,"downlink_bytes":1141,"uplink_packets":22,"downlink_packets":13,"uplink_payload_bytes":19686,` +
	`"downlink_payload_bytes":457,"syn":1,"syn_ack":1,"fin":2,"rst":0,"uplink_retransmitted":0,"downlink_retransmitted":0,` +
	`"uplink_out_of_order":0,"downlink_out_of_order":0,"server_rtt_handshake_s":0.106021,"access_rtt_handshake_s":0.07605,` +
	`"server_rtt_min_s":0.106021,"server_rtt_mean_s":0.11869716666666667,"access_rtt_min_s":0.07605,"access_rtt_mean_s":0.0980065,` +
	`"os":"ios","tunnel":null,"apn":null,"imsi":null,"tac":null,"uplink_lost_before_tap":0,"downlink_lost_before_tap":0,` +
	`"uplink_unseen_bytes":0,"downlink_unseen_bytes":0,"server_rtt_samples":6,"access_rtt_samples":4}`

func readAll(t *testing.T, text string) ([]Record, error) {
	t.Helper()
	var out []Record
	err := ReadRecords("flows.jsonl", bufio.NewReader(strings.NewReader(text)), func(r *Record) { out = append(out, *r) })
	return out, err
}

func TestReadRecords(t *testing.T) {
	change := func(old, new string) string {
		s := strings.Replace(goodLine, old, new, 1)
		if s == goodLine {
			t.Fatalf("%s is not in the line", old)
		}
		return s
	}
	for _, c := range []struct{ name, line, problem string }{
		{"as written", goodLine, ""},
		{"spaces", strings.ReplaceAll(goodLine, `","`, "\" ,\t\""), ""},
		{"unknown key", change(`{`, `{"next":[1,{"a":"}"}],`), ""},
		{"unknown nested in the middle", change(`"rst":0`, `"x":{"y":[{}]},"rst":0`), ""},
		{"escaped name", change(`mmi615.whatsapp.net`, `mmi615\u002ewhatsapp.net`), ""},
		{"optional keys gone", change(`"os":"ios",`, ``), ""},
		{"no payload counts", change(`"uplink_payload_bytes":19686,`, ``), ""},
		{"not JSON", "hello", "not a JSON object"},
		{"array", "[" + goodLine + "]", "not a JSON object"},
		{"cut", goodLine[:200], "broken JSON"},
		{"cut in a string", goodLine[:15], "string does not end"},
		{"two objects", goodLine + goodLine, "something follows"},
		{"no comma", change(`","end"`, `""end"`), "comma"},
		{"no colon", change(`"end":`, `"end" `), "colon"},
		{"trailing comma", change(`"access_rtt_samples":4}`, `"access_rtt_samples":4,}`), "expected a string"},
		{"key twice", change(`"syn":1`, `"syn":1,"syn":1`), "stands twice"},
		{"no start", change(`"start"`, `"begin"`), `no key "start"`},
		{"no class", change(`"class":"photo",`, ``), `no key "class"`},
		{"no downlink", change(`"downlink_bytes":1141,`, ``), `no key "downlink_bytes"`},
		{"time as number", change(`"2014-02-21T23:00:07.735018766Z"`, `1393027207`), `key "start": expected a time`},
		{"time long ago", change(`2014-02-21T23:00:07`, `1914-02-21T23:00:07`), `expected a time`},
		{"ends before", change(`"end":"2014`, `"end":"2013`), "ends before it starts"},
		{"negative", change(`"uplink_bytes":20842`, `"uplink_bytes":-1`), `key "uplink_bytes": expected a whole number`},
		{"fraction", change(`"uplink_bytes":20842`, `"uplink_bytes":1.5`), `expected a whole number`},
		{"text for a number", change(`"syn":1`, `"syn":"1"`), `key "syn"`},
		{"number for a text", change(`"app":"whatsapp"`, `"app":7`), `key "app": expected a string`},
		{"no app", change(`"app":"whatsapp"`, `"app":""`), `key "app": expected a word`},
		{"address", change(`67.228.47.20`, `67.228.47.420`), `key "server": expected an IP address`},
		{"zone", change(`67.228.47.20`, `fe80::1%eth0`), `expected an IP address`},
		{"port", change(`"server_port":443`, `"server_port":70000`), `not a port`},
		{"bool", change(`"syn_seen":true`, `"syn_seen":1`), `expected true or false`},
		{"rtt", change(`"server_rtt_min_s":0.106021`, `"server_rtt_min_s":-0.1`), `number of seconds`},
		{"word", change(`"sni":null`, `"sni":nil`), `not a value`},
		{"number", change(`"syn":1`, `"syn":01`), `not a number`},
		{"nested broken", change(`{`, `{"x":{"y"},`), `broken value`},
	} {
		got, err := readAll(t, goodLine+"\n"+c.line+"\n\n"+goodLine)
		if c.problem == "" {
			if err != nil || len(got) != 3 {
				t.Errorf("%s: %d records, %v", c.name, len(got), err)
			}
			continue
		}
		var bad *BadLines
		if !errors.As(err, &bad) || bad.Count != 1 || len(got) != 2 {
			t.Errorf("%s: %d records, %v", c.name, len(got), err)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "flows.jsonl:2: ") || !strings.Contains(text, c.problem) || strings.Contains(text, "\n") {
			t.Errorf("%s: %s; want %q", c.name, text, c.problem)
		}
	}
}

func TestManyBadLines(t *testing.T) {
	_, err := readAll(t, strings.Repeat("x\n", 100)+goodLine)
	if err == nil || !strings.HasSuffix(err.Error(), "and 95 more such lines") {
		t.Error(err)
	}
	got, err := readAll(t, `{"x":"`+strings.Repeat("a", 3<<20)+"\"}\n"+goodLine)
	if err == nil || !strings.Contains(err.Error(), "flows.jsonl:1: longer than") || len(got) != 1 {
		t.Error(err, len(got))
	}
	long := strings.Replace(goodLine, "{", `{"x":"`+strings.Repeat("a", 100<<10)+`",`, 1)
	if got, err := readAll(t, long+"\n"+goodLine); err != nil || len(got) != 2 {
		t.Error(err, len(got))
	}
}

// TestSameAsWritten: what export writes of a flow is read as the flow itself is
// taken.
func TestSameAsWritten(t *testing.T) {
	f := flows.Record{
		Key:   flows.Key{Subscriber: decode.Addr{Lo: 0xffff_0a00_0001}, Server: decode.Addr{Lo: 0xffff_0808_0808}, SubscriberPort: 5, ServerPort: 443},
		Start: 1393027207735018766, End: 1393027209124040917,
		Name: "mmi1.whatsapp.net", DNSName: "mmi1.whatsapp.net", SNI: "mmi1.whatsapp.net", Evidence: "sni", DNSAnswered: 1393027207000000000,
		App: "whatsapp", Class: "photo", SYNSeen: true, Reason: flows.EndFIN, Packets: [2]uint64{3, 4}, Bytes: [2]uint64{100, 1 << 40}, Payload: [2]uint64{5, 6},
		SYN: 2, SYNACK: 1, FIN: 1, RST: 3, Retransmitted: [2]uint32{1, 2}, OutOfOrder: [2]uint32{3, 4}, LostBefore: [2]uint32{5, 6}, Unseen: [2]uint32{7, 8},
		RTTHandshake: [2]int64{106021, flows.NoSample}, RTTMin: [2]int64{1, 33333}, OS: flows.OSIOS, APN: "internet",
	}
	ids := export.ClearAddresses(nil)
	got, err := readAll(t, string(export.AppendRecord(nil, &f, ids)))
	if err != nil || len(got) != 1 {
		t.Fatal(err)
	}
	want := FromFlow(&f, ids.Subscriber(f.Key.Subscriber), ids.Server(f.Key.Server), false)
	if !math.IsNaN(got[0].RTTHandshake[1]) || !math.IsNaN(want.RTTHandshake[1]) {
		t.Error("no sample is a sample")
	}
	got[0].RTTHandshake[1], want.RTTHandshake[1] = 0, 0
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("read  %+v\ntaken %+v", got[0], want)
	}
}

func TestUnpackAndDetect(t *testing.T) {
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	fmt.Fprintln(g, goodLine)
	g.Close()
	z, _ := zstd.NewWriter(&zs)
	fmt.Fprintln(z, goodLine)
	z.Close()
	for _, c := range []struct {
		name string
		data []byte
		want Format
	}{
		{"plain", []byte(goodLine), FormatRecords},
		{"gzip", gz.Bytes(), FormatRecords},
		{"zstd", zs.Bytes(), FormatRecords},
		{"byte order mark", []byte("\ufeff\r\n" + goodLine), FormatRecords},
		{"pcap", []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0}, FormatCapture},
		{"pcap, big-endian nanoseconds", []byte{0xa1, 0xb2, 0x3c, 0x4d}, FormatCapture},
		{"pcapng", []byte{0x0a, 0x0d, 0x0d, 0x0a}, FormatCapture},
		{"empty", nil, FormatUnknown},
		{"text", []byte("time,count\n"), FormatUnknown},
		{"short", []byte("{"), FormatRecords},
	} {
		path := filepath.Join(t.TempDir(), "input")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := DetectFile(path); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if _, err := DetectFile("nowhere/at/all"); err == nil || strings.Count(err.Error(), "nowhere") != 1 {
		t.Error(err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(goodLine))
	f.Add([]byte(`{"start":"\u0000","x":[[[]]],"a":-0e1}`))
	f.Add([]byte(`{"app":"\ud800"}`))
	f.Fuzz(func(_ *testing.T, line []byte) {
		p := parser{interned: map[string]string{}}
		var r Record
		if p.record(bytes.TrimSpace(line), &r) == nil {
			c := NewCollector(Options{})
			c.Add(&r)
			c.Report()
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p := parser{interned: map[string]string{}}
	var r Record
	b.SetBytes(int64(len(goodLine)))
	b.ReportAllocs()
	for range b.N {
		if err := p.record([]byte(goodLine), &r); err != nil {
			b.Fatal(err)
		}
	}
}
