package serve

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
)

// What the page loads is served as it is. charts/ holds TradingView Lightweight
// Charts with its licence; update.sh fetched it.
//
//go:embed assets/*.css assets/*.js assets/icon.svg assets/charts
var files embed.FS

// The page itself: layout.html around page.html, in which book.html and others of
// its size are the regions.
//
//go:embed assets/*.html
var templates embed.FS

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	"":     "text/plain; charset=utf-8", // the licence
}

// assets serves the embedded files. Browsers ask each time whether a file is still
// the same, so that a new build is never shown with an old script.
func assets() http.Handler {
	tags := map[string]string{}
	fs.WalkDir(files, "assets", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			data, _ := files.ReadFile(name) // it is embedded
			sum := sha256.Sum256(data)
			tags["/"+name] = `"` + hex.EncodeToString(sum[:8]) + `"`
		}
		return nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag, ok := tags[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Content-Type", contentTypes[path.Ext(r.URL.Path)])
		http.ServeFileFS(w, r, files, r.URL.Path[1:])
	})
}
