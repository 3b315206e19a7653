package probe

import (
	"context"
	"sync"
)

// An engine has a goroutine for each shard, and each does whatever is to be done.
// A shard is always the same goroutine's, so that its tables stay in the cache of
// one processor; but who dispatches is whoever has nothing else to work. With a
// goroutine for that as well there would be more of them than processors, and one
// that could run while a processor idles: to be woken up takes as long as to work
// hundreds of packets.

// turns is what the goroutines do in turns: to dispatch, and to read.
type turns struct {
	// dispatch is held by the one that dispatches; at is its shard, and over says
	// that there is nothing more to dispatch.
	dispatch sync.Mutex
	at       *shard
	over     bool

	// source has an element while nobody reads. Who has taken it may look at
	// failure, the source's, its end included.
	source  chan struct{}
	failure error
	// ready has batches that were read ahead.
	ready chan *lease

	// looks is how often a goroutine looks again before it sleeps, behind how many
	// chunks may wait for a shard while its goroutine does what all can do.
	looks, behind int
}

const (
	// looks takes some 20 microseconds, less than to fall asleep and to be woken
	// up.
	looks = 20_000
	// readyBatches is how many batches are read ahead.
	readyBatches = 2
	// behind chunks take about as long as to read a batch.
	behind = 4
)

// begin begins anew. A live source may keep the one that dispatches waiting: nothing
// must be left to work then, and there is time to fall asleep.
func (t *turns) begin(shards, processors int, live bool) {
	t.over, t.failure = false, nil
	t.source, t.ready = make(chan struct{}, 1), make(chan *lease, readyBatches)
	t.source <- struct{}{}
	t.looks, t.behind = 0, behind
	switch {
	case live:
		t.behind = 0
	case 1 < shards && shards <= processors:
		t.looks = looks
	}
}

// run works the shard's chunks. While few wait it first dispatches, unless another
// one does, or reads ahead, so that no shard runs out of them. It returns when all
// that the source had is worked.
func (s *shard) run(ctx context.Context) {
	e := s.engine
	for {
		if len(s.chunks) > e.turns.behind && s.help() || e.dispatch(ctx, s) || e.readAhead() || s.help() {
			continue
		}
		look(&e.turns, s.chunks)
		c, ok := <-s.chunks
		if !ok {
			return
		}
		s.finish(c)
	}
}

// help works a chunk of the shard, if there is one.
func (s *shard) help() bool {
	select {
	case c, ok := <-s.chunks:
		if ok {
			s.finish(c)
		}
		return ok
	default:
		return false
	}
}

func (s *shard) finish(c *chunk) {
	s.work(c)
	c.done()
}

// work works the shard's packets of a chunk, and says so where a step ends with it.
func (s *shard) work(c *chunk) {
	s.chunk(c)
	if c.tick != 0 {
		s.ticked <- struct{}{} // which has room: nobody is two steps behind
	}
}

// look waits a moment for something to be in the channel.
func look[T any](t *turns, from chan T) {
	for i := 0; i < t.looks && len(from) == 0; i++ {
	}
}

// take receives what others give back. Until they do, the one that dispatches
// goes on with its own shard: nobody else sends that anything.
func take[T any](t *turns, from chan T) T {
	for {
		select {
		case v := <-from:
			return v
		default:
		}
		if !t.at.help() {
			look(t, from)
			return <-from
		}
	}
}

// dispatch dispatches a batch. It reports false where another one is at it, or the
// source is at its end.
func (e *Engine) dispatch(ctx context.Context, at *shard) bool {
	t := &e.turns
	if !t.dispatch.TryLock() {
		return false
	}
	defer t.dispatch.Unlock()
	if t.over {
		return false
	}
	t.at = at
	l := e.next(ctx)
	if l == nil {
		e.stop()
		return false
	}
	e.mu.Lock()
	e.batch(l)
	e.mu.Unlock()
	e.release(l)
	return true
}

// stop lets the goroutines end once they have worked what was dispatched.
func (e *Engine) stop() {
	e.turns.over = true
	for _, s := range e.shards {
		close(s.chunks)
	}
}

// next returns the batch to be dispatched next, nil after the last one.
func (e *Engine) next(ctx context.Context) *lease {
	t := &e.turns
	if ctx.Err() != nil {
		return nil
	}
	if len(t.source) == 0 {
		look(t, t.ready) // it is being read
	}
	select {
	case l := <-t.ready:
		return l
	case <-t.source:
	}
	defer t.leave()
	if len(t.ready) > 0 {
		return <-t.ready // they come first
	}
	return e.read(take(t, e.leasePool))
}

// readAhead reads a batch for the one that dispatches: to copy full-size packets
// out of the system's cache takes as long as to work them. It reports false where
// there is nothing to do. A live source is left to that one: who waits there has
// dispatched all there was, and nobody waits for it.
func (e *Engine) readAhead() bool {
	t := &e.turns
	if e.cfg.Clock != nil || len(t.ready) == cap(t.ready) {
		return false
	}
	select {
	case <-t.source:
	default:
		return false
	}
	defer t.leave()
	if len(t.ready) == cap(t.ready) || len(e.leasePool) == 0 {
		return false
	}
	l := e.read(<-e.leasePool)
	if l != nil {
		t.ready <- l
	}
	return l != nil
}

// leave lets others read.
func (t *turns) leave() { t.source <- struct{}{} }

// read fills the lease's batch and returns it; nil where the source has no more.
func (e *Engine) read(l *lease) *lease {
	t := &e.turns
	if t.failure == nil {
		t.failure = e.source.Next(&l.batch)
	}
	if t.failure != nil {
		e.leasePool <- l
		return nil
	}
	l.holders.Store(1)
	return l
}

// unread gives back what was read ahead and will not be dispatched any more.
func (e *Engine) unread() {
	for len(e.turns.ready) > 0 {
		e.release(<-e.turns.ready)
	}
}
