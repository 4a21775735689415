package eventstore

// Queued returns how many appends wait for a commit.
func (s *Store) Queued() int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.queue)
}

// Closing reports whether the store refuses appends.
func (s *Store) Closing() bool {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return s.writer.refused
}

// TailRuns reports whether the tail's goroutine runs.
func (s *Store) TailRuns() bool { return s.tail.active.Load() }

// AtTail returns how many subscribers are fed by the tail, and how many by themselves.
func (s *Store) AtTail() (at, behind int) {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	for sub := range s.tail.subs {
		if sub.behind {
			behind++
		} else {
			at++
		}
	}
	return at, behind
}

const QueueLength = queueLength

// Fence returns the fence under which the delivery's partition is held.
func (d *Delivery) Fence() uint64 { return d.p.fence }

// Kept returns what is kept for subscribers that are behind: stretches of the log, and the bytes of their events.
func (s *Store) Kept() (stretches, bytes int) {
	c := &s.tail.catchUps
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kept), c.bytes
}

const (
	KeepStretches = keepStretches
	KeepBytes     = keepBytes
	ShareTime     = shareTime
)
