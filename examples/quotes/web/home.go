package web

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"strconv"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/sync"
)

// home is the page that shows: the favourite, or the quote that the URL names, and the collection.
type home struct {
	live.Page
	People people

	Favourite string // the id of the quote that is chosen
	ID        string // of the quote that is shown
	Quote     shelf.Quote
	Remarks   []shelf.Remark
	List      *live.Stream[shelf.Row]
	Full      bool // there were more than are shown when the page came

	Past  *shelf.Moment // what the scrubber shows, nil for now
	Said  string        // for those who listen to the page
	Draft struct{ Author, Content string }

	site   *Site
	wanted string // the quote in the URL
	talk   []string
	bound  bool
	states []*sync.Binding
}

func (site *Site) home() *live.View[home] {
	v := &live.View[home]{
		Template: load("home.html"),
		Mount: func(ctx *live.Ctx, s *home) error {
			s.site = site
			s.List = live.NewStream(ctx, rowID)
			s.List.Limit(maxRows)
			return s.People.join(ctx, site.presence)
		},
		Params: params,
		Leave:  func(s *home) { s.People.leave() },
	}
	live.On(v, "like", like)
	live.On(v, "another", another)
	live.On(v, "favour", favour)
	live.On(v, "say", say)
	live.On(v, "check", check)
	live.On(v, "add", add)
	live.On(v, "remove", remove)
	live.On(v, "scrub", scrub)
	return v
}

// maxRows is how many quotes of the collection a page shows, the newest.
const maxRows = 100

func rowID(r shelf.Row) string { return "row-" + r.ID }

// follow binds all that the page shows. From here on it is current.
func (s *home) follow(ctx *live.Ctx) {
	shelf := s.site.shelf
	s.Full = shelf.Count() > maxRows
	s.states = []*sync.Binding{
		sync.One(ctx, &s.Favourite, shelf.Favourite, place).OnChange(func() { s.show(ctx) }),
		sync.Stream(ctx, s.List, shelf.Rows, rowID),
	}
}

const place = shelf.Place

// show binds the quote that the URL names, or else the favourite, and what people say about it.
func (s *home) show(ctx *live.Ctx) {
	id := s.wanted
	if id == "" {
		id = s.Favourite
	}
	if id == s.ID || id == "" {
		return
	}
	s.ID = id
	s.People.see(id)
	shelf := s.site.shelf
	sync.One(ctx, &s.Quote, shelf.Quotes, id).OnChange(func() { s.changed(ctx) })
	sync.One(ctx, &s.talk, shelf.Talk, id).OnChange(func() {
		sync.Many(ctx, &s.Remarks, shelf.Remarks, s.talk)
	})
}

// Stale reports whether something could not be read.
func (s *home) Stale() bool {
	for _, b := range s.states {
		if b.Err() != nil {
			return true
		}
	}
	return false
}

// fresh is how old an event may be for the time to the screen to be of interest.
const fresh = 10 * time.Second

// changed is called when the quote has changed.
func (s *home) changed(ctx *live.Ctx) {
	title := "A quote"
	if s.Quote.ID != "" {
		title = "“" + shorten(s.Quote.Content, 60) + "”"
	}
	ctx.Title(title)
	if age := time.Since(s.Quote.AsOf); s.bound && age < fresh {
		s.Said = strconv.Itoa(s.Quote.Likes) + " likes now"
		// The page tells how long it took to get to the screen.
		ctx.Push("changed", s.Quote.AsOf.UnixMicro(), live.Latest("changed"))
	}
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// params is called with each URL: /?id=QUOTE&v=VERSION.
func params(ctx *live.Ctx, s *home) error {
	q := ctx.URL().Query()
	s.wanted = q.Get("id")
	if s.bound {
		s.show(ctx)
	} else {
		s.follow(ctx)
		s.bound = true
	}
	s.Past = nil
	v, err := strconv.ParseUint(q.Get("v"), 10, 64)
	if err != nil || v == 0 || s.ID == "" || v == s.Quote.Version {
		return nil
	}
	m, ok, err := s.site.shelf.At(ctx, s.ID, v)
	if err != nil {
		return err
	}
	if ok {
		s.Past = &m
	}
	return nil
}

// Shown is the quote as the scrubber wants it.
func (s *home) Shown() shelf.Quote {
	if s.Past != nil {
		return s.Past.Quote
	}
	return s.Quote
}

// at is the URL of the page with the quote at a version, 0 for now.
func (s *home) at(version uint64) string {
	q := url.Values{}
	if s.wanted != "" || version > 0 {
		q.Set("id", s.ID)
	}
	if version > 0 {
		q.Set("v", strconv.FormatUint(version, 10))
	}
	if len(q) == 0 {
		return "/"
	}
	return "/?" + q.Encode()
}

// A liking comes from a form, or from the outbox of the page, which tries until it is answered.
type liking struct{ ID, Key string }

// An answer is for the outbox.
type answer struct {
	OK      bool   `json:"ok"`
	Refused string `json:"refused,omitempty"`
}

// like likes a quote.
func like(ctx *live.Ctx, s *home, in liking) error {
	var once []command.Option
	if in.Key != "" {
		once = append(once, command.Once(s.People.Me+" "+in.Key)) // however often it arrives, it counts once
	}
	_, err := sync.Dispatch(ctx, s.site.shelf, quote.Like{ID: in.ID}, once...)
	if text := explain(err); err != nil && text != "" {
		ctx.Reply(answer{Refused: text})
		return err
	}
	if err == nil {
		ctx.Reply(answer{OK: true})
	}
	return err
}

// another chooses a quote that is not the favourite.
func another(ctx *live.Ctx, s *home, _ struct{}) error {
	rows, err := s.site.shelf.Rows.All(ctx)
	if err != nil {
		return err
	}
	var others []string
	for _, row := range rows {
		if row.ID != s.Favourite {
			others = append(others, row.ID)
		}
	}
	if len(others) == 0 {
		return quote.ErrNoQuote
	}
	return favour(ctx, s, one{others[rand.IntN(len(others))]})
}

// one names a quote.
type one struct{ ID string }

// favour makes a quote the favourite, and shows it.
func favour(ctx *live.Ctx, s *home, in one) error {
	if _, err := sync.Dispatch(ctx, s.site.shelf, quote.Choose{Place: place, Quote: in.ID}); err != nil {
		return err
	}
	s.Said = "There is another favourite"
	if s.wanted != "" || s.Past != nil {
		ctx.Patch("/")
	}
	return nil
}

// say makes a remark on the quote that is shown.
func say(ctx *live.Ctx, s *home, in struct{ Text string }) error {
	id := eventstore.NewID().String()
	_, err := sync.Dispatch(ctx, s.site.shelf, quote.Say{ID: id, Quote: s.ID, By: s.People.Me, Text: in.Text}, command.Wait("shelf"))
	if f, ok := errors.AsType[*quote.FieldError](err); ok {
		return live.Errors{f.Field: "Your remark " + f.Text}
	}
	if err == nil {
		s.Said = "Your remark is there"
		ctx.Push("reset", "say")
	}
	return err
}

// check says what is wrong with a new quote while it is being written.
func check(_ *live.Ctx, s *home, in struct{ Author, Content string }) error {
	s.Draft = in
	return faults(quote.Check(in.Author, in.Content))
}

func faults(m map[string]string) error {
	if len(m) == 0 {
		return nil
	}
	e := live.Errors{}
	for field, text := range m {
		e[field] = text
	}
	return e
}

// add puts a quote into the collection.
func add(ctx *live.Ctx, s *home, in struct{ Author, Content string }) error {
	s.Draft = in
	if err := faults(quote.Check(in.Author, in.Content)); err != nil {
		return err
	}
	id := eventstore.NewID().String()
	if _, err := sync.Dispatch(ctx, s.site.shelf, quote.Add{ID: id, Author: in.Author, Content: in.Content}); err != nil {
		return err
	}
	s.Draft.Author, s.Draft.Content = "", ""
	s.Said = "The quote is in the collection"
	ctx.Push("reset", "add")
	return nil
}

// remove takes a quote away.
func remove(ctx *live.Ctx, s *home, in one) error {
	_, err := sync.Dispatch(ctx, s.site.shelf, quote.Remove{ID: in.ID})
	if err == nil {
		s.Said = "The quote is gone"
	}
	return err
}

// scrub goes through the versions of the quote.
func scrub(ctx *live.Ctx, s *home, in struct{ V uint64 }) error {
	if in.V >= s.Quote.Version {
		in.V = 0
	}
	ctx.Replace(s.at(in.V))
	return nil
}
