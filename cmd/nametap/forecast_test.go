package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func command(args ...string) (status int, stdout, stderr string) {
	var out, errs strings.Builder
	status = execute(context.Background(), args, &out, &errs)
	return status, out.String(), errs.String()
}

// hourly writes a series with a day's rhythm.
func hourly(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("time,rtt,signal\n")
	for i := range 24 * 40 {
		_, _ = fmt.Fprintf(&b, "%d,%g,%d\n", 1_700_000_000+3600*i, 0.05*math.Exp(0.3*math.Sin(math.Pi*float64(i)/12))+0.001*float64(i*i%7), -90+i%9)
	}
	path := filepath.Join(t.TempDir(), "rtt.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestForecastCommand(t *testing.T) {
	file := hourly(t)
	svg := filepath.Join(t.TempDir(), "b.svg")
	tests := []struct {
		args string
		want []string
	}{
		{"forecast --value rtt --horizons 1,6 FILE", []string{"960 values, one each 1h0m0s", "skill so far", "%"}},
		{"forecast --value rtt --horizons 6 --columns signal --format json FILE", []string{`"horizon":6`, `"time":"2023-12-25T03:13:20Z"`, `"lo":`}},
		{"forecast backtest --value rtt --horizons 1,6 --svg " + svg + " FILE", []string{"seasonal naive", "MASE", "selected (now"}},
		{"forecast backtest --value rtt --horizons 1 --format json FILE", []string{`"model":"regression"`, `"coverage":`}},
	}
	for _, test := range tests {
		args := strings.Fields(strings.ReplaceAll(test.args, "FILE", file))
		status, out, errs := command(args...)
		if status != exitDone || errs != "" {
			t.Errorf("%s: %d %s", test.args, status, errs)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", test.args, want, out)
			}
		}
		if _, again, _ := command(args...); again != out {
			t.Errorf("%s: another time, other figures", test.args)
		}
	}
	if b, err := os.ReadFile(svg); err != nil || !strings.Contains(string(b), "</svg>") {
		t.Errorf("%v", err)
	}
}

// TestPingForecastErrors: one clear line each, and the right status.
func TestPingForecastErrors(t *testing.T) {
	good := hourly(t)
	back := filepath.Join(t.TempDir(), "back.csv")
	if err := os.WriteFile(back, []byte("time,value\n1700000010,1\n1700000000,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mixed := filepath.Join(t.TempDir(), "mixed.jsonl")
	if err := os.WriteFile(mixed, []byte(`{"start":1700000000,"app":"a","class":"other","group":"class","server_rtt_median_s":0.1}
{"start":1700000000,"app":"a","class":"other","group":"servers","server_rtt_median_s":0.2}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args   string
		status int
		want   string
	}{
		{"forecast", exitUsage, "a file with a series"},
		{"forecast " + good, exitError, `rtt.csv:1: no column "value"; there are "time", "rtt", "signal"`},
		{"forecast --value rtt --columns speed " + good, exitError, `no column "speed"`},
		{"forecast " + back, exitError, "back.csv:3: the clock goes back"},
		{"forecast no.csv", exitError, "no.csv: no such file"},
		{"forecast --horizons 0 " + good, exitUsage, "horizons"},
		{"forecast --scale sqrt " + good, exitUsage, "--scale"},
		{"forecast --format xml " + good, exitUsage, "--format"},
		{"forecast --value rtt --period 7s " + good, exitUsage, "multiple"},
		{"forecast --value signal " + good, exitError, "logarithm"},
		{"forecast backtest --value rtt --svg /nowhere/x.svg " + good, exitError, "/nowhere/x.svg: cannot draw"},
		{"forecast --value server_rtt_median_s --by class " + mixed, exitError, `mixed.jsonl:2: same time as line 1 and another "group"`},
		{"forecast --where group " + mixed, exitUsage, "group=class"},
		{"ping now", exitUsage, "no arguments"},
		{"ping --by colour", exitUsage, "--by"},
		{"ping --once --count 3", exitUsage, "--once"},
		{"ping --interval 1ms", exitUsage, "--interval"},
		{"ping --format none", exitUsage, "--listen"},
		{"ping --mark 7", exitUsage, "--tun"},
		{"ping --tun a-name-that-is-too-long", exitError, "1 to 15 bytes"},
		{"ping --tun x --tun-mtu 100", exitUsage, "--tun-mtu"},
		{"ping --tun x --outside nosuch", exitUsage, `no interface "nosuch"; there are`},
	}
	for _, test := range tests {
		status, _, errs := command(strings.Fields(test.args)...)
		first, _, _ := strings.Cut(errs, "\n")
		if status != test.status || !strings.Contains(first, test.want) {
			t.Errorf("%s: %d %q, want %d %q", test.args, status, errs, test.status, test.want)
		}
		if test.status == exitError && strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %q is not one line", test.args, errs)
		}
	}
}
