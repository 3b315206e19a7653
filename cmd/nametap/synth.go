package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
	"github.com/nametap/nametap/synth/score"
)

// population are the flags that say what network to simulate.
type population struct {
	scenario string
	options  synth.Options
}

func (p *population) register(cmd *cobra.Command, scenario string) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&p.scenario, "scenario", scenario, "`NAME` of a built-in scenario ("+strings.Join(synth.Scenarios(), ", ")+") or a YAML file")
	f.Uint64Var(&p.options.Seed, "seed", 1, "same seed, same bytes")
	f.DurationVar(&p.options.Duration, "duration", 0, "how much packet time (default: the scenario's)")
	f.IntVar(&p.options.Subscribers, "subscribers-count", 0, "how many subscribers (default: the scenario's)")
	f.StringVar(&p.options.Encapsulation, "encapsulation", "", "none, or some of vlan, qinq, mpls, gtpu, gtpu6 joined by + (default: the scenario's)")
}

// traceOutputs are the files that a trace and its truth go to.
func traceOutputs(trace, truth string, options synth.TraceOptions) []named {
	list := []named{{flag: "--truth", path: truth}}
	if trace != "" {
		for _, path := range synth.TracePaths(trace, options) {
			list = append(list, named{flag: "--output", path: path})
		}
	}
	return list
}

func (p *population) generator() (*synth.Generator, error) {
	if p.options.Duration < 0 || p.options.Subscribers < 0 {
		return nil, usagef("--duration and --subscribers-count cannot be negative")
	}
	scenario, err := synth.LoadScenario(p.scenario)
	if err != nil {
		return nil, err
	}
	return synth.New(scenario, p.options)
}

func newSynth() *cobra.Command {
	p := &population{}
	var trace, truth string
	var options synth.TraceOptions
	cmd := &cobra.Command{
		Use:   "synth -o TRACE",
		Short: "Write a synthetic trace with the truth beside it",
		Long: `synth simulates subscribers of a mobile network, with real handshakes, windows,
losses and habits of their phones, as a tap in the core would see them, and
writes the frames as pcap or pcapng (zstd or gzip by name). The truth is what
the simulation did: a flow record of each connection, never computed by the
analyser. "synth score" holds the one against the other. A capture that is there
already is not written over.

Scenarios are YAML; the built-in ones are a start for one's own.`,
		Example: `  nametap synth --scenario busy-hour --seed 7 -o busy.pcap.zst --truth busy.jsonl
  nametap synth --scenario quiet-hour --encapsulation gtpu -o gn.pcapng
  nametap synth --scenario outage-2014 -o - | nametap analyze -
  nametap synth score busy.pcap.zst busy.jsonl`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if trace == "" && truth == "" {
				return usagef("say where the trace goes with -o FILE, or -o - for standard output")
			}
			if err := checkOutputs(traceOutputs(trace, truth, options), []named{{flag: "--scenario", path: p.scenario}}); err != nil {
				return err
			}
			generator, err := p.generator()
			if err != nil {
				return err
			}
			options.Stdout = cmd.OutOrStdout()
			frames, err := writeTrace(cmd.Context(), generator, trace, truth, options)
			if err == nil && !frames {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "nametap: warning: nothing happens in %v among %d subscribers: there is no packet in the trace; give it a longer --duration or a greater --subscribers-count\n",
					generator.End().Sub(generator.Start()), generator.Subscribers())
			}
			return err
		},
	}
	p.register(cmd, "quiet-hour")
	f := cmd.Flags()
	f.StringVarP(&trace, "output", "o", "", "write the trace to `FILE`; - is standard output")
	f.StringVar(&truth, "truth", "", "write the truth to `FILE`, as JSON Lines")
	f.BoolVar(&options.Split, "split", false, "one file a direction, as a tap with two ports has them")
	f.IntVar(&options.SnapLength, "snap-length", 0, "cut frames, but for DNS, to so many bytes")
	cmd.AddCommand(newSynthScore(), newSynthShow())
	return cmd
}

// writeTrace reports whether there was a frame to write.
func writeTrace(ctx context.Context, g *synth.Generator, tracePath, truthPath string, options synth.TraceOptions) (frames bool, err error) {
	var trace *synth.TraceWriter
	var truth *synth.TruthWriter
	if tracePath != "" {
		if trace, err = synth.CreateTrace(tracePath, options); err != nil {
			return false, err
		}
	}
	if truthPath != "" {
		if truth, err = synth.CreateTruth(truthPath, options.Stdout); err != nil {
			return false, err
		}
	}
	err = synth.Write(ctx, g, trace, truth, func(int64) { frames = true }) // of the first one, and some
	if trace != nil {
		err = oneLine(err, trace.Close())
	}
	if truth != nil {
		err = oneLine(err, truth.Close())
	}
	return frames, err
}

func newSynthShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Print a built-in scenario as YAML",
		Args:  exactly(1, "one scenario: "+strings.Join(synth.Scenarios(), ", ")),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := synth.ScenarioSource(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(source)
			return err
		},
	}
}

func newSynthScore() *cobra.Command {
	s := &settings{}
	format, details := "table", false
	cmd := &cobra.Command{
		Use:   "score TRACE... TRUTH",
		Short: "Hold what analyze says of a trace against the truth",
		Long: `score analyses a trace and holds every flow against the truth beside it. By
evidence and by true class it says

  name right, of those named     of the flows that got a name, those whose name is
                                 the very host that the subscriber meant; evidence
                                 "server" finds the service and seldom the host
  of those after an answer       the same, of the flows whose DNS answer had passed
                                 the tap before they began, and was the newest for
                                 that address, named or not
  class right                    of all flows; one without a name is other/other

and then how many counts, times and reasons are as they were. --differences lists
the first few flows that differ.`,
		Args: atLeast(2, "a trace (or one a direction) and its truth"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if format != "table" && format != "json" {
				return usagef("--format is table or json, not %q", format)
			}
			last := len(args) - 1
			result, err := scoreTrace(cmd.Context(), s, cmd.ErrOrStderr(), args[:last], args[last])
			if err != nil {
				return err
			}
			return writeScore(cmd.OutOrStdout(), result, format, details)
		},
	}
	s.registerEngine(cmd)
	cmd.Flags().StringVar(&format, "format", format, "table or json")
	cmd.Flags().BoolVar(&details, "differences", false, "also the first few flows that differ, of each kind")
	return cmd
}

func scoreTrace(ctx context.Context, s *settings, errs io.Writer, traces []string, truth string) (*score.Score, error) {
	result := score.New()
	if err := synth.ReadTruth(truth, result.Truth); err != nil {
		return nil, err
	}
	rules, err := s.loadRules()
	if err != nil {
		return nil, err
	}
	source, err := capture.Open(traces)
	if err != nil {
		return nil, err
	}
	defer func() { _ = source.Close() }() // reading is over by then
	cfg, err := s.engine(rules, io.Discard)
	if err != nil {
		return nil, err
	}
	cfg.Records = func(batch []flows.Record) {
		for i := range batch {
			result.Record(&batch[i])
		}
	}
	engine, err := probe.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := progress(errs, source.TotalBytes(), source.BytesRead)
	err = engine.Run(ctx, source)
	stop()
	if err != nil {
		return nil, err
	}
	if err := result.Close(); err != nil {
		return nil, fmt.Errorf("%s: %w", truth, err)
	}
	return result, nil
}

func writeScore(w io.Writer, s *score.Score, format string, details bool) error {
	if !details {
		s.Differences = nil
	}
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	if err := s.WriteTable(w); err != nil || !details {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(s.Differences, "\n"))
	return err
}
