package schedule

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
)

// Commands that wait are sealed as a whole, for the subjects that their tags name, or else for those of the event in
// whose handling they were given; and so is the error of one that failed.

const (
	sealedCommand = "$timer.command"
	sealedError   = "$timer.error"
)

// place is where the data of a command belongs: it is the same where an alarm is carried to.
func (e *entry) place() eventstore.ID {
	return sealing.Place("timer", e.Key, e.At.UTC().Format("2006-01-02T15:04:05.999999999"))
}

// seal replaces Data by what is kept of it. It is an eventstore.ErrErased to keep anything about somebody who was erased.
func (e *entry) seal(ctx context.Context, copies sealing.Copies, c command.Command, cause *eventstore.Recorded) error {
	subjects := copies.Owners(e.Command, c)
	if len(subjects) == 0 && cause != nil {
		subjects = copies.Subjects(&cause.Event)
	}
	box, err := copies.SealWhole(ctx, e.place(), sealedCommand, c, e.Data, subjects)
	if err != nil || box == nil {
		return err
	}
	e.Sealed, e.Data = box, nil
	_, err = e.open(ctx, copies)
	return err
}

// open returns the data of the command, or an eventstore.ErrErased.
func (e *entry) open(ctx context.Context, copies sealing.Copies) (rawJSON, error) {
	if e.Sealed == nil {
		return e.Data, nil
	}
	return copies.Open(ctx, e.place(), sealedCommand, e.Sealed)
}

// failed notes in e, that of the end of a, why a failed.
func (e *entry) failed(ctx context.Context, copies sealing.Copies, a *alarm, err error) {
	if e.Error = err.Error(); a.Sealed == nil || errors.Is(err, eventstore.ErrErased) {
		return
	}
	text, err := json.Marshal(e.Error)
	if err == nil {
		e.Sealed, err = copies.SealWhole(ctx, a.place(), sealedError, e.Error, text, copies.Kept(a.Sealed))
	}
	if e.Error = ""; err != nil {
		e.Error = "it failed" // why cannot be kept, and the log knows
	}
}
