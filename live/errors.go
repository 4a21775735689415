package live

import (
	"maps"
	"slices"
	"strings"
)

// Errors says what is wrong with the fields of a form, by their names. The name "" is for the form as a whole.
// An event that returns Errors, or
// wraps it, should have left the state as it was; the page shows them by [Page.Error].
type Errors map[string]string

func (e Errors) Error() string {
	var b strings.Builder
	for i, field := range slices.Sorted(maps.Keys(e)) {
		if i > 0 {
			b.WriteString("; ")
		}
		if field != "" {
			b.WriteString(field)
			b.WriteString(" ")
		}
		b.WriteString(e[field])
	}
	return b.String()
}

// Error is an error with a status of HTTP, for Mount and Params: 404 for what is not there, 403 for what the
// user may not see. Other errors are logged and shown as 500. Text is shown to the user.
//
// A page that is connected is loaded over HTTP to show the error. Only when Mount fails as the page connects for
// the first time, with an error that is none of these, it stays as it came over HTTP a moment before, and connects
// again after some seconds.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }
