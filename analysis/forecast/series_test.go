package forecast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRead(t *testing.T) {
	const at = 1_700_000_000 * int64(time.Second)
	tests := []struct {
		what, text string
		layout     Layout
		values     []float64 // of the first series
		series     int
		want       string // in the error
	}{
		{"CSV", "time,value\n2023-11-14T22:13:20Z,1.5\n1700000010,2\n", Layout{}, []float64{1.5, 2}, 1, ""},
		{"JSON Lines", `{"time":"2023-11-14T22:13:20Z","value":1.5}` + "\n\n" + `{"time":1700000010.5,"value":null}` + "\n", Layout{}, []float64{1.5, math.NaN()}, 1, ""},
		{"gaps", "t,value\n1700000000,\n1700000010,NaN\n1700000020,null\n1700000030,1\n", Layout{}, []float64{math.NaN(), math.NaN(), math.NaN(), 1}, 1, ""},
		{"byte-order mark, CRLF, quotes", "\xef\xbb\xbf\"time\",\"value\"\r\n\"1700000000\",\"1\"\r\n", Layout{}, []float64{1}, 1, ""},
		{"several series", "time,class,value\n1700000000,a,1\n1700000000,b,2\n1700000010,a,3\n", Layout{By: []string{"class"}}, []float64{1, 3}, 2, ""},
		{"milliseconds, microseconds, nanoseconds", "time,value\n1700000000000,1\n1700000000000000,2\n1700000000000000001,3\n", Layout{}, []float64{1, 2, 3}, 1, ""},
		{"lines chosen", "time,group,value\n1700000000,class,1\n1700000000,servers,2\n1700000010,class,3\n", Layout{Where: []Condition{{"group", "class"}}}, []float64{1, 3}, 1, ""},
		{"JSON: lines chosen", `{"time":1700000000,"group":"class","value":1}` + "\n" + `{"time":1700000000,"group":"servers"}` + "\n", Layout{Where: []Condition{{"group", "class"}}}, []float64{1}, 1, ""},
		{"lines mixed", "time,group,value\n1700000000,class,1\n1700000000,servers,2\n", Layout{}, nil, 0, `f:3: same time as line 2 and another "group"; choose lines, such as --where group="class"`},
		{"JSON: lines mixed", `{"time":1700000000,"app":"a","class":"other","value":1}` + "\n" + `{"time":1700000000,"app":"b","class":"other","value":1}` + "\n", Layout{By: []string{"class"}}, nil, 0, `--by class,app`},
		{"sites mixed", "time,site,value\n1700000000,,1\n1700000000,2,2\n", Layout{}, nil, 0, `another "site"`},
		{"a second line with another number", "time,loss,value\n1700000000,1,1\n1700000000,2,2\n", Layout{}, []float64{1, 2}, 1, ""},
		{"no line chosen", "time,group,value\n1700000000,class,1\n", Layout{Where: []Condition{{"group", "site"}}}, nil, 0, `f: no line meets the conditions; lines have "group" "class"`},
		{"no such column to choose by", "time,value\n1700000000,1\n", Layout{Where: []Condition{{"group", "class"}}}, nil, 0, `f:1: no column "group"`},
		{"empty", "", Layout{}, nil, 0, "f: empty"},
		{"blank", "\n \n", Layout{}, nil, 0, "f: empty"},
		{"a header alone", "time,value\n", Layout{}, nil, 0, "no measurements"},
		{"no value column", "time,rtt\n1700000000,1\n", Layout{}, nil, 0, `f:1: no column "value"; there are "time", "rtt"`},
		{"no time column", "when,value\n1,1\n", Layout{}, nil, 0, `f:1: no column of times`},
		{"no such time column", "time,value\n1,1\n", Layout{Time: "when"}, nil, 0, `f:1: no column "when"`},
		{"no such outside column", "time,value\n1,1\n", Layout{Columns: []string{"signal"}}, nil, 0, `f:1: no column "signal"`},
		{"no such series column", "time,value\n1,1\n", Layout{By: []string{"class"}}, nil, 0, `f:1: no column "class"`},
		{"no number", "time,value\n1700000000,1\n1700000010,fast\n", Layout{}, nil, 0, `f:3: column "value": "fast" is no number`},
		{"infinite", "time,value\n1700000000,+Inf\n", Layout{}, nil, 0, `f:2:`},
		{"no time", "time,value\nyesterday,1\n", Layout{}, nil, 0, `f:2: "yesterday" is no time`},
		{"a time out of range", "time,value\n99999999999,1\n", Layout{}, nil, 0, `f:2:`},
		{"a negative time", "time,value\n-5,1\n", Layout{}, nil, 0, `f:2:`},
		{"a time of the 24th century", "time,value\n2300-01-01T00:00:00Z,1\n", Layout{}, nil, 0, `between 1970`},
		{"the clock goes back", "\n\ntime,value\n1700000010,1\n1700000000,1\n", Layout{}, nil, 0, `f:5: the clock goes back to 2023-11-14T22:13:20Z from 2023-11-14T22:13:30Z on line 4`},
		{"back in one series only", "time,class,value\n1700000010,a,1\n1700000000,b,1\n", Layout{By: []string{"class"}}, []float64{1}, 2, ""},
		{"too few fields", "time,value\n1700000000\n", Layout{}, nil, 0, `f:2: wrong number of fields`},
		{"an open quote", "time,value\n\"1700000000,1\n", Layout{}, nil, 0, `f:`},
		{"a line without end", "time,value\n" + strings.Repeat("1", 3<<20), Layout{}, nil, 0, `more than`},
		{"JSON without end", `{"time":"` + strings.Repeat("1", 3<<20), Layout{}, nil, 0, `f:1: a line of more than`},
		{"broken JSON", `{"time":1700000000,"value":1}` + "\n{\n", Layout{}, nil, 0, `f:2: no JSON object`},
		{"an array in JSON Lines", `{"time":1700000000,"value":1}` + "\n[1]\n", Layout{}, nil, 0, `f:2: no JSON object`},
		{"JSON: no such series column", `{"time":1700000000,"app":"a","class":"b","value":1}` + "\n" + `{"time":1700000000,"app":"a","class":"c","value":1}` + "\n", Layout{By: []string{"app", "kind"}}, nil, 0, `f:2: no column "kind" up to here; there are "app", "class", "time", "value"`},
		{"JSON: no such series column, and one series", `{"time":1700000000,"app":"a","value":1}` + "\n", Layout{By: []string{"app", "kind"}}, nil, 0, `f: no line has "kind"`},
		{"JSON: the value never", `{"time":1700000000,"rtt":1}` + "\n", Layout{}, nil, 0, `no line has "value"; the first one has "rtt", "time"`},
		{"JSON: the value now and then", `{"time":1700000000,"value":1}` + "\n" + `{"time":1700000010}` + "\n", Layout{}, []float64{1, math.NaN()}, 1, ""},
		{"JSON: no time", `{"time":1700000000,"value":1}` + "\n" + `{"value":1}` + "\n", Layout{}, nil, 0, `f:2: no "time"`},
		{"JSON: a value that is an object", `{"time":1700000000,"value":{}}` + "\n", Layout{}, nil, 0, `f:1: column "value"`},
		{"binary", "\x00\x01\x02\n\xff\xfe\n", Layout{}, nil, 0, `f:1:`},
	}
	for _, test := range tests {
		if test.layout.Value == "" {
			test.layout.Value = "value"
		}
		list, err := Read(strings.NewReader(test.text), "f", test.layout)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
				t.Errorf("%s: %v, want %q in one line", test.what, err, test.want)
			}
			continue
		}
		if err != nil || len(list) != test.series {
			t.Errorf("%s: %d series, %v", test.what, len(list), err)
			continue
		}
		var values []float64
		for _, p := range list[0].Points {
			values = append(values, p.Value)
		}
		if fmt.Sprint(values) != fmt.Sprint(test.values) || list[0].Points[0].Time/1e9 != at/1e9 && test.series == 1 {
			t.Errorf("%s: %v at %d", test.what, values, list[0].Points[0].Time)
		}
	}
}

func TestUsualPeriods(t *testing.T) {
	at := func(seconds ...float64) *Series {
		s := &Series{}
		for _, x := range seconds {
			s.Points = append(s.Points, Point{Time: synthStart + int64(x*1e9)})
		}
		return s
	}
	every := func(step, n int) *Series {
		s := &Series{}
		for i := range n {
			s.Points = append(s.Points, Point{Time: synthStart + int64(i*step)*1e9})
		}
		return s
	}
	sparse := at(0, 50, 100, 160, 210, 260, 300)
	tests := []struct {
		what string
		list []*Series
		want []float64 // seconds
	}{
		{"a timer that strays", []*Series{at(0, 10.04, 19.98, 70, 80)}, []float64{10}},
		{"gaps of 50 s and once 60, 40", []*Series{sparse}, []float64{10}},
		{"with one that is dense", []*Series{every(10, 100), at(3, 50, 100, 150)}, []float64{10, 10}},
		{"first line in the middle of a period", []*Series{at(6.9, 10, 30, 60, 70, 80, 120)}, []float64{10}},
		{"two periods, both regular", []*Series{every(10, 100), every(60, 30)}, []float64{10, 60}},
		{"no common one", []*Series{at(0, 7.3, 18.1, 23.7, 41.9, 47.23, 60.77, 61.9, 83.11)}, []float64{11}},
		{"never two times", []*Series{at(0), at(0, 0)}, []float64{0, 0}},
		{"one that is alone", []*Series{every(10, 30), at(5)}, []float64{10, 10}},
	}
	for _, test := range tests {
		for i, d := range UsualPeriods(test.list) {
			if want := time.Duration(test.want[i] * 1e9); (d - want).Abs() > time.Millisecond {
				t.Errorf("%s: series %d: %v, want %v", test.what, i, d, want)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"time,value,a,b\n2023-11-14T22:13:20Z,1.5,x,1\n1700000010,2,x,\n",
		`{"time":"2023-11-14T22:13:20Z","value":1.5,"a":"x","b":2}` + "\n" + `{"time":1700000010,"value":null,"a":null}`,
		"\xef\xbb\xbf\r\n t , value\n1,\n", "time,value\n\"", "{", "time,value\n9223372036854775807,1\n", "{\"time\":1e18,\"value\":1}",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, more bool) {
		layout := Layout{Value: "value"}
		cfg := small(Plain)
		if more {
			layout.By, layout.Columns = []string{"a"}, []string{"b"}
			cfg.Columns = 1
		}
		list, err := Read(bytes.NewReader(b), "f", layout)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		for _, s := range list {
			last := int64(0)
			for _, p := range s.Points {
				if p.Time < last || math.IsInf(p.Value, 0) {
					t.Fatalf("%+v", p)
				}
				last = p.Time
			}
			// Whatever was read can be run, in little time.
			if _, _, err := Run(s, cfg); err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
		}
	})
}

func seriesOf(s *synthetic) *Series {
	out := &Series{File: s.name + ".csv"}
	for i, v := range s.values {
		out.Points = append(out.Points, Point{Time: synthStart + int64(i)*int64(10*time.Second), Value: v, Line: i + 2})
	}
	return out
}

// TestBacktestReproduces: twice the same, in tables, lines and picture.
func TestBacktestReproduces(t *testing.T) {
	s := seriesOf(&ten(3)[9])
	var outputs [2][3]string
	for i := range outputs {
		r, err := Backtest(s, DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		var table, picture bytes.Buffer
		if err := r.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		if err := Draw(&picture, []*Result{r, r}); err != nil {
			t.Fatal(err)
		}
		lines, err := json.Marshal(r.Lines())
		if err != nil {
			t.Fatal(err)
		}
		outputs[i] = [3]string{table.String(), string(lines), picture.String()}
		if r.Warmup != 36*time.Hour-5*time.Second { // half of what is there
			t.Errorf("warm-up %v", r.Warmup)
		}
	}
	if !reflect.DeepEqual(outputs[0], outputs[1]) {
		t.Error("two backtests of the same series differ")
	}
	if text := outputs[0][0]; strings.Count(text, "\n") != 2+4*7 || !strings.Contains(text, "seasonal naive") || !strings.Contains(text, "-") {
		t.Error(text)
	}
	if picture := outputs[0][2]; !strings.HasPrefix(picture, "<?xml") || !strings.Contains(picture, "damped Holt") || strings.Contains(picture, "NaN") {
		t.Errorf("%.200s", picture)
	}
}

func TestRunErrors(t *testing.T) {
	at := func(points ...Point) *Series { return &Series{File: "f", Points: points} }
	cfg := DefaultConfig()
	if _, _, err := Run(at(Point{Time: 1e18, Value: 1, Line: 2}, Point{Time: 2e18, Value: 0, Line: 3}), cfg); err == nil || !strings.HasPrefix(err.Error(), "f:3: 0 has no logarithm") {
		t.Error(err)
	}
	if _, _, err := Run(at(Point{Time: 1e18, Value: math.NaN(), Line: 2}), cfg); err == nil || !strings.Contains(err.Error(), "only gaps") {
		t.Error(err)
	}
	if _, repeated, err := Run(at(Point{Time: 1e18, Value: 1, Line: 2}, Point{Time: 1e18, Value: 2, Line: 3}), cfg); err != nil || repeated != 1 {
		t.Error(repeated, err)
	}
	if _, err := Backtest(at(), cfg); err == nil {
		t.Error("a backtest of nothing")
	}
}
