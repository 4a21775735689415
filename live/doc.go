// Package live serves pages that are rendered on the server and move in the browser.
//
// A [View] says what a page is: the state behind it, what begins and changes that state, and the
// html/template that shows it. A [Site] serves views: first as a plain page over HTTP, then, when the
// page has connected, over a WebSocket, where it sends what changed. A [Ctx] is what the funcs of a view
// know of the page they run for.
//
//	browser ──GET──► Site ──► Mount, Params ──► template ──► page
//	   │
//	   └─WebSocket─► session, one goroutine:
//	                   Mount, Params ──┐
//	                   events (On) ────┤                     hashes of what was sent
//	                   Receive, Async ─┼──► state ──► template ──► what changed ──► browser
//	                   Every, After ───┘
//
// # One goroutine a page
//
// All funcs of one page are called one after the other, so that the state needs no locks. A page that is waiting
// costs two goroutines that sleep. The page is rendered after the funcs have run, when something could have changed
// and the connection can take a frame: a client that is slow gets fewer frames, each of them from what it has to
// what is newest. What the user does is answered at once; of frames that nobody asked for there is one in 16 ms at
// most.
//
// An event is acknowledged with the frame that shows what it did, so that the page never looks done before it is.
//
// # What can fail
//
// A func that panics is logged with its stack, and the page is mounted again, in the same browser and at the same
// URL; what the user has typed stays. So it is when the template fails. A page for which this happens four times in
// 30 s is told to come back after some seconds. Errors returned by the func of an event are [Errors], shown at the
// fields they name; or have a text for the user by [Options].Explain; or are logged, and the user is told that
// something went wrong.
//
// # Without JavaScript
//
// The first rendering is a whole page. Links work as links; a form with method="post" and a button name="_event"
// value="NAME" does what the event NAME does, and answers with a redirect, or with the page and its errors.
package live
