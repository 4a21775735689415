package natsstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// A dirLock makes this process the one that runs a server in a directory. The
// file stays when the lock goes: removing it could take away the lock of the next
// one.
type dirLock struct{ f *os.File }

// lockDir returns ErrLocked, with the process id of the holder if it is known,
// when another has the lock.
func lockDir(path string) (*dirLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := flock(f)
	if err == nil && !ok {
		err = ErrLocked
		if text, e := io.ReadAll(io.LimitReader(f, 32)); e == nil {
			if pid, e := strconv.Atoi(strings.TrimSpace(string(text))); e == nil {
				err = fmt.Errorf("%w: by process %d", ErrLocked, pid)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// For whoever is refused; nothing depends on it.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return &dirLock{f}, nil
}

func (l *dirLock) release() error {
	_ = l.f.Truncate(0)
	funlock(l.f)
	return l.f.Close()
}
