// Bank sends money from account to account, and shows what becomes of it.
//
//	go run ./examples/bank [-db FILE | -store STORE]
//
// Its events are in memory, or in a file or another store: then run it again, and again after two minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/examples/internal/program"
	"github.com/levada-go/levada/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the bank with the arguments of a command line and returns the status of the process: 2 for arguments that are
// wrong, 1 for what failed.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("bank", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	db := flags.String("db", "", "the `FILE` that keeps the events; without it they are in memory, and forgotten at the end")
	store := flags.String("store", "", program.StoreHelp())
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, "Bank sends money from account to account, and shows what becomes of it.\n\n\tbank [-db FILE | -store STORE]\n\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return 0
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var place *program.Place
	if err == nil {
		if *db == "" && *store == "" {
			*store = "memory:"
		}
		place, err = program.ParsePlace(*db, *store, nil)
	}
	if err != nil {
		fmt.Fprintf(errs, "bank: %v\nRun bank -h for help.\n", err)
		return 2
	}
	if err := run(ctx, out, place); err != nil {
		if ctx.Err() != nil {
			err = errors.New("it was told to end; run it again with the same store, and it goes on")
		}
		fmt.Fprintf(errs, "bank: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, out io.Writer, place *program.Place) (err error) {
	store, err := place.Open(ctx, "bank", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{bank.Accounts, bank.Transfers},
		Processes:  []process.Opener{bank.Transferrals},
	})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- app.Run(running) }()
	defer func() {
		end()
		err = errors.Join(err, <-ended)
	}()
	t := teller{app, out}
	if err := t.open(ctx); err != nil {
		return err
	}
	if err := t.story(ctx); err != nil {
		return err
	}
	return t.books(ctx)
}

// A teller does what people ask for and tells what becomes of it.
type teller struct {
	app *levada.App
	out io.Writer
}

func (t *teller) do(ctx context.Context, cmds ...command.Command) error {
	for _, c := range cmds {
		if _, err := t.app.Dispatch(ctx, c); err != nil {
			return fmt.Errorf("%T: %w", c, err)
		}
	}
	return nil
}

// open opens the accounts, the first time.
func (t *teller) open(ctx context.Context) error {
	for _, name := range []string{"ann", "bob"} {
		if err := t.do(ctx, bank.Open{Account: name}); err != nil {
			return err
		}
		_, err := t.app.Dispatch(ctx, bank.Deposit{Account: name, Amount: 100_00}, command.Once("first deposit"))
		if err != nil {
			return err
		}
	}
	return nil
}

// story sends five transfers.
func (t *teller) story(ctx context.Context) error {
	n := 0
	for _, err := range t.app.Store.Streams(ctx, "transfer") {
		if err != nil {
			return err
		}
		n++
	}
	for _, s := range []struct {
		what   string
		send   bank.Send
		accept bool
	}{
		{"Ann pays Bob", bank.Send{From: "ann", To: "bob", Amount: 30_00}, false},
		{"Ann has not got so much", bank.Send{From: "ann", To: "bob", Amount: 5000_00}, false},
		{"Zoe has no account", bank.Send{From: "ann", To: "zoe", Amount: 10_00}, false},
		{"Bob asks Ann to accept, and she does", bank.Send{From: "bob", To: "ann", Amount: 20_00, Ask: true}, true},
		{"Bob asks Ann again, and she does nothing", bank.Send{From: "bob", To: "ann", Amount: 5_00, Ask: true}, false},
	} {
		n++
		s.send.Transfer = strconv.Itoa(n)
		fmt.Fprintf(t.out, "%s: %d.%02d\n", s.what, s.send.Amount/100, s.send.Amount%100)
		if err := t.do(ctx, s.send); err != nil {
			return err
		}
		if s.accept {
			if err := t.do(ctx, bank.Accept{Transfer: s.send.Transfer}); err != nil {
				return err
			}
		}
		if err := t.watch(ctx, s.send.Transfer, s.send.Ask && !s.accept); err != nil {
			return err
		}
	}
	return nil
}

// watch tells what happens to a transfer until it ends or, if it is to be accepted, until the money is held.
func (t *teller) watch(ctx context.Context, transfer string, held bool) error {
	for b, err := range t.app.Store.Follow(ctx, eventstore.Filter{Categories: []string{"account", "transfer"}}, 0) {
		if err != nil {
			return err
		}
		for _, r := range b.Events {
			switch e := r.Data.(type) {
			case bank.Held:
				if e.Transfer == transfer {
					fmt.Fprintf(t.out, "  held at %s\n", r.Stream)
					if held {
						return nil
					}
				}
			case bank.Received:
				if e.Transfer == transfer {
					fmt.Fprintf(t.out, "  received at %s\n", r.Stream)
				}
			case bank.Released:
				if e.Transfer == transfer {
					fmt.Fprintf(t.out, "  released at %s\n", r.Stream)
				}
			case bank.Completed:
				if e.Transfer == transfer {
					fmt.Fprintln(t.out, "  completed")
					return nil
				}
			case bank.Failed:
				if e.Transfer == transfer {
					fmt.Fprintf(t.out, "  failed: %s\n", e.Reason)
					return nil
				}
			}
		}
	}
	return nil
}

// books shows the accounts, and the transfers that are not over.
func (t *teller) books(ctx context.Context) error {
	head, err := t.app.Store.Head(ctx)
	if err != nil {
		return err
	}
	if err := t.app.Group.Wait(ctx, head, "transfer"); err != nil {
		return err
	}
	fmt.Fprintln(t.out)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, name := range []string{"ann", "bob"} {
		var a bank.Account
		for r, err := range t.app.Store.ReadStream(ctx, eventstore.Stream("account", name), 0) {
			if err != nil {
				return err
			}
			a = aggregate.Fold(a, r.Data.(bank.AccountEvent))
		}
		held := int64(0)
		for _, amount := range a.Holds {
			held += amount
		}
		fmt.Fprintf(w, "%s\t%d.%02d\theld %d.%02d\n", name, a.Balance/100, a.Balance%100, held/100, held%100)
	}
	for in, err := range process.Instances(ctx, t.app.Store, "transfer", process.Running) {
		if err != nil {
			return err
		}
		for _, timer := range in.Timers {
			fmt.Fprintf(w, "transfer %s\twaits\t%s comes in %v\n", in.ID, timer.Command, timer.At.Sub(in.Since).Round(1e9))
		}
	}
	return w.Flush()
}
