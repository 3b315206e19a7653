package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxScrapes is how many scrapes are worked at the same time: two
	// Prometheus servers and a person. Others are told to come back.
	maxScrapes = 4
	// scrapeTimeout is Prometheus' own default: nobody waits for longer.
	scrapeTimeout = 10 * time.Second
)

// Handler serves c, the Go runtime and the process, from a registry of its own,
// in the format that the client asks for: text, OpenMetrics or protobuf (which
// alone carries native histograms). It panics if c is not fit to be registered.
//
// A series that cannot be written is left out, logged, and counted in
// promhttp_metric_handler_errors_total: what is left of the page is worth most
// when something is wrong. A nil log drops what would be logged.
func Handler(c *Collector, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		Registry:            r,
		ErrorHandling:       promhttp.ContinueOnError,
		ErrorLog:            errorLog{log},
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
		// Half a megabyte every 15 s is little for a network, and packing it a
		// third of what a scrape costs the processors that packets need.
		DisableCompression: true,
		// A series `_created` for every counter would double the page.
		EnableOpenMetricsTextCreatedSamples: false,
	})
}

// errorLog writes the library's errors, which have several lines, as one.
type errorLog struct{ log *slog.Logger }

// Println is part of promhttp.Logger.
func (l errorLog) Println(v ...any) {
	l.log.Error("metrics page incomplete", "error", strings.Join(strings.FieldsFunc(fmt.Sprintln(v...), isNewline), "; "))
}

func isNewline(r rune) bool { return r == '\n' || r == '\r' }
