// Package match is the command "exchange match": it runs a file of orders
// through the order book and writes what happens, as JSON lines.
//
//	exchange match [flags] [FILE]
//
// Without FILE, or with "-", it reads standard input.
//
// # Input
//
// One JSON object a line, in UTF-8, at most [MaxLine] bytes long; lines of white
// space are skipped. The operations and their fields:
//
//	{"op":"new","id":1,"side":"buy","type":"limit","tif":"gtc","qty":100,"price":1250,
//	 "stop":0,"owner":"a","post_only":false}
//	{"op":"cancel","id":1,"owner":"a"}
//	{"op":"modify","id":1,"qty":50,"price":1251,"stop":1260,"owner":"a"}
//	{"op":"book","depth":10}
//
// "new" needs id and side; type is limit (default), market, stop, stop_limit,
// take_profit or take_profit_limit; tif is gtc (default), ioc or fok. Prices are
// whole ticks and quantities whole lots. Orders without an owner, or with the
// owner "", belong to somebody different each. "modify" replaces the fields it
// gives: qty is the new open quantity, stop that of an order that waits for its
// stop price. With an owner, "cancel" and "modify" reach that owner's orders
// only. "book" prints the depth best levels of each side, all if depth is 0 or
// absent.
//
// An id is a JSON number or string and is printed as it came. Ids are the same if
// they are spelled the same: 1, 1.0 and "1" are three ids. So are owners.
//
// A line that is none of this — other or repeated fields, text behind the object,
// fractions or exponents where a whole number belongs — is malformed: it is
// reported with its number on standard error, changes nothing, and the run goes
// on. An order that is well formed but impossible (no quantity, an id that is
// live, …) is not malformed but rejected, and answered on standard output.
//
// # Output
//
// JSON lines, in the order in which things happen:
//
//	{"trade":{"maker":2,"taker":4,"price":1251,"qty":100}}
//	{"order":{"line":7,"id":4,"status":"filled"}}
//	{"order":{"line":8,"id":5,"status":"rejected","reason":"unknown order"}}
//	{"book":{"bids":[{"price":1250,"qty":100,"orders":[{"id":1,"qty":100}]}],"asks":[]}}
//
// An order line is written whenever an order becomes open (it rests, waits for
// its stop price, or was modified and is still there), filled, cancelled, or when
// a command was rejected; line is the number of the input line that caused it.
// The book, which is what rests and not what waits for its stop price, is written
// for "book" and, whole, at the end. With -summary, one object at the end
// replaces all of this.
//
// # Storage
//
// With -store, every command goes through levada: it is one event in the stream
// of the book's aggregate, and its results are written only once that event is
// durable. Up to -inflight commands are under way at a time, which changes
// neither order nor results. A run that was interrupted is continued with
// -resume and the same input: it first writes the results of durable commands
// that had not been written, then goes on behind them, so that both outputs
// together are that of one uninterrupted run. What has been written is noted in
// FILE.out beside the store; only a kill in the microseconds between a write to
// standard output and its note makes results appear twice, none is ever lost.
// (After a crash of the whole machine the output is as complete as the medium it
// was written to.)
//
// # Exit status
//
// 0 if all went well, 1 if a line was malformed, 2 if the run could not be
// started or finished: unusable flags, files, store, or output.
package match
