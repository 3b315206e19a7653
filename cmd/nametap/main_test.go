package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandLines: what is no command is an error, with --help beside it as well.
func TestCommandLines(t *testing.T) {
	tests := []struct {
		args   string
		status int
		want   string // in what it prints
	}{
		{"doctor", exitUsage, `unknown command "doctor"`},
		{"doctor --help", exitUsage, `unknown command "doctor"`},
		{"rules nosuch --help", exitUsage, `unknown command "nosuch" of nametap rules`},
		{"synth --seed foo", exitUsage, `invalid argument "foo" for "--seed" flag: "foo" is not a whole number from 0 on; see`},
		{"synth --seed 99999999999999999999", exitUsage, `"99999999999999999999" is too large`},
		{"analyze --shards x", exitUsage, `"x" is not a whole number;`},
		{"analyze --vlan-scopes=x", exitUsage, `"x" is not true or false`},
		{"analyze --dns-grace 10", exitUsage, `such as 90s, 15m or 5h`},
		{"analyze --memory x", exitUsage, `"x" is no size such as 512M`},
		{"forecast --horizons 1,x f", exitUsage, `"x" is not a whole number`},
		{"bench nosuch", exitUsage, `unknown command "nosuch"`},
		{"rules check --help", exitDone, "Compile a rules file"},
		{"forecast --help", exitDone, "--where"},
		{"forecast backtest --help", exitDone, "pinball"},
		{"help rules", exitDone, "nametap rules show"},
		{"completion bash", exitDone, "bash completion"},
		{"--help", exitDone, "nametap demo"},
		{"--version", exitDone, "features: "},
		{"version", exitDone, versionText()},
	}
	for _, test := range tests {
		status, out, errs := command(strings.Fields(test.args)...)
		if status != test.status || !strings.Contains(out+errs, test.want) || status != exitDone && (out != "" || strings.Count(errs, "\n") != 1) {
			t.Errorf("%s: %d %q, want %d %q\n%s", test.args, status, errs, test.status, test.want, out)
		}
	}
}

// TestBadConfig: a file of --config that is no YAML is told where it breaks.
func TestBadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	for text, want := range map[string]string{
		"interface: lo\nlisten: [\n":         ":2: not YAML from here on: ",
		"\tinterface: lo\n":                  ":1: not YAML from here on: ",
		"interface: lo\nfoo: 1\n":            `:2: unknown key "foo"`,
		"interface: lo\n\nshards: several\n": `:3: shards: "several" is not a whole number`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, out, errs := command("run", "--config", path); status != exitUsage || out != "" || !strings.HasPrefix(errs, "nametap: "+path+want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d %q, want %q", text, status, errs, want)
		}
	}
}

// TestFlagsOfOthers: a command has no flag that it does not obey, hidden or not.
func TestFlagsOfOthers(t *testing.T) {
	for _, c := range []struct{ command, without string }{
		{"synth score t.pcap t.jsonl", "apn tac subscriber-ids pseudonym-key flows ping filter"},
		{"atlas definition", "apn tac subscriber-ids pseudonym-key flows ping"},
		{"atlas compare r.json", "apn tac subscriber-ids pseudonym-key flows ping"},
		{"report t.pcap", "apn flows ping"},
		{"demo", "tac subscriber-ids pseudonym-key flows ping filter"},
	} {
		for flag := range strings.FieldsSeq(c.without) {
			status, out, errs := command(append(strings.Fields(c.command), "--"+flag, "x")...)
			if status != exitUsage || out != "" || !strings.Contains(errs, "unknown flag: --"+flag) || strings.Count(errs, "\n") != 1 {
				t.Errorf("%s --%s: %d %q", c.command, flag, status, errs)
			}
		}
	}
}

// TestOneLine: what several errors have in common is said once.
func TestOneLine(t *testing.T) {
	full := errors.New("write /x: no space left")
	tests := []struct {
		errs []error
		want string
	}{
		{[]error{full, nil, full, full}, "write /x: no space left"},
		{[]error{errors.Join(errors.New("closing: write /x: no space left")), full}, "closing: write /x: no space left"},
		{[]error{full, errors.New("other")}, "write /x: no space left; other"},
	}
	for _, test := range tests {
		if got := oneLine(test.errs...).Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if oneLine(nil, nil) != nil {
		t.Error("an error of none")
	}
}
