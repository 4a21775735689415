package shelf

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/examples/quotes/quote"
)

// seeds are what an empty shelf begins with: words whose authors have long been dead, and proverbs.
var seeds = []struct{ id, author, content string }{
	{"hands", "Proverb", "Many hands make light work."},
	{"tree", "Lucy Larcom, Plant a Tree", "He who plants a tree plants a hope."},
	{"practice", "Proverb", "Practice makes perfect."},
	{"shakespeare-brevity", "William Shakespeare, Hamlet", "Brevity is the soul of wit."},
	{"austen-truth", "Jane Austen, Pride and Prejudice", "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife."},
	{"pope-err", "Alexander Pope, An Essay on Criticism", "To err is human; to forgive, divine."},
	{"wilde-truth", "Oscar Wilde, The Importance of Being Earnest", "The truth is rarely pure and never simple."},
	{"carroll-beginning", "Lewis Carroll, Alice’s Adventures in Wonderland", "Begin at the beginning, and go on till you come to the end: then stop."},
	{"steps", "Laozi, Tao Te Ching", "A journey of a thousand miles begins with a single step."},
	{"rolling-stone", "Proverb", "A rolling stone gathers no moss."},
}

// Seed puts the first quotes on the shelf and chooses one of them, unless one was ever chosen. What a start
// that was interrupted has done already is not done twice.
func (s *Shelf) Seed(ctx context.Context) error {
	chosen, _, err := s.Favourite.Get(ctx, Place)
	if err != nil || chosen != "" {
		return err
	}
	do := func(c command.Command, opts ...command.Option) error {
		if _, err := s.Dispatch(ctx, c, opts...); err != nil && !errors.Is(err, quote.ErrTaken) {
			return fmt.Errorf("put the first quotes on the shelf: %w", err)
		}
		return nil
	}
	for i, q := range seeds {
		if err := do(quote.Add{ID: q.id, Author: q.author, Content: q.content}); err != nil {
			return err
		}
		for n := range (i * 5) % 7 {
			if err := do(quote.Like{ID: q.id}, command.Once(fmt.Sprint("first", n))); err != nil {
				return err
			}
		}
	}
	for i, r := range []quote.Say{
		{Quote: "steps", By: "a walker", Text: "And the second one is easier."},
		{Quote: "steps", By: "a pedant", Text: "A thousand li, to be exact."},
		{Quote: "shakespeare-brevity", By: "a theatregoer", Text: "Says Polonius, who goes on and on."},
	} {
		r.ID = fmt.Sprint("first", i)
		if err := do(r); err != nil {
			return err
		}
	}
	return do(quote.Choose{Place: Place, Quote: "steps"}, command.Wait("shelf"))
}
