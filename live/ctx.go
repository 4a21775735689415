package live

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/levada-go/levada/live/internal/render"
	"github.com/levada-go/levada/live/internal/wire"
)

// Ctx is a page as the funcs of its view know it. As a [context.Context] it ends when the page is gone: the
// browser left, or another view took its place; over HTTP, when the page is written. As such it may be
// used anywhere, by any goroutine. Its methods are only for the funcs of the view, but for [Ctx.Post].
type Ctx struct {
	context.Context
	cancel  context.CancelFunc
	site    *Site
	session *session // nil over HTTP
	pattern string
	request *http.Request
	name    string // of the browser's session
	join    *wire.JoinValues

	shown    shown
	said     map[string]string // by Flash in the func that runs; over HTTP by all funcs
	title    string
	position uint64
	move     move
	hook     uint64 // the ref of the event that Reply answers, 0 without
	keeps    bool   // streams keep their items

	holds   []hold
	timers  map[*timer]struct{}
	tasks   map[string]*task
	follows []*follow
	streams []streamer

	rendering *render.View // while a frame is made
}

// Connected reports whether the page is connected. Over HTTP it is not, and only the first rendering counts:
// subscriptions, timers and work in the background are for pages that are connected.
func (c *Ctx) Connected() bool { return c.session != nil }

// Request returns the request of the page, with its present URL and the values of the pattern's wildcards
// ([http.Request.PathValue]), the cookies, and what middleware around the [Site] put into its context. While the
// page is connected, headers and cookies are those that the WebSocket was opened with. It must not be changed.
func (c *Ctx) Request() *http.Request { return c.request }

// URL returns the present URL of the page: path and query. It must not be changed.
func (c *Ctx) URL() *url.URL { return c.shown.url }

// Session returns a random name for this browser, kept in a cookie that scripts cannot read. It is the same for
// all pages of the browser. It is a secret: do not show it to others.
func (c *Ctx) Session() string { return c.name }

// Param returns what the page told about itself when it joined (live.params in the browser), "" without.
func (c *Ctx) Param(name string) string {
	if c.join == nil {
		return ""
	}
	return c.join.Params[name]
}

// Joins returns how often this page was connected before: more than 0 after a reconnect.
func (c *Ctx) Joins() int {
	if c.join == nil {
		return 0
	}
	return c.join.Joins
}

// Title sets the title of the page.
func (c *Ctx) Title(title string) { c.title = title }

// Flash shows a message of a kind until the URL changes; see [Page.Flash]. With a [Ctx.Patch], [Ctx.Navigate] or
// [Ctx.Redirect] of the same func it is shown on the next page.
func (c *Ctx) Flash(kind, text string) {
	c.setFlash(kind, text)
	if c.said == nil {
		c.said = make(map[string]string)
	}
	c.said[kind] = text
}

func (c *Ctx) setFlash(kind, text string) {
	if c.shown.flash == nil {
		c.shown.flash = make(map[string]string)
	}
	c.shown.flash[kind] = text
}

// Patch changes the URL of the page within the same view: Params is called with it, after the current func, or in
// place of the call that follows Mount. The URL is a path with a query on this site, or relative to that of the
// page; any other is logged and ignored. A URL of another view is that of [Ctx.Navigate]. Of several calls in one
// func, to this method or to the next three, the last counts.
func (c *Ctx) Patch(url string) { c.goTo(move{kind: patches}, url) }

// Replace is [Ctx.Patch] that puts the URL in place of the newest entry of the browser's history.
func (c *Ctx) Replace(url string) { c.goTo(move{kind: patches, replace: true}, url) }

// Navigate leaves for another view of the site, over the same connection, after the current func. The URL is one as
// for [Ctx.Patch]; if it is none of a view, it is loaded over HTTP.
func (c *Ctx) Navigate(url string) { c.goTo(move{kind: navigates}, url) }

// Redirect leaves for any URL by loading it over HTTP, after the current func. Its scheme must be http or https if
// it has one; any other is logged and ignored.
func (c *Ctx) Redirect(url string) { c.goTo(move{kind: redirects}, url) }

// Hold keeps back the acknowledgement of the event that is being handled, and rendering, until reached reports
// true; it is asked after every func of the view. So the page never shows less than what the event did, and
// elements that wait for it stay locked. After [Options].HoldTimeout it goes on without. Over HTTP it does nothing.
func (c *Ctx) Hold(reached func() bool) {
	if c.session != nil {
		c.holds = append(c.holds, hold{reached, time.Now().Add(c.site.options.HoldTimeout)})
	}
}

// Position remembers the highest position that the page is known to show. The client repeats it when it
// reconnects, and LastPosition returns it then, so that a page need not go back in time.
func (c *Ctx) Position(p uint64) { c.position = max(c.position, p) }

// LastPosition returns the [Ctx.Position] that the page had when it was connected before, 0 at first. It belongs to
// the page that has joined, and not to those that are navigated to afterwards.
func (c *Ctx) LastPosition() uint64 {
	if c.join == nil {
		return 0
	}
	return c.join.Position
}

// Reply answers the event of a hook that is being handled, once; the value is encoded as JSON at once. For other
// events it does nothing. A value that cannot be encoded is logged, and the answer is null.
func (c *Ctx) Reply(value any) {
	if c.hook == 0 {
		return
	}
	payload, err := json.Marshal(value)
	if err != nil {
		c.site.log.Error("live: a reply is no JSON", slog.String("pattern", c.pattern), slog.Any("error", err))
		payload = []byte("null")
	}
	c.session.replies = append(c.session.replies, wire.Reply{Ref: c.hook, Value: payload})
	c.hook = 0
}

// move is where a func of the view wants to go.
type move struct {
	kind    moveKind
	to      string
	replace bool
}

type moveKind int

const (
	stays moveKind = iota
	patches
	navigates
	redirects
)

func (c *Ctx) goTo(m move, target string) {
	u, err := c.shown.url.Parse(target)
	ok := err == nil && u.Opaque == ""
	if m.kind == redirects {
		ok = ok && (u.Host == "" && u.Scheme == "" || u.Host != "" && (u.Scheme == "" || u.Scheme == "http" || u.Scheme == "https"))
	} else {
		ok = ok && u.Host == "" && u.Scheme == "" && u.User == nil
	}
	if ok && u.Host == "" { // a path, which must not look like a host
		ok = strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, "//")
	}
	if !ok {
		c.site.log.Error("live: the page cannot go to this URL", slog.String("pattern", c.pattern), slog.String("url", target))
		return
	}
	m.to = u.String()
	c.move = m
}

// take returns what the last func wanted and forgets it.
func (c *Ctx) take() (m move, said map[string]string) {
	m, said = c.move, c.said
	c.move, c.said = move{}, nil
	return m, said
}

// setURL makes the request that of the page.
func (c *Ctx) setURL(r *http.Request) {
	c.request = r
	c.shown.url = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
}

// hold is a reason not to render.
type hold struct {
	reached func() bool
	until   time.Time
}

// askHolds asks all holds and drops those that are over.
func (c *Ctx) askHolds(now time.Time) error {
	return c.guard(func() error {
		c.holds = slices.DeleteFunc(c.holds, func(h hold) bool { return !now.Before(h.until) || h.reached() })
		return nil
	})
}
