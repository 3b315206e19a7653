package probe

import (
	"slices"

	"github.com/nametap/nametap/flows"
)

// Records of flows that have ended wait in their partition for the end of the
// step: they are given out in an order that does not hang on the number of
// shards, and what the control plane knows of their subscribers is the
// dispatcher's. A flood ends a million flows a second, a pause all there are. How
// many can wait is bounded, and none is lost:
//
//   - a frame ends two flows at most, one that its own follows and one that makes
//     room for it: after so many frames (budget.ahead) the dispatcher waits until
//     the shards are through with them, and gives out what there is;
//   - of flows that time out, a partition ends so many in a step
//     (budget.timedOut), the rest in the next ones.

// mostHanded is how many records Config.Records is given at once.
const mostHanded = 64

// keepRecord keeps the record of a flow that is over.
func (a *partition) keepRecord(f *flows.Flow) {
	s := a.shard
	ended := &a.ended[s.phase]
	*ended = append(*ended, a.record(f))
	if s.engine.ending && len(*ended) == mostHanded {
		s.engine.collect(a, s.phase)
	}
}

// handOut gives out all records once those of so many frames may wait.
func (e *Engine) handOut(frames int) {
	if e.cfg.Records == nil {
		return
	}
	e.endable[e.steps&1] += frames
	if e.endable[0]+e.endable[1] < e.budget.ahead {
		return
	}
	e.endable = [2]int{}
	e.flush(0)
	e.quiet()
	for older := range 2 {
		for _, a := range e.parts {
			e.collect(a, (e.steps+1+older)&1)
		}
	}
}

// quiet waits until no shard has anything left to do. No chunk is being filled.
func (e *Engine) quiet() {
	var all [chunksAhead]*chunk
	n := cap(e.chunkPool)
	for i := range n {
		all[i] = <-e.chunkPool
	}
	for _, c := range all[:n] {
		e.chunkPool <- c
	}
}

// collect gives out the records that a partition has kept in steps of that phase.
func (e *Engine) collect(a *partition, phase int) {
	list := a.ended[phase]
	if len(list) == 0 {
		return
	}
	for batch := range slices.Chunk(list, mostHanded) {
		for i := range batch {
			e.identify(&batch[i])
		}
		e.cfg.Records(batch)
	}
	clear(list)
	a.ended[phase] = list[:0]
	if cap(list) > e.budget.recordsKept {
		a.ended[phase] = nil // others may need the room next
	}
}
