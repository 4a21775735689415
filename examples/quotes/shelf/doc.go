// Package shelf puts quotes on a store: the aggregates, one read model, and what pages can be bound to.
package shelf
