package capture

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/nametap/nametap/capture/decode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = int64(1e9)

// regimes are ways to read the same file, of which the result must not depend.
var regimes = []struct {
	name string
	size int
	how  func(io.Reader) io.Reader
}{
	{"whole", batchBytes, nil},
	{"small buffer", 40, nil},
	{"byte by byte", batchBytes, iotest.OneByteReader},
	{"small buffer, halves, error with data", 64, func(r io.Reader) io.Reader {
		return iotest.DataErrReader(iotest.HalfReader(r))
	}},
}

func gzipped(t testing.TB, parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, part := range parts { // a member each
		z := gzip.NewWriter(&out)
		if _, err := z.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func zstded(t testing.TB, data []byte, options ...zstd.EOption) []byte {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, append(options, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// twoRecords is a small ordinary file.
func twoRecords(w *builder) *builder {
	return w.pcap(magicMicro, 65535, 1).record(100, 7, "abcd", 60).record(101, 8, "efghij", 6)
}

var twoFrames = []got{
	eth("abcd", 100*second+7000, 60, "test.pcap"),
	eth("efghij", 101*second+8000, 6, "test.pcap"),
}

// ngFile is a section with one Ethernet interface.
func ngFile(w *builder) *builder { return w.section().iface(1, 0, nil) }

func TestFormats(t *testing.T) {
	long := strings.Repeat("x", maxFrame)
	option := func(code uint16, value string) *builder { return little().option(code, value).option(optionEnd, "") }
	for _, test := range []struct {
		name string
		data []byte
		want []got
		bad  uint64 // BadFractions
	}{
		{"pcap little-endian", twoRecords(little()).b, twoFrames, 0},
		{"pcap big-endian", twoRecords(big()).b, twoFrames, 0},
		{
			"pcap nanoseconds", little().pcap(magicNano, 0, 1).record(100, 7, "abcd", 60).b,
			[]got{eth("abcd", 100*second+7, 60, "test.pcap")},
			0,
		},
		{
			"pcap nanoseconds big-endian", big().pcap(magicNano, 0, 1).record(100, 7, "abcd", 60).b,
			[]got{eth("abcd", 100*second+7, 60, "test.pcap")},
			0,
		},
		{
			"pcap modified, records of 24 bytes",
			big().pcap(magicModified, 65535, 1).u32(100, 7, 4, 60, 3, 0x08000000).raw("abcd").
				u32(101, 0, 1, 1, 3, 0).raw("e").b,
			[]got{eth("abcd", 100*second+7000, 60, "test.pcap"), eth("e", 101*second, 1, "test.pcap")},
			0,
		},
		{
			"pcap link type with frame check sequence bits", little().pcap(magicMicro, 0, 0x50000071).record(1, 0, "a", 1).b,
			[]got{{"a", second, 1, decode.LinkSLL, "test.pcap"}},
			0,
		},
		{"pcap header alone", little().pcap(magicMicro, 0, 1).b, nil, 0},
		{
			"pcap frame longer than the snap length", little().pcap(magicMicro, 2, 1).record(1, 0, "abcd", 4).b,
			[]got{eth("abcd", second, 4, "test.pcap")},
			0,
		},
		{
			"pcap wire length less than captured", little().pcap(magicMicro, 2, 1).record(1, 0, "abcd", 0).b,
			[]got{eth("abcd", second, 4, "test.pcap")},
			0,
		},
		{
			"pcap frame of no bytes", little().pcap(magicMicro, 2, 1).record(1, 0, "", 60).record(2, 0, "a", 1).b,
			[]got{eth("", second, 60, "test.pcap"), eth("a", 2*second, 1, "test.pcap")},
			0,
		},
		{
			"pcap longest frame, longer than the buffer", little().pcap(magicMicro, 0, 1).record(1, 0, long, maxFrame).record(1, 1, "b", 1).b,
			[]got{eth(long, second, maxFrame, "test.pcap"), eth("b", second+1000, 1, "test.pcap")},
			0,
		},
		{
			"pcap fraction of a second and more is carried", little().pcap(magicMicro, 0, 1).
				record(1, 999_999, "a", 1).record(1, 1_000_000, "b", 1).record(1, 2_500_000, "c", 1).b,
			[]got{eth("a", second+999_999_000, 1, "test.pcap"), eth("b", 2*second, 1, "test.pcap"), eth("c", 3*second+500_000_000, 1, "test.pcap")},
			2,
		},
		{
			"pcap nanosecond fraction of a second and more is carried", little().pcap(magicNano, 0, 1).
				record(1, 999_999_999, "a", 1).record(1, 1_000_000_000, "b", 1).record(1, 1<<31, "c", 1).b,
			[]got{eth("a", 2*second-1, 1, "test.pcap"), eth("b", 2*second, 1, "test.pcap"), eth("c", second+1<<31, 1, "test.pcap")},
			2,
		},
		{
			"pcap last second of 32 bits", little().pcap(magicMicro, 0, 1).record(math.MaxUint32, 1, "a", 1).b,
			[]got{eth("a", math.MaxUint32*second+1000, 1, "test.pcap")},
			0,
		},
		{"gzip", gzipped(t, twoRecords(little()).b), twoFrames, 0},
		{"gzip of several members", gzipped(t, twoRecords(little()).b[:30], twoRecords(little()).b[30:]), twoFrames, 0},
		{"zstd", zstded(t, twoRecords(big()).b), twoFrames, 0},
		{"zstd of several frames", append(zstded(t, twoRecords(big()).b[:30]), zstded(t, twoRecords(big()).b[30:])...), twoFrames, 0},
		{"zstd after a skippable frame", append([]byte("\x5e\x2a\x4d\x18\x03\x00\x00\x00abc"), zstded(t, twoRecords(big()).b)...), twoFrames, 0},
		{"gzip, pcapng", gzipped(t, ngFile(little()).enhanced(0, 5, "a", 9).b), []got{eth("a", 5000, 9, "test.pcap:0")}, 0},

		{"pcapng header alone", little().section().b, nil, 0},
		{"pcapng little-endian", ngFile(little()).enhanced(0, 5, "abc", 9).b, []got{eth("abc", 5000, 9, "test.pcap:0")}, 0},
		{"pcapng big-endian", ngFile(big()).enhanced(0, 1<<32, "abcd", 9).b, []got{eth("abcd", 1000<<32, 9, "test.pcap:0")}, 0},
		{
			"pcapng sections of different order, each with its own interfaces",
			append(little().section().iface(1, 0, option(optionName, "eth0")).enhanced(0, 5, "a", 9).b,
				big().section().iface(101, 0, big().option(optionName, "tun0")).enhanced(0, 6, "b", 9).b...),
			[]got{eth("a", 5000, 9, "eth0"), {"b", 6000, 9, decode.LinkRaw, "tun0"}},
			0,
		},
		{
			"pcapng interfaces of equal name are one",
			append(little().section().iface(1, 0, option(optionName, "eth0")).enhanced(0, 5, "a", 9).b,
				little().section().iface(101, 0, nil).iface(1, 0, option(optionName, "eth0")).enhanced(1, 6, "b", 9).b...),
			[]got{eth("a", 5000, 9, "eth0"), eth("b", 6000, 9, "eth0")},
			0,
		},
		{
			"pcapng obsolete packet block: interface in 16 bits, then drops",
			ngFile(big()).block(blockPacket, big().u16(0, 77).u32(0, 5, 3, 9).raw("abc")).b,
			[]got{eth("abc", 5000, 9, "test.pcap:0")},
			0,
		},
		{
			"pcapng simple packet block: time of the frame before",
			ngFile(little()).block(blockSimple, little().u32(2).raw("ab")).enhanced(0, 5, "abc", 9).block(blockSimple, little().u32(3).raw("def")).b,
			[]got{eth("ab", 0, 2, "test.pcap:0"), eth("abc", 5000, 9, "test.pcap:0"), eth("def", 5000, 3, "test.pcap:0")},
			0,
		},
		{
			"pcapng simple packet block cut by the snap length",
			little().section().iface(1, 5, nil).block(blockSimple, little().u32(60).raw("abcde")).b,
			[]got{eth("abcde", 0, 60, "test.pcap:0")},
			0,
		},
		{
			"pcapng options after the frame", ngFile(little()).block(blockEnhanced, little().u32(0, 0, 5, 1, 1).raw("a\x00\x00\x00").option(2, "\x01\x00\x00\x00")).b,
			[]got{eth("a", 5000, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng blocks of no interest, one larger than the buffer and than any packet block",
			ngFile(little()).block(4, little().raw("names")).block(0x0bad, little().raw(strings.Repeat("z", 2<<20))).block(5, little()).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5000, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolution in nanoseconds", little().section().iface(1, 0, option(optionTSResol, "\x09")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolution in seconds", little().section().iface(1, 0, option(optionTSResol, "\x00")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5*second, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolution in picoseconds", little().section().iface(1, 0, option(optionTSResol, "\x0c")).enhanced(0, 5999, "a", 1).b,
			[]got{eth("a", 5, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolution 2^-10", little().section().iface(1, 0, option(optionTSResol, "\x8a")).enhanced(0, 1025, "a", 1).b,
			[]got{eth("a", second+976_562, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolution 2^-32 (NTP)", little().section().iface(1, 0, option(optionTSResol, "\xa0")).enhanced(0, 3<<32|1<<31, "a", 1).b,
			[]got{eth("a", 3*second+second/2, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng resolutions out of reason", little().section().
				iface(1, 0, option(optionTSResol, "\x7f")).iface(1, 0, option(optionTSResol, "\xff")).iface(1, 0, option(optionTSResol, "\x80")).
				enhanced(0, math.MaxUint64, "a", 1).enhanced(1, math.MaxUint64, "b", 1).enhanced(2, 3, "c", 1).b,
			[]got{eth("a", 0, 1, "test.pcap:0"), eth("b", 0, 1, "test.pcap:1"), eth("c", 3*second, 1, "test.pcap:2")},
			0,
		},
		{
			"pcapng time beyond int64 is held there", little().section().iface(1, 0, option(optionTSResol, "\x00")).enhanced(0, math.MaxUint64, "a", 1).b,
			[]got{eth("a", math.MaxInt64, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng time offset", little().section().iface(1, 0, option(optionTSOff, "\x64\x00\x00\x00\x00\x00\x00\x00")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 100*second+5000, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng negative time offset, no time before 1970", little().section().iface(1, 0, option(optionTSOff, "\xff\xff\xff\xff\xff\xff\xff\xff")).
				enhanced(0, 1_500_000, "a", 1).enhanced(0, 5, "b", 1).b,
			[]got{eth("a", second/2, 1, "test.pcap:0"), eth("b", 0, 1, "test.pcap:0")},
			0,
		},
		{
			"pcapng name unfit for labels", little().section().iface(1, 0, option(optionName, "e\x1b[\xff\xc3\xa9\x00tail")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5000, 1, "e?[?é")},
			0,
		},
		{
			"pcapng options without an end", little().section().iface(1, 0, little().option(optionName, "eth0")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5000, 1, "eth0")},
			0,
		},
		{
			"pcapng options of the wrong length do not count", little().section().iface(1, 0, option(optionTSResol, "\x09\x09").option(optionTSOff, "\x01")).enhanced(0, 5, "a", 1).b,
			[]got{eth("a", 5000, 1, "test.pcap:0")},
			0,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, regime := range regimes {
				s := source(test.data, regime.size, regime.how)
				frames, err := drain(t, s)
				if err != nil {
					t.Fatalf("%s: %v", regime.name, err)
				}
				if !reflect.DeepEqual(frames, test.want) {
					t.Errorf("%s:\n got %.300v\nwant %.300v", regime.name, frames, test.want)
				}
				stats := s.Stats()
				if stats.BadFractions != test.bad || stats.WildTimes != 0 {
					t.Errorf("%s: %d bad fractions, %d wild times; want %d, 0", regime.name, stats.BadFractions, stats.WildTimes, test.bad)
				}
				packets, bytes := uint64(0), uint64(0)
				for _, i := range stats.Interfaces {
					packets, bytes = packets+i.Packets, bytes+i.Bytes
				}
				wire := uint64(0)
				for _, f := range test.want {
					wire += uint64(f.wire)
				}
				if packets != uint64(len(test.want)) || bytes != wire {
					t.Errorf("%s: counted %d packets, %d bytes; want %d, %d", regime.name, packets, bytes, len(test.want), wire)
				}
			}
		})
	}
}

// Damage: what came before is delivered, and the error is one line that names
// the file, the place and the mend.
func TestDamage(t *testing.T) {
	pcap := func() *builder { return little().pcap(magicMicro, 0, 1).record(1, 0, "abcd", 4) } // 44 bytes
	ng := func() *builder { return ngFile(little()).enhanced(0, 5, "abcd", 4) }                // 28+20+36 = 84 bytes
	whole := gzipped(t, twoRecords(little()).b)
	packed := zstded(t, twoRecords(little()).b)
	for _, test := range []struct {
		name   string
		data   []byte
		frames int
		want   string
	}{
		{"empty", nil, 0, "test.pcap: empty: expected pcap or pcapng, optionally gzip or zstd"},
		{"random", []byte("hello, world"), 0, "test.pcap: not a capture (first bytes 68 65 6c 6c): expected pcap or pcapng, optionally gzip or zstd"},
		{"random, short", []byte("he"), 0, "test.pcap: not a capture (first bytes 68 65): expected"},
		{"start of a magic number", []byte{0xd4, 0xc3}, 0, "test.pcap: cut off in its header, which begins at offset 0: "},
		{"gzip of something else", gzipped(t, []byte("hello, world")), 0, "test.pcap: not a capture inside gzip (first bytes 68 65 6c 6c): expected"},
		{"gzip of nothing", gzipped(t, nil), 0, "test.pcap: empty: expected"},
		{"gzip of two bytes", gzipped(t, []byte("he")), 0, "test.pcap: not a capture inside gzip (first bytes 68 65): expected"},
		{"gzip cut off in its header", whole[:5], 0, "test.pcap: gzip data cut off at offset 0 of the decompressed data: what"},
		{"gzip cut off in its trailer", whole[:len(whole)-1], 2, "test.pcap: gzip data cut off at offset 66 of the decompressed data: what"},
		{"gzip with a wrong checksum", append(append([]byte(nil), whole[:len(whole)-8]...), "\x00\x00\x00\x00\x00\x00\x00\x00"...), 2, "test.pcap: damaged gzip data at offset 66 of the decompressed data (gzip: invalid checksum): what"},
		{"gzip, pcap cut off", gzipped(t, twoRecords(little()).b[:65]), 1, "test.pcap: cut off in its last record, which begins at offset 44 of the decompressed data: what"},
		{"zstd with an absurd window", []byte("\x28\xb5\x2f\xfd\x00\xff\x00\x00\x00\x00\x00\x00\x00"), 0, "test.pcap: zstd data needs more than 128 MiB to decompress at offset 0 of the decompressed data (window size exceeded): decompress it first, with zstd -d --long=31"},
		{"zstd with a wrong checksum", append(packed[:len(packed)-1:len(packed)-1], packed[len(packed)-1]^1), 0, "test.pcap: damaged zstd data at offset 0 of the decompressed data (CRC check failed): what"},
		{"zstd cut off", packed[:len(packed)-9], 0, "test.pcap: zstd data cut off at offset 0 of the decompressed data: what"},

		{"pcap of version 3", little().u32(magicMicro).u16(3, 0).u32(0, 0, 0, 1).b, 0, "test.pcap: damaged: pcap version 3.0, not 2.4, at offset 4: "},
		{"pcap record that claims 4 GiB", pcap().u32(1, 0, math.MaxUint32, 60).b, 1, "test.pcap: damaged: a packet record claims 4294967295 bytes, over the 262144 a frame can have, at offset 44: what came before was read; repair"},
		{"pcap record just too long", pcap().u32(1, 0, maxFrame+1, 60).b, 1, "test.pcap: damaged: a packet record claims 262145 bytes"},
		{"pcap cut off", pcap().u32(1, 0, 4, 4).raw("ab").b, 1, "test.pcap: cut off in its last record, which begins at offset 44: what came before was read; copy"},

		{"pcapng without a byte order", little().block(blockSection, little().u32(1, 2, 3, 4)).b, 0, "test.pcap: damaged: a section header without a byte order (01 00 00 00) at offset 0: "},
		{"pcapng of version 2", little().block(blockSection, little().u32(byteOrderMagic).u16(2, 0).u32(0, 0)).b, 0, "test.pcap: damaged: a section of pcapng version 2.0, not 1.0, at offset 0: "},
		{"pcapng section header too short", little().block(blockSection, little().u32(byteOrderMagic)).b, 0, "test.pcap: damaged: a section header of only 16 bytes at offset 0: "},
		{"pcapng second section without a byte order", ng().block(blockSection, little().u32(1, 2, 3, 4)).b, 1, "test.pcap: damaged: a section header without a byte order (01 00 00 00) at offset 84: "},
		{"pcapng block that claims 8 bytes", ng().u32(blockEnhanced, 8, 8).b, 1, "test.pcap: damaged: a block claims a length of 8 bytes at offset 84: "},
		{"pcapng block that claims an odd length", ng().u32(99, 13, 13).b, 1, "test.pcap: damaged: a block claims a length of 13 bytes at offset 84: "},
		{"pcapng packet block that claims 4 GiB", ng().u32(blockEnhanced, 0xfffffffc, 0).b, 1, "test.pcap: damaged: a block claims 4294967292 bytes, over the 1048576 that one can have, at offset 84: "},
		{"pcapng unknown block that claims 4 GiB", ng().u32(99, 0xfffffffc, 0).b, 1, "test.pcap: cut off in its last record, which begins at offset 84: "},
		{"pcapng lengths that differ", ng().u32(blockEnhanced, 32, 0, 0, 0, 0, 0, 36).b, 1, "test.pcap: damaged: a block's two lengths, 32 and 36 bytes, differ at offset 84: "},
		{"pcapng lengths of an unknown block that differ", ng().u32(99, 16, 0, 12).b, 1, "test.pcap: damaged: a block's two lengths, 16 and 12 bytes, differ at offset 84: "},
		{"pcapng packet block too short", ng().block(blockEnhanced, little().u32(0, 0, 0, 0)).b, 1, "test.pcap: damaged: a packet block of only 28 bytes at offset 84: "},
		{"pcapng packet longer than its block", ng().block(blockEnhanced, little().u32(0, 0, 0, 5, 5).raw("abcd")).b, 1, "test.pcap: damaged: a packet of 5 bytes in a block with room for 4 at offset 84: "},
		{"pcapng packet longer than any", ng().block(blockEnhanced, little().u32(0, 0, 0, maxFrame+4, 5).raw(strings.Repeat("a", maxFrame+4))).b, 1, "test.pcap: damaged: a packet of 262148 bytes in a block with room for 262144 at offset 84: "},
		{"pcapng packet of an unknown interface", ng().enhanced(1, 5, "a", 1).b, 1, "test.pcap: damaged: a packet from interface 1, which nothing describes, at offset 84: "},
		{"pcapng interfaces end with their section", ng().section().enhanced(0, 5, "a", 1).b, 1, "test.pcap: damaged: a packet from interface 0, which nothing describes, at offset 112: "},
		{"pcapng simple packet without interface", little().section().block(blockSimple, little().u32(1).raw("a")).b, 0, "test.pcap: damaged: a packet from interface 0, which nothing describes, at offset 28: "},
		{"pcapng simple packet too short", ng().block(blockSimple, little()).b, 1, "test.pcap: damaged: a packet block of only 12 bytes at offset 84: "},
		{"pcapng simple packet longer than any", ng().block(blockSimple, little().u32(maxFrame+4).raw(strings.Repeat("a", maxFrame+4))).b, 1, "test.pcap: damaged: a packet of 262148 bytes in a block with room for 262144 at offset 84: "},
		{"pcapng interface description too short", ng().block(blockInterface, little().u32(1)).b, 1, "test.pcap: damaged: an interface description of only 16 bytes at offset 84: "},
		{"pcapng option past its block", ng().iface(1, 0, little().u16(optionName, 5).raw("abcd")).b, 1, "test.pcap: damaged: an option that runs past its block at offset 84: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, regime := range regimes {
				frames, err := drain(t, source(test.data, regime.size, regime.how))
				if err == nil {
					t.Fatalf("%s: no error", regime.name)
				}
				if !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s:\n got %q\nwant %q…", regime.name, err, test.want)
				}
				if len(frames) != test.frames {
					t.Errorf("%s: %d frames, want %d", regime.name, len(frames), test.frames)
				}
				var e *FileError
				if !errors.As(err, &e) || e.File != "test.pcap" || e.Mend == "" {
					t.Errorf("%s: not a FileError with a file and a mend: %#v", regime.name, err)
				}
				if cut := strings.Contains(test.want, "cut off"); cut != Truncated(err) {
					t.Errorf("%s: Truncated is %v: %v", regime.name, Truncated(err), err)
				}
			}
		})
	}
}

func TestTooManyInterfaces(t *testing.T) {
	w := little().section()
	for range maxInterfaces + 1 {
		w.iface(1, 0, nil)
	}
	_, err := drain(t, source(w.b, batchBytes, nil))
	if err == nil || !strings.Contains(err.Error(), "more than 4096 interfaces at offset") {
		t.Errorf("one section: %v", err)
	}
	w = little()
	for range maxInterfaces { // a section each, and each with its own name
		w.section().iface(1, 0, little().option(optionName, string(rune('a'+len(w.b)%26))+strings.Repeat("x", len(w.b)/4096%60)))
	}
	if _, err := drain(t, source(w.b, batchBytes, nil)); err != nil {
		t.Errorf("few names in many sections: %v", err)
	}
}

// Cut anywhere, a file gives its whole frames, and one error with its place.
func TestCutAnywhere(t *testing.T) {
	files := map[string]struct {
		data []byte
		ends []int // where a file may end, and how many frames are whole there
	}{
		"pcap": {twoRecords(little()).b, []int{24, 44, 66}},
		"pcapng": {
			ngFile(big()).block(99, big().raw("unknown")).enhanced(0, 1, "abcd", 4).enhanced(0, 2, "e", 1).b,
			[]int{28, 48, 68, 104, 140},
		},
	}
	frames := map[int]int{44: 1, 66: 2, 104: 1, 140: 2}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			for cut := range len(file.data) + 1 {
				start, want := 0, 0
				for _, end := range file.ends {
					if end <= cut {
						start, want = end, frames[end]
					}
				}
				for _, regime := range regimes {
					got, err := drain(t, source(file.data[:cut], regime.size, regime.how))
					if len(got) != want {
						t.Errorf("cut at %d, %s: %d frames, want %d", cut, regime.name, len(got), want)
					}
					if cut == 0 {
						continue // "empty", see TestDamage
					}
					if start == cut {
						if err != nil {
							t.Errorf("cut at %d, %s: %v", cut, regime.name, err)
						}
						continue
					}
					var e *FileError
					if !Truncated(err) || !errors.As(err, &e) || e.Offset != int64(start) || e.File != "test.pcap" {
						t.Errorf("cut at %d, %s: want a cut at %d: %v", cut, regime.name, start, err)
					}
				}
			}
		})
	}
}

// A file of a few bytes cannot make us allocate what it claims.
func TestHostileLengths(t *testing.T) {
	for name, data := range map[string][]byte{
		"pcap claims 4 GiB":           little().pcap(magicMicro, math.MaxUint32, 1).u32(0, 0, math.MaxUint32, math.MaxUint32).b,
		"pcap claims the most":        little().pcap(magicMicro, math.MaxUint32, 1).u32(0, 0, maxFrame, maxFrame).b,
		"pcapng claims 4 GiB":         ngFile(little()).u32(blockEnhanced, 0xfffffffc, 0).b,
		"pcapng claims the most":      ngFile(little()).u32(blockEnhanced, maxBlock, 0).b,
		"pcapng unknown claims 4 GiB": ngFile(little()).u32(99, 0xfffffffc, 0).b,
		"pcapng section claims 4 GiB": little().u32(blockSection, 0xfffffffc, byteOrderMagic).b,
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := drain(t, source(data, batchBytes, nil)); err == nil {
				t.Error("no error")
			}
			runtime.ReadMemStats(&after)
			// A batch's buffer, and at most a block beside it.
			if used := after.TotalAlloc - before.TotalAlloc; used > 4*maxBlock {
				t.Errorf("allocated %d bytes", used)
			}
		})
	}
}

func TestWildTimes(t *testing.T) {
	for _, test := range []struct {
		name     string
		in, want []uint32
	}{
		{"ordinary", []uint32{1000, 1001, 1061, 1060}, []uint32{1000, 1001, 1061, 1060}},
		{"a minute is ordinary", []uint32{1000, 1060, 1000}, []uint32{1000, 1060, 1000}},
		{"wild forward", []uint32{1000, 9000, 1001, 1002}, []uint32{1000, 1000, 1001, 1002}},
		{"wild back", []uint32{1000, 3, 1001, 1002}, []uint32{1000, 1000, 1001, 1002}},
		{"two wild ones apart", []uint32{1000, 9000, 1001, 5000, 1002}, []uint32{1000, 1000, 1001, 1001, 1002}},
		{"a gap", []uint32{1000, 1001, 9000, 9001}, []uint32{1000, 1001, 9000, 9001}},
		{"gaps only", []uint32{1000, 2000, 3000, 4000}, []uint32{1000, 2000, 3000, 4000}},
		{"a step back that lasts", []uint32{5000, 5001, 1000, 1001}, []uint32{5000, 5001, 1000, 1001}},
		{"disorder just after a gap", []uint32{1000, 1061, 1059, 1062}, []uint32{1000, 1061, 1059, 1062}},
		{"last one forward", []uint32{1000, 1001, 9000}, []uint32{1000, 1001, 9000}},
		{"last one back", []uint32{1000, 1001, 3}, []uint32{1000, 1001, 1001}},
		{"first in the future", []uint32{9000, 1000, 1001}, []uint32{1000, 1000, 1001}},
		{"first long before: silence", []uint32{1000, 9000, 9001}, []uint32{1000, 9000, 9001}},
		{"second wild", []uint32{1000, 3, 1001}, []uint32{1000, 1000, 1001}},
		{"second wild forward", []uint32{1000, 9000, 1001}, []uint32{1000, 1000, 1001}},
		{"first three disagree", []uint32{9000, 5000, 1000, 1001}, []uint32{9000, 5000, 1000, 1001}},
		{"only one", []uint32{9000}, []uint32{9000}},
		{"only two, back", []uint32{9000, 1000}, []uint32{9000, 9000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wild := uint64(0)
			w := little().pcap(magicMicro, 0, 1)
			var want []got
			for i, seconds := range test.in {
				data := strings.Repeat(string(rune('a'+i)), i+1)
				w.record(seconds, 0, data, 60)
				want = append(want, eth(data, int64(test.want[i])*second, 60, "test.pcap"))
				if seconds != test.want[i] {
					wild++
				}
			}
			for _, regime := range regimes {
				s := source(w.b, regime.size, regime.how)
				frames, err := drain(t, s)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(frames, want) {
					t.Errorf("%s:\n got %v\nwant %v", regime.name, frames, want)
				}
				if n := s.Stats().WildTimes; n != wild {
					t.Errorf("%s: %d wild times, want %d", regime.name, n, wild)
				}
			}
		})
	}
}

// Frames that wait for their time are delivered before the error after them.
func TestWildTimeBeforeDamage(t *testing.T) {
	w := little().pcap(magicMicro, 0, 1).record(1000, 0, "a", 1).record(9000, 0, "b", 1).raw("cut")
	for _, regime := range regimes {
		frames, err := drain(t, source(w.b, regime.size, regime.how))
		if len(frames) != 2 || !Truncated(err) {
			t.Errorf("%s: %v, %v", regime.name, frames, err)
		}
	}
}

// A capture that is still being written is delivered as it comes: Next returns
// with what one write has brought, and never reads on first.
func TestLivePipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := OpenReader("pipe", r)
	defer r.Close()
	write := func(data []byte) {
		t.Helper()
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	want := func(data ...string) {
		t.Helper()
		var b Batch
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		if len(b.Frames) != len(data) {
			t.Fatalf("%d frames, want %d", len(b.Frames), len(data))
		}
		for i := range data {
			if string(b.Frames[i].Data) != data[i] {
				t.Errorf("frame %d is %q, want %q", i, b.Frames[i].Data, data[i])
			}
		}
		s.Release(&b)
	}
	// The first frame waits for the second, in case its time is wild.
	write(little().pcap(magicMicro, 0, 1).record(1, 0, "a", 1).b)
	write(little().record(1, 1, "b", 1).b)
	want("a", "b")
	write(little().record(1, 2, "c", 1).record(1, 3, "d", 1).raw("\x01\x00\x00\x00").b)
	want("c", "d")
	write(little().u32(4, 1, 1).raw("e").b)
	want("e")
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	packed := gzipped(t, twoRecords(little()).b)
	path := write("named.txt", packed)
	s, err := Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if s.TotalBytes() != int64(len(packed)) || s.BytesRead() != 0 {
		t.Errorf("read %d of %d bytes before the start; want 0 of %d", s.BytesRead(), s.TotalBytes(), len(packed))
	}
	frames, err := drain(t, s)
	if err != nil || len(frames) != 2 || frames[0].iface != path {
		t.Errorf("%v, %v", frames, err)
	}
	if s.BytesRead() != int64(len(packed)) {
		t.Errorf("read %d bytes, want %d", s.BytesRead(), len(packed))
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}

	closed, err := Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := closed.Next(&Batch{}); err != io.EOF {
		t.Errorf("Next after Close: %v, want EOF", err)
	}

	missing := filepath.Join(dir, "missing")
	for _, test := range []struct {
		paths []string
		want  string
	}{
		{nil, "no capture file named: "},
		{[]string{missing}, missing + ": cannot be opened (no such file or directory): check the path"},
		{[]string{dir}, dir + ": a directory: name the capture files in it"},
		{[]string{"-", path, "-"}, "standard input (-) named twice: "},
	} {
		s, err := Open(test.paths)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("Open(%v): %v, want %q…", test.paths, err, test.want)
		}
	}
}

// A file that is not there does not stop the others.
func TestOpenWithoutOne(t *testing.T) {
	dir := t.TempDir()
	path, missing := filepath.Join(dir, "good.pcap"), filepath.Join(dir, "missing")
	if err := os.WriteFile(path, twoRecords(little()).b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open([]string{missing, path})
	if err != nil {
		t.Fatal(err)
	}
	frames, err := drain(t, s)
	if len(frames) != 2 || err == nil || !strings.HasPrefix(err.Error(), missing+": cannot be opened") {
		t.Errorf("%d frames, %v", len(frames), err)
	}
}

// A read error of the system is reported with its place.
func TestReadError(t *testing.T) {
	data := twoRecords(little()).b
	broken := func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(errors.New("bad disk"))) }
	frames, err := drain(t, source(data, batchBytes, broken))
	if len(frames) != 2 || err == nil || !strings.HasPrefix(err.Error(), "test.pcap: cannot be read at offset 66 (bad disk): ") {
		t.Errorf("%d frames, %v", len(frames), err)
	}
	stuck := func(r io.Reader) io.Reader { return io.MultiReader(r, stuckReader{}) }
	if _, err := drain(t, source(data, batchBytes, stuck)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("reader that returns nothing: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// TestIsCapture: what a file begins with tells, itself or compressed; not its name.
func TestIsCapture(t *testing.T) {
	section := little().block(blockSection, little().u32(byteOrderMagic).u16(1, 0).u32(0xffffffff, 0xffffffff)).b
	text := []byte(`{"start":"2026-03-01T12:00:00Z"}` + "\n")
	for name, x := range map[string]struct {
		data []byte
		want bool
	}{
		"pcap":            {twoRecords(little()).b, true},
		"pcap, swapped":   {twoRecords(big()).b, true},
		"pcap, cut":       {twoRecords(big()).b[:10], true},
		"pcapng":          {section, true},
		"gzip":            {gzipped(t, twoRecords(little()).b), true},
		"zstd":            {zstded(t, section), true},
		"records":         {text, false},
		"records in gzip": {gzipped(t, text), false},
		"records in zstd": {zstded(t, text), false},
		"damaged gzip":    {[]byte{0x1f, 0x8b, 1, 2, 3, 4}, false},
		"empty":           {nil, false},
	} {
		path := filepath.Join(t.TempDir(), "records.jsonl")
		if err := os.WriteFile(path, x.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := IsCapture(path); got != x.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing.pcap")} {
		if IsCapture(path) {
			t.Errorf("%s is a capture", path)
		}
	}
}
