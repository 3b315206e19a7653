package forecast

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Point is one measurement of a Series.
type Point struct {
	Time    int64   // nanoseconds since 1970
	Value   float64 // NaN: a gap
	Columns []float64
	Line    int // in its file
}

// Series is a row of measurements in the order of their times.
type Series struct {
	File   string
	Name   string // values of the columns that Layout.By names; may be empty
	Points []Point
}

// Layout says where a file has what.
type Layout struct {
	Time    string      // column of the time; empty: time, timestamp, start or t
	Value   string      // column of the value
	By      []string    // columns whose values tell several series in one file apart
	Where   []Condition // lines that do not meet all of them are passed over
	Columns []string    // outside columns
}

// Condition asks for lines whose column has the value.
type Condition struct{ Column, Value string }

// Bounds on what a file may ask of us.
const (
	maxLine   = 1 << 20
	maxSeries = 10_000
	// maxFields bounds the header of a CSV file.
	maxFields = 10_000
)

var timeNames = []string{"time", "timestamp", "start", "t"}

// Read reads the series of a file: CSV with a header, or JSON Lines (an object a
// line), which its first character tells. Name stands in errors, which name the
// line too. Times are RFC 3339, or numbers since 1970 in seconds, milliseconds,
// microseconds or nanoseconds, told apart by their size. An empty value, null or
// NaN is a gap.
func Read(r io.Reader, name string, layout Layout) ([]*Series, error) {
	c := &collector{file: name, layout: layout, byName: map[string]*Series{}, values: map[string]bool{}, last: map[*Series]*row{}}
	b := bufio.NewReaderSize(r, 64<<10)
	first, skipped, err := firstByte(b)
	c.skipped = skipped
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: empty; a series is CSV with a header, or JSON Lines", name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case first == '{':
		err = c.jsonLines(b)
	default:
		err = c.csv(b)
	}
	if err != nil {
		return nil, err
	}
	if len(c.list) == 0 && c.passed > 0 {
		w := layout.Where[0]
		return nil, fmt.Errorf("%s: no line meets the conditions; lines have %q %s", name, w.Column, columnList(slices.Sorted(maps.Keys(c.values))))
	}
	if len(c.list) == 0 {
		return nil, fmt.Errorf("%s: no measurements after the header", name)
	}
	return c.list, nil
}

// firstByte skips a byte-order mark and white space, whose line ends it counts.
func firstByte(b *bufio.Reader) (first byte, lines int, err error) {
	if mark, _ := b.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = b.Discard(3) // it was just peeked
	}
	for {
		c, err := b.ReadByte()
		if err != nil {
			return 0, lines, err
		}
		if c == '\n' {
			lines++
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, lines, b.UnreadByte()
		}
	}
}

// collector sorts rows into series.
type collector struct {
	file    string
	layout  Layout
	byName  map[string]*Series
	list    []*Series
	skipped int // empty lines at the start

	passed int             // lines that did not meet Layout.Where
	values map[string]bool // of the column for which the first of them did not
	last   map[*Series]*row
}

// row is one row's text by its meaning.
type row struct {
	line        int
	time, value string
	by, columns []string
	names       []string // of all columns
	cell        func(name string) string
}

// wanted reports whether a line meets all conditions.
func (c *collector) wanted(cell func(string) string) bool {
	for _, w := range c.layout.Where {
		value := cell(w.Column)
		if value == w.Value {
			continue
		}
		if c.passed++; w == c.layout.Where[0] && len(c.values) < mostNames {
			c.values[strings.Clone(value)] = true
		}
		return false
	}
	return true
}

// places are columns of nametap's own files that say with a number what a line is
// about.
var places = []string{"site", "asn"}

// mixed names the columns by which two lines of one time are not about the same:
// words that differ.
func (c *collector) mixed(a, b *row) (names []string) {
	isWord := func(text string) bool {
		_, numberErr := parseNumber(text)
		_, timeErr := parseTime(text)
		return numberErr != nil && timeErr != nil
	}
	for _, name := range a.names {
		x, y := a.cell(name), b.cell(name)
		if x == y || slices.Contains(c.layout.By, name) {
			continue
		}
		if slices.Contains(places, name) || isWord(x) && isWord(y) {
			names = append(names, name)
		}
	}
	return names
}

func (c *collector) add(r *row) error {
	at, err := parseTime(r.time)
	if err != nil {
		return c.errorf(r.line, "%w", err)
	}
	name := strings.Join(r.by, " ")
	s := c.byName[name]
	if s == nil {
		if len(c.list) == maxSeries {
			return c.errorf(r.line, "more than %d series; choose other columns to tell them apart", maxSeries)
		}
		s = &Series{File: c.file, Name: name}
		c.byName[name] = s
		c.list = append(c.list, s)
	}
	if n := len(s.Points); n > 0 && at < s.Points[n-1].Time {
		return c.errorf(r.line, "the clock goes back to %s from %s on line %d; sort the file by time%s",
			text(at), text(s.Points[n-1].Time), s.Points[n-1].Line, c.hint())
	} else if n > 0 && at == s.Points[n-1].Time {
		if names := c.mixed(r, c.last[s]); len(names) > 0 {
			return c.errorf(r.line, "same time as line %d and another %s; choose lines, such as --where %s=%s, or tell series apart with --by %s",
				s.Points[n-1].Line, columnList(names), names[0], short(c.last[s].cell(names[0])),
				strings.Join(slices.Concat(c.layout.By, names[:min(3, len(names))]), ","))
		}
	}
	c.last[s] = r
	p := Point{Time: at, Line: r.line, Columns: make([]float64, len(r.columns))}
	p.Line += c.skipped
	if p.Value, err = parseNumber(r.value); err != nil {
		return c.errorf(r.line, "column %q: %w", c.layout.Value, err)
	}
	for i, text := range r.columns {
		if p.Columns[i], err = parseNumber(text); err != nil {
			return c.errorf(r.line, "column %q: %w", c.layout.Columns[i], err)
		}
	}
	s.Points = append(s.Points, p)
	return nil
}

// hint helps who has several series in one file and did not say so.
func (c *collector) hint() string {
	if len(c.layout.By) > 0 {
		return ""
	}
	return ", or name the columns that tell its series apart"
}

func (c *collector) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", c.file, c.skipped+line, fmt.Errorf(format, args...))
}

func (c *collector) csv(b *bufio.Reader) error {
	r := csv.NewReader(&boundedLines{r: b})
	r.ReuseRecord = true
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err != nil {
		return c.csvError(err)
	}
	if len(header) > maxFields {
		return c.errorf(1, "a header of %d columns", len(header))
	}
	header = slices.Clone(header)
	index := func(name string) (int, error) {
		if i := slices.Index(header, name); i >= 0 {
			return i, nil
		}
		return -1, c.errorf(1, "no column %q; there are %s", name, columnList(header))
	}
	timeName, err := c.timeColumn(header)
	if err != nil {
		return err
	}
	at, err := index(timeName)
	if err != nil {
		return err
	}
	value, err := index(c.layout.Value)
	if err != nil {
		return err
	}
	pick := func(names []string) (list []int, err error) {
		for _, name := range names {
			i, err := index(name)
			if err != nil {
				return nil, err
			}
			list = append(list, i)
		}
		return list, nil
	}
	by, err := pick(c.layout.By)
	if err != nil {
		return err
	}
	columns, err := pick(c.layout.Columns)
	if err != nil {
		return err
	}
	for _, w := range c.layout.Where {
		if _, err := index(w.Column); err != nil {
			return err
		}
	}
	for {
		fields, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.csvError(err)
		}
		line, _ := r.FieldPos(0)
		fields = slices.Clone(fields)
		one := row{line: line, time: fields[at], value: fields[value], names: header}
		one.cell = func(name string) string { return fields[slices.Index(header, name)] }
		if !c.wanted(one.cell) {
			continue
		}
		for _, i := range by {
			one.by = append(one.by, strings.Clone(fields[i]))
		}
		for _, i := range columns {
			one.columns = append(one.columns, fields[i])
		}
		if err := c.add(&one); err != nil {
			return err
		}
	}
}

func (c *collector) csvError(err error) error {
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		return c.errorf(syntax.Line, "%w", syntax.Err)
	}
	return fmt.Errorf("%s: %w", c.file, err)
}

func (c *collector) timeColumn(have []string) (string, error) {
	if c.layout.Time != "" {
		return c.layout.Time, nil
	}
	for _, name := range timeNames {
		if slices.Contains(have, name) {
			return name, nil
		}
	}
	return "", c.errorf(1, "no column of times (%s); there are %s", strings.Join(timeNames, ", "), columnList(have))
}

// mostNames is how many names an error lists.
const mostNames = 12

// columnList is for people: some of the names, printable.
func columnList(names []string) string {
	var out []string
	for _, name := range names[:min(mostNames, len(names))] {
		out = append(out, short(name))
	}
	if len(names) > mostNames {
		out = append(out, fmt.Sprintf("and %d more", len(names)-mostNames))
	}
	return strings.Join(out, ", ")
}

func short(text string) string { return strconv.Quote(text[:min(40, len(text))]) }

var errLongLine = fmt.Errorf("a line of more than %d bytes; this is no series", maxLine)

// boundedLines keeps encoding/csv from taking a file without line ends into
// memory.
type boundedLines struct {
	r   io.Reader
	run int
}

func (b *boundedLines) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), 64<<10)])
	if last := bytes.LastIndexByte(p[:n], '\n'); last >= 0 {
		b.run = n - 1 - last
	} else {
		b.run += n
	}
	if b.run > maxLine {
		return 0, errLongLine
	}
	return n, err
}

func (c *collector) jsonLines(b *bufio.Reader) error {
	scanner := bufio.NewScanner(b)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	timeName := c.layout.Time
	seen := map[string]bool{}
	wanted := slices.Concat([]string{c.layout.Value}, c.layout.By, c.layout.Columns)
	for _, w := range c.layout.Where {
		wanted = append(wanted, w.Column)
	}
	line := 0
	var keys []string // of the first object
	for scanner.Scan() {
		line++
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		object := map[string]json.RawMessage{}
		if err := json.Unmarshal(scanner.Bytes(), &object); err != nil {
			return c.errorf(line, "no JSON object: %w", err)
		}
		if keys == nil {
			for key := range object {
				keys = append(keys, key)
			}
			slices.Sort(keys)
		}
		if timeName == "" {
			var err error
			if timeName, err = c.timeColumn(keys); err != nil {
				return err
			}
		}
		if _, ok := object[timeName]; !ok {
			return c.errorf(line, "no %q; there are %s", timeName, columnList(keys))
		}
		for _, name := range wanted {
			if _, ok := object[name]; ok {
				seen[name] = true
			}
		}
		one := row{line: line, time: plain(object[timeName]), value: plain(object[c.layout.Value]), names: keys}
		one.cell = func(name string) string { return plain(object[name]) }
		if !c.wanted(one.cell) {
			continue
		}
		for _, name := range c.layout.By {
			one.by = append(one.by, plain(object[name]))
		}
		for _, name := range c.layout.Columns {
			one.columns = append(one.columns, plain(object[name]))
		}
		if err := c.add(&one); err != nil {
			for _, name := range c.layout.By {
				if !seen[name] { // then its series are mixed up, and err is of that
					return c.errorf(line, "no column %q up to here; there are %s", name, columnList(keys))
				}
			}
			return err
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return c.errorf(line+1, "%w", errLongLine)
	} else if err != nil {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	for _, name := range wanted {
		if !seen[name] {
			return fmt.Errorf("%s: no line has %q; the first one has %s", c.file, name, columnList(keys))
		}
	}
	return nil
}

// plain is a JSON value as CSV would have it.
func plain(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if raw[0] != '"' {
		return string(raw)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// parseNumber takes what is empty or NaN for a gap.
func parseNumber(text string) (float64, error) {
	text = strings.TrimSpace(text)
	switch strings.ToLower(text) {
	case "", "nan", "null", "na":
		return math.NaN(), nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%s is no number; leave it empty for a gap", quoted(text))
	}
	return v, nil
}

func quoted(text string) string { return strconv.Quote(text[:min(60, len(text))]) }

// Times from 1970 to 2262, which is what fits into nanoseconds.
func parseTime(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		if y := at.Year(); y < 1970 || y > 2261 {
			return 0, fmt.Errorf("the time %s is not between 1970 and 2261", quoted(text))
		}
		return at.UnixNano(), nil
	}
	bad := fmt.Errorf("%s is no time; write RFC 3339 such as 2026-01-31T23:59:50Z, or seconds since 1970", quoted(text))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		unit, ok := unitOf(float64(n))
		if !ok {
			return 0, bad
		}
		return n * unit, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, bad
	}
	unit, ok := unitOf(v)
	if !ok {
		return 0, bad
	}
	whole, part := math.Modf(v)
	return int64(whole)*unit + int64(math.Round(part*float64(unit))), nil
}

// unitOf tells by a time's size what it counts: 1e11 seconds are the year 5138,
// 1e11 milliseconds 1973.
func unitOf(v float64) (int64, bool) {
	switch {
	case !(v >= 0) || v >= math.MaxInt64:
		return 0, false
	case v < 9.2e9:
		return 1e9, true
	case v < 1e11:
		return 0, false // seconds beyond 2261
	case v < 9.2e12:
		return 1e6, true
	case v < 1e14:
		return 0, false
	case v < 9.2e15:
		return 1e3, true
	case v < 1e17:
		return 0, false
	}
	return 1, true
}

func text(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339Nano) }
