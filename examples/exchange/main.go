// Command exchange is a reference application of levada: an exchange whose order
// books are event-sourced aggregates. Without arguments it serves a live page;
// "exchange match" runs a file of orders. See README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/levada-go/levada/examples/exchange/match"
	"github.com/levada-go/levada/examples/exchange/serve"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks to close; after it the next one ends the process.
	context.AfterFunc(ctx, stop)

	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	switch name {
	case "serve":
		return serve.Main(ctx, args, os.Stdout, os.Stderr)
	case "match":
		return match.Main(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	case "help":
		return serve.Main(ctx, []string{"-h"}, os.Stdout, os.Stderr)
	}
	fmt.Fprintf(os.Stderr, "exchange: unknown command %q\nRun exchange -h for help.\n", name)
	return 2
}
