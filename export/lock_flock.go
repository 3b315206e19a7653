//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package export

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// withoutWaiting opens a pipe that nobody reads with an error, and not once
// somebody does.
const withoutWaiting = unix.O_NONBLOCK

// LockFile takes the advisory lock of a file that is written to (flock(2)), which
// ends with the file's closing, however the process ends. It is ErrLocked where
// another has it. Where the file system knows no locks, there is none.
func LockFile(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return nil
}
