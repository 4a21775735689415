package eventstore

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// A window is what the member that has a partition knows of it: the events from the checkpoint on, as far
// as they were read. It has no lock of its own.
type window struct {
	items []*item           // not acknowledged, or behind one that is not, in order
	base  Position          // everything up to here is dealt with
	seen  Position          // everything up to here was looked at
	done  map[Position]bool // acknowledged before this member had the partition, above base
	wait  int               // items that wait to be delivered
}

// An item is a stored event: what upcasts made of it is delivered and acknowledged together.
type item struct {
	pos      Position
	keys     []string // those of this partition
	events   []*Recorded
	state    itemState
	attempts int
	due      time.Time // not to be delivered before
}

type itemState uint8

const (
	undelivered itemState = iota
	out
	dealtWith
)

// add puts an event behind the others, unless it was dealt with or is there already.
func (w *window) add(keys []string, events []*Recorded) {
	pos := events[0].Position
	if pos <= w.seen || pos <= w.base {
		return
	}
	w.seen = pos
	it := &item{pos: pos, keys: keys, events: events}
	if w.done[pos] {
		delete(w.done, pos)
		it.state = dealtWith
		it.events = nil
	} else {
		w.wait++
	}
	w.items = append(w.items, it)
}

// take returns the next events to deliver, at most n, leaving out keys of which an earlier event is under way or
// waits for its time. If there are none because of the time, it says how long to wait.
func (w *window) take(n int, now time.Time) (items []*item, later time.Duration) {
	if w.wait == 0 {
		return nil, 0
	}
	var held map[string]bool
	hold := func(it *item) {
		if held == nil {
			held = map[string]bool{}
		}
		for _, key := range it.keys {
			held[key] = true
		}
	}
	events := 0
	for _, it := range w.items {
		switch {
		case it.state == dealtWith:
		case it.state == out:
			hold(it)
		case held != nil && slices.ContainsFunc(it.keys, func(key string) bool { return held[key] }):
			hold(it) // what waits for it must not overtake it
		case it.due.After(now):
			hold(it)
			if wait := it.due.Sub(now); later == 0 || wait < later {
				later = wait
			}
		case events > 0 && events+len(it.events) > n:
			// The rest waits for the next delivery, and so do later events of any key.
			return w.send(items), 0
		default:
			items = append(items, it)
			events += len(it.events)
		}
	}
	return w.send(items), later
}

func (w *window) send(items []*item) []*item {
	for _, it := range items {
		it.state = out
		it.attempts++
		w.wait--
	}
	return items
}

// ack notes that items were dealt with, and moves base over what is.
func (w *window) ack(items []*item) {
	for _, it := range items {
		if it.state == out {
			it.state = dealtWith
			it.events = nil
		}
	}
	w.advance()
}

func (w *window) advance() {
	n := 0
	for n < len(w.items) && w.items[n].state == dealtWith {
		w.base = w.items[n].pos
		n++
	}
	w.items = append(w.items[:0], w.items[n:]...)
	if len(w.items) == 0 && len(w.done) == 0 {
		w.base = w.seen
	}
}

// retry gives items back, to be delivered again from due on.
func (w *window) retry(items []*item, due time.Time) {
	for _, it := range items {
		if it.state == out {
			it.state, it.due = undelivered, due
			w.wait++
		}
	}
}

// pass notes that everything up to pos was looked at.
func (w *window) pass(pos Position) {
	w.seen = max(w.seen, pos)
	for p := range w.done {
		if p <= w.seen {
			delete(w.done, p) // the event is gone: its stream was truncated
		}
	}
	w.advance()
}

// acknowledged is what a partition's checkpoint holds besides its position: the positions above it that are dealt with, each
// as the distance from the one before.
type acknowledged struct {
	Done []Position `json:"done,omitempty"`
}

func (w *window) data() []byte {
	var a acknowledged
	last := w.base
	for _, it := range w.items {
		if it.state == dealtWith {
			a.Done = append(a.Done, it.pos-last)
			last = it.pos
		}
	}
	if len(a.Done) == 0 && len(w.done) == 0 {
		return nil
	}
	// Those that were not read again yet lie above everything that was.
	for p := range w.done {
		a.Done = append(a.Done, p)
	}
	return a.encode(len(a.Done)-len(w.done), last)
}

// encode makes the positions from index n on distances, too.
func (a *acknowledged) encode(n int, last Position) []byte {
	rest := a.Done[n:]
	slices.Sort(rest)
	for i, p := range rest {
		rest[i] = p - last
		last = p
	}
	b, _ := json.Marshal(a) // numbers cannot fail
	return b
}

// newWindow restores a window from a checkpoint.
func newWindow(base Position, data []byte) (window, error) {
	w := window{base: base, seen: base}
	if len(data) == 0 {
		return w, nil
	}
	var a acknowledged
	if err := json.Unmarshal(data, &a); err != nil {
		return w, fmt.Errorf("a checkpoint that cannot be read: %w", err)
	}
	w.done = make(map[Position]bool, len(a.Done))
	for _, d := range a.Done {
		base += d
		w.done[base] = true
	}
	return w, nil
}
