package contract

import (
	"encoding/csv"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
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

func (m truth) end(t testing.TB, address, port string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(net(m[address], m[port]))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func net(address, port string) string {
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + port
}

// TestRealCaptures: connection by connection, what nametap says of the real
// captures is what tshark says, but for the exceptions, each of which says why.
func TestRealCaptures(t *testing.T) {
	for _, path := range captureFiles(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := analyzed(t, []string{path})
			rows := table(t, filepath.Join(captures, "truth", name+".flows.tsv"))
			if len(r.records) != len(rows) {
				t.Errorf("%d connections, tshark has %d", len(r.records), len(rows))
			}
			for _, row := range rows {
				compare(t, name, r, row)
			}
			d := table(t, filepath.Join(captures, "truth", name+".dns.tsv"))
			n := 0
			for _, row := range d {
				if row["addresses"] != "" { n += 1+strings.Count(row["addresses"], ",") }
			}
			if len(d) != int(r.summary.DNS.Responses) || n != int(r.summary.DNS.Addresses) {
				t.Errorf("dns %+v truth %d %d", r.summary.DNS, len(d), n)
			}
		})
	}
}

// compare holds one connection against tshark's line.
func compare(t *testing.T, file string, r *report, row truth) {
	stream := row["stream"]
	client, server := row.end(t, "client", "cport"), row.end(t, "server", "sport")
	rec := nearest(r.find(client, server), row.seconds("t0"))
	if rec == nil {
		t.Errorf("stream %s: no record of %v -> %v", stream, client, server)
		return
	}
	got := map[string]string{
		"pkts_up": fmt.Sprint(rec.UplinkPackets), "pkts_dn": fmt.Sprint(rec.DownlinkPackets),
		"ipbytes_up": fmt.Sprint(rec.UplinkBytes), "ipbytes_dn": fmt.Sprint(rec.DownlinkBytes),
		"SYN": fmt.Sprint(rec.SYN), "SYNACK": fmt.Sprint(rec.SYNACK), "FIN": fmt.Sprint(rec.FIN),
		"RST": fmt.Sprint(rec.RST), "SNI": text(rec.SNI), "dns_name": text(rec.DNSName),
		"start": start(rec), "dur_s": fmt.Sprintf("%.3f", rec.Duration),
		"payload_up": fmt.Sprint(rec.UplinkPayload), "payload_dn": fmt.Sprint(rec.DownlinkPayload),
		"TEIDs": text(rec.Tunnel),
	}
	want := map[string]string{
		"RST": fmt.Sprint(row.number("RST_up") + row.number("RST_dn")),
		"dur_s": fmt.Sprintf("%.3f", row.seconds("dur_s")),
	}
	for column, have := range got {
		expected, ok := want[column]
		if !ok {
			expected = row[column]
		}
		if column == "dur_s" && math.Abs(rec.Duration-row.seconds("dur_s")) < 0.001 {
			continue
		}
		if have != expected {
			t.Errorf("stream %s (%s): %s is %q, tshark has %q", stream, rec, column, have, expected)
		}
	}
}

func start(r *record) string {
	switch {
	case r.SYNSeen:
		return "SYN"
	case r.SYNACK > 0:
		return "SYNACK"
	}
	return "midstream"
}

// nearest of the records with one 5-tuple to a start in seconds.
func nearest(records []record, at float64) *record {
	var best *record
	for i := range records {
		r := &records[i]
		d := math.Abs(float64(r.Start.UnixNano())/1e9 - at)
		if best == nil || d < math.Abs(float64(best.Start.UnixNano())/1e9-at) {
			best = r
		}
	}
	return best
}
