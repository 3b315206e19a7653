package packed

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestWriter(t *testing.T) {
	unzst := func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) }
	ungz := func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	as := func(r io.Reader) (io.Reader, error) { return r, nil }
	tests := []struct {
		name, bare string
		read       func(io.Reader) (io.Reader, error)
	}{
		{"flows.jsonl", "flows.jsonl", as},
		{"flows.jsonl.zst", "flows.jsonl", unzst},
		{"flows.jsonl.gz", "flows.jsonl", ungz},
		{"a.gz/flows", "a.gz/flows", as},
		{"a.gz.zst", "a.gz", unzst},
		{"-", "-", as},
	}
	for _, tt := range tests {
		if got := Bare(tt.name); got != tt.bare {
			t.Errorf("%s without compression is %s", tt.name, got)
		}
		for _, text := range []string{"", "some lines\n"} {
			var b bytes.Buffer
			w, err := Writer(tt.name, &b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := tt.read(&b)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != text {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
		}
	}
}
