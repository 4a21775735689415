package room

import (
	"fmt"
	"time"
)

// A person may do Burst things in a room at once, and then one every Interval.
const (
	Burst    = 10
	Interval = time.Second
)

// TooFastError refuses a person who does too much at a time.
type TooFastError struct {
	Wait time.Duration // until the next thing is allowed
}

func (e *TooFastError) Error() string {
	return fmt.Sprintf("that was a lot at once; go on in %d s", int64((e.Wait+time.Second-1)/time.Second))
}

// The pace is kept by the generic cell rate algorithm (ITU-T I.371): one time for each person, at which all
// that the person did would have been done at one thing every Interval.

// maxPaces is beyond how many people those are forgotten who have not done anything for Burst times Interval.
const maxPaces = 256

// allow returns a *TooFastError unless by may do something at a time.
func (r *Room) allow(by string, at time.Time) error {
	now := stamp(at).UnixMilli()
	ahead := r.ahead(by, now)
	if most := (Burst - 1) * Interval.Milliseconds(); ahead > most {
		return &TooFastError{Wait: time.Duration(ahead-most) * time.Millisecond}
	}
	return nil
}

// spend records that by did something.
func (r *Room) spend(by string, at time.Time) {
	now := at.UnixMilli()
	if r.Pace == nil {
		r.Pace = map[string]int64{}
	}
	r.Pace[by] = now + r.ahead(by, now) + Interval.Milliseconds()
	if len(r.Pace) > maxPaces {
		for p, t := range r.Pace {
			if t <= now {
				delete(r.Pace, p)
			}
		}
	}
}

// ahead returns by how many milliseconds a person is ahead of one thing every Interval. Nobody can be
// ahead by more than what Burst things take, but if the clock was set back: then nothing is known.
func (r *Room) ahead(by string, now int64) int64 {
	ahead := max(0, r.Pace[by]-now)
	if ahead > Burst*Interval.Milliseconds() {
		return 0
	}
	return ahead
}
