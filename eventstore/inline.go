package eventstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// An inline is a func that takes part in appends.
type inline struct {
	fn func(ctx context.Context, tx any, events []*Recorded) error
}

// Inline calls fn inside the transaction of every append that this Store makes from
// now on, once for each append, with the engine's own transaction and the events as
// readers will see them; tx is nil for an engine that has none. Appends to several
// streams, of an [AtomicStore] or a [TagStore], are one call with the events of all streams, in
// the order of their positions. If fn fails or
// panics, that append fails with its error and nothing of it is written; others that
// are committed together with it are not concerned. Appends wait while fn runs. It
// must neither write to the Store nor modify or keep the events.
//
// Call stop to end that. An engine that cannot do it is an ErrUnsupported.
func (s *Store) Inline(fn func(ctx context.Context, tx any, events []*Recorded) error) (stop func(), err error) {
	if _, ok := s.d.(driver.Inliner); !ok {
		return nil, fmt.Errorf("eventstore: inline: %w", ErrUnsupported)
	}
	in := &inline{fn}
	s.inlines.Lock()
	defer s.inlines.Unlock()
	s.setInlines(append(slices.Clone(s.inlined()), in))
	return func() {
		s.inlines.Lock()
		defer s.inlines.Unlock()
		s.setInlines(slices.DeleteFunc(slices.Clone(s.inlined()), func(x *inline) bool { return x == in }))
	}, nil
}

func (s *Store) inlined() []*inline {
	if list := s.inlines.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (s *Store) setInlines(list []*inline) { s.inlines.list.Store(&list) }

// takingPart returns what calls all inline funcs in the transaction of an append, or of several that are
// committed together; nil if there are none.
func (s *Store) takingPart() func(tx any, stored []driver.Recorded) error {
	list := s.inlined()
	if len(list) == 0 {
		return nil
	}
	// Appends of several callers are committed together: the context is none of theirs.
	together := system.Within(context.Background())
	return func(tx any, stored []driver.Recorded) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("eventstore: inline: panic: %v", p)
			}
		}()
		events := s.decoder.page(context.Background(), stored, nil)
		for _, in := range list {
			if err := in.fn(together, tx, events); err != nil {
				return err
			}
		}
		return nil
	}
}
