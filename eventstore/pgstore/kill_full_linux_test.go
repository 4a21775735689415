package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/postgrestest"
)

// The tables are on a file system of their own, which fills up; the log of PostgreSQL is not: when
// that has no room the server ends, and the store sees a server that is gone.
func TestAFullDiskRefusesAppendsKeepsReadersGoingAndHeals(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "lvpg")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("a file system of a given size cannot be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	server := postgrestest.Start(t)
	t.Cleanup(server.Kill) // before the disk is gone
	require.NoError(t, os.Chmod(dir, 0o711))
	space := filepath.Join(dir, "space")
	require.NoError(t, os.Mkdir(space, 0o700))
	postgrestest.Own(t, space)
	ballast := filepath.Join(dir, "ballast")
	address := server.URL(t)
	admin, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer admin.Close(context.Background())
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + space + "'",
		fmt.Sprintf("ALTER DATABASE %s SET default_tablespace = 'small'", admin.Config().Database)} {
		_, err = admin.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	s := openNode(t, address)
	l := newFullLog(s)
	f := follow(t, s)
	// What was refused takes room, until it is vacuumed.
	for round, size := range []int{5 << 20, 2 << 20} {
		require.NoError(t, os.WriteFile(ballast, make([]byte, size), 0o600))
		for range 20 {
			require.NoError(t, l.add(t.Context(), "early", 1000))
		}
		for err = nil; err == nil; {
			err = l.add(t.Context(), "full", 60_000)
		}
		for range 5 {
			var full *pgconn.PgError
			require.True(t, errors.As(err, &full), "%v", err)
			require.Equal(t, "53100", full.Code, "it says that the disk is full")
			require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown, "it is known that nothing was written")
			err = l.add(t.Context(), "full", 60_000)
		}
		l.check(t)
		require.NoError(t, os.Remove(ballast))
		for range 20 {
			require.NoError(t, l.add(t.Context(), "late", 20_000), "round %d", round)
		}
		l.check(t)
	}
	var log []sighting
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		log = append(log, sighting{r.ID, r.Position})
	}
	f.check(t, log)
}

// A fullLog is a store to which one goroutine appends.
type fullLog struct {
	s        *eventstore.Store
	versions map[eventstore.StreamName]eventstore.Version
}

func newFullLog(s *eventstore.Store) *fullLog {
	return &fullLog{s, map[eventstore.StreamName]eventstore.Version{}}
}

func (l *fullLog) add(ctx context.Context, stream eventstore.StreamName, size int) error {
	// Zeros would be compressed.
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * i >> 3 * (i%251 + 1))
	}
	expected := eventstore.Expected(l.versions[stream])
	if expected == 0 {
		expected = eventstore.NoStream
	}
	at, err := l.s.Append(ctx, stream, expected, eventstore.Event{Type: "x", Raw: data, ContentType: "application/octet-stream", Metadata: map[string]string{"k": strings.Repeat("v", 50)}})
	if err == nil {
		l.versions[stream] = at.Version
	}
	return err
}

// check reads all streams.
func (l *fullLog) check(t testing.TB) {
	t.Helper()
	for name, version := range l.versions {
		var last eventstore.Version
		for r, err := range l.s.ReadStream(t.Context(), name, 0) {
			require.NoError(t, err)
			require.Equal(t, last+1, r.Version)
			last = r.Version
		}
		require.Equal(t, version, last, name)
	}
}
