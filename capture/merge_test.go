package capture

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// merged returns a source over several files in memory, named a, b, c …
func merged(size int, files ...[]byte) *Files {
	s := &Files{}
	for i, data := range files {
		s.files = append(s.files, newFile(string(rune('a'+i)), bytes.NewReader(data), size, &s.stats))
	}
	s.start()
	return s
}

// times writes a pcap file with frames at those times, in seconds.
func times(name string, at ...uint32) []byte {
	w := little().pcap(magicMicro, 0, 1)
	for i, t := range at {
		w.record(t, 0, fmt.Sprintf("%s%d", name, i), 60)
	}
	return w.b
}

func TestMerge(t *testing.T) {
	for _, test := range []struct {
		name  string
		files [][]byte
		want  string
		err   string
	}{
		{"in turn", [][]byte{times("a", 1, 3, 5), times("b", 2, 4, 6)}, "a0 b0 a1 b1 a2 b2", ""},
		{"one after the other", [][]byte{times("a", 1, 2), times("b", 3, 4)}, "a0 a1 b0 b1", ""},
		{"later one first", [][]byte{times("a", 3, 4), times("b", 1, 2)}, "b0 b1 a0 a1", ""},
		{"ties in the order named", [][]byte{times("a", 1, 1, 2), times("b", 1, 2), times("c", 1, 2)}, "a0 a1 b0 c0 a2 b1 c1", ""},
		{"disorder in one file stays", [][]byte{times("a", 5, 1, 7), times("b", 4, 6)}, "b0 a0 a1 b1 a2", ""},
		{"disorder at a batch's end", [][]byte{times("a", 1, 9, 2), times("b", 5)}, "a0 b0 a1 a2", ""},
		{"a file without frames", [][]byte{times("a"), times("b", 1)}, "b0", ""},
		{"all without frames", [][]byte{times("a"), times("b")}, "", ""},
		{"of different formats", [][]byte{ngFile(big()).enhanced(0, 1_500_000, "a0", 60).b, gzipped(t, times("b", 1, 2)), zstded(t, times("c", 1, 2))}, "b0 c0 a0 b1 c1", ""},
		{"a damaged one", [][]byte{times("a", 1, 4)[:24+18+3], times("b", 2, 3)}, "a0 b0 b1", "a: cut off in its last record, which begins at offset 42: "},
		{
			"two damaged ones and one that is none",
			[][]byte{times("a", 1, 4)[:24+18+3], []byte("hello"), times("c", 2, 3)[:24+17]},
			"a0",
			"a: cut off in its last record, which begins at offset 42: what came before was read; copy the file again if it was still being written; " +
				"b: not a capture (first bytes 68 65 6c 6c): expected pcap or pcapng, optionally gzip or zstd; " +
				"c: cut off in its last record, which begins at offset 24: ",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{batchBytes, 40} {
				frames, err := drain(t, merged(size, test.files...))
				var got []string
				for _, f := range frames {
					got = append(got, f.data)
					if f.iface[0] != f.data[0] {
						t.Errorf("frame %s is said to be from %s", f.data, f.iface)
					}
				}
				if s := strings.Join(got, " "); s != test.want {
					t.Errorf("buffers of %d:\n got %s\nwant %s", size, s, test.want)
				}
				text := ""
				if err != nil {
					text = err.Error()
				}
				if !strings.HasPrefix(text, test.err) || (test.err == "") != (err == nil) || strings.Contains(text, "\n") {
					t.Errorf("buffers of %d:\n got %q\nwant %q…", size, text, test.err)
				}
				if strings.Contains(test.err, "cut off") != Truncated(err) {
					t.Errorf("Truncated(%v) = %v", err, Truncated(err))
				}
			}
		})
	}
}

// Many files against a stable sort of everything.
func TestMergeMany(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		var files [][]byte
		var want []got
		for i := range 1 + random.IntN(20) {
			now := uint32(random.IntN(100))
			w := little().pcap(magicMicro, 0, 1)
			for range random.IntN(3000) {
				data := fmt.Sprintf("%d in %d", len(want), i)
				w.record(now, 0, data, 100)
				want = append(want, eth(data, int64(now)*second, 100, string(rune('a'+i))))
				now += uint32(random.IntN(3) * random.IntN(3))
			}
			files = append(files, w.b)
		}
		slices.SortStableFunc(want, func(a, b got) int { return cmp.Compare(a.time, b.time) })
		for _, size := range []int{batchBytes, 1000} {
			frames, err := drain(t, merged(size, files...))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(frames, want) {
				t.Fatalf("round %d, buffers of %d: %d frames differ from the %d wanted", round, size, len(frames), len(want))
			}
		}
	}
}

func TestOpenSeveral(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	total := int64(0)
	for i, data := range [][]byte{times("a", 1, 3), gzipped(t, times("b", 2, 4))} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
		total += int64(len(data))
	}
	s, err := Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	frames, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []got{eth("a0", second, 60, paths[0]), eth("b0", 2*second, 60, paths[1]), eth("a1", 3*second, 60, paths[0]), eth("b1", 4*second, 60, paths[1])}
	if !reflect.DeepEqual(frames, want) {
		t.Errorf("got %v", frames)
	}
	if s.BytesRead() != total || s.TotalBytes() != total {
		t.Errorf("read %d of %d bytes, want %d", s.BytesRead(), s.TotalBytes(), total)
	}
	for i, stats := range s.Stats().Interfaces {
		if stats.Name != paths[i] || stats.Packets != 2 || stats.Bytes != 120 {
			t.Errorf("interface %d: %+v", i, stats)
		}
	}
}
