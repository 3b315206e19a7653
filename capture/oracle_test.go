package capture

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/nametap/nametap/capture/decode"
)

const captures = "../../shared/captures"

// reference reads a file with gopacket.
func reference(data []byte) ([]got, error) {
	if r, err := pcapgo.NewReader(bytes.NewReader(data)); err == nil {
		return referencePackets(r, func(gopacket.CaptureInfo) decode.Link { return decode.Link(r.LinkType()) })
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(data), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return nil, err
	}
	return referencePackets(r, func(ci gopacket.CaptureInfo) decode.Link {
		return decode.Link(ci.AncillaryData[0].(layers.LinkType))
	})
}

func referencePackets(r gopacket.PacketDataSource, link func(gopacket.CaptureInfo) decode.Link) ([]got, error) {
	var all []got
	for {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		at := int64(0) // a simple packet block has no time
		if !ci.Timestamp.IsZero() {
			at = ci.Timestamp.UnixNano()
		} else if len(all) > 0 {
			at = all[len(all)-1].time
		}
		// Link types are 8 bits wide in gopacket.
		all = append(all, got{string(data), at, uint32(ci.Length), link(ci) & 0xff, ""})
	}
}

// Every real capture gives the same frames as gopacket's readers.
func TestOracle(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(captures, "*.pcap*"))
	if len(files) == 0 {
		t.Skip("no real captures: ", captures, " is missing")
	}
	packets := 0
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := reference(data)
			if err != nil {
				t.Fatalf("gopacket: %v", err)
			}
			s, err := Open([]string{file})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			frames, err := drain(t, s)
			if err != nil {
				t.Fatal(err)
			}
			for i := range frames {
				frames[i].iface = ""
				frames[i].link &= 0xff
			}
			wild := uint64(0)
			if filepath.Base(file) == "PcapPlusPlus_gtp.pcap" {
				// Put together from several sources: one frame of 1999
				// between two that have no time.
				want[5].time, wild = 0, 1
			}
			if n := s.Stats().WildTimes; n != wild {
				t.Errorf("%d wild times, want %d", n, wild)
			}
			packets += len(want)
			compare(t, frames, want)
		})
	}
	t.Logf("%d files, %d packets", len(files), packets)
}

func compare(t *testing.T, frames, want []got) {
	t.Helper()
	if slices.Equal(frames, want) {
		return
	}
	t.Errorf("%d frames, want %d", len(frames), len(want))
	for i := range min(len(frames), len(want)) {
		if frames[i] != want[i] {
			t.Fatalf("frame %d:\n got %v %v\nwant %v %v", i, time.Unix(0, frames[i].time), frames[i], time.Unix(0, want[i].time), want[i])
		}
	}
}

// What the file says about time that cannot be: 999,999,999 ns is right,
// 1,000,000,000 and 2,147,483,648 are carried into the seconds.
func TestInvalidNanoseconds(t *testing.T) {
	file := filepath.Join(captures, "tcpdump_timestamp_invalid_nano.pcap")
	s, err := Open([]string{file})
	if err != nil {
		t.Skip("no real captures: ", err)
	}
	defer s.Close()
	frames, err := drain(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := []int64{1418145369_999999999, 1418145371_000000000, 1418145372_147483648}
	for i := range want {
		if len(frames) != len(want) || frames[i].time != want[i] {
			t.Fatalf("got %v, want times %v", frames, want)
		}
	}
	if n := s.Stats().BadFractions; n != 2 {
		t.Errorf("%d bad fractions, want 2", n)
	}
}
