package gtp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// Identity says what kind of number is hashed. The kind is part of what is
// hashed, so that equal digits of two kinds do not give equal hashes.
type Identity string

// Identities.
const (
	IMSI   Identity = "imsi"
	MSISDN Identity = "msisdn"
	IMEI   Identity = "imei"
)

// minKey is half the block of what HMAC-SHA256 is used for here: 128 bits out
// are worth no more than the 128 bits that go in.
const minKey = 16

// Hasher turns identities into pseudonyms: the first 128 bits of
// HMAC-SHA256(key, kind ":" digits), as 32 hex digits. A plain hash would be
// none, since all IMSIs of an operator are searched in seconds. Not for use by
// several goroutines at once. To rotate keys, make a new one.
type Hasher struct {
	mac hash.Hash
	buf []byte
}

// NewHasher returns a Hasher with a secret key of at least 16 octets. The key
// is not kept in a form that prints.
func NewHasher(key []byte) (*Hasher, error) {
	if len(key) < minKey {
		return nil, fmt.Errorf("gtp: identity key has %d octets, at least %d are needed; make one with: head -c 32 /dev/urandom", len(key), minKey)
	}
	return &Hasher{mac: hmac.New(sha256.New, key), buf: make([]byte, 0, 64)}, nil
}

// AppendHash appends the pseudonym of d, nothing where d is none.
func (h *Hasher) AppendHash(dst []byte, kind Identity, d Digits) []byte {
	if d == 0 {
		return dst
	}
	h.mac.Reset()
	h.buf = append(h.buf[:0], kind...)
	h.buf = append(h.buf, ':')
	h.buf = d.AppendDigits(h.buf)
	_, _ = h.mac.Write(h.buf) // a hash.Hash never fails to write
	h.buf = h.mac.Sum(h.buf[:0])
	dst = hex.AppendEncode(dst, h.buf[:16])
	clear(h.buf[:cap(h.buf)])
	return dst
}

// Hash returns the pseudonym of d, empty where d is none.
func (h *Hasher) Hash(kind Identity, d Digits) string {
	return string(h.AppendHash(nil, kind, d))
}
