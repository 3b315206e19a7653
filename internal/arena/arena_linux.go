package arena

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve maps fresh zero pages. MAP_NORESERVE: the reservation must not
// count as used memory, or the caps of all tables together would have to fit
// in RAM before the first packet arrives (mmap(2)).
//
// What is large enough for a huge page begins at the boundary of one, or there
// would be none at either end. The addresses passed over on the way there are
// given back.
func reserve(size uintptr) (unsafe.Pointer, error) {
	ahead := uintptr(0)
	if size >= HugePage {
		ahead = HugePage
	}
	p, err := unix.MmapPtr(-1, 0, nil, size+ahead,
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil || ahead == 0 {
		return p, err
	}
	skip := -uintptr(p) & (HugePage - 1)
	if skip > 0 {
		_ = unix.MunmapPtr(p, skip) // addresses without memory: nothing is lost
	}
	start := unsafe.Add(p, skip)
	if end := pages(size); ahead > skip {
		_ = unix.MunmapPtr(unsafe.Add(start, end), size+ahead-skip-end)
	}
	return start, nil
}

// pages rounds up to whole pages of the smallest kind.
func pages(size uintptr) uintptr {
	page := uintptr(unix.Getpagesize())
	return (size + page - 1) &^ (page - 1)
}

func release(p unsafe.Pointer, size uintptr) error { return unix.MunmapPtr(p, pages(size)) }

// adviseHuge drops the error: kernels without huge pages answer EINVAL, and
// nothing but speed depends on them.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
