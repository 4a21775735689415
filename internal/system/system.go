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
	one struct{}
)

// Context returns a context whose appends may use reserved names.
func Context(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is reports whether ctx was made by Context.
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }

// Raw returns a context whose reads give events as they are stored: neither opened, nor decoded, nor upcast.
func Raw(ctx context.Context) context.Context { return context.WithValue(ctx, raw{}, true) }

// IsRaw reports whether ctx was made by Raw.
func IsRaw(ctx context.Context) bool { return ctx.Value(raw{}) != nil }

// A Transaction is what the inline funcs of the appends of one transaction tell each other. One goroutine at a
// time has it.
type Transaction struct {
	// Left are those who leave its events to whoever follows the log: they must leave the later ones, too, which
	// cannot see the earlier before these are committed.
	Left map[any]bool
}

// Within returns a context for the inline funcs of one transaction.
func Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, one{}, &Transaction{Left: map[any]bool{}})
}

// TransactionOf returns the transaction that ctx was made for, or one of its own.
func TransactionOf(ctx context.Context) *Transaction {
	if t, ok := ctx.Value(one{}).(*Transaction); ok {
		return t
	}
	return &Transaction{Left: map[any]bool{}}
}
