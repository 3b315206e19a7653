package classify_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/internal/stream"
)

// firstFlight returns what a client of crypto/tls sends first.
func firstFlight(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, config).Handshake() // the server hangs up on it
	}()
	var b []byte
	buf := make([]byte, 32<<10)
	for classify.ClientHello(nil, b).State == classify.HelloNeed {
		n, err := server.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, buf[:n]...)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// A hello cut into segments anywhere, in any order, some of them twice, gives
// its name exactly when the last missing byte is there.
func TestHelloFromSegments(t *testing.T) {
	const name = "media-mxp1-1.cdn.whatsapp.net"
	rng := rand.New(rand.NewPCG(7, 8))
	protocols := slices.Repeat([]string{strings.Repeat("p", 200)}, 50)
	for what, b := range map[string][]byte{
		"post-quantum": firstFlight(t, &tls.Config{ServerName: name}),
		"large":        firstFlight(t, &tls.Config{ServerName: name, NextProtos: protocols}),
	} {
		t.Run(what, func(t *testing.T) {
			pool := stream.New(classify.MaxHello, 1<<20)
			dst := make([]byte, 0, 255)
			for range 300 {
				cuts := []int{0, len(b)}
				for range rng.IntN(8) {
					cuts = append(cuts, rng.IntN(len(b)))
				}
				slices.Sort(cuts)
				order := rng.Perm(len(cuts) - 1)
				slot, ok := pool.Get()
				if !ok {
					t.Fatal("no slot")
				}
				for i, k := range order {
					from, to := cuts[k], cuts[k+1]
					pool.Add(slot, uint32(from), b[from:to])
					pool.Add(slot, uint32(from), b[from:to])
					got := classify.ClientHello(dst, pool.Contiguous(slot))
					last := !slices.ContainsFunc(order[i+1:], func(k int) bool { return cuts[k] < cuts[k+1] })
					if last != (got.State == classify.HelloDone) || last != (string(got.SNI) == name) {
						t.Fatalf("cuts %v, order %v, after %d: %v %q", cuts, order, i+1, got.State, got.SNI)
					}
				}
				pool.Put(slot)
			}
		})
	}
}

const captures = "../../shared/captures"

type connection struct{ client, clientPort, server, serverPort string }

// truth reads the server names that tshark found, by connection.
func truth(t *testing.T, path string) map[connection][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	want := map[connection][]string{}
	sc := bufio.NewScanner(f)
	column := map[string]int{}
	for sc.Scan() {
		cells := strings.Split(sc.Text(), "\t")
		if len(column) == 0 {
			for i, c := range cells {
				column[c] = i
			}
			continue
		}
		cell := func(name string) string { return cells[column[name]] }
		if sni := cell("SNI"); sni != "" {
			c := connection{cell("client"), cell("cport"), cell("server"), cell("sport")}
			want[c] = append(want[c], sni)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return want
}

type packetSource interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

func open(t *testing.T, f *os.File) packetSource {
	t.Helper()
	if r, err := pcapgo.NewReader(f); err == nil {
		return r
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// half is one direction of a connection on its way through the assembler.
type half struct {
	slot uint32
	base uint32 // sequence number of the first byte
	done bool
}

// names runs every direction of every innermost TCP connection of a capture
// through the assembler and the scanner.
func names(t *testing.T, path string) map[connection][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("capture missing: %v", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	src := open(t, f)
	pool := stream.New(classify.MaxHello, 256<<20)
	halves := map[connection]*half{}
	got := map[connection][]string{}
	for {
		data, _, err := src.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		var network gopacket.NetworkLayer
		var tcp *layers.TCP
		for _, l := range gopacket.NewPacket(data, src.LinkType(), gopacket.NoCopy).Layers() {
			switch l := l.(type) {
			case *layers.IPv4:
				network, tcp = l, nil
			case *layers.IPv6:
				network, tcp = l, nil
			case *layers.TCP:
				tcp = l
			}
		}
		if network == nil || tcp == nil {
			continue
		}
		from, to := network.NetworkFlow().Endpoints()
		c := connection{from.String(), tcp.TransportFlow().Src().String(), to.String(), tcp.TransportFlow().Dst().String()}
		h := halves[c]
		if tcp.SYN && (h == nil || h.base != tcp.Seq+1) || h == nil && len(tcp.Payload) > 0 {
			slot, ok := pool.Get()
			if !ok {
				t.Fatal("no slot")
			}
			h = &half{slot: slot, base: tcp.Seq}
			if tcp.SYN {
				h.base++
			}
			halves[c] = h
		}
		if h == nil || h.done {
			continue
		}
		first := tcp.Seq
		if tcp.SYN {
			first++ // a SYN may carry data (RFC 7413), and one of these does
		}
		pool.Add(h.slot, first-h.base, tcp.Payload)
		hello := classify.ClientHello(nil, pool.Contiguous(h.slot))
		h.done = hello.State != classify.HelloNeed
		if len(hello.SNI) > 0 {
			got[c] = append(got[c], string(hello.SNI))
		}
	}
}

func TestCapturesAgainstTshark(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(captures, "truth", "*.flows.tsv"))
	if err != nil || len(files) == 0 {
		t.Skipf("no captures under %s", captures)
	}
	for _, file := range files {
		want := truth(t, file)
		if len(want) == 0 {
			continue
		}
		capture := strings.TrimSuffix(filepath.Base(file), ".flows.tsv")
		t.Run(capture, func(t *testing.T) {
			got := names(t, filepath.Join(captures, capture))
			for c, sni := range want {
				if !slices.Equal(got[c], sni) {
					t.Errorf("%v: got %q, tshark has %q", c, got[c], sni)
				}
				delete(got, c)
			}
			for c, sni := range got {
				t.Errorf("%v: got %q, tshark has none", c, sni)
			}
			t.Logf("%d connections with a name", len(want))
		})
	}
}
