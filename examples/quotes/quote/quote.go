package quote

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada/aggregate"
)

// A Quote is what must be known of a quote to decide about it.
type Quote struct {
	Author, Content string
	Likes           int
	Added, Removed  bool
}

// Quotes keeps each quote in a stream of its own.
var Quotes = &aggregate.Type[Quote]{
	Name: "quote",
	Events: aggregate.Events[Quote]{
		"quote.added":    Added{},
		"quote.reworded": Reworded{},
		"quote.liked":    Liked{},
		"quote.removed":  Removed{},
	},
}

// What happens to a quote.
type (
	Added    struct{ Author, Content string }
	Reworded struct{ Author, Content string }
	Liked    struct{}
	Removed  struct{}
)

func (e Added) Apply(q *Quote)    { *q = Quote{Author: e.Author, Content: e.Content, Added: true} }
func (e Reworded) Apply(q *Quote) { q.Author, q.Content = e.Author, e.Content }
func (e Liked) Apply(q *Quote)    { q.Likes++ }
func (e Removed) Apply(q *Quote)  { q.Removed = true }

// Why a command is refused.
var (
	ErrGone  = errors.New("this quote is no longer there")
	ErrTaken = errors.New("there is a quote of this name already")
)

// A FieldError says what is wrong with one field of a command, in words for whoever filled it in.
type FieldError struct{ Field, Text string }

func (e *FieldError) Error() string { return e.Field + " " + e.Text }

// Bounds of what people write, in characters.
const (
	MaxAuthor  = 80
	MaxContent = 400
	MaxRemark  = 200
)

type (
	// Add adds a quote.
	Add struct{ ID, Author, Content string }
	// Reword corrects a quote.
	Reword struct{ ID, Author, Content string }
	// Like likes a quote.
	Like struct{ ID string }
	// Remove takes a quote away.
	Remove struct{ ID string }
)

func (c Add) AggregateID() string    { return c.ID }
func (c Reword) AggregateID() string { return c.ID }
func (c Like) AggregateID() string   { return c.ID }
func (c Remove) AggregateID() string { return c.ID }

func (c Add) Execute(q Quote) ([]aggregate.Event[Quote], error) {
	if q.Added {
		return nil, ErrTaken
	}
	author, content, err := wording(c.Author, c.Content)
	if err != nil {
		return nil, err
	}
	return []aggregate.Event[Quote]{Added{author, content}}, nil
}

func (c Reword) Execute(q Quote) ([]aggregate.Event[Quote], error) {
	if !q.there() {
		return nil, ErrGone
	}
	author, content, err := wording(c.Author, c.Content)
	if err != nil || author == q.Author && content == q.Content {
		return nil, err
	}
	return []aggregate.Event[Quote]{Reworded{author, content}}, nil
}

func (c Like) Execute(q Quote) ([]aggregate.Event[Quote], error) {
	if !q.there() {
		return nil, ErrGone
	}
	return []aggregate.Event[Quote]{Liked{}}, nil
}

func (c Remove) Execute(q Quote) ([]aggregate.Event[Quote], error) {
	if !q.there() {
		return nil, ErrGone
	}
	return []aggregate.Event[Quote]{Removed{}}, nil
}

func (q Quote) there() bool { return q.Added && !q.Removed }

// wording checks a quote and tidies its white space. An author may be unknown.
func wording(author, content string) (string, string, error) {
	author, err := text("author", author, 0, MaxAuthor)
	if err != nil {
		return "", "", err
	}
	content, err = text("content", content, 3, MaxContent)
	return author, content, err
}

// Check returns what is wrong with the wording of a quote, by field.
func Check(author, content string) map[string]string {
	faults := map[string]string{}
	for field, err := range map[string]error{
		"author":  second(text("author", author, 0, MaxAuthor)),
		"content": second(text("content", content, 3, MaxContent)),
	} {
		if f, ok := errors.AsType[*FieldError](err); ok {
			faults[field] = f.Text
		}
	}
	return faults
}

func second(_ string, err error) error { return err }

// text returns s with its white space tidied, or what is wrong with it.
func text(field, s string, least, most int) (string, error) {
	s = strings.Join(strings.Fields(s), " ")
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", &FieldError{field, "has characters that cannot be shown"}
	case n == 0 && least > 0:
		return "", &FieldError{field, "is missing"}
	case n < least:
		return "", &FieldError{field, fmt.Sprintf("is too short: %d characters at least", least)}
	case n > most:
		return "", &FieldError{field, fmt.Sprintf("is too long by %d characters", n-most)}
	}
	return s, nil
}
