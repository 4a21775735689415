package live

import (
	"iter"
	"slices"

	"github.com/levada-go/levada/live/internal/render"
)

// Stream is a list that only the browser keeps: the server forgets the items once they are sent. It stands in
// the state of a view, made by [NewStream] in Mount, and in the template in an element of its own with an id and
// live-update="stream", where each item is one element with an id:
//
//	<ul id="log" live-update="stream">{{range .Log.Items}}<li id="log-{{.ID}}">{{.Text}}</li>{{end}}</ul>
//
// The func id of NewStream must return that id. An item whose id is in the list already replaces it where it stands.
// Items wait while the element is not on the page; when it leaves the page, so do the items that were sent.
//
// Its methods are for the funcs of the view, like those of [Ctx].
type Stream[T any] struct {
	ctx   *Ctx
	id    func(T) string
	limit int
	ops   []render.Op // that wait to be sent
	rows  []T         // of ops
	all   []T         // what is there, over HTTP and where somebody checks what the browser has
	known bool        // the browser had the list before the frame that is being made
	asked bool        // that frame has the list
}

// NewStream returns an empty stream. The browser's list is emptied, too, when the page is mounted again.
func NewStream[T any](ctx *Ctx, id func(T) string) *Stream[T] {
	s := &Stream[T]{ctx: ctx, id: id}
	if ctx.session != nil {
		ctx.streams = append(ctx.streams, s)
	}
	return s
}

// Append puts items behind the list, in the order given. Of items with the same id, here and in the methods below,
// the last counts.
func (s *Stream[T]) Append(items ...T) { s.Insert(-1, items...) }

// Prepend puts items in front of the list, in the order given.
func (s *Stream[T]) Prepend(items ...T) { s.Insert(0, items...) }

// Insert puts items before the one at an index of the list, in the order given; behind the list if the index is -1
// or there is none.
func (s *Stream[T]) Insert(at int, items ...T) {
	s.do(render.Op{Kind: render.StreamInsert, At: max(at, -1), Limit: s.limit}, items)
}

// Update replaces the items that are in the list and ignores the others.
func (s *Stream[T]) Update(items ...T) { s.do(render.Op{Kind: render.StreamUpdate}, items) }

// Delete takes items out, by the ids of their elements.
func (s *Stream[T]) Delete(ids ...string) {
	if len(ids) > 0 {
		s.add(render.Op{Kind: render.StreamDelete, IDs: slices.Clone(ids)}, nil)
	}
}

// Reset empties the list.
func (s *Stream[T]) Reset() {
	s.ops, s.rows = nil, nil // nothing of it would stay
	s.add(render.Op{Kind: render.StreamReset}, nil)
}

// Limit keeps the list at n items after each insert from now on: the first n for n > 0, the last -n for n < 0, all
// for 0.
func (s *Stream[T]) Limit(n int) { s.limit = n }

// Items returns the items that wait to be sent; over HTTP all. It is for the template, which must range over it to
// the end.
func (s *Stream[T]) Items() iter.Seq[T] {
	return func(yield func(T) bool) {
		rows := s.all
		if v := s.ctx.rendering; v != nil {
			s.asked, s.known = true, v.Known()
			v.Ops(s.ops)
			rows = s.rows
		}
		for _, item := range rows {
			if !yield(item) {
				return
			}
		}
	}
}

// do takes an op with rows, of which no two have the same id.
func (s *Stream[T]) do(op render.Op, items []T) {
	if len(items) == 0 {
		return
	}
	rows := make([]T, 0, len(items))
	places := make(map[string]int, len(items))
	for _, item := range items {
		if i, ok := places[s.id(item)]; ok {
			rows[i] = item
			continue
		}
		places[s.id(item)] = len(rows)
		rows = append(rows, item)
	}
	// Of what goes into a list that was just emptied, that beyond the limit would be sent for nothing.
	if n := len(s.ops); op.Kind == render.StreamInsert && n > 0 && s.ops[n-1].Kind == render.StreamReset {
		if over := len(rows) - op.Limit; op.Limit > 0 && over > 0 {
			rows = rows[:op.Limit]
		}
		if over := len(rows) + op.Limit; op.Limit < 0 && over > 0 {
			rows = rows[over:]
		}
	}
	op.Rows = len(rows)
	s.add(op, rows)
}

func (s *Stream[T]) add(op render.Op, rows []T) {
	if s.ctx.session == nil {
		s.all = apply(s.all, op, rows, s.id)
		return
	}
	s.ops, s.rows = append(s.ops, op), append(s.rows, rows...)
}

// streamer is a Stream[T] without its type parameter.
type streamer interface {
	// sent is called when a frame was made.
	sent()
}

func (s *Stream[T]) sent() {
	if !s.asked {
		return
	}
	s.asked = false
	if s.ctx.keeps {
		if !s.known {
			s.all = nil
		}
		rows := s.rows
		for _, op := range s.ops {
			s.all = apply(s.all, op, rows[:op.Rows], s.id)
			rows = rows[op.Rows:]
		}
	}
	s.ops, s.rows = nil, nil
}

// apply does to a list what the browser does to its elements.
func apply[T any](list []T, op render.Op, rows []T, id func(T) string) []T {
	index := func(of string) int { return slices.IndexFunc(list, func(v T) bool { return id(v) == of }) }
	switch op.Kind {
	case render.StreamReset:
		return nil
	case render.StreamDelete:
		return slices.DeleteFunc(list, func(v T) bool { return slices.Contains(op.IDs, id(v)) })
	}
	var fresh []T
	for _, row := range rows {
		if i := index(id(row)); i >= 0 {
			list[i] = row
		} else {
			fresh = append(fresh, row)
		}
	}
	if op.Kind == render.StreamUpdate {
		return list
	}
	at := op.At
	if at < 0 || at > len(list) {
		at = len(list)
	}
	list = slices.Insert(list, at, fresh...)
	switch n := len(list); {
	case op.Limit > 0 && n > op.Limit:
		list = slices.Delete(list, op.Limit, n)
	case op.Limit < 0 && n > -op.Limit:
		list = slices.Delete(list, 0, n+op.Limit)
	}
	return list
}
