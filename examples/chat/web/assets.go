package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
)

//go:embed templates
var sources embed.FS

// The layout is executed by itself, the pages by package live; so they are two sets of templates.
var (
	layout = template.Must(template.ParseFS(sources, "templates/layout.html"))
	pages  = template.Must(template.ParseFS(sources, "templates/parts.html", "templates/home.html", "templates/room.html"))
)

//go:embed assets
var files embed.FS

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assets serves the embedded files. Browsers ask each time whether they are still the same: a new build is never
// shown with an old script.
func assets() http.Handler {
	tags := map[string]string{}
	entries, _ := fs.ReadDir(files, "assets") // it is embedded
	for _, e := range entries {
		data, _ := files.ReadFile("assets/" + e.Name())
		sum := sha256.Sum256(data)
		tags["/assets/"+e.Name()] = `"` + hex.EncodeToString(sum[:8]) + `"`
	}
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
