package postgrestest

import "syscall"

// memory returns a directory in memory, if the system has one with room for a
// server and the databases of the tests that run at once: a database is made there several times as fast.
func memory() (dir string, ok bool) {
	const dev, room = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dev, &fs); err != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < room {
		return "", false
	}
	return dev, true
}
