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
// would be none at either end. Whole huge pages lie so of themselves where their
// like lies around them, and always since Linux 6.7.
func reserve(size uintptr) (unsafe.Pointer, error) {
	size = mapped(size)
	p, err := mmap(size)
	if err != nil || size < HugePage || uintptr(p)%HugePage == 0 {
		return p, err
	}
	_ = unix.MunmapPtr(p, size) // addresses without memory: nothing is lost
	if p, err = mmap(size + HugePage); err != nil {
		return nil, err
	}
	skip := -uintptr(p) & (HugePage - 1)
	if skip > 0 {
		_ = unix.MunmapPtr(p, skip)
	}
	start := unsafe.Add(p, skip)
	if ahead := HugePage - skip; ahead > 0 {
		_ = unix.MunmapPtr(unsafe.Add(start, size), ahead)
	}
	return start, nil
}

func mmap(size uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
}

// mapped is the size rounded up to whole pages: huge ones if it takes one.
func mapped(size uintptr) uintptr {
	page := uintptr(unix.Getpagesize())
	if size >= HugePage {
		page = HugePage
	}
	return (size + page - 1) &^ (page - 1)
}

func release(p unsafe.Pointer, size uintptr) error { return unix.MunmapPtr(p, mapped(size)) }

// populate drops the error: a kernel before 5.14 answers EINVAL, and the pages come
// as they are touched.
func populate(b []byte) { _ = unix.Madvise(b, unix.MADV_POPULATE_WRITE) }

// adviseHuge drops the error: kernels without huge pages answer EINVAL, and
// nothing but speed depends on them.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
