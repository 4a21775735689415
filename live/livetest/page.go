package livetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Page is a tab of a [Browser] that shows a page of the site. What it does is done when the method returns: the server has
// acknowledged it, and all that it had to say before has been taken in. A method that cannot do what it says fails the test.
//
// A selector is one of CSS; :contains(text) is known, too. Where a method is about one element, exactly one must match.
type Page struct {
	browser *Browser
	t       testing.TB

	status     int
	url        *url.URL
	html       string // as it came over HTTP
	away       bool   // the URL is none of the site
	loads      int    // how many documents there were
	history    []visit
	at         int // in history
	showing    int // which view, since the newest navigation
	views      int // how many there were
	joins      int // of this document
	redirected string

	dom     *document
	seen    int // frames that dom shows
	keys    map[*html.Node]string
	typed   map[string]typed // by key of the field
	touched map[string]bool  // form and name of the fields that the user has touched
	focus   string           // key of the field where the user is

	mu      sync.Mutex
	conn    *conn
	changed chan struct{} // closed and renewed when something comes
	told
}

// Open opens a page of a site for somebody who has not been there before, and waits until it is connected, if it is a live
// one. URL is a path with a query.
func Open(t testing.TB, site http.Handler, url string, opts ...Option) *Page {
	t.Helper()
	return NewBrowser(t, site, opts...).Open(url)
}

// Open opens a page in a new tab. It is closed when the test ends.
func (b *Browser) Open(url string) *Page {
	b.t.Helper()
	p := &Page{browser: b, t: b.t, changed: make(chan struct{})}
	b.t.Cleanup(p.end)
	p.Visit(url)
	return p
}

// end closes the page with the test, and tells what was wrong after the last look at it.
func (p *Page) end() {
	p.drop()
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil {
		p.t.Errorf("livetest: %s: %v", p.url, fault)
	}
}

// fail ends the test with what happened and what the page shows.
func (p *Page) fail(format string, args ...any) {
	p.t.Helper()
	p.mu.Lock()
	p.fault = nil // it is told once
	p.mu.Unlock()
	shown := "nothing"
	if p.dom != nil {
		in := p.dom.root
		if p.dom.live != nil {
			in = p.dom.live
		}
		shown = cut(outerHTML(in))
	}
	p.t.Fatalf("livetest: %s\n%s shows %s", fmt.Sprintf(format, args...), p.url, shown)
}

// HTML returns the HTML of an element.
func (p *Page) HTML(selector string) string { p.t.Helper(); return outerHTML(p.one(selector)) }

// Text returns the text of an element, its white space squeezed to single spaces.
func (p *Page) Text(selector string) string { p.t.Helper(); return text(p.one(selector)) }

// Texts returns the texts of all elements that match, in the order of the page.
func (p *Page) Texts(selector string) []string {
	p.t.Helper()
	var list []string
	for _, n := range p.query(selector) {
		list = append(list, text(n))
	}
	return list
}

// Has reports whether any element matches.
func (p *Page) Has(selector string) bool { p.t.Helper(); return len(p.query(selector)) > 0 }

// Count returns how many elements match.
func (p *Page) Count(selector string) int { p.t.Helper(); return len(p.query(selector)) }

// Attr returns an attribute of an element, "" when it has none.
func (p *Page) Attr(selector, name string) string { p.t.Helper(); return get(p.one(selector), name) }

// Value returns what stands in a field: what was entered, or what the server has rendered. Of a select it is the value of
// the option that is selected, of a checkbox or a radio button its value if it is checked, or "".
func (p *Page) Value(selector string) string {
	p.t.Helper()
	n := p.one(selector)
	if !isField(n) {
		p.fail("%s is no field", tag(n))
	}
	if vs := values(n); len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// Title returns the title of the page.
func (p *Page) Title() string {
	p.t.Helper()
	p.settle()
	if el := find(p.dom.root, func(n *html.Node) bool { return is(n, atom.Title) }); el != nil {
		return text(el)
	}
	return ""
}

// URL returns the URL of the page: path and query, and the host when it is another than that of the site.
func (p *Page) URL() string {
	p.t.Helper()
	p.settle()
	if p.away {
		return p.url.String()
	}
	return p.url.RequestURI()
}

// Status returns the status with which the page came over HTTP.
func (p *Page) Status() int { p.t.Helper(); p.settle(); return p.status }

// Redirected returns the URL that the last action made the page leave for over HTTP, "" when it stayed. The page
// has followed, unless the URL is on another site.
func (p *Page) Redirected() string { p.t.Helper(); p.settle(); return p.redirected }

// Pushed returns the payloads of the events of a name that the server pushed and that were not returned before.
func (p *Page) Pushed(event string) []json.RawMessage {
	p.t.Helper()
	p.settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []json.RawMessage
	p.pushed = slices.DeleteFunc(p.pushed, func(e push) bool {
		if e.event == event {
			list = append(list, e.payload)
		}
		return e.event == event
	})
	return list
}

// WaitForPush waits for an event of a name that the server pushes, and returns the payload of the first that was
// not returned before.
func (p *Page) WaitForPush(event string) json.RawMessage {
	p.t.Helper()
	var payload json.RawMessage
	p.settle()
	p.await("the server to push "+strconv.Quote(event), func() bool {
		i := slices.IndexFunc(p.pushed, func(e push) bool { return e.event == event })
		if i < 0 {
			return false
		}
		payload = p.pushed[i].payload
		p.pushed = slices.Delete(p.pushed, i, i+1)
		return true
	})
	return payload
}

// WaitFor waits until an element matches, for a change that comes from elsewhere.
func (p *Page) WaitFor(selector string) {
	p.t.Helper()
	p.wait("an element that matches "+selector, func() bool { p.t.Helper(); return p.Has(selector) })
}

// WaitUntil waits until cond reports true. It is asked at first and after each frame, and may look at the page.
func (p *Page) WaitUntil(cond func() bool) {
	p.t.Helper()
	p.wait("a condition", cond)
}

func (p *Page) wait(what string, cond func() bool) {
	p.t.Helper()
	timer := time.NewTimer(p.browser.timeout)
	defer timer.Stop()
	for {
		p.settle()
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			p.fail("waited %v in vain for %s", p.browser.timeout, what)
		}
	}
}

// Traffic is what went over the connection of a page.
type Traffic struct {
	SentFrames, SentBytes int // by the page
	Frames, Bytes         int // by the server
}

// Traffic returns what went over the connection since the last call, to hold an update against the size it should have.
func (p *Page) Traffic() Traffic {
	p.t.Helper()
	p.settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.traffic
	p.traffic = Traffic{}
	return t
}

// one returns the only element that matches.
func (p *Page) one(selector string) *html.Node {
	p.t.Helper()
	found := p.query(selector)
	switch len(found) {
	case 1:
		return found[0]
	case 0:
		p.fail("no element matches %s", selector)
	}
	var tags []string
	for _, n := range found[:min(len(found), 5)] {
		tags = append(tags, tag(n))
	}
	p.fail("%d elements match %s: %s", len(found), selector, strings.Join(tags, " "))
	return nil
}

func (p *Page) query(selector string) []*html.Node {
	p.t.Helper()
	p.settle()
	found, err := p.dom.query(selector)
	if err != nil {
		p.fail("%v", err)
	}
	return found
}

// usable is one, for an element that somebody can see and use.
func (p *Page) usable(selector string) *html.Node {
	p.t.Helper()
	n := p.one(selector)
	if why := concealed(n); why != "" {
		p.fail("nobody can use %s: it %s", tag(n), why)
	}
	return n
}
