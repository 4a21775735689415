package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is a PostgreSQL server of a test's own. Its methods are safe for concurrent use, but
// Kill, Stop and Restart must not overlap.
type Server struct {
	base   *url.URL // of the database postgres
	home   *home    // nil if the server is not ours
	config []string
	tcp    bool

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	began int64         // bytes in the log, when it started
}

// Start starts a server for the test, which ends with it. Each of config is a
// setting as in postgresql.conf: "max_wal_size=64MB". If the test fails, the end of the server's log
// is shown.
func Start(t testing.TB, config ...string) *Server {
	t.Helper()
	data, err := shared.template()
	refuse(t, err)
	dir, _ := memory()
	if _, measures := t.(*testing.B); measures {
		dir = ""
	}
	s, err := newServer(data, dir, config, overTCP)
	refuse(t, err)
	t.Cleanup(func() {
		if err := s.discard(); err != nil {
			t.Error(err)
		}
	})
	s.showLog(t)
	return s
}

// Standby starts a hot standby of s for the test, which follows it by streaming what it writes. Before, s is
// stopped and started again: it must have no clients.
func (s *Server) Standby(t testing.TB, config ...string) *Server {
	t.Helper()
	s.Stop()
	standby, err := copyServer(s.home, filepath.Dir(s.home.dir), append(config, "primary_conninfo="+s.base.String()), s.tcp)
	if err == nil && s.tcp {
		standby.base.User = s.base.User
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(standby.Dir(), "standby.signal"), nil, 0o600)
	}
	if err == nil {
		err = own(filepath.Join(standby.Dir(), "standby.signal"))
	}
	s.Restart(t)
	if err == nil {
		err = standby.start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.discard(); err != nil {
			t.Error(err)
		}
	})
	standby.showLog(t)
	return standby
}

// Twin returns the URL on a standby of what address, one of its primary's, leads to there.
func (s *Server) Twin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // it is ours
	}
	twin := *s.base
	twin.Path = u.Path
	return twin.String()
}

// URL returns the URL of a fresh, empty database. It is the same after a restart.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	address, _, err := s.database()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Kill ends the server and all its processes by SIGKILL, as a crash would. It returns when they are gone.
func (s *Server) Kill() { s.end(killAll) }

// Stop ends the server as an administrator would: its clients are told so and disconnected, and it
// returns when that is done.
func (s *Server) Stop() { s.end(interrupt) }

// Restart starts the server again, after Kill or Stop, at the same address. It returns when the server, having
// recovered, takes connections.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// DropConnections ends all connections of clients, of every database, and returns how many there were.
func (s *Server) DropConnections(t testing.TB) int {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.base.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var n int
	err = c.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Dir returns the directory that holds the data of the server.
func (s *Server) Dir() string { return s.home.data() }

// errMissing reports that there is no PostgreSQL on the machine.
var errMissing = errors.New("postgrestest: no initdb on PATH, nor where PostgreSQL is usually installed")

// binaries returns the directory with initdb and postgres.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			if _, err := exec.LookPath(filepath.Join(filepath.Dir(path), "postgres")); err == nil {
				return filepath.Dir(path), nil
			}
		}
	}
	best, newest := "", -1.0
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			version, _ := strconv.ParseFloat(strings.TrimLeft(filepath.Base(filepath.Dir(dir)), "abcdefghijklmnopqrstuvwxyz-@"), 64)
			if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err == nil && version > newest {
				best, newest = dir, version
			}
		}
	}
	if best == "" {
		return "", errMissing
	}
	return best, nil
}

// A home is a directory for a server.
type home struct {
	dir   string // with the data, the socket and the log
	watch io.Closer
}

// newHome makes one, in the usual directory for temporary ones if in is empty: with a short name, because the path of a Unix socket may
// have some 100 bytes, and within reach of the user that the server runs as.
func newHome(in string) (_ *home, err error) {
	dir, err := os.MkdirTemp(in, "lvpg")
	if err == nil && (len(dir) > 80 || !reachable(dir)) {
		_ = os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "lvpg")
	}
	if err != nil {
		return nil, fmt.Errorf("postgrestest: %w", err)
	}
	h := &home{dir: dir}
	if err = own(dir); err == nil {
		h.watch, err = newWatcher(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("postgrestest: %w", errors.Join(err, os.RemoveAll(dir)))
	}
	return h, nil
}

func (h *home) data() string     { return filepath.Join(h.dir, "data") }
func (h *home) log() string      { return filepath.Join(h.dir, "log") }
func (h *home) password() string { return filepath.Join(h.dir, "password") }

// logged returns the end of what the log has after its first bytes.
func (h *home) logged(from int64) string {
	log, err := os.ReadFile(h.log())
	if err != nil {
		return err.Error()
	}
	log = log[min(from, int64(len(log))):]
	return string(bytes.ToValidUTF8(log[max(0, len(log)-32<<10):], nil))
}

func (h *home) remove() error { return errors.Join(h.watch.Close(), os.RemoveAll(h.dir)) }

const role = "levada"

// initialise makes a data directory. It takes a second or two.
func initialise() (_ *home, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	h, err := newHome("")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.remove())
		}
	}()
	// Over a Unix socket, the directory of which is closed to others, whoever
	// reaches the server may use it; by TCP they need the password.
	var secret [16]byte
	_, _ = rand.Read(secret[:])
	if err := os.WriteFile(h.password(), []byte(hex.EncodeToString(secret[:])), 0o600); err != nil {
		return nil, err
	}
	if err := own(h.password()); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", h.data(), "--username", role,
		"--auth-local", "trust", "--auth-host", "scram-sha-256", "--pwfile", h.password(),
		"--encoding", "UTF8", "--no-locale", "--no-sync")
	cmd.Dir, cmd.Env = h.dir, environment()
	cmd.SysProcAttr = attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postgrestest: initdb: %w\n%s", err, out)
	}
	return h, nil
}

// environment is that of the server: what it knows of PostgreSQL by variables is of
// the user's servers.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "TZ=") {
			env = append(env, kv)
		}
	}
	return env
}

// newServer starts a server on a copy of the data directory in template, in a directory in in.
func newServer(template *home, in string, config []string, tcp bool) (*Server, error) {
	s, err := copyServer(template, in, config, tcp)
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.discard())
	}
	return s, nil
}

// copyServer is newServer without starting it.
func copyServer(template *home, in string, config []string, tcp bool) (_ *Server, err error) {
	h, err := newHome(in)
	if err != nil {
		return nil, err
	}
	s := &Server{home: h, config: config, tcp: tcp}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard())
		}
	}()
	if err := copyData(h.data(), template.data()); err != nil {
		return nil, fmt.Errorf("postgrestest: %w", err)
	}
	s.base = &url.URL{Scheme: "postgres", User: url.User(role), Path: "/postgres",
		RawQuery: url.Values{"host": {h.dir}, "port": {"5432"}, "sslmode": {"disable"}}.Encode()}
	if tcp {
		secret, err := os.ReadFile(template.password())
		if err != nil {
			return nil, fmt.Errorf("postgrestest: %w", err)
		}
		s.base.User, s.base.RawQuery = url.UserPassword(role, string(secret)), url.Values{"sslmode": {"disable"}}.Encode()
	}
	return s, nil
}

// arguments are those of the server, with settings that fit tests. The last of equal ones counts.
func (s *Server) arguments() []string {
	settings := append([]string{
		"shared_buffers=32MB",
		"max_connections=" + strconv.Itoa(connections),
		"superuser_reserved_connections=5",
		"max_locks_per_transaction=256",
		"max_wal_size=256MB",
		"timezone=UTC",
		"lc_messages=C",
		"log_min_messages=warning",
		"log_checkpoints=off",
		"log_line_prefix=%m [%p] %d ",
	}, s.config...)
	if s.tcp {
		settings = append(settings, "listen_addresses=127.0.0.1", "port="+s.base.Port(), "unix_socket_directories=")
	} else {
		settings = append(settings, "listen_addresses=", "port=5432", "unix_socket_directories="+s.home.dir, "unix_socket_permissions=0700")
	}
	args := []string{"-D", s.Dir()}
	for _, set := range settings {
		args = append(args, "-c", set)
	}
	return args
}

// start starts the process, and waits until it takes connections.
func (s *Server) start() error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Minute) // a recovery may be long on a busy machine
	for {
		if err = s.listen(); err == nil {
			err = s.launch(bin)
		}
		if err != nil {
			return fmt.Errorf("postgrestest: start: %w", err)
		}
		err = s.ready(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// Another program has taken the port, or the processes of an earlier
		// life still hold its memory. Everything else will not change.
		log := s.home.logged(s.began)
		if !strings.Contains(log, "could not bind") && !strings.Contains(log, "still in use") {
			return fmt.Errorf("%w\n%s", err, log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// listen chooses a port, where there is one to choose. It is kept over restarts.
func (s *Server) listen() error {
	if !s.tcp || s.base.Port() != "" && s.cmd != nil && !strings.Contains(s.home.logged(s.began), "could not bind") {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.base.Host = l.Addr().String()
	return l.Close()
}

func (s *Server) launch(bin string) error {
	log, err := os.OpenFile(s.home.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), s.arguments()...)
	cmd.Dir, cmd.Env = s.home.dir, environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd, s.ended, s.began = cmd, ended, info.Size()
	return nil
}

// ready waits until the server takes connections.
func (s *Server) ready(deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return errors.New("postgrestest: the server has ended")
		case <-ctx.Done():
			return fmt.Errorf("postgrestest: the server is not ready: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// answers asks who is there: at a port that is taken it is another.
func (s *Server) answers(ctx context.Context) error {
	c, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	var dir string
	if err := c.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if filepath.Clean(dir) != filepath.Clean(s.home.data()) {
		return fmt.Errorf("the server of %s answers", dir)
	}
	return nil
}

// end ends the process by signal and waits for that.
func (s *Server) end(signal func(*Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	select {
	case <-s.ended: // its number may be another's by now
	default:
		signal(s)
		<-s.ended
	}
}

// discard ends the server and removes what it has written.
func (s *Server) discard() error {
	if s.home == nil {
		return nil
	}
	s.end(killAll)
	return s.home.remove()
}

// showLog shows what the server has logged since, if the test fails.
func (s *Server) showLog(t testing.TB) {
	if s.home == nil {
		return
	}
	from := int64(0)
	if info, err := os.Stat(s.home.log()); err == nil {
		from = info.Size()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of PostgreSQL:\n%s", s.home.logged(from))
		}
	})
}
