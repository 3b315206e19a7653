package capture

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fuzzFile reads data in three ways, which must give the same, and compares with
// the oracle what it reads without complaint.
func fuzzFile(t *testing.T, data []byte) {
	whole, err := sameOneByOne(t, data, 4<<10)
	parts, partsErr := drain(t, source(data, 40, regimes[3].how))
	if !slices.Equal(whole, parts) {
		t.Fatalf("%d frames read whole, %d in parts", len(whole), len(parts))
	}
	if (err == nil) != (partsErr == nil) || err != nil && err.Error() != partsErr.Error() {
		t.Fatalf("read whole: %v; in parts: %v", err, partsErr)
	}
	total := 0
	for _, f := range whole {
		total += len(f.data)
		if f.time < 0 || int(f.wire) < len(f.data) || len(f.data) > maxFrame {
			t.Fatalf("frame %v", f)
		}
	}
	if compression(append(data[:len(data):len(data)], 0, 0, 0, 0)) == "" && total > len(data) {
		t.Fatalf("%d bytes of frames in a file of %d", total, len(data))
	}
}

func addCaptures(f *testing.F, pattern string) {
	files, _ := filepath.Glob(filepath.Join(captures, pattern))
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && len(data) < 4<<10 {
			f.Add(data)
		}
	}
}

func FuzzPcap(f *testing.F) {
	addCaptures(f, "*.pcap")
	f.Add(twoRecords(little()).b)
	f.Add(twoRecords(big()).b)
	f.Add(little().pcap(magicNano, 0, 1).record(1000, 0, "a", 1).record(9000, 0, "b", 1).record(1000, 1<<31, "c", 1).b)
	f.Add(little().pcap(magicModified, 0, 1).u32(1, 0, 1, 1, 0, 0).raw("a").b)
	f.Add(little().pcap(magicMicro, 0, 1).u32(0, 0, maxFrame, 0).b)
	f.Add(oddRecords(magicMicro, 1e6).b[:32<<10])
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= sniffBytes {
			if magic, _ := magicOfPcap(data); magic == 0 {
				return
			}
		}
		fuzzFile(t, data)
	})
}

func FuzzPcapng(f *testing.F) {
	addCaptures(f, "*.pcapng")
	ng := ngFile(little())
	f.Add(ng.enhanced(0, 5, "abc", 9).b)
	f.Add(ng.block(99, little().raw("unknown")).block(blockSimple, little().u32(2).raw("ab")).b)
	f.Add(ng.block(blockPacket, little().u16(0, 77).u32(0, 5, 3, 9).raw("abc")).b)
	f.Add(big().section().iface(101, 9, big().option(optionName, "eth0").option(optionTSResol, "\xa0").option(optionTSOff, "12345678")).enhanced(0, 1<<40, "abc", 9).b)
	f.Add(ng.u32(99, 0xfffffffc).b)
	f.Add(oddBlocks().b[:32<<10])
	f.Fuzz(func(t *testing.T, data []byte) {
		head := little().u32(blockSection).b
		if len(data) >= sniffBytes && !bytes.HasPrefix(data, head) {
			return
		}
		fuzzFile(t, data)
	})
}
