//go:build !linux

package bench

import "time"

var start = time.Now()

// Elsewhere than on Linux the wall clock has to stand for CPU time, and the size
// of the process is not known.
func threadTime() time.Duration { return time.Since(start) }

func processTime() time.Duration { return time.Since(start) }

func residentMemory() (now, peak uint64) { return 0, 0 }
