package capture

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/pcapgo"
)

// meanPacket is 668 bytes, the mean packet of a mobile network's mix.
const meanPacket = 668

// ordinary writes a pcap file of about size bytes.
func ordinary(size int) []byte {
	w := little().pcap(magicNano, 65535, 1)
	w.b = append(make([]byte, 0, size+2*meanPacket), w.b...)
	data := strings.Repeat("x", meanPacket)
	for i := uint32(0); len(w.b) < size; i++ {
		w.record(i/1e6, i%1e6*1000, data, meanPacket)
	}
	return w.b
}

// ordinaryNG writes a pcapng file of about size bytes.
func ordinaryNG(size int) []byte {
	w := ngFile(little())
	w.b = append(make([]byte, 0, size+2*meanPacket), w.b...)
	data := strings.Repeat("x", meanPacket)
	for i := uint64(0); len(w.b) < size; i++ {
		w.enhanced(0, i, data, meanPacket)
	}
	return w.b
}

// Once its buffers are there, a source allocates nothing.
func TestNoAllocation(t *testing.T) {
	const size = 40 << 20
	for name, data := range map[string][]byte{"pcap": ordinary(size), "pcapng": ordinaryNG(size)} {
		for _, s := range []*Files{
			source(data, batchBytes, nil),
			merged(batchBytes, data, data),
		} {
			var b Batch
			next := func() {
				if err := s.Next(&b); err != nil {
					t.Fatal(err)
				}
				s.Release(&b)
			}
			for range 20 {
				next()
			}
			if n := testing.AllocsPerRun(100, next); n != 0 {
				t.Errorf("%s, %d files: %v allocations a batch", name, len(s.files), n)
			}
		}
	}
}

func readAll(b *testing.B, s Source) int {
	var batch Batch
	packets := 0
	for {
		err := s.Next(&batch)
		if err == io.EOF {
			return packets
		}
		if err != nil {
			b.Fatal(err)
		}
		packets += len(batch.Frames)
		s.Release(&batch)
	}
}

func perPacket(b *testing.B, packets int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
	b.ReportMetric(0, "ns/op")
}

const benchBytes = 200 << 20

func benchMemory(b *testing.B, data []byte) {
	packets := 0
	for b.Loop() {
		packets += readAll(b, source(data, batchBytes, nil))
	}
	perPacket(b, packets)
}

func BenchmarkPcap(b *testing.B)   { benchMemory(b, ordinary(benchBytes)) }
func BenchmarkPcapng(b *testing.B) { benchMemory(b, ordinaryNG(benchBytes)) }

// BenchmarkMerge reads two files whose packets come in turn.
func BenchmarkMerge(b *testing.B) {
	data := ordinary(benchBytes / 2)
	packets := 0
	for b.Loop() {
		packets += readAll(b, merged(batchBytes, data, data))
	}
	perPacket(b, packets)
}

func ordinaryFile(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "ordinary.pcap")
	if err := os.WriteFile(path, ordinary(benchBytes), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkFile reads from the file system.
func BenchmarkFile(b *testing.B) {
	path := ordinaryFile(b)
	packets := 0
	for b.Loop() {
		s, err := Open([]string{path})
		if err != nil {
			b.Fatal(err)
		}
		packets += readAll(b, s)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	perPacket(b, packets)
}

// BenchmarkPcapgo is gopacket's reader over the same bytes as BenchmarkPcap.
func BenchmarkPcapgo(b *testing.B) {
	data := ordinary(benchBytes)
	packets := 0
	for b.Loop() {
		packets += readPcapgo(b, bytes.NewReader(data))
	}
	perPacket(b, packets)
}

// BenchmarkPcapgoFile is gopacket's reader over the same file as BenchmarkFile.
func BenchmarkPcapgoFile(b *testing.B) {
	path := ordinaryFile(b)
	packets := 0
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		packets += readPcapgo(b, f)
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	perPacket(b, packets)
}

func readPcapgo(b *testing.B, in io.Reader) int {
	r, err := pcapgo.NewReader(in)
	if err != nil {
		b.Fatal(err)
	}
	for packets := 0; ; packets++ {
		_, _, err := r.ZeroCopyReadPacketData()
		if err == io.EOF {
			return packets
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
