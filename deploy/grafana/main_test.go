package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the dashboards anew")

// TestCommitted: what is committed is what the code makes, byte for byte.
func TestCommitted(t *testing.T) {
	if *update {
		if err := write("dashboards"); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("dashboards/*")
	if err != nil || len(files) != len(all) {
		t.Fatalf("%d files in dashboards, %d in the code (%v)", len(files), len(all), err)
	}
	for _, d := range all {
		want, err := os.ReadFile(filepath.Join(dir, d.file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("dashboards", d.file))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("dashboards/%s is not what the code makes (%v): run go generate ./deploy/grafana", d.file, err)
		}
	}
}

// TestStrict: every panel and query is one that Grafana's own schema knows, key
// by key.
func TestStrict(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	uids := map[string]bool{}
	for _, d := range all {
		text, err := os.ReadFile(filepath.Join("dashboards", d.file))
		if err != nil {
			t.Fatal(err)
		}
		var board dashboard.Dashboard
		if err := board.UnmarshalJSONStrict(text); err != nil {
			t.Errorf("%s: %v", d.file, err)
		}
		if err := board.Validate(); err != nil {
			t.Errorf("%s: %v", d.file, err)
		}
		if board.Uid == nil || uids[*board.Uid] {
			t.Errorf("%s: no uid, or one that another dashboard has", d.file)
			continue
		}
		uids[*board.Uid] = true
	}
}

// TestMetricsExist holds every metric that a panel or variable names against
// what nametap shows.
func TestMetricsExist(t *testing.T) {
	tap, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.ReadFile("../../ping/metrics/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	known := append(tap, host...)
	name := regexp.MustCompile(`nametap_[a-z_]+`)
	for _, d := range all {
		text, err := os.ReadFile(filepath.Join("dashboards", d.file))
		if err != nil {
			t.Fatal(err)
		}
		found := name.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s: only %d metrics found", d.file, len(found))
		}
		for _, m := range found {
			m = string(bytes.TrimSuffix([]byte(m), []byte("_bucket")))
			if !bytes.Contains(known, []byte("`"+m+"`")) && !bytes.Contains(known, []byte(`"`+m+`"`)) {
				t.Errorf("%s: nobody shows %s", d.file, m)
			}
		}
	}
}

// TestProvisioning decodes the provisioning files with the keys that Grafana
// reads, and no others.
func TestProvisioning(t *testing.T) {
	type datasources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool              `yaml:"isDefault"`
			JSONData                     map[string]string `yaml:"jsonData"`
		}
	}
	type providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type string
			AllowUIUpdates     bool `yaml:"allowUiUpdates"`
			Options            struct{ Path string }
		}
	}
	for file, into := range map[string]any{
		"provisioning/datasources/prometheus.yml": &datasources{},
		"provisioning/dashboards/nametap.yml":     &providers{},
	} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		d := yaml.NewDecoder(f)
		d.KnownFields(true)
		if err := d.Decode(into); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		_ = f.Close()
	}
}
