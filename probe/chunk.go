package probe

import (
	"sync/atomic"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
)

const (
	// chunkPackets is how many packets travel together: few enough for their
	// decoded forms to stay in the second-level cache, many enough for a hop
	// between goroutines not to count. No more than a byte can tell apart.
	chunkPackets = 256
	// chunksAhead is how many chunks there are: how far shards may be behind the
	// dispatcher.
	chunksAhead = 16
	// leases is how many batches there are: one that is read, those that are
	// ready, one that is dispatched, and those that shards still work. Few, so
	// that their bytes are still in a cache when they are used again.
	leases = 8
)

// chunk is a run of decoded packets on its way to the shards. All of them point
// into one batch of the source.
type chunk struct {
	engine  *Engine
	lease   *lease
	packets [chunkPackets]decode.Packet
	n       int
	items   []itemList            // by shard
	lists   [partitions]*itemList // of items: by partition, that of its shard
	// tick, at the end of a step, is the packet time to advance to.
	tick int64
	// rules, if not nil, hold from after the chunk on.
	rules *classify.Compiled
	// shedding is what is left out with these packets.
	shedding shedding
	holders  atomic.Int32
}

// itemList is what a shard has to do in a chunk.
type itemList struct {
	item [chunkPackets]item
	n    uint32
}

// add gives the shard one packet more.
func (l *itemList) add(it item) {
	l.item[l.n%chunkPackets] = it
	l.n++
}

func (l *itemList) list() []item { return l.item[:l.n] }

// lease is a batch that the source gets back once nothing points into it.
type lease struct {
	batch   capture.Batch
	holders atomic.Int32
}

// pools makes all the chunks and leases there will ever be. A dispatcher that works
// its packets itself has one of each.
func (e *Engine) pools() {
	e.inline = len(e.shards) == 1
	if e.inline {
		e.current = e.newChunk()
		e.leasePool = make(chan *lease, 1)
	} else {
		e.leasePool = make(chan *lease, leases)
		e.chunkPool = make(chan *chunk, chunksAhead)
	}
	for range cap(e.leasePool) {
		e.leasePool <- &lease{}
	}
	for range cap(e.chunkPool) {
		e.chunkPool <- e.newChunk()
	}
}

func (e *Engine) newChunk() *chunk {
	c := &chunk{engine: e, items: make([]itemList, len(e.shards))}
	for part := range c.lists {
		c.lists[part] = &c.items[e.shardOf[part]]
	}
	return c
}

// begin takes an empty chunk for packets of the lease, or for none.
func (e *Engine) begin(l *lease) *chunk {
	c := take(&e.turns, e.chunkPool)
	c.lease, c.shedding = l, e.shedding
	if l != nil {
		l.holders.Add(1)
	}
	e.current = c
	return c
}

// flush hands the current chunk to the shards, with a tick if tick is not 0.
func (e *Engine) flush(tick int64) {
	c := e.current
	if tick != 0 {
		if c == nil {
			c = e.begin(nil)
		}
		c.tick = tick
		c.rules = e.pendingRules.Swap(nil)
		if c.rules != nil {
			e.rules = c.rules
		}
	}
	switch {
	case c == nil:
	case e.inline:
		c.shedding = e.shedding
		e.shards[0].chunk(c)
		c.reset()
	default:
		e.current = nil
		e.send(c)
	}
}

// send gives the chunk to every shard that has work in it.
func (e *Engine) send(c *chunk) {
	if c.n == chunkPackets {
		e.thin = false
	}
	c.holders.Store(1)
	if e.thin {
		e.workAll(c)
		return
	}
	for i, s := range e.shards {
		if c.tick != 0 || c.items[i].n > 0 {
			c.holders.Add(1)
			s.chunks <- c // which has room for all there are
		}
	}
	c.done()
}

// workAll works the chunk for every shard. None of them has anything else to do.
func (e *Engine) workAll(c *chunk) {
	for i, s := range e.shards {
		if c.tick != 0 || c.items[i].n > 0 {
			s.work(c)
		}
	}
	c.done()
}

// thinned decides, after a step of so many frames, whether the dispatcher works those
// of the next one for all shards. Where a step has less than a chunk, as in a capture
// of a day or on a tap at night, to hand it over and to wait for it takes many times as
// long as to work it.
func (e *Engine) thinned(frames uint64) {
	thin := frames < chunkPackets && !e.inline
	if thin && !e.thin {
		e.quiet()
	}
	e.thin = thin
}

// done is called by each holder of the chunk; the last one cleans up.
func (c *chunk) done() {
	if c.holders.Add(-1) > 0 {
		return
	}
	l, e := c.lease, c.engine
	c.reset()
	e.chunkPool <- c
	if l != nil {
		e.release(l)
	}
}

// reset empties the chunk.
func (c *chunk) reset() {
	for i := range c.items {
		c.items[i].n = 0
	}
	c.n, c.tick, c.rules, c.lease = 0, 0, nil, nil
}

// release is called by each holder of the lease.
func (e *Engine) release(l *lease) {
	if l.holders.Add(-1) == 0 {
		e.source.Release(&l.batch)
		e.leasePool <- l
	}
}
