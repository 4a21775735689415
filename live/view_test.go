package live

import (
	"context"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestOnRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	nothing := func(*Ctx, *counter, url.Values) error { return nil }
	for name, register := range map[string]func(v *View[counter]){
		"an empty name": func(v *View[counter]) { On(v, "", nothing) },
		"a name twice":  func(v *View[counter]) { On(v, "add", nothing) },
		"the own names": func(v *View[counter]) { On(v, "live:x", nothing) },
		"a name of two fields": func(v *View[counter]) {
			On(v, "x", func(*Ctx, *counter, struct {
				A int
				B int `live:"a"`
			}) error {
				return nil
			})
		},
		"a served view": func(v *View[counter]) {
			Handle(quietSite(t, nil), "/", v)
			On(v, "more", nothing)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Panics(t, func() { register(counterView()) })
		})
	}
}

func TestAViewNeedsOneWayToShowItself(t *testing.T) {
	t.Parallel()
	require.Error(t, (&View[counter]{}).prepare())
	both := counterView()
	both.Render = func(*counter) Component { return nil }
	require.Error(t, both.prepare())
	broken := &View[counter]{Template: parse(`<a href="{{if .N}}">{{end}}`)}
	require.Error(t, broken.prepare())
	twice := counterView()
	require.NoError(t, twice.prepare())
	require.NoError(t, twice.prepare())
	quietSite(t, nil)
	Handle(quietSite(t, nil), "/", twice)
	Handle(quietSite(t, nil), "/", twice)
}

type order struct {
	Price float64
	Side  string
}

func (o *order) Validate() error {
	if o.Side != "buy" && o.Side != "sell" {
		return Errors{"side": "must be buy or sell"}
	}
	return nil
}

type orders struct {
	Page
	Got []order
}

// ordersView shows what is wrong in its own words.
func ordersView(fail func(ctx *Ctx) error) *View[orders] {
	v := &View[orders]{Template: parse(`{{len .Got}}|{{.Error "price"}}|{{.Error "side"}}|{{.Error ""}}|{{.Flash "error"}}`)}
	On(v, "place", func(ctx *Ctx, s *orders, in order) error {
		if err := fail(ctx); err != nil {
			return err
		}
		s.Got = append(s.Got, in)
		return nil
	})
	On(v, "look", func(*Ctx, *orders, url.Values) error { return nil })
	return v
}

func TestErrorsOfAFormStandAtItsFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var failure error
		Handle(site, "/", ordersView(func(*Ctx) error { return failure }))
		p := join(t, site, "/")
		submit := func(kind, values string) string {
			p.say(`"e","place",%q,%q`, kind, values)
			p.drain()
			return p.html()
		}
		require.Equal(t, "0||must be buy or sell||", submit("submit", "price=1&side=hold"))
		require.Regexp(t, `^0\|.+\|\|\|$`, submit("submit", "price=x&side=buy"), "what cannot be decoded is an error, and Validate is not called")
		failure = Errors{"": "closed", "price": "too high"}
		require.Equal(t, "0|too high||closed|", submit("submit", "price=1&side=buy"))
		p.click("look")
		p.drain()
		require.Equal(t, "0|too high||closed|", p.html(), "a click is none of the form's business")
		require.Equal(t, "0|||closed|", submit("change", "price=1&side=buy&_unused_price="), "a field that was not touched has no error yet")
		failure = nil
		require.Equal(t, "1||||", submit("submit", "price=1&side=buy"))
		p.close()
	})
}

func TestAnErrorIsExplainedOrLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poor := errors.New("no funds")
		var log strings.Builder
		site := quietSite(t, &Options{Logger: textLogger(&log), Explain: func(err error) string {
			if errors.Is(err, poor) {
				return "You have too little money."
			}
			return ""
		}})
		var failure error
		Handle(site, "/", ordersView(func(ctx *Ctx) error {
			ctx.Navigate("/elsewhere")
			return failure
		}))
		p := join(t, site, "/")
		failure = poor
		p.submit("place", url.Values{"side": {"buy"}})
		p.drain()
		require.Equal(t, "0||||You have too little money.", p.html())
		require.NotContains(t, log.String(), "no funds")
		failure = errors.New("disk on fire")
		p.submit("place", url.Values{"side": {"buy"}})
		p.drain()
		require.Contains(t, p.html(), "Something went wrong.")
		require.Contains(t, log.String(), "disk on fire")
		require.Equal(t, 1, p.mounts, "a func that fails goes nowhere")
		require.Len(t, p.acks, 3)
		p.click("live:clear-flash", "kind", "info")
		p.drain()
		require.Contains(t, p.html(), "Something went wrong.")
		p.click("live:clear-flash", "kind", "error")
		p.drain()
		require.Equal(t, "0||||", p.html())
		p.submit("place", url.Values{"side": {"buy"}})
		p.click("live:clear-flash")
		p.drain()
		require.Equal(t, "0||||", p.html())
		p.close()
	})
}

func TestEventsThatTheViewDoesNotHaveAreAcknowledgedAndDoNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		site := quietSite(t, &Options{Logger: textLogger(&log)})
		Handle(site, "/", counterView())
		p := join(t, site, "/")
		p.click("drop-tables")
		p.click("live:anything")
		p.drain()
		require.Equal(t, []uint64{1, 2, 3}, p.acks)
		require.Equal(t, "<b>0</b>", p.html())
		require.Contains(t, log.String(), "drop-tables")
		p.close()
	})
}

func TestAStateThatIsReplacedKeepsItsPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		v := &View[counter]{Template: parse(`{{.N}} {{.URL}} {{.Flash "info"}}`)}
		v.Mount = func(ctx *Ctx, s *counter) error {
			ctx.Flash("info", "hello")
			*s = counter{N: 1}
			return nil
		}
		var url string
		On(v, "url", func(_ *Ctx, s *counter, _ struct{}) error { url = s.URL().String(); return nil })
		On(v, "clear", func(_ *Ctx, s *counter, _ struct{}) error {
			*s = counter{}
			return nil
		})
		Handle(site, "/", v)
		p := join(t, site, "/?a=b")
		require.Equal(t, "1 /?a=b hello", p.html())
		p.click("clear")
		p.drain()
		require.Equal(t, "0 /?a=b hello", p.html())
		p.close()

		p = open(t, site, "/?c=d", 0) // takes nothing, so that nothing is rendered
		p.join(0)
		p.click("clear")
		p.click("url")
		synctest.Wait()
		require.Equal(t, "/?c=d", url)
		p.close()
	})
}

func TestAPageOutsideOfAViewIsEmpty(t *testing.T) {
	t.Parallel()
	var p Page
	require.Equal(t, "", p.URL().String()+p.Flash("a")+p.Error("b")+p.Value("c"))
}

type markup string

func (m markup) Render(ctx context.Context, w io.Writer) error {
	if m == "fail" {
		return errors.New("no markup")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := io.WriteString(w, string(m))
	return err
}

func TestAViewMayBeShownByAComponent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		v := &View[counter]{Render: func(s *counter) Component { return markup("<i>" + strings.Repeat("x", s.N) + "</i>") }}
		On(v, "add", func(_ *Ctx, s *counter, in struct{ By int }) error { s.N += in.By; return nil })
		Handle(site, "/", v)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Contains(t, w.Body.String(), "<i></i>")
		p := join(t, site, "/")
		p.click("add", "by", "3")
		p.drain()
		require.Equal(t, "<i>xxx</i>", p.html())
		p.close()
	})
}

func TestAFragmentIsAnElementWithAnID(t *testing.T) {
	t.Parallel()
	h, err := Fragment(t.Context(), `a"b`, markup("<i>x</i>"))
	require.NoError(t, err)
	require.Equal(t, template.HTML(`<div id="a&#34;b"><i>x</i></div>`), h)
	_, err = Fragment(t.Context(), "a", markup("fail"))
	require.ErrorContains(t, err, "no markup")
	_, err = Fragment(t.Context(), "a", nil)
	require.Error(t, err)
}

func TestErrorsAreReadInTheOrderOfTheFields(t *testing.T) {
	t.Parallel()
	require.Equal(t, "all wrong; a short; b long", Errors{"b": "long", "a": "short", "": "all wrong"}.Error())
	require.Equal(t, "gone", (&Error{Status: http.StatusGone, Text: "gone"}).Error())
}
