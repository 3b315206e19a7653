package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/probe"
)

// dialling is how many subscribers open a connection in each round.
const dialling = 40

// dial returns a SYN of each subscriber, on the same ports in every round: it ends
// the connection of the round before, whose record is then written.
func dial(t *testing.T, round int) (list []sent) {
	t.Helper()
	for i := range dialling {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Id: uint16(round*dialling + i + 1), Protocol: layers.IPProtocolTCP,
			SrcIP: net.IPv4(10, 9, 0, byte(i+1)), DstIP: net.IPv4(192, 0, 2, 1),
		}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(40000 + i), DstPort: 443, Seq: uint32(1 + round*1e7), SYN: true, Window: 65535}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, &layers.Ethernet{
			SrcMAC: probeFrame[6:12], DstMAC: probeFrame[:6], EthernetType: layers.EthernetTypeIPv4,
		}, ip, tcp)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sent{0, b.Bytes()})
	}
	return list
}

// rotation is a daemon whose key is replaced while it runs.
type rotation struct {
	*daemonRun
	x         *session
	key, file string
	rounds    int
}

// dial lets subscribers from..to open their next connections.
func (r *rotation) dial(t *testing.T, from, to int) {
	t.Helper()
	r.x.trace = dial(t, r.rounds)[from:to]
	if to == dialling {
		r.rounds++
	}
	r.x.feed(t, r.daemonRun)
}

// replace writes a new key file, the way an operator does, and says so.
func (r *rotation) replace(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.key+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.key+".new", r.key); err != nil {
		t.Fatal(err)
	}
	hangUp(t)
}

func hangUp(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// shown are the pseudonyms in the file's records, by subscriber, in their order.
func (r *rotation) shown(t *testing.T) (of [dialling][]string, n int) {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var record struct {
			Subscriber string
			Port       int `json:"subscriber_port"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("%q is no record: %v", line, err)
		}
		of[record.Port-40000] = append(of[record.Port-40000], record.Subscriber)
		n++
	}
	return of, n
}

// written waits until so many records stand in the file.
func (r *rotation) written(t *testing.T, want int) {
	t.Helper()
	err := eventually(context.Background(), func() error {
		text, err := os.ReadFile(r.file)
		if n := strings.Count(string(text), "\n"); n != want {
			return errors.Join(err, fmt.Errorf("%d records, want %d", n, want))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// logged returns the one line of the log that has a text.
func (r *rotation) logged(t *testing.T, text string) (found string) {
	t.Helper()
	r.says(t, text)
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, text) {
			if found != "" {
				t.Errorf("%q is said twice:\n%s%s", text, found, line)
			}
			found = line
		}
	}
	return found
}

// TestKeyIsReplaced: from SIGHUP on, records hold pseudonyms under the key that the
// file has then, and none is lost. A key file that cannot be used leaves the old key
// in force, and the rules that were replaced with it; the log says what to do.
func TestKeyIsReplaced(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	taps(t)
	outliveHangups(t)
	dir := t.TempDir()
	r := &rotation{x: &session{fds: senders(t), ask: inside(t)}, key: filepath.Join(dir, "key"), file: filepath.Join(dir, "flows.jsonl")}
	first, second := export.RandomKey(), export.RandomKey()
	hexadecimal := func(k export.Key) string { return hex.EncodeToString(k[:]) + "\n" }
	if err := os.WriteFile(r.key, []byte(hexadecimal(first)), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(dir, "rules.yaml")
	class := func(name string) {
		text := "apps:\n  - app: acme\n    domains: [example.org]\n    classes:\n      - class: " + name + "\n        names: ['^a\\.example\\.org$']\n"
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	class("old")
	r.daemonRun = inTaps(t, "--flows", r.file, "--pseudonym-key", r.key, "--rules", rules)

	r.dial(t, 0, dialling)
	r.dial(t, 0, dialling)
	r.written(t, dialling)

	// While connections end, the key is replaced.
	r.dial(t, 0, dialling/2)
	r.replace(t, hexadecimal(second))
	r.dial(t, dialling/2, dialling)
	r.logged(t, "pseudonym key has been replaced")
	r.dial(t, 0, dialling)
	r.written(t, 3*dialling)

	class("new")
	address := pageAddress.FindStringSubmatch(r.log.String())[1]
	for _, bad := range []struct {
		replace func()
		why     string
	}{
		{func() { r.replace(t, "secret\n") }, "not a key; it must hold 64 hexadecimal digits (openssl rand -hex 32 makes one)"},
		{func() {
			if err := os.Remove(r.key); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			hangUp(t)
		}, "make one: (umask 077; openssl rand -hex 32 > "},
	} {
		bad.replace()
		line := r.logged(t, bad.why)
		if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "stays in use") || !strings.Contains(line, r.key) || strings.Contains(line, "secret") {
			t.Errorf("the log: %s", line)
		}
		page := r.x.ask(address, "/metrics")
		if !strings.Contains(page, "nametap_config_last_reload_successful 0\n") {
			t.Error("the metrics do not say that the reload failed")
		}
		if !strings.Contains(page, `class="old"`) || strings.Contains(page, `class="new"`) {
			t.Error("the rules were replaced although the key could not be")
		}
	}
	r.dial(t, 0, dialling)
	r.written(t, 4*dialling)
	if code := r.end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, r.log.String())
	}

	of, n := r.shown(t)
	if n != r.rounds*dialling {
		t.Errorf("%d records of %d connections", n, r.rounds*dialling)
	}
	before, after := export.Pseudonyms(first, probe.DefaultSubscribers()), export.Pseudonyms(second, probe.DefaultSubscribers())
	for i, got := range of {
		a := decode.AddrFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}))
		x, y := before.Subscriber(a).String(), after.Subscriber(a).String()
		if want := []string{x, got[1], y, y, y}; fmt.Sprint(got) != fmt.Sprint(want) || x == y || got[1] != x && got[1] != y {
			t.Errorf("subscriber %d goes by %v, want %s and then %s", i, got, x, y)
		}
	}
}
