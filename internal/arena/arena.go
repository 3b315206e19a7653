// Package arena gives tables of pointer-free records a fixed place in memory
// that is reserved whole and committed page by page as it is first touched.
//
// A table can so be laid out for its cap at start and costs, until it fills,
// only what it holds: growing never copies, and the garbage collector neither
// scans the records nor counts them into its pacing.
package arena

import (
	"fmt"
	"math"
	"reflect"
	"sync/atomic"
	"unsafe"
)

// Make returns n zeroed records of T outside the Go heap where the system
// allows it. Memory is committed when it is first written, in units of a page
// (4 KiB; 2 MiB after AdviseHuge).
//
// T must hold no pointers, because the garbage collector does not look here;
// a T that does is an error, as is a size that the system refuses. The caller
// owns the slice and gives it back with Free; it must not be appended to.
func Make[T any](n int) ([]T, error) {
	size, err := sizeOf[T](n)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return make([]T, n), nil
	}
	p, err := reserve(uintptr(size))
	if err != nil {
		return nil, refused(size, n, err)
	}
	reserved.Add(int64(size))
	return unsafe.Slice((*T)(p), n), nil
}

// sizeOf returns the bytes of n records of T, or why there can be none.
func sizeOf[T any](n int) (uint64, error) {
	t := reflect.TypeFor[T]()
	if holdsPointers(t) {
		return 0, fmt.Errorf("arena: %v holds pointers, which the garbage collector would not see; use make", t)
	}
	size := uint64(t.Size())
	if n < 0 || size != 0 && uint64(n) > math.MaxInt/size {
		return 0, fmt.Errorf("arena: %d records of %d bytes do not fit the address space; lower the cap", n, size)
	}
	return uint64(n) * size, nil
}

// reserved is what Make and MakeDense have given out and Free has not taken back.
var reserved atomic.Int64

// Reserved returns how many bytes all tables of the process have reserved: what
// they take once they are full. It may be called from any goroutine.
func Reserved() int64 { return reserved.Load() }

// HugePage is the size of a huge page, in bytes, on most systems. A table of
// this size or more begins at the boundary of one.
const HugePage = 2 << 20

// HugeFrom is how many bytes are touched before huge pages pay. Below it the
// processor's address translation and the page tables behind it stay in the caches,
// and a short run on a virtual machine waits longer for memory than it saves: where
// the host takes back what the guest does not use, it takes whole huge pages, and
// to have one again costs milliseconds (a tenth of all CPU time of a trace of ten
// million short frames, of which pages of 4 KiB spare the most).
const HugeFrom = 64 << 20

// Free gives back what Make or MakeDense returned; s must be that slice, not a part of it,
// and neither it nor a part of it may be used again.
func Free[T any](s []T) error {
	if len(s) == 0 || unsafe.Sizeof(s[0]) == 0 {
		return nil
	}
	b := octets(s)
	start, size := unsafe.Pointer(&b[0]), uintptr(len(b))
	piece, err := false, error(nil)
	if size <= largestPiece {
		piece, err = pieces.give(start, pagesOf(size))
	}
	if !piece {
		err = release(start, size)
	}
	if err != nil {
		return fmt.Errorf("arena: cannot release %d bytes: %w", len(b), err)
	}
	reserved.Add(-int64(len(b)))
	return nil
}

// AdviseHuge asks for huge pages behind s, which must come from Make. It pays
// for large tables that are read at random, where most of a look-up goes into
// address translation. A table that fills from its beginning asks once it holds
// HugeFrom: what lies there by then is gathered by the system in the background. It
// is advice: a system that has none to give changes nothing.
func AdviseHuge[T any](s []T) {
	if len(s) == 0 || unsafe.Sizeof(s[0]) == 0 {
		return
	}
	adviseHuge(octets(s))
}

func octets[T any](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// holdsPointers errs on the side of yes.
func holdsPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return t.Len() != 0 && holdsPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	}
	return true
}
