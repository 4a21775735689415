package asset_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/internal/asset"
)

func TestFilesAreServedAsLongAsTheyAreTheSame(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"assets/style.css":   {Data: []byte("p{}")},
		"assets/x/script.js": {Data: []byte("1")},
		"assets/x/LICENSE":   {Data: []byte("free")},
		"secret.txt":         {Data: []byte("no")},
	}
	f := asset.New(files)
	get := func(url, etag string) *http.Response {
		r := httptest.NewRequest("GET", url, nil)
		r.Header.Set("If-None-Match", etag)
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w.Result()
	}
	for url, kind := range map[string]string{
		"/assets/style.css": "text/css; charset=utf-8", "/assets/x/script.js": "text/javascript; charset=utf-8", "/assets/x/LICENSE": "text/plain; charset=utf-8",
	} {
		res := get(url, "")
		require.Equal(t, 200, res.StatusCode, url)
		require.Equal(t, kind, res.Header.Get("Content-Type"))
		require.Equal(t, "no-cache", res.Header.Get("Cache-Control"))
		require.Equal(t, 304, get(url, res.Header.Get("ETag")).StatusCode)
	}
	require.Contains(t, get(f.URL("style.css"), "").Header.Get("Cache-Control"), "immutable")
	require.Equal(t, "no-cache", get("/assets/style.css?other", "").Header.Get("Cache-Control"))
	for _, url := range []string{"/assets/", "/assets/x", "/assets/none.css", "/secret.txt", "/assets/../secret.txt"} {
		require.Equal(t, 404, get(url, "").StatusCode, url)
	}
	files["assets/style.css"] = &fstest.MapFile{Data: []byte("p{}\n")}
	require.NotEqual(t, f.URL("style.css"), asset.New(files).URL("style.css"))
}
