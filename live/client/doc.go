// Package client holds the script that keeps a live page in step with its server.
//
// [JS] is the script and [Name] a file name for it. It is built from src, has no dependencies at run time, and
// needs neither eval nor inline scripts or styles, so a page may forbid both.
//
//	             click, submit, change …  ┌────────┐  ["e",…]
//	┌──────────┐ ───────── events ──────► │        │ ─────────► ┌────────┐
//	│ document │                          │ locks  │   socket   │ server │
//	└──────────┘ ◄─ patch ── tree ◄────── │        │ ◄───────── └────────┘
//	              elements   rows         └────────┘  frames
//
// What the two say to each other is in docs/live-protocol.md, what a frame does to the tree of rows in the package
// documentation of live/internal/render.
//
// # What changes in the document
//
// A row that is one element with an id is put in, moved and taken out as that element. Any other change is
// made by comparing the innermost element with a fixed id around it, or else the whole view, with what it was
// rendered to now, so ids must be unique in the page. Elements stay the same where they can.
//
// What the user typed or chose in a field stays until the server renders another value for it than before, and
// nothing is changed in a text field that has the focus, but for one whose form was sent. A navigation to another view
// keeps nothing of that.
//
// A <details> or <dialog> that the user, or a script, opened or closed stays so until the server renders its attribute
// open otherwise than before; so does the size that the user dragged a <textarea> to. When a dialog is not rendered open
// any more it is closed by its method, and is not modal then. What no attribute tells, such as popovers, scroll positions, selections
// and what a video plays, stays as long as its element does, and an element whose id is another is another element.
//
// An element whose event is on its way is locked: it and what is inside it change when the server has answered. It
// has the classes live-loading and live-KIND-loading until then, and drops clicks. The fields of a form that is sent are
// readonly and its buttons disabled meanwhile.
//
// # Attributes
//
//	live-click="EVENT"              with live-value-NAME="…" and the value of the element
//	live-click-away="EVENT"         a click anywhere else, while the element can be seen
//	live-submit="EVENT"             empty: the event is the value of the button or field named _event
//	live-keep                       keep what was typed into the form, too, when the view has dealt with it;
//	                                otherwise its fields then show what is rendered in them
//	live-change="EVENT"             of a form, or of one field
//	live-keydown, live-keyup        live-window-keydown, live-window-keyup: wherever the focus is;
//	                                live-key="Enter" chooses one key
//	live-focus, live-blur           live-window-focus, live-window-blur
//	live-debounce="MS|blur"         send when things are quiet (300), or when the field is left; of a field or its form.
//	                                What waits is sent before the form is, and when another field changes
//	live-throttle="MS"              send at once, then no more than every MS (300); the last change is sent in the end,
//	                                and a key that is pressed anew always
//	live-disable-with="TEXT"        disable until the server has answered, and show TEXT if there is any
//	live-confirm="QUESTION"         ask before a click does anything
//	live-patch, live-navigate       of a link: within the view, and to another one
//	live-update="ignore"            the element is the page's own; only data-* attributes change
//	live-update="stream"            the element holds the rows of a stream
//	live-region="NAME"              the element holds a region
//	live-hook="NAME"                see below; needs an id
//	live-trigger-action             send this form to its action without the client, once, when this is rendered
//	live-auto-recover="EVENT|ignore"  what to send in place of live-change when the page has joined again
//	live-banner                     shown while the connection is lost for more than 500 ms, hidden else;
//	                                also outside the view
//
// When a page has joined again, each form with an id and live-change that the user has used is sent again as a change,
// before the new rendering can take away what was typed. Before the first join a form with method="post" is sent by the browser.
//
// # Scripts
//
// A script that is loaded with defer may use the global live:
//
//	live.hook("Chart", {
//	  mounted() {                   // also beforeUpdate, updated, destroyed, disconnected, reconnected
//	    draw(this.el, this.el.dataset.points)
//	    this.handle("tick", (payload) => …)              // until the element is gone
//	    this.push("zoom", { to: 7 }, (reply) => …)       // also returns a promise, rejected without a connection
//	  },
//	})
//	live.params = { zone: () => Intl.DateTimeFormat().resolvedOptions().timeZone } // told when joining
//	const off = live.on("tick", (payload) => …)          // also an event live:tick of window
//	live.connected; live.debug(true); live.latency(200)  // the last two for the tab, kept in sessionStorage
//
// The events live:connected, live:disconnected (after 500 ms), live:retry (with the milliseconds until the next try),
// live:page-loading-start and live:page-loading-stop (with kind: join, patch or navigate) are the client's own. The root of the view
// and of the document have the classes live-connected, live-loading, live-error and live-disconnected.
//
// A link changes the history at once, not when the server has answered: a join after a loss of the connection
// then goes to where the user wanted to be. Where the server sends him on from there takes the place of that entry.
//
// # Building
//
// In this folder, with node 20.19 or later:
//
//	npm ci && npm run build    checks the types and writes client.js
//	npm run check && npm test  says whether client.js is what src builds, and tests it in jsdom
//
// Of idiomorph (0BSD, see LICENSE-idiomorph) build.mjs takes the matching of nodes and leaves out the rest.
package client
