package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadTACs(t *testing.T) {
	for _, c := range []struct{ name, text, want, fails string }{
		{"with a heading and more columns", "tac,os,model\n35331105,Android,x\n", "android", ""},
		{"without", "35331105, ios\n", "ios", ""},
		{"unknown system", "35331105,amiga\n", "", ":1: operating system \"amiga\""},
		{"seven digits", "35331105,ios\n3533110,ios\n", "", ":2: expected eight digits"},
		{"empty", "", "", ": no device in it; expected lines such as 35331105,android"},
		{"a heading alone", "tac,os\n", "", ": no device in it"},
		{"one line that is none", "hello\n", "", ": no device in it"},
		{"one column", "tac\n35331105\n", "", ":2: expected eight digits"},
		{"broken quotes", "35331105,\"ios\n", "", "expected lines such as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tac.csv")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			table, err := loadTACs(path)
			if c.fails == "" {
				if err != nil || table["35331105"] != c.want {
					t.Errorf("%q, %v; want %q", table["35331105"], err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.fails)
			}
		})
	}
	if _, err := loadTACs(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file gave no error")
	}
}
