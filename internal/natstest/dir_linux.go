package natstest

import "golang.org/x/sys/unix"

// roomy reports whether a file system has a gigabyte to spare.
func roomy(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Bavail*uint64(s.Bsize) >= 1<<30
}
