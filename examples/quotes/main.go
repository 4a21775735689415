// Command quotes shows how pages are bound to events: a favourite quote, a collection, and what people say about
// them, the same on every screen. See README.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run serves until ctx ends and returns the status of the process.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	o, status := parse(args, out, errs)
	if o == nil {
		return status
	}
	if err := serve(ctx, o, out); err != nil {
		fmt.Fprintln(errs, "quotes:", err)
		return 1
	}
	return 0
}
