package export

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/nametap/nametap/capture/decode"
)

// KeyBytes is the length of a pseudonym key: half of it encrypts, half pads.
const KeyBytes = 32

// Key of all pseudonyms. Who has it can turn a pseudonym back into an address
// by trying addresses, so it is as secret as they are.
type Key [KeyBytes]byte

// Addresses writes subscriber addresses as records may show them.
type Addresses struct {
	block cipher.Block // nil: in clear
	pad   [16]byte
	// subscribers are the prefixes in which subscribers live.
	subscribers []netip.Prefix
}

// ClearAddresses shows addresses as they are.
func ClearAddresses(subscribers []netip.Prefix) *Addresses {
	return &Addresses{subscribers: subscribers}
}

// Pseudonyms returns Addresses that keep nothing of an address but which
// prefixes it shares with others: two addresses with the same first n bits
// have pseudonyms with the same first n bits, for any n. It is the construction
// of Xu, Fan, Ammar and Moon, "Prefix-Preserving IP Address Anonymization"
// (ICNP 2002), with AES as they use it. subscribers says which server addresses
// are another subscriber's and are hidden as well.
func Pseudonyms(key Key, subscribers []netip.Prefix) *Addresses {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic("export: a key of 16 bytes is an AES key: " + err.Error())
	}
	a := &Addresses{block: block, subscribers: subscribers}
	block.Encrypt(a.pad[:], key[16:])
	return a
}

// Subscriber returns a subscriber's address as it is shown.
func (a *Addresses) Subscriber(addr decode.Addr) netip.Addr {
	ip := addr.Netip()
	if a.block == nil {
		return ip
	}
	return a.pseudonym(ip)
}

// Server returns a server's address as it is shown: as it is, unless it is a
// subscriber's too.
func (a *Addresses) Server(addr decode.Addr) netip.Addr {
	ip := addr.Netip()
	if a.block != nil && a.IsSubscriber(addr) {
		return a.pseudonym(ip)
	}
	return ip
}

// IsSubscriber reports whether the server's address is a subscriber's too.
func (a *Addresses) IsSubscriber(addr decode.Addr) bool {
	ip := addr.Netip()
	for _, p := range a.subscribers {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// pseudonym flips each bit or not, as the encryption of the bits before it,
// padded, says.
func (a *Addresses) pseudonym(ip netip.Addr) netip.Addr {
	in := ip.AsSlice()
	out := make([]byte, len(in))
	for bit := range 8 * len(in) {
		var block [16]byte
		copy(block[:], in)
		pad(block[:], a.pad[:], bit)
		a.block.Encrypt(block[:], block[:])
		out[bit/8] |= block[0] >> 7 << (7 - bit%8)
	}
	for i := range out {
		out[i] ^= in[i]
	}
	hidden, _ := netip.AddrFromSlice(out)
	return hidden
}

// pad keeps the first bits bits of b and takes the rest from with.
func pad(b, with []byte, bits int) {
	for i := range b {
		keep := min(max(bits-8*i, 0), 8)
		mask := ^byte(0xff >> keep)
		b[i] = b[i]&mask | with[i]&^mask
	}
}

// LoadKey reads a key file: 64 hexadecimal digits. Others must not be able to
// read it.
func LoadKey(path string) (Key, error) {
	var key Key
	info, err := os.Stat(path)
	if err != nil {
		return key, keyError(path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key, fmt.Errorf("%s: others may read this key (mode %04o); run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key, keyError(path, err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != KeyBytes {
		return key, fmt.Errorf("%s: not a key; it must hold %d hexadecimal digits (openssl rand -hex %d makes one)", path, 2*KeyBytes, KeyBytes)
	}
	return Key(b), nil
}

func keyError(path string, err error) error {
	mend := "let the user of this process read it"
	if errors.Is(err, fs.ErrNotExist) {
		mend = fmt.Sprintf("make one: (umask 077; openssl rand -hex %d > %s)", KeyBytes, path)
	}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s: cannot read the pseudonym key: %w; %s", path, err, mend)
}

// EnsureKey loads the key at path and makes one first where there is none, so
// that a subscriber keeps one pseudonym from run to run.
func EnsureKey(path string) (Key, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key, fmt.Errorf("%s: cannot make a pseudonym key: %w", path, err)
	}
	key = RandomKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return LoadKey(path) // another nametap was quicker
	}
	if err != nil {
		return key, fmt.Errorf("%s: cannot make a pseudonym key: %w", path, err)
	}
	_, err = f.WriteString(hex.EncodeToString(key[:]) + "\n")
	return key, errors.Join(err, f.Close())
}

// RandomKey returns a key that nobody has.
func RandomKey() Key {
	var key Key
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return key
}

// Uint64 derives a number from the key, for seeds that must be secret.
func (k Key) Uint64() uint64 { return binary.LittleEndian.Uint64(k[8:]) }
