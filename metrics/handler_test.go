package metrics

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"github.com/nametap/nametap/probe"
)

const (
	acceptText  = "text/plain;version=0.0.4"
	acceptOM    = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
	acceptProto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

func get(t *testing.T, h http.Handler, accept string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	return rec
}

// decodePage parses a page in the format that its header says.
func decodePage(t *testing.T, rec *httptest.ResponseRecorder) map[string]*dto.MetricFamily {
	t.Helper()
	dec := expfmt.NewDecoder(rec.Body, expfmt.ResponseFormat(rec.Header()))
	families := map[string]*dto.MetricFamily{}
	for {
		f := &dto.MetricFamily{}
		err := dec.Decode(f)
		if errors.Is(err, io.EOF) {
			return families
		}
		if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
}

// TestProtobuf: the page says what the collector says, native buckets included.
func TestProtobuf(t *testing.T) {
	c := fixed(distinct())
	page := decodePage(t, get(t, Handler(c, nil), acceptProto))
	natives := 0
	for _, want := range gather(t, c) {
		got := page[want.GetName()]
		if !proto.Equal(got, want) {
			t.Errorf("%s differs\n got %v\nwant %v", want.GetName(), got, want)
		}
		for _, m := range got.GetMetric() {
			if h := m.Histogram; h != nil && h.GetSchema() == 3 && len(h.PositiveSpan) > 0 && len(h.Bucket) > 0 {
				natives++
			}
		}
	}
	if want := 2 * 7; natives != want {
		t.Errorf("%d histograms with native and classic buckets, want %d", natives, want)
	}
}

// TestText: the page says what the collector says, but for native buckets.
func TestText(t *testing.T) {
	c := fixed(distinct())
	rec := get(t, Handler(c, nil), acceptText)
	if strings.Contains(rec.Body.String(), "_created") {
		t.Error("the text format has _created series")
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	page, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := samples(t, classicOnly(gather(t, c)))
	var families []*dto.MetricFamily
	for name, f := range page {
		if strings.HasPrefix(name, namespace) {
			families = append(families, f)
		}
	}
	got := samples(t, classicOnly(families))
	if len(got) != len(want) {
		t.Errorf("%d samples, want %d", len(got), len(want))
	}
	for key, v := range want {
		if got[key] != v {
			t.Errorf("%s = %g, want %g", key, got[key], v)
		}
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds", "promhttp_metric_handler_errors_total"} {
		if page[name] == nil {
			t.Errorf("%s is not on the page", name)
		}
	}
}

// classicOnly takes away what the text format cannot say.
func classicOnly(families []*dto.MetricFamily) []*dto.MetricFamily {
	for _, f := range families {
		for _, m := range f.Metric {
			h := m.Histogram
			if h == nil {
				continue
			}
			if n := len(h.Bucket); h.Bucket[n-1].GetUpperBound() > 1e300 {
				h.Bucket = h.Bucket[:n-1]
			}
			m.Histogram = &dto.Histogram{SampleCount: h.SampleCount, SampleSum: h.SampleSum, Bucket: h.Bucket}
		}
	}
	return families
}

var sampleLine = regexp.MustCompile(`^([a-z_]+)(\{.*\})? (\S+)$`)

// TestOpenMetrics: every series of the text format is there with the same value,
// its counters are declared without _total, and it ends as it must.
func TestOpenMetrics(t *testing.T) {
	h := Handler(fixed(distinct()), nil)
	rec := get(t, h, acceptOM)
	if got := rec.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Fatalf("Content-Type is %s", got)
	}
	page := rec.Body.String()
	if !strings.HasSuffix(page, "\n# EOF\n") {
		t.Error("the page does not end with # EOF")
	}
	if strings.Contains(page, "_created") {
		t.Error("the page has _created series")
	}
	if !strings.Contains(page, "\n# TYPE nametap_uplink_bytes counter\n") {
		t.Error("a counter is not declared without _total")
	}
	got := lines(t, page)
	want := lines(t, get(t, h, acceptText).Body.String())
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%d samples, %d in the text format", len(got), len(want))
	}
	for key, v := range want {
		if w, ok := got[key]; !ok || w != v {
			t.Errorf("%s = %g, want %g", key, w, v)
		}
	}
}

// lines returns our samples of a text page, with le written in one way.
func lines(t *testing.T, page string) map[string]float64 {
	t.Helper()
	le := regexp.MustCompile(`le="([^"]+)"`)
	all := map[string]float64{}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, namespace) {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("not a sample: %s", line)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		labels := le.ReplaceAllStringFunc(m[2], func(s string) string {
			bound, err := strconv.ParseFloat(le.FindStringSubmatch(s)[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return strconv.FormatFloat(bound, 'g', -1, 64)
		})
		all[m[1]+labels] = v
	}
	return all
}

// TestPlain: a page is not packed, whatever the client offers.
func TestPlain(t *testing.T) {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept-Encoding", "gzip, zstd")
	rec := httptest.NewRecorder()
	Handler(fixed(distinct()), nil).ServeHTTP(rec, req)
	if c := rec.Header().Get("Content-Encoding"); c != "" || !bytes.Contains(rec.Body.Bytes(), []byte("nametap_build_info{")) {
		t.Errorf("encoding %q, %d bytes", c, rec.Body.Len())
	}
}

// TestScrapeLimit: while some wait for the engine, further scrapes are turned
// away rather than piled up.
func TestScrapeLimit(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := zero("other/other")
	h := Handler(New(func() *probe.Snapshot {
		entered <- struct{}{}
		<-leave
		return s
	}, Config{}), nil)
	done := make(chan int)
	for range maxScrapes {
		go func() {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			done <- rec.Code
		}()
		<-entered
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d for one scrape too many, want 503", rec.Code)
	}
	close(leave)
	for range maxScrapes {
		if code := <-done; code != http.StatusOK {
			t.Errorf("status %d for a scrape that waited, want 200", code)
		}
	}
}

// TestIncompletePage: a series that cannot be written is logged on one line and
// counted; the rest is served.
func TestIncompletePage(t *testing.T) {
	var log bytes.Buffer
	s := zero("other/other", "other/other") // one series twice
	h := Handler(fixed(s), slog.New(slog.NewTextHandler(&log, nil)))
	get(t, h, acceptText)
	page := get(t, h, acceptText).Body.String()
	if !strings.Contains(page, "nametap_build_info{") {
		t.Error("the rest of the page is not there")
	}
	if !strings.Contains(page, `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Error("the error of the first scrape is not counted")
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "collected before") || strings.Contains(log.String(), `\n`) {
		t.Errorf("%d lines in the log, want one for each scrape:\n%.400s", n, log.String())
	}
}
