package sqlitestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// A fileLock is what makes this process the one that writes. It is held on a
// file beside the database, because SQLite has its own locks on that, which it
// would lose if we opened and closed it. The file stays when the lock goes:
// removing it could take away the lock of the next one.
type fileLock struct{ f *os.File }

// lockFile returns ErrLocked, with the process id of the holder if it is known,
// when another has the lock.
func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := flock(f)
	if err == nil && !ok {
		err = ErrLocked
		if pid := readPID(f); pid > 0 {
			err = fmt.Errorf("%w: by process %d", ErrLocked, pid)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &fileLock{f}
	if err := writePID(f); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// writePID is for whoever is refused; nothing depends on it, so that a full disk
// does not matter.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return nil
}

func (l *fileLock) release() error {
	_ = l.f.Truncate(0)
	funlock(l.f)
	return l.f.Close()
}
