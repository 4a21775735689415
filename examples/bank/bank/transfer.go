package bank

import (
	"errors"

	"github.com/levada-go/levada/aggregate"
)

// A Transfer is what its sender and its receiver know of it.
type Transfer struct {
	Sent, Accepted, Over bool
	Ask                  bool // it waits for the receiver to accept
}

// What happens to transfers. The last three end one.
type (
	Sent struct {
		Transfer, From, To string
		Amount             int64
		Ask                bool
	}
	Accepted  struct{ Transfer string }
	Completed struct{ Transfer string }
	Failed    struct{ Transfer, Reason string }
	Expired   struct{ Transfer string }
)

// TransferEvent is an event of transfers.
type TransferEvent = aggregate.Event[Transfer]

func (e Sent) Apply(t *Transfer)      { t.Sent, t.Ask = true, e.Ask }
func (e Accepted) Apply(t *Transfer)  { t.Accepted = true }
func (e Completed) Apply(t *Transfer) { t.Over = true }
func (e Failed) Apply(t *Transfer)    { t.Over = true }
func (e Expired) Apply(t *Transfer)   { t.Over = true }

// Why transfers refuse.
var (
	ErrSent     = errors.New("bank: the transfer was sent before")
	ErrOver     = errors.New("bank: the transfer is over, or was never sent")
	ErrAccepted = errors.New("bank: the transfer was accepted")
	ErrSelf     = errors.New("bank: a transfer needs two accounts")
)

// What people ask of transfers.
type (
	Send struct {
		Transfer, From, To string
		Amount             int64
		Ask                bool // the receiver, within TimeToAccept
	}
	Accept struct{ Transfer string }
)

// What the process asks of transfers.
type (
	Complete struct{ Transfer string }
	Fail     struct{ Transfer, Reason string }
	Expire   struct{ Transfer string }
)

func (c Send) AggregateID() string     { return c.Transfer }
func (c Accept) AggregateID() string   { return c.Transfer }
func (c Complete) AggregateID() string { return c.Transfer }
func (c Fail) AggregateID() string     { return c.Transfer }
func (c Expire) AggregateID() string   { return c.Transfer }

func (c Send) Execute(t Transfer) ([]TransferEvent, error) {
	switch {
	case t.Sent:
		return nil, ErrSent
	case c.Amount <= 0:
		return nil, ErrAmount
	case c.From == c.To:
		return nil, ErrSelf
	}
	return []TransferEvent{Sent(c)}, nil
}

func (c Accept) Execute(t Transfer) ([]TransferEvent, error) {
	switch {
	case !t.Sent || t.Over:
		return nil, ErrOver
	case t.Accepted || !t.Ask:
		return nil, nil
	}
	return []TransferEvent{Accepted(c)}, nil
}

func (c Complete) Execute(t Transfer) ([]TransferEvent, error) {
	return t.end(Completed(c))
}

func (c Fail) Execute(t Transfer) ([]TransferEvent, error) {
	return t.end(Failed(c))
}

func (c Expire) Execute(t Transfer) ([]TransferEvent, error) {
	if t.Accepted {
		return nil, ErrAccepted
	}
	return t.end(Expired(c))
}

func (t Transfer) end(e TransferEvent) ([]TransferEvent, error) {
	if !t.Sent || t.Over {
		return nil, ErrOver
	}
	return []TransferEvent{e}, nil
}

// Transfers keeps transfers in streams named "transfer-…".
var Transfers = &aggregate.Type[Transfer]{
	Name: "transfer",
	Events: aggregate.Events[Transfer]{
		"transfer.sent":      Sent{},
		"transfer.accepted":  Accepted{},
		"transfer.completed": Completed{},
		"transfer.failed":    Failed{},
		"transfer.expired":   Expired{},
	},
}
