package live

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"io"
)

// Component is anything that renders itself, such as a component of templ.
type Component interface {
	Render(ctx context.Context, w io.Writer) error
}

// Fragment renders a component into an element (a div) with an id, for use in a template. It is compared as a
// whole; the browser changes as little of it as it can. The error is that of the component, which must not be nil.
func Fragment(ctx context.Context, id string, c Component) (template.HTML, error) {
	inner, err := componentHTML(ctx, c)
	if err != nil {
		return "", err
	}
	return template.HTML(`<div id="` + template.HTMLEscapeString(id) + `">` + string(inner) + `</div>`), nil
}

func componentHTML(ctx context.Context, c Component) (template.HTML, error) {
	if c == nil {
		return "", errors.New("live: the component is nil")
	}
	var b bytes.Buffer
	if err := c.Render(ctx, &b); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil
}
