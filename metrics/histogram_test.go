package metrics

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/nametap/nametap/flows"
)

// growth is the factor between bucket bounds of each schema, with a little on
// top: the client library takes the largest that does not exceed what it is given.
var growth = map[int32]float64{
	3: math.Exp2(1.0/8) * 1.001,
	2: math.Exp2(1.0/4) * 1.001,
	1: math.Exp2(1.0/2) * 1.001,
}

// oracle is the client library's own histogram with the same buckets.
func oracle(b *bounds, schema int32) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", Help: "x", Buckets: b.upper,
		NativeHistogramBucketFactor:  growth[schema],
		NativeHistogramZeroThreshold: zeroThreshold,
	})
}

func write(t *testing.T, m prometheus.Metric) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	out.Histogram.CreatedTimestamp = nil // of the wall clock; ours has none
	return out.Histogram
}

func ours(t *testing.T, b *bounds, h *flows.Histogram) *dto.Histogram {
	t.Helper()
	return write(t, &histogram{desc: prometheus.NewDesc("x", "x", nil, nil), bounds: b, of: h})
}

func same(t *testing.T, got, want *dto.Histogram) {
	t.Helper()
	// Ours adds up in steps of 2^-20.
	if n := float64(want.GetSampleCount()); math.Abs(got.GetSampleSum()-want.GetSampleSum()) <= n*0x1p-21+math.Abs(want.GetSampleSum())*1e-12 {
		got = proto.CloneOf(got)
		got.SampleSum = want.SampleSum
	}
	if !proto.Equal(got, want) {
		t.Errorf("the client library's histogram differs\n got %s\nwant %s", prototext.Format(got), prototext.Format(want))
	}
}

// edges are values just below and just above all bounds of fine buckets. A bound
// that is no power of two is irrational, and two roundings of it may differ in
// the last bit; the distance is some hundred times that.
func edges() []float64 {
	var values []float64
	for i := range flows.HistogramBuckets {
		v := math.Exp2(float64(flows.HistogramIndex(i)) / 8)
		values = append(values, v*(1-1e-13))
		if i < flows.HistogramBuckets-1 {
			values = append(values, v*(1+1e-13))
		}
	}
	return values
}

// powers are all powers of two that are told apart, and their neighbours.
func powers() []float64 {
	var values []float64
	for e := flows.HistogramMin; e < flows.HistogramMax; e++ {
		v := math.Ldexp(1, e)
		values = append(values, math.Nextafter(v, 0), v, math.Nextafter(v, math.Inf(1)))
	}
	return values
}

func random(n int, f func(*rand.Rand) float64) []float64 {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	values := make([]float64, n)
	for i := range values {
		values[i] = f(rng)
	}
	return values
}

func TestHistogramOracle(t *testing.T) {
	all := map[string]*bounds{"rtt": roundTripBounds, "duration": durationBounds, "size": sizeBounds, "throughput": throughputBounds}
	tests := []struct {
		name   string
		values []float64
	}{
		{"nothing", nil},
		{"zero", []float64{0}},
		{"up to the zero threshold", []float64{0, 1e-9, math.Nextafter(zeroThreshold, 0), zeroThreshold, math.Nextafter(zeroThreshold, 1)}},
		{"one", []float64{1}},
		{"gaps of none to four buckets", []float64{1, 1.1, 1.25, 1.6, 2.3, 3.5}},
		{"the largest", []float64{1 << 36}},
		{"round trips", random(3000, func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64() - 3) })},
		{"whole microseconds", random(3000, func(r *rand.Rand) float64 { return float64(r.IntN(3000)) * 1e-6 })},
		{"durations", random(100, func(r *rand.Rand) float64 { return float64(r.IntN(1e10)) * 1e-9 })},
		{"sizes", random(3000, func(r *rand.Rand) float64 { return math.Floor(math.Exp(r.NormFloat64()*1.2 + 10)) })},
		{"small sizes", random(3000, func(r *rand.Rand) float64 { return float64(r.IntN(5000)) })},
	}
	for _, tt := range tests {
		for name, b := range all {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				var h flows.Histogram
				want := oracle(b, flows.HistogramSchema)
				for _, v := range tt.values {
					h.Observe(v, 1)
					want.Observe(v)
				}
				same(t, ours(t, b, &h), write(t, want))
			})
		}
	}
}

// TestHistogramEdges holds every bound, and powers of two to the last bit, some
// buckets at a time so that the limit is not met.
func TestHistogramEdges(t *testing.T) {
	for _, values := range [][]float64{edges(), powers()} {
		for len(values) > 0 {
			some := values[:min(len(values), 3*40)]
			values = values[len(some):]
			var h flows.Histogram
			want := oracle(roundTripBounds, flows.HistogramSchema)
			for _, v := range some {
				h.Observe(v, 1)
				want.Observe(v)
			}
			same(t, ours(t, roundTripBounds, &h), write(t, want))
		}
	}
}

// TestNativeBucketLimit: a wide histogram is what the client library makes of
// the same values at a coarser schema, and no coarser than it must be.
func TestNativeBucketLimit(t *testing.T) {
	step := func(n, every int) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = math.Exp2(float64(i*every)/8-19) * 0.99
		}
		return values
	}
	tests := []struct {
		name   string
		values []float64
		schema int32
	}{
		{"at the limit", step(160, 1), 3},
		{"over it", step(161, 1), 2},
		{"gaps count", step(81, 2), 2},
		{"a gap of three does not", step(100, 4), 3},
		{"twice over it", step(400, 1), 1},
		{"all there is", edges(), 1},
		{"a few at the ends", []float64{2e-6, 6e10}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h flows.Histogram
			want := oracle(sizeBounds, tt.schema)
			for _, v := range tt.values {
				h.Observe(v, 1)
				want.Observe(v)
			}
			got := ours(t, sizeBounds, &h)
			same(t, got, write(t, want))
			if got.GetSchema() != tt.schema {
				t.Errorf("schema %d, want %d", got.GetSchema(), tt.schema)
			}
			if n := len(got.PositiveDelta); n > NativeBucketLimit {
				t.Errorf("%d buckets, more than the limit of %d", n, NativeBucketLimit)
			}
		})
	}
}

// TestSchemaOnlyFalls: a finer schema than at the scrape before would look like
// a counter reset.
func TestSchemaOnlyFalls(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		var h flows.Histogram
		last, shown := int32(flows.HistogramSchema), 0
		for range 600 {
			h.Observe(math.Exp2(rng.Float64()*58-21), 1)
			schema, _, deltas := native(&h)
			if schema > last || schema == last && len(deltas) < shown {
				t.Fatalf("schema %d with %d buckets after %d with %d", schema, len(deltas), last, shown)
			}
			last, shown = schema, len(deltas)
		}
		if last != 1 {
			t.Fatalf("schema %d at the end, want 1: the test does not reach the limit", last)
		}
	}
}

// TestBeyondTheLargest: what exceeds the fine buckets is in none of the classic
// ones, and not lost.
func TestBeyondTheLargest(t *testing.T) {
	var h flows.Histogram
	h.Observe(1<<40, 1)
	h.Observe(-1, 1)
	got := ours(t, sizeBounds, &h)
	if n := got.Bucket[len(got.Bucket)-1].GetCumulativeCount(); n != 1 {
		t.Errorf("%d observations up to 1 GiB, want 1", n)
	}
	if got.GetSampleCount() != 2 || got.GetZeroCount() != 1 || len(got.PositiveDelta) != 1 || got.PositiveDelta[0] != 1 {
		t.Errorf("count, zero bucket and last bucket are not 2, 1 and 1: %v", got)
	}
}

func TestClassicBounds(t *testing.T) {
	for name, b := range map[string]*bounds{"rtt": roundTripBounds, "duration": durationBounds, "size": sizeBounds, "throughput": throughputBounds} {
		if len(b.upper) > 14 {
			t.Errorf("%s: %d classic buckets, want at most 14", name, len(b.upper))
		}
		for i, v := range b.upper {
			if i > 0 && v <= b.upper[i-1] {
				t.Errorf("%s: bound %g does not rise", name, v)
			}
			if b.last[i] <= 0 || b.last[i] >= flows.HistogramBuckets-1 {
				t.Errorf("%s: bound %g is not one that the engine tells apart", name, v)
				continue
			}
			if exact := math.Exp2(float64(flows.HistogramIndex(b.last[i])) / 8); exact != v {
				t.Errorf("%s: bound %g is not that of fine bucket %d, %g", name, v, b.last[i], exact)
			}
		}
	}
}
