package eventstore

import "context"

// Keys of metadata under which the trace that an event belongs to is kept, as HTTP carries it (W3C Trace Context).
const (
	TraceParent = "traceparent"
	TraceState  = "tracestate"
)

// maxTraceState is what every hop must be able to carry of a tracestate, in bytes; longer ones are dropped.
const maxTraceState = 512

type traceKey struct{}

type trace struct{ parent, state string }

// WithTrace returns a context that belongs to a trace: commands dispatched and events appended with it have parent
// and state in their metadata, unless they have others. A parent that is none of W3C Trace Context is ignored, as
// that demands. For a request:
//
//	ctx = eventstore.WithTrace(ctx, r.Header.Get("traceparent"), r.Header.Get("tracestate"))
func WithTrace(ctx context.Context, parent, state string) context.Context {
	if !validTraceParent(parent) {
		return ctx
	}
	if len(state) > maxTraceState || validText("tracestate", state) != nil {
		state = ""
	}
	return context.WithValue(ctx, traceKey{}, trace{parent, state})
}

// TraceOf returns the trace that ctx belongs to: that of [WithTrace], else that of the event being handled; empty
// if there is none.
func TraceOf(ctx context.Context) (parent, state string) {
	if t, ok := ctx.Value(traceKey{}).(trace); ok {
		return t.parent, t.state
	}
	if r := FromContext(ctx); r != nil && validTraceParent(r.Metadata[TraceParent]) {
		return r.Metadata[TraceParent], r.Metadata[TraceState]
	}
	return "", ""
}

// validTraceParent reports whether s is a version, a trace, a parent and flags, as in
// 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, of a version that can be read so.
func validTraceParent(s string) bool {
	const length = 55
	if len(s) < length || len(s) > length && (s[:2] == "00" || s[length] != '-') || len(s) > 255 || s[:2] == "ff" {
		return false
	}
	zero := func(from, to int) bool {
		for i := from; i < to; i++ {
			if s[i] != '0' {
				return false
			}
		}
		return true
	}
	for i := range length {
		switch c := s[i]; {
		case i == 2 || i == 35 || i == 52:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return !zero(3, 35) && !zero(36, 52) && validText("traceparent", s) == nil
}

// traced adds the trace of ctx to metadata that has none. The map may be changed.
func traced(ctx context.Context, meta map[string]string) map[string]string {
	parent, state := TraceOf(ctx)
	if parent == "" || meta[TraceParent] != "" {
		return meta
	}
	if meta == nil {
		meta = make(map[string]string, 2)
	}
	meta[TraceParent] = parent
	if delete(meta, TraceState); state != "" {
		meta[TraceState] = state
	}
	return meta
}
