package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/internal/storeurl"
)

// A Place is where a program keeps its events, as its flags -db and -store say.
type Place struct {
	url  string // as storeurl takes it
	file string // of SQLite, else ""
}

// StoreHelp says what -store takes, for the help of a flag, in lines of some 80 bytes.
func StoreHelp() string {
	help, line := "the `STORE`, one of", 0
	for i, form := range storeurl.Forms() {
		if i > 0 {
			help += ","
		}
		if line += len(form) + 2; i == 0 || line > 80 {
			help, line = help+"\n"+form, len(form)
		} else {
			help += " " + form
		}
	}
	return help
}

// ParsePlace returns the place that -db or -store names, or that of a file where neither does. An error says which flag is
// wrong, and holds no password.
func ParsePlace(db, store string, file func() (string, error)) (*Place, error) {
	switch {
	case db != "" && store != "":
		return nil, errors.New("-db and -store say the same; give one of them")
	case db != "":
		store = "sqlite:" + db
	case store == "":
		path, err := file()
		if err != nil {
			return nil, fmt.Errorf("there is no folder for data (%w); name a file with -db", err)
		}
		store = "sqlite:" + path
	}
	if storeurl.Check(store) != nil {
		return nil, fmt.Errorf("-store %q is not one of %s", storeurl.Describe(store), strings.Join(storeurl.Forms(), ", "))
	}
	p := &Place{url: store}
	p.file, _ = strings.CutPrefix(store, "sqlite:")
	if p.file == store {
		p.file = ""
	}
	return p, nil
}

// Open opens the store for a program of a name, and makes the folder of a file. Nil options are the defaults. No error
// holds a password.
func (p *Place) Open(ctx context.Context, name string, opt *eventstore.Options) (*eventstore.Store, error) {
	if p.file != "" {
		if err := os.MkdirAll(filepath.Dir(p.file), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the folder of %s: %w; -db names another file", p.file, err)
		}
	}
	store, err := storeurl.Open(ctx, p.url, opt)
	switch {
	case errors.Is(err, sqlitestore.ErrLocked):
		return nil, &usedError{name, p.file, err}
	case err != nil:
		if engine := errors.Unwrap(err); engine != nil { // which says what, not where
			err = engine
		}
		return nil, fmt.Errorf("cannot open %s: %w", p, oneLine{err})
	}
	return store, nil
}

// usedError says that another process has the file.
type usedError struct {
	name, file string
	err        error
}

func (e *usedError) Error() string {
	return fmt.Sprintf("another %s uses %s; -db names another file", e.name, e.file)
}
func (e *usedError) Unwrap() error { return e.err }

// oneLine is an error in one line: drivers may tell of each address that they tried in a line of its own.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }

// String says in words where things are kept.
func (p *Place) String() string {
	switch {
	case p.url == "memory:":
		return "memory, and forgotten at the end"
	case p.file != "":
		return p.file
	}
	return storeurl.Describe(p.url)
}
