package gtp

import "encoding/binary"

// Addr is an IP address in network order as two halves, IPv4 in its mapped
// form (RFC 4291 section 2.5.5.2). The zero value, ::, is no address.
type Addr struct{ Hi, Lo uint64 }

const v4Prefix = 0xffff << 32

func addrFrom4(b []byte) Addr {
	return Addr{0, v4Prefix | uint64(binary.BigEndian.Uint32(b))}
}

func addrFrom16(b []byte) Addr {
	return Addr{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// IsZero reports whether a is no address: absent, :: or 0.0.0.0. A request
// carries 0.0.0.0 where it asks for an address (TS 29.274 section 8.14).
func (a Addr) IsZero() bool { return a.Hi == 0 && (a.Lo == 0 || a.Lo == v4Prefix) }

// Digits is an identity of up to 16 decimal digits, four bits a digit from the
// top, filled up with 0xF. 0 is none. It prints as nothing: an identity leaves
// the process only as a keyed hash, see Hasher.
type Digits uint64

// String hides the digits, so that no log and no error can spill them.
func (d Digits) String() string {
	if d == 0 {
		return "none"
	}
	return "redacted"
}

// Len is the number of digits, 0 for none.
func (d Digits) Len() int {
	if d == 0 {
		return 0
	}
	n := 0
	for n < 16 && d>>(60-4*n)&0xf != 0xf {
		n++
	}
	return n
}

// AppendDigits appends the digits in clear.
func (d Digits) AppendDigits(b []byte) []byte {
	for i := range d.Len() {
		b = append(b, '0'+byte(d>>(60-4*i)&0xf))
	}
	return b
}

// TAC is the type allocation code, the first 8 digits of an IMEI or IMEISV
// (TS 23.003 section 6.2), as a number. It names a model of device, not a
// person. ok is false where there are too few digits for an IMEI.
func (d Digits) TAC() (tac uint32, ok bool) {
	if d.Len() < 14 {
		return 0, false
	}
	for i := range 8 {
		tac = tac*10 + uint32(d>>(60-4*i)&0xf)
	}
	return tac, true
}

// digitsFromTBCD reads telephony BCD, low half of an octet first, up to the
// filler 0xF. Anything that is no number of 1 to 16 digits gives none.
func digitsFromTBCD(b []byte) Digits {
	d := ^Digits(0)
	n := 0
	for _, o := range b {
		for _, nibble := range [2]byte{o & 0xf, o >> 4} {
			if nibble == 0xf {
				return d.ifAny(n)
			}
			if nibble > 9 || n == 16 {
				return 0
			}
			d ^= (0xf ^ Digits(nibble)) << (60 - 4*n)
			n++
		}
	}
	return d.ifAny(n)
}

func (d Digits) ifAny(n int) Digits {
	if n == 0 {
		return 0
	}
	return d
}

// maxAPN is the longest APN (TS 23.003 section 9.1): 100 octets.
const maxAPN = 100

// apnName is an access point name as text, of bounded size.
type apnName struct {
	b [maxAPN]byte
	n uint8
}

func (a *apnName) bytes() []byte { return a.b[:a.n] }

// set reads an APN: labels with a length before each (TS 23.003 section 9.1).
// It keeps the network identifier and cuts off the operator identifier, which
// only one of the two hops may carry. ok is false where b is not of this form.
func (a *apnName) set(b []byte) (ok bool) {
	a.n = 0
	n := 0
	for len(b) > 0 {
		l := int(b[0])
		b = b[1:]
		if l == 0 && len(b) == 0 {
			break
		}
		if l == 0 || l > 63 || l > len(b) || n+1+l > maxAPN {
			return false
		}
		if n > 0 {
			a.b[n] = '.'
			n++
		}
		for i := range l {
			a.b[n+i] = plain(b[i])
		}
		n += l
		b = b[l:]
	}
	a.n = uint8(n)
	a.cutOperator()
	return n > 0
}

// setText reads a name in clear text, as a Network Instance may be
// (TS 29.244 section 8.2.4).
func (a *apnName) setText(b []byte) {
	n := min(len(b), maxAPN)
	for i := range n {
		a.b[i] = plain(b[i])
	}
	a.n = uint8(n)
	a.cutOperator()
}

// cutOperator drops ".mncXXX.mccXXX.gprs" (TS 23.003 section 9.1.2).
func (a *apnName) cutOperator() {
	const operator = ".mnc000.mcc000.gprs"
	i := int(a.n) - len(operator)
	if i <= 0 {
		return
	}
	for k := range len(operator) {
		c := a.b[i+k]
		if operator[k] == '0' {
			if c < '0' || c > '9' {
				return
			}
			continue
		}
		if c != operator[k] {
			return
		}
	}
	a.n = uint8(i)
}

// plain maps an octet of a name to what may stand in a label: hostile octets
// must not reach a metric or a file.
func plain(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c | 0x20
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		return c
	}
	return '_'
}
