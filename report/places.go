package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Place is what databases say of a server address. Zero values are unknown.
type Place struct {
	ASN     uint32
	Org     string
	Country string // ISO 3166-1 alpha-2
	City    string
	At      *Position // nil without coordinates
}

// Places looks addresses up in MMDB files and prefix tables that the user has.
type Places struct {
	asn, geo *maxminddb.Reader
	table    map[netip.Prefix]Place
	lengths  []int // of the table's prefixes, IPv4 in mapped form, longest first
	err      error
	asnFile  string
	geoFile  string
}

// OpenPlaces opens the files that are named; an empty name is none.
func OpenPlaces(asnDB, geoDB, prefixes string) (*Places, error) {
	p := &Places{asnFile: asnDB, geoFile: geoDB}
	var err error
	if p.asn, err = openMMDB(asnDB); err != nil {
		return nil, err
	}
	if p.geo, err = openMMDB(geoDB); err != nil {
		return nil, err
	}
	if prefixes != "" {
		if err := p.readTable(prefixes); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func openMMDB(path string) (*maxminddb.Reader, error) {
	if path == "" {
		return nil, nil
	}
	r, err := maxminddb.Open(path)
	if err == nil {
		return r, nil
	}
	var cause *os.PathError
	if errors.As(err, &cause) {
		return nil, fmt.Errorf("%s: cannot be opened: %w", path, cause.Err)
	}
	return nil, fmt.Errorf("%s: not a usable MMDB file (%s); download it again", path, firstLine(err))
}

func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// Close frees the files.
func (p *Places) Close() {
	for _, r := range []*maxminddb.Reader{p.asn, p.geo} {
		if r != nil {
			_ = r.Close() // only read from
		}
	}
}

// Err returns the first thing that went wrong in a look-up: a damaged file shows
// only where it is damaged.
func (p *Places) Err() error { return p.err }

// knowsAS and knowsPlaces say what the files can answer.
func (p *Places) knowsAS() bool     { return p != nil && (p.asn != nil || len(p.table) > 0) }
func (p *Places) knowsPlaces() bool { return p != nil && (p.geo != nil || len(p.table) > 0) }

type asnRecord struct {
	Number uint32 `maxminddb:"autonomous_system_number"`
	Org    string `maxminddb:"autonomous_system_organization"`
}

type geoRecord struct {
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Registered struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"registered_country"`
	City struct {
		Names struct {
			English string `maxminddb:"en"`
		} `maxminddb:"names"`
	} `maxminddb:"city"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
}

// Lookup says what is known of an address. The table comes before the MMDB
// files: the user wrote it.
func (p *Places) Lookup(a netip.Addr) Place {
	var place Place
	if p == nil {
		return place
	}
	if p.asn != nil {
		var r asnRecord
		if err := p.asn.Lookup(a).Decode(&r); err != nil {
			p.fail(p.asnFile, err)
		}
		place.ASN, place.Org = r.Number, r.Org
	}
	if p.geo != nil {
		p.locate(a, &place)
	}
	if t, ok := p.entry(a); ok {
		place.overlay(&t)
	}
	return place
}

func (p *Places) fail(file string, err error) {
	if p.err == nil {
		p.err = fmt.Errorf("%s: damaged MMDB file (%s); download it again", file, firstLine(err))
	}
}

func (p *Places) locate(a netip.Addr, place *Place) {
	var r geoRecord
	if err := p.geo.Lookup(a).Decode(&r); err != nil {
		p.fail(p.geoFile, err)
		return
	}
	place.Country, place.City = r.Country.Code, r.City.Names.English
	if place.Country == "" {
		place.Country = r.Registered.Code
	}
	if r.Location.Latitude != nil && r.Location.Longitude != nil {
		if at := (Position{*r.Location.Latitude, *r.Location.Longitude}); at.valid() {
			place.At = &at
		}
	}
}

func (p *Place) overlay(t *Place) {
	if t.ASN != 0 {
		p.ASN, p.Org = t.ASN, t.Org
	}
	if t.Country != "" {
		p.Country = t.Country
	}
	if t.City != "" || t.At != nil {
		p.City, p.At = t.City, t.At
	}
}

// entry returns the longest prefix of the table that holds a.
func (p *Places) entry(a netip.Addr) (Place, bool) {
	for _, n := range p.lengths {
		bits := n
		if a.Is4() {
			if bits -= 96; bits < 0 {
				break
			}
		}
		prefix, err := a.Prefix(min(bits, a.BitLen()))
		if err != nil {
			continue
		}
		if t, ok := p.table[prefix]; ok {
			return t, true
		}
	}
	return Place{}, false
}

// columns of a prefix table by the names that people give them.
var columns = map[string]string{
	"prefix": "prefix", "network": "prefix", "cidr": "prefix",
	"asn": "asn", "as": "asn", "autonomous_system_number": "asn",
	"org": "org", "organisation": "org", "organization": "org", "as_name": "org", "autonomous_system_organization": "org",
	"country": "country", "country_code": "country", "country_iso_code": "country",
	"city": "city", "city_name": "city",
	"lat": "lat", "latitude": "lat", "lon": "lon", "longitude": "lon",
}

const mostPrefixes = 2_000_000

// readTable reads a CSV whose first line names its columns; prefix is the one
// that must be there.
func (p *Places) readTable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fileError(path, "cannot be opened", err)
	}
	defer func() { _ = f.Close() }() // only read from
	in := csv.NewReader(f)
	in.ReuseRecord = true
	in.TrimLeadingSpace = true
	in.Comment = '#'
	head, err := in.Read()
	if err != nil {
		return fmt.Errorf("%s:1: expected a line of column names such as prefix,asn,org,country: %s", path, firstLine(err))
	}
	at := map[string]int{}
	for i, name := range head {
		if c, ok := columns[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))]; ok {
			at[c] = i
		}
	}
	if _, ok := at["prefix"]; !ok {
		return fmt.Errorf("%s:1: no column \"prefix\"; the first line names the columns: prefix, asn, org, country, city, latitude, longitude", path)
	}
	p.table = map[netip.Prefix]Place{}
	var seen [129]bool
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return csvError(path, err)
		}
		line, _ := in.FieldPos(0)
		prefix, place, err := tableRow(row, at)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
		if len(p.table) >= mostPrefixes {
			return fmt.Errorf("%s:%d: more than %d prefixes; make an MMDB file of them", path, line, mostPrefixes)
		}
		p.table[prefix] = place
		n := prefix.Bits()
		if prefix.Addr().Is4() {
			n += 96
		}
		seen[n] = true
	}
	for n := 128; n >= 0; n-- {
		if seen[n] {
			p.lengths = append(p.lengths, n)
		}
	}
	return nil
}

// csvError puts the line of a CSV error where the file's name is.
func csvError(path string, err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("%s:%d: %w", path, parse.Line, parse.Err)
	}
	return fileError(path, "cannot be read", err)
}

func tableRow(row []string, at map[string]int) (prefix netip.Prefix, place Place, err error) {
	get := func(c string) string {
		if i, ok := at[c]; ok {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	prefix, err = netip.ParsePrefix(get("prefix"))
	if err != nil || prefix.Addr().Is4In6() {
		return prefix, place, fmt.Errorf("%q is no prefix such as 192.0.2.0/24", get("prefix"))
	}
	place.Org, place.City = strings.Clone(get("org")), strings.Clone(get("city"))
	place.Country = strings.Clone(strings.ToUpper(get("country")))
	if text := strings.TrimPrefix(strings.ToUpper(get("asn")), "AS"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return prefix, place, fmt.Errorf("%q is no AS number", get("asn"))
		}
		place.ASN = uint32(n)
	}
	if get("lat") != "" || get("lon") != "" {
		pos, err := ParsePosition(get("lat") + "," + get("lon"))
		if err != nil {
			return prefix, place, err
		}
		place.At = &pos
	}
	return prefix.Masked(), place, nil
}

// Totals is what an AS has of its own, IPv4.
type Totals struct {
	Addresses uint64 `json:"addresses"`
	Slash24   uint64 `json:"slash_24"`
	Slash16   uint64 `json:"slash_16"`
	Slash8    uint64 `json:"slash_8"`
}

// totals adds up the IPv4 networks of the ASes asked for.
func (p *Places) totals(wanted map[uint32]bool) map[uint32]Totals {
	out := map[uint32]*counting{}
	for n := range wanted {
		out[n] = &counting{}
	}
	if p == nil || len(wanted) == 0 {
		return nil
	}
	if p.asn != nil {
		for result := range p.asn.NetworksWithin(netip.MustParsePrefix("0.0.0.0/0")) {
			var r asnRecord
			if err := result.Decode(&r); err != nil {
				p.fail(p.asnFile, err)
				break
			}
			if c := out[r.Number]; c != nil {
				c.add(result.Prefix())
			}
		}
	}
	for prefix, place := range p.table {
		if c := out[place.ASN]; c != nil && p.asn == nil && prefix.Addr().Is4() && !p.covered(prefix) {
			c.add(prefix)
		}
	}
	totals := map[uint32]Totals{}
	for n, c := range out {
		if c.Addresses > 0 {
			totals[n] = c.result()
		}
	}
	return totals
}

// covered reports whether a shorter prefix of the table, of the same AS, holds
// this one.
func (p *Places) covered(prefix netip.Prefix) bool {
	for _, n := range p.lengths {
		if bits := n - 96; bits >= 0 && bits < prefix.Bits() {
			outer, _ := prefix.Addr().Prefix(bits)
			if t, ok := p.table[outer]; ok && t.ASN == p.table[prefix].ASN {
				return true
			}
		}
	}
	return false
}

// counting counts prefixes of three lengths, which may come split.
type counting struct {
	Totals
	small [3]map[netip.Prefix]struct{}
}

var lengths = [3]int{24, 16, 8}

func (c *counting) add(p netip.Prefix) {
	if !p.Addr().Is4() {
		return
	}
	c.Addresses += 1 << (32 - p.Bits())
	whole := [3]*uint64{&c.Slash24, &c.Slash16, &c.Slash8}
	for i, n := range lengths {
		if p.Bits() <= n {
			*whole[i] += 1 << (n - p.Bits())
			continue
		}
		if c.small[i] == nil {
			c.small[i] = map[netip.Prefix]struct{}{}
		}
		outer, _ := p.Addr().Prefix(n)
		c.small[i][outer] = struct{}{}
	}
}

func (c *counting) result() Totals {
	t := c.Totals
	t.Slash24 += uint64(len(c.small[0]))
	t.Slash16 += uint64(len(c.small[1]))
	t.Slash8 += uint64(len(c.small[2]))
	return t
}

// ones is the number of bins in a mask.
func ones(mask uint64) int { return bits.OnesCount64(mask) }
