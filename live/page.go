package live

import (
	"html/template"
	"net/url"
)

// Page is embedded in the state of a view for what every page has. Its methods are for the template.
type Page struct {
	shown *shown
}

// shown is what a Page shows. It is kept by the Ctx, so that it outlives a state that is replaced as a whole.
type shown struct {
	url    *url.URL
	flash  map[string]string
	errors Errors
	values url.Values
}

// URL returns the URL of the page.
func (p *Page) URL() *url.URL { return p.get().url }

// Flash returns the message of a kind, such as "error" or "info", or "". It stays until the URL changes, the event
// "live:clear-flash" comes with its kind in the value "kind" (or without, for all), or another takes its place.
// Errors of events that are no [Errors] are messages of the kind "error".
func (p *Page) Flash(kind string) string { return p.get().flash[kind] }

// Error returns what is wrong with a field of the form that was last handled, or "". While the user is still
// filling in the form, nothing is wrong with fields that were not touched yet.
func (p *Page) Error(field string) string { return p.get().errors[field] }

// Value returns what the user entered into a field, when the page answers a form without JavaScript, else "".
func (p *Page) Value(field string) string { return p.get().values.Get(field) }

func (p *Page) page() *Page { return p }

// get returns what p shows, which is nothing for a Page outside of a view.
func (p *Page) get() *shown {
	if p.shown == nil {
		return &shown{url: &url.URL{}}
	}
	return p.shown
}

// Document is what a layout shows: the page around a view.
type Document struct {
	Title string        // as set by [Ctx.Title]
	Head  template.HTML // the script of the client; belongs into the head
	Body  template.HTML // the view, in the element that the client looks for
}
