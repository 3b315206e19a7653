package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// asDatabase says that all of IPv4 is of one autonomous system.
func asDatabase(t *testing.T) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "asn", IncludeReservedNetworks: true, BuildEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, all, err := net.ParseCIDR("0.0.0.0/0")
	if err != nil {
		t.Fatal(err)
	}
	entry := mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": mmdbtype.String("Example")}
	if err := tree.Insert(all, entry); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "asn.mmdb")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPingByServers(t *testing.T) {
	trace, _ := tracedInputs(t)
	lines := func(args ...string) (groups, known int, text string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "ping.jsonl")
		if _, stderr, code := runReport(t, append([]string{"analyze", "--memory", "128M", "--ping", path, trace}, args...)...); code != exitDone {
			t.Fatal(stderr)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if m["group"] == "servers" {
				groups++
				if m["asn"] == 64500.0 && m["as_name"] == "Example" {
					known++
				}
			}
		}
		return groups, known, string(b)
	}
	db := asDatabase(t)
	if groups, known, _ := lines(); groups < 100 || known > 0 {
		t.Errorf("without a database: %d groups of servers, %d with their system", groups, known)
	}
	groups, known, one := lines("--asn-db", db, "--shards", "1")
	if groups < 100 || known < groups/2 { // the others are reached over IPv6
		t.Errorf("%d groups of servers, %d with their system", groups, known)
	}
	if _, _, three := lines("--asn-db", db, "--shards", "3"); three != one {
		t.Error("the lines depend on the number of shards")
	}
	for _, test := range []struct{ args, want string }{
		{"--asn-db " + db, "--asn-db goes with --ping"},
		{"--ping " + filepath.Join(t.TempDir(), "x") + " --asn-db " + trace, "not a usable MMDB file"},
		{"--ping " + filepath.Join(t.TempDir(), "x") + " --asn-db /nonexistent.mmdb", "nonexistent"},
	} {
		_, stderr, code := runReport(t, append(append([]string{"analyze", "--memory", "128M"}, strings.Fields(test.args)...), trace)...)
		if code == exitDone || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d, %q", test.args, code, stderr)
		}
	}
}
