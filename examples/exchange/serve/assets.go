package serve

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
)

// The page is plain HTML, CSS and JavaScript, served as it is. charts/ holds
// TradingView Lightweight Charts with its licence; update.sh fetched it.
//
//go:embed assets/index.html assets/*.css assets/*.js assets/icon.svg assets/charts
var files embed.FS

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8", // the licence
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

// page serves the page itself, with the cookie that makes its user an owner.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	s.owner(w, r)
	data, _ := files.ReadFile("assets/index.html")
	w.Header().Set("Content-Type", contentTypes[".html"])
	w.Header().Set("Cache-Control", "no-store")
	w.Write(data)
}
