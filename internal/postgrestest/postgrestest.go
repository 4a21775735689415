package postgrestest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Main runs the tests of a binary and stops its servers: os.Exit(postgrestest.Main(m)).
// Examples are skipped where there is no server for them.
func Main(m *testing.M) int {
	flag.Parse()
	if _, err := binaries(); err != nil && os.Getenv(urlEnv) == "" && os.Getenv("CI") != "true" {
		if skip := flag.Lookup("test.skip"); skip != nil && skip.Value.String() == "" {
			_ = skip.Value.Set("^Example")
		}
	}
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// URL returns the URL of a fresh, empty database on a server that all tests of the binary
// share. The database is dropped with the test, and what is still connected to it is
// disconnected. If the test fails, what the server has logged meanwhile is shown, for all tests.
func URL(t testing.TB) string {
	t.Helper()
	s, err := shared.get()
	refuse(t, err)
	s.showLog(t)
	address, drop, err := s.database()
	refuse(t, err)
	t.Cleanup(drop)
	return address
}

// ExampleURL is [URL] for an example, which has no test: it panics if there is no server. The database
// is dropped by drop.
func ExampleURL() (url string, drop func()) {
	s, err := shared.get()
	if err == nil {
		url, drop, err = s.database()
	}
	if err != nil {
		panic(err)
	}
	return url, drop
}

// Own gives a file or a directory to the user that servers run as, for a tablespace for instance.
func Own(t testing.TB, path string) {
	t.Helper()
	if err := own(path); err != nil {
		t.Fatal(err)
	}
}

const urlEnv = "LEVADA_POSTGRES_URL"

// refuse ends a test that cannot have a server.
func refuse(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skipf("%v; set %s to use a server that runs", err, urlEnv)
	default:
		t.Fatal(err)
	}
}

// A machine has what the tests of a binary share.
type machine struct {
	mu     sync.Mutex
	server *Server
	err    error
	tried  bool

	cluster    *home // a fresh data directory, to copy
	clusterErr error
	made       bool
}

var shared machine

// get returns the shared server, and starts it at first.
func (m *machine) get() (*Server, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tried {
		m.tried = true
		if base := os.Getenv(urlEnv); base != "" {
			m.server, m.err = foreign(base)
		} else if data, err := m.data(); err != nil {
			m.err = err
		} else {
			dir, _ := memory()
			m.server, m.err = newServer(data, dir, nil, overTCP)
		}
	}
	return m.server, m.err
}

// template returns a data directory that no server uses.
func (m *machine) template() (*home, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data()
}

func (m *machine) data() (*home, error) {
	if !m.made {
		m.made = true
		m.cluster, m.clusterErr = initialise()
	}
	return m.cluster, m.clusterErr
}

func (m *machine) stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	if m.server != nil {
		errs = append(errs, m.server.discard())
	}
	if m.cluster != nil {
		errs = append(errs, m.cluster.remove())
	}
	m.server, m.tried, m.err = nil, true, errStopped
	m.cluster, m.made, m.clusterErr = nil, true, errStopped
	return errors.Join(errs...)
}

var errStopped = errors.New("postgrestest: stopped")

// foreign is a server that others have started.
func foreign(base string) (*Server, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, fmt.Errorf("postgrestest: %s is not a postgres:// URL", urlEnv)
	}
	return &Server{base: u}, nil
}

// database makes one.
func (s *Server) database() (address string, drop func(), err error) {
	var b [6]byte
	_, _ = rand.Read(b[:])
	name := "levada_" + hex.EncodeToString(b[:])
	// template1 may be in use, for instance by autovacuum.
	if err := s.exec("CREATE DATABASE " + name + " TEMPLATE template0"); err != nil {
		return "", nil, fmt.Errorf("postgrestest: database: %w", err)
	}
	u := *s.base
	u.Path = "/" + name
	return u.String(), func() {
		// A server that was killed takes its databases with it.
		_ = s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)")
	}, nil
}

// exec runs a statement on a connection of its own.
func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, sql)
	return err
}
