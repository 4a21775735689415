package shelf

import (
	"context"
	"slices"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/projection"
)

// A model is the collection, and which remarks are about what.
type model struct {
	rows    map[string]Row
	remarks map[string][]string // by quote, the newest last; only ever appended to
}

func (m *model) each(yield func(string, Row)) {
	for id, row := range m.rows {
		yield(id, row)
	}
}

// maxTalk is how many of the remarks on a quote a page shows.
const maxTalk = 20

func (m *model) talk(id string) ([]string, bool) {
	all := m.remarks[id]
	list := slices.Clone(all[max(0, len(all)-maxTalk):])
	slices.Reverse(list)
	return list, len(list) > 0
}

var handlers = []projection.Handler[*model]{
	projection.On(func(_ context.Context, m *model, e quote.Added, r *eventstore.Recorded) error {
		if m.rows == nil {
			m.rows = map[string]Row{}
		}
		id := r.Stream.ID()
		m.rows[id] = Row{id, e.Author, e.Content, 0, uint64(r.Version), r.Position}
		return nil
	}),
	projection.On(func(_ context.Context, m *model, e quote.Reworded, r *eventstore.Recorded) error {
		return m.change(r, func(row *Row) { row.Author, row.Content = e.Author, e.Content })
	}),
	projection.On(func(_ context.Context, m *model, _ quote.Liked, r *eventstore.Recorded) error {
		return m.change(r, func(row *Row) { row.Likes++ })
	}),
	projection.On(func(_ context.Context, m *model, _ quote.Removed, r *eventstore.Recorded) error {
		delete(m.rows, r.Stream.ID())
		return nil
	}),
	projection.On(func(_ context.Context, m *model, e quote.Made, r *eventstore.Recorded) error {
		if m.remarks == nil {
			m.remarks = map[string][]string{}
		}
		m.remarks[e.Quote] = append(m.remarks[e.Quote], r.Stream.ID())
		return nil
	}),
}

func (m *model) change(r *eventstore.Recorded, fn func(*Row)) error {
	if row, ok := m.rows[r.Stream.ID()]; ok {
		row.Version = uint64(r.Version)
		fn(&row)
		m.rows[row.ID] = row
	}
	return nil
}
