package quote

import (
	"errors"

	"github.com/levada-go/levada/aggregate"
)

// A Favourite is the quote that is chosen.
type Favourite struct{ Quote string }

// Favourites keeps who has chosen what. There is one for each place that shows a favourite.
var Favourites = &aggregate.Type[Favourite]{
	Name:   "favourite",
	Events: aggregate.Events[Favourite]{"favourite.chosen": Chosen{}},
}

// Chosen says that a quote is the favourite from now on.
type Chosen struct{ Quote string }

func (e Chosen) Apply(f *Favourite) { f.Quote = e.Quote }

// ErrNoQuote refuses to choose nothing.
var ErrNoQuote = errors.New("there is no quote to choose")

// Choose makes a quote the favourite of a place.
type Choose struct{ Place, Quote string }

func (c Choose) AggregateID() string { return c.Place }

func (c Choose) Execute(f Favourite) ([]aggregate.Event[Favourite], error) {
	switch c.Quote {
	case "":
		return nil, ErrNoQuote
	case f.Quote:
		return nil, nil
	}
	return []aggregate.Event[Favourite]{Chosen{c.Quote}}, nil
}
