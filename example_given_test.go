package levada_test

import (
	"testing"

	"github.com/levada-go/levada/aggregate/aggregatetest"
)

// The rules of the tour's accounts, tested without a store.
func TestAnAccountIsNeverOverdrawn(t *testing.T) {
	aggregatetest.Given(t, Accounts, Deposited{100}).
		When(Withdraw{"ann", 70}).Then(Withdrawn{70}).
		When(Withdraw{"ann", 31}).ThenError(ErrFunds).
		When(Withdraw{"ann", 30}).Then(Withdrawn{30})
}
