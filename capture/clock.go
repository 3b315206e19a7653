package capture

// maxStep is how far, in nanoseconds, one frame's time may be from the one
// before it without a second look.
const maxStep = 60e9

// clock finds wild times in one file: a time that stands alone. The packet time
// drives every table behind us, so a single frame dated 2106 would expire all
// flows and all DNS answers at once.
//
// A frame more than maxStep away from its predecessor waits for its successor.
// If that is back near the predecessor (and nearer to it than to the frame in
// question), the frame is wild, and takes the predecessor's time. Else the step
// is a real gap, and is kept.
//
// Two edges need a word. The first frame of a file has no predecessor: it is
// wild only if it lies after the two that follow it, which agree with each
// other, and takes the second one's time. (A first frame that lies before them
// may simply be followed by silence, and harms no table.) The last frame has no
// successor: a step forward is kept, being harmless, and a step back is not.
//
// A frame is counted when its time is settled, because then it is delivered.
type clock struct {
	stats *counters
	// prev is the time of the last frame that is settled, or of the first
	// frame, settled or not.
	prev int64
	// held is the number of frames at the end that wait: one, or at the start
	// of the file the first two.
	held int
	// started says that there was a frame, alone that prev is the first one's
	// and nothing has confirmed it yet.
	started, alone bool
}

// settle takes in the last frame of frames; the c.held frames before it are those
// that waited. Of those and it c.held wait afterwards, at the end of frames.
func (c *clock) settle(frames []Frame) {
	waited := len(frames) - 1 - c.held
	if t := frames[len(frames)-1].Time; c.settled() && near(t, c.prev) {
		c.prev = t
	} else {
		c.judge(frames)
	}
	c.stats.count(frames[waited : len(frames)-c.held])
}

// judge takes in the last frame of frames when it is no ordinary one.
func (c *clock) judge(frames []Frame) {
	t := frames[len(frames)-1].Time
	switch {
	case !c.started:
		c.started, c.alone, c.held, c.prev = true, true, 1, t
		return
	case c.alone && c.held == 1:
		if t < c.prev && !near(t, c.prev) {
			c.held = 2
			return
		}
		c.alone, c.held = false, 0
	case c.held > 0:
		c.decide(frames)
	}
	if near(t, c.prev) {
		c.prev = t
		return
	}
	c.held = 1
}

// decide settles the suspect, which is the last but one of frames.
func (c *clock) decide(frames []Frame) {
	n := len(frames)
	suspect, next := &frames[n-2], frames[n-1].Time
	switch {
	case near(next, c.prev) && distance(next, c.prev) < distance(next, suspect.Time):
		suspect.Time = c.prev
		c.stats.stats.WildTimes++
	case c.alone && near(next, suspect.Time):
		frames[n-3].Time = suspect.Time
		c.prev = suspect.Time
		c.stats.stats.WildTimes++
	default:
		c.prev = suspect.Time
	}
	c.alone, c.held = false, 0
}

// last settles what still waits at the end of the file.
func (c *clock) last(frames []Frame) {
	if c.held > 0 {
		if suspect := &frames[len(frames)-1]; suspect.Time < c.prev {
			suspect.Time = c.prev
			c.stats.stats.WildTimes++
		}
	}
	c.stats.count(frames[len(frames)-c.held:])
	c.held = 0
}

// settled reports whether a frame that is near the last one needs no other look.
func (c *clock) settled() bool { return c.started && c.held == 0 }

// near reports whether two times are at most maxStep apart. Times are never
// negative, so the difference cannot overflow.
func near(a, b int64) bool { return uint64(a-b+maxStep) <= 2*maxStep }

func distance(a, b int64) int64 { return max(a-b, b-a) }
