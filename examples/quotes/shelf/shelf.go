package shelf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/live/sync"
	"github.com/levada-go/levada/projection"
)

// A Quote is one as pages show it. The zero Quote is none.
type Quote struct {
	ID, Author, Content string
	Likes               int
	Version             uint64
	AsOf                time.Time // UTC
}

// A Row is a quote in the collection.
type Row struct {
	ID, Author, Content string
	Likes               int
	Version             uint64
	at                  eventstore.Position // where it was added
}

// A Remark is what somebody said about a quote.
type Remark struct {
	ID, By, Text string
	At           time.Time // UTC
}

// Place is where the favourite of the demonstration is.
const Place = "everyone"

// A Shelf is the whole application but for its pages.
type Shelf struct {
	*levada.App

	// What fields of pages can be bound to.
	Favourite *sync.Source[string, string] // by place: the id of the quote
	Quotes    *sync.Source[string, Quote]
	Rows      *sync.Source[string, Row]
	Remarks   *sync.Source[string, Remark]
	Talk      *sync.Source[string, []string] // by quote: the ids of the remarks on it, the newest first

	model *projection.Memory[model]
}

// Open returns a Shelf on a store. It needs [levada.App.Run] to be of use.
func Open(store *eventstore.Store, log *slog.Logger) (*Shelf, error) {
	var m projection.Memory[model]
	app, err := levada.New(store, levada.Config{
		Aggregates:  []aggregate.Opener{quote.Quotes, quote.Favourites, quote.Remarks},
		Projections: []projection.Runner{&projection.Projection[*model]{Name: "shelf", Target: &m, Handlers: handlers}},
		Logger:      log,
	})
	if err != nil {
		return nil, err
	}
	s := &Shelf{App: app, model: &m}
	var faults [5]error
	s.Favourite, faults[0] = sync.Aggregates(store, quote.Favourites, func(f *quote.Favourite, _ sync.At) (string, bool) {
		return f.Quote, true
	}, nil)
	s.Quotes, faults[1] = sync.Aggregates(store, quote.Quotes, func(q *quote.Quote, at sync.At) (Quote, bool) {
		return Quote{at.ID, q.Author, q.Content, q.Likes, uint64(at.Version), at.Time}, !q.Removed
	}, nil)
	s.Remarks, faults[2] = sync.Aggregates(store, quote.Remarks, func(r *quote.Remark, at sync.At) (Remark, bool) {
		return Remark{at.ID, r.By, r.Text, at.Time}, true
	}, nil)
	s.Rows, faults[3] = sync.Model(app.Group, "shelf", &m, sync.Rows[model, string, Row]{
		Filter:  eventstore.Filter{Categories: []string{quote.Quotes.Name}},
		Keys:    func(r *eventstore.Recorded) []string { return []string{r.Stream.ID()} },
		Row:     func(m *model, id string) (Row, bool) { row, ok := m.rows[id]; return row, ok },
		All:     (*model).each,
		Compare: func(a, b Row) int { return cmp.Compare(b.at, a.at) }, // the newest first
	})
	s.Talk, faults[4] = sync.Model(app.Group, "shelf", &m, sync.Rows[model, string, []string]{
		Filter: eventstore.Filter{Categories: []string{quote.Remarks.Name}},
		Keys:   saidAbout,
		Row:    (*model).talk,
	})
	return s, errors.Join(faults[:]...)
}

// Count returns how many quotes there are.
func (s *Shelf) Count() (n int) {
	s.model.View(func(m *model, _ eventstore.Position) { n = len(m.rows) })
	return n
}

// saidAbout returns the quote that a remark is on.
func saidAbout(r *eventstore.Recorded) []string {
	if e, ok := r.Data.(quote.Made); ok {
		return []string{e.Quote}
	}
	return nil
}

// Ready returns when the read model holds all that was stored when it was called.
func (s *Shelf) Ready(ctx context.Context) error {
	head, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	return s.Group.Wait(ctx, head)
}

// A Moment is a quote as it was after one of its events.
type Moment struct {
	Quote
	What string // what the event did, in words
	Gone bool
}

// At returns the quote as it was at a version: its first events, folded. It is false if the quote has no such version.
func (s *Shelf) At(ctx context.Context, id string, version uint64) (m Moment, ok bool, err error) {
	var q quote.Quote
	for r, err := range s.Store.ReadStream(ctx, eventstore.Stream(quote.Quotes.Name, id), 0) {
		if err != nil {
			return Moment{}, false, fmt.Errorf("read %s: %w", id, err)
		}
		e, known := r.Data.(aggregate.Event[quote.Quote])
		if !known {
			continue
		}
		q = aggregate.Fold(q, e)
		if uint64(r.Version) == version {
			return Moment{Quote{id, q.Author, q.Content, q.Likes, version, r.Time}, what(e), q.Removed}, true, nil
		}
	}
	return Moment{}, false, nil
}

func what(e any) string {
	switch e.(type) {
	case quote.Added:
		return "added"
	case quote.Reworded:
		return "reworded"
	case quote.Liked:
		return "liked"
	case quote.Removed:
		return "removed"
	}
	return "changed"
}
