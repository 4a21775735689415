// Package livetest uses the live pages of a site as people do, without a browser and without a network.
//
// A [Browser] has the cookies of one person and opens tabs; a [Page] is a tab. Its methods are what a person does:
// Click, Fill, Submit, Key, Back. What they name they find by CSS selectors, what is there to be seen is read with
// Text, Has, Value and so on.
//
//	func TestTwoPeopleTalk(t *testing.T) {
//		site := newChat(t)
//		ann := livetest.Open(t, site, "/rooms/lobby")
//		bob := livetest.Open(t, site, "/rooms/lobby")
//
//		ann.Submit("#post", "text", "hello")
//		bob.WaitFor("#said li:contains(hello)")
//
//		bob.Submit("#post")
//		require.Equal(t, "say something", bob.Text("#error"))
//	}
//
// The file story_test.go has it all.
//
// # How it works
//
//	test ── Open ──► GET over HTTP ───────────────────────────► Site
//	     ── Click ─► the page: forms, links, ─ events ────────► session ─► view
//	     ◄─ Text ─── history, what was typed ◄─ frames, checked ──┘
//
// A page comes over HTTP at first, with cookies and redirects. Then it joins over a connection in memory and does
// what the client in a browser does: it applies each frame to what it has. So every test of a view also tests what
// went over the wire. An action is over when the server has acknowledged it and the page has taken in all that
// came before; changes that come from elsewhere are waited for with [Page.WaitFor] and [Page.WaitUntil].
//
// # What fails a test
//
// Besides what is asked for and not there:
//
//   - a frame that is none of the protocol or does not fit the page;
//   - a page that is not, byte for byte, what its template shows of the state, after any frame;
//   - two elements with one id; an element with live-hook or live-update, or a form with live-change, that has no id;
//   - a click on what is hidden or disabled, or that does nothing; a value that a field does not take;
//   - an event that the view does not know;
//   - a func of the view that panics ([WithPanics] permits it);
//   - a server that does not answer, or closes the connection.
//
// What happened in the background and was not looked at any more is told when the test ends.
//
// # Time
//
// Tests may run in parallel. In a bubble of [testing/synctest], in which the site and its pages must be made, all that needs
// no time to pass has happened before a method looks at the page, and WaitFor lets hours pass in a moment. A frame that the
// user did not ask for may come 16 ms after the one before: wait for what others did in a bubble, too.
//
// # What it does not do
//
// Hooks and other scripts do not run: [Page.Hook] stands in for one, [Page.Pushed] tells what one would hear.
// Debounce and throttle do not delay what is sent, and what live-confirm asks is answered with yes. Since each
// action waits for the server, nothing is ever locked, and what happens to somebody who is quicker than the
// network does not happen. The limits of a WebSocket (EventRate, EventBurst, MaxFrame, WriteWait) are not those of
// a connection in memory. Styles count only in the attributes hidden and style. The contents of an element with
// live-update="ignore" are as the server rendered them.
package livetest
