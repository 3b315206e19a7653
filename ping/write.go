package ping

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// OutwardOnly is the reservation that goes with every loss figure.
const OutwardOnly = "loss is that of the way out: TCP_INFO does not see segments lost on the way in"

// line is a row in JSON Lines. A figure that is not known is null, never 0.
type line struct {
	Time     string  `json:"time"`
	PeriodS  float64 `json:"period_s"`
	By       string  `json:"by"`
	Group    string  `json:"group"`
	Life     bool    `json:"whole_life"`
	Conns    int     `json:"connections"`
	RTTCount int     `json:"rtt_count"`

	RTTLeast  *float64 `json:"rtt_least_s"`
	RTTMedian *float64 `json:"rtt_median_s"`
	RTTP95    *float64 `json:"rtt_p95_s"`
	RTTMean   *float64 `json:"rtt_mean_s"`
	MinRTT    *float64 `json:"min_rtt_s"`
	Age       *float64 `json:"rtt_age_s"`

	DataSegments  uint64   `json:"data_segments"`
	Retransmitted uint64   `json:"retransmitted"`
	Spurious      uint64   `json:"spurious"`
	LossShare     *float64 `json:"loss_share_out"`
	Reordering    uint32   `json:"reordering"`
	Reordered     uint64   `json:"reordered"`
	Received      uint64   `json:"data_segments_received"`
	OutOfOrder    uint64   `json:"out_of_order_received"`
	BytesAcked    uint64   `json:"bytes_acked"`
	BytesReceived uint64   `json:"bytes_received"`

	*connectionLine
}

// connectionLine is what only a single connection has.
type connectionLine struct {
	Local      string   `json:"local"`
	LocalPort  uint16   `json:"local_port"`
	Remote     string   `json:"remote"`
	RemotePort uint16   `json:"remote_port"`
	Name       *string  `json:"name"`
	Netns      *uint64  `json:"netns"`
	NetnsName  *string  `json:"netns_name"`
	UID        *int64   `json:"uid"`
	PID        *int     `json:"pid"`
	Command    *string  `json:"command"`
	Cgroup     *string  `json:"cgroup"`
	Unit       *string  `json:"unit"`
	State      uint8    `json:"tcp_state"`
	RTTVar     *float64 `json:"rtt_var_s"`
	Ended      bool     `json:"ended"`
}

// present is nil for what is not known, which is the zero value.
func present[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func seconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	return new(d.Seconds())
}

// WriteJSON writes a row a line.
func (s *Sample) WriteJSON(w io.Writer, by Grouping) error {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	for _, r := range s.Rows(by) {
		if err := enc.Encode(s.line(&r, by)); err != nil {
			return err
		}
	}
	return buf.Flush()
}

func (s *Sample) line(r *Row, by Grouping) *line {
	l := &line{
		Time: s.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"), PeriodS: s.Period.Seconds(),
		By: string(by), Group: r.Label, Life: r.WholeLife, Conns: r.Connections,
		RTTCount: r.RTT.Count, RTTLeast: seconds(r.RTT.Least), RTTMedian: seconds(r.RTT.Median),
		RTTP95: seconds(r.RTT.P95), RTTMean: seconds(r.RTT.Mean), MinRTT: seconds(r.MinRTT),
		DataSegments: r.Counts.DataSegments, Retransmitted: r.Counts.Retransmitted, Spurious: r.Counts.Spurious,
		Reordering: r.Reordering, Reordered: r.Counts.Reordered,
		Received: r.Counts.DataSegmentsReceived, OutOfOrder: r.Counts.OutOfOrder,
		BytesAcked: r.Counts.BytesAcked, BytesReceived: r.Counts.BytesReceived,
	}
	if r.RTT.Count > 0 {
		l.Age = new(r.Age.Seconds())
	}
	if share, ok := r.Counts.LossShare(); ok {
		l.LossShare = &share
	}
	if c := r.One; c != nil {
		l.connectionLine = connectionOf(c)
	}
	return l
}

func connectionOf(c *Connection) *connectionLine {
	l := &connectionLine{
		Local: c.Local.Addr().String(), LocalPort: c.Local.Port(),
		Remote: c.Remote.Addr().String(), RemotePort: c.Remote.Port(),
		Name: present(c.Name), Netns: present(c.Namespace), NetnsName: present(c.NamespaceName),
		PID: present(c.PID), Command: present(c.Command), Cgroup: present(c.Cgroup), Unit: present(c.Unit),
		State: c.Info.State, RTTVar: seconds(c.Info.RTTVar), Ended: c.Ended,
	}
	if c.UID >= 0 {
		l.UID = &c.UID
	}
	return l
}

// WriteTable writes at most limit rows for people, 0 for all.
func (s *Sample) WriteTable(w io.Writer, by Grouping, limit int) error {
	rows := s.Rows(by)
	buf := bufio.NewWriter(w)
	span := fmt.Sprintf("active in the last %.4g s", s.Period.Seconds())
	whole := 0
	for i := range rows {
		if rows[i].WholeLife {
			whole++
		}
	}
	switch {
	case whole > 0 && whole == len(rows):
		span += "; counts, marked *, are since each connection's start"
	case whole > 0:
		span += "; counts marked * are since a connection's start"
	}
	_, _ = fmt.Fprintf(buf, "%s  %d of %d connections %s  (read in %.1f ms)\n",
		s.Time.Format("2006-01-02 15:04:05"), len(s.Connections), s.Open, span, float64(s.Took.Microseconds())/1e3)
	t := tabwriter.NewWriter(buf, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "conns\trtt ms\tp95\tleast\tage s\tsent\tagain\tneedless\tlost out\treordered\t  %s\n", by)
	shown := rows
	if limit > 0 && len(shown) > limit {
		shown = shown[:limit]
	}
	for i := range shown {
		writeRow(t, &shown[i], by)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if more := len(rows) - len(shown); more > 0 {
		_, _ = fmt.Fprintf(buf, "… and %d more\n", more)
	}
	_, _ = fmt.Fprintf(buf, "%s\n", OutwardOnly)
	if text := s.Skipped.String(); text != "" {
		_, _ = fmt.Fprintf(buf, "not seen: %s\n", text)
	}
	return buf.Flush()
}

func writeRow(w io.Writer, r *Row, by Grouping) {
	star := ""
	if r.WholeLife {
		star = "*"
	}
	loss := "-"
	if share, ok := r.Counts.LossShare(); ok {
		loss = strconv.FormatFloat(share*100, 'f', 2, 64) + " %"
	}
	label := r.Label
	if c := r.One; c != nil && by == ByConnection {
		label += "  " + c.Command
		if c.Name != "" {
			label += " " + c.Name
		}
	}
	_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d%s\t%d\t%d\t%s\t%d\t  %s\n",
		r.Connections, ms(r.RTT.Median), ms(r.RTT.P95), ms(r.MinRTT), age(r),
		r.Counts.DataSegments, star, r.Counts.Retransmitted, r.Counts.Spurious, loss, r.Counts.Reordered, printable(label))
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(d)/1e6, 'f', 3, 64)
}

func age(r *Row) string {
	if r.RTT.Count == 0 {
		return "-"
	}
	return strconv.FormatFloat(r.Age.Seconds(), 'f', 1, 64)
}

// printable keeps a process that calls itself by an escape sequence from
// painting the terminal, and a tab from shifting the columns.
func printable(label string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, label)
}

// String lists what was skipped; empty where nothing was.
func (s Skipped) String() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, what+": "+strconv.Itoa(n))
		}
	}
	add(s.Namespaces, "network namespaces that may not be entered (needs CAP_SYS_ADMIN)")
	add(s.Processes, "processes that may not be looked at (needs CAP_SYS_PTRACE)")
	add(s.Answers, "network namespaces whose DNS answers, and with them names, may not be read (needs CAP_NET_RAW)")
	add(s.Messages, "messages of the kernel that could not be read")
	add(s.Connections, "connections beyond the tables' caps")
	return strings.Join(parts, "; ")
}
