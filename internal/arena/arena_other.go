//go:build !linux

package arena

// reserve falls back to the Go heap: a large make is zero pages from the
// system too, but it counts into the collector's pacing and is given back
// only when the collector gets to it.
func reserve[T any](n int) ([]T, error) { return make([]T, n), nil }

func release([]byte) error { return nil }

func adviseHuge([]byte) {}
