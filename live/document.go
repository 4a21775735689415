package live

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/levada-go/levada/live/internal/form"
)

// plainLayout is the document of a site that has no other.
var plainLayout = template.Must(template.New("layout").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
{{.Head}}
</head>
<body>
{{.Body}}
</body>
</html>
`))

// checkLayout shows a layout once and reports what it leaves out, so that this is known before the first request.
func checkLayout(layout *template.Template) error {
	const head, body = "<!--the head-->", "<!--the body-->"
	var b strings.Builder
	if err := layout.Execute(&b, &Document{Title: "title", Head: head, Body: body}); err != nil {
		return err
	}
	for field, text := range map[string]string{"Head": head, "Body": body} {
		if !strings.Contains(b.String(), text) {
			return fmt.Errorf("the layout %q does not show {{.%s}} as it is", layout.Name(), field)
		}
	}
	return nil
}

// serveGet serves the first rendering of a page.
func (s *Site) serveGet(w http.ResponseWriter, at *found) {
	r := at.request
	session := s.session(w, r)
	var flash map[string]string
	if r.Method == http.MethodGet {
		flash = s.takeFlash(w, r, session)
	}
	out := s.once(r, at.page, at.pattern, session, flash, nil)
	defer out.end()
	switch {
	case out.err != nil:
		s.serveError(w, at, out.err)
	case out.to != "":
		for kind, text := range out.flash {
			if flash == nil {
				flash = make(map[string]string)
			}
			flash[kind] = text
		}
		s.setFlash(w, r, session, flash) // what this page would have shown is for the next one
		redirect(w, out.to)
	default:
		s.servePage(w, at, out, http.StatusOK, session)
	}
}

// The name of the value that says which event a form without JavaScript is.
const eventField = "_event"

// servePost serves a form that was sent without JavaScript.
func (s *Site) servePost(w http.ResponseWriter, at *found) {
	r := at.request
	if err := s.forms.Check(r); err != nil {
		s.fail(w, r, http.StatusForbidden, "This form came from another site.")
		return
	}
	values, status := s.readForm(w, r)
	if status != 0 {
		s.fail(w, r, status, "The form could not be read.")
		return
	}
	event := values.Get(eventField)
	if event == "" {
		s.fail(w, r, http.StatusBadRequest, "The form does not say what to do.")
		return
	}
	values.Del(eventField)

	session := s.session(w, r)
	out := s.once(r, at.page, at.pattern, session, nil, &input{event: event, form: values})
	defer out.end()
	var fields Errors
	switch {
	case out.err != nil:
		s.serveError(w, at, out.err)
	case out.failed == nil:
		to := out.to
		if to == "" {
			to = r.URL.RequestURI()
		}
		s.setFlash(w, r, session, out.flash)
		redirect(w, to)
	case errors.Is(out.failed, errNoEvent):
		s.fail(w, r, http.StatusBadRequest, "The form asks for something this page does not do.")
	case errors.Is(out.failed, form.ErrTooLarge), errors.Is(out.failed, form.ErrPayload):
		s.fail(w, r, http.StatusBadRequest, "The form could not be read.")
	case errors.As(out.failed, &fields) && out.instance.embedded() != nil:
		s.servePage(w, at, out, http.StatusUnprocessableEntity, session)
	default:
		text, known := s.explain(out.failed)
		status := http.StatusUnprocessableEntity
		var told *Error
		switch {
		case !known:
			status = http.StatusInternalServerError
			s.logFailure("live: an event failed", out.failed, "pattern", at.pattern, "event", event)
		case errors.As(out.failed, &told):
			status = told.status()
		}
		if out.instance.embedded() == nil {
			s.fail(w, r, status, text) // the page has no place for it
			return
		}
		out.setFlash("error", text)
		s.servePage(w, at, out, status, session)
	}
}

// readForm returns the values of a form in the body of a request, or the status of its refusal.
func (s *Site) readForm(w http.ResponseWriter, r *http.Request) (values url.Values, status int) {
	r.Body = http.MaxBytesReader(w, r.Body, int64(s.options.MaxFrame))
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil, http.StatusUnsupportedMediaType
	case kind == "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case kind == "multipart/form-data": // files are left alone
		err = r.ParseMultipartForm(int64(s.options.MaxFrame))
		if r.MultipartForm != nil {
			defer r.MultipartForm.RemoveAll()
		}
	default:
		return nil, http.StatusUnsupportedMediaType
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	}
	return r.PostForm, 0
}

// servePage writes a page whole, so that one that cannot be shown is an error and not half a page.
func (s *Site) servePage(w http.ResponseWriter, at *found, out *outcome, status int, session string) {
	var flash map[string]string
	if p := out.instance.embedded(); p != nil {
		flash = p.get().flash
	}
	start := time.Now()
	var view bytes.Buffer
	view.WriteString(`<div id="live" data-live="` + socketPath + `" data-token="` + s.token(session, flash) + `">`)
	if err := out.instance.execute(&view); err != nil {
		s.serveError(w, at, err)
		return
	}
	view.WriteString("</div>")
	layout := at.page.document()
	if layout == nil {
		layout = s.options.Layout
	}
	var page bytes.Buffer
	// The view was escaped by its own template; see Document.
	d := &Document{Title: out.title, Head: s.client.script(), Body: template.HTML(view.String())}
	if err := layout.Execute(&page, d); err != nil {
		s.serveError(w, at, err)
		return
	}
	if f := s.options.Trace.Rendered; f != nil {
		f(at.pattern, time.Since(start), page.Len())
	}
	write(w, status, "text/html; charset=utf-8", page.Bytes())
}

// serveError answers with what the user may know of an error, and logs what he may not.
func (s *Site) serveError(w http.ResponseWriter, at *found, err error) {
	var told *Error
	if errors.As(err, &told) {
		s.fail(w, at.request, told.status(), told.Text)
		return
	}
	if gone := at.request.Context().Err(); gone == nil || !errors.Is(err, gone) { // else nobody waits for the page
		s.logFailure("live: a page could not be shown", err, "pattern", at.pattern)
	}
	s.fail(w, at.request, http.StatusInternalServerError, somethingWrong)
}

// logFailure logs an error, unless it is a panic, which has been logged with its stack.
func (s *Site) logFailure(message string, err error, args ...any) {
	if !isPanic(err) {
		s.log.Error(message, append(args, "error", err)...)
	}
}

// somethingWrong is what a user is told of an error that is none of his business.
const somethingWrong = "Something went wrong."

// explain returns what the user is told of an error of an event. It is not known if it should be logged.
func (s *Site) explain(err error) (text string, known bool) {
	if isPanic(err) {
		return somethingWrong, false
	}
	if s.options.Explain != nil {
		if text := s.options.Explain(err); text != "" {
			return text, true
		}
	}
	var fields Errors
	if errors.As(err, &fields) {
		return fields.Error(), true
	}
	var told *Error
	if errors.As(err, &told) && told.Text != "" {
		return told.Text, true
	}
	return somethingWrong, false
}

// status returns the status of an error, 500 for what is none.
func (e *Error) status() int {
	if e.Status < 400 || e.Status > 599 {
		return http.StatusInternalServerError
	}
	return e.Status
}

// redirect sends the browser to a URL with GET.
func redirect(w http.ResponseWriter, to string) {
	h := w.Header()
	h.Set("Location", asciiURL(to))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// asciiURL escapes what a header cannot hold.
func asciiURL(to string) string {
	var b strings.Builder
	for _, c := range []byte(to) {
		if c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// fail answers with the page of an error, or a line of text for who takes no HTML. Without a text it is that of the status.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	if text == "" {
		text = http.StatusText(status)
	}
	if s.options.Error == nil || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		plain(w, status, text)
		return
	}
	var view, page bytes.Buffer
	err := s.options.Error.Execute(&view, &Error{status, text})
	if err == nil {
		d := &Document{Title: http.StatusText(status), Head: s.client.script(), Body: template.HTML(view.String())}
		err = s.options.Layout.Execute(&page, d)
	}
	if err != nil {
		s.log.Error("live: the page of an error could not be shown", "error", err)
		plain(w, status, text)
		return
	}
	write(w, status, "text/html; charset=utf-8", page.Bytes())
}

// plain answers with a line of text.
func plain(w http.ResponseWriter, status int, text string) {
	if text == "" {
		text = http.StatusText(status)
	}
	write(w, status, "text/plain; charset=utf-8", []byte(text+"\n"))
}

// write answers with a body that is for this browser, now.
func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Referrer-Policy") == "" {
		h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	}
	w.WriteHeader(status)
	_, _ = io.Copy(w, bytes.NewReader(body)) // the browser may have gone
}
