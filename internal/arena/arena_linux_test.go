package arena

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestDenseIsThere: of what is used all over, no page has to come when it is
// first read, and again when it is first written.
func TestDenseIsThere(t *testing.T) {
	const size = largestPiece
	lazy, err := Make[byte](size)
	if err != nil {
		t.Fatal(err)
	}
	if n := present(t, lazy); n != 0 {
		t.Errorf("%d pages of what Make reserves are there at once", n)
	}
	if err := unix.Madvise(lazy, unix.MADV_POPULATE_WRITE); err != nil {
		t.Skip("the kernel gives no memory ahead: ", err)
	}
	dense, err := MakeDense[byte](size)
	if err != nil {
		t.Fatal(err)
	}
	if n := present(t, dense); n != size/unix.Getpagesize() {
		t.Errorf("%d pages are there, want all %d", n, size/unix.Getpagesize())
	}
	if err := Free(lazy); err != nil {
		t.Error(err)
	}
	if err := Free(dense); err != nil {
		t.Error(err)
	}
}

// present counts the pages that are in memory (mincore(2)).
func present(t *testing.T, b []byte) (n int) {
	t.Helper()
	found := make([]byte, len(b)/unix.Getpagesize())
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&found[0]))); e != 0 {
		t.Fatal(e)
	}
	for _, is := range found {
		n += int(is & 1)
	}
	return n
}
