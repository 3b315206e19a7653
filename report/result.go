package report

import (
	"encoding/json"
	"io"
	"time"

	"github.com/nametap/nametap/classify"
)

// Inputs are what the report was made from.
type Inputs struct {
	Captures    int    `json:"captures"`
	RecordFiles int    `json:"record_files"`
	BadLines    uint64 `json:"bad_lines"`
}

// Report is the whole result. Its JSON is what every picture is drawn from.
type Report struct {
	Title       string  `json:"title"`
	Inputs      Inputs  `json:"inputs"`
	First       string  `json:"first"`
	Last        string  `json:"last"`
	Seconds     float64 `json:"duration_s"`
	Flows       uint64  `json:"flows"`
	Subscribers uint64  `json:"subscribers"`

	Naming     NamingSection     `json:"naming"`
	Who        WhoSection        `json:"who_and_how_much"`
	Shape      ShapeSection      `json:"size_duration_throughput"`
	Devices    DevicesSection    `json:"duration_by_os"`
	Hosting    HostingSection    `json:"hosting"`
	Location   LocationSection   `json:"where_the_servers_are"`
	Experience ExperienceSection `json:"experience"`
	Outage     OutageSection     `json:"outage"`
	Trust      TrustSection      `json:"how_far_to_trust_this"`
}

// SetInputs says what the flows came from. facts are nil for flow records.
func (c *Collector) SetInputs(in Inputs, facts *CaptureFacts) { c.inputs, c.facts = in, facts }

// Report computes the result from what has been gathered.
func (c *Collector) Report() *Report {
	r := &Report{
		Title: c.opt.Title, Inputs: c.inputs, Flows: c.flows,
		Naming: c.namingSection(), Who: c.whoSection(), Shape: c.shapeSection(), Devices: c.devicesSection(),
		Hosting: c.hostingSection(), Location: c.locationSection(), Experience: c.experienceSection(),
		Outage: c.outageSection(), Trust: c.trustSection(),
	}
	if r.Title == "" {
		r.Title = "WhatsApp on this network"
	}
	r.Subscribers, _ = c.users.count()
	if c.flows > 0 {
		r.First, r.Last = stamp(c.first), stamp(c.last)
		r.Seconds = round(time.Duration(c.last - c.first).Seconds())
	}
	if c.flows == 0 {
		r.Who.remark("No TCP flow was met in this input.")
	} else if !c.anyApp() {
		r.Who.remark("No flow of any app was met: what there is belongs to other names, or to none.")
	}
	return r
}

func (c *Collector) anyApp() bool {
	for _, k := range c.list {
		if k.key.App != classify.OtherName {
			return true
		}
	}
	return false
}

// WriteJSON writes every number behind every picture.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}
