package projection

import (
	"context"
	"fmt"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A State says whether a projection is at work in this process.
type State string

const (
	Running State = "running"
	Paused  State = "paused"  // by Group.Pause
	Stopped State = "stopped" // by an OnError that said Stop
	// Replaced is the state of a projection that another one has replaced, for good.
	Replaced State = "replaced"
	// StandBy is the state of a projection that this process does not run:
	// because another one does, or because Group.Run does not run.
	StandBy State = "standby"
)

// A Status tells how a projection is doing.
type Status struct {
	Name     string
	State    State
	Position eventstore.Position // everything up to here has been handled
	Head     eventstore.Position // of the store

	// Lag counts the positions after Position up to Head; as positions may have
	// gaps, there are at most as many events. LagTime is the age of the first event
	// after Position, 0 if there is none.
	Lag     uint64
	LagTime time.Duration

	// Handled and Skipped count events since the Group was made; Rate is how
	// many were handled a second, over the last ten seconds.
	Handled, Skipped uint64
	Rate             float64

	// ETA is how long it will take until Lag is 0, at the speed of the last ten seconds;
	// 0 if there is no lag, or no telling.
	ETA time.Duration

	// Parked is how many keys have events that are parked; see Group.Parked.
	Parked int

	// Stuck is how many instances of a process are stuck and wait for a decision; see process.Instances.
	Stuck int

	// LastError is why the projection does not get on, or was stopped; nil as
	// soon as it gets on.
	LastError error
}

// Has reports whether a runner of that name was added.
func (g *Group) Has(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byName[name] != nil
}

// Status returns how each projection is doing, in the order of Add. What does
// not run here is looked up in its target. Status fails only if the store cannot be read.
func (g *Group) Status(ctx context.Context) ([]Status, error) {
	g.mu.Lock()
	members := g.members[:len(g.members):len(g.members)]
	g.mu.Unlock()
	list := make([]Status, 0, len(members))
	for _, m := range members {
		s, err := g.status(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("projection: status of %s: %w", m.task.Name, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// Positions returns up to which position each projection has handled everything, by name. Events that are parked, or
// that instances of a process are stuck at, have not been handled, however far the others are: they are still needed. What cannot be
// looked up counts as 0.
func (g *Group) Positions(ctx context.Context) (map[string]eventstore.Position, error) {
	list, err := g.Status(ctx)
	if err != nil {
		return nil, err
	}
	positions := make(map[string]eventstore.Position, len(list))
	for _, s := range list {
		first, err := g.member(s.Name).task.needed(ctx)
		if err != nil {
			return nil, fmt.Errorf("projection: positions: %s: %w", s.Name, err)
		}
		if first > 0 {
			s.Position = min(s.Position, first-1)
		}
		positions[s.Name] = s.Position
	}
	return positions, nil
}

// needed returns the position of the first event that is parked, or stuck at, 0 if there is none.
func (t *Task) needed(ctx context.Context) (first eventstore.Position, err error) {
	if t.Stuck != nil {
		_, first, err = t.Stuck(ctx)
		return first, err
	}
	if t.lane == nil {
		return 0, nil
	}
	keys, err := t.lane.parked(ctx)
	for _, k := range keys {
		if left := k.left(); k.open && k.live && len(left) > 0 && (first == 0 || left[0].Position < first) {
			first = left[0].Position
		}
	}
	return first, err
}

func (g *Group) status(ctx context.Context, m *member) (Status, error) {
	g.mu.Lock()
	s := Status{
		Name: m.task.Name, State: m.state, Position: m.at, LastError: m.err,
		Handled: m.handled, Skipped: m.skipped, Rate: m.rate.perSecond(time.Now()),
	}
	pace := m.pace.perSecond(time.Now())
	g.mu.Unlock()
	if s.State != Running && m.task.Load != nil {
		if at, err := m.task.Load(ctx); err != nil {
			s.LastError = err
		} else {
			s.Position = at
		}
	}
	if s.State == Replaced { // it is not behind: it is not to get on
		return s, nil
	}
	if m.task.lane != nil {
		n, err := m.task.lane.count(ctx)
		if err != nil && s.LastError == nil {
			s.LastError = err
		}
		s.Parked = n
	}
	if m.task.Stuck != nil {
		n, _, err := m.task.Stuck(ctx)
		if err != nil && s.LastError == nil {
			s.LastError = err
		}
		s.Stuck = n
	}
	head, err := g.Store.Head(ctx)
	if err != nil {
		return s, err
	}
	s.Head = max(head, s.Position)
	s.Lag = uint64(s.Head - s.Position)
	if s.Lag == 0 {
		return s, nil
	}
	if pace > 0 {
		s.ETA = time.Duration(float64(s.Lag) / pace * float64(time.Second))
	}
	for r, err := range g.Store.ReadAll(ctx, eventstore.Filter{}, s.Position) {
		if err != nil {
			return s, err
		}
		s.LagTime = max(time.Since(r.Time), 0)
		break
	}
	return s, nil
}

// rateSeconds is the time over which a rate is averaged.
const rateSeconds = 10

// A rate counts events by the second, in a ring.
type rate struct {
	second [rateSeconds]int64
	events [rateSeconds]int
}

func (r *rate) add(now time.Time, n int) {
	s := now.Unix()
	i := s % rateSeconds
	if r.second[i] != s {
		r.second[i], r.events[i] = s, 0
	}
	r.events[i] += n
}

func (r *rate) perSecond(now time.Time) float64 {
	sum := 0
	for i, s := range r.second {
		if s > now.Unix()-rateSeconds {
			sum += r.events[i]
		}
	}
	return float64(sum) / rateSeconds
}
