package process

import (
	"time"

	"github.com/levada-go/levada/command"
)

// After, among the commands that a route returns, has c sent d after the event, unless the
// instance ends before. Setting a timer for an equal command again replaces it. It survives restarts, is sent
// once, and never early; a schedule.Timers must run for it, as in every levada.App with processes.
// The type of c must be in Type.Commands.
//
// What becomes of c is as with any other command: a Refused route gets its refusal, OnError its failure.
func After(d time.Duration, c command.Command) command.Command {
	return timerCommand{Command: c, after: d}
}

// At is After for a point in time. If it has passed, c is sent soon.
func At(t time.Time, c command.Command) command.Command { return timerCommand{Command: c, at: t} }

// Cancel, among the commands that a route returns, takes back the timer for a command
// equal to c. It is no error if there is none. The end of an instance takes back all of its timers.
func Cancel(c command.Command) command.Command { return timerCommand{Command: c, cancel: true} }

// A timerCommand is not sent but changes the timers.
type timerCommand struct {
	command.Command
	after  time.Duration
	at     time.Time
	cancel bool
}

func (t timerCommand) due(now time.Time) time.Time {
	if t.at.IsZero() {
		return now.Add(t.after).UTC()
	}
	return t.at.UTC()
}
