package arena

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

type record struct {
	a uint64
	b [3]uint32
}

func TestMake(t *testing.T) {
	s, err := Make[record](1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(s) != 1000 || cap(s) != 1000 {
		t.Fatalf("len %d, cap %d, want 1000 of both", len(s), cap(s))
	}
	if uintptr(unsafe.Pointer(&s[0]))%unsafe.Alignof(s[0]) != 0 {
		t.Error("records are not aligned")
	}
	for i := range s {
		if s[i] != (record{}) {
			t.Fatalf("record %d is %v, want zero", i, s[i])
		}
		s[i] = record{a: uint64(i), b: [3]uint32{2: uint32(i)}}
	}
	runtime.GC()
	for i := range s {
		if s[i].a != uint64(i) || s[i].b[2] != uint32(i) {
			t.Fatalf("record %d lost its contents: %v", i, s[i])
		}
	}
	AdviseHuge(s)
	if err := Free(s); err != nil {
		t.Error(err)
	}
}

func TestMakeNothing(t *testing.T) {
	s, err := Make[record](0)
	if err != nil || len(s) != 0 {
		t.Errorf("Make(0) = %d records, %v", len(s), err)
	}
	AdviseHuge(s)
	if err := Free(s); err != nil {
		t.Error(err)
	}
	e, err := Make[struct{}](3)
	if err != nil || len(e) != 3 {
		t.Errorf("Make of empty structs = %d, %v", len(e), err)
	}
	if err := Free(e); err != nil {
		t.Error(err)
	}
}

func TestMakeRefuses(t *testing.T) {
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	_, err := Make[record](-1)
	check("negative count", err)
	_, err = Make[record](int(^uint(0) >> 1))
	check("overflowing size", err)
	_, err = Make[*int](1)
	check("pointer", err)
	_, err = Make[string](1)
	check("string", err)
	_, err = Make[struct {
		a int
		b [2]struct{ s []byte }
	}](1)
	check("slice inside a struct in an array", err)
	_, err = Make[func()](1)
	check("func", err)
}

// TestLazy holds the promise that makes caps free: a reservation far larger
// than what is touched adds no resident memory.
func TestLazy(t *testing.T) {
	before, ok := resident()
	if !ok {
		t.Skip("no /proc/self/statm: resident size unknown")
	}
	const size = 1 << 30
	s, err := Make[byte](size)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 1<<20; i += 4096 {
		s[i] = 1
	}
	after, _ := resident()
	if grown := after - before; grown > 64<<20 {
		t.Errorf("1 GiB reserved, 1 MiB touched: resident memory grew by %d bytes", grown)
	}
	if err := Free(s); err != nil {
		t.Error(err)
	}
}

// TestReserved holds that the sum of all tables is known, whatever their sizes.
func TestReserved(t *testing.T) {
	before := Reserved()
	for _, n := range []int{1, 100, 4096, HugePage/16 - 1, HugePage / 16, HugePage/16 + 1, 3 * HugePage / 16} {
		s, err := Make[[2]uint64](n)
		if err != nil {
			t.Fatal(err)
		}
		if got := Reserved() - before; got != int64(16*n) {
			t.Errorf("%d records of 16 bytes: %d bytes reserved", n, got)
		}
		if n*16 >= HugePage && runtime.GOOS == "linux" && uintptr(unsafe.Pointer(&s[0]))%HugePage != 0 {
			t.Errorf("%d bytes do not begin at a huge page", 16*n)
		}
		s[0][0], s[n-1][1] = 1, 1
		AdviseHuge(s)
		if err := Free(s); err != nil {
			t.Error(err)
		}
		if got := Reserved() - before; got != 0 {
			t.Errorf("%d bytes reserved after Free", got)
		}
	}
}

func resident() (int, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, false
	}
	pages, err := strconv.Atoi(f[1])
	return pages * os.Getpagesize(), err == nil
}
