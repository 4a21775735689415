package bank_test

import (
	"testing"

	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/process/processtest"
)

var (
	sent  = bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 7}
	asked = bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 7, Ask: true}
)

func TestWhatIsRefusedIsMadeGood(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals, sent).
		When(bank.Held{Transfer: "1", Amount: 7}).Then(bank.Receive{Account: "bob", Transfer: "1", Amount: 7}).
		Refused(bank.Receive{Account: "bob", Transfer: "1", Amount: 7}, bank.ErrNoAccount).
		Then(bank.Release{Account: "ann", Transfer: "1"}, bank.Fail{Transfer: "1", Reason: bank.ErrNoAccount.Error()})
}

func TestAcceptanceAndTheTimerMayMeet(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals, asked).
		When(bank.Held{Transfer: "1", Amount: 7}).Then(process.After(bank.TimeToAccept, bank.Expire{Transfer: "1"})).
		After(bank.TimeToAccept).Then(bank.Expire{Transfer: "1"}).
		Refused(bank.Expire{Transfer: "1"}, bank.ErrAccepted).ThenNothing()
}

func TestAcceptanceMayComeBeforeTheMoneyIsHeld(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals, asked).
		When(bank.Accepted{Transfer: "1"}).ThenNothing().
		When(bank.Held{Transfer: "1", Amount: 7}).Then(bank.Receive{Account: "bob", Transfer: "1", Amount: 7})
}
