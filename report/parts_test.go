package report

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

func TestHistogramAgainstSorting(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 7))
		var h, left, right histogram
		var all []float64
		for i := range 20000 {
			v := 1000 * math.Exp(3*r.NormFloat64())
			all = append(all, v)
			h.add(v)
			if i%3 == 0 {
				left.add(v)
			} else {
				right.add(v)
			}
		}
		slices.Sort(all)
		left.merge(&right)
		for _, p := range []float64{0.001, 0.05, 0.25, 0.5, 0.9, 0.99, 0.999} {
			want := all[int(math.Ceil(p*float64(len(all))))-1]
			if got := h.quantile(p); math.Abs(got/want-1) > 0.012 {
				t.Errorf("quantile %v: %v, want %v", p, got, want)
			}
			if left.quantile(p) != h.quantile(p) {
				t.Errorf("quantile %v of the sum differs", p)
			}
			if got := h.below(want); math.Abs(got-p) > 0.01 {
				t.Errorf("below %v: %v, want %v", want, got, p)
			}
		}
		c := h.cdf()
		if len(c.X) > 2*curvePoints+10 || len(c.X) < 50 || !slices.IsSorted(c.X) || !slices.IsSorted(c.Y) || c.Y[len(c.Y)-1] != 1 {
			t.Errorf("curve of %d points, last %v", len(c.X), c.Y[len(c.Y)-1])
		}
		for i, x := range c.X {
			want := float64(sortedBelow(all, x)) / float64(len(all))
			if math.Abs(want-c.Y[i]) > 0.012 {
				t.Errorf("curve at %v: %v, want %v", x, c.Y[i], want)
			}
		}
	}
}

func sortedBelow(v []float64, x float64) int {
	n, _ := slices.BinarySearch(v, math.Nextafter(x, math.Inf(1)))
	return n
}

func TestHistogramEnds(t *testing.T) {
	var h histogram
	if !math.IsNaN(h.quantile(0.5)) || len(h.cdf().X) != 0 || len(h.steps()) != 0 {
		t.Error("an empty histogram has something")
	}
	for _, v := range []float64{0, 0, 1e-9, math.NaN(), -1, 1e300, math.MaxFloat64} {
		h.add(v)
	}
	if h.count != 5 || h.quantile(0.5) > leastValue || h.quantile(1) <= 0 {
		t.Errorf("count %d, median %v, last %v", h.count, h.quantile(0.5), h.quantile(1))
	}
}

func TestDistinct(t *testing.T) {
	for _, n := range []int{0, 1, 500, 512, 513, 100_000} {
		a, b := newDistinct(512, fine), newDistinct(512, fine)
		for i := range n {
			x := mix64(uint64(i))
			a.add(x)
			a.add(x)
			if i%2 == 0 {
				b.add(x)
			}
		}
		b.merge(a)
		for _, d := range []*distinct{a, b} {
			got, exact := d.count()
			if n <= 512 && (!exact || got != uint64(n)) || n > 512 && (exact || math.Abs(float64(got)/float64(n)-1) > 0.04) {
				t.Errorf("%d: counted %d, exact %v", n, got, exact)
			}
		}
	}
}

// TestWhen: the span is told in days where it is long, and with the year that it ends in.
func TestWhen(t *testing.T) {
	for _, tt := range []struct {
		first, last string
		seconds     float64
		want        string
	}{
		{"2014-02-22T17:30:00Z", "2014-02-22T19:30:00Z", 7200, "Saturday 22 February 2014, 17:30 to 22 February, 19:30 UTC · 2 h · from 1 capture"},
		{"2013-12-31T23:00:00Z", "2014-01-01T01:00:00Z", 7200, "Tuesday 31 December 2013, 23:00 to 1 January 2014, 01:00 UTC · 2 h · from 1 capture"},
		{"2006-01-18T03:30:00Z", "2014-02-18T03:30:00Z", 2953 * 86400, "Wednesday 18 January 2006, 03:30 to 18 February 2014, 03:30 UTC · 2953 d · from 1 capture"},
	} {
		r := Report{First: tt.first, Last: tt.last, Seconds: tt.seconds, Inputs: Inputs{Captures: 1}}
		if got := r.when(); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// TestChurnEdges: where the input begins and ends everybody is seen for the first or
// the last time; how far that reaches, the absences tell.
func TestChurnEdges(t *testing.T) {
	const hour = int64(time.Hour)
	start := int64(1393027200e9) + hour/2
	every := func(hours ...int64) (starts []int64) {
		for _, h := range hours {
			starts = append(starts, start+h*hour)
		}
		return starts
	}
	var always, third []int64
	for h := range int64(24) {
		always = append(always, start+h*hour)
	}
	for h := int64(0); h < 24; h += 3 {
		third = append(third, start+h*hour)
	}
	for _, tt := range []struct {
		name     string
		servers  [][]int64 // when each address is met
		away     time.Duration
		from, to int
		told     bool
	}{
		{"always there", [][]int64{always, always}, time.Hour, 2, 21, true},
		{"every three hours", [][]int64{always, third}, 3 * time.Hour, 4, 19, true},
		{"one that stays away", append(slices.Repeat([][]int64{third}, 19), every(0, 23)), 3 * time.Hour, 4, 19, true},
		{"two that stay away", append(slices.Repeat([][]int64{third}, 19), every(0, 23), every(0, 23)), 23 * time.Hour, 24, -1, false},
		{"nobody comes back", [][]int64{every(0), every(23)}, 0, 1, 22, true},
		{"short", [][]int64{always[:4], always[:4]}, time.Hour, 4, -1, false},
		{"nothing", nil, 0, 0, -1, false},
	} {
		c := NewCollector(Options{})
		for i, starts := range tt.servers {
			for _, at := range starts {
				r := Record{
					Start: at, End: at + 1e9, App: "whatsapp", Class: "chat", Evidence: "none",
					Server: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), Subscriber: netip.MustParseAddr("10.0.0.1"),
				}
				c.Add(&r)
			}
		}
		result := c.Report()
		o := &result.Hosting.Churn
		if o.Away != tt.away.Seconds() || o.FreshFrom != tt.from || o.GoneTo != tt.to || o.told() != tt.told {
			t.Errorf("%s: away %v s, %d … %d of %d, told %v; want %v, %d … %d", tt.name, o.Away, o.FreshFrom, o.GoneTo, len(o.Seen), o.told(), tt.away, tt.from, tt.to)
		}
		var page strings.Builder
		if err := result.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(page.String(), "Coming and going") != tt.told {
			t.Errorf("%s: the page does not agree", tt.name)
		}
	}
}

// TestChurnFigure: the lines end where the edges of the input begin.
func TestChurnFigure(t *testing.T) {
	o := &Churn{
		Times: Times{first: 1393027200e9, Width: 3600}, Away: 7200, FreshFrom: 3, GoneTo: 4,
		Seen: []int{9, 9, 9, 9, 9, 9, 9, 9}, Fresh: []int{9, 8, 7, 1, 1, 1, 1, 1}, Gone: []int{2, 2, 2, 2, 2, 7, 8, 9},
	}
	f := (&drawer{}).churn(o)
	for i, want := range []string{"9 9 9 9 9 9 9 9 9", "- - - 1 1 1 1 1 1", "2 2 2 2 2 - - - -"} {
		var got []string
		for _, y := range f.Data.Series[i].Y {
			if y == nil {
				got = append(got, "-")
				continue
			}
			got = append(got, fmt.Sprint(*y))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", f.Data.Series[i].Name, got, want)
		}
	}
	if !strings.Contains(f.Caption, "at most 2 h") {
		t.Errorf("the caption does not say what is left out: %s", f.Caption)
	}
}

// TestTimelineOrder: bins and presence do not depend on the order of what comes.
func TestTimelineOrder(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		type span struct {
			from, to int64
			n        uint64
		}
		var spans []span
		base := int64(1393027200e9)
		for range 200 {
			from := base + r.Int64N(int64(40*24*time.Hour))
			spans = append(spans, span{from, from + r.Int64N(int64(3*time.Hour)), r.Uint64N(1e12)})
		}
		run := func() (string, uint64) {
			l := newTimeline(time.Second, displayBins, func(into, from *uint64) { *into += *from })
			var masks [8]uint64
			p := newPresence(func(fn func(*uint64)) {
				for i := range masks {
					fn(&masks[i])
				}
			})
			for _, s := range spans {
				l.reach(s.from, s.to)
				l.span(s.from, s.to, func(b *uint64, from, to int64) { *b += part(s.n, s.from, s.to, from, to) })
				m := p.mask(s.from, s.to)
				masks[s.n%8] |= m
			}
			sum := uint64(0)
			_, row := l.row()
			text := fmt.Sprint(l.width, p.width, p.base, p.high, masks)
			for _, b := range row {
				if b != nil {
					sum += *b
					text += fmt.Sprint(" ", *b)
				}
			}
			return text, sum
		}
		want, sum := run()
		total := uint64(0)
		for _, s := range spans {
			total += s.n
		}
		if sum != total {
			t.Fatalf("seed %d: bins hold %d of %d", seed, sum, total)
		}
		for range 3 {
			r.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
			if got, _ := run(); got != want {
				t.Fatalf("seed %d: another order, another result\n%s\n%s", seed, got, want)
			}
		}
	}
}

// TestFloor: the study's own figures.
func TestFloor(t *testing.T) {
	vienna := Position{48.21, 16.37}
	for _, c := range []struct {
		at   Position
		want float64
	}{{Position{29.76, -95.37}, 0.090}, {Position{32.78, -96.80}, 0.088}, {vienna, 0}} {
		if got := vienna.Floor(c.at); math.Abs(got-c.want) > 0.0006 {
			t.Errorf("floor %v, want %v", got, c.want)
		}
	}
	var names []string
	for _, c := range candidates(vienna, 0.106) {
		names = append(names, c.City)
	}
	if !slices.Contains(names, "Houston") || !slices.Contains(names, "Dallas") || slices.Contains(names, "Sydney") || slices.Contains(names, "London") {
		t.Errorf("106 ms from Vienna: %v", names)
	}
	for _, bad := range []string{"", "1", "1,2,3", "91,0", "0,181", "x,y", "NaN,0"} {
		if _, err := ParsePosition(bad); err == nil {
			t.Errorf("%q is a position", bad)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// database makes an MMDB file.
func database(t *testing.T, kind string, entries map[string]mmdbtype.Map) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, IncludeReservedNetworks: true, BuildEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, value := range entries {
		_, network, err := net.ParseCIDR(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(network, value); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), kind+".mmdb")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func asEntry(n uint32, org string) mmdbtype.Map {
	return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(n), "autonomous_system_organization": mmdbtype.String(org)}
}

func cityEntry(country, name string, lat, lon float64) mmdbtype.Map {
	return mmdbtype.Map{
		"country":  mmdbtype.Map{"iso_code": mmdbtype.String(country)},
		"city":     mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(name)}},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
	}
}

func TestPlaces(t *testing.T) {
	asn := database(t, "ASN", map[string]mmdbtype.Map{
		"5.10.0.0/16": asEntry(36351, "SoftLayer"), "50.22.0.0/15": asEntry(36351, "SoftLayer"), "50.22.4.0/25": asEntry(36351, "SoftLayer"),
		"8.8.8.0/24": asEntry(15169, "Google"), "2001:db8::/32": asEntry(64500, "Docs"),
	})
	geo := database(t, "City", map[string]mmdbtype.Map{
		"5.10.0.0/16": cityEntry("US", "Houston", 29.76, -95.37), "8.8.8.0/24": {"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("US")}},
	})
	table := write(t, "p.csv", "network,as_name,ASN,Country,City,lat,lon\n# a comment\n5.10.1.0/24,Own,AS64501,at,Vienna,48.21,16.37\n2001:db8:1::/48,v6,64502,de,,,\n")
	p, err := OpenPlaces(asn, geo, table)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		addr string
		want Place
	}{
		{"5.10.2.3", Place{36351, "SoftLayer", "US", "Houston", &Position{29.76, -95.37}}},
		{"5.10.1.3", Place{64501, "Own", "AT", "Vienna", &Position{48.21, 16.37}}},
		{"8.8.8.8", Place{15169, "Google", "US", "", nil}},
		{"2001:db8:1::5", Place{64502, "v6", "DE", "", nil}},
		{"2001:db8:2::5", Place{64500, "Docs", "", "", nil}},
		{"9.9.9.9", Place{}},
	} {
		got := p.Lookup(netip.MustParseAddr(c.addr))
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(c.want)
		if string(a) != string(b) {
			t.Errorf("%s: %s, want %s", c.addr, a, b)
		}
	}
	totals := p.totals(map[uint32]bool{36351: true, 15169: true, 7: true})
	// 5.10/16 and 50.22/15: 256 + 512 /24, three /16, two /8.
	if got := totals[36351]; got != (Totals{65536 + 131072, 768, 3, 2}) {
		t.Errorf("SoftLayer has %+v", got)
	}
	if got := totals[15169]; got != (Totals{256, 1, 1, 1}) {
		t.Errorf("Google has %+v", got)
	}
	if _, ok := totals[7]; ok {
		t.Error("an AS that is not there has addresses")
	}
	if p.Err() != nil {
		t.Error(p.Err())
	}
}

func TestBrokenPlaces(t *testing.T) {
	good, err := os.ReadFile(database(t, "ASN", map[string]mmdbtype.Map{"5.10.0.0/16": asEntry(36351, "SoftLayer")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, mmdb, table, want string }{
		{"missing", "nowhere.mmdb", "", "cannot be opened"},
		{"empty", write(t, "a", ""), "", "not a usable MMDB file"},
		{"text", write(t, "a", "hello\nthere\n"), "", "not a usable MMDB file"},
		{"cut", write(t, "a", string(good[:len(good)/2])), "", "not a usable MMDB file"},
		{"no table", "", "nowhere.csv", "cannot be opened"},
		{"no header", "", write(t, "p", "5.10.0.0/16,1\n"), ":1: no column \"prefix\""},
		{"empty table", "", write(t, "p", ""), ":1: expected a line of column names"},
		{"bad prefix", "", write(t, "p", "prefix,asn\n5.10.0.0/16,1\n5.10.0.0,1\n"), ":3: \"5.10.0.0\" is no prefix"},
		{"bad number", "", write(t, "p", "prefix,asn\n5.10.0.0/16,many\n"), ":2: \"many\" is no AS number"},
		{"bad place", "", write(t, "p", "prefix,lat,lon\n5.10.0.0/16,100,0\n"), ":2: \"100,0\" is no position"},
		{"short row", "", write(t, "p", "prefix,asn\n5.10.0.0/16\n"), ":2: wrong number of fields"},
		{"quote", "", write(t, "p", "prefix,asn\n\"5.10.0.0/16,1\n"), ":"},
	} {
		_, err := OpenPlaces(c.mmdb, "", c.table)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		text, want string
		n          int
	}{
		{"time,posts\n2014-02-22T17:30:00Z,3\n2014-02-22 17:31,4\n2014-02-22 17:32:10,5\n1393090000,6\n", "", 4},
		{"2014-02-22T17:30:00Z,3\n", "", 1},
		{"", "no events", 0},
		{"time,count\n", "no events", 0},
		{"time,count\nyesterday,3\n", ":2: \"yesterday\" is no time", 0},
		{"2014-02-22T17:30:00Z,many\n", ":1: \"many\" is no count", 0},
		{"2014-02-22T17:30:00Z,3\n2014-02-22T17:31:00Z,-3\n", ":2: \"-3\" is no count", 0},
		{"2014-02-22T17:30:00Z\n", ":1: expected two columns", 0},
	} {
		o, err := ReadEvents(write(t, "e.csv", c.text))
		if c.want == "" {
			if err != nil || len(o.Times) != c.n || !slices.IsSorted(o.Times) {
				t.Errorf("%q: %v", c.text, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	if _, err := ReadEvents("nowhere.csv"); err == nil {
		t.Error("no file, no error")
	}
}

// ar makes an autocorrelated series.
func ar(r *rand.Rand, n int, phi float64) []float64 {
	out := make([]float64, n)
	x := 0.0
	for i := range out {
		x = phi*x + r.NormFloat64()
		out[i] = x
	}
	return out
}

// TestCorrelationIsHonest: unrelated series that are smooth seem to agree at some
// lag; the interval must nearly always hold 0 all the same. Related ones are
// found at their lag.
func TestCorrelationIsHonest(t *testing.T) {
	const runs = 200
	for _, phi := range []float64{0, 0.5, 0.9} {
		wrong := 0
		for seed := range uint64(runs) {
			r := rand.New(rand.NewPCG(seed, uint64(phi*100)))
			c, ok := correlate("x", ar(r, 240, phi), ar(r, 240, phi), 10*time.Minute)
			if !ok {
				t.Fatal("no correlation")
			}
			if c.Low > 0 || c.High < 0 {
				wrong++
			}
		}
		t.Logf("phi %.1f: %d of %d intervals without 0", phi, wrong, runs)
		if wrong > runs*8/100 {
			t.Errorf("phi %.1f: %d of %d intervals of unrelated series do not hold 0", phi, wrong, runs)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	x := ar(r, 300, 0.7)
	y := make([]float64, len(x))
	for i := range y {
		y[i] = 0.3 * r.NormFloat64()
		if i >= 4 {
			y[i] += x[i-4]
		}
	}
	c, _ := correlate("x", x, y, 10*time.Minute)
	if c.Lag != 2400 || c.R < 0.9 || c.Low < 0.7 || c.High > 1 {
		t.Errorf("lag %v, r %v in %v … %v", c.Lag, c.R, c.Low, c.High)
	}
	if _, ok := correlate("x", x[:5], y[:5], time.Minute); ok {
		t.Error("five bins correlate")
	}
	if _, ok := correlate("x", make([]float64, 100), y[:100], time.Minute); ok {
		t.Error("a constant correlates")
	}
}
