package projectiontest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/levada-go/levada/projection/projectiontest"
)

// A report is what stands for the *testing.T of a test here: it prints what fails.
type report struct{ testing.TB }

func (report) Helper()                           {}
func (report) Cleanup(func())                    {}
func (report) Fatalf(format string, args ...any) { fmt.Printf(format, args...) }
func (report) Fatal(args ...any)                 { fmt.Println(args...) }
func (report) Context() context.Context          { return context.Background() }

var t report

// In a test, t is the argument.
func Example() {
	h := projectiontest.Given(t, register,
		projectiontest.In("till-1", Sold{"tea", 3}, Sold{"cake", 5}),
		projectiontest.In("till-2", Sold{"tea", 3}))
	fmt.Println(projectiontest.Model(h, sales).Earned)
	projectiontest.Idempotent(h, receipts) // each sale under a name of its own
	projectiontest.Idempotent(h, sales)    // a sum
	// Output:
	// map[cake:5 tea:6]
	// projectiontest: handling till-1 version 1, a sold, twice makes a difference:
	// once  {Earned:map[tea:3]}
	// twice {Earned:map[tea:6]}
}
