package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/nametap/nametap/flows"
)

const (
	// maxLine bounds a line: a record takes about 1 KB.
	maxLine = 1 << 20
	// maxWindow bounds the memory of the zstd decoder.
	maxWindow = 128 << 20
	// maxNamed bounds how many bad lines of a file are told one by one.
	maxNamed = 5
	// maxInterned bounds the strings that a Reader keeps to save copies.
	maxInterned = 1 << 16
)

// Format of an input file.
type Format uint8

// Formats.
const (
	FormatUnknown Format = iota
	FormatRecords        // JSON Lines of flow records
	FormatCapture        // pcap or pcapng
)

// Unpack tells gzip and zstd by their first bytes and returns what is inside.
// Data that is in neither comes back as it is.
func Unpack(in io.Reader) (*bufio.Reader, func(), error) {
	b := bufio.NewReaderSize(in, 64<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952 section 2.3.1
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, 256<<10), func() { _ = z.Close() }, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878 section 3.1.1
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, 256<<10), z.Close, nil
	}
	return b, func() {}, nil
}

// Detect tells what unpacked data is by its first bytes, without taking any.
func Detect(b *bufio.Reader) Format {
	head, _ := b.Peek(64) // an error shows again when it is read
	if text := bytes.TrimLeft(head, " \t\r\n\ufeff"); len(text) > 0 && text[0] == '{' {
		return FormatRecords
	}
	if len(head) < 4 {
		return FormatUnknown
	}
	switch [4]byte(head) {
	case [4]byte{0xa1, 0xb2, 0xc3, 0xd4}, [4]byte{0xd4, 0xc3, 0xb2, 0xa1},
		[4]byte{0xa1, 0xb2, 0x3c, 0x4d}, [4]byte{0x4d, 0x3c, 0xb2, 0xa1},
		[4]byte{0x0a, 0x0d, 0x0d, 0x0a}:
		return FormatCapture
	}
	return FormatUnknown
}

// DetectFile tells what a file is, under its compression if it has one.
func DetectFile(path string) (Format, error) {
	f, err := os.Open(path)
	if err != nil {
		return FormatUnknown, fileError(path, "cannot be opened", err)
	}
	defer func() { _ = f.Close() }() // only read from
	in, done, err := Unpack(f)
	if err != nil {
		return FormatUnknown, fileError(path, "cannot be read", err)
	}
	defer done()
	return Detect(in), nil
}

func fileError(path, what string, err error) error {
	var cause *os.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s: %s: %w", path, what, err)
}

// BadLines are the lines of a file that are no flow records. The others were
// read.
type BadLines struct {
	File  string
	Count uint64
	First []error // the first of them, with their lines
}

// Error names the first lines and the number of the others.
func (b *BadLines) Error() string {
	text := ""
	for i, err := range b.First {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	if rest := b.Count - uint64(len(b.First)); rest > 0 {
		text += fmt.Sprintf("; and %d more such lines", rest)
	}
	return text
}

// ReadRecords calls add with each flow record of a file. name is what errors
// call it. Lines that are no records are skipped, and are the error, a
// *BadLines; the records of all other lines were given to add, which must not
// keep the pointer.
func ReadRecords(name string, in *bufio.Reader, add func(*Record)) error {
	p := parser{interned: map[string]string{}}
	bad := &BadLines{File: name}
	number := 0
	for {
		line, err := readLine(in)
		if len(line) > 0 || err == nil {
			number++
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			var r Record
			problem := error(nil)
			if errors.Is(err, errLong) {
				problem = fmt.Errorf("longer than %d bytes", maxLine)
			} else {
				problem = p.record(text, &r)
			}
			if problem != nil {
				bad.Count++
				if len(bad.First) < maxNamed {
					bad.First = append(bad.First, fmt.Errorf("%s:%d: %w", name, number, problem))
				}
			} else {
				add(&r)
			}
		}
		switch {
		case err == nil || errors.Is(err, errLong):
		case errors.Is(err, io.EOF):
			if bad.Count > 0 {
				return bad
			}
			return nil
		default:
			return fmt.Errorf("%s:%d: damaged: %w; what came before was read", name, number+1, err)
		}
	}
}

var errLong = errors.New("line too long")

// readLine returns the next line, valid until the next call. Of a line that is
// too long it returns the beginning and errLong.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	whole := append([]byte{}, line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = in.ReadSlice('\n')
		if len(whole) <= maxLine {
			whole = append(whole, line...)
		}
	}
	if len(whole) > maxLine && (err == nil || errors.Is(err, io.EOF)) {
		return whole[:maxLine], errLong
	}
	return whole, err
}

// parser reads records. encoding/json would take five times as long, and ten
// million records are a day's work of a busy tap.
type parser struct {
	b        []byte
	at       int
	interned map[string]string
}

// key is a key of a record: whether one has to have it, and where its value goes.
type key struct {
	name     string
	required bool
	set      func(p *parser, r *Record, v []byte) error
}

// Kinds of values.
type setter = func(p *parser, r *Record, v []byte) error

func at(to func(*Record) *int64) setter {
	return func(_ *parser, r *Record, v []byte) (err error) { *to(r), err = timestamp(v); return err }
}

func address(to func(*Record) *netip.Addr) setter {
	return func(_ *parser, r *Record, v []byte) (err error) { *to(r), err = addr(v); return err }
}

func word(to func(*Record) *string) setter {
	return func(p *parser, r *Record, v []byte) (err error) { *to(r), err = p.label(v); return err }
}

func optional(to func(*Record) *string) setter {
	return func(p *parser, r *Record, v []byte) (err error) { *to(r), err = p.optional(v); return err }
}

func truth(to func(*Record) *bool) setter {
	return func(_ *parser, r *Record, v []byte) (err error) { *to(r), err = boolean(v); return err }
}

func count(to func(*Record) *uint64) setter {
	return func(_ *parser, r *Record, v []byte) (err error) { *to(r), err = number(v); return err }
}

// span is a number of seconds, or null; a round-trip time is not negative.
func span(positive bool, to func(*Record) *float64) setter {
	return func(_ *parser, r *Record, v []byte) (err error) { *to(r), err = float(v, positive); return err }
}

func port(_ *parser, r *Record, v []byte) error {
	n, err := number(v)
	if n > math.MaxUint16 {
		err = errors.New("not a port")
	}
	r.ServerPort = uint16(n)
	return err
}

// keys are those of a record that a report has a use for: no more than 64, for a
// word says which were met.
var keys = [...]key{
	{"start", true, at(func(r *Record) *int64 { return &r.Start })},
	{"end", true, at(func(r *Record) *int64 { return &r.End })},
	{"subscriber", true, address(func(r *Record) *netip.Addr { return &r.Subscriber })},
	{"server", true, address(func(r *Record) *netip.Addr { return &r.Server })},
	{"server_port", true, port},
	{"app", true, word(func(r *Record) *string { return &r.App })},
	{"class", true, word(func(r *Record) *string { return &r.Class })},
	{"evidence", true, word(func(r *Record) *string { return &r.Evidence })},
	{"syn_seen", true, truth(func(r *Record) *bool { return &r.SYNSeen })},
	{"end_reason", true, word(func(r *Record) *string { return &r.EndReason })},
	{"uplink_bytes", true, count(func(r *Record) *uint64 { return &r.Bytes[flows.Up] })},
	{"downlink_bytes", true, count(func(r *Record) *uint64 { return &r.Bytes[flows.Down] })},

	{"name", false, optional(func(r *Record) *string { return &r.Name })},
	{"sni", false, optional(func(r *Record) *string { return &r.SNI })},
	{"dns_age_s", false, span(false, func(r *Record) *float64 { return &r.DNSAge })},
	{"server_is_subscriber", false, truth(func(r *Record) *bool { return &r.Hidden })},
	{"uplink_packets", false, count(func(r *Record) *uint64 { return &r.Packets[flows.Up] })},
	{"downlink_packets", false, count(func(r *Record) *uint64 { return &r.Packets[flows.Down] })},
	{"uplink_payload_bytes", false, count(func(r *Record) *uint64 { return &r.Payload[flows.Up] })},
	{"downlink_payload_bytes", false, count(func(r *Record) *uint64 { return &r.Payload[flows.Down] })},
	{"syn", false, count(func(r *Record) *uint64 { return &r.SYN })},
	{"syn_ack", false, count(func(r *Record) *uint64 { return &r.SYNACK })},
	{"fin", false, count(func(r *Record) *uint64 { return &r.FIN })},
	{"rst", false, count(func(r *Record) *uint64 { return &r.RST })},
	{"uplink_retransmitted", false, count(func(r *Record) *uint64 { return &r.Retransmitted[flows.Up] })},
	{"downlink_retransmitted", false, count(func(r *Record) *uint64 { return &r.Retransmitted[flows.Down] })},
	{"uplink_out_of_order", false, count(func(r *Record) *uint64 { return &r.OutOfOrder[flows.Up] })},
	{"downlink_out_of_order", false, count(func(r *Record) *uint64 { return &r.OutOfOrder[flows.Down] })},
	{"uplink_lost_before_tap", false, count(func(r *Record) *uint64 { return &r.LostBefore[flows.Up] })},
	{"downlink_lost_before_tap", false, count(func(r *Record) *uint64 { return &r.LostBefore[flows.Down] })},
	{"uplink_unseen_bytes", false, count(func(r *Record) *uint64 { return &r.Unseen[flows.Up] })},
	{"downlink_unseen_bytes", false, count(func(r *Record) *uint64 { return &r.Unseen[flows.Down] })},
	{"server_rtt_min_s", false, span(true, func(r *Record) *float64 { return &r.RTTMin[flows.Up] })},
	{"access_rtt_min_s", false, span(true, func(r *Record) *float64 { return &r.RTTMin[flows.Down] })},
	{"server_rtt_handshake_s", false, span(true, func(r *Record) *float64 { return &r.RTTHandshake[flows.Up] })},
	{"access_rtt_handshake_s", false, span(true, func(r *Record) *float64 { return &r.RTTHandshake[flows.Down] })},
	{"os", false, optional(func(r *Record) *string { return &r.OS })},
	{"apn", false, optional(func(r *Record) *string { return &r.APN })},
}

// keyAt is where a key stands in keys; required has a bit for each that a record
// must have.
var keyAt, required = func() (at map[string]int, bits uint64) {
	at = map[string]int{}
	for i := range keys {
		at[keys[i].name] = i
		if keys[i].required {
			bits |= 1 << i
		}
	}
	return at, bits
}()

// record reads one line. Unknown keys are passed over.
func (p *parser) record(line []byte, r *Record) error {
	p.b, p.at = line, 0
	nan := math.NaN()
	*r = Record{DNSAge: nan, RTTMin: [2]float64{nan, nan}, RTTHandshake: [2]float64{nan, nan}}
	var seen uint64
	if !p.take('{') {
		return errors.New("not a JSON object")
	}
	for n := 0; !p.take('}'); n++ {
		if n > 0 && !p.take(',') {
			return p.broken("expected a comma or the end of the object")
		}
		key, err := p.key()
		if err != nil {
			return err
		}
		value, err := p.value()
		if err != nil {
			return err
		}
		i, ok := keyAt[string(key)]
		if !ok {
			continue
		}
		if seen&(1<<i) != 0 {
			return fmt.Errorf("key %q stands twice", key)
		}
		seen |= 1 << i
		if err := keys[i].set(p, r, value); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	if p.skip(); p.at != len(p.b) {
		return p.broken("something follows the object")
	}
	if missing := required &^ seen; missing != 0 {
		return fmt.Errorf("no key %q: not a flow record as nametap --flows writes it", keys[bits.TrailingZeros64(missing)].name)
	}
	if r.End < r.Start {
		return errors.New("ends before it starts")
	}
	return nil
}

func (p *parser) broken(what string) error {
	return fmt.Errorf("broken JSON at column %d: %s", p.at+1, what)
}

func (p *parser) skip() {
	for p.at < len(p.b) && (p.b[p.at] == ' ' || p.b[p.at] == '\t' || p.b[p.at] == '\r') {
		p.at++
	}
}

func (p *parser) take(c byte) bool {
	p.skip()
	if p.at < len(p.b) && p.b[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) key() ([]byte, error) {
	p.skip()
	raw, err := p.text()
	if err != nil {
		return nil, err
	}
	if !p.take(':') {
		return nil, p.broken("expected a colon")
	}
	return raw[1 : len(raw)-1], nil
}

// text returns a string with its quotes, escapes as they are.
func (p *parser) text() ([]byte, error) {
	from := p.at
	if from >= len(p.b) || p.b[from] != '"' {
		return nil, p.broken("expected a string")
	}
	for p.at++; p.at < len(p.b); p.at++ {
		switch c := p.b[p.at]; {
		case c == '\\':
			p.at++
		case c == '"':
			p.at++
			return p.b[from:p.at], nil
		case c < 0x20:
			return nil, p.broken("control character in a string")
		}
	}
	return nil, p.broken("the string does not end")
}

// value returns a value as it stands.
func (p *parser) value() ([]byte, error) {
	p.skip()
	if p.at >= len(p.b) {
		return nil, p.broken("expected a value")
	}
	from := p.at
	switch p.b[from] {
	case '"':
		return p.text()
	case '{', '[':
		return p.nested()
	}
	for p.at < len(p.b) && p.b[p.at] != ',' && p.b[p.at] != '}' && p.b[p.at] > ' ' {
		p.at++
	}
	v := p.b[from:p.at]
	if c := v[:min(1, len(v))]; string(c) == "-" || len(c) == 1 && c[0] >= '0' && c[0] <= '9' {
		if !json.Valid(v) {
			return nil, p.broken("not a number")
		}
		return v, nil
	}
	switch string(v) {
	case "true", "false", "null":
		return v, nil
	}
	return nil, p.broken("not a value")
}

// nested passes over an object or an array: no key of ours has one.
func (p *parser) nested() ([]byte, error) {
	from, depth := p.at, 0
	for p.at < len(p.b) {
		switch p.b[p.at] {
		case '"':
			if _, err := p.text(); err != nil {
				return nil, err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		p.at++
		if depth == 0 {
			if v := p.b[from:p.at]; json.Valid(v) {
				return v, nil
			}
			break
		}
	}
	return nil, p.broken("broken value")
}

var (
	errString = errors.New("expected a string")
	errNumber = errors.New("expected a whole number that is not negative")
	errTime   = errors.New("expected a time such as 2014-02-22T17:30:00.000000000Z")
	errBool   = errors.New("expected true or false")
)

func (p *parser) string(v []byte) (string, error) {
	if v[0] != '"' {
		return "", errString
	}
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return "", errString
		}
		inner = []byte(s)
	}
	if s, ok := p.interned[string(inner)]; ok {
		return s, nil
	}
	s := string(inner)
	if len(p.interned) < maxInterned {
		p.interned[s] = s
	}
	return s, nil
}

func (p *parser) label(v []byte) (string, error) {
	s, err := p.string(v)
	if err == nil && (s == "" || len(s) > 100) {
		err = errors.New("expected a word")
	}
	return s, err
}

func (p *parser) optional(v []byte) (string, error) {
	if string(v) == "null" {
		return "", nil
	}
	return p.string(v)
}

func timestamp(v []byte) (int64, error) {
	if v[0] != '"' {
		return 0, errTime
	}
	t, err := time.Parse(time.RFC3339Nano, string(v[1:len(v)-1]))
	if err != nil || t.Year() < 1970 || t.Year() > 2261 {
		return 0, errTime
	}
	return t.UnixNano(), nil
}

func addr(v []byte) (netip.Addr, error) {
	if v[0] != '"' {
		return netip.Addr{}, errString
	}
	a, err := netip.ParseAddr(string(v[1 : len(v)-1]))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("expected an IP address")
	}
	return a.Unmap(), nil
}

func number(v []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

func boolean(v []byte) (bool, error) {
	switch string(v) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errBool
}

// float reads a number or null, which is NaN.
func float(v []byte, positive bool) (float64, error) {
	if string(v) == "null" {
		return math.NaN(), nil
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || positive && f < 0 {
		return 0, errors.New("expected a number of seconds or null")
	}
	return f, nil
}
