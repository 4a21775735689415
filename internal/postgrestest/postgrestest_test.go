package postgrestest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

const childEnv = "LEVADA_POSTGRESTEST_CHILD"

// The child is this test binary, started again to be killed.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(Main(m))
	}
	data, err := shared.template()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s, err := newServer(data, "", nil, overTCP)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.home.dir)
	fmt.Println(data.dir)
	fmt.Println(s.base)
	select {}
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func execute(t testing.TB, c *pgx.Conn, sql string) {
	t.Helper()
	_, err := c.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

func ask[T any](t testing.TB, c *pgx.Conn, sql string) (v T) {
	t.Helper()
	require.NoError(t, c.QueryRow(t.Context(), sql).Scan(&v), sql)
	return v
}

func TestEachURLIsOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for range 3 {
		c := connect(t, URL(t))
		require.Zero(t, ask[int](t, c, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
		execute(t, c, "CREATE TABLE mark(a int)")
		require.Equal(t, "UTF8", ask[string](t, c, "SHOW server_encoding"))
	}
}

func TestADatabaseIsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	var name string
	var c *pgx.Conn
	t.Run("test", func(t *testing.T) {
		address := URL(t)
		u, err := url.Parse(address)
		require.NoError(t, err)
		name = strings.TrimPrefix(u.Path, "/")
		c, err = pgx.Connect(t.Context(), address) // left open
		require.NoError(t, err)
	})
	require.Error(t, c.Ping(t.Context()), "it was disconnected")
	other := connect(t, URL(t))
	require.Zero(t, ask[int](t, other, "SELECT count(*) FROM pg_database WHERE datname = '"+name+"'"))
}

func TestTheSharedServerCanBeAnothers(t *testing.T) {
	t.Parallel()
	s := Start(t)
	other, err := foreign(s.base.String())
	require.NoError(t, err)
	address, drop, err := other.database()
	require.NoError(t, err)
	connect(t, address)
	drop()
	_, err = pgx.Connect(t.Context(), address)
	require.Error(t, err)
	require.NoError(t, other.discard(), "does nothing")
	connect(t, s.base.String())
	for _, bad := range []string{"", "host=/tmp", "nats://x", "%"} {
		_, err := foreign(bad)
		require.ErrorContains(t, err, urlEnv, bad)
	}
}

func TestWhatWasCommittedSurvivesAKill(t *testing.T) {
	t.Parallel()
	s := Start(t)
	address := s.URL(t)
	c := connect(t, address)
	require.Equal(t, "on", ask[string](t, c, "SHOW fsync"))
	execute(t, c, "CREATE TABLE kept(a int)")
	for round := range 3 {
		c := connect(t, address)
		execute(t, c, "INSERT INTO kept VALUES(1)")
		if round == 1 {
			s.Stop()
		} else {
			s.Kill()
		}
		require.Error(t, c.Ping(t.Context()))
		_, err := pgx.Connect(t.Context(), address)
		require.Error(t, err, "nobody is there")
		s.Restart(t)
		require.Equal(t, round+1, ask[int](t, connect(t, address), "SELECT count(*) FROM kept"))
	}
	s.Kill()
	s.Kill() // does nothing
}

func TestDroppedConnectionsAreGone(t *testing.T) {
	t.Parallel()
	s := Start(t)
	address := s.URL(t)
	a, b := connect(t, address), connect(t, s.URL(t))
	require.GreaterOrEqual(t, s.DropConnections(t), 2)
	for _, c := range []*pgx.Conn{a, b} {
		require.Error(t, c.Ping(t.Context()))
	}
	connect(t, address)
}

func TestADirectoryCanBeGivenToTheServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	dir, err := os.MkdirTemp("/tmp", "lvpg")
	if err != nil {
		t.Skip("no /tmp")
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	Own(t, dir)
	execute(t, connect(t, s.base.String()), "CREATE TABLESPACE other LOCATION '"+dir+"'")
}

func TestSettingsAreTheCallers(t *testing.T) {
	t.Parallel()
	s := Start(t, "max_connections=33", "wal_level=logical")
	c := connect(t, s.URL(t))
	require.Equal(t, "33", ask[string](t, c, "SHOW max_connections"))
	require.Equal(t, "logical", ask[string](t, c, "SHOW wal_level"))
	data, err := shared.template()
	require.NoError(t, err)
	_, err = newServer(data, "", []string{"max_connections=many"}, overTCP)
	require.ErrorContains(t, err, "max_connections", "the log says what is wrong")
}

func TestAServerWithoutUnixSocketsAsksForThePassword(t *testing.T) {
	t.Parallel()
	if _, err := binaries(); err != nil {
		refuse(t, err)
	}
	data, err := shared.template()
	require.NoError(t, err)
	a, err := newServer(data, "", nil, true)
	require.NoError(t, err)
	defer func() { require.NoError(t, a.discard()) }()
	b, err := newServer(data, "", nil, true)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.discard()) }()
	require.NotEqual(t, a.base.Host, b.base.Host)
	connect(t, b.URL(t))
	u := *a.base
	u.User = url.UserPassword(role, "wrong")
	_, err = pgx.Connect(t.Context(), u.String())
	require.ErrorContains(t, err, "password")
	a.Kill()
	before := a.base.Host
	a.Restart(t)
	require.Equal(t, before, a.base.Host)

	// A port that is taken is given up for another.
	b.Stop()
	b.base.Host = a.base.Host
	b.Restart(t)
	require.NotEqual(t, a.base.Host, b.base.Host)
	connect(t, a.URL(t))
	connect(t, b.URL(t))
}

func TestAKilledTestBinaryLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nothing watches a test binary there")
	}
	if _, err := binaries(); err != nil {
		refuse(t, err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	read := func() string {
		require.True(t, lines.Scan())
		return lines.Text()
	}
	dirs, address := []string{read(), read()}, read()
	c := connect(t, address)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for _, dir := range dirs {
		require.True(t, filepath.IsAbs(dir), dir)
		require.Eventually(t, func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, fs.ErrNotExist)
		}, 30*time.Second, 20*time.Millisecond, dir)
	}
	require.Error(t, c.Ping(t.Context()))
}

func TestTheNewestBinariesAreFound(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	bin, err := binaries()
	if len(dirs) == 0 {
		if err != nil {
			require.ErrorIs(t, err, errMissing)
		}
		return
	}
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(bin, "postgres"))
}

// A spy is a test that may be skipped or fail.
type spy struct {
	testing.TB
	did string
}

func (s *spy) Helper()                  {}
func (s *spy) Skipf(string, ...any)     { s.did = "skipped" }
func (s *spy) Fatal(...any)             { s.did = "failed" }
func (s *spy) Failed() bool             { return true }
func (s *spy) Logf(f string, a ...any)  { s.did += fmt.Sprintf(f, a...) }
func (s *spy) Cleanup(fn func())        { s.TB.(*testing.T).Cleanup(fn) }
func (s *spy) Context() context.Context { return s.TB.Context() }

func TestWithoutPostgreSQLATestIsSkippedButFailsInCI(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		ci   string
		says string
	}{
		"there":          {nil, "true", ""},
		"missing":        {errMissing, "", "skipped"},
		"missing in CI":  {errMissing, "true", "failed"},
		"something else": {errors.New("no disk"), "", "failed"},
	} {
		t.Setenv("CI", c.ci)
		s := &spy{TB: t}
		refuse(s, c.err)
		require.Equal(t, c.says, s.did, name)
	}
}

func TestAFailedTestShowsTheLog(t *testing.T) {
	t.Parallel()
	server := Start(t)
	var s *spy
	t.Run("fails", func(t *testing.T) {
		c := connect(t, server.URL(t))
		_, err := c.Exec(t.Context(), "SELECT 'before'::int")
		require.Error(t, err)
		s = &spy{TB: t}
		server.showLog(s)
		_, err = c.Exec(t.Context(), "SELECT 'meanwhile'::int")
		require.Error(t, err)
	})
	require.Contains(t, s.did, "meanwhile")
	require.NotContains(t, s.did, "before")
}
