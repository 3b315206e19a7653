package arena

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve maps fresh zero pages. MAP_NORESERVE: the reservation must not
// count as used memory, or the caps of all tables together would have to fit
// in RAM before the first packet arrives (mmap(2)).
func reserve[T any](n int) ([]T, error) {
	var zero T
	b, err := unix.Mmap(-1, 0, n*int(unsafe.Sizeof(zero)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n), nil
}

func release(b []byte) error { return unix.Munmap(b) }

// adviseHuge drops the error: kernels without huge pages answer EINVAL, and
// nothing but speed depends on them.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }
