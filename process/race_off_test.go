//go:build !race

package process_test

const race = false
