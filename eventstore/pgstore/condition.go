package pgstore

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
)

// AppendIf implements [driver.Conditional], in one round trip. With fn it is a transaction as
// that of AppendAtomic.
func (s *store) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	results, err := s.appendWhole(ctx, appends.Runs(events), fn, func(b *batch) *statement {
		return conditional(s, items, after, b)
	}, func(out *outcome) error {
		if out.conflict != 0 {
			return &driver.ConflictError{Actual: uint64(out.conflict)}
		}
		return nil
	})
	if err != nil {
		return driver.Result{Err: err}
	}
	return appends.Join(results)
}

// conditional is the statement that appends a batch under a condition.
func conditional(s *store, items []driver.QueryItem, after uint64, b *batch) *statement {
	c := newCondition(items)
	st := newStatement(s.sql.appendIf).add(pgtype.JSONOID, c.json()).position(after).ints(c.slots(b)).texts(c.tags.names)
	b.addTo(st)
	return st
}

// A condition is the items under which nothing must lie above a position.
type condition struct {
	items []driver.QueryItem
	tags  numbered
	all   bool // one of them selects everything
}

// newCondition leaves out what can select nothing.
func newCondition(items []driver.QueryItem) *condition {
	c := &condition{}
	for _, q := range items {
		if slices.ContainsFunc(q.Tags, func(t string) bool { return !storable(t) }) {
			continue
		}
		if len(q.Types) > 0 {
			q.Types = slices.DeleteFunc(slices.Clone(q.Types), func(t string) bool { return !storable(t) })
			if len(q.Types) == 0 {
				continue
			}
		}
		for _, t := range q.Tags {
			c.tags.number(t)
		}
		c.all = c.all || len(q.Types)+len(q.Tags) == 0
		c.items = append(c.items, q)
	}
	return c
}

// slots returns the type slots that the append locks, in their order: those of items without tags
// alone, those of its events shared.
func (c *condition) slots(b *batch) []int32 {
	slots := map[int32]int32{}
	for k := range b.slots {
		slots[k] = k
	}
	for _, q := range c.items {
		if len(q.Tags) == 0 {
			for _, t := range q.Types {
				slots[typeSlot(t)] = -typeSlot(t)
			}
		}
	}
	if c.all {
		for k := range int32(typeSlots) {
			slots[k+1] = -(k + 1)
		}
	}
	list := make([]int32, 0, len(slots)+1)
	for _, k := range slots {
		list = append(list, k)
	}
	return b.inOrder(list)
}

// json returns the items for the function find.
func (c *condition) json() []byte {
	type item struct {
		Types []string `json:"types,omitempty"`
		Tags  []int32  `json:"tags,omitempty"`
	}
	list := make([]item, len(c.items))
	for i, q := range c.items {
		list[i].Types = q.Types
		for k, t := range q.Tags {
			if !slices.Contains(q.Tags[:k], t) {
				list[i].Tags = append(list[i].Tags, c.tags.number(t))
			}
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return b
}
