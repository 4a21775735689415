package memstore

import "github.com/levada-go/levada/eventstore"

// Options configures [Open]. A nil *Options means the defaults.
type Options struct {
	Store eventstore.Options // of the portable store
}

// Open returns a new, empty store. It cannot fail.
func Open(opt *Options) *eventstore.Store {
	if opt == nil {
		opt = &Options{}
	}
	return eventstore.New(NewDriver(), &opt.Store)
}
