package drivertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/anishathalye/porcupine"

	"github.com/levada-go/levada/eventstore/driver"
)

// A history is what clients asked of a log and were told.
type history struct {
	lock sync.Mutex
	list []*operation
	logs [][]sight // as each handle showed it in the end
}

// An operation is one call about one stream. Which fields mean something depends
// on its kind and outcome.
type operation struct {
	kind      operationKind
	client    int
	stream    string
	call, end int64

	expected int64 // opAppend, opDelete
	loose    bool  // as Harness.LooseDelete
	ids      []eventID
	from     uint64 // opRead
	dir      driver.Direction
	limit    int

	outcome   outcome
	version   uint64 // after the append, or the conflict's
	positions []uint64
	last      uint64
	err       error
	info      driver.StreamInfo
	page      []sight
	taken     occupied // of the stream, where the search has to try

	// parts are the operations of an append to two streams, in order; both have both.
	// In the search for an order of the two, an opJoint stands for them.
	parts  []*operation
	second int // 1 in the search for an order of two streams, if it is about the second by name
}

type operationKind uint8

const (
	opAppend operationKind = iota
	opStream
	opRead
	opDelete
	opJoint // two opAppends, in searches
	opEnd   // of the history, in searches: what was not done by then, never is
)

type outcome uint8

const (
	done       outcome = iota
	conflicted         // nothing was done
	refused            // nothing was done, for another reason
	unknown            // it may have been done, or be done later
)

// An eventID tells an event from all others of a history.
type eventID uint64

func newEventID(client, call, part int) eventID {
	return eventID(client)<<48 | eventID(call)<<8 | eventID(part)
}

func (id eventID) String() string {
	return fmt.Sprintf("%d/%d/%d", id>>48, id>>8&0xff_ffff_ffff, id&0xff)
}

// linearCategory is the category of the streams of histories.
const linearCategory = "linear"

// linearMark begins the ids of the events of histories.
var linearMark = [8]byte{'l', 'i', 'n', 'e', 'a', 'r'}

// events returns the events that an append appends.
func (o *operation) events() []driver.Event {
	list := make([]driver.Event, len(o.ids))
	for i, id := range o.ids {
		e := driver.Event{Type: "t", ContentType: "text/plain", Data: []byte(id.String())}
		copy(e.ID[:], linearMark[:])
		binary.BigEndian.PutUint64(e.ID[8:], uint64(id))
		list[i] = e
	}
	return list
}

// A sight is an event as a reader saw it.
type sight struct {
	id                eventID
	stream            string
	version, position uint64
	strange           string // why no client can have appended it
}

func sightOf(r *driver.Recorded) sight {
	s := sight{id: eventID(binary.BigEndian.Uint64(r.ID[8:])), stream: r.Stream, version: r.Version, position: r.Position}
	switch {
	case [8]byte(r.ID[:8]) != linearMark:
		s.strange = fmt.Sprintf("its id is %x", r.ID)
	case string(r.Data) != s.id.String():
		s.strange = fmt.Sprintf("its data is %q", r.Data)
	}
	return s
}

// settle says what became of a write.
func (o *operation) settle(err error) {
	o.err = err
	var conflict *driver.ConflictError
	switch {
	case err == nil:
		o.outcome = done
	case errors.As(err, &conflict):
		o.outcome, o.version = conflicted, conflict.Actual
	case errors.Is(err, driver.ErrOutcomeUnknown) || ended(err) || o.kind == opDelete:
		o.outcome = unknown // of errors of deletions no contract says that nothing was done
	default:
		o.outcome = refused
	}
}

// settleAll says what became of an append to two streams.
func settleAll(parts []*operation, results []driver.Result, err error) {
	var conflict *driver.ConflictError
	errors.As(err, &conflict)
	for i, o := range parts {
		o.settle(err)
		switch {
		case err == nil:
			o.version, o.positions, o.last = results[i].Version, results[i].Positions, results[i].Last
		case o.outcome == conflicted && conflict.Stream != o.stream:
			o.outcome = refused // by the other
		}
	}
}

func (o *operation) String() string {
	if o.kind == opJoint {
		var list []string
		for _, part := range o.parts {
			list = append(list, part.String())
		}
		return strings.Join(list, ", and ")
	}
	s := o.describe()
	if o.kind == opAppend || o.kind == opDelete {
		switch o.outcome {
		case conflicted:
			s += fmt.Sprintf(" → conflict at %d", o.version)
		case refused, unknown:
			s += fmt.Sprintf(" → %v", o.err)
		case done:
			s += fmt.Sprintf(" → at %d", o.version)
		}
		return s
	}
	if o.kind == opEnd {
		return "the end"
	}
	if o.kind == opStream {
		return s + fmt.Sprintf(" → at %d, from %d, origin %d, deleted %t", o.info.Version, o.info.First, o.info.Origin, o.info.Deleted)
	}
	var list []string
	for _, e := range o.page {
		list = append(list, fmt.Sprintf("%d: %v", e.version, e.id))
	}
	return s + fmt.Sprintf(" → [%s]", strings.Join(list, ", "))
}

func (o *operation) describe() string {
	expected := map[int64]string{driver.Any: "any", driver.NoStream: "none", driver.StreamExists: "some"}[o.expected]
	if expected == "" {
		expected = fmt.Sprint(o.expected)
	}
	switch o.kind {
	case opAppend:
		return fmt.Sprintf("append %v to %s expecting %s", o.ids, o.stream, expected)
	case opStream:
		return "where is " + o.stream
	case opDelete:
		return fmt.Sprintf("delete %s expecting %s", o.stream, expected)
	}
	return fmt.Sprintf("read %d of %s %s %d", o.limit, o.stream, map[driver.Direction]string{driver.Forward: "above", driver.Backward: "below"}[o.dir], o.from)
}

// add adds an operation that has ended.
func (h *history) add(o *operation) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.list = append(h.list, o)
}

// streams returns the streams that there were calls about.
func (h *history) streams() []string {
	var list []string
	for _, o := range h.list {
		list = append(list, o.stream)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// String counts.
func (h *history) String() string {
	h.lock.Lock()
	defer h.lock.Unlock()
	var appends [4]int
	others := map[operationKind]int{}
	for _, o := range h.list {
		if o.kind == opAppend {
			appends[o.outcome]++
		} else {
			others[o.kind]++
		}
	}
	return fmt.Sprintf("%d appends acknowledged, %d conflicts, %d refused, %d unknown; %d versions, %d pages, %d deletions",
		appends[done], appends[conflicted], appends[refused], appends[unknown], others[opStream], others[opRead], others[opDelete])
}

// deleted returns the streams that somebody tried to delete.
func (h *history) deleted() map[string]bool {
	set := map[string]bool{}
	for _, o := range h.list {
		if o.kind == opDelete {
			set[o.stream] = true
		}
	}
	return set
}

// missing returns an acknowledged append that log does not show whole, or nil.
func (h *history) missing(log []sight) *operation {
	seen := map[eventID]bool{}
	for _, s := range log {
		seen[s.id] = true
	}
	deleted := h.deleted()
	for _, o := range h.list {
		if o.kind == opAppend && o.outcome == done && !deleted[o.stream] {
			for _, id := range o.ids {
				if !seen[id] {
					return o
				}
			}
		}
	}
	return nil
}

// kept reports whether anybody saw the last event of an append in its stream.
func (h *history) kept(o *operation) bool {
	last := o.ids[len(o.ids)-1]
	for _, x := range h.list {
		if slices.ContainsFunc(x.page, func(s sight) bool { return s.id == last }) {
			return true
		}
	}
	return false
}

// checkLog checks the log as every handle showed it in the end.
func (h *history) checkLog() error {
	appends := map[eventID]*operation{}
	for _, o := range h.list {
		for _, id := range o.ids {
			appends[id] = o
		}
	}
	deleted := h.deleted()
	lasting := func(log []sight) []sight {
		return slices.DeleteFunc(slices.Clone(log), func(s sight) bool { return deleted[s.stream] })
	}
	for i, log := range h.logs {
		if err := h.checkOneLog(log, appends, deleted); err != nil {
			return fmt.Errorf("handle %d: the log: %w", i, err)
		}
		if first := h.logs[0]; !slices.Equal(lasting(first), lasting(log)) {
			return fmt.Errorf("handle %d shows another log than handle 0: %v and %v", i, difference(lasting(first), lasting(log)), difference(lasting(log), lasting(first)))
		}
	}
	return nil
}

// difference returns what a has and b has not, or what they have in another order.
func difference(a, b []sight) []sight {
	var list []sight
	for _, s := range a {
		if !slices.Contains(b, s) {
			list = append(list, s)
		}
	}
	if list == nil {
		return a[:min(len(a), 10)]
	}
	return list[:min(len(list), 10)]
}

func (h *history) checkOneLog(log []sight, appends map[eventID]*operation, deleted map[string]bool) error {
	seen := map[eventID]sight{}
	versions := map[string]uint64{}
	var position uint64
	for _, s := range log {
		o := appends[s.id]
		switch {
		case s.strange != "":
			return fmt.Errorf("nobody appended the event at %d: %s", s.position, s.strange)
		case o == nil || o.stream != s.stream:
			return fmt.Errorf("nobody appended %v to %s", s.id, s.stream)
		case o.outcome == conflicted || o.outcome == refused:
			return fmt.Errorf("it has %v of an append that wrote nothing: %v", s.id, o)
		case s.position <= position:
			return fmt.Errorf("the position %d comes after %d", s.position, position)
		}
		if twice, ok := seen[s.id]; ok {
			return fmt.Errorf("it has %v twice, at %d and %d: %v", s.id, twice.position, s.position, o)
		}
		last := versions[s.stream]
		if s.version <= last || s.version > last+1 && !deleted[s.stream] {
			return fmt.Errorf("version %d of %s comes after version %d", s.version, s.stream, last)
		}
		seen[s.id], versions[s.stream], position = s, s.version, s.position
	}
	for _, o := range h.list {
		if o.kind != opAppend {
			continue
		}
		n := 0
		for _, id := range o.ids {
			if _, ok := seen[id]; ok {
				n++
			}
		}
		if n == 0 {
			continue
		}
		if n < len(o.ids) && !deleted[o.stream] {
			return fmt.Errorf("it has %d of %d events of %v", n, len(o.ids), o)
		}
		first := seen[o.ids[0]]
		for k, id := range o.ids {
			s, ok := seen[id]
			switch {
			case !ok:
			case first.version > 0 && s.version != first.version+uint64(k):
				return fmt.Errorf("event %d of an append is at version %d, the first at %d: %v", k+1, s.version, first.version, o)
			case o.outcome != done:
			case s.version != o.version-uint64(len(o.ids))+uint64(k)+1:
				return fmt.Errorf("event %d of an append is at version %d: %v", k+1, s.version, o)
			case k < len(o.positions) && s.position != o.positions[k]:
				return fmt.Errorf("event %d of an append is at position %d, and was told to be at %d: %v", k+1, s.position, o.positions[k], o)
			case k == len(o.ids)-1 && o.last > 0 && s.position != o.last:
				return fmt.Errorf("an append ended at position %d, and was told to at %d: %v", s.position, o.last, o)
			}
		}
		if err := o.together(seen, deleted); err != nil {
			return err
		}
	}
	return nil
}

// together checks that the log has the other streams of an append, too, and in order.
func (o *operation) together(seen map[eventID]sight, deleted map[string]bool) error {
	var last uint64
	for _, part := range o.parts {
		first, ok := seen[part.ids[0]]
		switch {
		case deleted[part.stream]:
			continue
		case !ok:
			return fmt.Errorf("it has %v, and not %v, which was one append with it", o, part)
		case first.position <= last:
			return fmt.Errorf("it has %v at position %d, after what follows on it in one append", part, first.position)
		}
		last = seen[part.ids[len(part.ids)-1]].position
	}
	return nil
}

// operations returns the histories to search for an order, of the
// operations that counts says: that of each stream, and of each two streams that were
// appended to at once.
//
// Of an append whose outcome is unknown, the log tells it: if its events are
// there, it took effect at the version where they stand, some time after it
// began; if they are not, and nobody ever saw them, it did not. Only where a stream
// may have been deleted in between, or where events were seen that are gone, the
// search has to try: it took effect before the end of the history, at versions that
// are nobody else's, or comes after that and does nothing.
func (h *history) operations(counts func(*operation) bool) (streams, joined orders) {
	var end int64
	deleted := h.deleted()
	seen := map[eventID]uint64{}
	taken := map[string]occupied{}
	see := func(s sight) {
		seen[s.id] = s.version
		taken[s.stream] = taken[s.stream].add(s.version, 1)
	}
	kept := map[eventID]bool{}
	for _, s := range h.logs[0] {
		see(s)
		kept[s.id] = true
	}
	for _, o := range h.list {
		end = max(end, o.end)
		for _, s := range o.page {
			see(s)
		}
		switch {
		case o.kind == opAppend && o.outcome == done:
			taken[o.stream] = taken[o.stream].add(o.version, len(o.ids))
		case o.kind == opStream:
			taken[o.stream] = taken[o.stream].add(o.info.Version, 0)
		}
	}
	streams, joined = orders{}, orders{}
	joints := map[*operation]*operation{} // by the first part
	pairs := map[string][]string{}        // of streams that appends have joined, by name
	for _, o := range h.list {
		if len(o.parts) > 0 {
			pairs[o.stream] = slices.Sorted(slices.Values([]string{o.parts[0].stream, o.parts[1].stream}))
		}
	}
	for _, o := range h.list {
		if !counts(o) {
			continue
		}
		x := *o
		happened := o.outcome != refused
		if o.outcome == unknown {
			x.end = end + 3
		}
		if o.kind == opAppend && o.outcome == unknown {
			some := slices.IndexFunc(o.ids, func(id eventID) bool { return seen[id] > 0 })
			ok := some >= 0
			switch {
			case ok && (kept[o.ids[some]] || deleted[o.stream]):
				x.outcome, x.version = done, seen[o.ids[some]]+uint64(len(o.ids)-1-some)
			case !ok && !deleted[o.stream], taken[o.stream].full():
				happened, x.taken = false, taken[o.stream]
			default:
				x.taken = taken[o.stream]
			}
		}
		if happened {
			streams.put(o.stream, &x)
		}
		pair, ok := pairs[o.stream]
		if !ok {
			continue
		}
		name := strings.Join(pair, " and ")
		x.second = slices.Index(pair, o.stream)
		if len(o.parts) == 0 {
			if happened {
				joined.put(name, &x)
			}
			continue
		}
		j := joints[o.parts[0]]
		if j == nil {
			j = &operation{kind: opJoint, client: o.client, stream: name, call: x.call, end: x.end, outcome: refused}
			joints[o.parts[0]] = j
		}
		j.parts = append(j.parts, &x)
		if happened {
			j.outcome = o.outcome
		}
		if len(j.parts) == 2 && j.outcome != refused {
			joined.put(name, j)
		}
	}
	for _, list := range []orders{streams, joined} {
		for name := range list {
			list.put(name, &operation{kind: opEnd, stream: name, call: end + 1, end: end + 2})
		}
	}
	return streams, joined
}

// orders are histories to search for an order, by what they are of.
type orders map[string][]porcupine.Operation

func (l orders) put(name string, o *operation) {
	l[name] = append(l[name], porcupine.Operation{ClientId: o.client, Input: o, Output: o, Call: o.call, Return: o.end})
}

// occupied are the versions of a stream that belong to events that somebody knows of,
// and the last that there is.
type occupied struct {
	known map[uint64]bool
	last  uint64
}

// add adds n versions up to last.
func (v occupied) add(last uint64, n int) occupied {
	if v.known == nil {
		v.known = map[uint64]bool{}
	}
	v.last = max(v.last, last)
	for i := range uint64(n) {
		v.known[last-i] = true
	}
	return v
}

// full reports whether all versions are known.
func (v occupied) full() bool { return uint64(len(v.known)) >= v.last }

// free reports whether the n versions above after are there, and not known.
func (v occupied) free(after uint64, n int) bool {
	for i := range uint64(n) {
		if v.known[after+i+1] {
			return false
		}
	}
	return after+uint64(n) <= v.last
}
