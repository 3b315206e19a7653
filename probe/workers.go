package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
)

// Workers are engines side by side, one for each source of a tap whose frames
// the kernel divides by subscriber (capture.OpenLiveWorkers). Each runs its
// frames to completion on a goroutine of its own, so that no packet changes
// hands. A worker alone is an Engine and nothing more.
//
// What one worker learns the others hear of at the end of its step of packet
// time, and act on at the end of theirs: evidence "server" reaches another
// worker's subscribers 100 to 300 ms later, where it takes 100 to 200 within an
// engine. Copies of a packet have the same subscriber, and so the same worker.
//
// What the kernel cannot divide by subscriber shows: with outer addresses alone
// (capture.FanoutHash) a subscriber's DNS and flows are different workers', who
// each count the subscriber as theirs, and a copy on another port may be too.
type Workers struct {
	engines []*Engine
	common  *common
	records *recorder // nil where nobody wants any, or one worker does it itself
	watch   *lookout
}

// NewWorkers returns so many workers with empty tables. They have cfg.Memory
// together: it is divided among them, but for what each needs whole, the
// sessions and what is known of servers. Each works on one goroutine; only where
// there is one worker cfg.Shards counts.
//
// cfg.Records, cfg.Watch, cfg.Answers and cfg.Hash are called from one goroutine
// at a time each, cfg.Clock and cfg.OSOf from several at once. Where there are
// several workers, what Records is given are whole batches of one worker after
// the other, and Watch gets what all of them counted up to a time once the last
// one has come to it.
func NewWorkers(workers int, cfg Config) (*Workers, error) {
	if workers < 1 {
		return nil, fmt.Errorf("%d workers: choose 1 or more", workers)
	}
	if workers == 1 {
		e, err := New(cfg)
		if err != nil {
			return nil, err
		}
		return &Workers{engines: []*Engine{e}, common: e.common}, nil
	}
	b, err := planFor(&cfg, workers)
	if err != nil {
		return nil, err
	}
	w := &Workers{}
	if w.common, err = newCommon(&cfg, &b, workers); err != nil {
		return nil, err
	}
	cfg.Shards = 1
	cfg.Seed = workerSeed(cfg.Seed)
	w.share(&cfg, workers)
	for i := range workers {
		one := cfg
		if w.watch != nil {
			one.Watch = func(s *Snapshot) { w.watch.give(i, s) }
		}
		e, err := engineOf(w.common, i, b, one)
		if err != nil {
			return nil, err
		}
		w.engines = append(w.engines, e)
	}
	return w, nil
}

// workerSeed is the seed of each of several workers. Not the tap's: the kernel
// has divided the subscribers by their partitions already (capture/fanout), and
// with the same seed a worker would have use for its share of partitions only,
// and no use for the memory of the others.
func workerSeed(seed uint64) uint64 { return mix(seed, 1) }

// share puts what workers may call at the same time in place of what cfg has.
func (w *Workers) share(cfg *Config, workers int) {
	if cfg.Records != nil {
		w.records = &recorder{write: cfg.Records}
		cfg.Records = w.records.give
	}
	if cfg.Watch != nil {
		w.watch = &lookout{every: int64(cfg.WatchEvery), watch: cfg.Watch, most: mostBehind, waiting: make([][]*Snapshot, workers)}
	}
	var mu sync.Mutex
	if hash := cfg.Hash; hash != nil {
		cfg.Hash = func(imsi gtp.Digits) string {
			mu.Lock()
			defer mu.Unlock()
			return hash(imsi)
		}
	}
	if answers := cfg.Answers; answers != nil {
		cfg.Answers = func(name []byte, class uint8, server decode.Addr, answered int64) {
			mu.Lock()
			defer mu.Unlock()
			answers(name, class, server, answered)
		}
	}
}

// Run works the frames of the sources, one a worker, as Engine.Run does. When
// one of them ends with an error, so do the others, in good order; the error
// says all that went wrong.
func (w *Workers) Run(ctx context.Context, sources []capture.Source) error {
	if len(sources) != len(w.engines) {
		return fmt.Errorf("%d workers cannot read %d sources: give each one", len(w.engines), len(sources))
	}
	if len(w.engines) == 1 {
		return w.engines[0].Run(ctx, sources[0])
	}
	if w.records != nil {
		w.records.begin()
		defer w.records.end()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failures := make([]error, len(sources))
	var wait sync.WaitGroup
	for i, e := range w.engines {
		wait.Go(func() {
			if failures[i] = e.Run(ctx, sources[i]); failures[i] != nil {
				stop()
			}
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// Snapshot takes the counters of all workers. It may be called at any time from
// any goroutine.
func (w *Workers) Snapshot() *Snapshot {
	s := w.engines[0].Snapshot()
	for _, e := range w.engines[1:] {
		s.merge(e.Snapshot())
	}
	return s
}

// Reload replaces the naming rules, as Engine.Reload does.
func (w *Workers) Reload(rules *classify.Rules) error {
	compiled, err := w.common.registry.Adopt(rules)
	if err != nil {
		return err
	}
	for _, e := range w.engines {
		e.pendingRules.Store(compiled)
	}
	return nil
}

// batchesAhead is how many batches of records, of mostHanded at most, may wait to
// be written; a worker waits once they do.
const batchesAhead = 64

// recorder hands records over to a goroutine that writes them, so that no worker
// waits while another one's are written.
type recorder struct {
	write   func([]flows.Record)
	batches chan []flows.Record
	done    chan struct{}
}

func (r *recorder) begin() {
	r.batches, r.done = make(chan []flows.Record, batchesAhead), make(chan struct{})
	go func() {
		defer close(r.done)
		for batch := range r.batches {
			r.write(batch)
		}
	}()
}

func (r *recorder) give(batch []flows.Record) { r.batches <- slices.Clone(batch) }

// end waits until all are written. No worker runs.
func (r *recorder) end() {
	close(r.batches)
	<-r.done
}

// mostBehind is how many snapshots of a worker wait for the others.
const mostBehind = 6

// lookout puts the workers' snapshots together. Each worker gives one when its
// own packet time passes a multiple of the time between two.
type lookout struct {
	every int64
	watch func(*Snapshot)
	// most snapshots of a worker wait; where it is farther ahead, the times
	// before the rest go unwatched, and the next time has it all.
	most int

	mu sync.Mutex
	// waiting are the snapshots, by worker, of times that not all have come to;
	// from is the first time that is still watched, in multiples.
	waiting [][]*Snapshot
	from    int64
}

func (l *lookout) multiple(s *Snapshot) int64 { return s.Time / l.every }

func (l *lookout) give(worker int, s *Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := append(l.waiting[worker], s)
	if len(mine) > l.most {
		mine = slices.Delete(mine, 0, 1)
		l.from = max(l.from, l.multiple(mine[0]))
	}
	l.waiting[worker] = mine
	for s := l.next(); s != nil; s = l.next() {
		l.watch(s)
	}
}

// next returns the earliest snapshot that can be put together. A worker that has
// gone over a time without one had nothing to count until the next.
func (l *lookout) next() *Snapshot {
	at := int64(-1)
	for i := range l.waiting {
		list := &l.waiting[i]
		for len(*list) > 0 && l.multiple((*list)[0]) < l.from {
			*list = slices.Delete(*list, 0, 1)
		}
		if len(*list) == 0 {
			return nil
		}
		if n := l.multiple((*list)[0]); at < 0 || n < at {
			at = n
		}
	}
	all := l.waiting[0][0].clone()
	all.Time = 0
	for i, list := range l.waiting {
		s := list[0]
		time := max(all.Time, s.Time)
		if l.multiple(s) != at {
			time = all.Time // it is ahead
		} else {
			l.waiting[i] = slices.Delete(list, 0, 1)
		}
		if i > 0 {
			all.merge(s)
		}
		s.Servings = nil // told, though s may stay for its counters
		all.Time = time
	}
	return all
}
