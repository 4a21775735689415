package livetest

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// origin is where the pages of a site are, as far as they know.
const origin = "http://levada.test"

// Browser is the browser of one person: its pages are tabs that share cookies. A Browser and its pages are for the
// goroutine of the test alone.
type Browser struct {
	t       testing.TB
	site    http.Handler
	jar     http.CookieJar
	header  http.Header
	params  map[string]string
	timeout time.Duration
	bubble  bool
	plain   bool // without JavaScript
	panics  bool // remounts are expected

	tamper func([]byte) []byte // changes the frames of the server, in tests of this package
}

// Option changes how a [Browser] works.
type Option func(*Browser)

// WithCookie gives the browser a cookie, as if it had been here before.
func WithCookie(name, value string) Option {
	return func(b *Browser) {
		u, _ := url.Parse(origin)
		b.jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
	}
}

// WithHeader sends a header with every request, that of the WebSocket included.
func WithHeader(name, value string) Option { return func(b *Browser) { b.header.Add(name, value) } }

// WithParam lets pages tell a param when they join, as live.params does.
func WithParam(name, value string) Option { return func(b *Browser) { b.params[name] = value } }

// WithoutJavaScript leaves pages as they come over HTTP: links are links, forms are posted.
func WithoutJavaScript() Option { return func(b *Browser) { b.plain = true } }

// WithTimeout sets how long to wait for the server. The default is 10 seconds, and 24 hours in a bubble of testing/synctest.
func WithTimeout(d time.Duration) Option { return func(b *Browser) { b.timeout = d } }

// WithPanics takes it for granted that funcs of views panic and their pages are mounted again.
func WithPanics() Option { return func(b *Browser) { b.panics = true } }

// NewBrowser returns a browser that nobody has used yet, for a [live.Site] or a handler that has one behind its middleware.
//
// [live.Site]: https://pkg.go.dev/github.com/levada-go/levada/live#Site
func NewBrowser(t testing.TB, site http.Handler, opts ...Option) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("livetest: %v", err)
	}
	b := &Browser{
		t: t, site: site, jar: jar, header: http.Header{}, params: map[string]string{},
		timeout: 10 * time.Second, bubble: inBubble(),
	}
	if b.bubble {
		b.timeout = 24 * time.Hour
	}
	for _, o := range opts {
		o(b)
	}
	return b
}

// inBubble reports whether the caller runs in a bubble of testing/synctest.
func inBubble() (in bool) {
	defer func() {
		if recover() != nil {
			in = false
		}
	}()
	synctest.Wait() // panics outside
	return true
}

// Cookie returns the value of a cookie, "" when there is none.
func (b *Browser) Cookie(name string) string {
	u, _ := url.Parse(origin)
	for _, c := range b.jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// answer is what came of a request, after redirects.
type answer struct {
	status int
	url    *url.URL
	body   string
	header http.Header
}

// request makes a request to the site as the server sees it.
func (b *Browser) request(ctx context.Context, method string, u *url.URL, form url.Values) *http.Request {
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	asked := *u
	asked.Fragment, asked.RawFragment = "", "" // browsers keep it to themselves
	r := httptest.NewRequestWithContext(ctx, method, asked.String(), body)
	for name, values := range b.header {
		r.Header[name] = append([]string(nil), values...)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if method != http.MethodGet {
		r.Header.Set("Origin", origin)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, c := range b.jar.Cookies(u) {
		r.AddCookie(c)
	}
	return r
}

const maxRedirects = 10

// fetch makes a request and follows redirects, as a browser does. A redirect to another host is not followed: the
// answer is the redirect, at that URL.
func (b *Browser) fetch(method string, u *url.URL, form url.Values) answer {
	b.t.Helper()
	for range maxRedirects {
		w := httptest.NewRecorder()
		b.site.ServeHTTP(w, b.request(context.Background(), method, u, form))
		res := w.Result()
		b.jar.SetCookies(u, res.Cookies())
		a := answer{status: res.StatusCode, url: u, body: w.Body.String(), header: res.Header}
		to, err := res.Location()
		if res.StatusCode < 300 || res.StatusCode > 399 || err != nil {
			return a
		}
		to = u.ResolveReference(to)
		if !isHere(to) {
			a.url = to
			return a
		}
		if res.StatusCode != http.StatusTemporaryRedirect && res.StatusCode != http.StatusPermanentRedirect {
			method, form = http.MethodGet, nil
		}
		u = to
	}
	b.t.Fatalf("livetest: %s redirects more than %d times", u, maxRedirects)
	return answer{}
}

func isHere(u *url.URL) bool { return u.Scheme+"://"+u.Host == origin }
