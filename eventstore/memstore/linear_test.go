package memstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
)

// Two processes share a store, and each loses its line to it now and then: before it
// is heard, or before it hears the answer.
func TestItIsLinearizableWhereAnswersAreLost(t *testing.T) {
	t.Parallel()
	shared := eventstoretest.Share(t, open())
	a, faultsA := eventstoretest.Faulty(t, shared)
	b, faultsB := eventstoretest.Faulty(t, eventstoretest.Share(t, shared))
	cut := errors.New("the line is cut")
	lost := fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, cut)
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{a, b}, Deletes: true,
		Fault: func(ctx context.Context) {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for i := range 60 {
				faults := []*eventstoretest.Faults{faultsA, faultsB}[i%2]
				switch i % 3 {
				case 0:
					for _, op := range []eventstoretest.Op{eventstoretest.OpAppend, eventstoretest.OpStream, eventstoretest.OpReadStream} {
						faults.Before(op, 3, cut)
					}
				case 1:
					faults.After(eventstoretest.OpAppend, 3, lost)
				case 2:
					faults.Delay(eventstoretest.OpStream, 2*time.Millisecond)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				faults.Heal()
			}
		},
	})
}
