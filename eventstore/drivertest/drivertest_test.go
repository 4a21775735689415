package drivertest_test

import (
	"testing"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// TestMemstorePasses shows that the suite can be passed by a driver that
// outlives its process: here by one that pretends to.
func TestMemstorePasses(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store { return memstore.NewDriver() },
	})
}
