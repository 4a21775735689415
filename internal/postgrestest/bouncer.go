package postgrestest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Bouncer is a pgbouncer in front of a Server, in transaction mode: a client has a connection to the
// server for the time of a transaction, and nothing that it leaves there is its own.
type Bouncer struct {
	server *Server
	home   *home
}

// StartBouncer starts one for the test, which ends with it. Each of config is a setting of its section
// [pgbouncer]: "default_pool_size = 5". Without pgbouncer on PATH or in /usr/sbin, or without Unix sockets, the test is skipped, and fails
// with CI=true. If the test fails, the end of its log is shown.
func StartBouncer(t testing.TB, s *Server, config ...string) *Bouncer {
	t.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil || s.tcp || s.home == nil {
		refuse(t, fmt.Errorf("%w: no pgbouncer on PATH nor in /usr/sbin, or no Unix sockets", errMissing))
	}
	b := &Bouncer{server: s}
	if b.home, err = newHome(""); err != nil {
		t.Fatal(err)
	}
	cmd, err := b.launch(bin, config)
	if err != nil {
		t.Error(b.home.remove())
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("postgrestest: pgbouncer ended before: %v", cmd.ProcessState)
		default:
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("log of pgbouncer:\n%s", b.home.logged(0))
		}
		if err := b.home.remove(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, b.Through(s.base.String()))
		if err == nil {
			_ = c.Close(ctx)
			return b
		}
		select {
		case <-ended:
			t.Fatalf("postgrestest: pgbouncer has ended:\n%s", b.home.logged(0))
		case <-ctx.Done():
			t.Fatalf("postgrestest: pgbouncer is not ready: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (b *Bouncer) launch(bin string, config []string) (*exec.Cmd, error) {
	users, ini := filepath.Join(b.home.dir, "users"), filepath.Join(b.home.dir, "ini")
	lines := append([]string{
		"[databases]",
		"* = host=" + b.server.home.dir + " port=5432",
		"[pgbouncer]",
		"pool_mode = transaction",
		"listen_addr =",
		"listen_port = 6432",
		"unix_socket_dir = " + b.home.dir,
		"auth_type = trust",
		"auth_file = " + users,
		"logfile = " + b.home.log(),
		"pidfile = " + filepath.Join(b.home.dir, "pid"),
		"max_client_conn = 500",
		"default_pool_size = 50",
	}, config...)
	for path, text := range map[string]string{users: fmt.Sprintf("%q \"\"\n", role), ini: strings.Join(lines, "\n") + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		if err := own(path); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(bin, "-q", ini)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = b.home.dir, environment(), attributes()
	return cmd, cmd.Start()
}

// Through returns the URL of a database of the server through b. Prepared statements are not used
// then, which earlier versions of pgbouncer lose in transaction mode.
func (b *Bouncer) Through(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	q.Set("host", b.home.dir)
	q.Set("port", "6432")
	q.Set("default_query_exec_mode", "exec")
	u.RawQuery = q.Encode()
	return u.String()
}
