package natsstore

import "sync"

// A tails remembers how streams stood when they were last seen, so that an
// append need not ask. What it remembers may be old: the server checks it with
// each write, and no read and no refusal relies on it.
type tails struct {
	mu     sync.Mutex
	young  map[string]state
	old    map[string]state // what was remembered before young was emptied, and not used since
	atMost int              // in young
}

const rememberedTails = 8192

func (t *tails) get(stream string) (state, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.young[stream]; ok {
		return s, true
	}
	s, ok := t.old[stream]
	return s, ok
}

// put remembers s unless something younger is known.
func (t *tails) put(stream string, s state) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have, ok := t.young[stream]; ok && have.seq >= s.seq {
		return
	}
	if len(t.young) >= t.atMost || t.young == nil {
		t.old, t.young = t.young, make(map[string]state)
	}
	t.young[stream] = s
}

func (t *tails) drop(stream string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.young, stream)
	delete(t.old, stream)
}
