package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// builder writes captures byte by byte, so that they can be wrong.
type builder struct {
	order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	}
	b []byte
}

func little() *builder { return &builder{order: binary.LittleEndian} }
func big() *builder    { return &builder{order: binary.BigEndian} }

func (w *builder) u16(v ...uint16) *builder {
	for _, v := range v {
		w.b = w.order.AppendUint16(w.b, v)
	}
	return w
}

func (w *builder) u32(v ...uint32) *builder {
	for _, v := range v {
		w.b = w.order.AppendUint32(w.b, v)
	}
	return w
}

func (w *builder) raw(s string) *builder {
	w.b = append(w.b, s...)
	return w
}

// pcap writes a file header.
func (w *builder) pcap(magic, snap, network uint32) *builder {
	return w.u32(magic).u16(2, 4).u32(0, 0, snap, network)
}

// record writes a packet record.
func (w *builder) record(seconds, fraction uint32, data string, wire uint32) *builder {
	return w.u32(seconds, fraction, uint32(len(data)), wire).raw(data)
}

// block writes a pcapng block around body.
func (w *builder) block(kind uint32, body *builder) *builder {
	padded := append([]byte(nil), body.b...)
	for len(padded)%4 != 0 {
		padded = append(padded, 0)
	}
	size := uint32(len(padded) + 12)
	return w.u32(kind, size).raw(string(padded)).u32(size)
}

// like returns an empty builder of the same order.
func (w *builder) like() *builder { return &builder{order: w.order} }

// section writes a Section Header Block; length -1 as pipes have it.
func (w *builder) section() *builder {
	return w.block(blockSection, w.like().u32(byteOrderMagic).u16(1, 0).u32(0xffffffff, 0xffffffff))
}

// iface writes an Interface Description Block with options as they come.
func (w *builder) iface(link uint16, snap uint32, options *builder) *builder {
	body := w.like().u16(link, 0).u32(snap)
	if options != nil {
		body.raw(string(options.b))
	}
	return w.block(blockInterface, body)
}

// option writes an option.
func (w *builder) option(code uint16, value string) *builder {
	w.u16(code, uint16(len(value))).raw(value)
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
	return w
}

// enhanced writes an Enhanced Packet Block.
func (w *builder) enhanced(id uint32, ticks uint64, data string, wire uint32) *builder {
	body := w.like().u32(id, uint32(ticks>>32), uint32(ticks), uint32(len(data)), wire).raw(data)
	return w.block(blockEnhanced, body)
}

// got is a frame that outlives its batch.
type got struct {
	data  string
	time  int64
	wire  uint32
	link  decode.Link
	iface string
}

// eth is a frame of the usual kind.
func eth(data string, time int64, wire uint32, iface string) got {
	return got{data, time, wire, decode.LinkEthernet, iface}
}

// drain reads a source to its end. It holds three batches at a time, as the
// engine does, and looks at the frames only when they are released.
func drain(t testing.TB, s Source) ([]got, error) {
	t.Helper()
	var all []got
	var waiting []*Batch
	release := func(most int) {
		for len(waiting) > most {
			b := waiting[0]
			waiting = waiting[1:]
			names := s.Interfaces()
			for _, f := range b.Frames {
				all = append(all, got{string(f.Data), f.Time, f.WireLen, f.Link, names[f.Interface]})
			}
			s.Release(b)
		}
	}
	pool := []*Batch{{}, {}, {}, {}}
	for i := 0; ; i++ {
		b := pool[i%len(pool)]
		err := s.Next(b)
		if err != nil {
			release(0)
			if again := s.Next(b); !errors.Is(again, err) && again.Error() != err.Error() {
				t.Errorf("Next after %q returned %q", err, again)
			}
			if err == io.EOF {
				err = nil
			}
			return all, err
		}
		if len(b.Frames) == 0 {
			t.Fatal("Next returned an empty batch and no error")
		}
		waiting = append(waiting, b)
		release(3)
	}
}

// source returns a source over data with buffers of size bytes, read through
// how.
func source(data []byte, size int, how func(io.Reader) io.Reader) *Files {
	s := &Files{}
	r := io.Reader(bytes.NewReader(data))
	if how != nil {
		r = how(r)
	}
	s.files = []*file{newFile("test.pcap", r, size, &s.stats)}
	return s
}
