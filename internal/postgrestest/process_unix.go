//go:build unix

package postgrestest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const overTCP = false

// connections is how many clients a server takes. The semaphores that macOS gives without asking are few.
var connections = func() int {
	if runtime.GOOS == "darwin" {
		return 80
	}
	return 600
}()

// servant is the user that servers run as, nil if it is ours: PostgreSQL does not run as root.
var servant = sync.OnceValue(func() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
})

// attributes make a process run as the servant, and not get what the terminal sends to the tests.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: servant(), Setsid: true}
}

// own gives a file to the servant.
func own(path string) error {
	if c := servant(); c != nil {
		return os.Chown(path, int(c.Uid), int(c.Gid))
	}
	return nil
}

// reachable reports whether the servant may pass through what is above dir.
func reachable(dir string) bool {
	if servant() == nil {
		return true
	}
	for dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// copyData copies a data directory.
func copyData(to, from string) error {
	cmd := exec.Command("cp", "-R", "-p", from, to)
	cmd.SysProcAttr = attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	return nil
}

// A watcher ends the server in a directory and removes it when the pipe is closed by
// the end of this process, however it ends.
type watcher struct {
	pipe *os.File
	cmd  *exec.Cmd
}

const watch = `
read -r word && exit
end() {
	pid=$(head -n 1 "$2" 2>/dev/null) && kill -"$1" "$pid" 2>/dev/null || return
	i=0
	while kill -0 "$pid" 2>/dev/null && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
}
end TERM "$1/pid"
end QUIT "$1/data/postmaster.pid"
rm -rf "$1"
sleep 2 # what was filling the directory has noticed by now
rm -rf "$1"
`

func newWatcher(dir string) (io.Closer, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", dir)
	cmd.Dir, cmd.Stdin, cmd.SysProcAttr = "/", r, attributes()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watcher: %w", err)
	}
	return &watcher{w, cmd}, nil
}

// Close sends the watcher home: there is nothing to do for it any more.
func (w *watcher) Close() error {
	_, _ = io.WriteString(w.pipe, "done\n")
	_ = w.pipe.Close()
	return w.cmd.Wait()
}

// interrupt lets the server end at once, in good order.
func interrupt(s *Server) { _ = s.cmd.Process.Signal(syscall.SIGINT) }

// killAll kills the server and all its processes, and waits until these are gone: each
// has a session of its own, so that they must be found by their parent.
func killAll(s *Server) {
	pid := s.cmd.Process.Pid
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // it shall start no more
	children := childrenOf(pid)
	_ = s.cmd.Process.Kill()
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	<-s.ended
	for _, child := range children {
		for range 500 {
			if !alive(child) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// alive reports whether a process still has its memory: one that nobody waits for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	_, state, err := stat(pid)
	return err != nil && !os.IsNotExist(err) || err == nil && state != "Z" && state != "X"
}

func childrenOf(pid int) (children []int) {
	entries, err := os.ReadDir("/proc")
	if _, _, err2 := stat(os.Getpid()); err != nil || err2 != nil {
		out, _ := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=").Output()
		for line := range strings.Lines(string(out)) {
			var child, parent int
			if n, _ := fmt.Sscan(line, &child, &parent); n == 2 && parent == pid {
				children = append(children, child)
			}
		}
		return children
	}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, _, err := stat(child); err == nil && parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// stat reads what Linux tells of a process.
func stat(pid int) (parent int, state string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	if n, _ := fmt.Sscan(rest, &state, &parent); !ok || n != 2 {
		return 0, "", fs.ErrInvalid
	}
	return parent, state, nil
}
