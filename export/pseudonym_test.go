package export

import (
	"errors"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// The key and pairs of the sample that Xu, Fan, Ammar and Moon published with
// their program.
var sampleKey = Key{
	21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16,
	216, 152, 143, 131, 121, 121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2,
}

func TestPseudonymsOfTheSample(t *testing.T) {
	ids := Pseudonyms(sampleKey, nil)
	for clear, want := range map[string]string{
		"128.11.68.132":   "135.242.180.132",
		"129.118.74.4":    "134.136.186.123",
		"130.132.252.244": "133.68.164.234",
		"141.223.7.43":    "141.167.8.160",
		"141.233.145.108": "141.129.237.235",
		"152.163.225.39":  "151.140.114.167",
	} {
		if got := ids.Subscriber(decode.AddrFrom(netip.MustParseAddr(clear))).String(); got != want {
			t.Errorf("%s becomes %s, want %s", clear, got, want)
		}
	}
}

// Two addresses share as many leading bits as their pseudonyms do, no more.
func TestPseudonymsKeepPrefixes(t *testing.T) {
	ids := Pseudonyms(RandomKey(), nil)
	rng := rand.New(rand.NewPCG(1, 2))
	shared := func(a, b []byte) int {
		for i := range a {
			if x := a[i] ^ b[i]; x != 0 {
				return 8*i + bits.LeadingZeros8(x)
			}
		}
		return 8 * len(a)
	}
	for range 500 {
		size := 4 + 12*rng.IntN(2)
		a := make([]byte, size)
		for i := range a {
			a[i] = byte(rng.Uint32())
		}
		b := append([]byte(nil), a...)
		n := rng.IntN(8 * size)
		b[n/8] ^= 0x80 >> (n % 8)
		for i := n/8 + 1; i < size; i++ {
			b[i] = byte(rng.Uint32())
		}
		x, _ := netip.AddrFromSlice(a)
		y, _ := netip.AddrFromSlice(b)
		if x.Is4In6() || y.Is4In6() {
			continue
		}
		p, q := ids.Subscriber(decode.AddrFrom(x)), ids.Subscriber(decode.AddrFrom(y))
		if got := shared(p.AsSlice(), q.AsSlice()); got != n {
			t.Fatalf("%v and %v share %d bits, their pseudonyms %d", x, y, n, got)
		}
	}
}

func TestServersThatAreSubscribers(t *testing.T) {
	private := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	inside, outside := decode.AddrFrom(netip.MustParseAddr("10.1.2.3")), decode.AddrFrom(netip.MustParseAddr("31.13.86.51"))
	ids := Pseudonyms(sampleKey, private)
	if got := ids.Server(inside); got == inside.Netip() || got != ids.Subscriber(inside) {
		t.Errorf("a subscriber's address as a server's is shown as %v", got)
	}
	if got := ids.Server(outside); got != outside.Netip() {
		t.Errorf("a server's address is shown as %v", got)
	}
	if got := ClearAddresses(private).Server(inside); got != inside.Netip() {
		t.Errorf("in clear, a server's address is shown as %v", got)
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "key")
	made, err := EnsureKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureKey(path)
	if err != nil || again != made {
		t.Errorf("a second use gives another key (%v)", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	write := func(name, text string, mode fs.FileMode) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for want, path := range map[string]string{
		"not a key":             write("short", "abcd\n", 0o600),
		"others may read":       write("open", strings.Repeat("ab", KeyBytes), 0o644),
		"cannot read":           filepath.Join(dir, "missing"),
		"it must hold 64 hexad": write("words", strings.Repeat("xy", KeyBytes), 0o600),
	} {
		if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", path, err, want)
		}
	}
	if _, err := LoadKey(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
}
