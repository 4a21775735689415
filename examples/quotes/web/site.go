package web

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/levada-go/levada/examples/internal/asset"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/presence"
)

//go:embed assets templates
var files embed.FS

// A Site is the pages. It is an http.Handler.
type Site struct {
	Live     *live.Site
	shelf    *shelf.Shelf
	presence *presence.Presence
	mux      *http.ServeMux
}

// Options are what the pages need from outside. The zero value is for a process that is alone.
type Options struct {
	// Presence carries who is reading between the processes that run on one store. Nil means that each has its own readers.
	Presence presence.Transport
	// Secret signs the pages; those processes have the same. See [live.Options].
	Secret []byte
	// Logger is for what nobody is told otherwise. Nil means [slog.Default].
	Logger *slog.Logger
}

// New returns the pages of a shelf. Nil options are the zero value.
func New(s *shelf.Shelf, opt *Options) (*Site, error) {
	if opt == nil {
		opt = &Options{}
	}
	who, err := presence.New(&presence.Options{Transport: opt.Presence, Logger: opt.Logger})
	if err != nil {
		return nil, err
	}
	site := &Site{shelf: s, presence: who, mux: http.NewServeMux()}
	site.Live, err = live.NewSite(&live.Options{Layout: load("layout.html"), Error: load("error.html"), Explain: explain, Secret: opt.Secret, Logger: opt.Logger})
	if err != nil {
		return nil, err
	}
	live.Handle(site.Live, "/{$}", site.home())
	live.Handle(site.Live, "/admin", site.admin())
	site.mux.Handle("GET /assets/", assets)
	site.mux.Handle("GET /favicon.ico", http.RedirectHandler(assets.URL("icon.svg"), http.StatusFound))
	site.mux.Handle("/", site.Live)
	return site, nil
}

// The pages load nothing from elsewhere and run no script but the embedded ones.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// Shutdown ends all pages.
func (s *Site) Shutdown(ctx context.Context) error {
	return errors.Join(s.Live.Shutdown(ctx, time.Second), s.presence.Close())
}

// explain says what users are told of an error.
func explain(err error) string {
	for _, e := range []error{quote.ErrGone, quote.ErrTaken, quote.ErrNoQuote} {
		if errors.Is(err, e) {
			return "Sorry, " + e.Error() + "."
		}
	}
	return ""
}

// load returns a template with what templates may call.
func load(name string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"utc":   func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05") },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock": func(t time.Time) string { return t.UTC().Format("2 Jan, 15:04") },
		"asset": assets.URL,
	}).ParseFS(files, "templates/"+name, "templates/people.html"))
}

var assets = asset.New(files)

// nameOf is what a browser is called: the same for all its pages, and no hint at the secret it follows from.
func nameOf(session string) string {
	sum := sha256.Sum256([]byte("quotes " + session))
	n := binary.BigEndian.Uint32(sum[:])
	return moods[n%uint32(len(moods))] + " " + animals[n/64%uint32(len(animals))]
}

var (
	moods   = []string{"quiet", "brave", "merry", "keen", "gentle", "sly", "calm", "bright", "proud", "swift", "witty", "kind", "curious", "sunny", "patient", "bold"}
	animals = []string{"otter", "heron", "lynx", "badger", "finch", "marten", "owl", "hare", "robin", "fox", "beaver", "swan", "newt", "wren", "stoat", "crane"}
)
