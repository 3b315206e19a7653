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

// number is how many workers to ask for: as many as was said, else one for every
// two processors, as far as the memory for their tables goes. The other half is
// the kernel's, which receives each frame and looks for its subscriber before a
// worker has it: on two processors, two workers got through less than one.
func (w workers) number(memory int64) int {
	if w != auto {
		return int(w)
	}
	return int(min(max(int64(runtime.GOMAXPROCS(0))/2, 1), fanout.Partitions, max(memory/probe.MinMemory, 1)))
}
