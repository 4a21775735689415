//go:build unix

package main

import (
	"os"
	"syscall"
)

// alive returns nil if a process is there.
func alive(p *os.Process) error { return p.Signal(syscall.Signal(0)) }
