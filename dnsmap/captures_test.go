package dnsmap

import (
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

const captures = "../../shared/captures"

// answerRow is a line of truth/FILE.dns.tsv.
type answerRow struct {
	qname     string
	addresses []string
	malformed bool // tshark could not read a name
}

func readTruth(t *testing.T, path string) map[int]answerRow {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	truth := map[int]answerRow{}
	for _, row := range rows[1:] {
		frame, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		a := answerRow{qname: row[4], malformed: strings.Contains(strings.Join(row, ""), "<")}
		if row[5] != "" {
			a.addresses = strings.Split(row[5], ",")
		}
		truth[frame] = a
	}
	return truth
}

// eachMessage calls fn for the DNS messages that stand in one frame: a plain
// UDP datagram, or a TCP segment that begins with a length.
func eachMessage(t *testing.T, path string, fn func(frame int, message []byte)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil {
		t.Fatal(err)
	}
	var source interface {
		gopacket.PacketDataSource
		LinkType() layers.LinkType
	}
	if binary.BigEndian.Uint32(magic) == 0x0a0d0d0a {
		source, err = pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	} else {
		source, err = pcapgo.NewReader(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	for frame := 1; ; frame++ {
		data, _, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Logf("%s: frame %d: %v", filepath.Base(path), frame, err)
			return
		}
		p := gopacket.NewPacket(data, source.LinkType(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && (udp.SrcPort == 53 || udp.DstPort == 53) {
			fn(frame, udp.Payload)
		} else if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && tcp.SrcPort == 53 {
			if message, _, ok := NextTCP(tcp.Payload); ok && len(message) >= headerLen {
				fn(frame, message)
			}
		}
	}
}

// prefix reports whether got starts want, family by family: tshark lists the
// addresses of all sections, IPv4 first, and the answer section comes first.
func prefix(got []Answer, want []string) bool {
	var v4, v6 []Addr
	for _, s := range want {
		if netip.MustParseAddr(s).Is4() {
			v4 = append(v4, addr(s))
		} else {
			v6 = append(v6, addr(s))
		}
	}
	for _, a := range got {
		side := &v6
		if a.Addr.Hi == 0 && a.Addr.Lo>>32 == 0xffff {
			side = &v4
		}
		if len(*side) == 0 || (*side)[0] != a.Addr {
			return false
		}
		*side = (*side)[1:]
	}
	return true
}

func TestCaptures(t *testing.T) {
	files, _ := filepath.Glob(captures + "/truth/*.dns.tsv")
	if len(files) == 0 {
		t.Skipf("no captures in %s", captures)
	}
	compared := 0
	for _, tsv := range files {
		name := strings.TrimSuffix(filepath.Base(tsv), ".dns.tsv")
		truth := readTruth(t, tsv)
		seen := 0
		eachMessage(t, filepath.Join(captures, name), func(frame int, b []byte) {
			checkMessage(t, b)
			var m Message
			v := m.Parse(b, false)
			want, ok := truth[frame]
			if !ok {
				return
			}
			seen++
			switch {
			case want.malformed:
				if v != Malformed {
					t.Errorf("%s: frame %d: tshark cannot read it, verdict %d, %q %s", name, frame, v, m.QName, list(m.Answers))
				}
				return
			case v == Malformed:
				t.Logf("%s: frame %d: %v (tshark reads %q)", name, frame, m.Reason, want.qname)
				if !strings.Contains(name, "fuzz") {
					t.Errorf("%s: frame %d: malformed: %v", name, frame, m.Reason)
				}
				return
			case v != OK && want.qname == "":
				return
			}
			if v != OK || string(m.QName) != strings.ToLower(want.qname) && !strings.Contains(want.qname, "\ufffd") {
				t.Errorf("%s: frame %d: verdict %d, name %q, tshark has %q", name, frame, v, m.QName, want.qname)
			}
			if !prefix(m.Answers, want.addresses) {
				t.Errorf("%s: frame %d: answers %s, tshark has %v", name, frame, list(m.Answers), want.addresses)
			}
			compared++
		})
		t.Logf("%s: %d of %d answers stand in one plain frame", name, seen, len(truth))
	}
	if compared < 100 {
		t.Errorf("only %d answers compared", compared)
	}
}

// TestCapturesKnown holds the cases that a file is there for.
func TestCapturesKnown(t *testing.T) {
	if _, err := os.Stat(captures); err != nil {
		t.Skipf("no captures in %s", captures)
	}
	for _, c := range []struct {
		file    string
		frame   int
		verdict Verdict
		qname   string
		answers int
		first   Answer
	}{
		{"nDPI_malformed_dns.pcap", 2, Malformed, "", 0, Answer{}},
		{"zeek_max-compression-depth.pcap", 1, OK, "a", 7, Answer{addr("127.0.0.1"), 300}},
		{"zeek_dns-huge-ttl.pcap", 1, OK, "us.v27.distributed.net", 8, Answer{addr("206.109.64.186"), 0}},
		{"nDPI_dns.pcap", 5, OK, "e7.whatsapp.net", 8, Answer{addr("169.45.219.235"), 491}},
		{"nDPI_wa_voice.pcap", 4, OK, "g.whatsapp.net", 1, Answer{addr("157.240.20.53"), 65}},
		{"nDPI_whatsapp_login_chat.pcap", 3, OK, "e12.whatsapp.net", 8, Answer{}},
	} {
		found := false
		eachMessage(t, filepath.Join(captures, c.file), func(frame int, b []byte) {
			if frame != c.frame {
				return
			}
			found = true
			var m Message
			v := m.Parse(b, false)
			if v != c.verdict || string(m.QName) != c.qname || len(m.Answers) != c.answers {
				t.Errorf("%s: frame %d: verdict %d (%v), %q, %d answers", c.file, frame, v, m.Reason, m.QName, len(m.Answers))
			}
			if c.first.Addr != (Addr{}) && (len(m.Answers) == 0 || m.Answers[0] != c.first) {
				t.Errorf("%s: frame %d: answers %s, want first %s", c.file, frame, list(m.Answers), list([]Answer{c.first}))
			}
		})
		if !found {
			t.Errorf("%s: frame %d not met", c.file, c.frame)
		}
	}
}
