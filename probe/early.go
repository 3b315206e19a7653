package probe

import (
	"slices"

	"github.com/nametap/nametap/flows"
)

// Records of flows that have ended, in their partition, and sightings of servers, in
// their shard, wait for the end of the step: they are taken in an order that does not hang
// on the number of shards, and what the control plane knows of their subscribers is
// the dispatcher's. A flood ends a million flows a second, a pause all there are,
// and where packet time stands still a step never ends. How much can wait is
// bounded, and nothing is lost:
//
//   - a frame ends two flows at most, one that its own follows and one that makes
//     room for it, and so shows three servers: after so many frames (budget.ahead)
//     the dispatcher waits until the shards are through with them, and takes what
//     there is;
//   - of flows that time out, a partition ends so many in a step (budget.timedOut),
//     the rest in the next ones: each leaves its record, or a sighting;
//   - of flows that waited in vain for a late answer, it settles an eighth of those
//     that may wait in a step (lateShare).
//
// Facts of DNS answers have a bound of their own (facts.most).

// mostHanded is how many records Config.Records is given at once.
const mostHanded = 64

// keepRecord keeps the record of a flow that is over.
func (a *partition) keepRecord(f flows.Flow) {
	s := a.shard
	ended := &a.ended[s.phase]
	*ended = append(*ended, a.record(f))
	if s.engine.ending && len(*ended) == mostHanded {
		s.engine.collect(a, s.phase)
	}
}

// room is how many frames more may have something wait. A group ends there, so that
// what is taken early hangs on the frames alone and not on how they were cut into
// batches: a pipe delivers them as they come.
func (e *Engine) room() int { return e.budget.ahead - e.waiting[0] - e.waiting[1] }

// early takes what waits before the step ends, once it may be that of too many
// frames.
func (e *Engine) early(frames int) {
	e.waiting[e.steps&1] += frames
	if e.room() == 0 {
		e.takeEarly()
	}
}

func (e *Engine) takeEarly() {
	e.waiting = [2]int{}
	e.flush(0)
	e.quiet()
	e.welcome()
	for next := range 2 { // the older step first
		phase := (e.steps + 1 + next) & 1
		e.common.meet(e, phase)
		for _, a := range e.parts {
			e.collect(a, phase)
		}
	}
}

// quiet waits until no shard has anything left to do. No chunk is being filled.
func (e *Engine) quiet() {
	if e.inline {
		return
	}
	var all [chunksAhead]*chunk
	n := cap(e.chunkPool)
	for i := range n {
		all[i] = take(&e.turns, e.chunkPool)
	}
	for _, c := range all[:n] {
		e.chunkPool <- c
	}
}

// collect gives out the records that a partition has kept in steps of that phase.
func (e *Engine) collect(a *partition, phase int) {
	if e.cfg.Records == nil {
		return
	}
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
