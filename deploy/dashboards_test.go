package deploy_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// board is what is asked for when a dashboard is opened.
type board struct {
	Title      string
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
}

type panel struct {
	Title, Type string
	Panels      []panel // of a collapsed row
	Targets     []struct{ Expr, RefID string }
}

// queryDashboards runs every query of every panel and variable as Grafana would.
// Each has to return at least one value that is a number.
func queryDashboards(t *testing.T, addr string) {
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d dashboards (%v)", len(files), err)
	}
	queries := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range b.Templating.List {
			if v.Type == "query" {
				queryVariable(t, addr, b.Title+", variable "+v.Name, v.Query)
			}
		}
		queries += queryPanels(t, addr, b.Title, b.Panels)
	}
	t.Logf("%d queries in %d dashboards", queries, len(files))
}

func queryPanels(t *testing.T, addr, title string, panels []panel) (n int) {
	for _, p := range panels {
		n += queryPanels(t, addr, title, p.Panels)
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s / %s: no query", title, p.Title)
		}
		for _, q := range p.Targets {
			n++
			expr := fill(q.Expr)
			now := time.Now().Unix()
			var data struct {
				Result []struct {
					Values [][2]any
				}
			}
			api(t, addr, "query_range", url.Values{
				"query": {expr}, "start": {strconv.FormatInt(now-20, 10)}, "end": {strconv.FormatInt(now, 10)}, "step": {"1"},
			}, &data)
			found := false
			for _, series := range data.Result {
				for _, v := range series.Values {
					found = found || v[1] != "NaN" && v[1] != "+Inf"
				}
			}
			if !found {
				t.Errorf("%s / %s %s: no data for\n%s", title, p.Title, q.RefID, expr)
			}
		}
	}
	return n
}

// fill puts in what Grafana does for "All" and a scrape every second.
func fill(expr string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "15s")
	return regexp.MustCompile(`\$(instance|app|class|host|unit|scope)\b`).ReplaceAllString(expr, ".+")
}

var labelValues = regexp.MustCompile(`^label_values\((.*), *([a-z_]+)\)$`)

func queryVariable(t *testing.T, addr, what string, raw json.RawMessage) {
	var q struct{ Query string }
	if err := json.Unmarshal(raw, &q); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	m := labelValues.FindStringSubmatch(q.Query)
	if m == nil {
		t.Errorf("%s: %q is no label_values(...)", what, q.Query)
		return
	}
	var values []string
	api(t, addr, fmt.Sprintf("label/%s/values", m[2]), url.Values{"match[]": {fill(m[1])}}, &values)
	if len(values) == 0 {
		t.Errorf("%s: no values for %s", what, q.Query)
	}
}
