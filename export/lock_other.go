//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package export

import "os"

const withoutWaiting = 0

// LockFile does nothing where there is no flock(2).
func LockFile(*os.File) error { return nil }
