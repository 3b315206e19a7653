package fanout

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// listedPrefixes is LISTED_PREFIXES in fanout.c.
const listedPrefixes = 16

// Program is the eBPF program, loaded. It stays in the kernel until the last
// socket that uses it is closed, after Close too.
type Program struct {
	objects programObjects
}

// Load loads the program. An error that wraps os.ErrPermission or
// ebpf.ErrNotSupported says that it is not allowed or known here.
func Load(c Config) (*Program, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	// Before Linux 5.11 maps count as locked memory. Where raising the limit
	// is not allowed, loading tells.
	_ = rlimit.RemoveMemlock()
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("fanout program: %w", err)
	}
	list := prefixesFrom(c.Subscribers)
	if err := configure(spec, &c, list); err != nil {
		return nil, fmt.Errorf("fanout program: %w", err)
	}
	p := &Program{}
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("load the fanout program: %w", err)
	}
	if err := p.fill(list); err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("fanout program: subscriber prefixes: %w", err)
	}
	return p, nil
}

// configure sets the program's constants.
func configure(spec *ebpf.CollectionSpec, c *Config, list []prefix) error {
	values := map[string]any{
		"seed":         c.Seed,
		"workers":      uint32(c.Workers),
		"prefix_count": uint32(len(list)),
	}
	if len(list) > listedPrefixes {
		values["prefixes_in_trie"] = uint32(1)
		spec.Maps["trie"].MaxEntries = uint32(len(list))
	} else {
		var listed [listedPrefixes]programPrefix
		for i, p := range list {
			listed[i] = programPrefix{Hi: p.hi, Lo: p.lo, MaskHi: p.maskHi, MaskLo: p.maskLo}
		}
		values["prefixes"] = listed
	}
	for name, value := range values {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// fill puts a long list of prefixes into the trie.
func (p *Program) fill(list []prefix) error {
	if len(list) <= listedPrefixes {
		return nil
	}
	for _, entry := range list {
		key := programTrieKey{Bits: uint32(entry.bits)}
		binary.BigEndian.PutUint64(key.Address[:8], entry.hi)
		binary.BigEndian.PutUint64(key.Address[8:], entry.lo)
		if err := p.objects.Trie.Put(&key, uint8(1)); err != nil {
			return err
		}
	}
	return nil
}

// FD returns the program's file descriptor, for PACKET_FANOUT_DATA.
func (p *Program) FD() int { return p.objects.Fanout.FD() }

// Counts returns what was counted since Load, over all processors.
func (p *Program) Counts() (Counts, error) {
	var sums [5]uint64
	for i := range sums {
		var each []uint64
		if err := p.objects.Counts.Lookup(uint32(i), &each); err != nil {
			return Counts{}, fmt.Errorf("fanout counters: %w", err)
		}
		for _, n := range each {
			sums[i] += n
		}
	}
	return Counts{sums[0], sums[1], sums[2], sums[3], sums[4]}, nil
}

// Close lets go of the program.
func (p *Program) Close() error { return p.objects.Close() }
