// Package processtest tests processes in the form given, when, then, without a store:
//
//	processtest.Given(t, bank.Transferrals).
//		When(bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 7}).Then(bank.Hold{"ann", "1", 7}).
//		When(bank.Held{"1", 7}).Then(bank.Receive{"bob", "1", 7}).
//		Refused(bank.Receive{"bob", "1", 7}, bank.ErrNoAccount).
//		Then(bank.Release{"ann", "1"}, bank.Fail{"1", bank.ErrNoAccount.Error()})
//
// A [Scenario] also checks what a test would not think of: that the Type can be run at all,
// that every state survives being stored, and that routes are deterministic, by calling each twice.
package processtest
