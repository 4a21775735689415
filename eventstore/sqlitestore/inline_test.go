package sqlitestore_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

func TestAModelIsUpdatedWithinAnAppendOrNotAtAll(t *testing.T) {
	t.Parallel()
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), nil)
	require.NoError(t, err)
	defer s.Close()
	m, err := sqlitestore.TargetIn(s, sqlitestore.Model{Tables: []string{"counts"}, Schema: `CREATE TABLE counts(n INTEGER) STRICT`})
	require.NoError(t, err)
	require.True(t, m.Shares(s))
	beside, err := sqlitestore.Target(s, sqlitestore.Model{Tables: []string{"counts"}, Schema: `CREATE TABLE counts(n INTEGER) STRICT`})
	require.NoError(t, err)
	require.False(t, beside.Shares(s))
	boom := errors.New("boom")
	var fail, ignore bool
	_, err = s.Inline(func(ctx context.Context, tx any, events []*eventstore.Recorded) error {
		none := func(*sqlite.Conn, eventstore.Position) (eventstore.Position, error) { return 0, nil }
		require.ErrorIs(t, beside.UpdateIn(ctx, tx, "c", none), errors.ErrUnsupported)
		require.ErrorIs(t, m.UpdateIn(ctx, nil, "c", none), errors.ErrUnsupported)
		err := m.UpdateIn(ctx, tx, "c", func(c *sqlite.Conn, at eventstore.Position) (eventstore.Position, error) {
			err := sqlitex.Execute(c, "INSERT INTO counts VALUES(1)", nil)
			if err == nil && fail {
				err = boom
			}
			return events[len(events)-1].Position, err
		})
		if ignore {
			return nil
		}
		return err
	})
	require.NoError(t, err)
	add := func() error {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Type: "x", Raw: []byte("1")})
		return err
	}
	check := func(rows int64, at, head eventstore.Position) {
		t.Helper()
		require.NoError(t, m.Read(t.Context(), func(c *sqlite.Conn) error {
			n, err := sqlitex.ResultInt64(c.Prep("SELECT count(*) FROM counts"))
			require.Equal(t, rows, n)
			return err
		}))
		have, err := m.Load(t.Context(), "c")
		require.NoError(t, err)
		require.Equal(t, at, have)
		have, err = s.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, head, have)
	}
	require.NoError(t, add())
	check(1, 1, 1)
	fail = true
	require.ErrorIs(t, add(), boom)
	check(1, 1, 1)
	ignore = true
	require.NoError(t, add(), "the append goes on without")
	check(1, 1, 2)
	fail = false
	require.NoError(t, add())
	check(2, 3, 3)
}
