package stacktest

import (
	"testing"
	"time"
)

// Faults is Run without a test to fail, and with less patience.
func Faults(t testing.TB, opt Options, patience time.Duration) []string {
	opt.patience = patience
	return faults(t, opt)
}
