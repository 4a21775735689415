package natsstore

import "errors"

// Errors of Open, found with errors.Is.
var (
	// ErrConfig reports a JetStream stream that is there and cannot be a store: its
	// configuration loses events, or lacks what the store needs. The message names
	// each setting. It also reports a server that is too old, and a stream of another
	// name that has the store's subjects. Nothing was changed.
	ErrConfig = errors.New("natsstore: unfit configuration")
	// ErrNotStore reports a JetStream stream that holds something else, or a
	// message in a store that is not of this package.
	ErrNotStore = errors.New("natsstore: not an event store")
	// ErrNewerFormat reports a store that was made by a later version of this
	// package. It was not touched.
	ErrNewerFormat = errors.New("natsstore: newer format")
	// ErrLocked reports a directory that another process, or another OpenEmbedded
	// of this one, has open.
	ErrLocked = errors.New("natsstore: locked")
)

// ErrDamaged reports an event that should be there and is not: somebody has
// removed messages from the JetStream stream by other means than this package.
var ErrDamaged = errors.New("natsstore: damaged")
