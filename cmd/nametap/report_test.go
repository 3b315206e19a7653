package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/synth"
)

// run executes nametap with a home of its own.
func runReport(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	var out, errs bytes.Buffer
	code = execute(context.Background(), args, &out, &errs)
	return out.String(), errs.String(), code
}

// tracedInputs makes a short trace, and the flow records of it.
func tracedInputs(t *testing.T) (trace, records string) {
	t.Helper()
	sc, err := synth.LoadScenario("quiet-hour")
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(sc, synth.Options{Subscribers: 300})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trace, records = filepath.Join(dir, "trace.pcap.zst"), filepath.Join(dir, "flows.jsonl")
	w, err := synth.CreateTrace(trace, synth.TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := synth.Write(context.Background(), g, w, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := runReport(t, "analyze", "--memory", "128M", "--flows", records, "--format", "json", trace); code != exitDone {
		t.Fatal(stderr)
	}
	return trace, records
}

func scratch(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReportCommand(t *testing.T) {
	trace, records := tracedInputs(t)
	type summary struct {
		Flows uint64 `json:"flows"`
		Who   any    `json:"who_and_how_much"`
		Shape any    `json:"size_duration_throughput"`
	}
	var got [2]summary
	for i, input := range []string{trace, records} {
		stdout, stderr, code := runReport(t, "report", "--memory", "128M", input, "--format", "json")
		if code != exitDone || stderr != "" {
			t.Fatalf("%s: %d, %s", input, code, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &got[i]); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := json.Marshal(got[0])
	b, _ := json.Marshal(got[1])
	if !bytes.Equal(a, b) || got[0].Flows < 100 {
		t.Errorf("the report of the trace and that of its flow records differ (%d flows)", got[0].Flows)
	}
	page := filepath.Join(t.TempDir(), "report.html")
	if _, stderr, code := runReport(t, "report", records, "-o", page, "--title", "A <quiet> hour"); code != exitDone {
		t.Fatal(stderr)
	}
	html, err := os.ReadFile(page)
	if err != nil || !bytes.Contains(html, []byte("<h1>A &lt;quiet&gt; hour</h1>")) || !bytes.HasSuffix(bytes.TrimSpace(html), []byte("</html>")) {
		t.Errorf("%v; page of %d bytes", err, len(html))
	}
}

// TestReportErrors: one clear line each, and the right status.
func TestReportErrors(t *testing.T) {
	_, records := tracedInputs(t)
	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	half := scratch(t, "half.jsonl", string(text)+"{\"start\":\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
		made bool // there is a report all the same
	}{
		{"no input", []string{"report"}, exitUsage, "name captures", false},
		{"format", []string{"report", records, "--format", "pdf"}, exitUsage, "html or json", false},
		{"marks", []string{"report", records, "--good-transfer", "50s"}, exitUsage, "marks", false},
		{"tap", []string{"report", records, "--tap-location", "here"}, exitUsage, "no position", false},
		{"missing", []string{"report", "nowhere.pcap"}, exitError, "nowhere.pcap: cannot be opened", false},
		{"bad line", []string{"report", half}, exitError, "half.jsonl:", true},
		{"asn", []string{"report", records, "--asn-db", scratch(t, "a.mmdb", "hello")}, exitError, "a.mmdb: not a usable MMDB file", false},
		{"geo", []string{"report", records, "--geo-db", "nowhere.mmdb"}, exitError, "nowhere.mmdb: cannot be opened", false},
		{"prefixes", []string{"report", records, "--prefixes", scratch(t, "p.csv", "prefix\nx\n")}, exitError, "p.csv:2:", false},
		{"events", []string{"report", records, "--events", scratch(t, "e.csv", "time,n\nnever,1\n")}, exitError, "e.csv:2:", false},
		{"output", []string{"report", records, "-o", "/nowhere/report.html"}, exitError, "/nowhere/report.html: cannot write", false},
		{"rules", []string{"report", records, "--rules", "nowhere.yaml"}, exitError, "nowhere.yaml", false},
		{"atlas: no results", []string{"atlas", "compare"}, exitUsage, "RIPE Atlas results", false},
		{"atlas: nothing to compare", []string{"atlas", "compare", "x.json"}, exitUsage, "--with", false},
		{"atlas: missing", []string{"atlas", "compare", "nowhere.json", "--with", records}, exitError, "nowhere.json: cannot be opened", false},
		{"atlas: broken", []string{"atlas", "compare", scratch(t, "r.json", "[{]"), "--with", records}, exitError, "r.json: result 1:", false},
		{"atlas: class", []string{"atlas", "definition", "--class", "fax"}, exitUsage, "no class whatsapp/fax", false},
		{"atlas: probes", []string{"atlas", "definition", "--probes", "9999"}, exitUsage, "between 1 and", false},
	} {
		stdout, stderr, code := runReport(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || (stdout != "") != c.made {
			t.Errorf("%s: status %d, %d bytes, %q; want %d and %q", c.name, code, len(stdout), stderr, c.code, c.want)
		}
	}
}

// TestReportOfNothing: where nothing could be read no report is made, and one that
// stands there stays; of what is damaged the readable part is reported.
func TestReportOfNothing(t *testing.T) {
	trace, records := tracedInputs(t)
	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	headerOnly := "\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + strings.Repeat("\x00", 8) + "\xff\xff\x00\x00\x01\x00\x00\x00"
	noCapture, noRecords := scratch(t, "op.jsonl", "# not flow records\n"), scratch(t, "other.jsonl", "{\"a\":1}\n{\"b\":2}\n")
	for _, c := range []struct {
		name   string
		inputs []string
		code   int
		want   string // on standard error
		made   bool
	}{
		{"not a capture", []string{noCapture}, exitError, "op.jsonl: not a capture", false},
		{"empty", []string{scratch(t, "empty", "")}, exitError, "empty: empty:", false},
		{"other JSON", []string{noRecords}, exitError, "other.jsonl:1:", false},
		{"both", []string{noCapture, noRecords}, exitError, "other.jsonl:2:", false},
		{"cut off in its header", []string{scratch(t, "cut.pcap", headerOnly[:20])}, exitError, "cut.pcap:", false},
		{"cut off", []string{scratch(t, "half.pcap.zst", string(whole[:len(whole)/2]))}, exitError, "half.pcap.zst:", true},
		{"no packets in it", []string{scratch(t, "none.pcap", headerOnly)}, exitDone, "", true},
		{"beside records", []string{noCapture, records}, exitError, "op.jsonl: not a capture", true},
		{"beside a capture", []string{noRecords, trace}, exitError, "other.jsonl:1:", true},
		{"a line of many", []string{scratch(t, "damaged.jsonl", "{\n"+string(text))}, exitError, "damaged.jsonl:1:", true},
	} {
		for _, format := range []string{"html", "json"} {
			args := append([]string{"report", "--memory", "128M", "--format", format}, c.inputs...)
			stdout, stderr, code := runReport(t, args...)
			if code != c.code || !strings.Contains(stderr, c.want) || (stdout != "") != c.made {
				t.Errorf("%s: status %d, %d bytes of %s, %q", c.name, code, len(stdout), format, stderr)
			}
		}
		fresh, old := filepath.Join(t.TempDir(), "fresh.html"), scratch(t, "old.html", "the last report")
		for _, path := range []string{fresh, old} {
			if stdout, stderr, code := runReport(t, append([]string{"report", "--memory", "128M", "-o", path}, c.inputs...)...); code != c.code || stdout != "" {
				t.Errorf("%s: status %d, %q, %q", c.name, code, stdout, stderr)
			}
		}
		_, err := os.Stat(fresh)
		kept, _ := os.ReadFile(old)
		if (err == nil) != c.made || (string(kept) != "the last report") != c.made {
			t.Errorf("%s: new file: %v; the old one holds %.40q", c.name, err, kept)
		}
	}
}

// TestReportInterrupted: a report of nothing is none, whatever the reason.
func TestReportInterrupted(t *testing.T) {
	trace, records := tracedInputs(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, input := range []string{trace, records} {
		var out, errs bytes.Buffer
		code := execute(ctx, []string{"report", "--memory", "128M", input}, &out, &errs)
		if code != exitError || out.Len() > 0 || !strings.Contains(errs.String(), "interrupted before anything was read") {
			t.Errorf("%s: status %d, %d bytes, %q", filepath.Base(input), code, out.Len(), errs.String())
		}
	}
}

// TestReportLeavesWhatIsLocked: two reports that are written to one file at once would
// leave a mixture.
func TestReportLeavesWhatIsLocked(t *testing.T) {
	_, records := tracedInputs(t)
	path := scratch(t, "report.html", "another's")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := export.LockFile(f); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := runReport(t, "report", records, "-o", path)
	if code != exitError || !strings.HasPrefix(stderr, "nametap: "+path+": ") || !strings.Contains(stderr, "locked by another") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, %q", code, stderr)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "another's" {
		t.Errorf("the file holds %.40q (%v)", text, err)
	}
	_ = f.Close()
	if _, stderr, code := runReport(t, "report", records, "-o", path); code != exitDone {
		t.Errorf("status %d, %q", code, stderr)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), "<!") || !strings.HasSuffix(strings.TrimSpace(string(text)), "</html>") {
		t.Errorf("no report: %.40q (%v)", text, err)
	}
}

func TestAtlasCommand(t *testing.T) {
	_, records := tracedInputs(t)
	stdout, stderr, code := runReport(t, "atlas", "definition", "--class", "photo", "--probes", "10")
	var d struct {
		Definitions []struct {
			Name string `json:"query_argument"`
		} `json:"definitions"`
	}
	if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != exitDone || len(d.Definitions) == 0 || !strings.HasPrefix(d.Definitions[0].Name, "mmi") {
		t.Fatalf("%v, %s, %s", err, stdout, stderr)
	}
	// e1.whatsapp.net, NOERROR, A 50.22.122.1.
	result := scratch(t, "r.json", `[{"prb_id":3,"type":"dns","from":"192.0.2.7","result":{"abuf":"AAGBgAABAAEAAAAAAmUxCHdoYXRzYXBwA25ldAAAAQABwAwAAQABAAAAPAAEMhZ6AQ=="}}]`)
	stdout, stderr, code = runReport(t, "atlas", "compare", result, "--with", records, "--format", "json")
	var c struct {
		Names   []string `json:"names"`
		Active  int      `json:"active_addresses"`
		Passive int      `json:"passive_addresses"`
	}
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || code != exitDone || c.Active != 1 || c.Passive < 50 || len(c.Names) != 1 || c.Names[0] != "e1.whatsapp.net" {
		t.Fatalf("%v: %+v, %s", err, c, stderr)
	}
}
