//go:build race

package process_test

// With the race detector everything takes many times as long.
const race = true
