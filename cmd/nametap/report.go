package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/report"
)

// reporting is what `nametap report` was asked for.
type reporting struct {
	*settings
	format   string
	output   string
	title    string
	asnDB    string
	geoDB    string
	prefixes string
	tap      string
	events   string
	marks    report.Marks

	inputs    []string
	out, errs io.Writer
}

func newReport() *cobra.Command {
	r := &reporting{settings: &settings{}, format: "html", marks: report.DefaultMarks()}
	cmd := &cobra.Command{
		Use:   "report INPUT...",
		Short: "Everything the study measured, from traces or flow records, as pictures",
		Long: `report reads captures (pcap or pcapng) or flow records (as --flows writes them),
either of them plain, gzip or zstd, and writes one HTML page that needs nothing
else: who and how much, outages, experience, sizes and durations, time-outs by
device, hosting, where the servers are, names, and how far to trust all of it.

With --format json it writes every number behind every picture instead. What an
input is, its first bytes tell; standard input (-) is a capture. Captures are
merged by packet time; the result does not depend on the order of flow records.
Memory does not grow with the number of flows.`,
		Example: `  nametap report trace.pcap -o report.html
  nametap report flows-*.jsonl.zst --asn-db asn.mmdb --geo-db city.mmdb --tap-location 48.21,16.37 -o february.html
  nametap report trace.pcap --events posts.csv -o outage.html
  nametap report trace.pcap --format json | jq .experience.all`,
		Args: atLeast(1, "captures or flow-record files"),
		RunE: func(cmd *cobra.Command, inputs []string) error {
			if err := r.check(); err != nil {
				return err
			}
			read := append(arguments(inputs), r.settings.inputs()...)
			read = append(read, named{flag: "--geo-db", path: r.geoDB}, named{flag: "--prefixes", path: r.prefixes}, named{flag: "--events", path: r.events},
				named{flag: "--asn-db", path: r.asnDB})
			if err := checkOutputs([]named{{flag: "--output", path: r.output}}, read); err != nil {
				return err
			}
			r.inputs, r.out, r.errs = inputs, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if r.format == "html" && !cmd.Flags().Changed("output") && isTerminal(r.out) {
				return usagef("standard output is a terminal, and the report a page for a browser: add -o report.html (-o - writes it here all the same)")
			}
			return r.run(cmd.Context())
		},
	}
	r.registerEngine(cmd)
	r.registerTAC(cmd)
	r.registerIdentities(cmd, "how the flow records among the inputs show subscribers, so that captures beside them show the same")
	r.registerFilter(cmd)
	f := cmd.Flags()
	f.StringVarP(&r.output, "output", "o", "-", "write the report to `FILE`; - is standard output")
	f.StringVar(&r.format, "format", r.format, "html or json")
	f.StringVar(&r.title, "title", "", "title of the report")
	f.StringVar(&r.asnDB, "asn-db", "", "MMDB `FILE` that knows autonomous systems")
	f.StringVar(&r.geoDB, "geo-db", "", "MMDB `FILE` that knows countries and cities")
	f.StringVar(&r.prefixes, "prefixes", "", "CSV `FILE` of prefix, asn, org, country, city, latitude, longitude; goes before the databases")
	f.StringVar(&r.tap, "tap-location", "", "where the tap is, degrees north and east, such as `48.21,16.37`")
	f.StringVar(&r.events, "events", "", "CSV `FILE` of time and count to hold against outages, such as posts a minute")
	f.DurationVar(&r.marks.Good, "good-transfer", r.marks.Good, "up to which a transfer is good")
	f.DurationVar(&r.marks.Bad, "bad-transfer", r.marks.Bad, "beyond which a transfer is bad")
	return cmd
}

func (r *reporting) check() error {
	if err := r.settings.check(); err != nil {
		return err
	}
	if r.format != "html" && r.format != "json" {
		return usagef("--format is html or json, not %q", r.format)
	}
	if err := r.marks.Check(); err != nil {
		return usagef("--good-transfer and --bad-transfer: %w", err)
	}
	return nil
}

func (r *reporting) run(ctx context.Context) error {
	opt, done, err := r.options()
	if err != nil {
		return err
	}
	defer done()
	c, inputErr := r.collect(ctx, opt)
	if c == nil {
		return inputErr
	}
	result := c.Report()
	if err := r.write(result); err != nil {
		return err
	}
	return oneLine(inputErr, opt.Places.Err())
}

// collect reads all inputs. The collector is nil where there was an error and
// nothing could be read; otherwise the error is of what could not.
func (r *reporting) collect(ctx context.Context, opt report.Options) (*report.Collector, error) {
	captures, records := sortInputs(r.inputs)
	c := report.NewCollector(opt)
	in := report.Inputs{Captures: len(captures), RecordFiles: len(records)}
	var facts *report.CaptureFacts
	var errs []error
	read := false
	if len(captures) > 0 {
		var err error
		if facts, err = r.analyse(ctx, captures, opt.Rules, c); facts == nil {
			return nil, err
		}
		errs = append(errs, err)
		read = facts.Packets > 0
	}
	add := func(rec *report.Record) {
		read = true
		c.Add(rec)
	}
	var behind atomic.Int64
	stop := progress(r.errs, sizes(records), behind.Load)
	for _, path := range records {
		err := readRecordFile(ctx, path, &behind, add)
		var bad *report.BadLines
		if errors.As(err, &bad) {
			in.BadLines += bad.Count
		}
		errs = append(errs, err)
	}
	stop()
	if ctx.Err() != nil {
		told := "interrupted before anything was read"
		if read {
			told = "interrupted: the result is of what was read so far"
		}
		errs = append(errs, errors.New(told))
	}
	err := oneLine(errs...)
	if err != nil && !read {
		return nil, err
	}
	c.SetInputs(in, facts)
	return c, err
}

// options opens what the flags name.
func (r *reporting) options() (opt report.Options, done func(), err error) {
	opt = report.Options{Title: r.title, Marks: r.marks}
	if opt.Rules, err = r.loadRules(); err != nil {
		return opt, nil, err
	}
	if r.tap != "" {
		tap, err := report.ParsePosition(r.tap)
		if err != nil {
			return opt, nil, usagef("--tap-location: %w", err)
		}
		opt.Tap = &tap
	}
	if r.events != "" {
		if opt.Events, err = report.ReadEvents(r.events); err != nil {
			return opt, nil, err
		}
	}
	if opt.Places, err = report.OpenPlaces(r.asnDB, r.geoDB, r.prefixes); err != nil {
		return opt, nil, err
	}
	return opt, opt.Places.Close, nil
}

// sortInputs tells captures from flow records. Standard input is a capture; so
// is what cannot be told, whose reader says best what is wrong with it.
func sortInputs(paths []string) (captures, records []string) {
	for _, path := range paths {
		if path == "-" {
			captures = append(captures, path)
			continue
		}
		format, err := report.DetectFile(path)
		if err == nil && format == report.FormatRecords {
			records = append(records, path)
			continue
		}
		captures = append(captures, path)
	}
	return captures, records
}

// analyse runs captures through the pipeline. facts are nil where nothing could
// be read; otherwise the error is of what could not.
func (r *reporting) analyse(ctx context.Context, paths []string, rules *classify.Rules, c *report.Collector) (*report.CaptureFacts, error) {
	source, err := capture.Open(paths)
	if err != nil {
		return nil, err
	}
	defer func() { _ = source.Close() }() // reading is over by then
	input := capture.Source(source)
	if r.filter != "" {
		if input, err = capture.Filter(source, r.filter); err != nil {
			return nil, err
		}
	}
	ids, err := r.addresses(r.errs)
	if err != nil {
		return nil, err
	}
	cfg, err := r.engine(rules, r.errs)
	if err != nil {
		return nil, err
	}
	inside := func(a netip.Addr) bool { return containsAny(cfg.Subscribers, a) }
	cfg.Records = func(batch []flows.Record) {
		for i := range batch {
			f := &batch[i]
			rec := report.FromFlow(f, ids.Subscriber(f.Key.Subscriber), ids.Server(f.Key.Server), inside(f.Key.Server.Netip()))
			c.Add(&rec)
		}
	}
	cfg.Answers = func(name []byte, _ uint8, server decode.Addr, answered int64) {
		if a := server.Netip(); !inside(a) {
			c.Answered(string(name), a, answered)
		}
	}
	cfg.Watch, cfg.WatchEvery = c.Resolved, report.ResolutionEvery
	engine, err := probe.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := progress(r.errs, source.TotalBytes(), source.BytesRead)
	readErr := engine.Run(ctx, input)
	stop()
	s := engine.Snapshot()
	c.Resolved(s)
	facts := &report.CaptureFacts{
		Packets: s.Frames, Bytes: s.Bytes, Truncated: capture.Truncated(readErr), Undecoded: map[string]uint64{},
		DNSQueries: s.DNS.Queries, DNSResponses: s.DNS.Responses, DNSMalformed: s.DNS.Malformed, FlowsEvicted: s.Tables.FlowsEvicted,
	}
	for o, n := range s.Outcomes {
		if outcome := decode.Outcome(o); n > 0 && outcome.Undecoded() {
			facts.Undecoded[outcome.String()] = n
		}
	}
	return facts, readErr
}

// sizes is how many bytes the files have together; what has no size adds none.
func sizes(paths []string) (sum int64) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum
}

// readRecordFile gives add each record of a file, and adds to behind what it takes
// from the disk.
func readRecordFile(ctx context.Context, path string, behind *atomic.Int64, add func(*report.Record)) error {
	f, err := os.Open(path)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("%s: cannot be opened: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read from
	in, done, err := report.Unpack(stopper{ctx, f, behind})
	if err != nil {
		return fmt.Errorf("%s: cannot be read: %w", path, err)
	}
	defer done()
	return report.ReadRecords(path, bufio.NewReaderSize(in, 256<<10), add)
}

// stopper ends a file where ctx ends, and counts what was read of it.
type stopper struct {
	ctx    context.Context
	in     io.Reader
	behind *atomic.Int64
}

func (s stopper) Read(b []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, io.EOF
	}
	n, err := s.in.Read(b)
	s.behind.Add(int64(n))
	return n, err
}

// write writes the report to the output. A file that another process writes stays
// as it is.
func (r *reporting) write(result *report.Report) error {
	write := result.WriteHTML
	if r.format == "json" {
		write = result.WriteJSON
	}
	out, err := openResult("--output", r.output, 0o644, nil, r.out)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(out)
	if err := oneLine(write(b), b.Flush(), out.close()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
