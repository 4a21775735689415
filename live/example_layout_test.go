package live_test

import (
	"fmt"
	"html/template"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"

	"github.com/levada-go/levada/live"
)

// policy lets a page load and do nothing but what is its own: the client needs neither inline scripts nor eval.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure puts a strict Content-Security-Policy around a site.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		next.ServeHTTP(w, r)
	})
}

// A layout is the document around every view of a site. It shows the head and the body of a Document; all
// the rest is up to it.
func ExampleDocument() {
	layout := template.Must(template.New("layout").Parse(`<!doctype html>
<html lang="pt">
<head>
<meta charset="utf-8">
<title>{{with .Title}}{{.}} – {{end}}Funchal</title>
<link rel="stylesheet" href="/style.css">
{{.Head}}
</head>
<body>
<main>{{.Body}}</main>
</body>
</html>
`))
	type state struct{}
	about := &live.View[state]{
		Template: template.Must(template.New("about").Parse(`<h1>Levadas</h1>`)),
		Mount: func(ctx *live.Ctx, _ *state) error {
			ctx.Title("Sobre")
			return nil
		},
	}

	site, err := live.NewSite(&live.Options{Layout: layout})
	if err != nil {
		log.Fatal(err)
	}
	live.Handle(site, "/about", about)

	w := httptest.NewRecorder()
	secure(site).ServeHTTP(w, httptest.NewRequest("GET", "/about", nil))
	page := regexp.MustCompile(`data-token="[^"]*"`).ReplaceAllString(w.Body.String(), `data-token="…"`)
	fmt.Print(regexp.MustCompile(`/_live/[0-9a-f]+/`).ReplaceAllString(page, "/_live/…/"))
	// Output:
	// <!doctype html>
	// <html lang="pt">
	// <head>
	// <meta charset="utf-8">
	// <title>Sobre – Funchal</title>
	// <link rel="stylesheet" href="/style.css">
	// <script defer src="/_live/…/client.js"></script>
	// </head>
	// <body>
	// <main><div id="live" data-live="/_live/socket" data-token="…"><h1>Levadas</h1></div></main>
	// </body>
	// </html>
}
