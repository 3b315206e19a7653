package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestDetectTrial: the table and the JSON tell the same, the same seed tells it
// again, and short trials are good.
func TestDetectTrial(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates some days")
	}
	run := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := execute(t.Context(), append([]string{"detect", "trial", "--days", "3", "--seed", "3"}, args...), &out, &errs)
		if code != exitDone || errs.Len() > 0 {
			t.Fatalf("%v: exit status %d: %s", args, code, errs.String())
		}
		return out.String()
	}
	only := []string{"--scenario", "outage-2014", "--scenario", "summer-time"}
	table := run(only...)
	if again := run(only...); again != table {
		t.Errorf("first\n%s\nthen\n%s", table, again)
	}
	for _, want := range []string{"3 days a run, seed 3;", "runs found within minutes", "11 runs of 3 days: 0 false alerts"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	rows := map[string][]string{}
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 3 && rows[f[0]] == nil {
			rows[f[0]] = f
		}
	}
	var got struct {
		Days, Seeds int
		Scenarios   []struct {
			Scenario, Expected string
			Runs, Found        int
			Delays             []float64 `json:"delays_s"`
			FalseAlerts        int       `json:"false_alerts"`
			Failures           []string
		}
	}
	if err := json.Unmarshal([]byte(run(append(only, "--format", "json", "--seeds", "2")...)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Days != 3 || got.Seeds != 2 || len(got.Scenarios) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, s := range got.Scenarios {
		row := rows[s.Scenario]
		if len(row) < 5 || row[2] != strings.ReplaceAll("–"+s.Expected, "–app", "app") {
			t.Errorf("%s: the table has %q, the JSON %+v", s.Scenario, row, s)
		}
		if s.Expected != "" && (s.Runs != 20 || s.Found != 20 || len(s.Delays) != 20 || s.Delays[19] >= 600) || s.Failures == nil || len(s.Failures) > 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestDetectRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"nothing"},
		{"trial", "more"},
		{"trial", "--days", "2"},
		{"trial", "--days", "366"},
		{"trial", "--seeds", "0"},
		{"trial", "--format", "xml"},
		{"trial", "--scenario", "nothing"},
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"detect"}, args...), &out, &errs); code != exitUsage || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v: exit status %d, %q", args, code, errs.String())
		}
	}
}
