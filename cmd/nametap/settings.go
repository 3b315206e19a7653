package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/internal/packed"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/report"
)

// settings are the flags that run, analyze and their like share.
type settings struct {
	rules        string
	subscribers  prefixes
	evidence     classify.Cascade
	dnsGrace     time.Duration
	dnsStale     time.Duration
	ids          string
	pseudonymKey string
	dedup        time.Duration
	apns         []string
	vlanScopes   bool
	tac          string
	shards       int
	memory       bytesize
	flows        string
	ping         string
	asnDB        string
	filter       string

	inUse   *export.Key // the key, once it has been read or made
	passing bool        // it is for this run alone
	hasher  *gtp.Hasher // made when the first identity is met
}

// register registers all of them: a live tap's and a capture's.
func (s *settings) register(cmd *cobra.Command) {
	s.registerEngine(cmd)
	s.registerAPNs(cmd)
	s.registerTAC(cmd)
	s.registerIdentities(cmd, "subscriber addresses in what is written")
	f := cmd.Flags()
	f.StringVar(&s.flows, "flows", "", "write a record of each finished flow to `PATH`, as JSON Lines; - is standard output")
	f.StringVar(&s.ping, "ping", "", "every 10 s of packet time, write round-trip times and losses of each class and its groups of servers to `PATH`: JSON Lines, or CSV where it ends in .csv; - is standard output")
	s.registerFilter(cmd)
}

// registerAPNs registers what tells access points apart, in metrics, in the summary
// and on the page.
func (s *settings) registerAPNs(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&s.apns, "apn", nil, "count tunnelled traffic of this access point `NAME` by itself; repeatable, others fold into one")
}

// registerTAC registers what tells a record's operating system by its handset.
func (s *settings) registerTAC(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.tac, "tac", "", "operating systems by type allocation code: CSV `FILE` with lines such as 35331105,android")
}

// registerIdentities registers how subscribers appear in what.
func (s *settings) registerIdentities(cmd *cobra.Command, what string) {
	f := cmd.Flags()
	f.StringVar(&s.ids, "subscriber-ids", "pseudonym", what+": pseudonym or address")
	f.StringVar(&s.pseudonymKey, "pseudonym-key", "", "key `FILE` of the pseudonyms (default: one is made in the user's configuration directory)")
}

// registerFilter registers which packets of a source are read.
func (s *settings) registerFilter(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.filter, "filter", "", "pcap-filter `EXPR`, where libpcap is compiled in")
}

// registerEngine registers what decides how packets are worked, which every
// command that reads packets obeys.
func (s *settings) registerEngine(cmd *cobra.Command) {
	s.ids = "pseudonym"
	s.subscribers = probe.DefaultSubscribers()
	s.evidence = classify.DefaultCascade()
	s.memory = bytesize(max(systemMemory()/4>>20<<20, probe.MinMemory))
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.rules, "rules", "", "naming scheme `FILE` (default: built in, see nametap rules show)")
	f.Var(&s.subscribers, "subscribers", "prefixes in which subscribers live")
	f.Var(&s.evidence, "evidence", "which evidence may name a flow, strongest first")
	f.DurationVar(&s.dnsGrace, "dns-grace", 10*time.Second, "added to every TTL")
	f.DurationVar(&s.dnsStale, "dns-stale", 6*time.Hour, "how long past its validity an answer may still name a flow")
	f.DurationVar(&s.dedup, "dedup", 10*time.Millisecond, "how long after a packet an equal one is its copy, from a second mirror port or tap point; 0 counts copies too")
	f.BoolVar(&s.vlanScopes, "vlan-scopes", false, "each VLAN is an address space of its own")
	f.IntVar(&s.shards, "shards", min(runtime.GOMAXPROCS(0), mostShards), fmt.Sprintf("worker goroutines, 1 to %d; %s; the output does not depend on it", mostShards, beyondPartitions))
	f.Var(&s.memory, "memory", "budget of all tables together, such as 512M or 4G; the default is a quarter of what this machine, or the control group, has")
}

// registerServers registers what tells servers apart, where the passive ping is
// written.
func (s *settings) registerServers(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.asnDB, "asn-db", "", "MMDB `FILE` that knows autonomous systems: the lines of --ping by groups of servers name theirs")
}

// check finds mistakes that pflag cannot see.
func (s *settings) check() error {
	switch {
	case s.ids != "pseudonym" && s.ids != "address":
		return usagef("--subscriber-ids is pseudonym or address, not %q", s.ids)
	case s.shards < 1 || s.shards > mostShards:
		return usagef("--shards is 1 to %d, not %d", mostShards, s.shards)
	case s.dnsGrace < 0:
		return usagef("--dns-grace cannot be negative")
	case s.dnsStale < 0:
		return usagef("--dns-stale cannot be negative")
	case s.dedup < 0 || s.dedup > time.Second:
		return usagef("--dedup is between 0 and 1s, not %v: a later copy cannot be told from a repeat", s.dedup)
	case len(s.apns) > probe.MaxAPNs:
		return usagef("--apn can be given %d times at most", probe.MaxAPNs)
	case s.asnDB != "" && s.ping == "":
		return usagef("--asn-db goes with --ping")
	}
	return checkMemory(s.memory)
}

// checkRecords finds mistakes in where records go, for commands that write them.
func (s *settings) checkRecords() error {
	if s.pseudonymKey != "" && s.flows == "" {
		return usagef("--pseudonym-key goes with --flows: nothing else that is written shows a subscriber")
	}
	bare := packed.Bare(s.flows)
	if name, isCSV := strings.CutSuffix(bare, ".csv"); isCSV {
		return usagef("--flows %s: records are JSON Lines; name it %s.jsonl, and make CSV of it with jq -r '[.start, .name, .class] | @csv'", s.flows, name)
	}
	return nil
}

// mostShards is beyond any machine.
const mostShards = 1024

// beyondPartitions says what more shards than partitions come to.
const beyondPartitions = "beyond 64 there is nothing left to share out"

func (s *settings) loadRules() (*classify.Rules, error) { return rulesFrom(s.rules) }

// engine returns the configuration that the flags describe. warn is told where
// identities cannot be kept.
func (s *settings) engine(rules *classify.Rules, warn io.Writer) (probe.Config, error) {
	if free := freeMemory(); free > 0 && int64(s.memory) > free {
		_, _ = fmt.Fprintf(warn, "nametap: warning: --memory %s is more than the %s that are free now\n", &s.memory, size(uint64(free)))
	}
	cfg := probe.Config{
		Shards:      s.shards,
		Memory:      int64(s.memory),
		Subscribers: s.subscribers,
		Cascade:     s.evidence,
		DNSGrace:    s.dnsGrace,
		DNSStale:    s.dnsStale,
		Dedup:       s.dedup,
		APNs:        s.apns,
		VLANScopes:  s.vlanScopes,
		Rules:       rules,
	}
	if s.tac != "" {
		table, err := loadTACs(s.tac)
		if err != nil {
			return cfg, err
		}
		cfg.OSOf = func(tac string) string { return table[tac] }
	}
	if s.flows == "" {
		return cfg, nil
	}
	if s.pseudonymKey != "" {
		if _, err := s.key(warn); err != nil {
			return cfg, err
		}
	}
	cfg.Hash = func(imsi gtp.Digits) string { return s.identities(warn).Hash(gtp.IMSI, imsi) }
	return cfg, nil
}

// identities returns the keyed hash of identities. Where no key was named, one's
// own is looked for when the first identity is met.
func (s *settings) identities(warn io.Writer) *gtp.Hasher {
	if s.hasher == nil {
		key, err := s.key(warn)
		if err != nil {
			key = export.RandomKey() // cannot be: only a named key can be bad
		}
		s.hasher = hasher(key)
	}
	return s.hasher
}

func hasher(key export.Key) *gtp.Hasher {
	h, err := gtp.NewHasher(key[:])
	if err != nil {
		panic("a pseudonym key is long enough for a hash: " + err.Error())
	}
	return h
}

// addresses returns how subscriber addresses are written.
func (s *settings) addresses(warn io.Writer) (*export.Addresses, error) {
	if s.ids == "address" {
		return export.ClearAddresses(s.subscribers), nil
	}
	key, err := s.key(warn)
	if err != nil {
		return nil, err
	}
	return s.addressesUnder(key), nil
}

// addressesUnder returns how they are written once the key is known.
func (s *settings) addressesUnder(key export.Key) *export.Addresses {
	if s.ids == "address" {
		return export.ClearAddresses(s.subscribers)
	}
	return export.Pseudonyms(key, s.subscribers)
}

// key returns the key of all pseudonyms, which is read once: the named one, else
// the user's own, which is made at its first use. Where none can be kept, one for
// this run alone is used, and warn is told.
func (s *settings) key(warn io.Writer) (export.Key, error) {
	if s.inUse != nil {
		return *s.inUse, nil
	}
	key, err := s.keyInFile()
	if err != nil && s.pseudonymKey != "" {
		return key, err
	}
	if err != nil {
		_, _ = fmt.Fprintf(warn, "nametap: warning: pseudonyms hold for this run only: %v; name a key file with --pseudonym-key\n", err)
		key, s.passing = export.RandomKey(), true
	}
	s.inUse = &key
	return key, nil
}

func (s *settings) keyInFile() (export.Key, error) {
	if s.pseudonymKey != "" {
		return export.LoadKey(s.pseudonymKey)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return export.Key{}, err
	}
	return export.EnsureKey(filepath.Join(dir, "nametap", "pseudonym.key"))
}

// keyAnew reads the key again, where one is in use that is kept in a file.
func (s *settings) keyAnew() (key export.Key, err error) {
	if s.inUse == nil {
		return key, nil
	}
	if key, err = s.keyInFile(); err != nil && s.passing {
		return *s.inUse, nil
	}
	return key, err
}

// checkListen refuses what would be all addresses at a port that nobody chose.
func checkListen(address string) error {
	if _, port, err := net.SplitHostPort(address); err == nil && port != "" {
		return nil
	}
	return usagef("--listen is an address and a port such as 127.0.0.1:9108, or :9108 for all addresses of this machine, not %q", address)
}

// prefixes is a flag of comma-separated CIDRs. The first use replaces the
// default, further ones add.
type prefixes []netip.Prefix

func (p *prefixes) String() string {
	parts := make([]string, len(*p))
	for i, x := range *p {
		parts[i] = x.String()
	}
	return strings.Join(parts, ",")
}

func (p *prefixes) Type() string { return "CIDR,..." }

func (p *prefixes) Set(list string) error {
	var out prefixes
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		x, err := netip.ParsePrefix(word)
		if err != nil {
			a, aerr := netip.ParseAddr(word)
			if aerr != nil {
				return fmt.Errorf("%q is no prefix such as 10.0.0.0/8", word)
			}
			x = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, x.Masked())
	}
	*p = out
	return nil
}

// bytesize is a flag in bytes with an optional binary unit.
type bytesize int64

func (b *bytesize) Type() string { return "SIZE" }

func (b *bytesize) String() string {
	for i, unit := range []string{"G", "M", "K"} {
		if shift := 30 - 10*i; *b != 0 && *b>>shift<<shift == *b {
			return strconv.FormatInt(int64(*b>>shift), 10) + unit
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

func (b *bytesize) Set(text string) error {
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	shift := 0
	if i := strings.IndexByte("KMGT", lastByte(number)); i >= 0 {
		shift = 10 * (i + 1)
		number = number[:len(number)-1]
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n <= 0 || n*float64(int64(1)<<shift) > 1<<50 {
		return fmt.Errorf("%q is no size such as 512M or 4G", text)
	}
	*b = bytesize(n * float64(int64(1)<<shift))
	return nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// inputs are the files that the flags name to be read.
func (s *settings) inputs() []named {
	return []named{
		{flag: "--rules", path: s.rules},
		{flag: "--pseudonym-key", path: s.pseudonymKey},
		{flag: "--tac", path: s.tac},
		{flag: "--asn-db", path: s.asnDB},
	}
}

// outputs are those that are written.
func (s *settings) outputs() []named {
	return []named{{flag: "--flows", path: s.flows}, {flag: "--ping", path: s.ping}}
}

// asCSV reports whether the passive ping is wanted as CSV.
func (s *settings) asCSV() bool { return strings.HasSuffix(packed.Bare(s.ping), ".csv") }

// passivePing lets the engine write the passive ping, if it is wanted, to where
// open says. The function that it returns writes the last, shorter period.
func (s *settings) passivePing(cfg *probe.Config, open func() (io.Writer, error)) (finish func(*probe.Snapshot) error, err error) {
	if s.ping == "" {
		return func(*probe.Snapshot) error { return nil }, nil
	}
	places, err := report.OpenPlaces(s.asnDB, "", "")
	if err != nil {
		return nil, err
	}
	out, err := open()
	if err != nil {
		places.Close()
		return nil, err
	}
	ping := export.NewPing(out, s.asCSV())
	if s.asnDB != "" {
		ping.ByServers(func(a netip.Addr) (uint32, string) {
			place := places.Lookup(a)
			return place.ASN, place.Org
		})
	}
	cfg.Servings = true
	var failed error
	watch := cfg.Watch
	cfg.WatchEvery = export.PingPeriod
	cfg.Watch = func(snapshot *probe.Snapshot) {
		if watch != nil {
			watch(snapshot)
		}
		if failed == nil {
			failed = ping.Observe(snapshot)
		}
	}
	return func(last *probe.Snapshot) error {
		if failed == nil {
			failed = ping.Observe(last)
		}
		places.Close()
		return oneLine(failed, places.Err())
	}, nil
}
