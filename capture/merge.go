package capture

import (
	"errors"
	"io"
)

// merge is a k-way merge of files by packet time.
type merge struct {
	inputs []mergeInput
	// heap holds the numbers of the inputs that have a frame, the earliest
	// first (a binary heap).
	heap []int
	// refill lists inputs whose batch is used up. They are filled when Next
	// is called, never while it has frames to deliver: one may be a pipe.
	refill []int
	err    error
}

type mergeInput struct {
	file  *file
	batch Batch
	// pos is the next frame of batch, latest the greatest time in it.
	pos    int
	latest int64
	err    error
}

func newMerge(files []*file) *merge {
	m := &merge{inputs: make([]mergeInput, len(files))}
	for i, f := range files {
		m.inputs[i].file = f
		m.refill = append(m.refill, i)
	}
	return m
}

// next fills b with the next frames of all files.
func (m *merge) next(b *Batch) error {
	b.Frames = b.Frames[:0]
	if m.err != nil {
		return m.err
	}
	for _, i := range m.refill {
		m.fill(i)
	}
	m.refill = m.refill[:0]
	if len(m.heap) == 0 {
		m.err = m.end()
		return m.err
	}
	if m.handOver(b) {
		return nil
	}
	m.copy(b)
	return nil
}

// fill gets an input's next batch and puts it into the heap.
func (m *merge) fill(i int) {
	in := &m.inputs[i]
	in.pos = 0
	if in.err = in.file.next(&in.batch); in.err != nil {
		in.batch = Batch{}
		return
	}
	in.latest = in.batch.Frames[0].Time
	for k := range in.batch.Frames {
		in.latest = max(in.latest, in.batch.Frames[k].Time)
	}
	m.heap = append(m.heap, i)
	m.up(len(m.heap) - 1)
}

// end returns what Next returns when every file has ended.
func (m *merge) end() error {
	var errs []error
	for i := range m.inputs {
		if err := m.inputs[i].err; !errors.Is(err, io.EOF) {
			errs = append(errs, err)
		}
	}
	if err := join(errs); err != nil {
		return err
	}
	return io.EOF
}

// handOver gives the first input's batch away as it is, if all of it comes
// before every other input: files that follow one another are not copied. The
// input takes b's buffer in exchange, so it must be one of that size.
func (m *merge) handOver(b *Batch) bool {
	i := m.heap[0]
	in := &m.inputs[i]
	if in.file.size < batchBytes || in.pos != 0 || !m.before(in.latest, i) {
		return false
	}
	b.Frames, in.batch.Frames = in.batch.Frames, b.Frames
	b.buf, in.batch.buf = in.batch.buf, b.buf
	m.drop()
	return true
}

// copy fills b with frames one by one. They are copied: a batch must not hold
// on to the buffers of all files. It stops when b is full or an input is used
// up.
func (m *merge) copy(b *Batch) {
	buf := b.room(batchBytes)
	for {
		i := m.heap[0]
		in := &m.inputs[i]
		for in.pos < len(in.batch.Frames) {
			frame := in.batch.Frames[in.pos]
			if !m.before(frame.Time, i) {
				break
			}
			if len(buf)+len(frame.Data) > cap(buf) {
				b.buf = buf
				return
			}
			start := len(buf)
			buf = append(buf, frame.Data...)
			frame.Data = buf[start:len(buf):len(buf)]
			b.Frames = append(b.Frames, frame)
			in.pos++
		}
		if in.pos == len(in.batch.Frames) {
			b.buf = buf
			m.drop()
			return
		}
		m.down()
	}
}

// before reports whether a frame of input i at time t comes before the first
// frame of every other input. i is at the heap's top.
func (m *merge) before(t int64, i int) bool {
	for k := 1; k < min(3, len(m.heap)); k++ {
		other := m.heap[k]
		if at := m.time(other); at < t || at == t && other < i {
			return false
		}
	}
	return true
}

// time returns the time of an input's next frame.
func (m *merge) time(i int) int64 {
	in := &m.inputs[i]
	return in.batch.Frames[in.pos].Time
}

// less orders two places of the heap.
func (m *merge) less(a, b int) bool {
	a, b = m.heap[a], m.heap[b]
	ta, tb := m.time(a), m.time(b)
	return ta < tb || ta == tb && a < b
}

// drop takes the first input out of the heap, to be filled again.
func (m *merge) drop() {
	m.refill = append(m.refill, m.heap[0])
	last := len(m.heap) - 1
	m.heap[0] = m.heap[last]
	m.heap = m.heap[:last]
	m.down()
}

func (m *merge) up(k int) {
	for k > 0 {
		parent := (k - 1) / 2
		if !m.less(k, parent) {
			return
		}
		m.heap[k], m.heap[parent] = m.heap[parent], m.heap[k]
		k = parent
	}
}

func (m *merge) down() {
	k := 0
	for {
		least := k
		for child := 2*k + 1; child <= 2*k+2 && child < len(m.heap); child++ {
			if m.less(child, least) {
				least = child
			}
		}
		if least == k {
			return
		}
		m.heap[k], m.heap[least] = m.heap[least], m.heap[k]
		k = least
	}
}
