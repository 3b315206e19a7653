// Command quicken makes rules run in quick motion, as nametap demo does: it
// divides every duration in rule files by a factor (for, keep_firing_for,
// intervals, ranges and offsets), so that an outage of five hours can be watched
// in five minutes with the very rules that will watch over a network.
//
//	go run ./deploy/prometheus/quicken -factor 60 -o quick deploy/prometheus/nametap-*.yml
//	nametap demo --speed 60
//
// A Prometheus that scrapes and evaluates every second then sees what one that
// does so every minute would see. Thresholds are numbers and stay: the rules
// count events in a range, never by the second.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

func main() {
	factor := flag.Float64("factor", 60, "how many times faster")
	dir := flag.String("o", ".", "write the files to this directory")
	flag.Parse()
	if err := run(*factor, *dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "quicken:", err)
		os.Exit(1)
	}
}

func run(factor float64, dir string, files []string) error {
	if factor < 1 {
		return fmt.Errorf("-factor is 1 or more, not %g", factor)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if filepath.Clean(filepath.Dir(file)) == filepath.Clean(dir) {
			return fmt.Errorf("%s: would overwrite itself; choose another -o", file)
		}
		out, err := quicken(string(text), factor)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(out), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// duration matches the durations of our rules where they stand: a range in
// brackets, an offset, and the keys of a rule. Comments and texts have none of
// these.
var duration = regexp.MustCompile(`(\[|\boffset |\n\s*(?:for|keep_firing_for|interval): )(\d+)(ms|s|m|h|d|w)\b`)

var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// quicken divides the durations in a rule file. What would be less than a
// millisecond cannot be written.
func quicken(text string, factor float64) (string, error) {
	var err error
	out := duration.ReplaceAllStringFunc(text, func(match string) string {
		part := duration.FindStringSubmatch(match)
		n, convErr := strconv.Atoi(part[2])
		if convErr != nil {
			err = convErr
			return match
		}
		ms := int64(float64(time.Duration(n)*units[part[3]]) / factor / float64(time.Millisecond))
		if ms < 1 && n > 0 {
			err = fmt.Errorf("%s%s divided by %g is less than a millisecond", part[2], part[3], factor)
		}
		return part[1] + strconv.FormatInt(ms, 10) + "ms"
	})
	return out, err
}
