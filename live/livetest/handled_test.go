package livetest_test

import (
	"html/template"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
)

// A form that the view has dealt with shows what is rendered, one with errors keeps what was typed, and so does
// one with live-keep.
func TestAFormThatWasDealtWithShowsWhatIsRendered(t *testing.T) {
	t.Parallel()
	type state struct {
		live.Page
		Name string
	}
	site, err := live.NewSite(nil)
	require.NoError(t, err)
	view := &live.View[state]{Template: template.Must(template.New("form").Parse(
		`<form id="f" live-submit="save" live-change="check"><input name="text"><input name="name" value="{{.Name}}"></form>
<form id="k" live-submit="save" live-keep><input name="text"></form><p id="e">{{.Error "text"}}</p>`))}
	live.On(view, "check", func(*live.Ctx, *state, struct{}) error { return nil })
	live.On(view, "save", func(_ *live.Ctx, s *state, in struct{ Text, Name string }) error {
		if in.Text == "" {
			return live.Errors{"text": "say something"}
		}
		s.Name = in.Name + "!"
		return nil
	})
	live.Handle(site, "/", view)
	p := livetest.Open(t, site, "/")
	p.Submit("#f", "name", "ann")
	require.Equal(t, "say something", p.Text("#e"))
	require.Equal(t, "ann", p.Value("#f [name=name]"))
	p.Submit("#f", "text", "hello")
	require.Empty(t, p.Value("#f [name=text]"))
	require.Equal(t, "ann!", p.Value("#f [name=name]"))
	p.Submit("#k", "text", "hello")
	require.Equal(t, "hello", p.Value("#k [name=text]"))
}
