package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/atlas"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/report"
)

func newAtlas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "atlas",
		Short: "Hold what this network sees against the rest of the world (RIPE Atlas)",
		Long: `atlas writes the definition of a RIPE Atlas measurement that resolves an app's
names from probes all over the world, and compares its results with what a tap
has seen. It talks to nobody itself.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAtlasDefinition(), newAtlasCompare())
	return cmd
}

// registerInputs registers how the captures of --with are read. No subscriber is in
// what comes of them, and so no pseudonym is needed.
func (s *settings) registerInputs(cmd *cobra.Command) {
	s.registerEngine(cmd)
	s.registerFilter(cmd)
	s.ids = "address"
}

// defining is one definition of a measurement.
type defining struct {
	*settings
	atlas.Measurement
	app, class string
	with       []string
	out, errs  io.Writer
}

func newAtlasDefinition() *cobra.Command {
	d := &defining{settings: &settings{}, Measurement: atlas.Measurement{Probes: 600}}
	cmd := &cobra.Command{
		Use:   "definition",
		Short: "Print the measurement to ask of RIPE Atlas",
		Long: `definition prints the body of a POST to the RIPE Atlas API: one DNS measurement
for each name, answered by the resolvers of the probes themselves. The names are
those of the class that the inputs of --with show, or without inputs those that
the rules give as its examples, unless --name says others.`,
		Example: `  nametap atlas definition --class chat > chat.json
  nametap atlas definition --class photo --with trace.pcap > photo.json
  nametap atlas definition --name e1.whatsapp.net,mmg.whatsapp.net --probes 100
  curl -H "Authorization: Key $KEY" --json @chat.json https://atlas.ripe.net/api/v2/measurements/`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.check(); err != nil {
				return err
			}
			d.out, d.errs = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return d.run(cmd.Context())
		},
	}
	d.registerInputs(cmd)
	f := cmd.Flags()
	f.StringVar(&d.app, "app", "whatsapp", "the app whose names to resolve")
	f.StringVar(&d.class, "class", "chat", "the class whose names to resolve")
	f.StringSliceVar(&d.with, "with", nil, "captures or flow-record `FILES` whose names of the class to resolve")
	f.StringSliceVar(&d.Names, "name", nil, "names to resolve instead")
	f.IntVar(&d.Probes, "probes", d.Probes, "how many probes to ask for")
	f.BoolVar(&d.IPv6, "ipv6", false, "ask for AAAA records as well")
	f.IntVar(&d.Interval, "interval", 0, "`SECONDS` between rounds; 0 for one round")
	return cmd
}

func (d *defining) run(ctx context.Context) error {
	var inputErr error
	if len(d.Names) == 0 {
		rules, err := d.loadRules()
		if err != nil {
			return err
		}
		if d.Names, err = exampleNames(rules, d.app, d.class); err != nil {
			return err
		}
		if len(d.with) > 0 {
			if d.Names, inputErr = d.seen(ctx, rules); len(d.Names) == 0 {
				return inputErr
			}
		}
	}
	err := d.Write(d.out)
	if cause := (*os.PathError)(nil); err != nil && !errors.As(err, &cause) {
		return usageError{err} // what was asked for, not where it should go
	}
	return oneLine(err, inputErr)
}

// seen returns the names of the class that the inputs have, those of most flows
// first, as many as a measurement may have. Without one there is an error.
func (d *defining) seen(ctx context.Context, rules *classify.Rules) ([]string, error) {
	r := &reporting{settings: d.settings, inputs: d.with, out: io.Discard, errs: d.errs}
	col, err := r.collect(ctx, report.Options{Rules: rules})
	if col == nil {
		return nil, err
	}
	names := col.Names(d.app, d.class)
	if len(names) == 0 {
		return nil, oneLine(err, fmt.Errorf("the inputs have no name of %s/%s; leave out --with to take the examples of the rules", d.app, d.class))
	}
	return names[:min(len(names), atlas.MaxNames)], err
}

// exampleNames are the examples that the rules give for a class.
func exampleNames(rules *classify.Rules, app, class string) ([]string, error) {
	for _, a := range rules.Apps() {
		if a.Name != app {
			continue
		}
		for i := range a.Classes {
			if a.Classes[i].Name != class {
				continue
			}
			var names []string
			for _, e := range a.Classes[i].Match {
				names = append(names, e.Name)
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("%s: class %s/%s has no examples; give the names with --name", rules.File(), app, class)
			}
			return names, nil
		}
	}
	return nil, usagef("the rules have no class %s/%s; nametap rules show lists them", app, class)
}

// comparing is one comparison of results with inputs.
type comparing struct {
	*settings
	with         []string
	format       string
	asnDB, geoDB string
	prefixes     string
	results      []string
	out, errs    io.Writer
}

func newAtlasCompare() *cobra.Command {
	c := &comparing{settings: &settings{}, format: "table"}
	cmd := &cobra.Command{
		Use:   "compare RESULTS...",
		Short: "Compare results with what a tap saw",
		Long: `compare reads RIPE Atlas DNS results (an array, or one object a line; plain, gzip
or zstd) and the captures or flow records that --with names. It prints how the
two sets of addresses of the same classes agree, how many addresses a given
number of answers shows (each shows only a part of a pool), what the countries
and networks of the probes were told, and, apart, private and lying answers.`,
		Example: `  nametap atlas compare results.json --with trace.pcap
  nametap atlas compare results.json --with flows.jsonl.zst --asn-db asn.mmdb --geo-db country.mmdb --format json`,
		Args: atLeast(1, "a file of RIPE Atlas results"),
		RunE: func(cmd *cobra.Command, results []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if c.format != "table" && c.format != "json" {
				return usagef("--format is table or json, not %q", c.format)
			}
			if len(c.with) == 0 {
				return usagef("name captures or flow records to compare with: --with INPUT")
			}
			c.results, c.out, c.errs = results, cmd.OutOrStdout(), cmd.ErrOrStderr()
			return c.run(cmd.Context())
		},
	}
	c.registerInputs(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&c.with, "with", nil, "captures or flow-record `FILES` to compare with")
	f.StringVar(&c.format, "format", c.format, "table or json")
	f.StringVar(&c.asnDB, "asn-db", "", "MMDB `FILE` that knows autonomous systems")
	f.StringVar(&c.geoDB, "geo-db", "", "MMDB `FILE` that knows countries")
	f.StringVar(&c.prefixes, "prefixes", "", "CSV `FILE` of prefix, asn, org, country")
	return cmd
}

func (c *comparing) run(ctx context.Context) error {
	rules, err := c.loadRules()
	if err != nil {
		return err
	}
	places, err := report.OpenPlaces(c.asnDB, c.geoDB, c.prefixes)
	if err != nil {
		return err
	}
	defer places.Close()
	cmp := atlas.NewComparer(func(a netip.Addr) atlas.Place {
		p := places.Lookup(a)
		return atlas.Place{ASN: p.ASN, Org: p.Org, Country: p.Country}
	})
	var resultErr error
	for _, path := range c.results {
		resultErr = oneLine(resultErr, readResults(path, cmp.Add))
	}
	if resultErr != nil && len(cmp.Names()) == 0 {
		return resultErr // nothing could be read
	}
	passive, inputErr := c.passive(ctx, rules, cmp.Names())
	if passive == nil && inputErr != nil {
		return oneLine(resultErr, inputErr)
	}
	result := cmp.Compare(passive)
	write := result.WriteTable
	if c.format == "json" {
		write = result.WriteJSON
	}
	if err := write(c.out); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return oneLine(resultErr, inputErr, places.Err())
}

// passive returns the addresses that the inputs have for the classes of names.
func (c *comparing) passive(ctx context.Context, rules *classify.Rules, names []string) ([]netip.Addr, error) {
	r := &reporting{settings: c.settings, inputs: c.with, out: io.Discard, errs: c.errs}
	col, err := r.collect(ctx, report.Options{Rules: rules})
	if col == nil {
		return nil, err
	}
	wanted := map[[2]string]bool{}
	for _, n := range names {
		if v := rules.Match(n); v.App != classify.OtherName {
			wanted[[2]string{v.App, v.Class}] = true
		}
	}
	out := []netip.Addr{}
	for class := range wanted {
		out = append(out, col.Servers(class[0], class[1])...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), err
}

func readResults(path string, add func(*atlas.Answer)) error {
	f, err := os.Open(path)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("%s: cannot be opened: %w", path, err)
	}
	defer func() { _ = f.Close() }() // only read from
	in, done, err := report.Unpack(f)
	if err != nil {
		return fmt.Errorf("%s: cannot be read: %w", path, err)
	}
	defer done()
	return atlas.Read(path, bufio.NewReader(in), add)
}
