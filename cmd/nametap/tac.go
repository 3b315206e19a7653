package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/nametap/nametap/flows"
)

// maxTACs bounds the table; the GSMA has given out some 200,000 codes.
const maxTACs = 1_000_000

// loadTACs reads an operator's table of devices: type allocation code (the first
// eight digits of the IMEI) and operating system, one a line. A first line of
// headings and further columns are passed over.
func loadTACs(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%s: cannot read the table of devices: %w", path, err)
	}
	defer func() { _ = f.Close() }() // read only
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	systems := knownSystems()
	table := map[string]string{}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			if len(table) == 0 {
				return nil, fmt.Errorf("%s: no device in it; expected lines such as 35331105,android", path)
			}
			return table, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; expected lines such as 35331105,android", path, err)
		}
		line, _ := r.FieldPos(0)
		if len(fields) < 2 || !isTAC(fields[0]) {
			if line == 1 {
				continue
			}
			return nil, fmt.Errorf("%s:%d: expected eight digits and an operating system, such as 35331105,android", path, line)
		}
		os := strings.ToLower(strings.TrimSpace(fields[1]))
		if !slices.Contains(systems, os) {
			return nil, fmt.Errorf("%s:%d: operating system %q is none of %s", path, line, os, strings.Join(systems, ", "))
		}
		if len(table) == maxTACs {
			return nil, fmt.Errorf("%s:%d: more than %d devices", path, line, maxTACs)
		}
		table[strings.Clone(fields[0])] = os
	}
}

func isTAC(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789") == ""
}

func knownSystems() []string {
	var list []string
	for os := flows.OSUnknown + 1; os < flows.OSes; os++ {
		list = append(list, os.String())
	}
	return list
}
