package kurrentstore

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

// The server shows events in its log after they were truncated or purged, until
// it scavenges. To nobody who reads through this driver: what removes an event is itself an event,
// later in the log. So a page that reaches the end of the log has seen all that removes
// anything of it, and one that does not asks for the metadata of the streams that it found.

// gone has, by the server's name of a stream, the first revision that can still be read.
type gone map[string]uint64

// look notes what an event of the log says about what can be read of a stream. The
// last one in the log counts, which is the first one going backward.
func (g *gone) look(name string, e *recorded, backward bool) {
	var first uint64
	switch e.GetMetadata()[wireType] {
	default:
		return
	case typeTombstone:
		first = math.MaxUint64
	case typeMetadata:
		if len(name) < 3 || name[:2] != "$$" {
			return
		}
		name = name[2:]
		var m streamMeta
		if json.Unmarshal(e.GetData(), &m.members) != nil {
			return
		}
		first = m.truncateBefore()
	}
	if *g == nil {
		*g = gone{}
	}
	if _, ok := (*g)[name]; !ok || !backward {
		(*g)[name] = first
	}
}

// without leaves out what is gone.
func (g gone) without(list []driver.Recorded) []driver.Recorded {
	if len(g) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(r driver.Recorded) bool {
		name, err := serverName(r.Stream)
		return err == nil && r.Version-1 < g[name]
	})
}

// withoutRemoved leaves out what the metadata of the streams say is gone.
func (d *store) withoutRemoved(ctx context.Context, list []driver.Recorded) ([]driver.Recorded, error) {
	var names []string
	index := map[string]int{}
	for i := range list {
		name, err := serverName(list[i].Stream)
		if err != nil {
			continue // nobody of ours has written that, or removed it
		}
		if _, ok := index[name]; !ok {
			index[name] = len(names)
			names = append(names, name)
		}
	}
	first := make([]uint64, len(names))
	err := each(ctx, len(names), func(ctx context.Context, i int) error {
		m, err := d.loadMeta(ctx, names[i])
		switch {
		case errors.Is(err, driver.ErrStreamDeleted):
			first[i] = math.MaxUint64
		case err != nil:
			return err
		default:
			first[i] = m.truncateBefore()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g := gone{}
	for i, name := range names {
		if first[i] > 0 {
			g[name] = first[i]
		}
	}
	return g.without(list), nil
}
