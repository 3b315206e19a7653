package atlas

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"
)

// Measurement is what is asked of RIPE Atlas: one DNS measurement a name, from
// the same probes.
type Measurement struct {
	// Names to resolve, each as an A query.
	Names []string
	// Probes is how many are asked for; they come from everywhere.
	Probes int
	// IPv6 asks for AAAA records as well.
	IPv6 bool
	// Interval in seconds between rounds; 0 for a single one.
	Interval int
}

// The most that a sane measurement has: each name from each probe costs credits.
const (
	MaxNames  = 100
	MaxProbes = 1000
)

type definition struct {
	Type             string `json:"type"`
	AF               int    `json:"af"`
	QueryClass       string `json:"query_class"`
	QueryType        string `json:"query_type"`
	QueryArgument    string `json:"query_argument"`
	UseProbeResolver bool   `json:"use_probe_resolver"`
	SetRDBit         bool   `json:"set_rd_bit"`
	IncludeAbuf      bool   `json:"include_abuf"`
	Description      string `json:"description"`
	Interval         int    `json:"interval,omitempty"`
}

type probes struct {
	Requested int    `json:"requested"`
	Type      string `json:"type"`
	Value     string `json:"value"`
}

type request struct {
	Definitions []definition `json:"definitions"`
	Probes      []probes     `json:"probes"`
	IsOneoff    bool         `json:"is_oneoff"`
}

// Write writes the measurement as the body of a POST to
// https://atlas.ripe.net/api/v2/measurements/.
func (m *Measurement) Write(w io.Writer) error {
	if err := m.check(); err != nil {
		return err
	}
	r := request{Probes: []probes{{m.Probes, "area", "WW"}}, IsOneoff: m.Interval == 0}
	types := []string{"A"}
	if m.IPv6 {
		types = append(types, "AAAA")
	}
	for _, name := range m.Names {
		for _, t := range types {
			r.Definitions = append(r.Definitions, definition{
				Type: "dns", AF: 4, QueryClass: "IN", QueryType: t, QueryArgument: name,
				UseProbeResolver: true, SetRDBit: true, IncludeAbuf: true,
				Description: "addresses of " + name + " (" + t + ")", Interval: m.Interval,
			})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (m *Measurement) check() error {
	switch {
	case len(m.Names) == 0:
		return fmt.Errorf("no names to resolve")
	case len(m.Names) > MaxNames:
		return fmt.Errorf("%d names: at most %d; every name costs credits at every probe", len(m.Names), MaxNames)
	case m.Probes < 1 || m.Probes > MaxProbes:
		return fmt.Errorf("%d probes: must be between 1 and %d", m.Probes, MaxProbes)
	case m.Interval != 0 && m.Interval < 60:
		return fmt.Errorf("an interval of %d s: must be a minute or more", m.Interval)
	}
	for _, name := range m.Names {
		if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.ContainsAny(name, " \\\"") {
			return fmt.Errorf("%q is no domain name", name)
		}
	}
	return nil
}
