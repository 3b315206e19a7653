package synth

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed scenarios/*.yaml
var builtin embed.FS

// Duration is a time.Duration that is written as one in YAML ("90s").
type Duration time.Duration

// maxDuration keeps sums of times within 64 bits of nanoseconds.
const maxDuration = 10 * 365 * 24 * time.Hour

// UnmarshalYAML reads the notation of time.ParseDuration.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 || v > maxDuration {
		return fmt.Errorf("line %d: %q is not a duration such as 90s, 15m or 5h", n.Line, n.Value)
	}
	*d = Duration(v)
	return nil
}

// Time is an instant in the notation of RFC 3339.
type Time struct{ time.Time }

// UnmarshalYAML reads RFC 3339.
func (t *Time) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.Parse(time.RFC3339, n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a time such as 2014-02-18T20:00:00Z", n.Line, n.Value)
	}
	t.Time = v
	return nil
}

// Scenario is what a trace is made from: a population, its network, its
// servers and what goes wrong. See the built-in scenarios for an example of
// every key. A value comes from LoadScenario, which has checked it, and is
// never written to by this package.
type Scenario struct {
	Name        string   `yaml:"name"`
	About       string   `yaml:"about"`
	Start       Time     `yaml:"start"`       // packet time of the first moment
	Duration    Duration `yaml:"duration"`    // default length
	Subscribers int      `yaml:"subscribers"` // default population

	Rhythm        Rhythm        `yaml:"rhythm"`
	Devices       []Device      `yaml:"devices"`
	Access        Access        `yaml:"access"`
	Server        Side          `yaml:"server"`
	Tap           Tap           `yaml:"tap"`
	DNS           DNS           `yaml:"dns"`
	IPv6          IPv6          `yaml:"ipv6"`
	Encapsulation Encapsulation `yaml:"encapsulation"`
	Sites         []Site        `yaml:"sites"`
	Pools         []Pool        `yaml:"pools"`
	Services      []Service     `yaml:"services"`
	Outage        *Outage       `yaml:"outage"`
}

// Rhythm is the load of each hour of the local day, relative to the busiest
// hour (1). Between the hours' middles it is interpolated.
type Rhythm struct {
	Hourly    []float64 `yaml:"hourly"`
	UTCOffset Duration  `yaml:"utc_offset"`
}

// Device is one operating system of the population with its habits.
type Device struct {
	OS           string    `yaml:"os"`            // the record's os
	Stack        string    `yaml:"stack"`         // TCP of its time, see stack.go
	Share        float64   `yaml:"share"`         // of the subscribers; scaled to sum to 1
	ChatTimeouts []Timeout `yaml:"chat_timeouts"` // silence after which it closes the chat connection
	KeepAlive    Duration  `yaml:"keep_alive"`    // 0: none
	MediaLinger  Duration  `yaml:"media_linger"`  // a transfer's connection stays open so long
	DNSHold      Duration  `yaml:"dns_hold"`      // names are kept so long, whatever their TTL
	Reset        float64   `yaml:"reset"`         // share of its closes that are an RST
	TAC          []string  `yaml:"tac"`           // type allocation codes, 8 digits
}

// Timeout is one of a device's time-outs and how often it is the one.
type Timeout struct {
	After Duration `yaml:"after"`
	Share float64  `yaml:"share"`
}

// Side is what one side of the tap does to a packet in either direction.
type Side struct {
	Loss         float64  `yaml:"loss"`          // share of packets lost
	Reorder      float64  `yaml:"reorder"`       // share of packets overtaken
	ReorderDelay Duration `yaml:"reorder_delay"` // how late at most
	Jitter       Duration `yaml:"jitter"`        // mean of the extra delay of a packet
}

// Access is the subscribers' side of the tap.
type Access struct {
	Side     `yaml:",inline"`
	DelayMin Duration `yaml:"delay_min"` // one way, without queue
	DelayMax Duration `yaml:"delay_max"`
	// Link rates in bit/s; each subscriber's is drawn between them, squared
	// toward the upper end.
	DownlinkMin int64 `yaml:"downlink_min"`
	DownlinkMax int64 `yaml:"downlink_max"`
	UplinkMin   int64 `yaml:"uplink_min"`
	UplinkMax   int64 `yaml:"uplink_max"`
	// The radio sleeps after WakeAfter of silence; waking takes up to Wake.
	WakeAfter Duration `yaml:"wake_after"`
	Wake      Duration `yaml:"wake"`
	MSS       int      `yaml:"mss"` // subscribers announce it, minus 20 over IPv6
}

// Tap is what the tap itself does wrong.
type Tap struct {
	Loss       float64 `yaml:"loss"`        // share of packets that pass uncaptured
	Duplicates float64 `yaml:"duplicates"`  // share of packets captured twice, up to 200 µs apart
	DNSUnseen  float64 `yaml:"dns_unseen"`  // share of lookups whose UDP answer takes another way
	ClientOnly float64 `yaml:"client_only"` // share of connections whose downlink takes another way
}

// DNS is how names are resolved.
type DNS struct {
	Resolver  string   `yaml:"resolver"`  // IPv4
	Resolver6 string   `yaml:"resolver6"` // IPv6
	Encrypted float64  `yaml:"encrypted"` // share of subscribers that use DoT (853) or DoH (443)
	DoH       []string `yaml:"doh"`       // names of their resolvers, sent as SNI
	TCP       float64  `yaml:"tcp"`       // share of lookups that end in a truncated answer and TCP
	AAAA      float64  `yaml:"aaaa"`      // share of IPv4 lookups that ask AAAA too, and get none
	MixedCase float64  `yaml:"mixed_case"`
}

// IPv6 says who has it. Such a subscriber has nothing else: names without an
// AAAA are synthesised by the resolver (DNS64, RFC 6147) under 64:ff9b::/96.
type IPv6 struct {
	Share float64 `yaml:"share"`
	// PrivacyRotation is how long an interface identifier is used for new
	// connections (RFC 8981); DNS is always asked from the stable one.
	PrivacyRotation Duration `yaml:"privacy_rotation"`
}

// Encapsulation is what is around a subscriber's packets at the tap.
type Encapsulation struct {
	Kind          string   `yaml:"kind"` // none, or vlan, qinq, mpls, gtpu, gtpu6 joined by '+'
	MTU           int      `yaml:"mtu"`  // outer IPv4 packets above it are fragmented; 0: never
	GTPv2         float64  `yaml:"gtpv2"`
	APNs          []string `yaml:"apns"`
	AttachSeen    float64  `yaml:"attach_seen"`    // share of subscribers whose first attach is in the trace
	Handovers     float64  `yaml:"handovers"`      // share of actions that follow a handover
	DetachAfter   Duration `yaml:"detach_after"`   // 0: never
	Nodes         int      `yaml:"nodes"`          // access nodes (SGSN or SGW)
	SequenceShare float64  `yaml:"sequence_share"` // access nodes that number their G-PDUs
}

// Site is a place with servers.
type Site struct {
	ID       string   `yaml:"id"`
	RTT      Duration `yaml:"rtt"` // tap to server and back, without jitter
	Prefixes []string `yaml:"prefixes"`
	Prefix6  string   `yaml:"prefix6"`
}

// Pool is a set of server addresses, spread evenly over the prefixes of its
// sites. Which of them answer follows the rhythm between ActiveMin and Count.
type Pool struct {
	ID        string   `yaml:"id"`
	Sites     []string `yaml:"sites"`
	Count     int      `yaml:"count"`
	ActiveMin int      `yaml:"active_min"` // 0: all
	IPv6      bool     `yaml:"ipv6"`       // has AAAA records
}

// Size is a distribution of flow sizes in IP bytes, both directions together:
// lognormal, and Pareto for a share of it.
type Size struct {
	Median    float64 `yaml:"median"`
	Sigma     float64 `yaml:"sigma"`
	Tail      float64 `yaml:"tail"` // share
	TailFrom  float64 `yaml:"tail_from"`
	TailAlpha float64 `yaml:"tail_alpha"`
	Max       float64 `yaml:"max"`
}

// Service is a kind of server with its names and the flows to it.
type Service struct {
	ID       string   `yaml:"id"`
	App      string   `yaml:"app"`   // as the built-in rules say; other
	Class    string   `yaml:"class"` // as the built-in rules say; other
	Names    []string `yaml:"names"` // a{1..9}.example stands for nine names
	Pool     string   `yaml:"pool"`
	Ports    []int    `yaml:"ports"`
	Protocol string   `yaml:"protocol"` // chat, tls, http, push, dead (no answer to a SYN)
	PerHour  float64  `yaml:"per_hour"` // attempts a subscriber in the busiest hour
	Size     Size     `yaml:"size"`
	Upload   float64  `yaml:"upload"` // share of transfers that go uplink

	TTL     Duration `yaml:"ttl"`     // authoritative; answers carry what is left of it
	Answers int      `yaml:"answers"` // addresses in an answer
	Rotate  bool     `yaml:"rotate"`  // another set in every answer; else a name keeps its addresses
	CNAME   []string `yaml:"cname"`   // chain; of a range, the one that follows from the name's number

	TLS13    bool    `yaml:"tls13"`
	SNI      float64 `yaml:"sni"`
	ECH      float64 `yaml:"ech"`       // share of the hellos with SNI that hide it
	BigHello float64 `yaml:"big_hello"` // share of hellos with a post-quantum key share
	Resumed  float64 `yaml:"resumed"`   // share of handshakes without a certificate

	Heartbeat Duration `yaml:"heartbeat"` // protocol push
	Abort     float64  `yaml:"abort"`     // share of transfers the user breaks off
	Vanish    float64  `yaml:"vanish"`    // share of chat connections whose phone is never heard of again
	PortReuse float64  `yaml:"port_reuse"`
}

// Outage is a time in which an app's servers accept connections and fail
// above TCP.
type Outage struct {
	App      string   `yaml:"app"`
	After    Duration `yaml:"after"` // since the scenario's start
	Duration Duration `yaml:"duration"`
	Residue  float64  `yaml:"residue"`  // share of transfers that still work
	Attempts float64  `yaml:"attempts"` // share of transfers that are tried and fail; the others are not tried
	// Ladder lists what a client tries in a round, in turn: a service's id
	// with a port after a colon.
	Ladder  []string `yaml:"ladder"`
	WaitMin Duration `yaml:"wait_min"` // between rounds
	WaitMax Duration `yaml:"wait_max"`
	Surge   float64  `yaml:"surge"` // activity right after the end, against the usual
	Decay   Duration `yaml:"decay"` // the surge falls to 1/e in this time
}

// Scenarios returns the names of the built-in scenarios.
func Scenarios() []string {
	entries, _ := fs.ReadDir(builtin, "scenarios")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	sort.Strings(names)
	return names
}

// LoadScenario returns the built-in scenario of that name, or else reads the
// file of that name. An error names the file and the line.
func LoadScenario(nameOrFile string) (*Scenario, error) {
	if slices.Contains(Scenarios(), nameOrFile) {
		b, err := builtin.ReadFile(path.Join("scenarios", nameOrFile+".yaml"))
		if err != nil {
			return nil, err
		}
		return ParseScenario(nameOrFile, b)
	}
	f, err := os.Open(nameOrFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("scenario %s: no such file and not built in: use one of %s, or a YAML file",
			nameOrFile, strings.Join(Scenarios(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", nameOrFile, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", nameOrFile, err)
	}
	return ParseScenario(nameOrFile, b)
}

// plainWord is what a scenario may call things that end up in records.
var plainWord = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,60}$`)

// What the YAML library says in the terms of Go.
var (
	yamlUnknown   = regexp.MustCompile(`field (\S+) not found in type \S+`)
	yamlMisplaced = regexp.MustCompile("cannot unmarshal \\S+ (`.*`) into \\S+")
)

// ParseScenario reads a scenario from YAML. name is for errors.
func ParseScenario(name string, b []byte) (*Scenario, error) {
	var sc Scenario
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&sc); err != nil {
		var te *yaml.TypeError
		text := err.Error()
		if errors.As(err, &te) {
			text = te.Errors[0]
		}
		text = yamlUnknown.ReplaceAllString(strings.TrimPrefix(text, "yaml: "), `unknown key "$1"`)
		text = yamlMisplaced.ReplaceAllString(text, "$1 cannot stand there; nametap synth show NAME prints a scenario of every key")
		return nil, fmt.Errorf("scenario %s: %s", name, strings.ReplaceAll(text, "\n", " "))
	}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	c := checker{name: name, root: &root}
	c.scenario(&sc)
	if c.err != nil {
		return nil, c.err
	}
	return &sc, nil
}

// checker looks for what is wrong with a scenario beyond its syntax, and
// keeps the first fault with its line.
type checker struct {
	name string
	root *yaml.Node
	err  error
}

// at notes a fault of the value at the path of keys (string) and indices
// (int) unless ok.
func (c *checker) at(ok bool, text string, keys ...any) {
	if ok || c.err != nil {
		return
	}
	where := make([]string, len(keys))
	for i, k := range keys {
		where[i] = fmt.Sprint(k)
	}
	c.err = fmt.Errorf("scenario %s: line %d: %s: %s", c.name, c.line(keys), strings.Join(where, "."), text)
}

// line returns the line of the deepest node of the path that is there.
func (c *checker) line(keys []any) int {
	if len(c.root.Content) == 0 {
		return 1
	}
	n := c.root.Content[0]
	for _, k := range keys {
		next := child(n, k)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

func child(n *yaml.Node, key any) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch k := key.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && k < len(n.Content) {
			return n.Content[k]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == k {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

func (c *checker) share(v float64, keys ...any) {
	c.at(v >= 0 && v <= 1, fmt.Sprintf("%v is not a share between 0 and 1", v), keys...)
}

func (c *checker) scenario(sc *Scenario) {
	// pcap's seconds are 32 bits without a sign.
	c.at(sc.Start.Year() >= 1970 && sc.Start.Year() < 2100, "must be a time from 1970 to 2099 such as 2014-02-18T20:00:00Z", "start")
	c.at(sc.Duration > 0, "must be more than 0", "duration")
	c.at(sc.Subscribers > 0 && sc.Subscribers <= MaxSubscribers,
		fmt.Sprintf("must be between 1 and %d", MaxSubscribers), "subscribers")
	c.at(len(sc.Rhythm.Hourly) == 24, "must be 24 loads, one an hour", "rhythm", "hourly")
	for i, v := range sc.Rhythm.Hourly {
		c.at(v >= 0.001 && v <= 1, "a load is between 0.001 and 1", "rhythm", "hourly", i)
	}
	c.devices(sc)
	c.network(sc)
	c.servers(sc)
	c.services(sc)
	if sc.Outage != nil {
		c.outage(sc)
	}
}

func (c *checker) devices(sc *Scenario) {
	c.at(len(sc.Devices) > 0, "at least one is needed", "devices")
	for i, d := range sc.Devices {
		_, ok := stacks[d.Stack]
		c.at(ok, fmt.Sprintf("%q is not known: use one of %s", d.Stack, strings.Join(stackNames(), ", ")), "devices", i, "stack")
		c.at(plainWord.MatchString(d.OS), "must be of lower-case letters, digits, dots and hyphens", "devices", i, "os")
		c.at(d.Share > 0, "must be more than 0", "devices", i, "share")
		c.share(d.Reset, "devices", i, "reset")
		c.at(len(d.ChatTimeouts) > 0, "at least one is needed", "devices", i, "chat_timeouts")
		for j, t := range d.ChatTimeouts {
			c.at(t.After > 0 && t.Share > 0, "after and share must be more than 0", "devices", i, "chat_timeouts", j)
		}
		c.at(d.KeepAlive == 0 || time.Duration(d.KeepAlive) >= time.Second, "must be 0 or at least 1s", "devices", i, "keep_alive")
		c.at(len(d.TAC) > 0, "at least one is needed", "devices", i, "tac")
		for j, t := range d.TAC {
			c.at(len(t) == 8 && strings.Trim(t, "0123456789") == "", "must be 8 digits", "devices", i, "tac", j)
		}
	}
}

func (c *checker) side(s Side, key string) {
	c.at(s.Loss >= 0 && s.Loss <= 0.3, "must be between 0 and 0.3", key, "loss")
	c.at(s.Reorder >= 0 && s.Reorder <= 0.3, "must be between 0 and 0.3", key, "reorder")
}

func (c *checker) network(sc *Scenario) {
	a := &sc.Access
	c.side(a.Side, "access")
	c.side(sc.Server, "server")
	c.at(a.DelayMin > 0 && a.DelayMax >= a.DelayMin, "must be more than 0 and at least delay_min", "access", "delay_max")
	c.at(a.DownlinkMin >= 10_000 && a.DownlinkMax >= a.DownlinkMin, "must be at least 10000 bit/s and at least downlink_min", "access", "downlink_max")
	c.at(a.UplinkMin >= 10_000 && a.UplinkMax >= a.UplinkMin, "must be at least 10000 bit/s and at least uplink_min", "access", "uplink_max")
	c.at(a.MSS >= 536 && a.MSS <= 1460, "must be between 536 and 1460", "access", "mss")
	c.share(sc.Tap.Loss, "tap", "loss")
	c.share(sc.Tap.Duplicates, "tap", "duplicates")
	c.share(sc.Tap.DNSUnseen, "tap", "dns_unseen")
	c.share(sc.Tap.ClientOnly, "tap", "client_only")
	r, err := netip.ParseAddr(sc.DNS.Resolver)
	c.at(err == nil && r.Is4(), "must be an IPv4 address", "dns", "resolver")
	c.share(sc.DNS.Encrypted, "dns", "encrypted")
	c.at(sc.DNS.Encrypted == 0 || len(sc.DNS.DoH) > 0, "at least one name is needed where dns.encrypted is set", "dns", "doh")
	c.share(sc.DNS.TCP, "dns", "tcp")
	c.share(sc.DNS.AAAA, "dns", "aaaa")
	c.share(sc.DNS.MixedCase, "dns", "mixed_case")
	c.share(sc.IPv6.Share, "ipv6", "share")
	if sc.IPv6.Share > 0 {
		r, err := netip.ParseAddr(sc.DNS.Resolver6)
		c.at(err == nil && r.Is6(), "must be an IPv6 address where ipv6.share is set", "dns", "resolver6")
	}
	e := &sc.Encapsulation
	_, err = parseLayers(e.Kind)
	c.at(err == nil, fmt.Sprint(err), "encapsulation", "kind")
	c.at(e.MTU == 0 || e.MTU >= 1000, "must be 0 or at least 1000", "encapsulation", "mtu")
	for i, a := range e.APNs {
		c.at(plainWord.MatchString(a), "must be of lower-case letters, digits, dots and hyphens", "encapsulation", "apns", i)
	}
	c.at(e.Nodes >= 0 && e.Nodes <= 250, "must be at most 250", "encapsulation", "nodes")
	c.share(e.GTPv2, "encapsulation", "gtpv2")
	c.share(e.AttachSeen, "encapsulation", "attach_seen")
	c.share(e.Handovers, "encapsulation", "handovers")
	c.share(e.SequenceShare, "encapsulation", "sequence_share")
}

func (c *checker) servers(sc *Scenario) {
	sites := map[string]*Site{}
	for i := range sc.Sites {
		s := &sc.Sites[i]
		c.at(plainWord.MatchString(s.ID) && sites[s.ID] == nil, "must be a word of its own", "sites", i, "id")
		sites[s.ID] = s
		c.at(time.Duration(s.RTT) >= time.Millisecond, "must be at least 1ms", "sites", i, "rtt")
		c.at(len(s.Prefixes) > 0, "at least one is needed", "sites", i, "prefixes")
		for j, p := range s.Prefixes {
			pre, err := netip.ParsePrefix(p)
			c.at(err == nil && pre.Addr().Is4() && pre.Bits() == 24, "must be an IPv4 /24", "sites", i, "prefixes", j)
		}
	}
	load := map[string]int{}
	pools := map[string]bool{}
	for i, p := range sc.Pools {
		c.at(p.ID != "" && !pools[p.ID], "must be there once", "pools", i, "id")
		pools[p.ID] = true
		c.at(p.Count > 0 && p.Count <= 10_000, "must be between 1 and 10000", "pools", i, "count")
		c.at(p.ActiveMin >= 0 && p.ActiveMin <= p.Count, "must be at most count", "pools", i, "active_min")
		c.at(len(p.Sites) > 0, "at least one is needed", "pools", i, "sites")
		for j, id := range p.Sites {
			s := sites[id]
			c.at(s != nil, fmt.Sprintf("%q is no site", id), "pools", i, "sites", j)
			if s == nil {
				return
			}
			load[id] += p.Count / len(p.Sites)
			c.at(load[id] <= 200*len(s.Prefixes), "the site's prefixes have too few addresses", "pools", i, "sites", j)
			_, err := netip.ParsePrefix(s.Prefix6)
			c.at(!p.IPv6 || err == nil, "its prefix6 is needed for a pool with IPv6", "pools", i, "sites", j)
		}
	}
}

func (c *checker) services(sc *Scenario) {
	c.at(len(sc.Services) > 0 && len(sc.Services) < 256, "must be between 1 and 255", "services")
	ids := map[string]bool{}
	chat := 0
	total := 0.0
	for i, s := range sc.Services {
		at := func(ok bool, text string, keys ...any) {
			c.at(ok, text, append([]any{"services", i}, keys...)...)
		}
		at(s.ID != "" && !ids[s.ID], "must be there once", "id")
		ids[s.ID] = true
		at(plainWord.MatchString(s.App), "must be of lower-case letters, digits, dots and hyphens", "app")
		at(plainWord.MatchString(s.Class), "must be of lower-case letters, digits, dots and hyphens", "class")
		at(len(s.Names) > 0, "at least one is needed", "names")
		for j, n := range s.Names {
			_, err := parseTemplate(n)
			at(err == nil, fmt.Sprint(err), "names", j)
		}
		for j, n := range s.CNAME {
			_, err := parseTemplate(n)
			at(err == nil, fmt.Sprint(err), "cname", j)
		}
		at(slices.ContainsFunc(sc.Pools, func(p Pool) bool { return p.ID == s.Pool }), fmt.Sprintf("%q is no pool", s.Pool), "pool")
		at(len(s.Ports) > 0, "at least one is needed", "ports")
		for j, p := range s.Ports {
			at(p > 0 && p < 65536, "must be between 1 and 65535", "ports", j)
		}
		at(slices.Contains(protocols, s.Protocol), "must be one of "+strings.Join(protocols, ", "), "protocol")
		at(s.PerHour >= 0 && s.PerHour <= 10_000, "must be between 0 and 10000", "per_hour")
		total += s.PerHour
		at(s.Protocol == "dead" || s.Protocol == "push" || s.Size.Median > 0, "must be more than 0", "size", "median")
		at(s.Size.Tail == 0 || s.Size.TailAlpha > 0 && s.Size.TailFrom > 0, "tail_from and tail_alpha must be more than 0", "size", "tail")
		at(s.Size.Max >= 0 && s.Size.Max <= 1e9, "must be at most 1e9", "size", "max")
		at(s.Answers > 0 && s.Answers <= 16, "must be between 1 and 16", "answers")
		at(time.Duration(s.TTL) >= time.Second, "must be at least 1s", "ttl")
		at(s.Protocol != "push" || time.Duration(s.Heartbeat) >= time.Second, "must be at least 1s", "heartbeat")
		if s.Protocol == "chat" {
			chat++
		}
		for _, v := range []struct {
			v   float64
			key string
		}{
			{s.Upload, "upload"},
			{s.SNI, "sni"},
			{s.ECH, "ech"},
			{s.BigHello, "big_hello"},
			{s.Resumed, "resumed"},
			{s.Abort, "abort"},
			{s.Vanish, "vanish"},
			{s.PortReuse, "port_reuse"},
			{s.Size.Tail, "size.tail"},
		} {
			at(v.v >= 0 && v.v <= 1, "must be a share between 0 and 1", v.key)
		}
	}
	c.at(total > 0, "the services' per_hour must add up to more than 0", "services")
}

func (c *checker) outage(sc *Scenario) {
	o := sc.Outage
	c.at(o.App != "", "missing", "outage", "app")
	c.at(o.Duration > 0, "must be more than 0", "outage", "duration")
	c.share(o.Residue, "outage", "residue")
	c.share(o.Attempts, "outage", "attempts")
	c.at(o.Residue+o.Attempts <= 1, "residue and attempts must not exceed 1 together", "outage", "attempts")
	c.at(len(o.Ladder) > 0, "at least one is needed", "outage", "ladder")
	for i, l := range o.Ladder {
		_, err := parseRung(sc, l)
		c.at(err == nil, fmt.Sprint(err), "outage", "ladder", i)
	}
	c.at(o.WaitMin > 0 && o.WaitMax >= o.WaitMin, "must be more than 0 and at least wait_min", "outage", "wait_max")
	c.at(o.Surge >= 1 && o.Surge <= 100, "must be between 1 and 100", "outage", "surge")
	c.at(o.Surge == 1 || o.Decay > 0, "must be more than 0", "outage", "decay")
}
