package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nametap/nametap/probe"
)

// checkMemory refuses a budget that the tables do not fit in, or that the machine
// does not have: memory is taken as the tables fill, and the end would come hours
// later, from the kernel.
func checkMemory(memory bytesize) error {
	if memory < probe.MinMemory {
		return usagef("--memory is too small for the tables; give at least %dM", probe.MinMemory>>20)
	}
	if most := max(systemMemory(), probe.MinMemory); int64(memory) > most {
		return usagef("--memory %s is more than this machine, or the control group, has: %s", &memory, size(uint64(most)))
	}
	return nil
}

// systemMemory returns the memory this process may use, in bytes: the machine's,
// or what its control group leaves it. Where it cannot be told, 4 GiB.
func systemMemory() int64 {
	memory := meminfo("MemTotal:")
	if memory == 0 {
		memory = 4 << 30
	}
	for _, path := range cgroupLimits() {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	return memory
}

// freeMemory returns what can be had without swapping, 0 where it cannot be told.
func freeMemory() int64 { return meminfo("MemAvailable:") }

// meminfo reads a line of /proc/meminfo (proc_meminfo(5)), 0 where there is none.
func meminfo(key string) int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == key {
			if kib, err := strconv.ParseInt(string(fields[1]), 10, 64); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// cgroupLimits are the files in which limits of this process's memory may stand, a
// service's or a container's: in the unified hierarchy and in that of the memory
// controller, at its root and at the process's own group (cgroups(7)).
func cgroupLimits() []string {
	const root, unified, old = "/sys/fs/cgroup", "memory.max", "memory.limit_in_bytes"
	list := []string{filepath.Join(root, unified), filepath.Join(root, "memory", old)}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return list
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // number, controllers, path
		switch {
		case len(parts) < 3:
		case parts[0] == "0":
			list = append(list, filepath.Join(root, parts[2], unified))
		case strings.Contains(","+parts[1]+",", ",memory,"):
			list = append(list, filepath.Join(root, "memory", parts[2], old))
		}
	}
	return list
}
