package pgstore

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/eventstore/driver"
)

// Truncate implements [driver.Deleter].
func (s *store) Truncate(ctx context.Context, stream string, before uint64) error {
	var failed string
	err := s.change(ctx, stream, newStatement(s.sql.truncate).text(stream).position(before), func(row [][]byte) error {
		failed = string(row[0])
		return nil
	})
	switch {
	case err != nil:
		return err
	case failed == "none":
		return fmt.Errorf("pgstore: truncate: there is no stream %.80q", stream)
	case failed != "":
		return fmt.Errorf("pgstore: truncate: version %d is past the end of stream %.80q", before, stream)
	}
	return nil
}

// Delete implements [driver.Deleter].
func (s *store) Delete(ctx context.Context, stream string, expected int64) error {
	var conflict error
	err := s.change(ctx, stream, newStatement(s.sql.delete).text(stream).int(expected), func(row [][]byte) error {
		if row[0] != nil {
			conflict = &driver.ConflictError{Actual: uint64(readInt(row[0]))}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return conflict
}

// Purge implements [driver.Deleter]. The bytes are out of reach at once; PostgreSQL
// overwrites them after the next VACUUM, and keeps them in its write-ahead log and
// its backups for as long as it keeps these.
func (s *store) Purge(ctx context.Context, stream string) error {
	return s.change(ctx, stream, newStatement(s.sql.purge).text(stream), nil)
}

// change runs a statement that changes a stream.
func (s *store) change(ctx context.Context, stream string, st *statement, row func([][]byte) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	if len(stream) > maxNameBytes {
		return fmt.Errorf("%w: stream name of %d bytes: more than %d", driver.ErrTooLarge, len(stream), maxNameBytes)
	}
	if err := checkText(stream); err != nil {
		return err
	}
	return s.run(ctx, st, row)
}
