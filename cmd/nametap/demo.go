package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/demo"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/metrics"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
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
			if d.speed <= 0 {
				return usagef("--speed is above 0, not %g", d.speed)
			}
			generator, err := p.generator()
			if err != nil {
				return err
			}
			d.scenario = p.scenario
			return d.run(cmd.Context(), generator, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p.register(cmd, "outage-2014")
	f := cmd.Flags()
	f.Float64Var(&d.speed, "speed", 360, "how many times faster than real")
	f.DurationVar(&d.skip, "skip", -1, "begin so far into the scenario, at full speed (default: up to four hours before its first event)")
	f.StringVar(&d.listen, "listen", "127.0.0.1:9108", "serve HTTP on `ADDR`")
	d.register(cmd)
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
	if err := d.watch(&cfg, log); err != nil {
		return err
	}
	engine, err := probe.New(cfg)
	if err != nil {
		return err
	}
	skip := d.skip
	if skip < 0 {
		skip = lead(g)
	}
	source := demo.NewSource(g, d.speed, skip)
	b := readBuildInfo()
	collector := metrics.New(engine.Snapshot, metrics.Config{
		Version: b.version, Commit: b.commit, GoVersion: b.goVersion, Features: b.features, Interfaces: source.Interfaces(),
		Status: d.watcher.Status, Forecasts: d.outlook.Classes,
	})
	server, err := web.Start(web.Config{
		Listen: d.listen, Metrics: metrics.Handler(collector, log), Watch: d.watcher, Forecasts: d.outlook.Classes, Title: "nametap demo", Logger: log,
	})
	if err != nil {
		return err
	}
	d.announce(stdout, g, skip, server.Addr())
	stop := context.AfterFunc(ctx, func() { _ = source.Close() })
	defer stop()
	server.SetReady(true)
	err = engine.Run(ctx, source)
	if err == nil && ctx.Err() == nil {
		_, _ = fmt.Fprintln(stdout, "\nThe scenario is over; its last figures stay up. Ctrl-C ends this.")
		<-ctx.Done()
	}
	_, _ = fmt.Fprintln(stdout)
	err = oneLine(err, d.finish(), export.Summarize(engine.Snapshot(), 1, false).WriteTable(stdout))
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return oneLine(err, server.Shutdown(stopping))
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

// announce says where to look and what will happen when.
func (d *showcase) announce(w io.Writer, g *synth.Generator, skip time.Duration, addr string) {
	wall := func(at time.Duration) time.Duration {
		return time.Duration(float64(at-skip) / d.speed).Round(time.Second)
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	say("  page      http://%s/\n  metrics   http://%s/metrics\n\n", addr, addr)
	say("Scenario %s: %d subscribers, simulated; %g times real time.\n\n", d.scenario, g.Subscribers(), d.speed)
	say("What will happen:\n")
	for _, m := range g.Milestones() {
		say("  in %-8v %s (%s)\n", wall(m.At), m.What, g.Start().Add(m.At).Format("2 January 2006 15:04 UTC"))
	}
	say("  in %-8v the scenario ends\n\n", wall(g.End().Sub(g.Start())))
	say("Its numbers are those of a measurement study of 2014 (P. Fiadino, Vivisecting\nWhatsApp in Cellular Networks); nametap synth show %s says which.\n", d.scenario)
}
