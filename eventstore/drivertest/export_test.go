package drivertest

import "context"

// Linearized is Linearize without a test to fail.
func Linearized(ctx context.Context, opt LinearOptions) error {
	_, err := linearize(ctx, opt)
	return err
}
