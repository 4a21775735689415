package pgstore

import (
	"context"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

// Streams implements [driver.Lister].
func (s *store) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	if limit <= 0 || checkText(category) != nil {
		return nil, nil
	}
	sql := s.sql.streams
	if category != "" {
		sql = s.sql.categoryStreams
	}
	st := newStatement(sql).text(sortable(after)).int(int64(limit))
	if category != "" {
		st.text(category)
	}
	var list []driver.StreamInfo
	err := s.run(ctx, st, func(row [][]byte) error {
		list = append(list, readInfo(row))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// sortable returns the longest beginning of v that PostgreSQL can have: no name that it
// has lies between the two.
func sortable(v string) string {
	for checkText(v) != nil {
		v = v[:len(v)-1]
	}
	return v
}

// Categories implements [driver.Lister].
func (s *store) Categories(ctx context.Context) ([]string, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	var list []string
	err := s.run(ctx, newStatement(s.sql.categories), func(row [][]byte) error {
		list = append(list, string(row[0]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	return list, nil
}
