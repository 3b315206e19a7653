package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/probe"
)

// TestOneKeyARecord: a record that was made before the key was replaced and is
// written after has all of it under the new one, or it would join the two.
func TestOneKeyARecord(t *testing.T) {
	dir := t.TempDir()
	file, keyFile := filepath.Join(dir, "flows.jsonl"), filepath.Join(dir, "key")
	first, second := export.RandomKey(), export.RandomKey()
	if err := os.WriteFile(keyFile, []byte(hex.EncodeToString(first[:])), 0o600); err != nil {
		t.Fatal(err)
	}
	d, cmd := &daemon{settings: &settings{}}, &cobra.Command{}
	d.register(cmd)
	if err := cmd.ParseFlags([]string{"--flows", file, "--pseudonym-key", keyFile}); err != nil {
		t.Fatal(err)
	}
	var cfg probe.Config
	if err := d.records(&cfg, io.Discard, io.Discard, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	const imsi = gtp.Digits(0x262011234567890f)
	subscriber := decode.AddrFrom(netip.MustParseAddr("10.1.2.3"))
	made := func() []flows.Record {
		return []flows.Record{{Key: flows.Key{Subscriber: subscriber}, IMSI: cfg.Hash(imsi)}}
	}
	cfg.Records(made())
	waiting := made()
	if d.replaceKey(first) || !d.replaceKey(second) || d.replaceKey(second) {
		t.Error("the key is not told from the one in use")
	}
	cfg.Records(waiting)
	cfg.Records(made())
	for _, j := range d.journals {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines)-1, text)
	}
	for i, key := range []export.Key{first, second, second} {
		for _, want := range []string{
			fmt.Sprintf(`"subscriber":"%s"`, export.Pseudonyms(key, nil).Subscriber(subscriber)),
			fmt.Sprintf(`"imsi":"%s"`, hasher(key).Hash(gtp.IMSI, imsi)),
		} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d has no %s:\n%s", i+1, want, lines[i])
			}
		}
	}
}

// TestOwnKeyAnew: the key that was made for the user is read anew like a named one;
// one that is kept nowhere stays.
func TestOwnKeyAnew(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir) // where there is no XDG
	s := &settings{}
	if k, err := s.keyAnew(); err != nil || k != (export.Key{}) {
		t.Errorf("a key, %v, that nobody has asked for", err)
	}
	var warned strings.Builder
	made, err := s.key(&warned)
	if err != nil || warned.Len() > 0 {
		t.Fatal(err, warned.String())
	}
	config, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(config, "nametap", "pseudonym.key")
	other := export.RandomKey()
	for _, c := range []struct {
		text string
		want export.Key
		bad  bool
	}{
		{hex.EncodeToString(made[:]), made, false},
		{hex.EncodeToString(other[:]), other, false},
		{"none", export.Key{}, true},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := s.keyAnew(); k != c.want || (err != nil) != c.bad {
			t.Errorf("%q gives another key than it holds, or %v", c.text, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if k, err := s.keyAnew(); err != nil || k == made || k == other || k == (export.Key{}) {
		t.Errorf("no new key where the old one was removed: %v", err)
	}

	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(file), nil, 0o600); err != nil { // no key can be kept
		t.Fatal(err)
	}
	s = &settings{}
	passing, err := s.key(&warned)
	if err != nil || !strings.Contains(warned.String(), "for this run only") {
		t.Errorf("%v, warned: %q", err, warned.String())
	}
	if k, err := s.keyAnew(); err != nil || k != passing {
		t.Errorf("the key of this run does not stay: %v", err)
	}
}
