package live

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/client"
)

func TestTheClientIsServedForEverUnderItsHash(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	path := site.client.location
	require.Regexp(t, `^/_live/[0-9a-f]{16}/client\.js$`, path)
	require.Contains(t, string(site.client.script()), `<script defer src="`+path+`">`)

	w := get(path)
	require.Equal(t, 200, w.Code)
	require.Equal(t, client.JS, w.Body.Bytes())
	require.Equal(t, "text/javascript; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "Accept-Encoding", w.Header().Get("Vary"))
	require.Empty(t, w.Header().Get("Content-Encoding"))
	etag := w.Header().Get("ETag")

	zipped := get(path, "Accept-Encoding", "br, gzip")
	require.Equal(t, "gzip", zipped.Header().Get("Content-Encoding"))
	require.NotEqual(t, etag, zipped.Header().Get("ETag"), "other bytes, another tag")
	z, err := gzip.NewReader(bytes.NewReader(zipped.Body.Bytes()))
	require.NoError(t, err)
	unzipped, err := io.ReadAll(z)
	require.NoError(t, err)
	require.Equal(t, client.JS, unzipped)

	same := get(path, "If-None-Match", `"other", W/`+etag)
	require.Equal(t, 304, same.Code)
	require.Empty(t, same.Body.Bytes())
	require.Equal(t, etag, same.Header().Get("ETag"))
	require.Equal(t, 200, get(path, "If-None-Match", zipped.Header().Get("ETag")).Code)

	old := get("/_live/0123456789abcdef/client.js")
	require.Equal(t, 200, old.Code)
	require.Equal(t, client.JS, old.Body.Bytes())
	require.Equal(t, "no-cache", old.Header().Get("Cache-Control"))

	r := httptest.NewRequest("HEAD", path, nil)
	head := httptest.NewRecorder()
	site.ServeHTTP(head, r)
	require.Equal(t, 200, head.Code)
	require.Empty(t, head.Body.Bytes())

	require.Equal(t, 404, get("/_live/").Code)
	require.Equal(t, 404, get("/_live/x.js").Code)
	post := httptest.NewRecorder()
	site.ServeHTTP(post, httptest.NewRequest("POST", path, strings.NewReader("")))
	require.Equal(t, 405, post.Code)
	require.Equal(t, "GET, HEAD", post.Header().Get("Allow"))
}

func TestGzipIsSentToThoseWhoTakeIt(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]bool{
		"": false, "gzip": true, "br": false, "deflate, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false,
		"gzip;q=1": true, "gzip ; q=0.001": true, "x-gzip": false, "identity;q=1, *;q=0": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", header)
		require.Equal(t, want, acceptsGzip(r), header)
	}
}
