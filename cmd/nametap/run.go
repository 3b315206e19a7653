package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
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
  /readyz     200 while packets are captured; 503 while an interface is down,
              has no carrier or is gone, and says which
  /-/reload   POST: read the rules and the pseudonym key anew, both or, where
              one is bad, neither, and reopen the files that are appended to
              (SIGHUP does the same)

A tap often delivers each direction on its own port: name both. The interfaces
should carry nothing else and have segmentation offloads off (ethtool -K NAME
gro off lro off). Capturing needs root or CAP_NET_RAW.

With --workers, each of several workers has a ring of its own on each interface,
and the kernel gives it all packets of its subscribers, whatever they are wrapped
in; it takes the right to load a BPF program (root, or CAP_BPF and CAP_NET_ADMIN).
A number divides packets even where a subscriber's may part, and the log says what
that costs. One worker reads for as many --shards as are wanted; several have one
each.

A flow's record comes when nothing more can belong to it: four minutes after both
FINs or a RST, and of a flow that falls silent, or has one FIN, after its time-out
(an hour for chat, five minutes for others).

The files of --flows, --ping and --events are appended to: a restart keeps what
stands there. To rotate one: mv F F.1, then SIGHUP. They and the file of --state
are locked against a second run. Lines that cannot be written (a full disk) are
lost, and counted in nametap_output_lines_lost_total, until the file, which is
tried every few seconds, can be written again.

Every flag can stand in the file of --config, as "flag-name: value"; what is on
the command line wins.`,
		Example: `  nametap run --interface eth1 --interface eth2
  nametap run --config /etc/nametap/nametap.yaml
  nametap run --interface eth1 --flows /var/lib/nametap/flows.jsonl
  mv flows.jsonl flows.jsonl.1 && kill -HUP $(pidof nametap)`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := applyConfig(cmd, config); err != nil {
				return err
			}
			if err := oneLine(d.check(), d.checkRecords()); err != nil {
				return err
			}
			if err := checkListen(d.listen); err != nil {
				return err
			}
			inputs := append(d.inputs(), named{flag: "--config", path: config}, named{flag: "--web-config", path: d.webConfig})
			if err := checkOutputs(append(d.settings.outputs(), d.lookout.outputs()...), inputs); err != nil {
				return err
			}
			if err := checkJournals(append(d.settings.outputs(), named{flag: "--events", path: d.eventsPath})); err != nil {
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
	// Unlike analyze, it does not begin anew.
	f.Lookup("flows").Usage = "append a record of each flow to `PATH`, as JSON Lines, four minutes after the flow's end or once a silent one has timed out; - is standard output"
	f.Lookup("ping").Usage = "every 10 s of packet time, append round-trip times and losses of each class and its groups of servers to `PATH`: JSON Lines, or CSV where it ends in .csv; - is standard output"
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
	journals          journals
	reloading         sync.Mutex
	nextKey           atomic.Pointer[export.Key] // takes its place with the next record
}

// journals are the files that the daemon appends to.
type journals []*export.Journal

// lost returns how many lines of an output were lost, by its flag without dashes.
func (l journals) lost(output string) uint64 {
	for _, j := range l {
		if j != nil && j.Flag() == "--"+output {
			return j.Lost()
		}
	}
	return 0
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
	if err := d.records(&cfg, stdout, stderr, log); err != nil {
		return err
	}
	if err := d.watch(&cfg, stdout, log); err != nil {
		return err
	}
	ping, err := d.passivePing(&cfg, func() (io.Writer, error) {
		return d.open(export.JournalConfig{
			Flag: "--ping", What: "lines of --ping", Path: d.ping, Heading: export.PingHeading(d.asCSV()), Stdout: stdout, Logger: log,
		})
	})
	if err != nil {
		return err
	}
	sources, fanout, err := d.capturing(log)
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
	err = oneLine(err, ping(engines.Snapshot()), d.finish())
	for _, j := range d.journals {
		err = oneLine(err, j.Close())
	}
	return err
}

// open opens a file that the daemon appends to.
func (d *daemon) open(cfg export.JournalConfig) (*export.Journal, error) {
	j, err := export.OpenJournal(cfg)
	if err == nil {
		d.journals = append(d.journals, j)
	}
	return j, err
}

// files are all that the daemon appends to.
func (d *daemon) files() journals {
	if d.events == nil {
		return d.journals
	}
	return append(d.journals[:len(d.journals):len(d.journals)], d.events)
}

// capturing opens a source for each worker.
func (d *daemon) capturing(log *slog.Logger) ([]capture.Source, capture.FanoutInfo, error) {
	return capture.OpenLiveWorkers(capture.LiveConfig{
		Interfaces: d.interfaces, RingBytes: int(d.ring), Promiscuous: true, Filter: d.filter, Mode: capture.Mode(d.capture),
		Workers: d.workers.number(int64(d.memory)), Exact: d.workers == auto,
		Subscribers: d.subscribers, Seed: export.RandomKey().Uint64(), Notify: notices(log),
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
		Version: b.version, Commit: b.commit, GoVersion: b.goVersion, Features: b.features, Loaded: time.Now(), Interfaces: d.interfaces,
		Workers: len(sources), Fanout: fanout, Status: d.watcher.Status, Forecasts: d.outlook.Classes, Lost: d.files().lost,
	})
	reload := func() error { return d.reload(engines, collector, log) }
	server, err := web.Start(web.Config{
		Listen: d.listen, ConfigFile: d.webConfig, Metrics: metrics.Handler(collector, log), Watch: d.watcher, Forecasts: d.outlook.Classes,
		Profiling: d.pprof, Down: func() []string { return down(sources[0]) }, Reload: reload, Logger: log,
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
	log.Info("capturing", "interfaces", d.interfaces, "page", server.URL(), "memory", d.memory.String(),
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

// down names the interfaces from which nothing is captured now. All sources have the
// same ones, and the first knows how they stand.
func down(source capture.Source) (names []string) {
	for _, i := range source.Stats().Interfaces {
		if i.Down {
			names = append(names, i.Name)
		}
	}
	return names
}

// notices returns what is told of interfaces, and logs it. It does not wait: who
// calls it reads packets.
func notices(log *slog.Logger) func(string, capture.LinkChange) {
	type notice struct {
		name   string
		change capture.LinkChange
	}
	waiting := make(chan notice, 64)
	go func() { // for as long as the process lives
		for n := range waiting {
			level := slog.LevelInfo
			if n.change == capture.LinkDown {
				level = slog.LevelWarn
			}
			log.Log(context.Background(), level, n.change.String(), "interface", n.name)
		}
	}()
	return func(name string, change capture.LinkChange) {
		select {
		case waiting <- notice{name, change}:
		default: // a log that is stuck shows nothing more in any case
		}
	}
}

// reload opens anew what is appended to, and reads the rules and the key.
func (d *daemon) reload(engines *probe.Workers, collector *metrics.Collector, log *slog.Logger) error {
	d.reloading.Lock() // a signal and a request may come together
	defer d.reloading.Unlock()
	var err error
	for _, j := range d.files() {
		if failed := j.Reopen(); failed != nil {
			log.Error("not opened anew, and tried again", "error", failed)
			err = oneLine(err, failed)
		}
	}
	return oneLine(err, d.reloadRules(engines, collector, log))
}

// reloadRules reads the rules and the key of the pseudonyms anew. Where one of them
// is bad, neither changes.
func (d *daemon) reloadRules(engines *probe.Workers, collector *metrics.Collector, log *slog.Logger) error {
	var key export.Key
	rules, err := d.loadRules()
	if err == nil {
		key, err = d.keyAnew()
	}
	if err == nil {
		err = engines.Reload(rules)
	}
	collector.Reloaded(err == nil, time.Now())
	if err != nil {
		log.Error("not reloaded, what was in use stays in use", "error", err)
		return err
	}
	log.Info("rules reloaded")
	if d.replaceKey(key) {
		log.Info("pseudonym key has been replaced: records from here on cannot be joined with those before")
	}
	return nil
}

// replaceKey reports whether the key is another one than that of the records so
// far. The next ones are written under it.
func (d *daemon) replaceKey(key export.Key) bool {
	if d.stream == nil || key == *d.inUse {
		return false
	}
	d.inUse = &key
	d.nextKey.Store(&key)
	return true
}

// records lets the engine write flow records as flows end, if they are wanted.
func (d *daemon) records(cfg *probe.Config, stdout, stderr io.Writer, log *slog.Logger) error {
	if d.flows == "" {
		return nil
	}
	key, err := d.key(stderr)
	if err != nil {
		return err
	}
	out, err := d.open(export.JournalConfig{Flag: "--flows", What: "flow records", Path: d.flows, Stdout: stdout, Logger: log})
	if err != nil {
		return err
	}
	d.stream, d.hasher = export.NewStream(out, d.addressesUnder(key)), hasher(key)
	cfg.Hash = unhashed
	cfg.Records = d.write
	return nil
}

// write writes records. A record's address and IMSI are hidden here, together: were
// they under two keys, the record would tell which pseudonyms are the same's.
func (d *daemon) write(batch []flows.Record) {
	if key := d.nextKey.Swap(nil); key != nil {
		d.hasher = hasher(*key)
		d.stream.SetAddresses(d.addressesUnder(*key))
	}
	for i := range batch {
		if r := &batch[i]; r.IMSI != "" {
			r.IMSI = d.hasher.Hash(gtp.IMSI, digits(r.IMSI))
		}
	}
	_ = d.stream.Write(batch) // the journal counts and says what is lost
}

// unhashed is what stands for an IMSI between a record's making and its writing.
func unhashed(imsi gtp.Digits) string { return strconv.FormatUint(uint64(imsi), 16) }

func digits(unhashed string) gtp.Digits {
	n, _ := strconv.ParseUint(unhashed, 16, 64) // as it was written
	return gtp.Digits(n)
}
