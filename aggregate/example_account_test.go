package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// An Account is what a bank account must remember to decide.
type Account struct {
	Open    bool
	Balance int
}

// AccountEvent is an event of an Account.
type AccountEvent = aggregate.Event[Account]

// Accounts are kept in streams named "bank_account-" and the account's number.
var Accounts = &aggregate.Type[Account]{
	Name: "bank_account",
	Events: aggregate.Events[Account]{
		"bank_account.opened":    Opened{},
		"bank_account.deposited": Deposited{},
		"bank_account.withdrawn": Withdrawn{},
	},
}

// What happens to an account.
type (
	Opened    struct{ Owner string }
	Deposited struct{ Amount int }
	Withdrawn struct{ Amount int }
)

func (Opened) Apply(a *Account)      { a.Open = true }
func (e Deposited) Apply(a *Account) { a.Balance += e.Amount }
func (e Withdrawn) Apply(a *Account) { a.Balance -= e.Amount }

// OpenAccount opens an account. To open it again changes nothing.
type OpenAccount struct{ Number, Owner string }

func (c OpenAccount) AggregateID() string { return c.Number }

func (c OpenAccount) Execute(a Account) ([]AccountEvent, error) {
	if a.Open {
		return nil, nil
	}
	return []AccountEvent{Opened{c.Owner}}, nil
}

// Deposit pays money in.
type Deposit struct {
	Number string
	Amount int
}

func (c Deposit) AggregateID() string { return c.Number }

func (c Deposit) Execute(a Account) ([]AccountEvent, error) {
	if !a.Open {
		return nil, ErrNoAccount
	}
	return []AccountEvent{Deposited{c.Amount}}, nil
}

// Withdraw pays money out.
type Withdraw struct {
	Number string
	Amount int
}

func (c Withdraw) AggregateID() string { return c.Number }

func (c Withdraw) Execute(a Account) ([]AccountEvent, error) {
	switch {
	case !a.Open:
		return nil, ErrNoAccount
	case a.Balance < c.Amount:
		return nil, ErrFunds
	}
	return []AccountEvent{Withdrawn{c.Amount}}, nil
}

// Errors a command may be refused with.
var (
	ErrNoAccount = errors.New("no such account")
	ErrFunds     = errors.New("insufficient funds")
)

// A bank account, from its rules to its use.
func Example_account() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	accounts, err := aggregate.New(store, Accounts)
	if err != nil {
		log.Fatal(err)
	}

	if _, err := accounts.Execute(ctx, OpenAccount{"7", "ann"}); err != nil {
		log.Fatal(err)
	}
	res, err := accounts.Execute(ctx, Deposit{"7", 100})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Stream, "is at version", res.Version, "after", res.Events)

	_, err = accounts.Execute(ctx, Withdraw{"7", 500})
	fmt.Println("refused:", err, errors.Is(err, ErrFunds))

	// Without waiting in between: decided in this order, appended together.
	a := accounts.Submit(ctx, Withdraw{"7", 30})
	b := accounts.Submit(ctx, Withdraw{"7", 30})
	for _, p := range []*command.Pending{a, b} {
		if _, err := p.Wait(ctx); err != nil {
			log.Fatal(err)
		}
	}

	err = accounts.View(ctx, "7", func(a *Account, v eventstore.Version) {
		fmt.Println("balance", a.Balance, "at version", v)
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// bank_account-7 is at version 2 after [{100}]
	// refused: insufficient funds true
	// balance 40 at version 4
}
