package ping

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// owners tells which process holds a socket. The way there is long (all open
// files of all processes), so that answers are kept for as long as the socket
// lives, and the search is made only for sockets not asked for before.
type owners struct {
	byInode map[uint32]Process // the zero Process: searched for in vain
	details map[int]Process
	unseen  int // processes whose files may not be looked at, in the last search
}

func newOwners() *owners { return &owners{byInode: map[uint32]Process{}} }

// keep forgets all sockets but those of alive.
func (o *owners) keep(alive map[uint32]struct{}) {
	for inode := range o.byInode {
		if _, ok := alive[inode]; !ok {
			delete(o.byInode, inode)
		}
	}
}

// resolve searches for the inodes that are not known yet.
func (o *owners) resolve(inodes []uint32, pids []int) {
	missing := map[uint32]struct{}{}
	for _, inode := range inodes {
		if _, known := o.byInode[inode]; !known && inode != 0 {
			missing[inode] = struct{}{}
		}
	}
	if len(missing) == 0 {
		return
	}
	o.details = map[int]Process{}
	o.unseen = 0
	for _, pid := range pids {
		if len(missing) == 0 {
			break
		}
		o.search(pid, missing)
	}
	for inode := range missing {
		o.byInode[inode] = Process{}
	}
	o.details = nil
}

// search looks through the open files of one process.
func (o *owners) search(pid int, missing map[uint32]struct{}) {
	path := "/proc/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		if os.IsPermission(err) {
			o.unseen++
		}
		return
	}
	defer func() { _ = dir.Close() }() // only read
	names, err := dir.Readdirnames(-1)
	if os.IsPermission(err) {
		o.unseen++
	}
	target := make([]byte, 64) // "socket:[4294967295]" is 19 bytes
	for _, name := range names {
		n, err := unix.Readlinkat(int(dir.Fd()), name, target)
		if err != nil {
			continue // closed since
		}
		inode, ok := socketInode(target[:n])
		if !ok {
			continue
		}
		if _, wanted := missing[inode]; wanted {
			o.byInode[inode] = o.process(pid)
			delete(missing, inode)
		}
	}
}

// socketInode reads "socket:[12345]".
func socketInode(b []byte) (uint32, bool) {
	b, ok := bytes.CutPrefix(b, []byte("socket:["))
	if !ok || len(b) < 2 || len(b) > 11 || b[len(b)-1] != ']' {
		return 0, false
	}
	var n uint64
	for _, c := range b[:len(b)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return uint32(n), n <= 1<<32-1
}

func (o *owners) process(pid int) Process {
	if p, ok := o.details[pid]; ok {
		return p
	}
	dir := "/proc/" + strconv.Itoa(pid)
	p := Process{PID: pid}
	if comm, err := os.ReadFile(dir + "/comm"); err == nil {
		p.Command = strings.ToValidUTF8(strings.TrimSuffix(string(comm), "\n"), "\ufffd")
	}
	if text, err := os.ReadFile(dir + "/cgroup"); err == nil {
		p.Cgroup = cgroupPath(string(text))
		p.Unit = unitOf(p.Cgroup)
	}
	o.details[pid] = p
	return p
}

// cgroupPath picks from /proc/PID/cgroup (man 7 cgroups) the path that systemd
// works with: in the hierarchy v2, or in the named one of v1 where both are
// mounted and v2 has but its root.
func cgroupPath(text string) string {
	var unified, named string
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0" && parts[1] == "":
			unified = parts[2]
		case parts[1] == "name=systemd":
			named = parts[2]
		}
	}
	if named != "" && (unified == "" || unified == "/") {
		return named
	}
	return unified
}

// unitOf returns the innermost service or scope of a control group: what runs
// for a user is a unit inside the unit user@1000.service.
func unitOf(cgroup string) string {
	unit := ""
	for part := range strings.SplitSeq(cgroup, "/") {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			unit = part
		}
	}
	return unit
}

// processes returns the numbers of all processes.
func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // only read
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
