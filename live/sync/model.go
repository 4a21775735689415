package sync

import (
	"context"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// Rows says what a page sees of a read model M in memory: values V by keys K. The funcs are called while handlers
// wait. They must not modify m, nor retain anything of it that a handler goes on changing.
type Rows[M any, K comparable, V any] struct {
	// Filter selects the events that may change a row; its zero value all of them.
	Filter eventstore.Filter
	// Keys returns the keys of the rows that an event may have changed; nil for any row. See [Config].
	Keys func(r *eventstore.Recorded) []K
	// Row returns the row of a key, and whether there is one.
	Row func(m *M, key K) (V, bool)
	// All calls yield for each row, in any order, and Compare orders them. Both are needed for [All] and [Stream].
	All     func(m *M, yield func(K, V))
	Compare func(a, b V) int
}

// Model returns the rows of a read model that the named projection of g keeps in m as a source. For models
// that are kept elsewhere there is [New].
func Model[M any, K comparable, V any](g *projection.Group, name string, m *projection.Memory[M], rows Rows[M, K, V]) (*Source[K, V], error) {
	c := Config[K, V]{Store: g.Store, Filter: rows.Filter, Keys: rows.Keys, Compare: rows.Compare, Group: g, Projection: name}
	if rows.Row != nil {
		c.Read = func(_ context.Context, keys []K) (values map[K]V, at eventstore.Position, _ error) {
			values = make(map[K]V, len(keys))
			m.View(func(model *M, pos eventstore.Position) {
				at = pos
				for _, key := range keys {
					if v, ok := rows.Row(model, key); ok {
						values[key] = v
					}
				}
			})
			return values, at, nil
		}
	}
	if rows.All != nil {
		c.All = func(context.Context) (values map[K]V, at eventstore.Position, _ error) {
			values = map[K]V{}
			m.View(func(model *M, pos eventstore.Position) {
				at = pos
				rows.All(model, func(key K, v V) { values[key] = v })
			})
			return values, at, nil
		}
	}
	return New(c)
}
