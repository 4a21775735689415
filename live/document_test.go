package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// desk is a page with a form.
type desk struct {
	Page
	Room string
	Said []string
}

type say struct {
	Text  string
	Times int
}

func (s say) Validate() error {
	if s.Text == "" {
		return Errors{"text": "is missing"}
	}
	return nil
}

var (
	errRefused = errors.New("the domain refuses")
	errSecret  = errors.New("password of the database")
)

// deskView returns a view that keeps what was said in said.
func deskView(said *sync.Map) *View[desk] {
	v := &View[desk]{
		Template: template.Must(template.New("desk").Parse(`<h1>{{.Room}}</h1>` +
			`{{with .Flash "info"}}<p id="info">{{.}}</p>{{end}}{{with .Flash "error"}}<p id="error">{{.}}</p>{{end}}` +
			`{{range .Said}}<li>{{.}}</li>{{end}}` +
			`<form method="post"><input name="text" value="{{.Value "text"}}"><i>{{.Error "text"}}</i>` +
			`<input name="times" value="{{.Value "times"}}"><b>{{.Error "times"}}</b>` +
			`<button name="_event" value="say">Say</button></form>`)),
		Mount: func(ctx *Ctx, s *desk) error {
			s.Room = ctx.Request().PathValue("room")
			switch s.Room {
			case "none":
				return &Error{Status: 404, Text: "There is no such room."}
			case "odd":
				return &Error{Status: 200, Text: "This is no error."}
			case "broken":
				return errSecret
			case "panic":
				panic("the password is 1234")
			case "moved":
				ctx.Flash("info", "The room has moved")
				ctx.Navigate("/rooms/new?from=old")
			case "away":
				ctx.Redirect("https://other.test/é")
			}
			ctx.Title("Room " + s.Room)
			if list, ok := said.Load(s.Room); ok {
				s.Said = list.([]string)
			}
			return nil
		},
		Params: func(ctx *Ctx, s *desk) error {
			if ctx.URL().Query().Has("broken") {
				return errSecret
			}
			return nil
		},
	}
	On(v, "say", func(ctx *Ctx, s *desk, in say) error {
		for range max(in.Times, 1) {
			s.Said = append(s.Said, in.Text)
		}
		said.Store(s.Room, s.Said)
		ctx.Flash("info", "Said: "+in.Text)
		return nil
	})
	On(v, "fail", func(ctx *Ctx, _ *desk, in struct{ How string }) error {
		switch in.How {
		case "refused":
			return errRefused
		case "secret":
			return errSecret
		case "forbidden":
			return &Error{Status: 403, Text: "You may not."}
		case "panic":
			panic(errRefused)
		}
		return Errors{"": "It is too late."}
	})
	On(v, "go", func(ctx *Ctx, _ *desk, in struct{ To string }) error {
		ctx.Flash("info", "Gone")
		ctx.Redirect(in.To)
		return nil
	})
	On(v, "list", func(_ *Ctx, _ *desk, n int) error { return nil })
	return v
}

// browser is a browser without JavaScript.
type browser struct {
	t      *testing.T
	client *http.Client
	base   string
}

func newBrowser(t *testing.T, h http.Handler) *browser {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := server.Client()
	client.Jar = jar
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{t, client, server.URL}
}

func (b *browser) do(method, path, body string, header ...string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, b.base+path, strings.NewReader(body))
	require.NoError(b.t, err)
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := b.client.Do(r)
	require.NoError(b.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	return answer, string(text)
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	return b.do("GET", path, "")
}

func (b *browser) post(path, form string) (*http.Response, string) {
	b.t.Helper()
	return b.do("POST", path, form)
}

func deskBrowser(t *testing.T, o Options) (*browser, *bytes.Buffer) {
	log := new(bytes.Buffer)
	o.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: log}, nil))
	site := newTestSite(t, o)
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	return newBrowser(t, site), log
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestTheFirstRenderingIsAWholePage(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, page := b.get("/rooms/a%3Cb")
	require.Equal(t, 200, answer.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
	require.Equal(t, "strict-origin-when-cross-origin", answer.Header.Get("Referrer-Policy"))
	require.True(t, strings.HasPrefix(page, "<!doctype html>\n<html lang=\"en\">"), page)
	require.Contains(t, page, `<meta charset="utf-8">`)
	require.Contains(t, page, `<meta name="viewport" content="width=device-width, initial-scale=1">`)
	require.Contains(t, page, "<title>Room a&lt;b</title>")
	require.Regexp(t, `<script defer src="/_live/[0-9a-f]{16}/client\.js"></script>`, page)
	require.Regexp(t, `<div id="live" data-live="/_live/socket" data-token="[\w-]+"><h1>a&lt;b</h1>`, page)

	head, body := b.do("HEAD", "/rooms/a", "")
	require.Equal(t, 200, head.StatusCode)
	require.Empty(t, body)
}

func TestThePageHasATokenForItsSession(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest("GET", "/rooms/a", nil))
	_, token, _ := strings.Cut(w.Body.String(), `data-token="`)
	token, _, _ = strings.Cut(token, `"`)
	session := w.Result().Cookies()[0].Value
	got, flash, err := site.verify(token, withSession(session, false))
	require.NoError(t, err)
	require.Equal(t, session, got)
	require.Nil(t, flash)
}

func TestErrorsOfMountAreStatusPages(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		path, text string
		status     int
		logged     string
	}{
		{"/rooms/none", "There is no such room.\n", 404, ""},
		{"/rooms/odd", "This is no error.\n", 500, ""},
		{"/rooms/broken", "Something went wrong.\n", 500, errSecret.Error()},
		{"/rooms/a?broken", "Something went wrong.\n", 500, errSecret.Error()},
		{"/rooms/panic", "Something went wrong.\n", 500, "the password is 1234"},
		{"/nowhere", "404 page not found\n", 404, ""},
	} {
		t.Run(row.path, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{"GET", "POST"} {
				b, log := deskBrowser(t, Options{})
				answer, text := b.do(method, row.path, "_event=say&text=x")
				require.Equal(t, row.status, answer.StatusCode, method)
				require.Equal(t, row.text, text, method)
				require.Equal(t, "text/plain; charset=utf-8", answer.Header.Get("Content-Type"))
				if row.logged == "" {
					require.Empty(t, log.String())
				} else {
					require.Contains(t, log.String(), row.logged)
					require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), "once: %s", log)
				}
			}
		})
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS"} {
		answer, _ := b.do(method, "/rooms/a", "")
		require.Equal(t, 405, answer.StatusCode, method)
		require.Equal(t, "GET, HEAD, POST", answer.Header.Get("Allow"))
	}
}

func TestAPathIsCleanedByRedirect(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, _ := b.get("/rooms/../rooms/a?b=c")
	require.Equal(t, "/rooms/a?b=c", answer.Header.Get("Location"))
}

func TestMountMayLeadElsewhere(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, _ := b.get("/rooms/moved")
	require.Equal(t, 303, answer.StatusCode)
	require.Equal(t, "/rooms/new?from=old", answer.Header.Get("Location"))
	_, page := b.get("/rooms/new?from=old")
	require.Contains(t, page, `<p id="info">The room has moved</p>`)
	_, page = b.get("/rooms/new")
	require.NotContains(t, page, "moved", "it is shown once")

	answer, _ = b.get("/rooms/away")
	require.Equal(t, 303, answer.StatusCode)
	require.Equal(t, "https://other.test/%C3%A9", answer.Header.Get("Location"))
}

func TestAFlashSurvivesARedirectOnItsWay(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	b.post("/rooms/a", "_event=go&to=/rooms/away") // says Gone, for a page that leads on
	b.get("/rooms/away")
	_, page := b.get("/rooms/a")
	require.Contains(t, page, `<p id="info">Gone</p>`)
}

func TestHeadLeavesAFlashForGet(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	b.post("/rooms/a", "_event=say&text=x")
	b.do("HEAD", "/rooms/a", "")
	_, page := b.get("/rooms/a")
	require.Contains(t, page, `<p id="info">Said: x</p>`)
}

func TestTheTokenCarriesTheFlashToTheConnectedPage(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	r := withSession(alice, false)
	r.URL.Path = "/rooms/a"
	w := httptest.NewRecorder()
	site.setFlash(w, r, alice, map[string]string{"info": "Saved"})
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	site.ServeHTTP(w, r)
	_, token, _ := strings.Cut(w.Body.String(), `data-token="`)
	token, _, _ = strings.Cut(token, `"`)
	_, flash, err := site.verify(token, r)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"info": "Saved"}, flash)
}

func TestAFormWithoutJavaScriptDoesWhatItsEventDoes(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, _ := b.post("/rooms/a?q=1", "_event=say&text=Hi+%26+bye&times=2")
	require.Equal(t, 303, answer.StatusCode)
	require.Equal(t, "/rooms/a?q=1", answer.Header.Get("Location"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	_, page := b.get("/rooms/a?q=1")
	require.Contains(t, page, "<li>Hi &amp; bye</li><li>Hi &amp; bye</li>")
	require.Contains(t, page, `<p id="info">Said: Hi &amp; bye</p>`)
	_, page = b.get("/rooms/a")
	require.NotContains(t, page, `id="info"`, "a reload shows it no more")
}

func TestAFormInPartsIsReadToo(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	require.NoError(t, parts.WriteField("_event", "say"))
	require.NoError(t, parts.WriteField("text", "Hello"))
	file, err := parts.CreateFormFile("file", "a.txt")
	require.NoError(t, err)
	io.WriteString(file, "left alone")
	require.NoError(t, parts.Close())
	answer, _ := b.do("POST", "/rooms/a", body.String(), "Content-Type", parts.FormDataContentType())
	require.Equal(t, 303, answer.StatusCode)
	_, page := b.get("/rooms/a")
	require.Contains(t, page, "<li>Hello</li>")
}

func TestAFormWithErrorsIsShownAgain(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, page := b.post("/rooms/a", "_event=say&text=A%22B&times=many")
	require.Equal(t, 422, answer.StatusCode)
	require.Contains(t, page, `<input name="text" value="A&#34;B"><i></i>`)
	require.Contains(t, page, `<input name="times" value="many"><b>must be a whole number</b>`)
	require.Contains(t, page, "<!doctype html>")

	answer, page = b.post("/rooms/a", "_event=say&text=")
	require.Equal(t, 422, answer.StatusCode)
	require.Contains(t, page, "<i>is missing</i>")
	_, page = b.get("/rooms/a")
	require.NotContains(t, page, "<li>", "nothing was said")
}

func TestOtherErrorsOfEventsAreExplainedOrLogged(t *testing.T) {
	t.Parallel()
	explain := func(err error) string {
		if errors.Is(err, errRefused) {
			return "Not today."
		}
		return ""
	}
	for _, row := range []struct {
		how    string
		status int
		text   string
		logged bool
	}{
		{"refused", 422, "Not today.", false},
		{"secret", 500, "Something went wrong.", true},
		{"forbidden", 403, "You may not.", false},
		{"panic", 500, "Something went wrong.", true},
	} {
		t.Run(row.how, func(t *testing.T) {
			t.Parallel()
			b, log := deskBrowser(t, Options{Explain: explain})
			answer, page := b.post("/rooms/a", "_event=fail&how="+row.how)
			require.Equal(t, row.status, answer.StatusCode)
			require.Contains(t, page, `<p id="error">`+row.text+`</p>`)
			require.NotContains(t, page, "password")
			if row.logged {
				require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log)
			} else {
				require.Empty(t, log.String())
			}
		})
	}
}

func TestAPageWithoutAPlaceForErrorsAnswersInText(t *testing.T) {
	t.Parallel()
	type bare struct{}
	v := &View[bare]{Template: template.Must(template.New("bare").Parse("<p>bare</p>"))}
	On(v, "fields", func(*Ctx, *bare, struct{}) error { return Errors{"": "It is too late.", "text": "is missing"} })
	On(v, "secret", func(*Ctx, *bare, struct{}) error { return errSecret })
	site := newTestSite(t, Options{})
	Handle(site, "/", v)
	b := newBrowser(t, site)
	answer, text := b.post("/", "_event=fields")
	require.Equal(t, 422, answer.StatusCode)
	require.Equal(t, "It is too late.; text is missing\n", text)
	answer, text = b.post("/", "_event=secret")
	require.Equal(t, 500, answer.StatusCode)
	require.Equal(t, "Something went wrong.\n", text)
}

func TestFormsAreRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		body   string
		header []string
		status int
	}{
		{"from another site", "_event=say&text=x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"from a sibling of the site", "_event=say&text=x", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"from another origin by an old browser", "_event=say&text=x", []string{"Sec-Fetch-Site", "", "Origin", "https://evil.test"}, 403},
		{"from a sandbox", "_event=say&text=x", []string{"Sec-Fetch-Site", "", "Origin", "null"}, 403},
		{"too large", "_event=say&text=" + strings.Repeat("x", minFrame), nil, 413},
		{"too large in parts", "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n" + strings.Repeat("x", minFrame), []string{"Content-Type", "multipart/form-data; boundary=b"}, 413},
		{"broken parts", "--b\r\n", []string{"Content-Type", "multipart/form-data; boundary=b"}, 400},
		{"without a boundary", "--b\r\n", []string{"Content-Type", "multipart/form-data"}, 400},
		{"broken escapes", "_event=say&text=%zz", nil, 400},
		{"as text", "_event=say", []string{"Content-Type", "text/plain"}, 415},
		{"as JSON", "{}", []string{"Content-Type", "application/json"}, 415},
		{"of no type", "_event=say", []string{"Content-Type", "/"}, 415},
		{"without an event", "text=x", nil, 400},
		{"with an unknown event", "_event=sing", nil, 400},
		{"with the name of an event in the URL only", "text=x", nil, 400},
		{"with an event for hooks", "_event=list", nil, 400},
		{"with too many values", "_event=say" + strings.Repeat("&a", 1001), nil, 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b, log := deskBrowser(t, Options{MaxFrame: minFrame, Origins: []string{"https://trusted.test"}})
			answer, text := b.do("POST", "/rooms/a?_event=say", row.body, row.header...)
			require.Equal(t, row.status, answer.StatusCode, text)
			require.Equal(t, "text/plain; charset=utf-8", answer.Header.Get("Content-Type"))
			require.Empty(t, log.String())
			_, page := b.get("/rooms/a")
			require.NotContains(t, page, "<li>")
		})
	}
	for name, header := range map[string][]string{
		"from this site":        {"Sec-Fetch-Site", "same-origin"},
		"from no browser":       {"Sec-Fetch-Site", ""},
		"from a trusted origin": {"Sec-Fetch-Site", "cross-site", "Origin", "https://trusted.test"},
	} {
		t.Run("but not "+name, func(t *testing.T) {
			t.Parallel()
			b, _ := deskBrowser(t, Options{Origins: []string{"https://trusted.test"}})
			answer, _ := b.do("POST", "/rooms/a", "_event=say&text=x", header...)
			require.Equal(t, 303, answer.StatusCode)
		})
	}
}

func TestAFormMayLeadToAnotherPage(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	answer, _ := b.post("/rooms/a", "_event=go&to="+url.QueryEscape("/rooms/b?x=1"))
	require.Equal(t, 303, answer.StatusCode)
	require.Equal(t, "/rooms/b?x=1", answer.Header.Get("Location"))
	_, page := b.get("/rooms/b?x=1")
	require.Contains(t, page, `<p id="info">Gone</p>`)
}

func TestOtherBrowsersDoNotSeeAFlash(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	other := &browser{t, &http.Client{}, b.base}
	b.post("/rooms/a", "_event=say&text=x")
	_, page := other.get("/rooms/a")
	require.NotContains(t, page, `id="info"`)
}

func TestALayoutIsAroundAView(t *testing.T) {
	t.Parallel()
	layout := func(name string) *template.Template {
		return template.Must(template.New(name).Parse(name + `: <head><title>{{.Title}}</title>{{.Head}}</head><main>{{.Body}}</main>`))
	}
	site := newTestSite(t, Options{Layout: layout("site")})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	own := deskView(new(sync.Map))
	own.Layout = layout("own")
	Handle(site, "/own/{room}", own)
	b := newBrowser(t, site)
	_, page := b.get("/rooms/a")
	require.Regexp(t, `^site: <head><title>Room a</title><script .*</head><main><div id="live".*</div></main>$`, page)
	_, page = b.get("/own/a")
	require.Regexp(t, `^own: `, page)
}

// greeting is a component as templ makes them.
type greeting string

func (g greeting) Render(_ context.Context, w io.Writer) error {
	if g == "broken" {
		return errSecret
	}
	_, err := io.WriteString(w, "<p>Hello "+template.HTMLEscapeString(string(g))+"</p>")
	return err
}

func TestAComponentIsAView(t *testing.T) {
	t.Parallel()
	type state struct{ Name string }
	site := newTestSite(t, Options{})
	Handle(site, "/{name}", &View[state]{
		Mount:  func(ctx *Ctx, s *state) error { s.Name = ctx.Request().PathValue("name"); return nil },
		Render: func(s *state) Component { return greeting(s.Name) },
	})
	b := newBrowser(t, site)
	_, page := b.get("/Eve%26Ada")
	require.Regexp(t, `data-token="[\w-]+"><p>Hello Eve&amp;Ada</p></div>`, page)
	answer, text := b.get("/broken")
	require.Equal(t, 500, answer.StatusCode)
	require.Equal(t, "Something went wrong.\n", text, "and not half a page")
}

func TestATemplateThatFailsIsNoHalfPage(t *testing.T) {
	t.Parallel()
	type state struct{ List []int }
	site := newTestSite(t, Options{})
	Handle(site, "/", &View[state]{Template: template.Must(template.New("x").Parse(`<p>before</p>{{index .List 5}}`))})
	answer, text := newBrowser(t, site).get("/")
	require.Equal(t, 500, answer.StatusCode)
	require.Equal(t, "Something went wrong.\n", text)
}

func TestTheFirstRenderingIsTraced(t *testing.T) {
	t.Parallel()
	var said []string
	site := newTestSite(t, Options{Trace: &Trace{
		Mounted: func(pattern string, connected bool, _ time.Duration, err error) {
			said = append(said, fmt.Sprintf("mounted %s %t %v", pattern, connected, err))
		},
		Handled: func(pattern, event string, _ time.Duration, err error) {
			said = append(said, fmt.Sprintf("handled %s %s %v", pattern, event, err))
		},
		Rendered: func(pattern string, _ time.Duration, bytes int) {
			said = append(said, fmt.Sprintf("rendered %s %t", pattern, bytes > 50))
		},
	}})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	r := httptest.NewRequest("POST", "/rooms/a", strings.NewReader("_event=say"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	site.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, []string{
		"mounted /rooms/{room} false <nil>", "handled /rooms/{room} say text is missing", "rendered /rooms/{room} true",
	}, said)
}

func TestThePageIsLeftWhenItIsWritten(t *testing.T) {
	t.Parallel()
	type state struct{}
	left := make(chan error, 1)
	var ctx *Ctx
	site := newTestSite(t, Options{})
	Handle(site, "/", &View[state]{
		Template: template.Must(template.New("x").Parse(`x`)),
		Mount:    func(c *Ctx, _ *state) error { ctx = c; return nil },
		Leave:    func(*state) { left <- ctx.Err() },
	})
	newBrowser(t, site).get("/")
	require.ErrorIs(t, <-left, context.Canceled)
}

func TestTheRequestOfAPageIsTheOneThatCame(t *testing.T) {
	t.Parallel()
	type state struct{}
	type key struct{}
	site := newTestSite(t, Options{})
	Handle(site, "/", &View[state]{
		Template: template.Must(template.New("x").Parse(`x`)),
		Mount: func(ctx *Ctx, _ *state) error {
			if c := ctx.Request().Context(); c.Value(key{}) != "middleware" || c.Value(slotKey{}) != nil {
				return &Error{Status: 418}
			}
			return nil
		},
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	site.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "middleware")))
	require.Equal(t, 200, w.Code)
}

func TestMiddlewareMayPutAStrictPolicyAround(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'")
		w.Header().Set("Referrer-Policy", "no-referrer")
		site.ServeHTTP(w, r)
	}))
	answer, page := b.get("/rooms/a")
	require.Equal(t, "no-referrer", answer.Header.Get("Referrer-Policy"), "what middleware says counts")
	require.NotRegexp(t, `<script[^>]*>[^<]`, page, "no script in the page itself")
	require.NotRegexp(t, ` on\w+=| style=|<style`, page)
}

func TestManyBrowsersAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := deskBrowser(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			room := "/rooms/" + string(rune('a'+i))
			for range 5 {
				r, err := http.NewRequest("POST", b.base+room, strings.NewReader("_event=say&text=x"))
				if err == nil {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					var answer *http.Response
					if answer, err = b.client.Do(r); err == nil {
						answer.Body.Close()
						if answer.StatusCode != 303 {
							t.Errorf("%s: %s", room, answer.Status)
						}
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		_, page := b.get("/rooms/" + string(rune('a'+i)))
		require.Equal(t, 5, strings.Count(page, "<li>"))
	}
}

func BenchmarkFirstRendering(b *testing.B) {
	site := newTestSite(b, Options{})
	Handle(site, "/rooms/{room}", deskView(new(sync.Map)))
	r := withSession(alice, false)
	r.URL.Path = "/rooms/a"
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}

func TestErrorsAreShownInTheLayoutToWhoTakesHTML(t *testing.T) {
	t.Parallel()
	o := Options{Error: template.Must(template.New("error").Parse(`<h1>{{.Status}}</h1><p>{{.Text}}</p>`))}
	const page = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
	for _, row := range []struct {
		method, path, form, text string
		status                   int
	}{
		{"GET", "/rooms/none", "", "There is no such room.", 404},
		{"GET", "/rooms/broken", "", "Something went wrong.", 500},
		{"GET", "/nowhere", "", "Not Found", 404},
		{"PUT", "/rooms/a", "", "Method not allowed.", 405},
		{"POST", "/rooms/a", "_event=unheard", "The form asks for something this page does not do.", 400},
	} {
		t.Run(row.method+row.path, func(t *testing.T) {
			t.Parallel()
			b, _ := deskBrowser(t, o)
			answer, text := b.do(row.method, row.path, row.form, "Accept", page)
			require.Equal(t, row.status, answer.StatusCode)
			require.Equal(t, "text/html; charset=utf-8", answer.Header.Get("Content-Type"))
			require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
			require.Contains(t, text, fmt.Sprintf("<h1>%d</h1><p>%s</p>", row.status, row.text))
			require.Contains(t, text, "<title>"+http.StatusText(row.status)+"</title>")
			require.NotContains(t, text, "data-token", "nothing connects")

			answer, text = b.do(row.method, row.path, row.form, "Accept", "application/json")
			require.Equal(t, row.status, answer.StatusCode)
			require.Equal(t, row.text+"\n", text)
		})
	}
	_, err := NewSite(&Options{Error: template.Must(template.New("").Parse("{{.Reason}}"))})
	require.ErrorContains(t, err, "live: Options.Error: ")
}

func TestAnErrorWhosePageFailsIsALineOfText(t *testing.T) {
	t.Parallel()
	b, log := deskBrowser(t, Options{Error: template.Must(template.New("error").Parse(`{{if eq .Status 500}}{{.Reason}}{{end}}`))})
	answer, text := b.do("GET", "/rooms/broken", "", "Accept", "text/html")
	require.Equal(t, 500, answer.StatusCode)
	require.Equal(t, "Something went wrong.\n", text)
	require.Contains(t, log.String(), "the page of an error could not be shown")
}
