package contract

import (
	"encoding/csv"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// captures are other people's, with tshark's truth beside them.
const captures = "../../shared/captures"

// captureFiles lists the real captures, and skips the test where there are none.
func captureFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.pcap", "*.pcapng"} {
		found, err := filepath.Glob(filepath.Join(captures, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skipf("the real captures are not at %s; they are not part of the project", captures)
	}
	return files
}

// table reads a file of tshark's truth as one map a line; none if there is none.
func table(t testing.TB, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	in := csv.NewReader(f)
	in.Comma, in.LazyQuotes, in.FieldsPerRecord = '\t', true, -1
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, v := range row {
			m[rows[0][i]] = v
		}
		out = append(out, m)
	}
	return out
}

// truth reads a column of a row.
type truth map[string]string

func (m truth) number(column string) uint64 {
	n, _ := strconv.ParseUint(m[column], 10, 64) // empty where tshark has nothing to say
	return n
}

func (m truth) seconds(column string) float64 {
	v, _ := strconv.ParseFloat(m[column], 64)
	return v
}

func net(address, port string) string {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + port
}

// exception is a value of tshark's that is wrong, or that the contract defines
// in another way; want is what is right instead.
type exception struct {
	file, stream, column, want, why string
}

// argumentsFor are the flags under which nametap and tshark mean the same. The
// two captures here were taken at several points of one path and hold every user
// packet two or three times. tshark counts each copy; so must a run that is held
// against it. In the second one no control message tells that its tunnels lead to
// one subscriber, the copies alone do: there, each packet counts once.
var argumentsFor = map[string][]string{srsenb: {"--dedup", "0"}, volte: {"--dedup", "20ms"}}

const (
	srsenb = "open5gs_srsenb.pcapng"
	volte  = "open5gs_volte.pcapng"

	lastLength  = "the inner packet came in two fragments; tshark shows the last one's total length (74) as the packet's, the contract wants the sum over both (1396 + 74)"
	lostCopy    = "frames 146 to 149 are two copies of two inner fragments, interleaved; tshark keys fragments by inner addresses and ID alone, makes one packet of the first three frames and loses the other copy. The tunnels differ: both are whole"
	headerSays  = "the IP header claims more than the frame holds; the contract takes the header, as tshark itself does for the IP bytes of the same packet"
	sightings   = "8 packets up and 7 down (by IP identification) pass two or three points: S1-U, S5-U and, some, SGi; tshark counts each sighting"
	prefixKnows = "tshark guesses by the higher port or the SYN; the contract says that who lives in a subscriber prefix is the subscriber"
)

var exceptions = []exception{
	{
		"nDPI_instagram.pcap", "12", "dns_name", "igcdn-photos-h-a.akamaihd.net",
		"the answer (frame 360) came 49 ms after the first packet; by rule 3 a flow that nothing names stays open to it for 1 s. tshark looks at earlier answers alone",
	},
	{
		"nDPI_instagram.pcap", "12", "dns_age_s", "-0.049",
		"the same answer; its age at the first packet is negative",
	},
	{
		"tcpdump_timestamp_invalid_nano.pcap", "0", "dur_s", "2.147",
		"the fractions of the three times are 0.999999999, 1.000000000 and 2.147483648 s: the last two are carried into the seconds, while tshark reads the last as negative",
	},
	{
		"zeek_handshake-reorder.pcap", "0", "start", "SYN",
		"the SYN/ACK passed the tap before its SYN, but the SYN is there: a connection attempt, not a flow met in mid-stream",
	},
	{"nDPI_fuzz-2006-06-26-2594.pcap", "8", "payload_dn", "29400", headerSays},
	{"nDPI_fuzz-2006-06-26-2594.pcap", "10", "payload_dn", "4129", headerSays},
	{"nDPI_fuzz-2006-06-26-2594.pcap", "18", "payload_up", "74", headerSays},
	{"zeek_reassembly.pcap", "0", "payload_up", "34434", headerSays + " (frames 7, 26, 35, 39 and 85)"},
	{"nDPI_fuzz-2006-06-26-2594.pcap", "20", "client", "192.168.1.2:2721", prefixKnows},
	{"zeek_gre-sample.pcap", "0", "client", "172.28.2.3:22", prefixKnows},
	{srsenb, "0", "ipbytes_dn", "10590", lastLength},
	{srsenb, "1", "ipbytes_dn", "11836", lastLength},
	{srsenb, "2", "ipbytes_dn", "10590", lastLength},
	{srsenb, "3", "ipbytes_dn", "11836", lastLength},
	{srsenb, "5", "ipbytes_dn", "69216", lastLength},
	{volte, "1", "pkts_up", "8", sightings},
	{volte, "1", "pkts_dn", "7", sightings},
	{volte, "1", "ipbytes_up", "2764", sightings},
	{volte, "1", "ipbytes_dn", "2298", sightings},
	{volte, "1", "payload_up", "2432", sightings},
	{volte, "1", "payload_dn", "2006", sightings},
	{volte, "1", "SYN", "1", sightings},
	{volte, "1", "SYNACK", "1", sightings},
	{srsenb, "2", "pkts_dn", "16", lostCopy},
	{srsenb, "2", "payload_dn", "9622", lostCopy},
}

// TestRealCaptures: connection by connection, what nametap says of the real
// captures is what tshark says, but for the exceptions, each of which says why.
func TestRealCaptures(t *testing.T) {
	for _, path := range captureFiles(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := analyzed(t, []string{path}, argumentsFor[name]...)
			rows := table(t, filepath.Join(captures, "truth", name+".flows.tsv"))
			if len(r.records) != len(rows) {
				t.Errorf("%d connections, tshark has %d", len(r.records), len(rows))
			}
			for _, row := range rows {
				compare(t, name, r, row)
			}
			if r.summary.Capture.Packets != packetsIn(t, name) {
				t.Errorf("%d packets, tshark has %d", r.summary.Capture.Packets, packetsIn(t, name))
			}
		})
	}
}

// TestExceptionsAreNeeded: an exception for a connection or a value that is not
// there, or in which tshark and the contract agree, is one too many.
func TestExceptionsAreNeeded(t *testing.T) {
	captureFiles(t)
	for _, e := range exceptions {
		found := false
		for _, row := range table(t, filepath.Join(captures, "truth", e.file+".flows.tsv")) {
			if row["stream"] != e.stream {
				continue
			}
			found = true
			if tshark(row)[e.column] == e.want {
				t.Errorf("%s stream %s: tshark's %s is right", e.file, e.stream, e.column)
			}
		}
		if !found {
			t.Errorf("%s has no stream %s", e.file, e.stream)
		}
	}
}

// tshark is what a record should say by tshark's line, column by column.
func tshark(row truth) map[string]string {
	want := map[string]string{
		"client": net(row["client"], row["cport"]), "server": net(row["server"], row["sport"]),
		"RST":    fmt.Sprint(row.number("RST_up") + row.number("RST_dn")),
		"dur_s":  fmt.Sprintf("%.3f", row.seconds("dur_s")),
		"tunnel": "",
	}
	for _, column := range []string{
		"pkts_up", "pkts_dn", "ipbytes_up", "ipbytes_dn", "payload_up", "payload_dn",
		"SYN", "SYNACK", "FIN", "SNI", "dns_name", "dns_age_s", "start",
	} {
		want[column] = row[column]
	}
	if row["TEIDs"] != "" {
		want["tunnel"] = "gtp"
	}
	return want
}

// columns are what the record says under the names of tshark's columns.
func (r *record) columns() map[string]string {
	have := map[string]string{
		"client": r.client().String(), "server": r.server().String(),
		"pkts_up": fmt.Sprint(r.UplinkPackets), "pkts_dn": fmt.Sprint(r.DownlinkPackets),
		"ipbytes_up": fmt.Sprint(r.UplinkBytes), "ipbytes_dn": fmt.Sprint(r.DownlinkBytes),
		"payload_up": fmt.Sprint(r.UplinkPayload), "payload_dn": fmt.Sprint(r.DownlinkPayload),
		"SYN": fmt.Sprint(r.SYN), "SYNACK": fmt.Sprint(r.SYNACK),
		"FIN": fmt.Sprint(r.FIN), "RST": fmt.Sprint(r.RST),
		"dur_s": fmt.Sprintf("%.3f", r.Duration), "dns_age_s": "",
		"SNI": text(r.SNI), "dns_name": text(r.DNSName), "tunnel": text(r.Tunnel),
		"start": "midstream",
	}
	switch {
	case r.SYNSeen:
		have["start"] = "SYN"
	case r.SYNACK > 0:
		have["start"] = "SYNACK"
	}
	if r.DNSAge != nil {
		have["dns_age_s"] = fmt.Sprintf("%.3f", *r.DNSAge)
	}
	return have
}

// compare holds one connection against tshark's line.
func compare(t *testing.T, file string, r *report, row truth) {
	want := tshark(row)
	excepted := map[string]string{}
	for _, e := range exceptions {
		if e.file == file && e.stream == row["stream"] {
			excepted[e.column] = e.want
		}
	}
	client, server := want["client"], want["server"]
	if mine, ok := excepted["client"]; ok {
		client, server = server, client
		if client != mine {
			t.Errorf("stream %s: the exception's client %s is not an end of it", row["stream"], mine)
		}
		want = turned(want)
	}
	for column, value := range excepted {
		want[column] = value
	}
	rec := nearest(r.find(netip.MustParseAddrPort(client), netip.MustParseAddrPort(server)), row.seconds("t0"))
	if rec == nil {
		t.Errorf("stream %s: no record of %s -> %s", row["stream"], client, server)
		return
	}
	for column, have := range rec.columns() {
		if !same(column, have, want[column]) {
			t.Errorf("stream %s (%s): %s is %q, want %q", row["stream"], rec, column, have, want[column])
		}
	}
}

// turned is the same connection with its ends changed over.
func turned(want map[string]string) map[string]string {
	out := map[string]string{}
	over := map[string]string{
		"client": "server", "server": "client", "pkts_up": "pkts_dn", "pkts_dn": "pkts_up",
		"ipbytes_up": "ipbytes_dn", "ipbytes_dn": "ipbytes_up", "payload_up": "payload_dn", "payload_dn": "payload_up",
	}
	for column, v := range want {
		if other, ok := over[column]; ok {
			column = other
		}
		out[column] = v
	}
	return out
}

// same allows a millisecond in what is a time.
func same(column, have, want string) bool {
	if have == want || column != "dur_s" && column != "dns_age_s" {
		return have == want
	}
	a, errA := strconv.ParseFloat(have, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && math.Abs(a-b) < 0.0015
}

// nearest of the records with one 5-tuple to a start in seconds.
func nearest(records []record, at float64) *record {
	var best *record
	off := func(r *record) float64 { return math.Abs(float64(r.Start.UnixNano())/1e9 - at) }
	for i := range records {
		if best == nil || off(&records[i]) < off(best) {
			best = &records[i]
		}
	}
	return best
}

// packetsIn is what the captures' README says, and tshark counted.
func packetsIn(t testing.TB, file string) uint64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(captures, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) > 2 && strings.TrimSpace(cells[1]) == file {
			n, err := strconv.ParseUint(strings.TrimSpace(cells[2]), 10, 64)
			if err != nil {
				t.Fatalf("README.md: %v", err)
			}
			return n
		}
	}
	t.Fatalf("README.md says nothing of %s", file)
	return 0
}

// answerSection has the A and AAAA records of the answer sections alone, by
// tshark's protocol tree, for the files in which other sections hold some too:
// those are the addresses of name servers, not of the name asked for.
var answerSection = map[string]uint64{
	"PcapPlusPlus_gtp.pcap":          2,
	"zeek_dns-huge-ttl.pcap":         8,
	"zeek_dns-two-responses.pcap":    2,
	"nDPI_dns_fragmented.pcap":       13,
	"open5gs_srsenb.pcapng":          26,
	"nDPI_fuzz-2006-06-26-2594.pcap": 6,
	"nDPI_malformed_dns.pcap":        0, // four responses with a broken name: nothing in them is believed
}

// notDNS are lines of tshark's that are no DNS answers here: in the fuzzed file
// frame 29 comes from port 9587 and frame 355 from port 117, and frames 332 and
// 615 have opcode 5 (UPDATE) and go to the resolver.
var notDNS = map[string]int{"nDPI_fuzz-2006-06-26-2594.pcap": 4}

// TestRealAnswers: the DNS answers in the real captures are those that tshark
// has found; a broken one is counted as such.
func TestRealAnswers(t *testing.T) {
	for _, path := range captureFiles(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows := table(t, filepath.Join(captures, "truth", name+".dns.tsv"))
			addresses := uint64(0)
			for _, row := range rows {
				if row["addresses"] != "" {
					addresses += 1 + uint64(strings.Count(row["addresses"], ","))
				}
			}
			if n, ok := answerSection[name]; ok {
				addresses = n
			}
			d := produce(t, []string{path}, "--dedup", "0").summary.DNS // tshark counts copies, too
			if got, want := d.Responses+d.Malformed, uint64(len(rows)-notDNS[name]); got != want {
				t.Errorf("%d responses and %d malformed, want %d in all", d.Responses, d.Malformed, want)
			}
			if d.Addresses != addresses {
				t.Errorf("%d addresses, want %d", d.Addresses, addresses)
			}
		})
	}
}

// TestRealCopies: in a capture that shows every user packet twice, each counts
// once unless --dedup 0 says otherwise.
func TestRealCopies(t *testing.T) {
	captureFiles(t)
	path := []string{filepath.Join(captures, srsenb)}
	twice, once := analyzed(t, path, "--dedup", "0"), analyzed(t, path)
	if len(twice.records) != len(once.records) {
		t.Fatalf("%d connections, want %d as with --dedup 0", len(once.records), len(twice.records))
	}
	for _, a := range twice.records {
		b := nearest(once.find(a.client(), a.server()), float64(a.Start.UnixNano())/1e9)
		if b == nil {
			t.Errorf("%s is lost", &a)
			continue
		}
		want := []uint64{a.UplinkPackets, a.DownlinkPackets, a.UplinkBytes, a.DownlinkBytes, a.SYN, a.SYNACK, a.FIN, a.RST}
		got := []uint64{b.UplinkPackets, b.DownlinkPackets, b.UplinkBytes, b.DownlinkBytes, b.SYN, b.SYNACK, b.FIN, b.RST}
		for i := range got {
			got[i] *= 2
		}
		if a.SubscriberPort == 53672 {
			got[0], got[2] = got[0]+2, got[2]+2*1450 // frames 283 and 288 are third sightings, on SGi
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: twice packets, bytes and flags is %v, want %v", &a, got, want)
		}
	}
}

// TestRealWhatsApp: what the real captures hold about WhatsApp is found as such,
// and nothing else is taken for it.
func TestRealWhatsApp(t *testing.T) {
	captureFiles(t)
	tests := []struct {
		file string
		want []named // of the flows that are WhatsApp, in any order
	}{
		{"nDPI_whatsapp_login_chat.pcap", []named{{"e12.whatsapp.net", "dns", "whatsapp", "chat"}}},
		{"nDPI_wa_voice.pcap", []named{
			{"g.whatsapp.net", "dns", "whatsapp", "chat"},
			{"media-mxp1-1.cdn.whatsapp.net", "sni", "whatsapp", "media"},
			{"pps.whatsapp.net", "sni", "whatsapp", "profile"},
		}},
		{"nDPI_whatsappfiles.pcap", []named{
			{"mmg-fna.whatsapp.net", "sni", "whatsapp", "media"},
			{"mmg-fna.whatsapp.net", "sni", "whatsapp", "media"},
		}},
		// Port 5222 alone is no evidence: Google's push service has it too.
		{"nDPI_whatsapp.pcap", nil},
		{"TracePcap_telegram.pcap", nil},
		{"nDPI_signal.pcap", nil},
		{"nDPI_instagram.pcap", nil},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			left := slices.Clone(tt.want)
			for _, rec := range analyzed(t, []string{filepath.Join(captures, tt.file)}).records {
				if rec.App != "whatsapp" {
					continue
				}
				got := named{text(rec.Name), rec.Evidence, rec.App, rec.Class}
				at := slices.Index(left, got)
				if at < 0 {
					t.Errorf("%s is %+v, which is not expected", &rec, got)
					continue
				}
				left = slices.Delete(left, at, at+1)
			}
			if len(left) > 0 {
				t.Errorf("not found: %+v", left)
			}
		})
	}
}
