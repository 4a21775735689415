// Levada is the library's command.
//
//	levada esdb [flags]   serve a store to clients of EventStoreDB
//	levada version        say what this is
//	levada help           say all this
//
// Each command tells of its flags with -h. The status is 0 when all went well, 1 when
// something failed, and 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A command is one of levada's.
type command struct {
	name  string
	about string // one line
	// run carries the command out until ctx ends. It returns errUsage for a wrong
	// command line, after it has said what is wrong.
	run func(ctx context.Context, args []string, out, errs io.Writer) error
}

var commands = []command{
	{"esdb", "serve a store to clients of EventStoreDB", esdb},
	{"version", "say what this is", version},
}

// errUsage is the end of a command whose command line is wrong.
var errUsage = errors.New("wrong command line")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process. It returns the status.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		help(errs)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(out)
		return 0
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(ctx, args[1:], out, errs); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			fmt.Fprintf(errs, "levada %s: %v\n", c.name, err)
			return 1
		}
	}
	fmt.Fprintf(errs, "levada: there is no command %q; levada help names those that there are\n", args[0])
	return 2
}

func help(w io.Writer) {
	fmt.Fprint(w, "Levada is a library for event sourcing; this is its command.\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  levada %-10s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, "\nlevada COMMAND -h tells of a command's flags.\n")
}

// flags returns the flags of a command, which print to where parse wants them.
func flags(name, usage string) *flag.FlagSet {
	f := flag.NewFlagSet("levada "+name, flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "%s\n\n", usage)
		f.PrintDefaults()
	}
	return f
}

// parse parses a command's flags. Help goes to out, what is wrong to errs, in a
// sentence.
func parse(f *flag.FlagSet, args []string, out, errs io.Writer) error {
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(out)
		f.Usage()
		return err
	case err != nil:
		return wrong(f, errs, "%v", err)
	case f.NArg() > 0:
		return wrong(f, errs, "%q is not a flag", f.Arg(0))
	}
	return nil
}

// wrong says what is wrong with a command line.
func wrong(f *flag.FlagSet, errs io.Writer, format string, args ...any) error {
	fmt.Fprintf(errs, "%s: %s; %s -h tells of its flags\n", f.Name(), fmt.Sprintf(format, args...), f.Name())
	return errUsage
}
