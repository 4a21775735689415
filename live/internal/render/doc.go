// Package render turns an unmodified html/template into frames that hold only what changed.
//
// A [Template] is an html/template prepared for tracking, a [View] remembers what one client, or all that
// share it, have already been told, and a [Client] is a model of that client for tests.
//
//	data ──► html/template ──► recorder ──► hashes + bytes ──► View ──► frame ──► Client
//	          (escapes)         (splits)     of this render     (diff with the hashes of the last one)
//
// # Splitting
//
// html/template escapes its parse tree in place before the first execution, and text/template then
// writes each text node as the slice that the tree holds and each printed action with one Write.
// A recorder therefore tells static text from dynamic text by the identity of the slice, never by
// content: no data can forge a boundary, and every dynamic is exactly what html/template escaped.
// Marker text nodes, put into the tree after escaping, say where bodies and control actions begin
// and end. A body is one list of nodes: a template, a branch, or what a range repeats; it has an id
// and a fixed number of slots. Parts that cannot be split are one dynamic each: ranges that hold
// break or continue, and templates called inside an attribute, a script or a style.
//
// The first call of [New] tests that html/template still writes in this way. Should it not, every
// page is one dynamic: frames grow, and pages stay right.
//
// # Frames
//
// A frame is one JSON value.
//
//	frame       = full | patch | {"p": patch, "s": statics}
//	full        = {"d": row, "s": statics}
//	statics     = [[body, shape, text, text, …], …]
//	shape       = 0 | 1 | [0 | 1, scope, …]
//	scope       = [id, text, offset, text, offset]
//	row         = [dynamic, …]
//	dynamic     = string | group | stream
//	group       = 0 | [body, row, …]
//	stream      = {"o": [sop, …]}
//	sop         = [0, id, …]                      delete
//	            | [1, body, at, limit, row, …]    insert
//	            | [2]                             remove all
//	            | [3, body, row, …]               update
//	patch       = [slot, string | group | edit | stream, …]
//	edit        = [op, …]
//	op          = [0, at] | [0, at, n]            delete
//	            | [1, at, row, …]                 insert
//	            | [2, from, to] | [2, from, to, n] move
//	            | [3, index, …]                   permute
//	            | [4, index, patch, …]            update
//
// A full frame makes the client forget everything and start with the root row, whose body is 0.
// A body with k slots has k+1 texts; its HTML is text, dynamic, text, …, text.
// The texts of a body are sent once, in the first frame that uses the body.
// A row has one dynamic for each slot of its body.
// A slot is a string for ever, a group for ever, or a stream for ever.
// A group is 0 when it prints nothing, else the rows of one body, printed one after another.
// A patch names the slots that changed, in ascending order, with the value each has now.
// A group in a patch replaces the old one; an edit changes it, and begins with an array where a group
// begins with a number.
// The ops of an edit apply in order, each to the result of the one before, and all rows keep the body.
// Deletes come first, from the highest index to the lowest; then moves, or one permutation; then
// inserts, ascending; then at most one update.
// A delete takes n rows (1 when absent) from index at.
// An insert puts its rows before the row that was at index at.
// A move takes n rows (1 when absent) out from index from and puts them back at index to of the rest.
// A permutation names each index once: row i of the result is the row that was at the i-th index.
// An update patches rows in place, in ascending order of their index.
//
// The shape of a body helps a client to change as little of the page as it can; it may be ignored.
// Its number is 1 when every row of the body is one element with an id, and white space around it,
// so that the row can be put in, moved and taken out as that element.
// A scope is an element with a fixed id inside the body: it begins in a text, by its number, at an
// offset in UTF-16 code units, and ends in a later text, behind its end tag, or behind its tag if it is void.
// So the slots from the first number up to, but not with, the second are inside it. Scopes that hold no slot
// are left out. The outer come before the inner.
// The markup of a scope or of such a row, parsed by itself as the content of a template element, is the
// element that a parser of the whole page sees; no other element of the page has the id of a scope, unless
// the data bring it. What a parser could see otherwise, as a div in a p, is no scope, and makes no such row.
// Values of template.HTML are taken to be whole, and to be allowed where they stand.
//
// A stream is a list that neither side keeps as data: the rows are elements of the page and nothing else. Its
// slot stands in an element with a fixed id and live-update="stream", which holds nothing besides; each row
// is one element with an id. The ops apply in order to the children of that element. A delete takes out
// the elements with these ids; one that is not there is no error. An insert puts its rows, in their order,
// before the child at index at, or behind the last if at is -1 or beyond it; a row whose id is there already replaces
// that element where it stands. After the insert a limit n > 0 leaves the first n children and a limit n < 0
// the last -n. An update replaces the elements whose ids are there and ignores the others.
// A stream in a row begins with remove all; so does every one of a full frame. A patch names a stream only if it
// has ops.
//
// An edit is never longer than the group that would replace it. Text that is not valid UTF-8 arrives
// with U+FFFD for each bad byte, as JSON demands.
//
// # Lists
//
// Rows of a range keep their identity by the first dynamic inside the id attribute of the first tag
// that the body opens, as in <tr id="trade-{{.ID}}">; the tag may stand in a template that the body
// calls first. Rows without such an id keep their identity by index.
package render
