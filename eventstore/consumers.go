package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/levada-go/levada/eventstore/driver"
)

// consumerPrefix is what the names of checkpoints and leases of consumers begin with:
// "$consumer-NAME" is the consumer itself, "$consumer-NAME/GENERATION/PARTITION" a partition's checkpoint,
// "$consumer-NAME/p/PARTITION" its lease, and "$consumer-NAME/m/ID" that of a member.
const consumerPrefix = "$consumer-"

// Settings are what is stored of a consumer. Its checkpoint's fence counts its changes.
type settings struct {
	Partitions int      `json:"partitions"`
	Generation int      `json:"generation"` // another one after each reset and repartition, and for each consumer of the name
	Paused     bool     `json:"paused,omitempty"`
	Start      Position `json:"-"` // the checkpoint's position
	revision   uint64
}

func (g *settings) checkpoint(name string, index int) string {
	return consumerPrefix + name + "/" + strconv.Itoa(g.Generation) + "/" + strconv.Itoa(index)
}

func (g *settings) stored() driver.Checkpoint {
	data, _ := json.Marshal(g) // cannot fail
	return driver.Checkpoint{Position: uint64(g.Start), Fence: g.revision, Data: data}
}

func loadGroup(ctx context.Context, d driver.Checkpointer, name string) (g settings, ok bool, err error) {
	c, ok, err := d.LoadCheckpoint(ctx, consumerPrefix+name)
	if err != nil || !ok {
		return settings{}, false, err
	}
	g, err = parseGroup(name, c)
	return g, true, err
}

var errSettings = errors.New("what is stored of it cannot be read")

func parseGroup(name string, c driver.Checkpoint) (settings, error) {
	g := settings{Start: Position(c.Position), revision: c.Fence}
	if err := json.Unmarshal(c.Data, &g); err != nil || g.Partitions < 1 || g.Partitions > maxPartitions {
		return settings{}, fmt.Errorf("consumer %q: %w: %s", name, errSettings, c.Data)
	}
	return g, nil
}

// consumerGroup returns what is stored of c, which is created if it is not there.
func (s *Store) consumerGroup(ctx context.Context, d driver.Checkpointer, c *Consumer) (settings, error) {
	for {
		g, ok, err := loadGroup(ctx, d, c.Name)
		if err != nil {
			return settings{}, err
		}
		if ok {
			if c.Partitions != 0 && c.Partitions != g.Partitions {
				return settings{}, fmt.Errorf("%w: %d are stored, not %d", ErrPartitions, g.Partitions, c.Partitions)
			}
			return g, nil
		}
		// A member of a consumer that was deleted may store something yet. That must not be this one's.
		g = settings{Partitions: c.Partitions, Generation: rand.IntN(math.MaxInt32), revision: 1}
		if g.Partitions == 0 {
			g.Partitions = defaultPartitions
		}
		if g.Start, err = s.position(ctx, c.From); err != nil {
			return settings{}, err
		}
		if err := d.SaveCheckpoint(ctx, consumerPrefix+c.Name, nil, g.stored()); err == nil {
			return g, nil
		} else if !errors.Is(err, ErrMoved) {
			return settings{}, err
		}
	}
}

// changeGroup changes what is stored of a consumer, and tells its members of this process.
func (s *Store) changeGroup(ctx context.Context, name string, change func(g *settings) error) (before settings, err error) {
	d, err := s.Checkpoints()
	if err != nil {
		return settings{}, err
	}
	for {
		g, ok, err := loadGroup(ctx, d, name)
		if err == nil && !ok {
			err = ErrNoConsumer
		}
		if err != nil {
			return settings{}, fmt.Errorf("eventstore: consumer %q: %w", name, err)
		}
		before, from := g, g.stored()
		if err := change(&g); err != nil {
			return settings{}, fmt.Errorf("eventstore: consumer %q: %w", name, err)
		}
		g.revision++
		err = d.SaveCheckpoint(ctx, consumerPrefix+name, &from, g.stored())
		if err == nil {
			s.consumers.poke(name, nil)
			return before, nil
		}
		if !errors.Is(err, ErrMoved) {
			return settings{}, fmt.Errorf("eventstore: consumer %q: %w", name, err)
		}
	}
}

// forget deletes the checkpoints of the partitions of a generation.
func (s *Store) forget(ctx context.Context, name string, g settings) error {
	d, err := s.Checkpoints()
	if err != nil {
		return err
	}
	for i := range g.Partitions {
		if err := d.DeleteCheckpoint(ctx, g.checkpoint(name, i)); err != nil {
			return fmt.Errorf("eventstore: consumer %q: %w", name, err)
		}
	}
	return nil
}

// PauseConsumer lets all members finish the deliveries they have and gives them no others, until
// [Store.ResumeConsumer]. Members of this process are told at once, those elsewhere within a third of a second.
// Pausing again is a no-op.
func (s *Store) PauseConsumer(ctx context.Context, name string) error {
	_, err := s.changeGroup(ctx, name, func(g *settings) error { g.Paused = true; return nil })
	return err
}

// ResumeConsumer ends what [Store.PauseConsumer] began.
func (s *Store) ResumeConsumer(ctx context.Context, name string) error {
	_, err := s.changeGroup(ctx, name, func(g *settings) error { g.Paused = false; return nil })
	return err
}

// ResetConsumer makes a consumer begin anew at a place; the zero Start is the head. Deliveries that are under way cannot be
// acknowledged any more.
func (s *Store) ResetConsumer(ctx context.Context, name string, from Start) error {
	pos, err := s.position(ctx, from)
	if err != nil {
		return fmt.Errorf("eventstore: consumer %q: %w", name, err)
	}
	before, err := s.changeGroup(ctx, name, func(g *settings) error {
		g.Generation++
		g.Start = pos
		return nil
	})
	if err != nil {
		return err
	}
	return s.forget(ctx, name, before)
}

// Repartition gives a consumer another number of partitions. It goes on from the least position of the old ones,
// so that events that only some of them had dealt with are delivered again. Members that asked for another number
// end with ErrPartitions.
func (s *Store) Repartition(ctx context.Context, name string, partitions int) error {
	if partitions < 1 || partitions > maxPartitions {
		return fmt.Errorf("eventstore: consumer %q: %w: %d partitions", name, ErrInvalid, partitions)
	}
	d, err := s.Checkpoints()
	if err != nil {
		return err
	}
	before, err := s.changeGroup(ctx, name, func(g *settings) error {
		stored, err := d.Checkpoints(ctx, consumerPrefix+name)
		if err != nil {
			return err
		}
		g.Start = g.least(name, stored)
		g.Generation++
		g.Partitions = partitions
		return nil
	})
	if err != nil {
		return err
	}
	return s.forget(ctx, name, before)
}

// least is the position that all partitions have reached.
func (g *settings) least(name string, stored map[string]driver.Checkpoint) Position {
	var least Position
	for i := range g.Partitions {
		pos := g.Start
		if c, ok := stored[g.checkpoint(name, i)]; ok {
			pos = Position(c.Position)
		}
		if i == 0 || pos < least {
			least = pos
		}
	}
	return least
}

// DeleteConsumer forgets a consumer. Its members end with ErrNoConsumer. Who consumes under the name later begins
// as the first one. Deleting one that is not there is a no-op.
func (s *Store) DeleteConsumer(ctx context.Context, name string) error {
	if err := consumerName(name); err != nil {
		return fmt.Errorf("eventstore: consumer: %w", err)
	}
	d, err := s.Checkpoints()
	if err != nil {
		return err
	}
	// First the consumer: members that look for it find nothing and end.
	if err := d.DeleteCheckpoint(ctx, consumerPrefix+name); err != nil {
		return fmt.Errorf("eventstore: consumer %q: %w", name, err)
	}
	s.consumers.poke(name, nil)
	stored, err := d.Checkpoints(ctx, consumerPrefix+name+"/")
	if err != nil {
		return fmt.Errorf("eventstore: consumer %q: %w", name, err)
	}
	for checkpoint := range stored {
		if err := d.DeleteCheckpoint(ctx, checkpoint); err != nil {
			return fmt.Errorf("eventstore: consumer %q: %w", name, err)
		}
	}
	return nil
}

// A ConsumerInfo tells how a persistent subscription is doing.
type ConsumerInfo struct {
	Name     string
	Paused   bool
	Position Position // every event up to here is dealt with
	Head     Position // of the store
	Lag      uint64   // the positions between them; as positions may have gaps, there are at most as many events
	Members  int
	// Partitions are in the order of their numbers.
	Partitions []PartitionInfo
}

// A PartitionInfo tells how one partition is doing.
type PartitionInfo struct {
	Position Position
	Owner    string // the id of the member that has it, empty if none
}

// Consumers returns all persistent subscriptions, by name.
func (s *Store) Consumers(ctx context.Context) ([]ConsumerInfo, error) {
	d, err := s.Checkpoints()
	if err != nil {
		return nil, err
	}
	leases, err := s.Leases()
	if err != nil {
		return nil, err
	}
	stored, err := d.Checkpoints(ctx, consumerPrefix)
	if err != nil {
		return nil, fmt.Errorf("eventstore: consumers: %w", err)
	}
	held, err := leases.Leases(ctx, consumerPrefix)
	if err != nil {
		return nil, fmt.Errorf("eventstore: consumers: %w", err)
	}
	head, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	owners, members := map[string]string{}, map[string]int{}
	for _, l := range held {
		owners[l.Name] = l.Owner
		if name, _, ok := strings.Cut(strings.TrimPrefix(l.Name, consumerPrefix), "/m/"); ok {
			members[name]++
		}
	}
	var list []ConsumerInfo
	for key, c := range stored {
		name := strings.TrimPrefix(key, consumerPrefix)
		if strings.Contains(name, "/") {
			continue
		}
		g, err := parseGroup(name, c)
		if err != nil {
			return nil, fmt.Errorf("eventstore: consumers: %w", err)
		}
		info := ConsumerInfo{Name: name, Paused: g.Paused, Position: g.least(name, stored), Head: head, Members: members[name]}
		info.Lag = uint64(max(head, info.Position) - info.Position)
		for i := range g.Partitions {
			p := PartitionInfo{Position: g.Start, Owner: owners[consumerPrefix+name+"/p/"+strconv.Itoa(i)]}
			if c, ok := stored[g.checkpoint(name, i)]; ok {
				p.Position = Position(c.Position)
			}
			info.Partitions = append(info.Partitions, p)
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b ConsumerInfo) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// consumers are the members of this process, by the name of their consumer: they tell each other when there is
// something to see.
type consumers struct {
	mu    sync.Mutex
	by    map[string]map[*member]struct{}
	ended bool
}

// add reports whether m may begin.
func (c *consumers) add(m *member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if c.by == nil {
		c.by = map[string]map[*member]struct{}{}
	}
	if c.by[m.c.Name] == nil {
		c.by[m.c.Name] = map[*member]struct{}{}
	}
	c.by[m.c.Name][m] = struct{}{}
	c.wake(m.c.Name, m)
	return true
}

func (c *consumers) remove(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by[m.c.Name], m)
	if len(c.by[m.c.Name]) == 0 {
		delete(c.by, m.c.Name)
	}
	c.wake(m.c.Name, m)
}

// poke tells all members of a consumer but one.
func (c *consumers) poke(name string, but *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake(name, but)
}

func (c *consumers) wake(name string, but *member) {
	for m := range c.by[name] {
		if m != but {
			m.wake()
		}
	}
}

// close ends all members and waits until they have given up their leases.
func (c *consumers) close() {
	c.mu.Lock()
	c.ended = true
	var all []*member
	for _, members := range c.by {
		for m := range members {
			all = append(all, m)
		}
	}
	c.mu.Unlock()
	for _, m := range all {
		m.fail(ErrClosed)
		m.leave()
	}
}
