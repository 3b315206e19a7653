//go:build !linux

package arena

import "unsafe"

// reserve falls back to the Go heap: a large make is zero pages from the
// system too, but it counts into the collector's pacing and is given back
// only when the collector gets to it.
func reserve(size uintptr) (unsafe.Pointer, error) {
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8))), nil
}

func release(unsafe.Pointer, uintptr) error { return nil }

func populate([]byte) {}

func adviseHuge([]byte) {}
