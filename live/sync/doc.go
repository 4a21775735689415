// Package sync binds fields of a view's state to events: to an aggregate, to a list of them, or to what a
// projection keeps. A field that is bound is read, kept current for as long as the page is there, and never goes
// back in time. There is no code to dispatch changes to pages.
//
//	func mount(ctx *live.Ctx, s *state) error {
//		sync.One(ctx, &s.Quote, quotes, s.ID).OnChange(func() {
//			sync.Many(ctx, &s.Related, quotes, s.Quote.Related)
//		})
//		sync.All(ctx, &s.Ranking, ranking)
//		return nil
//	}
//
// # Sources
//
// A [Source] is what fields are bound to: values by their keys, made once for the process. [Aggregates] shows the
// aggregates of a type, [Model] the rows of a projection's read model, [New] anything else that follows from events.
// However many pages show a value, the source reads it once, and again when one of its events has
// happened; all pages share what was read.
//
//	store ──Follow──► keys that changed ──► read once ──┬─► page: field, render
//	                        ▲                           ├─► page
//	            the projection has got there            └─► page, 5,000 of them
//
// A source that nobody looks at has no goroutine and holds no memory. Values that change often are read at most once in
// an interval, and a page that is busy takes what is newest when it gets to it.
//
// # On the page
//
// Over HTTP a field is read once. When the page is connected, its source first follows the events, then reads:
// nothing is missed in between. [One], [Many], [All] and [Stream] return when the field has its
// first value. After that it changes between the funcs of the view, never during one, and the page is rendered.
//
// Binding a field again ends what it was bound to before; all bindings end with the page.
//
// # Reading your writes
//
// [Dispatch] sends a command and holds back the acknowledgement of the event that caused it until all that the
// page is bound to has come as far as the command's events, so that elements that wait for it stay locked until
// the page shows what they did. [Wrote] does it for what was written in another way. A page that
// reconnects, maybe to another process, is not shown anything older than it has shown before.
//
// # Failures
//
// A value that cannot be read is tried again, with pauses between 100 milliseconds and five seconds, until it can;
// the field keeps what it had, and [Binding.Err] says why. The same holds for a projection that is stopped.
// A store that was closed ends it for good.
package sync
