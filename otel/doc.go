// Package otel tells OpenTelemetry what levada does: spans and metrics of appends, commits, reads, commands, handlers and
// live pages. It is a module of its own, so that nothing else depends on OpenTelemetry.
//
//	HTTP request ──► span ─ command ──► span ─ append ──► span
//	                          │ traceparent in the events' metadata
//	                          ▼
//	             projection, process ──► span ─ command ──► span …
//
// One trace goes from a request through its command to the events, and from them through every handler to the
// commands that these send, in this process and in others: it is carried in the metadata of events (W3C Trace Context).
//
//	t, err := otel.New(nil) // with the global providers
//	store, err := sqlitestore.Open(file, &sqlitestore.Options{Store: eventstore.Options{Trace: t.Store()}})
//	app, err := levada.New(store, levada.Config{
//		Middleware: []command.Middleware{t.Commands()}, // first: outermost
//		Trace:      t.Projections(),
//		…
//	})
//	err = t.ObserveLag(app.Group)
//	site, err := live.NewSite(&live.Options{Trace: t.Site()})
//
// # What is measured
//
// Durations are in seconds, as OpenTelemetry wants them.
//
//	levada.append.duration       histogram, by outcome
//	levada.commit.duration       histogram; levada.commit.events, how many at once; levada.commit.wait
//	levada.read.duration         histogram; levada.read.events
//	levada.subscription.lagging  counter: subscriptions that fell behind and read on from the store
//	levada.command.duration      histogram, by command and outcome: ok, repeated, refused, conflict, error
//	levada.handle.duration       histogram, by projection, type of event and outcome
//	levada.projection.lag        gauge: positions behind; levada.projection.lag.age, seconds
//	levada.live.mount.duration, levada.live.event.duration, levada.live.render.duration, levada.live.render.bytes
//	levada.live.slow, levada.live.panics
//
// Names of streams and ids are never attributes of metrics; they are attributes of spans.
package otel
