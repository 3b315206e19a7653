package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nametap/nametap/ping"
	pingmetrics "github.com/nametap/nametap/ping/metrics"
	"github.com/nametap/nametap/ping/tun"
	"github.com/nametap/nametap/web"
)

func newPing() *cobra.Command {
	p := &pinger{tun: tun.NewConfig()}
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Round-trip times and losses of this machine's own connections, without a packet",
		Long: `ping reads what the kernel knows of this machine's TCP connections (sock_diag,
TCP_INFO): smoothed and least round-trip time, segments sent again, reordering.
It sends nothing. Connections that were active in a period are shown, put
together by process, systemd unit, control group, user, network namespace,
remote address, or not at all (--by connection).

All network namespaces are read that may be entered; that, and the processes of
other users, needs root. What could not be read is counted and said.

What TCP_INFO cannot see: segments lost on the way in. The share "lost out" is
that of segments that had to be sent again, over all sent with payload, without
those that the receiver says it had already. A connection that is opened and
closed between two samples is not seen. The age is the time since the last
acknowledgment, which is when a round-trip time can have changed last.

A connection's remote end has the name for which its address was the newest answer
when the connection was first seen. DNS answers are read over UDP, with --tun as
they pass by, otherwise as copies, which takes CAP_NET_RAW; nothing else is read
of any packet.

--once prints one sample at once, of the connections that were active in the
--interval before, as the kernel remembers; its counts go back to each one's start.

--tun NAME measures without a look at other processes' sockets, the way a phone
app can: a TUN interface, whose packets end in a TCP/IP stack inside nametap and
go on over sockets of its own. The interface is made and brought up; its address
and routes are yours to set, and nametap's own sockets must be kept out of it, by
a firewall mark or by binding them to the interface that leads outside:

  nametap ping --tun nt0 --outside eth0 &
  ip addr add 10.111.0.1/24 dev nt0
  ip route add 203.0.113.0/24 dev nt0

or, with all traffic through it:

  nametap ping --tun nt0 --mark 77 &
  ip addr add 10.111.0.1/24 dev nt0
  ip route show default    # GATEWAY and DEVICE
  ip route add default via GATEWAY dev DEVICE table 100
  ip rule add fwmark 77 lookup 100
  ip route replace default dev nt0

ICMP does not go through it.`,
		Example: `  nametap ping --once
  nametap ping --by unit
  nametap ping --format json --interval 10s | jq 'select(.rtt_median_s > 0.2)'
  nametap ping --format none --listen 127.0.0.1:9108 --apps nginx.service,sshd`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(cmd); err != nil {
				return err
			}
			p.out, p.errs = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return p.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.DurationVar(&p.interval, "interval", 10*time.Second, "length of a period")
	f.BoolVar(&p.once, "once", false, "print one sample and end")
	f.IntVar(&p.count, "count", 0, "end after `N` periods (default: go on)")
	f.StringVar(&p.byText, "by", string(ping.ByProcess), "put connections together by connection, process, pid, unit, cgroup, uid, namespace, remote or name (the default with --tun)")
	f.StringVar(&p.format, "format", "table", "table, json (a line per row), or none")
	f.IntVar(&p.rows, "rows", 0, "show `N` rows of a table at most (default: what fits on the terminal)")
	f.StringVar(&p.listen, "listen", "", "serve Prometheus metrics on `ADDR`")
	f.StringSliceVar(&p.apps, "apps", nil, "systemd units or commands with metrics of their own; all others go by \"other\"")
	f.StringVar(&p.tunName, "tun", "", "measure what comes through the TUN interface `NAME`")
	f.IntVar(&p.tun.MTU, "tun-mtu", p.tun.MTU, "MTU of that interface")
	f.IntVar(&p.tun.Mark, "mark", 0, "firewall mark of nametap's own sockets, with --tun")
	f.StringVar(&p.tun.Device, "outside", "", "interface `NAME` that nametap's own sockets are bound to, with --tun")
	return cmd
}

// pinger is nametap ping.
type pinger struct {
	interval       time.Duration
	once           bool
	count          int
	byText, format string
	by             ping.Grouping
	rows           int
	listen         string
	apps           []string
	tunName        string
	tun            *tun.Config

	out, errs io.Writer
	metrics   *pingmetrics.Metrics
	footer    func() string // nil: none
	shown     int
}

func (p *pinger) check(cmd *cobra.Command) error {
	var err error
	if p.tunName != "" && !cmd.Flags().Changed("by") {
		p.byText = string(ping.ByName) // processes are not known there
	}
	if p.by, err = ping.ParseGrouping(p.byText); err != nil {
		return usagef("--by: %w", err)
	}
	if p.once {
		if cmd.Flags().Changed("count") {
			return usagef("--once and --count exclude each other")
		}
		p.count = 1
	}
	switch {
	case p.format != "table" && p.format != "json" && p.format != "none":
		return usagef("--format is table, json or none, not %q", p.format)
	case p.interval < 100*time.Millisecond:
		return usagef("--interval is 100ms or more, not %v", p.interval)
	case p.count < 0 || p.rows < 0:
		return usagef("--count and --rows cannot be negative")
	case p.format == "none" && p.listen == "":
		return usagef("--format none leaves nothing to see without --listen")
	case p.listen != "" && checkListen(p.listen) != nil:
		return checkListen(p.listen)
	case p.tunName == "" && (p.tun.Mark != 0 || p.tun.Device != "" || cmd.Flags().Changed("tun-mtu")):
		return usagef("--mark, --outside and --tun-mtu go with --tun")
	case p.tunName != "" && (p.tun.MTU < 1280 || p.tun.MTU > 65535):
		return usagef("--tun-mtu is 1280 to 65535, not %d", p.tun.MTU)
	}
	return checkOutside(p.tun.Device)
}

// checkOutside looks for the interface now: later it would be missed by each
// connection that should go out there.
func checkOutside(name string) error {
	if name == "" {
		return nil
	}
	if _, err := net.InterfaceByName(name); err == nil {
		return nil
	}
	var names []string
	if list, err := net.Interfaces(); err == nil {
		for _, x := range list {
			names = append(names, x.Name)
		}
	}
	return usagef("--outside: there is no interface %q; there are %s", name, strings.Join(names, ", "))
}

func (p *pinger) run(ctx context.Context) error {
	p.metrics = pingmetrics.New(p.apps)
	stop, err := p.serve()
	if err != nil {
		return err
	}
	if p.tunName != "" {
		err = p.runTUN(ctx)
	} else {
		err = p.runHost(ctx)
	}
	return oneLine(err, stop())
}

// serve starts the metrics page, if it is wanted.
func (p *pinger) serve() (stop func() error, err error) {
	if p.listen == "" {
		return func() error { return nil }, nil
	}
	log := slog.New(slog.NewTextHandler(p.errs, nil))
	server, err := web.Start(web.Config{Listen: p.listen, Metrics: p.metrics.Handler(), Logger: log})
	if err != nil {
		return nil, err
	}
	server.SetReady(true)
	return func() error {
		stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return server.Shutdown(stopping)
	}, nil
}

func (p *pinger) runHost(ctx context.Context) error {
	sampler, err := ping.NewSampler(p.interval)
	if err != nil {
		return err
	}
	defer func() { _ = sampler.Close() }() // it only reads
	first, err := sampler.Sample(time.Now())
	if err != nil {
		return err
	}
	if p.once {
		return p.show(first)
	}
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case at := <-ticker.C:
			sample, err := sampler.Sample(at)
			if err != nil {
				return err
			}
			if err := p.show(sample); err != nil || p.shown == p.count {
				return err
			}
		}
	}
}

func (p *pinger) runTUN(ctx context.Context) error {
	fd, err := tun.Open(p.tunName, p.tun.MTU)
	if err != nil {
		return err
	}
	p.tun.IntervalMillis = int(p.interval.Milliseconds())
	end := &tunEnd{}
	p.footer = end.datagrams
	enough := make(chan error, 1)
	engine, err := tun.StartWith(fd, *p.tun, tun.Outputs{Sink: end, Sampled: func(s *ping.Sample) {
		if p.count > 0 && p.shown == p.count {
			return // between the last period and Stop
		}
		if err := p.show(s); err != nil || p.shown == p.count {
			select {
			case enough <- err:
			default:
			}
		}
	}})
	if err != nil {
		return err
	}
	defer engine.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-enough:
		return err
	case <-engine.Done():
		return errors.New(p.tunName + ": " + end.reason())
	}
}

// tunEnd keeps the reason for which an engine ended, and adds up what is not TCP.
type tunEnd struct {
	mu   sync.Mutex
	text string

	// Of the period, on the engine's one goroutine: all of a period's
	// connections come before its sample.
	associations, sent, received int64
}

func (t *tunEnd) Connection(c *tun.Connection) {
	if c.Protocol == "udp" {
		t.associations++
		t.sent += c.DatagramsSent
		t.received += c.DatagramsReceived
	}
}

func (t *tunEnd) Period(*tun.Period) { t.associations, t.sent, t.received = 0, 0, 0 }

func (t *tunEnd) datagrams() string {
	return fmt.Sprintf("UDP: %d associations, %d datagrams out, %d in\n", t.associations, t.sent, t.received)
}

func (t *tunEnd) Ended(reason string) {
	t.mu.Lock()
	t.text = reason
	t.mu.Unlock()
}

func (t *tunEnd) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// show counts and prints one sample.
func (p *pinger) show(s *ping.Sample) error {
	p.metrics.Observe(s)
	p.shown++
	var err error
	switch p.format {
	case "json":
		err = s.WriteJSON(p.out, p.by)
	case "table":
		err = p.table(s)
	}
	if err != nil {
		return fmt.Errorf("cannot write: %w", err)
	}
	return nil
}

// table paints over the one before on a terminal, and comes after it elsewhere.
func (p *pinger) table(s *ping.Sample) error {
	rows := p.rows
	var b strings.Builder
	if f, ok := p.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if _, height, err := term.GetSize(int(f.Fd())); err == nil && rows == 0 && !p.once {
			rows = max(1, height-7)
		}
		if !p.once {
			b.WriteString("\x1b[H\x1b[2J") // ECMA-48: cursor home, erase the page
		}
	}
	if err := s.WriteTable(&b, p.by, rows); err != nil {
		return err
	}
	if p.footer != nil {
		b.WriteString(p.footer())
	}
	if !p.once {
		b.WriteString("\n")
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}
