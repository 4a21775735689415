//go:build !linux

package postgrestest

func memory() (dir string, ok bool) { return "", false }
