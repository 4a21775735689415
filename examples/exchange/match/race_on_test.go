//go:build race

package match

// scale divides the sizes of tests that take long: the race detector makes
// SQLite some thirty times slower.
const scale = 5
