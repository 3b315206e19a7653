package main

import (
	"fmt"
	"runtime"
	"strconv"

	"github.com/nametap/nametap/capture/fanout"
	"github.com/nametap/nametap/probe"
)

// workers is a flag: how many, or auto.
type workers int

const auto workers = 0

func (w *workers) Type() string { return "N" }

func (w *workers) String() string {
	if *w == auto {
		return "auto"
	}
	return strconv.Itoa(int(*w))
}

func (w *workers) Set(text string) error {
	if text == "auto" {
		*w = auto
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > fanout.Partitions {
		return fmt.Errorf("%q is neither auto nor a number from 1 to %d", text, fanout.Partitions)
	}
	*w = workers(n)
	return nil
}

// number is how many workers to ask for: as many as was said, else one a
// processor, as far as the memory for their tables goes.
func (w workers) number(memory int64) int {
	if w != auto {
		return int(w)
	}
	return int(min(int64(runtime.GOMAXPROCS(0)), fanout.Partitions, max(memory/probe.MinMemory, 1)))
}
