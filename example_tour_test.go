package levada_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// An Account is what must be known of an account to decide about it.
type Account struct{ Balance int }

type Event = aggregate.Event[Account]

var Accounts = &aggregate.Type[Account]{
	Name: "account",
	Events: aggregate.Events[Account]{
		"account.deposited": Deposited{},
		"account.withdrawn": Withdrawn{},
	},
}

// Events have happened: they change the state and cannot fail.
type (
	Deposited struct{ Amount int }
	Withdrawn struct{ Amount int }
)

func (e Deposited) Apply(a *Account) { a.Balance += e.Amount }
func (e Withdrawn) Apply(a *Account) { a.Balance -= e.Amount }

// Commands are asked for: they are answered with events, or refused.
type (
	Deposit struct {
		Account string
		Amount  int
	}
	Withdraw struct {
		Account string
		Amount  int
	}
)

func (c Deposit) AggregateID() string  { return c.Account }
func (c Withdraw) AggregateID() string { return c.Account }

var ErrFunds = errors.New("insufficient funds")

func (c Deposit) Execute(Account) ([]Event, error) {
	return []Event{Deposited{c.Amount}}, nil
}

func (c Withdraw) Execute(a Account) ([]Event, error) {
	if c.Amount > a.Balance {
		return nil, ErrFunds
	}
	return []Event{Withdrawn{c.Amount}}, nil
}

// A Vault is a read model: what all accounts together hold.
type Vault struct{ Cash int }

func deposited(_ context.Context, v *Vault, e Deposited, _ *eventstore.Recorded) error {
	v.Cash += e.Amount
	return nil
}

func withdrawn(_ context.Context, v *Vault, e Withdrawn, _ *eventstore.Recorded) error {
	v.Cash -= e.Amount
	return nil
}

// A whole program: an aggregate, a read model that is awaited, and a subscription.
func Example() {
	store := memstore.Open(nil)
	defer store.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	var vault projection.Memory[Vault]
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{Accounts},
		Projections: []projection.Runner{&projection.Projection[*Vault]{
			Name:     "vault",
			Target:   &vault,
			Handlers: []projection.Handler[*Vault]{projection.On(deposited), projection.On(withdrawn)},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	go app.Run(ctx)

	withdrawals, err := eventstore.SubscribeTo[Withdrawn](ctx, store, eventstore.Filter{}, eventstore.Origin())
	if err != nil {
		log.Fatal(err)
	}

	for _, c := range []command.Command{Deposit{"ann", 100}, Deposit{"bob", 20}, Withdraw{"ann", 30}, Withdraw{"bob", 30}} {
		res, err := app.Dispatch(ctx, c, command.Wait("vault"))
		vault.View(func(v *Vault, _ eventstore.Position) {
			fmt.Printf("%+v: %v %v; %d in the vault\n", c, res.Events, err, v.Cash)
		})
	}
	batch := <-withdrawals.C
	fmt.Println("withdrawn:", batch.Events[0].Amount)

	// Output:
	// {Account:ann Amount:100}: [{100}] <nil>; 100 in the vault
	// {Account:bob Amount:20}: [{20}] <nil>; 120 in the vault
	// {Account:ann Amount:30}: [{30}] <nil>; 90 in the vault
	// {Account:bob Amount:30}: [] insufficient funds; 90 in the vault
	// withdrawn: 30
}
