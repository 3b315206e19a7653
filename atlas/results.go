package atlas

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Answer is what one resolver told one probe.
type Answer struct {
	Measurement int
	Probe       int
	At          int64      // seconds since 1970
	From        netip.Addr // the probe's public address; invalid where it is not told
	Name        string     // that was asked, lower case, no final dot
	Rcode       int
	Addresses   []netip.Addr // of A and AAAA records
	// Failure is why there is no usable message; empty with one.
	Failure Failure
}

// Failure is why an answer cannot be used.
type Failure string

// Failures.
const (
	Timeout   Failure = "timeout"
	NetError  Failure = "network error"  // the resolver was not reached, or its name not found
	NoMessage Failure = "no message"     // the result has no abuf
	Malformed Failure = "broken message" // not base64, or not a DNS message
)

// result is one line of a results file, of any firmware.
type result struct {
	Measurement int         `json:"msm_id"`
	Probe       int         `json:"prb_id"`
	Timestamp   int64       `json:"timestamp"`
	From        string      `json:"from"`
	Type        string      `json:"type"`
	Result      *message    `json:"result"`
	Error       *failure    `json:"error"`
	DNSError    *failure    `json:"dnserr"` // before firmware 4400
	Set         []subresult `json:"resultset"`
}

type subresult struct {
	Time   int64    `json:"time"`
	Result *message `json:"result"`
	Error  *failure `json:"error"`
}

type message struct {
	Abuf string `json:"abuf"`
}

// failure is an error, which is an object in new firmware and a text in old.
type failure struct{ text string }

func (f *failure) UnmarshalJSON(b []byte) error {
	f.text = string(b)
	return nil
}

func (f *failure) kind() Failure {
	if strings.Contains(strings.ToLower(f.text), "timeout") {
		return Timeout
	}
	return NetError
}

// maxResult bounds one result; those of today have a few KB.
const maxResult = 4 << 20

// Read calls add with each answer of a results file: JSON arrays, or one object
// a line. name is what errors call the file. Broken JSON, and a result that is
// no DNS result, end the reading with an error that says where; what came before
// has been given to add.
func Read(name string, in io.Reader, add func(*Answer)) error {
	r := reader{in: bufio.NewReaderSize(in, 64<<10)}
	for n := 0; ; n++ {
		raw, err := r.next()
		if errors.Is(err, io.EOF) {
			if n == 0 && !r.any {
				return fmt.Errorf("%s: no results; expected a JSON array of RIPE Atlas results, or one a line", name)
			}
			return nil
		}
		if err == nil {
			err = one(raw, add)
		}
		if err != nil {
			return fmt.Errorf("%s: result %d: %s", name, n+1, clean(err))
		}
	}
}

// reader takes the objects out of a file, whether in arrays or not.
type reader struct {
	in    *bufio.Reader
	open  bool // in an array
	any   bool // there was an array or an object
	comma bool // one may follow
	raw   []byte
}

var errShape = errors.New("expected an array of objects, or one object a line")

// next returns the next object, valid until the next call; io.EOF after the last.
func (r *reader) next() ([]byte, error) {
	for {
		c, err := r.in.ReadByte()
		if errors.Is(err, io.EOF) && r.open {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		switch {
		case strings.IndexByte(" \t\r\n\xef\xbb\xbf", c) >= 0: // space, or a byte order mark
		case c == '[' && !r.open:
			r.open, r.any, r.comma = true, true, false
		case c == ']' && r.open:
			r.open, r.comma = false, false
		case c == ',' && r.open && r.comma:
			r.comma = false
		case c == '{' && !(r.open && r.comma):
			r.any, r.comma = true, true
			return r.object()
		default:
			return nil, errShape
		}
	}
}

// object reads to the end of an object whose first byte was taken.
func (r *reader) object() ([]byte, error) {
	r.raw = append(r.raw[:0], '{')
	depth, text, escaped := 1, false, false
	for depth > 0 {
		c, err := r.in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if len(r.raw) >= maxResult {
			return nil, fmt.Errorf("longer than %d bytes", maxResult)
		}
		r.raw = append(r.raw, c)
		switch {
		case escaped:
			escaped = false
		case text && c == '\\':
			escaped = true
		case c == '"':
			text = !text
		case text:
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
	}
	return r.raw, nil
}

func clean(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "the file ends in the middle of it; fetch it again"
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// one takes a result apart.
func one(raw []byte, add func(*Answer)) error {
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return fmt.Errorf("%s is not as RIPE Atlas writes it", typed.Field)
		}
		return errors.New(clean(err))
	}
	if r.Type != "" && r.Type != "dns" {
		return fmt.Errorf("a result of a %s measurement, not of a DNS one", r.Type)
	}
	if r.Result == nil && r.Set == nil && r.Error == nil && r.DNSError == nil {
		return errors.New("neither \"result\" nor \"resultset\" nor \"error\" in it: not a RIPE Atlas DNS result")
	}
	a := Answer{Measurement: r.Measurement, Probe: r.Probe, At: r.Timestamp}
	if from, err := netip.ParseAddr(r.From); err == nil {
		a.From = from.Unmap()
	}
	if len(r.Set) == 0 {
		err := r.Error
		if err == nil {
			err = r.DNSError
		}
		give(a, r.Result, err, add)
		return nil
	}
	for _, s := range r.Set {
		b := a
		if s.Time != 0 {
			b.At = s.Time
		}
		give(b, s.Result, s.Error, add)
	}
	return nil
}

func give(a Answer, m *message, f *failure, add func(*Answer)) {
	switch {
	case m != nil && m.Abuf != "":
		a.parse(m.Abuf)
	case f != nil:
		a.Failure = f.kind()
	default:
		a.Failure = NoMessage
	}
	add(&a)
}

// parse reads the message.
func (a *Answer) parse(abuf string) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(abuf))
	if err != nil {
		a.Failure = Malformed
		return
	}
	var m dns.Msg
	if err := m.Unpack(b); err != nil || len(m.Question) == 0 || !m.Response {
		a.Failure = Malformed
		return
	}
	a.Rcode = m.Rcode
	a.Name = strings.ToLower(strings.TrimSuffix(m.Question[0].Name, "."))
	for _, rr := range m.Answer {
		var ip []byte
		switch x := rr.(type) {
		case *dns.A:
			ip = x.A
		case *dns.AAAA:
			ip = x.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			a.Addresses = append(a.Addresses, addr.Unmap())
		}
	}
}
