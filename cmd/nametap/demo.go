package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/demo"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/metrics"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
	"github.com/nametap/nametap/watch"
	"github.com/nametap/nametap/web"
)

func newDemo() *cobra.Command {
	p := &population{}
	d := &showcase{settings: &settings{}}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a simulated network, with no tap and no root",
		Long: `demo simulates a network in quick motion, by default the day of WhatsApp's great
outage of 22 February 2014, and watches it through the same pipeline that a tap
would go through: frames are decoded, DNS answers remembered, flows named and
counted, outages looked for, a page and metrics served. Packet times are those of
that day; the metrics' own clock is the wall's. Ctrl-C ends it.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.check(); err != nil {
				return err
			}
			if math.IsNaN(d.speed) || d.speed <= 0 || math.IsInf(d.speed, 0) {
				return usagef("--speed is above 0, not %g", d.speed)
			}
			if err := checkListen(d.listen); err != nil {
				return err
			}
			if err := checkOutputs(d.lookout.outputs(), append(d.inputs(), named{flag: "--scenario", path: p.scenario})); err != nil {
				return err
			}
			if err := checkJournals(d.lookout.outputs()); err != nil {
				return err
			}
			generator, err := p.generator()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("skip") {
				d.skip = lead(generator)
			}
			if whole := generator.End().Sub(generator.Start()); d.skip < 0 || d.skip >= whole {
				return usagef("--skip is at least 0 and less than %s, which is how long the scenario lasts, not %s", hours(whole), hours(d.skip))
			}
			d.scenario = p.scenario
			return d.run(cmd.Context(), generator, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p.register(cmd, "outage-2014")
	f := cmd.Flags()
	f.Float64Var(&d.speed, "speed", 360, "how many times faster than real")
	f.DurationVar(&d.skip, "skip", 0, "begin so far into the scenario, at full speed (default: up to four hours before its first event)")
	f.StringVar(&d.listen, "listen", "127.0.0.1:9108", "serve HTTP on `ADDR`")
	d.registerEngine(cmd)
	d.registerAPNs(cmd)
	d.registerWatch(cmd)
	return cmd
}

// showcase is nametap demo.
type showcase struct {
	*settings
	lookout
	scenario string
	speed    float64
	skip     time.Duration
	listen   string
}

func (d *showcase) run(ctx context.Context, g *synth.Generator, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	rules, err := d.loadRules()
	if err != nil {
		return err
	}
	cfg, err := d.engine(rules, stderr)
	if err != nil {
		return err
	}
	if err := d.watch(&cfg, stdout, log); err != nil {
		return err
	}
	engine, err := probe.New(cfg)
	if err != nil {
		return err
	}
	source := demo.NewSource(g, d.speed, d.skip)
	b := readBuildInfo()
	collector := metrics.New(engine.Snapshot, metrics.Config{
		Version: b.version, Commit: b.commit, GoVersion: b.goVersion, Features: b.features, Loaded: time.Now(), Interfaces: source.Interfaces(),
		Status: d.watcher.Status, Forecasts: d.outlook.Classes, Lost: journals{d.events}.lost,
	})
	if d.skip > 0 {
		d.watcher.SetSource(watch.CatchingUp, g.Start().Add(d.skip))
	}
	server, err := web.Start(web.Config{
		Listen: d.listen, Metrics: metrics.Handler(collector, log), Watch: d.watcher, Forecasts: d.outlook.Classes, Title: "nametap demo", Logger: log,
	})
	if err != nil {
		return err
	}
	d.announce(stdout, g, server.URL())
	stop := context.AfterFunc(ctx, func() { _ = source.Close() })
	defer stop()
	told := d.tellWhenCaughtUp(stdout, source)
	server.SetReady(true)
	err = engine.Run(ctx, source)
	told()
	if err == nil && ctx.Err() == nil {
		d.watcher.SetSource(watch.Ended, time.Time{})
		_, _ = fmt.Fprintln(stdout, "\nThe scenario is over; its last figures stay up. Ctrl-C ends this.")
		<-ctx.Done()
	}
	_, _ = fmt.Fprintln(stdout)
	err = oneLine(err, d.finish(), export.Summarize(engine.Snapshot(), 0, false).WriteTable(stdout))
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return oneLine(err, server.Shutdown(stopping))
}

// tellWhenCaughtUp says when the part that is left out has been played. What it
// returns waits until it is done, and is to be called when the source has ended.
func (d *showcase) tellWhenCaughtUp(w io.Writer, source *demo.Source) (done func()) {
	if d.skip == 0 {
		return func() {}
	}
	began, ended := time.Now(), make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		select {
		case <-source.CaughtUp():
		case <-ended:
			return
		}
		d.watcher.SetSource(watch.Live, time.Time{})
		_, _ = fmt.Fprintf(w, "\nCaught up, after %s: the times above count from now on.\n", time.Since(began).Round(time.Second))
	})
	return func() {
		close(ended)
		told.Wait()
	}
}

// lead is how much of the scenario to leave out: all but the four hours before
// its first event, which are enough to see what is usual.
func lead(g *synth.Generator) time.Duration {
	events := g.Milestones()
	if len(events) == 0 {
		return 0
	}
	return max(events[0].At-4*time.Hour, 0)
}

// hours writes a duration without the units that are 0 at its end.
func hours(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// announce says where to look and what will happen when.
func (d *showcase) announce(w io.Writer, g *synth.Generator, page string) {
	when := func(at time.Duration) string {
		if at < d.skip {
			return "before"
		}
		return fmt.Sprintf("in %v", time.Duration(float64(at-d.skip)/d.speed).Round(time.Second))
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	say("  page      %s\n  metrics   %smetrics\n\n", page, page)
	say("Scenario %s: %d subscribers, simulated; %g times real time.\n\n", d.scenario, g.Subscribers(), d.speed)
	if d.skip > 0 {
		say("It catches up first: %s are played as fast as this machine can.\n", hours(d.skip))
		say("What will happen, counted from the end of that:\n")
	} else {
		say("What will happen:\n")
	}
	for _, m := range g.Milestones() {
		say("  %-11s %s (%s)\n", when(m.At), m.What, g.Start().Add(m.At).Format("2 January 2006 15:04 UTC"))
	}
	say("  %-11s the scenario ends\n\n", when(g.End().Sub(g.Start())))
	say("Its numbers are those of a measurement study of 2014 (P. Fiadino, Vivisecting\nWhatsApp in Cellular Networks); nametap synth show %s says which.\n", d.scenario)
}
