package probe

import (
	"sync"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
)

// common is what the engines of a probe share, and what they tell each other: at
// the end of a step of packet time, never for a packet. An engine alone has one
// too, whose lock nobody else takes.
type common struct {
	registry *classify.Registry
	rules    *classify.Compiled // at the start

	mu sync.Mutex
	// servers seen by any engine: the same server is met by the subscribers of
	// all of them, and counts once.
	servers  *presence
	networks networks
	minute   int64
	// gateways in front of which packets without a known session were seen.
	gateways map[decode.Addr]struct{}
	// inboxes hold, by engine, what the others have learned since it last
	// looked. missed are facts that an engine has not heard of, because it did
	// not look for too long.
	inboxes []facts
	missed  uint64
}

func newCommon(cfg *Config, b *budget, engines int) (*common, error) {
	c := &common{registry: classify.NewRegistry(), gateways: map[decode.Addr]struct{}{}, inboxes: make([]facts, engines)}
	var err error
	if c.rules, err = c.registry.Adopt(cfg.Rules); err != nil {
		return nil, err
	}
	if c.servers, err = newPresence(b.allServer); err != nil {
		return nil, err
	}
	if c.networks, err = newNetworks(b.allServer / 8); err != nil {
		return nil, err
	}
	for i := range c.inboxes {
		if engines == 1 {
			break // nobody else writes
		}
		if c.inboxes[i], err = newFacts(b.learned()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// meet takes the sightings that an engine's partitions made in the step of that
// phase.
func (c *common) meet(e *Engine, phase int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range e.shards {
		list := s.sightings[phase].list
		for i := range list {
			e.sink += c.servers.touch(list[i].mark, list[i].class)
		}
	}
	for partition, shard := range e.shardOf {
		all := &e.shards[shard].sightings[phase]
		for at := all.of[partition].first; at != 0; {
			s := &all.list[at-1]
			c.sighted(s)
			at = s.next
		}
	}
	for _, s := range e.shards {
		s.sightings[phase].reset(len(s.own))
	}
	// The engines are never quite at the same time.
	if m := e.now / minute; m > c.minute {
		c.minute = m
		c.servers.turn(uint32(m))
		c.networks.turn(uint32(m))
	}
}

// sighted notes a sighting.
func (c *common) sighted(s *sighting) {
	if s.silent && !c.servers.takes(s.mark, s.class, s.minute) {
		c.servers.Refused++
		return
	}
	if c.servers.seen(s.mark, s.class, s.minute) && s.is4 {
		c.networks.seen(decode.Addr{Lo: 0xffff<<32 | uint64(s.v4)}, s.class, s.minute)
	}
}

// exchange gives what the engine has learned to the others, and adds what they
// have given to it.
func (c *common) exchange(e *Engine, phase int) {
	c.meet(e, phase)
	if len(c.inboxes) == 1 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.inboxes {
		if i != e.number {
			c.post(&c.inboxes[i], &e.fresh)
		}
	}
	e.fresh.take(&c.inboxes[e.number])
	if e.gatewaysTold != len(e.gateways.numbers) {
		e.gatewaysTold = len(e.gateways.numbers)
		for a := range e.gateways.numbers {
			c.gateways[a] = struct{}{}
		}
	}
}

// post puts facts into an inbox.
func (c *common) post(inbox, fresh *facts) {
	if !inbox.holds(len(fresh.list), len(fresh.names)) {
		c.missed += uint64(len(inbox.list))
		inbox.reset()
	}
	inbox.copy(fresh)
}

// snapshot sets what is counted over all engines. Of what can only be added up,
// the first engine has it.
func (c *common) snapshot(s *Snapshot, engine int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range s.Classes {
		s.Classes[id].Servers, s.Classes[id].ActiveServers = c.servers.Ever[id], c.servers.Active[id]
		s.Classes[id].Networks, s.Classes[id].ActiveNetworks = c.networks.counts(id)
	}
	if len(c.inboxes) > 1 {
		s.GTP.Gateways = len(c.gateways)
	}
	if engine == 0 {
		s.Tables.PresenceRefused = c.servers.Refused + c.networks.refused()
		s.Tables.FactsMissed = c.missed
	}
}
