//go:build !race

package match

const scale = 1
