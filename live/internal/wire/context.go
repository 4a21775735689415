package wire

import "context"

type contextKey struct{}

// NewContext returns a context for the request that opens a connection which is already there, so that it
// passes through middleware as an upgrade does.
func NewContext(ctx context.Context, conn Conn) context.Context {
	return context.WithValue(ctx, contextKey{}, conn)
}

// FromContext returns the connection in a context, nil without.
func FromContext(ctx context.Context) Conn {
	conn, _ := ctx.Value(contextKey{}).(Conn)
	return conn
}
