// Package eventstoretest helps to test code that reacts to events, without
// sleeping.
//
// [All] and [Stream] show what a store holds. [Expect] waits for an event, [Wait]
// and [Settle] for projections to have handled what there is.
//
//	func TestATransferArrives(t *testing.T) {
//		store, app := open(t)
//		app.Dispatch(t.Context(), bank.Send{From: "a", To: "b", Amount: 7})
//		eventstoretest.Expect(t, store, func(e bank.Received) bool { return e.Amount == 7 })
//		eventstoretest.Settle(t, app.Group, store)
//		…
//	}
//
// [Faulty] makes a driver fail on demand, [Share] gives several processes' handles
// on one.
//
// With memstore, prefer testing/synctest: inside a bubble, synctest.Wait returns
// when every projection is idle, and nothing need poll. All of this package works
// there too.
package eventstoretest
