// Package system marks what the library does on its own behalf: only a context
// made here may write to streams, or under metadata keys, that start with "$", or read
// what is stored as it is.
package system

import "context"

// Waiting is what the names of leases start with by which a process tells others that it waits for
// a position of theirs to be written; the name of who writes it and a slash follow.
const Waiting = "$wait-"

type (
	key struct{}
	raw struct{}
)

// Context returns a context whose appends may use reserved names.
func Context(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is reports whether ctx was made by Context.
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }

// Raw returns a context whose reads give events as they are stored: neither opened, nor decoded, nor upcast.
func Raw(ctx context.Context) context.Context { return context.WithValue(ctx, raw{}, true) }

// IsRaw reports whether ctx was made by Raw.
func IsRaw(ctx context.Context) bool { return ctx.Value(raw{}) != nil }
