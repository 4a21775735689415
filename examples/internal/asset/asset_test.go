package asset_test

import (
	"bytes"
	"compress/gzip"
	"io"
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

func TestFilesTakeLessOnTheWire(t *testing.T) {
	t.Parallel()
	style := bytes.Repeat([]byte("p { margin: 0 }\n"), 100)
	f := asset.New(fstest.MapFS{"assets/style.css": {Data: style}, "assets/tiny.css": {Data: []byte("p{}")}})
	get := func(name string, header ...string) *http.Response {
		r := httptest.NewRequest("GET", "/assets/"+name, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w.Result()
	}
	res := get("style.css", "Accept-Encoding", "gzip, br")
	require.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", res.Header.Get("Vary"))
	require.Equal(t, "text/css; charset=utf-8", res.Header.Get("Content-Type"))
	require.Less(t, res.ContentLength, int64(100))
	z, err := gzip.NewReader(res.Body)
	require.NoError(t, err)
	got, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Equal(t, style, got)
	require.Equal(t, 304, get("style.css", "Accept-Encoding", "gzip", "If-None-Match", res.Header.Get("ETag")).StatusCode)

	plain := get("style.css")
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", plain.Header.Get("Vary"))
	require.NotEqual(t, res.Header.Get("ETag"), plain.Header.Get("ETag"))
	require.EqualValues(t, len(style), plain.ContentLength)
	require.Empty(t, get("tiny.css", "Accept-Encoding", "gzip").Header.Get("Content-Encoding"), "it would get larger")
}
