//go:build !linux

package natstest

func roomy(string) bool { return false }
