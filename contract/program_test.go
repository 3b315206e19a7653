package contract

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	// The program is built anew for the tests, but go test keeps a result until
	// something that the tests import changes: so they import its rooms.
	_ "github.com/nametap/nametap/capture"
	_ "github.com/nametap/nametap/export"
	_ "github.com/nametap/nametap/gtp"
	_ "github.com/nametap/nametap/probe"
)

// nametap is the program under test.
var nametap string

func TestMain(m *testing.M) {
	if os.Getenv(measuring) != "" {
		os.Exit(measure(os.Args[1:]))
	}
	os.Exit(testMain(m))
}

// measuring, in the environment, makes a program out of the test binary: it runs
// the command in its arguments and prints its peak of memory in bytes.
const measuring = "NAMETAP_CONTRACT_MEASURE"

func measure(command []string) int {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = os.Stdin
	_ = cmd.Run() // how it went is known from an earlier run
	fmt.Println(peak(cmd.ProcessState))
	return 0
}

func peak(p *os.ProcessState) int64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" { // bytes there, kilobytes elsewhere (getrusage(2))
		return usage.Maxrss
	}
	return usage.Maxrss << 10
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nametap-contract-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, sub := range []string{"bin", "home", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	nametap = filepath.Join(dir, "bin", "nametap")
	build := exec.Command("go", "build", "-o", nametap, "../cmd/nametap")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ../cmd/nametap: %v\n%s", err, out)
		return 1
	}
	// What nametap keeps for a user must not come from, or go to, whoever runs
	// the tests.
	for name, sub := range map[string]string{"XDG_CONFIG_HOME": "home", "HOME": "home", "TMPDIR": "tmp"} {
		if err := os.Setenv(name, filepath.Join(dir, sub)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// outcome is what one run of the program left behind.
type outcome struct {
	stdout, stderr []byte
	code           int
	args           []string
	maxRSS         int64 // peak memory in bytes, at least; see modest
}

// errorLines returns what stands on standard error, line by line.
func (o *outcome) errorLines() []string {
	text := strings.TrimSuffix(string(o.stderr), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// runLimit is far beyond what any of the inputs here takes, so that a hang
// shows as one.
const runLimit = 2 * time.Minute

// execute runs nametap.
func execute(t testing.TB, stdin io.Reader, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, nametap, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("nametap %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("nametap %s: not over after %s", strings.Join(args, " "), runLimit)
	}
	o := outcome{
		stdout: out.Bytes(), stderr: errs.Bytes(), code: cmd.ProcessState.ExitCode(),
		args: args, maxRSS: peak(cmd.ProcessState),
	}
	if bytes.Contains(o.stderr, []byte("goroutine ")) || bytes.Contains(o.stderr, []byte("panic")) {
		t.Fatalf("nametap %s: a stack trace\n%s", strings.Join(args, " "), o.stderr)
	}
	return o
}

// record is a line of --flows.
type record struct {
	Start          time.Time  `json:"start"`
	End            time.Time  `json:"end"`
	Duration       float64    `json:"duration_s"`
	Subscriber     netip.Addr `json:"subscriber"`
	SubscriberPort uint16     `json:"subscriber_port"`
	Server         netip.Addr `json:"server"`
	ServerPort     uint16     `json:"server_port"`
	Name           *string    `json:"name"`
	DNSName        *string    `json:"dns_name"`
	SNI            *string    `json:"sni"`
	Evidence       string     `json:"evidence"`
	DNSAge         *float64   `json:"dns_age_s"`
	App            string     `json:"app"`
	Class          string     `json:"class"`
	SYNSeen        bool       `json:"syn_seen"`
	EndReason      string     `json:"end_reason"`

	UplinkBytes     uint64 `json:"uplink_bytes"`
	DownlinkBytes   uint64 `json:"downlink_bytes"`
	UplinkPackets   uint64 `json:"uplink_packets"`
	DownlinkPackets uint64 `json:"downlink_packets"`
	UplinkPayload   uint64 `json:"uplink_payload_bytes"`
	DownlinkPayload uint64 `json:"downlink_payload_bytes"`
	SYN             uint64 `json:"syn"`
	SYNACK          uint64 `json:"syn_ack"`
	FIN             uint64 `json:"fin"`
	RST             uint64 `json:"rst"`

	UplinkRetransmitted   uint64 `json:"uplink_retransmitted"`
	DownlinkRetransmitted uint64 `json:"downlink_retransmitted"`
	UplinkOutOfOrder      uint64 `json:"uplink_out_of_order"`
	DownlinkOutOfOrder    uint64 `json:"downlink_out_of_order"`

	ServerHandshake *float64 `json:"server_rtt_handshake_s"`
	AccessHandshake *float64 `json:"access_rtt_handshake_s"`
	ServerMin       *float64 `json:"server_rtt_min_s"`
	AccessMin       *float64 `json:"access_rtt_min_s"`
	ServerMean      *float64 `json:"server_rtt_mean_s"`
	AccessMean      *float64 `json:"access_rtt_mean_s"`

	Tunnel *string `json:"tunnel"`
	APN    *string `json:"apn"`
}

func (r *record) client() netip.AddrPort { return netip.AddrPortFrom(r.Subscriber, r.SubscriberPort) }
func (r *record) server() netip.AddrPort { return netip.AddrPortFrom(r.Server, r.ServerPort) }

func (r *record) String() string { return fmt.Sprintf("%v -> %v", r.client(), r.server()) }

// text is what a nullable field says; "" for null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// summary is what --format json writes.
type summary struct {
	Capture struct {
		Files     int               `json:"files"`
		Packets   uint64            `json:"packets"`
		Bytes     uint64            `json:"bytes"`
		First     *time.Time        `json:"first"`
		Last      *time.Time        `json:"last"`
		Truncated bool              `json:"truncated"`
		Undecoded map[string]uint64 `json:"undecoded"`
	} `json:"capture"`
	DNS struct {
		Responses uint64 `json:"responses"`
		Addresses uint64 `json:"addresses"`
		Malformed uint64 `json:"malformed"`
	} `json:"dns"`
	Tunnels struct {
		AccessPoints []accessPoint `json:"access_points"`
	} `json:"tunnels"`
	Naming  map[string]uint64 `json:"naming"`
	Classes []classSummary    `json:"classes"`
}

type accessPoint struct {
	APN             string `json:"apn"`
	Flows           uint64 `json:"flows"`
	UplinkBytes     uint64 `json:"uplink_bytes"`
	DownlinkBytes   uint64 `json:"downlink_bytes"`
	UplinkPackets   uint64 `json:"uplink_packets"`
	DownlinkPackets uint64 `json:"downlink_packets"`
	SYN             uint64 `json:"syn"`
	SYNACK          uint64 `json:"syn_ack"`
	RST             uint64 `json:"rst"`
}

type classSummary struct {
	App             string `json:"app"`
	Class           string `json:"class"`
	Flows           uint64 `json:"flows"`
	Attempts        uint64 `json:"attempts"`
	Subscribers     int    `json:"subscribers"`
	Servers         int    `json:"servers"`
	UplinkBytes     uint64 `json:"uplink_bytes"`
	DownlinkBytes   uint64 `json:"downlink_bytes"`
	UplinkPackets   uint64 `json:"uplink_packets"`
	DownlinkPackets uint64 `json:"downlink_packets"`
	SYN             uint64 `json:"syn"`
	SYNACK          uint64 `json:"syn_ack"`
	FIN             uint64 `json:"fin"`
	RST             uint64 `json:"rst"`
}

func (s *summary) class(app, class string) classSummary {
	for _, c := range s.Classes {
		if c.App == app && c.Class == class {
			return c
		}
	}
	return classSummary{App: app, Class: class}
}

func (s *summary) tcpBytes() (sum uint64) {
	for _, c := range s.Classes {
		sum += c.UplinkBytes + c.DownlinkBytes
	}
	return sum
}

func (s *summary) undecoded() (sum uint64) {
	for _, n := range s.Capture.Undecoded {
		sum += n
	}
	return sum
}

// report is all that an analysis gives.
type report struct {
	outcome
	lines   []byte // the flow records as they were written
	records []record
	summary summary
}

// produce runs an analysis and looks at nothing but the summary.
func produce(t testing.TB, files []string, args ...string) *report {
	t.Helper()
	flows := filepath.Join(t.TempDir(), "flows.jsonl")
	all := append([]string{"analyze", "--subscriber-ids", "address", "--flows", flows, "--format", "json"}, args...)
	r := &report{outcome: execute(t, nil, append(all, files...)...)}
	var err error
	if r.lines, err = os.ReadFile(flows); err != nil {
		t.Fatalf("nametap wrote no records: %v\n%s", err, r.stderr)
	}
	if err := json.Unmarshal(r.stdout, &r.summary); err != nil {
		t.Fatalf("the summary is not JSON: %v\n%s\n%s", err, r.stdout, r.stderr)
	}
	return r
}

// analyze runs an analysis and holds what it says against itself: whatever the
// input, records come in their order, and the summary is the sum of the records.
func analyze(t testing.TB, files []string, args ...string) *report {
	t.Helper()
	r := produce(t, files, args...)
	r.records = decodeRecords(t, r.lines)
	r.inOrder(t)
	r.addsUp(t, slices.Contains(args, "--memory"))
	return r
}

// analyzed is analyze where nothing may be amiss.
func analyzed(t testing.TB, files []string, args ...string) *report {
	t.Helper()
	r := analyze(t, files, args...)
	if r.code != 0 || len(r.stderr) > 0 {
		t.Fatalf("exit status %d, standard error %q, want 0 and none", r.code, r.stderr)
	}
	return r
}

func decodeRecords(t testing.TB, lines []byte) []record {
	t.Helper()
	var records []record
	dec := json.NewDecoder(bytes.NewReader(lines))
	for {
		var r record
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatalf("record %d is not JSON: %v", len(records)+1, err)
		}
		records = append(records, r)
	}
}

// inOrder checks that records are written in the order of the flows' ends, then
// starts, then 5-tuples.
func (r *report) inOrder(t testing.TB) {
	t.Helper()
	order := func(a, b record) int {
		return cmp.Or(a.End.Compare(b.End), a.Start.Compare(b.Start),
			a.Subscriber.Compare(b.Subscriber), a.Server.Compare(b.Server),
			cmp.Compare(a.SubscriberPort, b.SubscriberPort), cmp.Compare(a.ServerPort, b.ServerPort))
	}
	for i := 1; i < len(r.records); i++ {
		if order(r.records[i-1], r.records[i]) > 0 {
			t.Errorf("record %d (%s) stands before %s, which ended earlier", i, &r.records[i-1], &r.records[i])
		}
	}
}

// addsUp checks that each class of the summary is the sum of its records. It is
// loose about subscribers and servers: with little memory they can be too many to
// tell apart, and behind gateways one address is several subscribers.
func (r *report) addsUp(t testing.TB, loose bool) {
	t.Helper()
	type key struct{ app, class string }
	type ends struct{ subscribers, servers map[any]bool }
	sums, seen, naming := map[key]*classSummary{}, map[key]ends{}, map[string]uint64{}
	for i := range r.records {
		rec := &r.records[i]
		k := key{rec.App, rec.Class}
		c := sums[k]
		if c == nil {
			c = &classSummary{App: rec.App, Class: rec.Class}
			sums[k], seen[k] = c, ends{map[any]bool{}, map[any]bool{}}
		}
		c.Flows++
		if rec.SYNSeen {
			c.Attempts++
		}
		c.UplinkBytes += rec.UplinkBytes
		c.DownlinkBytes += rec.DownlinkBytes
		c.UplinkPackets += rec.UplinkPackets
		c.DownlinkPackets += rec.DownlinkPackets
		c.SYN += rec.SYN
		c.SYNACK += rec.SYNACK
		c.FIN += rec.FIN
		c.RST += rec.RST
		seen[k].subscribers[subscriberKey(rec.Subscriber)] = true
		seen[k].servers[rec.Server] = true
		naming[rec.Evidence]++
	}
	for _, c := range r.summary.Classes {
		want := classSummary{App: c.App, Class: c.Class}
		k := key{c.App, c.Class}
		if sum := sums[k]; sum != nil {
			want = *sum
			want.Subscribers, want.Servers = len(seen[k].subscribers), len(seen[k].servers)
			if loose {
				want.Subscribers, want.Servers = c.Subscribers, c.Servers
			}
			delete(sums, k)
		}
		if c != want {
			t.Errorf("the summary of %s/%s is\n%+v, its records add up to\n%+v", c.App, c.Class, c, want)
		}
	}
	for k := range sums {
		t.Errorf("the summary has no class %s/%s, but records have", k.app, k.class)
	}
	for evidence, n := range r.summary.Naming {
		if n != naming[evidence] {
			t.Errorf("the summary counts %d flows named by %s, the records are %d", n, evidence, naming[evidence])
		}
		delete(naming, evidence)
	}
	if len(naming) > 0 {
		t.Errorf("evidence that the summary does not know: %v", naming)
	}
}

// subscriberKey is what one subscriber has for himself: an IPv4 address or a
// /64.
func subscriberKey(a netip.Addr) any {
	if a.Is4() {
		return a
	}
	return netip.PrefixFrom(a, 64).Masked()
}

// find returns the records of a 5-tuple by their start.
func (r *report) find(client, server netip.AddrPort) []record {
	var found []record
	for _, rec := range r.records {
		if rec.client() == client && rec.server() == server {
			found = append(found, rec)
		}
	}
	slices.SortFunc(found, func(a, b record) int { return a.Start.Compare(b.Start) })
	return found
}
