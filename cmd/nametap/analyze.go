package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

func newAnalyze() *cobra.Command {
	s := &settings{}
	format := "table"
	cmd := &cobra.Command{
		Use:   "analyze FILE...",
		Short: "Say what is in capture files",
		Long: `analyze runs capture files (pcap or pcapng, plain, gzip or zstd; - is standard
input) through the same pipeline as a live tap. Several files, such as one a
direction or one an interface, are merged by packet time.

The summary goes to standard output. With --flows - the records go there
instead, in the order of the flows' ends, or with --ping - its lines, and the
summary, if --format asks for one, to standard error. Files of --flows and --ping
are written anew, compressed where the name ends in .zst or .gz; one that is a
capture is not written over.

A damaged file is read as far as it goes: its results are printed, one line on
standard error says where it broke, and the exit status is 1.`,
		Example: `  nametap analyze trace.pcap
  nametap analyze uplink.pcapng.zst downlink.pcapng.zst
  nametap analyze --format json trace.pcap
  nametap analyze --subscriber-ids address --flows - trace.pcap | jq .name
  tcpdump -r big.pcap -w - port 53 or port 5222 | nametap analyze -`,
		Args: atLeast(1, "a capture file, or - for standard input"),
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := oneLine(s.check(), s.checkRecords()); err != nil {
				return err
			}
			if format != "table" && format != "json" {
				return usagef("--format is table or json, not %q", format)
			}
			if err := checkOutputs(s.outputs(), append(arguments(files), s.inputs()...)); err != nil {
				return err
			}
			a := analysis{settings: s, format: format, files: files, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
			a.subscribersNamed = cmd.Flags().Changed("subscribers")
			if a.toOutput() {
				a.format = ""
				if cmd.Flags().Changed("format") {
					a.format = format
				}
			}
			return a.run(cmd.Context())
		},
	}
	s.register(cmd)
	s.registerServers(cmd)
	cmd.Flags().StringVar(&format, "format", format, "summary as table or json")
	return cmd
}

// analysis is one run over capture files.
type analysis struct {
	*settings
	format string // empty: no summary
	// subscribersNamed: by the user, with --subscribers.
	subscribersNamed bool
	files            []string
	out, errs        io.Writer
	results          []*result
}

// toOutput reports whether standard output is taken by records or the ping.
func (a *analysis) toOutput() bool { return a.flows == "-" || a.ping == "-" }

func (a *analysis) run(ctx context.Context) error {
	rules, err := a.loadRules()
	if err != nil {
		return err
	}
	source, err := capture.Open(a.files)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // reading is over by then
	input := capture.Source(source)
	if a.filter != "" {
		if input, err = capture.Filter(source, a.filter); err != nil {
			return err
		}
	}
	cfg, err := a.engine(rules, a.errs)
	if err != nil {
		return err
	}
	records, err := a.records(&cfg)
	if err != nil {
		return err
	}
	ping, err := a.passivePing(&cfg, func() (io.Writer, error) { return a.open("--ping", a.ping, export.PingHeading(a.asCSV())) })
	if err != nil {
		return err
	}
	hint := a.noticeSubscribers(&cfg)
	engine, err := probe.New(cfg)
	if err != nil {
		return err
	}
	stop := progress(a.errs, source.TotalBytes(), source.BytesRead)
	readErr := engine.Run(ctx, input)
	stop()
	hint()
	err = a.finish(engine, readErr, records, ping)
	if err == nil {
		err = a.summary(engine, readErr)
	}
	if ctx.Err() != nil {
		readErr = oneLine(readErr, errors.New("interrupted: the results are those of the packets read so far"))
	}
	return oneLine(readErr, err)
}

// open opens a file that the analysis writes.
func (a *analysis) open(flag, path string, heading []byte) (io.Writer, error) {
	r, err := openResult(flag, path, 0o640, heading, a.out)
	if err != nil {
		return nil, err
	}
	a.results = append(a.results, r)
	return r, nil
}

// finish writes what is left of the results. Where nothing could be read, there
// are none: files keep what stood in them.
func (a *analysis) finish(engine *probe.Engine, readErr error, records func() error, ping func(*probe.Snapshot) error) error {
	s := engine.Snapshot()
	var err error
	if readErr != nil && s.Frames == 0 {
		for _, r := range a.results {
			r.keep()
		}
	} else {
		err = oneLine(records(), ping(s))
	}
	for _, r := range a.results {
		err = oneLine(err, r.close())
	}
	return err
}

// records lets the engine write flow records, if they are wanted. The function
// that it returns finishes them.
func (a *analysis) records(cfg *probe.Config) (finish func() error, err error) {
	if a.flows == "" {
		return func() error { return nil }, nil
	}
	ids, err := a.addresses(a.errs)
	if err != nil {
		return nil, err
	}
	out, err := a.open("--flows", a.flows, nil)
	if err != nil {
		return nil, err
	}
	sorted := export.NewSorted(out, ids)
	var failed error
	cfg.Records = func(batch []flows.Record) {
		if failed == nil {
			failed = sorted.Write(batch)
		}
	}
	return func() error {
		if failed != nil {
			return failed
		}
		return sorted.Close()
	}, nil
}

func (a *analysis) summary(engine *probe.Engine, readErr error) error {
	s := export.Summarize(engine.Snapshot(), len(a.files), capture.Truncated(readErr))
	switch {
	case a.format == "":
		return nil
	case a.format == "table" && readErr != nil && s.Capture.Packets == 0:
		return nil // the error says it all; whoever reads JSON counts on getting some
	case a.toOutput():
		return writeSummary(a.errs, s, a.format)
	}
	return writeSummary(a.out, s, a.format)
}

func writeSummary(w io.Writer, s *export.Summary, format string) error {
	if format == "json" {
		return s.WriteJSON(w)
	}
	return s.WriteTable(w)
}

// progress shows a bar on a terminal for as long as reading takes; files that
// are read in less than half a second show none, nor does what has no known size.
// read says how many of the total bytes are behind.
func progress(errs io.Writer, total int64, read func() int64) (stop func()) {
	if total <= 0 || !isTerminal(errs) {
		return func() {}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(errs), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription("reading"), progressbar.OptionUseIECUnits(false))
	bar.StartWithoutRender() // its rate is from now on, not from when it is first seen
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		wait := time.NewTimer(500 * time.Millisecond)
		defer wait.Stop()
		for {
			select {
			case <-quit:
				_ = bar.Finish() // a bar that cannot be drawn is no loss
				return
			case <-wait.C:
				_ = bar.Set64(min(read(), total-1))
				wait.Reset(100 * time.Millisecond)
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
