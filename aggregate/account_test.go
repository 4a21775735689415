package aggregate_test

import (
	"errors"

	"github.com/levada-go/levada/aggregate"
)

// The aggregate of most tests: an account.

type account struct{ Balance, Count int }

type event = aggregate.Event[account]

type deposited struct{ Amount int }

func (e deposited) Apply(a *account) { a.Balance += e.Amount; a.Count++ }

type withdrawn struct{ Amount int }

func (e withdrawn) Apply(a *account) { a.Balance -= e.Amount; a.Count++ }

func accounts() *aggregate.Type[account] {
	return &aggregate.Type[account]{
		Name:   "account",
		Events: aggregate.Events[account]{"deposited": deposited{}, "withdrawn": withdrawn{}},
	}
}

var errPoor = errors.New("not enough money")

type deposit struct {
	ID     string
	Amount int
}

func (c deposit) AggregateID() string { return c.ID }

func (c deposit) Execute(account) ([]event, error) {
	if c.Amount == 0 {
		return nil, nil
	}
	return []event{deposited{c.Amount}}, nil
}

type withdraw struct {
	ID     string
	Amount int
}

func (c withdraw) AggregateID() string { return c.ID }

func (c withdraw) Execute(a account) ([]event, error) {
	if a.Balance < c.Amount {
		return nil, errPoor
	}
	return []event{withdrawn{c.Amount}}, nil
}

// A custom command has its Execute given.
type custom struct {
	ID string
	Do func(account) ([]event, error)
}

func (c custom) AggregateID() string { return c.ID }

func (c custom) Execute(a account) ([]event, error) { return c.Do(a) }
