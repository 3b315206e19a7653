package contract

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script: the program as it looks from a shell. A script
// finds nametap in its path, a forged capture in trace.pcap (an answer for
// e5.whatsapp.net, the chat that follows it, an upload of a photo and a nameless
// connection) and the same capture cut off in its last packet in cut.pcap.
//
// "exits N ARGUMENTS..." runs nametap and checks its exit status, and that all it
// has to say on standard error, unless N is 0, is one line.
func TestScripts(t *testing.T) {
	tr := newTrace()
	conversation(tr, alice, server)
	file := tr.pcap(binary.LittleEndian, true)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(nametap)+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, ".config"))
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "trace.pcap"), file, 0o600),
				os.WriteFile(filepath.Join(env.WorkDir, "cut.pcap"), file[:len(file)-7], 0o600))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "keys": keys},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: exits N ARGUMENTS...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec("nametap", args[1:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit status %d, want %d", code, want)
	}
	text := ts.ReadFile("stderr")
	switch {
	case want == 0 && text != "":
		ts.Fatalf("standard error %q, want nothing", text)
	case want != 0 && (strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n")):
		ts.Fatalf("standard error %q, want one line", text)
	}
}

// keys checks that the last command's output is JSON objects, one a line, whose
// keys begin with those of FILE, in its order; "keys FILE". Fields may be added
// behind them.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keys FILE")
	}
	want := strings.Fields(ts.ReadFile(args[0]))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var have []string
		dec := json.NewDecoder(strings.NewReader(line))
		_, _ = dec.Token()
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				ts.Fatalf("not JSON: %v", err)
			}
			have = append(have, key.(string))
			var value json.RawMessage
			if err := dec.Decode(&value); err != nil {
				ts.Fatalf("not JSON: %v", err)
			}
		}
		if len(have) < len(want) || strings.Join(have[:len(want)], " ") != strings.Join(want, " ") {
			ts.Fatalf("keys are\n%v\nwant first\n%v", have, want)
		}
	}
}

// TestShapeOfTheSummary: the summary has the keys of the contract, with values of
// their kinds, whatever else it has.
func TestShapeOfTheSummary(t *testing.T) {
	const shape = `{
		"capture": {"files": 1, "packets": 0, "bytes": 0, "first": "", "last": "", "truncated": false, "undecoded": {}},
		"dns": {"responses": 0, "addresses": 0, "malformed": 0},
		"naming": {"sni": 0, "dns": 0, "dns-stale": 0, "server": 0, "none": 0},
		"classes": [{"app": "whatsapp", "class": "chat", "flows": 0, "attempts": 0, "subscribers": 0, "servers": 0,
			"uplink_bytes": 0, "downlink_bytes": 0, "uplink_packets": 0, "downlink_packets": 0,
			"syn": 0, "syn_ack": 0, "fin": 0, "rst": 0}]}`
	tr := newTrace()
	conversation(tr, alice, server)
	tr.frame(ethernet(0x0806, make([]byte, 46)))
	o := execute(t, nil, "analyze", "--format", "json", tr.save(t))
	var want, have any
	if err := json.Unmarshal([]byte(shape), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(o.stdout, &have); err != nil || o.code != 0 || len(o.stderr) > 0 {
		t.Fatalf("exit status %d, standard error %q, %v:\n%s", o.code, o.stderr, err, o.stdout)
	}
	shaped(t, "", want, have)
	capture := have.(map[string]any)["capture"].(map[string]any)
	for _, key := range []string{"first", "last"} {
		if _, err := time.Parse(time.RFC3339Nano, capture[key].(string)); err != nil {
			t.Errorf("capture.%s: %v", key, err)
		}
	}
	for reason, n := range capture["undecoded"].(map[string]any) {
		if _, ok := n.(float64); !ok {
			t.Errorf("capture.undecoded.%s is %v, want a number", reason, n)
		}
	}
}

// shaped checks that have has whatever want has, of its kind.
func shaped(t *testing.T, path string, want, have any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", path, have)
			return
		}
		for key, v := range w {
			value, ok := h[key]
			if !ok {
				t.Errorf("%s.%s is missing", path, key)
				continue
			}
			shaped(t, path+"."+key, v, value)
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) == 0 {
			t.Errorf("%s is %v, want a list of objects", path, have)
		}
		for _, value := range h {
			shaped(t, path+"[]", w[0], value)
		}
	case float64:
		if _, ok := have.(float64); !ok {
			t.Errorf("%s is %v, want a number", path, have)
		}
	case string:
		if _, ok := have.(string); !ok {
			t.Errorf("%s is %v, want a string", path, have)
		}
	case bool:
		if _, ok := have.(bool); !ok {
			t.Errorf("%s is %v, want true or false", path, have)
		}
	}
}

// TestKindsInTheRecord: every field of a record has the kind that the contract
// gives it.
func TestKindsInTheRecord(t *testing.T) {
	tr := newTrace()
	conversation(tr, alice, server)
	o := execute(t, nil, "analyze", "--flows", "-", tr.save(t))
	kinds := map[string]string{
		"start": "time", "end": "time", "duration_s": "number", "subscriber": "string", "subscriber_port": "number",
		"server": "string", "server_port": "number", "name": "string?", "dns_name": "string?", "sni": "string?",
		"evidence": "string", "dns_age_s": "number?", "app": "string", "class": "string", "syn_seen": "bool", "end_reason": "string",
		"uplink_bytes": "number", "downlink_bytes": "number", "uplink_packets": "number", "downlink_packets": "number",
		"uplink_payload_bytes": "number", "downlink_payload_bytes": "number",
		"syn": "number", "syn_ack": "number", "fin": "number", "rst": "number",
		"uplink_retransmitted": "number", "downlink_retransmitted": "number",
		"uplink_out_of_order": "number", "downlink_out_of_order": "number",
		"server_rtt_handshake_s": "number?", "access_rtt_handshake_s": "number?",
		"server_rtt_min_s": "number?", "server_rtt_mean_s": "number?", "access_rtt_min_s": "number?", "access_rtt_mean_s": "number?",
		"os": "string?", "tunnel": "string?", "apn": "string?", "imsi": "string?", "tac": "string?",
	}
	for line := range strings.Lines(string(o.stdout)) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for key, kind := range kinds {
			value, ok := r[key]
			if !ok {
				t.Errorf("%s is missing", key)
			} else if !isOf(kind, value) {
				t.Errorf("%s is %v, want %s", key, value, kind)
			}
		}
	}
}

func isOf(kind string, value any) bool {
	nullable := strings.HasSuffix(kind, "?")
	switch v := value.(type) {
	case nil:
		return nullable
	case bool:
		return kind == "bool"
	case float64:
		return strings.TrimSuffix(kind, "?") == "number"
	case string:
		if kind == "time" {
			_, err := time.Parse("2006-01-02T15:04:05.000000000Z", v)
			return err == nil
		}
		return strings.TrimSuffix(kind, "?") == "string"
	}
	return false
}
