// Package filelock makes one process the only one to do something, by a lock of
// the operating system on a file.
package filelock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// ErrHeld reports a lock that another has. The message names the process if it is known.
var ErrHeld = errors.New("held by another")

// A Lock is held until it is released, or its process has ended, however that did.
// The file stays when the lock goes: removing it could take away the lock of the
// next one.
type Lock struct{ f *os.File }

// Acquire locks the file at path, which it makes if it is not there. It does not
// wait: an error that Is ErrHeld says that another has the lock, in this process or elsewhere.
func Acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := flock(f)
	if err == nil && !ok {
		err = ErrHeld
		if pid := readPID(f); pid > 0 {
			err = fmt.Errorf("%w, process %d", ErrHeld, pid)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &Lock{f}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	// For whoever is refused. Nothing depends on it, so that a full disk does not matter.
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
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

// Release lets go of the lock.
func (l *Lock) Release() error {
	_ = l.f.Truncate(0)
	funlock(l.f)
	return l.f.Close()
}
