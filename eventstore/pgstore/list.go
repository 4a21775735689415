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
	switch {
	case checkText(after) != nil:
		sql = s.sql.streamsAfterBytes
	case category != "":
		sql = s.sql.categoryStreams
	}
	st := newStatement(sql)
	if checkText(after) != nil {
		st.bytes([]byte(after)).int(int64(limit)).text(category)
	} else if st.text(after).int(int64(limit)); category != "" {
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
