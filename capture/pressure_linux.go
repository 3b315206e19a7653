package capture

// pressure is how full the fullest of the rings is, in steps of a quarter.
func (s *live) pressure() uint8 {
	most := uint8(0)
	for i := range s.lanes {
		most = max(most, s.lanes[i].ring.pressure(s.lanes[i].cursor))
	}
	return most
}

// pressure looks at three blocks: the kernel fills them in their order, so that
// where the one half a ring ahead of the reader is full, half of the ring waits.
func (r *ring) pressure(c cursor) uint8 {
	blocks := len(r.uses)
	for quarters := 3; quarters > 0; quarters-- {
		// The block that the reader comes to next is the first of them.
		if ahead := blocks*quarters/4 - 1; ahead > 0 && r.ready(cursor{(c.block + ahead) % blocks, c.seen}) {
			return uint8(quarters * 25)
		}
	}
	return 0
}

// pressure is how full the fullest of the sockets' rings is, in percent.
func (s *xdpLive) pressure() uint8 {
	most := uint8(0)
	for i := range s.lanes {
		most = max(most, s.lanes[i].socket.Pressure())
	}
	return most
}
