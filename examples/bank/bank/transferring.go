package bank

import (
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/process"
)

// A Transferring is what the process needs to know of a transfer to see it through.
type Transferring struct {
	Transfer, From, To string
	Amount             int64
	Ask, Held, Settled bool // Settled: it was accepted, or did not need to be
}

// TimeToAccept is how long a receiver who is asked may take.
const TimeToAccept = 2 * time.Minute

// Transferrals see each transfer through: the money is held, received, and then leaves.
var Transferrals = &process.Type[Transferring]{
	Name: "transfer",
	Routes: []process.Route[Transferring]{
		process.Start(func(e Sent) string { return e.Transfer }, (*Transferring).sent),
		process.On(func(e Held) string { return e.Transfer }, (*Transferring).held),
		process.On(func(e Accepted) string { return e.Transfer }, (*Transferring).accepted),
		process.On(func(e Received) string { return e.Transfer }, (*Transferring).received),
		process.On(func(e Captured) string { return e.Transfer }, (*Transferring).captured),
		process.End(func(e Completed) string { return e.Transfer }, (*Transferring).completed),
		process.End(func(e Failed) string { return e.Transfer }, (*Transferring).failed),
		process.End(func(e Expired) string { return e.Transfer }, (*Transferring).expired),
		process.Refused((*Transferring).holdRefused),
		process.Refused((*Transferring).receiveRefused),
		process.Refused((*Transferring).expireRefused),
	},
	Commands: map[string]command.Command{"transfer.expire": Expire{}},
}

func (t *Transferring) sent(e Sent) []command.Command {
	*t = Transferring{Transfer: e.Transfer, From: e.From, To: e.To, Amount: e.Amount, Ask: e.Ask, Settled: !e.Ask}
	return []command.Command{Hold{t.From, t.Transfer, t.Amount}}
}

func (t *Transferring) held(Held) []command.Command {
	t.Held = true
	if !t.Settled {
		return []command.Command{process.After(TimeToAccept, Expire{t.Transfer})}
	}
	return t.receive()
}

func (t *Transferring) accepted(Accepted) []command.Command {
	t.Settled = true
	if !t.Held {
		return nil // held will go on
	}
	return append(t.receive(), process.Cancel(Expire{t.Transfer}))
}

func (t *Transferring) receive() []command.Command {
	return []command.Command{Receive{t.To, t.Transfer, t.Amount}}
}

func (t *Transferring) received(Received) []command.Command {
	return []command.Command{Capture{t.From, t.Transfer}}
}

func (t *Transferring) captured(Captured) []command.Command {
	return []command.Command{Complete{t.Transfer}}
}

func (t *Transferring) completed(Completed) []command.Command { return nil }
func (t *Transferring) failed(Failed) []command.Command       { return nil }

func (t *Transferring) expired(Expired) []command.Command {
	return []command.Command{Release{t.From, t.Transfer}}
}

// The sender has not got the money: nothing has happened yet.
func (t *Transferring) holdRefused(_ Hold, err error) []command.Command {
	return []command.Command{Fail{t.Transfer, err.Error()}}
}

// The receiver's account is closed: the sender gets the money back.
func (t *Transferring) receiveRefused(_ Receive, err error) []command.Command {
	return []command.Command{Release{t.From, t.Transfer}, Fail{t.Transfer, err.Error()}}
}

// It was accepted in the last moment.
func (t *Transferring) expireRefused(Expire, error) []command.Command { return nil }
