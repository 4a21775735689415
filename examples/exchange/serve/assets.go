package serve

import "embed"

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
