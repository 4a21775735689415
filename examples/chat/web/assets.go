package web

import (
	"embed"
	"html/template"
)

//go:embed templates
var sources embed.FS

// The layout is executed by itself, the pages by package live; so they are two sets of templates.
var (
	layout = template.Must(template.ParseFS(sources, "templates/layout.html"))
	lost   = template.Must(template.ParseFS(sources, "templates/error.html"))
	pages  = template.Must(template.ParseFS(sources, "templates/parts.html", "templates/home.html", "templates/room.html"))
)

//go:embed assets
var files embed.FS
