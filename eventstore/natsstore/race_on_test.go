//go:build race

package natsstore

const raceEnabled = true
