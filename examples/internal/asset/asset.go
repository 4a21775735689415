// Package asset serves the files that are embedded in the examples: styles, scripts, icons.
package asset

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Files are those below the folder assets of a file system, by their path. They are an [http.Handler] for /assets/.
type Files struct {
	files  fs.FS
	tags   map[string]string // by path
	packed map[string][]byte // with gzip, what gets smaller by it
}

// New reads the files once. It panics if that fails, which embedded files do not.
func New(files fs.FS) *Files {
	f := &Files{files: files, tags: map[string]string{}, packed: map[string][]byte{}}
	err := fs.WalkDir(files, "assets", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		sum := sha256.Sum256(data)
		f.tags[name] = hex.EncodeToString(sum[:8])
		if packed := pack(data); len(packed) < len(data) {
			f.packed[name] = packed
		}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("asset: %v", err))
	}
	return f
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	"":     "text/plain; charset=utf-8", // a licence
}

// pack returns data as gzip has it.
func pack(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	_, _ = z.Write(data)                                  // a buffer takes all
	_ = z.Close()
	return b.Bytes()
}

// URL returns the URL of a file of the folder, which changes with what is in it, so that browsers may keep the file for ever.
func (f *Files) URL(name string) string { return "/assets/" + name + "?" + f.tags["assets/"+name] }

// ServeHTTP serves a file. Under a URL without its tag browsers ask each time whether it is still the same: a new build is
// never shown with an old script.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[1:]
	tag, ok := f.tags[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	cache := "no-cache"
	if r.URL.RawQuery == tag {
		cache = "public, max-age=31536000, immutable"
	}
	w.Header().Set("Cache-Control", cache)
	w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
	if packed, ok := f.packed[name]; ok {
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("ETag", `"`+tag+`-gzip"`)
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(packed))
			return
		}
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	http.ServeFileFS(w, r, f.files, name)
}
