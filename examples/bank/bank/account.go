package bank

import (
	"errors"
	"maps"

	"github.com/levada-go/levada/aggregate"
)

// An Account has money, some of which may be held for transfers that are under way.
type Account struct {
	Open    bool
	Balance int64            // in cents, without what is held
	Holds   map[string]int64 // by transfer
}

// Clone makes it cheap to take back what could not be stored.
func (a Account) Clone() Account {
	a.Holds = maps.Clone(a.Holds)
	return a
}

// What happens to accounts.
type (
	Opened    struct{ Account string }
	Deposited struct{ Amount int64 }
	Held      struct {
		Transfer string
		Amount   int64
	}
	Released struct{ Transfer string } // the hold: the money is there again
	Captured struct{ Transfer string } // the hold: the money has left
	Received struct {
		Transfer string
		Amount   int64
	}
	Closed struct{}
)

// AccountEvent is an event of accounts.
type AccountEvent = aggregate.Event[Account]

func (e Opened) Apply(a *Account)    { a.Open = true }
func (e Closed) Apply(a *Account)    { a.Open = false }
func (e Deposited) Apply(a *Account) { a.Balance += e.Amount }
func (e Received) Apply(a *Account)  { a.Balance += e.Amount }
func (e Captured) Apply(a *Account)  { delete(a.Holds, e.Transfer) }

func (e Held) Apply(a *Account) {
	if a.Holds == nil {
		a.Holds = map[string]int64{}
	}
	a.Holds[e.Transfer] = e.Amount
	a.Balance -= e.Amount
}

func (e Released) Apply(a *Account) {
	a.Balance += a.Holds[e.Transfer]
	delete(a.Holds, e.Transfer)
}

// Why accounts refuse.
var (
	ErrNoAccount = errors.New("bank: there is no such account, or it is closed")
	ErrFunds     = errors.New("bank: not enough money")
	ErrAmount    = errors.New("bank: an amount must be positive")
	ErrMoney     = errors.New("bank: there is money in the account")
)

// What people ask of accounts.
type (
	Open    struct{ Account string }
	Deposit struct {
		Account string
		Amount  int64
	}
	Close struct{ Account string }
)

// What transfers ask of accounts.
type (
	Hold struct {
		Account, Transfer string
		Amount            int64
	}
	Release struct{ Account, Transfer string }
	Capture struct{ Account, Transfer string }
	Receive struct {
		Account, Transfer string
		Amount            int64
	}
)

func (c Open) AggregateID() string    { return c.Account }
func (c Deposit) AggregateID() string { return c.Account }
func (c Close) AggregateID() string   { return c.Account }
func (c Hold) AggregateID() string    { return c.Account }
func (c Release) AggregateID() string { return c.Account }
func (c Capture) AggregateID() string { return c.Account }
func (c Receive) AggregateID() string { return c.Account }

func (c Open) Execute(a Account) ([]AccountEvent, error) {
	if a.Open {
		return nil, nil
	}
	return []AccountEvent{Opened(c)}, nil
}

func (c Deposit) Execute(a Account) ([]AccountEvent, error) {
	switch {
	case !a.Open:
		return nil, ErrNoAccount
	case c.Amount <= 0:
		return nil, ErrAmount
	}
	return []AccountEvent{Deposited{c.Amount}}, nil
}

func (c Close) Execute(a Account) ([]AccountEvent, error) {
	switch {
	case a.Balance != 0 || len(a.Holds) > 0:
		return nil, ErrMoney
	case !a.Open:
		return nil, nil
	}
	return []AccountEvent{Closed{}}, nil
}

func (c Hold) Execute(a Account) ([]AccountEvent, error) {
	switch {
	case !a.Open:
		return nil, ErrNoAccount
	case c.Amount > a.Balance:
		return nil, ErrFunds
	}
	return []AccountEvent{Held{c.Transfer, c.Amount}}, nil
}

func (c Release) Execute(a Account) ([]AccountEvent, error) {
	if _, ok := a.Holds[c.Transfer]; !ok {
		return nil, nil
	}
	return []AccountEvent{Released{c.Transfer}}, nil
}

func (c Capture) Execute(a Account) ([]AccountEvent, error) {
	if _, ok := a.Holds[c.Transfer]; !ok {
		return nil, nil
	}
	return []AccountEvent{Captured{c.Transfer}}, nil
}

func (c Receive) Execute(a Account) ([]AccountEvent, error) {
	if !a.Open {
		return nil, ErrNoAccount
	}
	return []AccountEvent{Received{c.Transfer, c.Amount}}, nil
}

// Accounts keeps accounts in streams named "account-…".
var Accounts = &aggregate.Type[Account]{
	Name: "account",
	Events: aggregate.Events[Account]{
		"account.opened":    Opened{},
		"account.deposited": Deposited{},
		"account.held":      Held{},
		"account.released":  Released{},
		"account.captured":  Captured{},
		"account.received":  Received{},
		"account.closed":    Closed{},
	},
}
