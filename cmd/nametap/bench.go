package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/bench"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this machine can hold and how fast it is",
		Args:  none,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchState())
	return cmd
}

func newBenchState() *cobra.Command {
	s := bench.State{}
	subscribers, flows, entries, names, packets := count(50_000), count(100_000), count(500_000), count(1000), count(2_000_000)
	sessions := count(0)
	memory := bytesize(256 << 20)
	format := "table"
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Fill the tables with a population and measure memory, time per packet and pauses",
		Long: `state forges the traffic of a population in memory and sends it through the whole
engine, as analyze does with a file: DNS answers fill the map, connections open,
then come packets of random live flows. At full state it prints

  resident memory    of the process, as /proc/self/status has it
  bytes              that one flow and one DNS entry made the process grow by, its
                     share of indexes, names and all else included
  ns a packet        of CPU time, user and system, all threads; what it takes to
                     forge the packets is measured apart and left out
  sessions           with --sessions: bytes and time to make one, and look-ups a second
                     of packets in their tunnels, in random order
  pauses             for the garbage collector while the tables fill and at full
                     state, and its share of the CPU time

The defaults take a quarter of a gigabyte and a second or two. A country's tap of
five million subscribers takes 6 GiB and about a minute: see the examples. With
--sessions the control plane speaks first (GTP-C, one session a subscriber), as on a
tap of tunnels, and every packet is its session's; a session each takes 7 GiB.
Segments are cut after their headers; nothing of a packet's payload is touched.

What is random follows from --seed: two runs differ in their timings only.`,
		Example: `  nametap bench state
  nametap bench state --subscribers 5M --flows 10M --entries 50M --names 10K --packets 40M --memory 6G
  nametap bench state --subscribers 5M --flows 10M --entries 50M --names 10K --sessions 5M --memory 7G`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.Subscribers, s.Flows, s.Entries, s.Names, s.Packets = int(subscribers), int(flows), int(entries), int(names), int(packets)
			s.Sessions = int(sessions)
			s.Memory = int64(memory)
			switch {
			case format != "table" && format != "json":
				return usagef("--format is table or json, not %q", format)
			case s.Shards < 1 || s.Shards > mostShards:
				return usagef("--shards is 1 to %d, not %d", mostShards, s.Shards)
			}
			if err := checkMemory(memory); err != nil {
				return err
			}
			if err := s.Check(); err != nil {
				return usageError{err}
			}
			progress := func(what string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), what) }
			r, err := bench.Run(cmd.Context(), s, progress)
			if err != nil {
				return err
			}
			if short := shortOf(&s, r); short != "" {
				progress("nametap: warning: " + short)
			}
			if format == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			}
			return stateTable(cmd.OutOrStdout(), r)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(&subscribers, "subscribers", "how many subscribers there are; K, M and G are thousands, millions and billions")
	f.Var(&flows, "flows", "connections to open; what --memory has no room for is not held")
	f.Var(&entries, "entries", "pairs of subscriber and server whose name is known")
	f.Var(&sessions, "sessions", "subscribers that have a session of the control plane (GTP-C)")
	f.Var(&names, "names", "distinct names that the DNS answers give; each of 64 partitions holds a copy of those that its subscribers asked for")
	f.Float64Var(&s.IPv6, "ipv6", 0.3, "share of subscribers with IPv6 alone, 0 to 1")
	f.Var(&packets, "packets", "packets over random live flows, once all is there")
	f.IntVar(&s.Collections, "collections", 10, "garbage collections to force meanwhile: of its own accord it may not run once")
	f.Var(&memory, "memory", "budget of all tables together, such as 512M or 4G")
	f.IntVar(&s.Shards, "shards", min(runtime.GOMAXPROCS(0), mostShards), fmt.Sprintf("worker goroutines, 1 to %d; %s", mostShards, beyondPartitions))
	f.Uint64Var(&s.Seed, "seed", 1, "of everything that is random")
	f.StringVar(&format, "format", "table", "table or json")
	return cmd
}

// shortOf says which of the things asked for found no room.
func shortOf(s *bench.State, r *bench.Result) string {
	var short []string
	for _, x := range []struct {
		what        string
		held, asked int
	}{{"connections", r.Flows, s.Flows}, {"DNS entries", r.Entries, s.Entries}, {"sessions", r.Sessions, s.Sessions}} {
		if x.held < x.asked {
			short = append(short, fmt.Sprintf("%s of %s %s", thousands(x.held), thousands(x.asked), x.what))
		}
	}
	if len(short) == 0 {
		return ""
	}
	return "only " + strings.Join(short, " and ") + " are held; give more --memory"
}

// stateTable writes the result for people.
func stateTable(out io.Writer, r *bench.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(what, format string, args ...any) { _, _ = fmt.Fprintf(w, what+"\t"+format+"\n", args...) }
	row("state", "%s subscribers, %s live flows of %s, %s DNS entries of %s, %s names (each of 64 partitions has copies of its own)",
		thousands(r.Subscribers), thousands(r.Flows), thousands(r.FlowsLimit), thousands(r.Entries), thousands(r.EntriesLimit), thousands(r.Names))
	row("named", "%s flows by DNS; %d evictions, %d servers forgotten, %d other things refused for want of room", thousands(int(r.Named)), r.Evictions, r.Forgotten, r.Refusals)
	if r.Attaching.Packets > 0 {
		row("sessions", "%s of %s, %.1f bytes each; %s evicted", thousands(r.Sessions), thousands(r.SessionsLimit), r.PerSession, thousands(int(r.SessionsEvicted)))
	}
	row("memory", "%s resident at full state, %s at most, %s before the first packet; budget %s", size(r.Resident), size(r.Peak), size(r.Empty), size(uint64(r.Budget)))
	row("bytes", "%.1f a flow, %.1f a DNS entry", r.PerFlow, r.PerEntry)
	phase := func(name string, c *bench.Cost, what string) {
		if c.Packets > 0 {
			row(name, "%.0f ns %s (%s of them; forging them took %.0f ns each)", c.Nanoseconds, what, thousands(c.Packets), c.Forging)
		}
	}
	phase("filling sessions", &r.Attaching, "of CPU a message, two a session")
	phase("look-ups", &r.Looking, fmt.Sprintf("of CPU a packet in a random tunnel, %s a second; %s found their session",
		thousands(int(1e9/max(r.Looking.Nanoseconds, 1))), thousands(int(r.Identified))))
	phase("filling DNS", &r.Answers, "of CPU an answer of 4 addresses")
	phase("filling flows", &r.Opening, "of CPU a packet")
	phase("full", &r.Full, "of CPU a packet")
	pauses := func(name string, p *bench.Pauses) {
		row(name, "%d, the longest %s, 99 %% within %s", p.Count, micros(p.Max), micros(p.P99))
	}
	pauses("pauses, filling", &r.FillingPauses)
	pauses("pauses, full", &r.Pauses)
	row("collector", "%d collections, %.2f %% of the CPU time", r.Collections, 100*r.CollectorShare)
	row("workers", "%d", r.Shards)
	return w.Flush()
}

func micros(s float64) string { return fmt.Sprintf("%.0f µs", s*1e6) }

func size(b uint64) string {
	switch {
	case b == 0:
		return "unknown"
	case b >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(b)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(b)/(1<<20))
}

// thousands writes a number with its digits in groups of three.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// count is a flag that counts things, with an optional decimal unit.
type count int

func (c *count) Type() string { return "N" }

func (c *count) String() string { return strconv.Itoa(int(*c)) }

func (c *count) Set(text string) error {
	digits, unit := text, 1
	for suffix, times := range map[string]int{"K": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			digits, unit = rest, times
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || n*float64(unit) > 1<<40 {
		return fmt.Errorf("%q is no number such as 500000 or 5M", text)
	}
	*c = count(n * float64(unit))
	return nil
}
