package render

import (
	"bytes"
	"html/template"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const firstFrameOfAll = `{"d":["c",[1,["1","a"],["2","b"],["3","c"]],{"o":[[2],[1,1,-1,0,["7","x"],["8","y"]]]}],` +
	`"s":[[0,[0,["u",1,0,2,5]],"","<ul id=u>","</ul><ol>","</ol>"],[1,1,"<li id=",">","</li>"]]}`

func FuzzClient(f *testing.F) {
	for _, frame := range []string{firstFrame, firstFrameOfAll, `[0,"x"]`, `[1,[[0,0,2],[1,0,["7","z"]],[4,0,[1,"q"]]]]`, `[1,[[3,2,1,0]]]`, `[1,[[2,0,1,2]]]`, `[1,0]`,
		`[2,{"o":[[0,"7"],[1,1,0,-1,["9","z"]],[3,1,["8","w"]],[2]]}]`, `{"p":[0,"x"],"s":[[2,[1,["a",0,0,1,6]],"<p id=\"a\">","</p>"]]}`} {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var client, other Client
		require.NoError(t, client.Apply([]byte(firstFrameOfAll)))
		require.NoError(t, other.Apply([]byte(firstFrameOfAll)))
		if err := client.Apply(frame); err != nil {
			require.ErrorIs(t, err, ErrFrame)
			return
		}
		_ = client.HTML()
		require.ErrorIs(t, other.Apply(append(bytes.Clone(frame), " 0"...)), ErrFrame)
	})
}

// FuzzTemplate takes the template from the fuzzer as it is.
func FuzzTemplate(f *testing.F) {
	for _, text := range pool {
		f.Add(text)
	}
	f.Add(streamPage)
	// No value is an id that a template may hold, and none is HTML.
	pages := []pageData{
		{S: "\u00a71<&'\"", T: "\u00a72>", L: []node{{K: "\u00a73", V: "\u00a74"}, {K: "\u00a75", C: []node{{K: "\u00a76"}}}}},
		{T: "\u00a72>", B: true, L: []node{{K: "\u00a75", V: "\u00a77", B: true}, {K: "\u00a73"}}, N: node{C: []node{{V: "\u00a78"}}}},
		{S: "\u00a79"},
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := template.New("page").Parse(text)
		if err != nil || len(text) > 2000 || !utf8.ValidString(text) {
			return
		}
		tmpl, err := New(parsed)
		if err != nil {
			return
		}
		view, client := tmpl.NewView(), &Client{}
		for _, data := range pages {
			var want bytes.Buffer
			if err := tmpl.Execute(&want, data); err != nil {
				_, err := view.Frame(nil, data)
				require.Error(t, err)
				continue
			}
			frame, err := view.Frame(nil, data)
			require.NoError(t, err)
			if len(frame) > 0 {
				require.NoError(t, client.Apply(frame), "%s", frame)
			}
			require.Equal(t, string([]rune(want.String())), client.HTML(), "%s", frame)
			// An id that an action prints may be one that the template has, too.
			if !strings.Contains(text, `"{{`) {
				checkShapes(t, client)
			}
		}
	})
}

// FuzzPages draws templates and pages from the bytes of the fuzzer.
func FuzzPages(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		depth, blocks := 4, 0
		text := drawText(t, &depth, &blocks)
		checkConvergence(t, build(t, nestedPage+"{{with .N}}"+text+"{{end}}"))
	}))
}
