//go:build !race

package kurrentstore

const raceEnabled = false
