package ping

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namedNamespaces are where tools keep namespaces that no process lives in.
var namedNamespaces = []string{"/run/netns", "/run/docker/netns"}

// namespace is one network namespace, read through a socket that lives in it.
type namespace struct {
	inode uint64
	name  string
	diag  *diagSocket // nil: could not be entered
	// refused: there is no right to enter, through whatever process.
	refused bool
	seen    bool // in the scan that is under way
	// sampled: there is a sample before, so that a connection not in it is
	// new.
	sampled bool
}

// namespaces are all that can be found. Their own sockets keep them alive, so
// those that nobody else uses any more are closed at the next scan.
type namespaces struct {
	own   uint64
	names *Names
	known map[uint64]*namespace
	// unseen counts the processes whose namespace may not be known.
	unseen int
}

func newNamespaces(names *Names) (*namespaces, error) {
	own, err := namespaceOf("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	diag, err := openDiag(names)
	if err != nil {
		return nil, err
	}
	return &namespaces{own: own, names: names, known: map[uint64]*namespace{own: {inode: own, diag: diag}}}, nil
}

func (n *namespaces) close() {
	for _, ns := range n.known {
		if ns.diag != nil {
			ns.diag.close()
		}
	}
	clear(n.known)
}

// scan looks for namespaces: those of all processes, and the named ones.
func (n *namespaces) scan(pids []int) {
	for _, ns := range n.known {
		ns.seen = ns.inode == n.own
	}
	n.unseen = 0
	for _, pid := range pids {
		path := "/proc/" + strconv.Itoa(pid) + "/ns/net"
		inode, err := namespaceOf(path)
		switch {
		case err == nil:
			n.found(inode, path, "")
		case os.IsPermission(err):
			n.unseen++
		}
	}
	for _, dir := range namedNamespaces {
		entries, _ := os.ReadDir(dir) // most machines have none
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if inode, ok := mountedNamespace(path); ok {
				n.found(inode, path, e.Name())
			}
		}
	}
	for inode, ns := range n.known {
		if !ns.seen {
			if ns.diag != nil {
				ns.diag.close()
			}
			delete(n.known, inode)
		}
	}
}

func (n *namespaces) found(inode uint64, path, name string) {
	ns := n.known[inode]
	if ns == nil {
		ns = &namespace{inode: inode}
		n.known[inode] = ns
	}
	if name != "" {
		ns.name = name
	}
	ns.seen = true
	if ns.diag != nil || ns.refused {
		return
	}
	var err error
	ns.diag, err = n.openDiagIn(path, inode)
	ns.refused = errors.Is(err, fs.ErrPermission)
	if errors.Is(err, fs.ErrNotExist) {
		delete(n.known, inode) // gone since it was listed: nothing is missed
	}
}

// namespaceOf reads the inode from a link such as "net:[4026531840]".
func namespaceOf(path string) (uint64, error) {
	text, err := os.Readlink(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, "net:["), "]"), 10, 64)
}

// mountedNamespace tells whether a path is a namespace that is mounted there, not
// the empty file under it: namespaces live in a file system of their own.
func mountedNamespace(path string) (inode uint64, ok bool) {
	var system unix.Statfs_t
	if unix.Statfs(path, &system) != nil || system.Type != unix.NSFS_MAGIC {
		return 0, false
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// openDiagIn opens a socket in another network namespace.
func (n *namespaces) openDiagIn(path string, inode uint64) (diag *diagSocket, err error) {
	onLostThread(func() { diag, err = enter(path, inode, n.names) })
	return diag, err
}

// onLostThread runs f on a thread that ends with it, so that no other goroutine
// can find itself in the namespace where f has gone. A process's first thread
// cannot end: it would stay there, parked, hold the namespace, and stand for the
// whole process under /proc. So it is kept busy while another one is taken.
func onLostThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onLostThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // no unlocking: the thread ends here
	}()
	<-done
}

func enter(path string, inode uint64, names *Names) (*diagSocket, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // only read
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Ino != inode {
		return nil, os.ErrNotExist // the process has gone, and its number to another
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	return openDiag(names)
}
