package web

import (
	"errors"
	"strconv"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/sync"
)

// admin is the page that corrects: a form for each quote.
type admin struct {
	live.Page
	People people
	Rows   []shelf.Row
	Said   string
	Number int // of the page, from 1, the newest quotes first

	site   *Site
	list   *sync.Binding
	drafts map[string]*draft
}

// A draft is what the user has put into a form and not saved.
type draft struct {
	wording
	version uint64 // that it was begun on
	was     wording
}

type wording struct{ Author, Content string }

// A form is one quote as the template shows it.
type form struct {
	shelf.Row
	Mine  wording // what the fields hold
	Base  uint64  // the version that these were begun on
	Dirty bool
	Clash bool    // somebody else has changed the words meanwhile
	Wrong wording // what is wrong with the fields
}

func (site *Site) admin() *live.View[admin] {
	v := &live.View[admin]{
		Template: load("admin.html"),
		Mount: func(ctx *live.Ctx, s *admin) error {
			s.site, s.drafts, s.Number = site, map[string]*draft{}, 1
			ctx.Title("Correct the quotes")
			s.list = sync.All(ctx, &s.Rows, site.shelf.Rows)
			return s.People.join(ctx, site.presence)
		},
		Params: func(ctx *live.Ctx, s *admin) error {
			n, err := strconv.Atoi(ctx.URL().Query().Get("page"))
			if err != nil || n < 1 || n > 1_000_000 {
				n = 1
			}
			s.Number = n
			return nil
		},
		Leave: func(s *admin) { s.People.leave() },
	}
	live.On(v, "draft", begin)
	live.On(v, "save", save)
	live.On(v, "theirs", theirs)
	live.On(v, "mine", mine)
	live.On(v, "remove", removeForm)
	return v
}

// Stale reports whether the list could not be read.
func (s *admin) Stale() bool { return s.list.Err() != nil }

// pageSize is how many forms there are on a page.
const pageSize = 30

// Pages returns how many pages there are.
func (s *admin) Pages() int { return max(1, (len(s.Rows)+pageSize-1)/pageSize) }

// Newer and Older return the numbers of the pages beside this one, 0 for none.
func (s *admin) Newer() int { return min(s.Number, s.Pages()+1) - 1 }
func (s *admin) Older() int {
	if s.Number < s.Pages() {
		return s.Number + 1
	}
	return 0
}

// Forms returns the forms of the page in the order of the list.
func (s *admin) Forms() []form {
	from := min((s.Number-1)*pageSize, len(s.Rows))
	rows := s.Rows[from:min(from+pageSize, len(s.Rows))]
	forms := make([]form, 0, len(rows))
	for _, row := range rows {
		f := form{Row: row, Mine: wording{row.Author, row.Content}, Base: row.Version}
		if d := s.drafts[row.ID]; d != nil {
			wrong := quote.Check(d.Author, d.Content)
			f.Mine, f.Base, f.Dirty = d.wording, d.version, d.wording != wording{row.Author, row.Content}
			f.Clash = f.Dirty && d.was != wording{row.Author, row.Content}
			f.Wrong = wording{wrong["author"], wrong["content"]}
		}
		forms = append(forms, f)
	}
	return forms
}

// An edit is what a form sends.
type edit struct {
	ID, Author, Content string
	Version             uint64
}

// begun returns the draft of an edit.
func (s *admin) begun(ctx *live.Ctx, in edit) (*draft, error) {
	d := s.drafts[in.ID]
	if d == nil {
		was, ok, err := s.site.shelf.At(ctx, in.ID, in.Version)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, quote.ErrGone
		}
		d = &draft{version: in.Version, was: wording{was.Author, was.Content}}
		s.drafts[in.ID] = d
	}
	d.wording = wording{in.Author, in.Content}
	return d, nil
}

// begin keeps what the user types, so that what others do cannot overwrite it.
func begin(ctx *live.Ctx, s *admin, in edit) error {
	s.Said = ""
	_, err := s.begun(ctx, in)
	return err
}

// save saves an edit, unless somebody else has changed the words since it was begun. Likes do not matter.
func save(ctx *live.Ctx, s *admin, in edit) error {
	d, err := s.begun(ctx, in)
	if err != nil {
		return err
	}
	for {
		_, err := sync.Dispatch(ctx, s.site.shelf, quote.Reword{ID: in.ID, Author: in.Author, Content: in.Content}, command.At(eventstore.Exactly(eventstore.Version(d.version))))
		if !errors.Is(err, eventstore.ErrConflict) {
			return s.done(in.ID, err)
		}
		now, ok, err := s.site.shelf.Quotes.Get(ctx, in.ID)
		switch {
		case err != nil:
			return err
		case !ok:
			return quote.ErrGone
		case wording{now.Author, now.Content} != d.was:
			return live.Errors{"": "Somebody else has changed this quote. Whose words shall stand?"}
		}
		d.version = now.Version
	}
}

func (s *admin) done(id string, err error) error {
	if f, ok := errors.AsType[*quote.FieldError](err); ok {
		return live.Errors{f.Field: f.Text}
	}
	if err == nil {
		delete(s.drafts, id)
		s.Said = "Saved"
	}
	return err
}

// theirs gives up an edit.
func theirs(_ *live.Ctx, s *admin, in one) error {
	delete(s.drafts, in.ID)
	s.Said = "The words of the other stand"
	return nil
}

// mine saves an edit on top of what others did.
func mine(ctx *live.Ctx, s *admin, in edit) error {
	_, err := sync.Dispatch(ctx, s.site.shelf, quote.Reword{ID: in.ID, Author: in.Author, Content: in.Content})
	return s.done(in.ID, err)
}

// removeForm removes the quote of a form.
func removeForm(ctx *live.Ctx, s *admin, in one) error {
	_, err := sync.Dispatch(ctx, s.site.shelf, quote.Remove{ID: in.ID})
	return s.done(in.ID, err)
}
