package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/metrics"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/web"
)

func newRun() *cobra.Command {
	d := &daemon{settings: &settings{}}
	var config string
	cmd := &cobra.Command{
		Use:   "run --interface NAME",
		Short: "Watch a tap and serve metrics",
		Long: `run captures from one or more interfaces until SIGTERM or Ctrl-C, and serves

  /           what is on the tap, the last hours, outages: a page
  /api/v1/    the same as JSON
  /metrics    for Prometheus
  /healthz    200 as long as the process lives
  /readyz     200 while packets are captured
  /-/reload   POST: read the rules and the pseudonym key anew (SIGHUP does the same)

A tap often delivers each direction on its own port: name both. The interfaces
should carry nothing else and have segmentation offloads off (ethtool -K NAME
gro off lro off). Capturing needs root or CAP_NET_RAW.

With --workers, each of several workers has a ring of its own on each interface,
and the kernel gives it all packets of its subscribers, whatever they are wrapped
in; it takes the right to load a BPF program (root, or CAP_BPF and CAP_NET_ADMIN).
A number divides packets even where a subscriber's may part, and the log says what
that costs. One worker reads for as many --shards as are wanted; several have one
each.

Every flag can stand in the file of --config, as "flag-name: value"; what is on
the command line wins.`,
		Example: `  nametap run --interface eth1 --interface eth2
  nametap run --config /etc/nametap/nametap.yaml
  nametap run --interface eth1 --flows /var/lib/nametap/flows.jsonl`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := applyConfig(cmd, config); err != nil {
				return err
			}
			if err := d.check(); err != nil {
				return err
			}
			if len(d.interfaces) == 0 {
				return usagef("name the interface of the tap with --interface")
			}
			if mode := capture.Mode(d.capture); mode != capture.ModePacket && mode != capture.ModeXDP {
				return usagef("--capture is packet or xdp, not %q", d.capture)
			}
			if least := int64(d.workers) * probe.MinMemory; int64(d.memory) < least {
				return usagef("--memory is too small for the tables of %d workers; give at least %dM", d.workers, least>>20)
			}
			if err := d.checkCapture(cmd.Flags().Changed("shards"), cmd.Flags().Changed("ring")); err != nil {
				return err
			}
			return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&d.interfaces, "interface", nil, "capture from `NAME`; repeatable")
	f.StringVar(&config, "config", "", "take flags from a YAML `FILE`")
	f.StringVar(&d.listen, "listen", "127.0.0.1:9108", "serve HTTP on `ADDR`")
	f.StringVar(&d.webConfig, "web-config", "", "Prometheus web configuration `FILE`: TLS and basic authentication")
	f.BoolVar(&d.pprof, "pprof", false, "serve profiles of the process at /debug/pprof/, under the same --listen and --web-config")
	f.Var(&d.ring, "ring", "capture ring of each interface, 1M or more (default: rides out a stall of 300 ms at 0.5 M packets/s)")
	f.StringVar(&d.capture, "capture", "packet", "how to capture: packet (AF_PACKET), or xdp (AF_XDP), which takes all that the port receives and is for a dedicated tap port only")
	f.Var(&d.workers, "workers", "divide packets among so many workers, by subscriber and in the kernel; auto: one for every two processors if the kernel can look into tunnels for that, else one")
	d.register(cmd)
	d.registerServers(cmd)
	d.registerWatch(cmd)
	return cmd
}

// daemon is nametap run.
type daemon struct {
	*settings
	lookout
	interfaces        []string
	listen, webConfig string
	pprof             bool
	capture           string
	workers           workers
	ring              bytesize
	stream            *export.Stream // of flow records, nil without
}

// leastRing holds two blocks of the kernel's least size, and then some.
const leastRing bytesize = 1 << 20 // 1M

// checkCapture finds mistakes in how packets are to be captured.
func (d *daemon) checkCapture(shardsGiven, ringGiven bool) error {
	if shardsGiven && d.workers > 1 && d.shards > 1 {
		return usagef("--shards %d goes with one worker; each of --workers %d has one shard", d.shards, d.workers)
	}
	if most := bytesize(systemMemory()); ringGiven && (d.ring < leastRing || d.ring > most) {
		return usagef("--ring is between %s and the machine's memory (%s), not %s", "1M", size(uint64(most)), &d.ring)
	}
	return nil
}

func (d *daemon) run(ctx context.Context, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	rules, err := d.loadRules()
	if err != nil {
		return err
	}
	cfg, err := d.engine(rules, stderr)
	if err != nil {
		return err
	}
	cfg.Seed = export.RandomKey().Uint64()
	cfg.Clock = func() int64 { return time.Now().UnixNano() }
	closeRecords, err := d.records(&cfg, stdout, stderr, log)
	if err != nil {
		return err
	}
	if err := d.watch(&cfg, log); err != nil {
		return err
	}
	ping, err := d.passivePing(&cfg, stdout)
	if err != nil {
		return err
	}
	sources, fanout, err := d.open()
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range sources {
			_ = s.Close() // capturing is over by then
		}
	}()
	d.say(len(sources), fanout, log)
	engines, err := probe.NewWorkers(len(sources), cfg)
	if err != nil {
		return err
	}
	err = d.serve(ctx, engines, sources, fanout, log)
	return oneLine(err, closeRecords(), ping(engines.Snapshot()), d.finish())
}

// open opens a source for each worker.
func (d *daemon) open() ([]capture.Source, capture.FanoutInfo, error) {
	return capture.OpenLiveWorkers(capture.LiveConfig{
		Interfaces: d.interfaces, RingBytes: int(d.ring), Promiscuous: true, Filter: d.filter, Mode: capture.Mode(d.capture),
		Workers: d.workers.number(int64(d.memory)), Exact: d.workers == auto,
		Subscribers: d.subscribers, Seed: export.RandomKey().Uint64(),
	})
}

// say says what an operator has to know of how packets are captured.
func (d *daemon) say(workers int, fanout capture.FanoutInfo, log *slog.Logger) {
	if notice := capture.Mode(d.capture).Notice(); notice != "" {
		log.Warn(notice)
	}
	attributes := []any{"workers", workers, "method", fanout.Method.String()}
	if fanout.Reason != "" {
		attributes = append(attributes, "reason", fanout.Reason)
	}
	level := slog.LevelInfo
	if fanout.Consequence != "" {
		attributes = append(attributes, "consequence", fanout.Consequence)
		if d.workers != auto && fanout.Method != capture.FanoutEBPF {
			level = slog.LevelWarn // it could be better
		}
	}
	log.Log(context.Background(), level, "fanout", attributes...)
}

// serve captures until ctx ends, with HTTP beside it.
func (d *daemon) serve(ctx context.Context, engines *probe.Workers, sources []capture.Source, fanout capture.FanoutInfo, log *slog.Logger) error {
	b := readBuildInfo()
	collector := metrics.New(engines.Snapshot, metrics.Config{
		Version: b.version, Commit: b.commit, GoVersion: b.goVersion, Features: b.features, Interfaces: d.interfaces,
		Workers: len(sources), Fanout: fanout, Status: d.watcher.Status, Forecasts: d.outlook.Classes,
	})
	reload := func() error { return d.reload(engines, collector, log) }
	server, err := web.Start(web.Config{
		Listen: d.listen, ConfigFile: d.webConfig, Metrics: metrics.Handler(collector, log), Watch: d.watcher, Forecasts: d.outlook.Classes,
		Profiling: d.pprof, Reload: reload, Logger: log,
	})
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	finished := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				_ = reload() // it has logged what is wrong
			case <-finished:
				return
			}
		}
	}()
	t := engines.Snapshot().Tables
	log.Info("capturing", "interfaces", d.interfaces, "page", "http://"+server.Addr()+"/", "memory", d.memory.String(),
		"flows", t.FlowsCap, "dns_entries", t.EntriesCap, "subscriber_classes", t.SubscribersCap, "sessions", t.SessionsCap)
	server.SetReady(true)
	err = engines.Run(ctx, sources)
	server.SetReady(false)
	close(finished)
	log.Info("stopped", "packets", engines.Snapshot().Frames)
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return oneLine(err, server.Shutdown(stopping))
}

// reload reads the rules anew. A bad file changes nothing.
func (d *daemon) reload(engines *probe.Workers, collector *metrics.Collector, log *slog.Logger) error {
	rules, err := d.loadRules()
	if err == nil {
		err = engines.Reload(rules)
	}
	if err == nil {
		err = d.rotateKey()
	}
	collector.Reloaded(err == nil, time.Now())
	if err != nil {
		log.Error("not reloaded, what was in use stays in use", "error", err)
		return err
	}
	log.Info("rules reloaded")
	return nil
}

// rotateKey takes a new key of the pseudonyms into use, if its file has one:
// records from then on cannot be joined with those before.
func (d *daemon) rotateKey() error {
	if d.stream == nil || d.pseudonymKey == "" {
		return nil
	}
	if err := d.readKey(); err != nil {
		return err
	}
	ids, err := d.addresses(io.Discard)
	if err != nil {
		return err
	}
	d.stream.SetAddresses(ids)
	return nil
}

// records lets the engine write flow records as flows end, if they are wanted.
// When that fails (a full disk), it says so once and capturing goes on.
func (d *daemon) records(cfg *probe.Config, stdout, stderr io.Writer, log *slog.Logger) (finish func() error, err error) {
	if d.flows == "" {
		return func() error { return nil }, nil
	}
	ids, err := d.addresses(stderr)
	if err != nil {
		return nil, err
	}
	out, closeOut, err := openOutput("--flows", d.flows, stdout)
	if err != nil {
		return nil, err
	}
	stream := export.NewStream(out, ids)
	d.stream = stream
	var failed error
	cfg.Records = func(batch []flows.Record) {
		if failed != nil {
			return
		}
		if failed = stream.Write(batch); failed != nil {
			log.Error("no more flow records", "error", failed)
		}
	}
	return func() error { return oneLine(failed, closeOut()) }, nil
}
