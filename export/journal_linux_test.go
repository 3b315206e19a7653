package export

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestJournalOnAFullDisk: every line is whole in the file, or counted as lost.
func TestJournalOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making a small disk needs root")
	}
	synctest.Test(t, func(t *testing.T) {
		runtime.LockOSThread() // and never unlock: the thread ends with the test, and the mount with it
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Skip("no mount namespace to be had: ", err)
		}
		dir := t.TempDir()
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			t.Skip("no private mounts to be had: ", err)
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
			t.Skip("no small disk to be had: ", err)
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		path, ballast := filepath.Join(dir, "f"), filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		j := journalAt(t, path, "", io.Discard)
		lines := 0
		more := func(n int) {
			for range n {
				write(t, j, strings.Repeat(fmt.Sprintf("%0996d\n", lines), 3))
				lines += 3
			}
		}
		more(100)
		full := j.Lost()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryEvery)
		more(5)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		there := 0
		for line := range strings.Lines(string(text)) {
			if len(line) != 997 {
				t.Errorf("a line of %d bytes", len(line))
			}
			there++
		}
		if full == 0 || j.Lost() != full || there+int(full) != lines {
			t.Errorf("%d lines of %d are in the file; %d were lost while the disk was full, %d in all", there, lines, full, j.Lost())
		}
	})
}
