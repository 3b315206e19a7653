// Command grafana writes nametap's Grafana dashboards as JSON: they are made
// here, in Go, with Grafana's Foundation SDK, and what it writes is committed, so
// that nobody needs Go to use them.
//
//	go run ./deploy/grafana -o deploy/grafana/dashboards
package main

//go:generate go run . -o dashboards

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	dir := flag.String("o", "dashboards", "write the dashboards to this directory")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		os.Exit(1)
	}
}

// all are the dashboards by the name of their file.
var all = []struct {
	file  string
	build func() *dashboard.DashboardBuilder
}{
	{"nametap-overview.json", overview},
	{"nametap-class.json", oneClass},
	{"nametap-servers.json", servers},
	{"nametap-experience.json", experience},
	{"nametap-ping.json", passivePing},
	{"nametap-tap.json", tapHealth},
}

func write(dir string) error {
	for _, d := range all {
		text, err := render(d.build())
		if err != nil {
			return fmt.Errorf("%s: %w", d.file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, d.file), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render is the dashboard as JSON, the same bytes every time.
func render(b *dashboard.DashboardBuilder) ([]byte, error) {
	d, err := b.Build()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false) // queries are easier to read with their < and >
	e.SetIndent("", "  ")
	err = e.Encode(d)
	return out.Bytes(), err
}
