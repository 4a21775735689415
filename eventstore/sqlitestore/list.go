package sqlitestore

import (
	"context"
	"slices"
	"strings"

	"github.com/levada-go/levada/eventstore/driver"
)

// Streams reads the names from the index and from the tail.
func (s *store) Streams(ctx context.Context, category, after string, limit int) (infos []driver.StreamInfo, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		infos, err = s.streams(ctx, c, v, category, after, limit)
		return err
	})
	return infos, err
}

func (s *store) streams(ctx context.Context, c *conn, v *view, category, after string, limit int) (infos []driver.StreamInfo, err error) {
	for len(infos) < limit {
		names, err := s.namesAfter(c, v, category, after, limit-len(infos))
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return infos, nil
		}
		for i, name := range names {
			if i%256 == 255 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			h, err := s.lookupHead(c, v, name)
			if err != nil {
				return nil, err
			}
			if !h.purged && h.version > 0 {
				infos = append(infos, h.info(name))
			}
		}
		after = names[len(names)-1]
	}
	return infos, nil
}

// A nameRange is the names in [from, to); to "" is no bound.
type nameRange struct{ from, to string }

func (r nameRange) has(name string) bool { return name >= r.from && (r.to == "" || name < r.to) }

// namesOf returns where the names of a category's streams are. "-" is followed
// by "." and "$" by "%".
func namesOf(category string) []nameRange {
	if category == "" {
		return []nameRange{{"", "$"}, {"%", ""}}
	}
	if strings.Contains(category, "-") {
		return nil
	}
	return []nameRange{{category, category + "\x00"}, {category + "-", category + "."}}
}

// namesAfter returns at most limit names of streams after a name, sorted.
func (s *store) namesAfter(c *conn, v *view, category, after string, limit int) (names []string, err error) {
	for _, r := range namesOf(category) {
		if r.to != "" && after >= r.to {
			continue
		}
		var list []string
		if list, err = c.namesIn(r, after, limit-len(names)); err != nil {
			return nil, err
		}
		s.mu.RLock()
		for _, g := range v.segments {
			for name := range g.names {
				if name > after && r.has(name) {
					list = append(list, name)
				}
			}
		}
		s.mu.RUnlock()
		slices.Sort(list)
		list = slices.Compact(list)
		names = append(names, list[:min(len(list), limit-len(names))]...)
		if len(names) == limit {
			break
		}
	}
	return names, nil
}

func (c *conn) namesIn(r nameRange, after string, limit int) (names []string, err error) {
	st, err := c.stmt(stNames)
	if err != nil {
		return nil, err
	}
	st.BindText(1, after)
	st.BindText(2, r.from)
	st.BindInt64(3, int64(limit))
	for {
		ok, err := st.Step()
		if err != nil {
			return nil, err
		}
		if !ok {
			return names, st.Reset()
		}
		name := st.ColumnText(0)
		if !r.has(name) {
			return names, st.Reset()
		}
		names = append(names, name)
	}
}

func (s *store) Categories(ctx context.Context) (names []string, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		all, err := s.categoryNames(c, v)
		if err != nil {
			return err
		}
		for i, name := range all {
			if i%256 == 255 && ctx.Err() != nil {
				return ctx.Err()
			}
			// All its streams may have been purged.
			infos, err := s.streams(ctx, c, v, name, "", 1)
			if err != nil {
				return err
			}
			if len(infos) > 0 {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

func (s *store) categoryNames(c *conn, v *view) (names []string, err error) {
	st, err := c.stmt(stCategoryNames)
	if err != nil {
		return nil, err
	}
	for {
		ok, err := st.Step()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		names = append(names, st.ColumnText(0))
	}
	if err := st.Reset(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	for _, g := range v.segments {
		for name := range g.catNames {
			names = append(names, name)
		}
	}
	s.mu.RUnlock()
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "$") }), nil
}
