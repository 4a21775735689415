package live

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/levada-go/levada/live/client"
)

// asset is a file that is served under its hash, so that browsers may keep it for ever.
type asset struct {
	hash     string
	plain    []byte
	gzipped  []byte
	location string
}

const clientName = "/client.js"

// clientAsset returns the client, made ready once for all sites of the process.
var clientAsset = sync.OnceValue(func() *asset { return newAsset(client.JS) })

func newAsset(file []byte) *asset {
	sum := sha256.Sum256(file)
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid one
	z.Write(file)                                         // a Buffer takes everything
	z.Close()
	a := &asset{hash: hex.EncodeToString(sum[:8]), plain: file, gzipped: b.Bytes()}
	a.location = ownPath + a.hash + clientName
	return a
}

// script returns the element for the head of a page.
func (a *asset) script() template.HTML {
	return template.HTML(`<script defer src="` + a.location + `"></script>`)
}

// serve serves the file. Under another hash, as a page asks for that another version of the process has made, it
// serves the file all the same, for this time only.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept-Encoding")
	if r.URL.Path == a.location {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	body, etag := a.plain, `"`+a.hash+`"`
	if acceptsGzip(r) {
		body, etag = a.gzipped, `"`+a.hash+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	if matchesETag(r.Header.Get("If-None-Match"), etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(body) // the browser may have gone
	}
}

func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, q, _ := strings.Cut(coding, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q = strings.ReplaceAll(strings.TrimPrefix(strings.ReplaceAll(q, " ", ""), "q="), "0", "")
				return q != "" && q != "." || !strings.Contains(coding, ";")
			}
		}
	}
	return false
}

func matchesETag(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
