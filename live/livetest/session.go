package livetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/levada-go/levada/live/internal/wire"
)

// sessionEnded is the code of WebSocket that makes the client load the page again.
const sessionEnded = 4401

// Disconnect breaks the connection, as a network does. The page shows what it has.
func (p *Page) Disconnect() {
	p.t.Helper()
	p.settle()
	p.drop()
}

// Reconnect breaks the connection, if there is one, and joins again as the client does: with the position, with
// how often it has joined, and then with what was typed into forms that have an id and live-change.
func (p *Page) Reconnect() {
	p.t.Helper()
	p.begin()
	if p.dom.live == nil || p.browser.plain {
		p.fail("this page does not connect")
	}
	p.drop()
	p.join()
	p.settle()
}

// Close closes the tab. When it returns, the server has noticed: Leave of the view has been called.
func (p *Page) Close() {
	p.t.Helper()
	p.settle()
	p.drop()
}

// Connected reports whether the page is connected to the server.
func (p *Page) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil && !p.conn.isGone()
}

// join opens a connection and joins, and joins again with a new token if that of the page is stale.
func (p *Page) join() {
	p.t.Helper()
	d := parse(p.html)
	c := newConn(p)
	p.mu.Lock()
	p.told = told{
		pushed: p.pushed, traffic: p.traffic, position: p.position, title: p.title, frames: p.frames + 1,
		replies: map[int]json.RawMessage{}, regions: map[string]*region{},
		view: p.view, // shown until there is another
	}
	p.conn = c
	hello := map[string]any{"t": get(d.live, "data-token"), "u": p.url.String(), "p": p.browser.params, "n": p.joins}
	if p.position != "" {
		hello["v"] = p.position
	}
	p.mu.Unlock()
	p.serve(c, get(d.live, "data-live"))
	for {
		p.send(c, "j", hello)
		p.await("the page to be joined", func() bool { return p.mounted > 0 || p.stale || p.leave != nil || c.isGone() })
		p.mu.Lock()
		mounted, stale, leaving := p.mounted > 0, p.stale, p.leave != nil
		if stale {
			p.stale, p.open = false, nil
		}
		p.mu.Unlock()
		switch {
		case mounted:
			p.joins++
			return
		case leaving:
			return
		case !stale:
			p.fail("the server does not let the page join: %s", c.why())
		}
		a := p.browser.fetch(http.MethodGet, p.url, nil)
		fresh := parse(a.body)
		if a.url.String() != p.url.String() { // to log in, probably
			p.reload()
			return
		}
		if fresh.live == nil || get(fresh.live, "data-token") == hello["t"] {
			p.fail("the token of the page is stale, and loading the page gives no new one")
		}
		hello["t"] = get(fresh.live, "data-token")
	}
}

// serve lets the site have a connection, in a goroutine that is the site's.
func (p *Page) serve(c *conn, path string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(wire.NewContext(context.Background(), c))
	r := p.browser.request(ctx, http.MethodGet, p.resolve(path), nil)
	for name, value := range map[string]string{
		"Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "bGV2YWRhIGxpdmV0ZXN0IQ==",
	} {
		r.Header.Set(name, value)
	}
	go func() {
		defer close(c.done)
		defer cancel()
		w := httptest.NewRecorder()
		p.browser.site.ServeHTTP(w, r)
		c.end(w.Code, strings.TrimSpace(w.Body.String())) // refused, unless it has ended before
	}()
}

// why says why a connection that is gone has ended.
func (c *conn) why() string { return strings.TrimSpace(fmt.Sprintf("%d %s", c.code, c.reason)) }

// drop closes the connection and waits until the server has noticed.
func (p *Page) drop() {
	p.t.Helper()
	p.mu.Lock()
	c := p.conn
	p.conn = nil
	p.mu.Unlock()
	if c == nil {
		return
	}
	c.hangUp()
	timer := time.NewTimer(p.browser.timeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		p.t.Errorf("livetest: %s: %v after the page was closed, the server still serves it", p.url, p.browser.timeout)
	}
}

// send sends a frame to the server and returns its ref.
func (p *Page) send(c *conn, kind string, args ...any) int {
	p.t.Helper()
	p.mu.Lock()
	p.sent++
	ref := p.sent
	p.open = append(p.open, ref)
	p.mu.Unlock()
	frame, err := json.Marshal(append([]any{ref, kind}, args...))
	if err != nil {
		p.fail("%v", err)
	}
	timer := time.NewTimer(p.browser.timeout)
	defer timer.Stop()
	select {
	case c.up <- frame:
		p.mu.Lock()
		p.traffic.SentFrames++
		p.traffic.SentBytes += len(frame)
		p.mu.Unlock()
	case <-c.gone: // who waits for the ref is told
	case <-timer.C:
		p.fail("for %v the server has not read what the page says", p.browser.timeout)
	}
	return ref
}

// await waits until cond, called with mu held, reports true.
func (p *Page) await(what string, cond func() bool) {
	p.t.Helper()
	timer := time.NewTimer(p.browser.timeout)
	defer timer.Stop()
	for {
		p.mu.Lock()
		fault, ok, changed := p.fault, cond(), p.changed
		p.mu.Unlock()
		if fault != nil {
			_ = p.build()
			p.fail("%v", fault)
		}
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			_ = p.build()
			p.fail("waited %v in vain for %s", p.browser.timeout, what)
		}
	}
}

// begin settles the page before the user does something.
func (p *Page) begin() {
	p.t.Helper()
	p.settle()
	p.redirected = ""
}

// say sends a frame of a page that is connected, and returns its ref.
func (p *Page) say(kind string, args ...any) int {
	p.t.Helper()
	p.mu.Lock()
	c := p.conn
	if kind == "e" && p.gone > 0 {
		args = append(args, p.gone)
	}
	p.mu.Unlock()
	switch {
	case p.dom.live == nil:
		p.fail("nothing happens: the page is none of a view")
	case p.browser.plain:
		p.fail("nothing happens: there is no JavaScript")
	case c == nil:
		p.fail("nothing happens: the page is not connected")
	case c.isGone():
		p.fail("nothing happens: the server has closed the connection: %s", c.why())
	}
	return p.send(c, kind, args...)
}

// went tells the server that the user went to the URL of the page by a link or through the history.
func (p *Page) went(kind, what string) {
	p.t.Helper()
	p.mu.Lock()
	p.followed = p.sent + 1
	p.mu.Unlock()
	p.done(what, p.say(kind, p.url.String()))
}

// done waits until refs are acknowledged, or the page leaves.
func (p *Page) done(what string, refs ...int) {
	p.t.Helper()
	if len(refs) == 0 {
		return // nothing was sent, perhaps because there is no connection
	}
	p.mu.Lock()
	c := p.conn
	p.mu.Unlock()
	p.await(what+" to be acknowledged", func() bool {
		return p.leave != nil || c.isGone() || !slices.ContainsFunc(refs, func(ref int) bool { return slices.Contains(p.open, ref) })
	})
	p.mu.Lock()
	lost := p.leave == nil && !p.bye && slices.ContainsFunc(refs, func(ref int) bool { return slices.Contains(p.open, ref) })
	p.mu.Unlock()
	if lost && c.code != sessionEnded {
		p.fail("the server has closed the connection instead of acknowledging %s: %s", what, c.why())
	}
}

// maxTurns is how often a page may go elsewhere by itself before that is taken for a loop.
const maxTurns = 20

// settle takes in what the server has told, goes where it sends the page, and looks at what the page is then.
func (p *Page) settle() {
	p.t.Helper()
	for range maxTurns {
		if p.turn() {
			return
		}
	}
	p.fail("the page goes elsewhere again and again, at last to %s", p.url)
}

// turn does a part of settle. It reports whether that was all.
func (p *Page) turn() bool {
	p.t.Helper()
	if p.browser.bubble {
		synctest.Wait()
	}
	p.mu.Lock()
	fault, leave, urls, anew, renewed := p.fault, p.leave, p.urls, p.anew, p.renewed
	p.leave, p.urls, p.anew, p.renewed = nil, nil, false, false
	ended := p.conn != nil && p.conn.isGone() && p.conn.code == sessionEnded
	p.mu.Unlock()

	for _, u := range urls {
		if u.other {
			p.another()
		}
		p.move(p.resolve(u.url), u.replace)
	}
	switch {
	case fault != nil:
		_ = p.build()
		p.fail("%v", fault)
	case leave != nil:
		p.leaveFor(*leave)
		return false
	case ended:
		p.reload()
		return false
	}
	var unsaved []recovery
	if anew {
		p.forget()
	} else if renewed && p.dom != nil {
		unsaved = p.unsaved()
	}
	if err := p.build(); err != nil {
		p.fail("%v", err)
	}
	if p.dom.live == nil || !p.Connected() {
		return true
	}
	if form := find(p.dom.live, func(n *html.Node) bool { return is(n, atom.Form) && has(n, "live-trigger-action") }); form != nil {
		p.post(form, nil)
		return false
	}
	return !p.recover(unsaved)
}

// leaveFor loads a URL that the server names.
func (p *Page) leaveFor(rawURL string) {
	p.t.Helper()
	u := p.resolve(rawURL)
	p.redirected = rawURL
	if isHere(u) {
		p.load(http.MethodGet, u, nil)
	} else {
		p.drop()
		p.arrive(u)
	}
	p.record(p.url)
}

// recovery is a form with what was typed into it, for a view that knows nothing of it.
type recovery struct {
	id, change string // of the form
	event      string // to be sent
	values     string
}

// unsaved returns the forms to be recovered.
func (p *Page) unsaved() []recovery {
	var list []recovery
	all(p.dom.root, func(n *html.Node) bool {
		if !is(n, atom.Form) || !has(n, "id") || !has(n, "live-change") || get(n, "live-auto-recover") == "ignore" {
			return true
		}
		used := slices.ContainsFunc(controls(p.dom.root, n), func(f *html.Node) bool { return p.touched[touch(n, get(f, "name"))] })
		if used {
			r := recovery{id: get(n, "id"), change: get(n, "live-change"), values: p.changes(n, "")}
			if r.event = get(n, "live-auto-recover"); r.event == "" {
				r.event = r.change
			}
			list = append(list, r)
		}
		return true
	})
	return list
}

// recover sends the forms that are still there. It reports whether there were any.
func (p *Page) recover(list []recovery) bool {
	p.t.Helper()
	var refs []int
	for _, r := range list {
		if find(p.dom.root, func(n *html.Node) bool { return get(n, "id") == r.id && get(n, "live-change") == r.change }) != nil {
			refs = append(refs, p.say("e", r.event, "change", r.values))
		}
	}
	if len(refs) > 0 {
		p.done("the recovery of a form", refs...)
	}
	return len(refs) > 0
}

// build makes the document of what the server has told, with what the user has entered over it.
func (p *Page) build() error {
	p.mu.Lock()
	frames, title := p.frames, p.title
	if p.dom != nil && p.seen == frames {
		p.mu.Unlock()
		return nil
	}
	var view *string
	if p.view != nil {
		s := p.view.HTML()
		view = &s
	}
	regions := map[string]string{}
	for name, r := range p.regions {
		regions[name] = r.client.HTML()
	}
	p.mu.Unlock()

	d := parse(p.html)
	if d.live != nil && view != nil {
		show(d.live, *view)
		all(d.live, func(n *html.Node) bool {
			if content, ok := regions[get(n, "live-region")]; ok {
				show(n, content)
			}
			return true
		})
	}
	if el := find(d.root, func(n *html.Node) bool { return is(n, atom.Title) }); el != nil && title != nil {
		show(el, html.EscapeString(*title))
	}
	p.dom, p.seen, p.keys = d, frames, keysOf(d.root)
	fields := map[string]*html.Node{}
	for n, key := range p.keys {
		if kind(n) == "select" {
			choose(n)
		}
		fields[key] = n
	}
	for key, was := range p.typed {
		n := fields[key]
		// What was typed stays until the server renders something else than before; where the user is, always.
		if n == nil || state(n) != was.rendered && key != p.focus {
			delete(p.typed, key)
			continue
		}
		restore(n, was.shown)
	}
	return d.check()
}
