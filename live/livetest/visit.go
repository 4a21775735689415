package livetest

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// visit is an entry of the history of a tab.
type visit struct {
	url  *url.URL
	load int // the document that made it
	view int // the view that was shown then, which is another one after each navigation
}

// entry is an entry for the page as it is, at a URL.
func (p *Page) entry(u *url.URL) visit { return visit{u, p.loads, p.showing} }

// another says that the entries from here on belong to another view.
func (p *Page) another() {
	p.views++
	p.showing = p.views
}

// Visit loads a page over HTTP, as by typing its URL into the address bar, which is a path with a query.
func (p *Page) Visit(rawURL string) {
	p.t.Helper()
	u := p.resolve(rawURL)
	if !isHere(u) {
		p.t.Fatalf("livetest: %s is no URL of the site", rawURL)
	}
	p.redirected = ""
	p.load(http.MethodGet, u, nil)
	p.record(p.url)
	p.settle()
}

// Reload loads the page again over HTTP. What was typed is gone.
func (p *Page) Reload() {
	p.t.Helper()
	p.reload()
	p.settle()
}

func (p *Page) reload() {
	p.t.Helper()
	p.load(http.MethodGet, p.url, nil)
	p.history[p.at] = p.entry(p.url)
}

// Back and Forward go through the history of the tab.
func (p *Page) Back()    { p.t.Helper(); p.travel(-1) }
func (p *Page) Forward() { p.t.Helper(); p.travel(1) }

func (p *Page) travel(by int) {
	p.t.Helper()
	p.begin()
	to := p.at + by
	if to < 0 || to >= len(p.history) {
		p.fail("there is nothing to go to: the page is entry %d of %d of the history", p.at+1, len(p.history))
	}
	v := p.history[to]
	p.at = to
	if v.load == p.loads && p.Connected() {
		p.url = v.url
		kind := "p"
		if v.view != p.showing {
			kind, p.showing = "n", v.view
		}
		p.went(kind, "going through the history")
	} else {
		p.load(http.MethodGet, v.url, nil)
		p.history[to] = p.entry(p.url)
	}
	p.settle()
}

// resolve returns a URL as the page understands it.
func (p *Page) resolve(rawURL string) *url.URL {
	p.t.Helper()
	base := p.url
	if base == nil {
		base = &url.URL{Scheme: "http", Host: strings.TrimPrefix(origin, "http://"), Path: "/"}
	}
	u, err := base.Parse(rawURL)
	if err != nil {
		p.t.Fatalf("livetest: %v", err)
	}
	return u
}

// record puts the URL of the page into the history: as a new entry, or in place of the newest.
func (p *Page) record(u *url.URL) {
	if len(p.history) > 0 {
		p.history = p.history[:p.at+1]
	}
	p.history = append(p.history, p.entry(u))
	p.at = len(p.history) - 1
}

// move changes the URL without loading anything.
func (p *Page) move(u *url.URL, replace bool) {
	if replace || u.String() == p.url.String() {
		p.history[p.at] = p.entry(u)
	} else {
		p.record(u)
	}
	p.url = u
}

// load loads a document in place of the one that is there, and connects it. It leaves the history alone and does not settle.
func (p *Page) load(method string, u *url.URL, form url.Values) {
	p.t.Helper()
	p.drop()
	a := p.browser.fetch(method, u, form)
	if u.Fragment != "" && a.url.Fragment == "" {
		a.url = a.url.ResolveReference(&url.URL{Path: a.url.Path, RawQuery: a.url.RawQuery, Fragment: u.Fragment})
	}
	p.arrive(a.url)
	p.status, p.html = a.status, a.body
	if p.away {
		p.html = ""
		return
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		p.html = "<pre>" + html.EscapeString(a.body) + "</pre>"
		return
	}
	d := parse(p.html)
	if d.live == nil || p.browser.plain {
		return
	}
	if get(d.live, "data-token") == "" {
		p.fail("the element of the view has no token: %s", tag(d.live))
	}
	if find(d.root, isClient) == nil {
		p.fail("the page does not load the client: is {{.Head}} missing in its layout?")
	}
	p.join()
}

func isClient(n *html.Node) bool {
	src := get(n, "src")
	return is(n, atom.Script) && strings.HasPrefix(src, "/_live/") && strings.HasSuffix(src, ".js")
}

// arrive makes the page a new, empty document with a URL.
func (p *Page) arrive(u *url.URL) {
	p.mu.Lock()
	p.told = told{pushed: p.pushed, traffic: p.traffic, frames: p.frames + 1}
	p.mu.Unlock()
	p.loads++
	p.url, p.away, p.html, p.dom = u, !isHere(u), "", nil
	p.status, p.joins = 0, 0
	p.forget()
}

// forget forgets what was typed.
func (p *Page) forget() {
	p.typed, p.touched, p.focus = map[string]typed{}, map[string]bool{}, ""
}
