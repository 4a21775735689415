//go:build !unix

package postgrestest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// There are no Unix sockets that PostgreSQL could be relied on to use.
const overTCP = true

const connections = 100

func attributes() *syscall.SysProcAttr { return nil }

func own(string) error { return nil }

func reachable(string) bool { return true }

func copyData(to, from string) error { return os.CopyFS(to, os.DirFS(from)) }

// newWatcher watches nothing: a server outlives a test binary that is killed.
func newWatcher(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func interrupt(s *Server) {
	if bin, err := binaries(); err == nil {
		_ = exec.Command(filepath.Join(bin, "pg_ctl"), "stop", "-D", s.Dir(), "-m", "fast").Run()
	}
}

func killAll(s *Server) {
	_ = exec.Command("taskkill", "/F", "/T", "/PID", strconv.Itoa(s.cmd.Process.Pid)).Run()
	_ = s.cmd.Process.Kill()
}
