package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// sql runs a script on a SQLite file, which it creates.
func sql(t testing.TB, path, script string) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	require.NoError(t, err)
	require.NoError(t, sqlitex.ExecuteScript(c, script, nil))
	require.NoError(t, c.Close())
}

// ask returns the rows that a query of a store gives, the values joined by "|".
func ask(t testing.TB, s *store, query string) (list []string) {
	t.Helper()
	require.NoError(t, s.db.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(c, query, &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			var row []string
			for i := range st.ColumnCount() {
				row = append(row, st.ColumnText(i))
			}
			list = append(list, strings.Join(row, "|"))
			return nil
		}})
	}))
	return list
}

func TestOpenRefusesWhatIsNotAStoreAndLeavesItAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
	}{
		"a text file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("To be, or not to be\n", 50)), 0o644))
		}, ErrNotStore},
		"a short file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("hi"), 0o644))
		}, ErrNotStore},
		"a file that only begins like a database": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, append([]byte("SQLite format 3\x00"), make([]byte, 5000)...), 0o644))
		}, ErrNotStore},
		"a directory": {func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o755))
		}, ErrNotStore},
		"another application's database": {func(t *testing.T, path string) {
			sql(t, path, "CREATE TABLE events(a); INSERT INTO events VALUES(1);")
		}, ErrNotStore},
		"another application's database with an id": {func(t *testing.T, path string) {
			sql(t, path, "CREATE TABLE t(a); PRAGMA application_id = 7; PRAGMA user_version = 1;")
		}, ErrNotStore},
		"a database with a version but no tables": {func(t *testing.T, path string) {
			sql(t, path, "PRAGMA user_version = 3;")
		}, ErrNotStore},
		"a file of read models": {func(t *testing.T, path string) {
			m, err := TargetFile(path, countModel)
			require.NoError(t, err)
			require.NoError(t, m.Close())
		}, ErrNotStore},
		"a store of a later version": {func(t *testing.T, path string) {
			s, err := open(path, nil)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			sql(t, path, fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion+1))
		}, ErrNewerSchema},
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read only %t", name, readOnly), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(testDir(t), "file.db")
				c.make(t, path)
				before, _ := os.ReadFile(path)
				_, err := OpenDriver(path, &Options{ReadOnly: readOnly})
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, path)
				_, err = Open(path, &Options{ReadOnly: readOnly})
				require.ErrorIs(t, err, c.want)
				after, _ := os.ReadFile(path)
				require.Equal(t, before, after, "the file was touched")
			})
		}
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	_, err := Open(filepath.Join(dir, "none", "events.db"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "directory")
	_, err = os.Stat(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open(filepath.Join(dir, "events.db"), &Options{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open("", nil)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o600))
	_, err = Open(filepath.Join(dir, "empty.db"), &Options{ReadOnly: true})
	require.ErrorIs(t, err, ErrNotStore)
	names, err := filepath.Glob(filepath.Join(dir, "events*"))
	require.NoError(t, err)
	require.Empty(t, names, "a store that was opened for reading was created")
}

func TestOpenMakesAnEmptyFileAStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	s := openAt(t, path, nil)
	require.NoError(t, s.Append(t.Context(), driver.Append{Stream: "a-1", Events: make([]driver.Event, 1)}).Err)
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no file modes")
	}
	s := openTest(t, nil)
	require.NoError(t, s.Append(t.Context(), driver.Append{Stream: "a-1", Events: make([]driver.Event, 1)}).Err)
	names, err := filepath.Glob(s.path + "*")
	require.NoError(t, err)
	require.Len(t, names, 4, "%v", names)
	for _, name := range names {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
}

func TestASecondWriterIsTold(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	path := filepath.Join(dir, "events.db")
	s, err := open(path, nil)
	require.NoError(t, err)
	link := filepath.Join(dir, "link.db")
	require.NoError(t, os.Symlink(path, link))
	for _, p := range []string{path, link, filepath.Join(dir, ".", "events.db")} {
		_, err = Open(p, nil)
		require.ErrorIs(t, err, ErrLocked)
		require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getpid()))
	}
	require.NoError(t, s.Append(t.Context(), driver.Append{Stream: "a-1", Events: make([]driver.Event, 1)}).Err)
	require.NoError(t, s.Close())

	c := start(t, "holder", path)
	pid := c.next(t)
	_, err = Open(path, nil)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "process "+pid)
	r, err := open(path, &Options{ReadOnly: true})
	require.NoError(t, err, "the lock is only the writer's")
	require.NoError(t, r.Close())
	c.kill()
	openAt(t, path, nil)
}

func TestAFailedOpenLetsGoOfTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	sql(t, path, "CREATE TABLE t(a);")
	for range 2 {
		_, err := Open(path, nil)
		require.ErrorIs(t, err, ErrNotStore)
	}
}

// version1 is a store as version 1 of the schema had it, without the index of
// tags, its watermark in the middle of the log.
const version1 = `
CREATE TABLE events(position INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL, version INTEGER NOT NULL, created INTEGER NOT NULL,
	event_id BLOB NOT NULL, stream TEXT NOT NULL, type TEXT NOT NULL, content_type TEXT, correlation BLOB, causation BLOB,
	tags TEXT, metadata TEXT, data ANY) STRICT;
CREATE TABLE stream_names(name TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stream_index(stream_id INTEGER NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(stream_id, version)) STRICT, WITHOUT ROWID;
CREATE TABLE category_names(name TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE category_index(category_id INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(category_id, position)) STRICT, WITHOUT ROWID;
CREATE TABLE watermark(one INTEGER PRIMARY KEY CHECK(one = 1), position INTEGER NOT NULL, stream_id INTEGER NOT NULL, removals INTEGER NOT NULL) STRICT;
CREATE TABLE stream_state(stream_id INTEGER PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, deleted INTEGER NOT NULL, purged INTEGER NOT NULL) STRICT;
CREATE TABLE snapshots(stream TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, data BLOB) STRICT;
CREATE TABLE checkpoints(name TEXT PRIMARY KEY, position INTEGER NOT NULL, fence INTEGER NOT NULL, data BLOB) STRICT;
CREATE TABLE leases(name TEXT PRIMARY KEY, owner TEXT NOT NULL, fence INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;
CREATE VIEW event_log AS SELECT position FROM events;
INSERT INTO events(position, stream_id, version, created, event_id, stream, type, tags, metadata, data) VALUES
	(1, 1, 1, 1700000000000000, x'00112233445566778899aabbccddeeff', 'a-1', 't', '["red","x y"]', '{"k":"v"}', '{"n":1}'),
	(2, 2, 1, 1700000000000001, x'00112233445566778899aabbccddee00', 'b-1', 't', '["red"]', NULL, x'ff00'),
	(3, 1, 2, 1700000000000002, x'00112233445566778899aabbccddee01', 'a-1', 't', NULL, NULL, NULL),
	(4, 3, 1, 1700000000000003, x'00112233445566778899aabbccddee02', 'a-2', 'u', '["red","blue"]', NULL, '');
INSERT INTO stream_names VALUES('a-1', 1), ('b-1', 2);
INSERT INTO stream_index VALUES(1, 1, 1), (2, 1, 2);
INSERT INTO category_names VALUES('a', 1), ('b', 2);
INSERT INTO category_index VALUES(1, 1), (2, 2);
INSERT INTO watermark VALUES(1, 2, 2, 0);
INSERT INTO checkpoints VALUES('p', 4, 1, x'01');
PRAGMA application_id = 0x6c766461;
PRAGMA user_version = 1;
`

func TestAStoreOfAnOlderSchemaIsMigrated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	sql(t, path, version1)
	_, err := Open(path, &Options{ReadOnly: true})
	require.ErrorIs(t, err, ErrOlderSchema, "a reader cannot migrate")
	for range 2 {
		s, err := open(path, nil)
		require.NoError(t, err)
		require.Equal(t, []string{"2|4"}, ask(t, s, "SELECT schema_version, head FROM store_info"))
		checkIndexes(t, s)
		events, _, err := s.Query(t.Context(), []driver.QueryItem{{Tags: []string{"red"}}}, 0, 10)
		require.NoError(t, err)
		require.Len(t, events, 3)
		require.Equal(t, []string{"red", "x y"}, events[0].Tags)
		require.Equal(t, map[string]string{"k": "v"}, events[0].Metadata)
		require.Equal(t, `{"n":1}`, string(events[0].Data))
		require.Equal(t, []byte{0xff, 0}, events[1].Data)
		p, ok, err := s.LoadCheckpoint(t.Context(), "p")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, driver.Checkpoint{Position: 4, Fence: 1, Data: []byte{1}}, p)
		require.NoError(t, s.Close())
	}
	s := openAt(t, path, &Options{unmerged: 1})
	for range 3 {
		r := s.Append(t.Context(), driver.Append{Stream: "a-2", Events: []driver.Event{{Type: "t", Tags: []string{"red"}}}})
		require.NoError(t, r.Err)
	}
	checkIndexes(t, s)
	got := schemaOf(t, s)
	require.Equal(t, schemaOf(t, openTest(t, nil)), got, "a migrated store is like a new one")
}

// schemaOf returns the columns of all tables and views.
func schemaOf(t testing.TB, s *store) []string {
	return ask(t, s, `SELECT m.type, m.name, p.name, p.type, p."notnull", p.pk FROM sqlite_schema m, pragma_table_info(m.name) p
		WHERE m.type IN ('table', 'view') ORDER BY m.name, p.cid`)
}

func TestEveryVersionHasAMigration(t *testing.T) {
	t.Parallel()
	require.Len(t, migrations, schemaVersion-1)
}

func TestAReaderRefusesEveryWrite(t *testing.T) {
	t.Parallel()
	w := openTest(t, nil)
	require.NoError(t, w.Append(t.Context(), driver.Append{Stream: "a-1", Events: make([]driver.Event, 3)}).Err)
	s := openAt(t, w.path, &Options{ReadOnly: true})
	ctx := t.Context()
	require.True(t, w.Limits().Exclusive)
	require.False(t, s.Limits().Exclusive)
	for name, err := range map[string]error{
		"Append":           s.Append(ctx, driver.Append{Stream: "a-1", Events: make([]driver.Event, 1)}).Err,
		"AppendBatch":      s.AppendBatch(ctx, []driver.Append{{Stream: "a-1", Events: make([]driver.Event, 1)}})[0].Err,
		"AppendWith":       s.AppendWith(ctx, []driver.Append{{Stream: "a-1", Events: make([]driver.Event, 1)}}, nil)[0].Err,
		"AppendIf":         s.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "a-1"}}, nil).Err,
		"Truncate":         s.Truncate(ctx, "a-1", 2),
		"Delete":           s.Delete(ctx, "a-1", driver.Any),
		"Purge":            s.Purge(ctx, "a-1"),
		"SaveSnapshot":     s.SaveSnapshot(ctx, "a-1", driver.Snapshot{Version: 1}),
		"DeleteSnapshot":   s.DeleteSnapshot(ctx, "a-1"),
		"SaveCheckpoint":   s.SaveCheckpoint(ctx, "p", nil, driver.Checkpoint{}),
		"DeleteCheckpoint": s.DeleteCheckpoint(ctx, "p"),
		"Release":          s.Release(ctx, "l", "me", 1),
	} {
		require.ErrorIs(t, err, driver.ErrReadOnly, name)
	}
	_, _, err := s.Acquire(ctx, "l", "me", time.Second)
	require.ErrorIs(t, err, driver.ErrReadOnly)
	err = s.db.Read(ctx, func(c *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(c, "DELETE FROM events", nil)
	})
	require.Error(t, err)
	events, err := s.ReadStream(ctx, "a-1", 0, driver.Forward, 10)
	require.NoError(t, err)
	require.Len(t, events, 3)
}

// A reader in this process follows a writer in the same one as it would from
// another.
func TestAReaderFollowsAppendsMergesAndRemovals(t *testing.T) {
	t.Parallel()
	w := openTest(t, &Options{Synchronous: Normal, unmerged: 40, slice: 16})
	r := openAt(t, w.path, &Options{ReadOnly: true})
	ctx := t.Context()
	woken := make(chan error, 1)
	rounds := 60
	if raceEnabled {
		rounds = 20
	}
	for round := range rounds {
		head, err := r.Head(ctx)
		require.NoError(t, err)
		go func() { woken <- r.Wait(ctx, head) }()
		for i := range 7 {
			e := driver.Event{Type: fmt.Sprint("t", i), Tags: []string{fmt.Sprint("tag", i%3)}, Data: []byte("{}")}
			res := w.Append(ctx, driver.Append{Stream: fmt.Sprintf("c%d-%d", i%3, round%9), Events: []driver.Event{e, e}})
			require.NoError(t, res.Err)
		}
		require.NoError(t, <-woken)
		switch round % 10 {
		case 3:
			require.NoError(t, w.Truncate(ctx, "c1-1", uint64(round/8)+1))
		case 6:
			require.NoError(t, w.Delete(ctx, "c2-2", driver.Any))
		case 9:
			require.NoError(t, w.Purge(ctx, fmt.Sprintf("gone-%d", round)))
		}
		same(t, w, r)
	}
}

// same requires that two openings of one store answer alike.
func same(t testing.TB, a, b *store) {
	t.Helper()
	ctx := context.Background()
	type answers struct {
		head       uint64
		categories []string
		infos      []driver.StreamInfo
		events     []any
	}
	look := func(s *store) (x answers) {
		var err error
		x.head, err = s.Head(ctx)
		require.NoError(t, err)
		x.categories, err = s.Categories(ctx)
		require.NoError(t, err)
		x.infos, err = s.Streams(ctx, "", "", 1000)
		require.NoError(t, err)
		for _, info := range x.infos {
			events, err := s.ReadStream(ctx, info.Name, 0, driver.Backward, 5)
			require.NoError(t, err)
			x.events = append(x.events, events)
		}
		for _, c := range x.categories {
			for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
				events, scanned, err := s.ReadAll(ctx, driver.Filter{Categories: []string{c}}, 0, dir, 10)
				require.NoError(t, err)
				x.events = append(x.events, events, scanned)
			}
		}
		for i := range 3 {
			events, scanned, err := s.Query(ctx, []driver.QueryItem{{Tags: []string{fmt.Sprint("tag", i)}}}, x.head/2, 10)
			require.NoError(t, err)
			x.events = append(x.events, events, scanned)
		}
		return x
	}
	require.Equal(t, look(a), look(b))
}

func TestThePortableStoreOpensOnTheDriver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	store, err := Open(path, &Options{Store: eventstore.Options{PageSize: 7}})
	require.NoError(t, err)
	var db *DB
	require.True(t, store.As(&db))
	require.Equal(t, filepath.Base(path), filepath.Base(db.Path()))
	require.NoError(t, store.Close())
	err = db.Read(t.Context(), func(*sqlite.Conn) error { return nil })
	require.ErrorIs(t, err, driver.ErrClosed)
	_, err = Open(testDir(t), nil)
	require.ErrorIs(t, err, ErrNotStore)
	var other *os.File
	require.False(t, store.As(&other))
}

func TestTheViewsAreForPeople(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)
	s := openTest(t, &Options{clock: func() time.Time { return at }})
	ctx := t.Context()
	e := driver.Event{
		ID: [16]byte{0x01, 0x8f, 0xaa, 0xbb, 0xcc, 0xdd, 0x7e, 0xee, 0x80, 1, 2, 3, 4, 5, 6, 7}, Type: "room.posted", ContentType: jsonContent,
		Data: []byte(`{"by":"ann","text":"hi"}`), Metadata: map[string]string{"ip": "::1", "$key": "k"}, Tags: []string{"by:ann"},
		Correlation: [16]byte{15: 1},
	}
	blob := driver.Event{Type: "room.pictured", ContentType: "image/png", Data: []byte{0x89, 'P', 0, 0xff}}
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "room-1", Events: []driver.Event{e, blob}}).Err)
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "lobby", Events: []driver.Event{e}}).Err)
	require.NoError(t, s.Delete(ctx, "lobby", driver.Any))
	require.NoError(t, s.Purge(ctx, "secret-1"))
	_, _, err := s.Acquire(ctx, "lease", "me", time.Second)
	require.NoError(t, err)

	queries := map[string][]string{
		"SELECT * FROM event_log": {
			`1|room-1|1|room.posted|2026-03-04T05:06:07.000089Z|018faabb-ccdd-7eee-8001-020304050607|{"by":"ann","text":"hi"}|{"$key":"k","ip":"::1"}|["by:ann"]|application/json|00000000-0000-0000-0000-000000000001|`,
			`2|room-1|2|room.pictured|2026-03-04T05:06:07.000089Z|00000000-0000-0000-0000-000000000000|895000FF|||image/png||`,
		},
		"SELECT data ->> 'text', metadata ->> 'ip' FROM event_log WHERE type = 'room.posted'": {"hi|::1"},
		"SELECT * FROM stream_list ORDER BY stream": {
			"lobby|lobby|0|2|1||deleted",
			"room-1|room|2|1|2|2026-03-04T05:06:07.000089Z|",
			"secret-1|secret|0|1|0||purged",
		},
		"SELECT * FROM category_list ORDER BY category": {"lobby|1|0", "room|1|2", "secret|1|0"},
		"SELECT * FROM lease_list":                      {"lease|me|1|2026-03-04T05:06:08.000089Z"},
		"SELECT * FROM store_info":                      {"2|2|3|2"},
	}
	for query, want := range queries {
		require.Equal(t, want, ask(t, s, query), query)
	}
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "make test installs the shell")
		t.Skip("there is no sqlite3 shell")
	}
	for query, want := range queries {
		out, err := exec.Command(shell, "-readonly", s.path, query).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, strings.Split(strings.TrimSpace(string(out)), "\n"), query)
	}
}

func TestAnOutcomeThatIsUnknownIsReadAgain(t *testing.T) {
	t.Parallel()
	var lost error
	s := openTest(t, &Options{unmerged: 10, committed: func() error { return lost }})
	ctx := t.Context()
	event := func() []driver.Event { return make([]driver.Event, 2) }
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Expected: driver.NoStream, Events: event()}).Err)
	for round := range 6 {
		lost = errors.New("the answer was lost")
		rs := s.AppendBatch(ctx, []driver.Append{
			{Stream: "a-1", Expected: 1, Events: event()},
			{Stream: "a-1", Expected: int64(4*round + 2), Events: event()},
			{Stream: fmt.Sprintf("b-%d", round), Expected: driver.NoStream, Events: event()},
			{Stream: fmt.Sprintf("b-%d", round), Expected: driver.NoStream, Events: event()},
		})
		var conflict *driver.ConflictError
		require.ErrorAs(t, rs[0].Err, &conflict)
		require.ErrorIs(t, rs[1].Err, driver.ErrOutcomeUnknown)
		require.ErrorIs(t, rs[2].Err, lost)
		require.ErrorIs(t, rs[3].Err, driver.ErrOutcomeUnknown, "what it conflicted with may not be there")
		lost = nil
		// It was in fact written, and the next append must know.
		require.ErrorAs(t, s.Append(ctx, driver.Append{Stream: "a-1", Expected: int64(4*round + 2), Events: event()}).Err, &conflict)
		require.Equal(t, uint64(4*round+4), conflict.Actual)
		r := s.Append(ctx, driver.Append{Stream: "a-1", Expected: int64(4*round + 4), Events: event()})
		require.NoError(t, r.Err)
		require.ErrorAs(t, s.Append(ctx, driver.Append{Stream: fmt.Sprintf("b-%d", round), Expected: driver.NoStream, Events: event()}).Err, &conflict)
		checkIndexes(t, s)
	}
}

func TestTimesNeverDecreaseThoughTheClockDoes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(testDir(t), "events.db")
	opt := &Options{clock: func() time.Time { return now }}
	s, err := open(path, opt)
	require.NoError(t, err)
	add := func() time.Time {
		r := s.Append(t.Context(), driver.Append{Stream: "a-1", Events: make([]driver.Event, 1)})
		require.NoError(t, r.Err)
		return r.Time
	}
	first := add()
	require.Equal(t, now, first)
	now = now.Add(-time.Hour)
	require.Equal(t, first, add())
	require.NoError(t, s.Close())
	s = openAt(t, path, opt)
	require.Equal(t, first, add(), "also after the store was opened again")
	now = first.Add(time.Minute)
	require.Equal(t, now, add())
}

func TestSynchronousHasAName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "Full Normal Synchronous(9)", fmt.Sprint(Full, Normal, Synchronous(9)))
}
