package match

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/internal/program"
	"github.com/levada-go/levada/internal/storeurl"
)

// The exit status of Main.
const (
	exitOK        = 0
	exitMalformed = 1 // a line of input was malformed
	exitFailed    = 2 // the run could not be started or finished
)

// Main runs the command with the arguments behind its name and returns its exit
// status. It ends early when ctx does.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c config
	fs := flag.NewFlagSet("exchange match", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told below
	fs.Usage = func() {}
	stp := fs.String("stp", "none", "`mode` of self-trade prevention: none, cancel_newest, cancel_oldest, cancel_both or decrement")
	fs.StringVar(&c.store, "store", "none", "none, or "+program.StoreHelp())
	fs.IntVar(&c.inflight, "inflight", 1024, "`commands` under way at a time with a store")
	fs.BoolVar(&c.resume, "resume", false, "continue the interrupted run whose events are in the store; needs the same input.\nWhat was written before is written again, but for sqlite:FILE, beside which a file tells")
	fs.BoolVar(&c.summary, "summary", false, "print one object with totals instead of the lines")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stdout)
			usage(fs)
			return exitOK
		}
		fmt.Fprintf(stderr, "match: %v\nRun exchange match -h for help.\n", err)
		return exitFailed
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "match:", err)
		return exitFailed
	}
	var ok bool
	if c.stp, ok = book.ParseSTP(*stp); !ok {
		return fail(fmt.Errorf("-stp %q is not a mode of self-trade prevention", *stp))
	}
	if err := c.check(); err != nil {
		return fail(err)
	}
	switch file := fs.Arg(0); {
	case fs.NArg() > 1:
		return fail(fmt.Errorf("more than one input file: %s", strings.Join(fs.Args(), " ")))
	case file != "" && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return fail(err)
		}
		defer f.Close()
		stdin = f
	}

	// Without this, a reader of standard output that goes away kills the
	// process before it can say so.
	if stdout == io.Writer(os.Stdout) {
		signal.Ignore(syscall.SIGPIPE)
		defer signal.Reset(syscall.SIGPIPE)
	}
	malformed, err := c.run(ctx, stdin, stdout, stderr)
	if err != nil {
		return fail(err)
	}
	if malformed > 0 {
		return exitMalformed
	}
	return exitOK
}

func usage(fs *flag.FlagSet) {
	fmt.Fprint(fs.Output(), `Usage: exchange match [flags] [FILE]

Runs the orders in FILE, or standard input, through the order book. Each line is
one JSON object:

  {"op":"new","id":1,"side":"buy","type":"limit","tif":"gtc","qty":100,"price":1250,
   "stop":0,"owner":"a","post_only":false}
  {"op":"cancel","id":1}
  {"op":"modify","id":1,"qty":50,"price":1251}
  {"op":"book","depth":10}

Trades, changes of orders and books are written as JSON lines. The exit status is
1 if a line was malformed and 2 if the run could not be started or finished.

`)
	fs.PrintDefaults()
}

// A config is what the flags say.
type config struct {
	stp      book.STP
	store    string
	inflight int
	resume   bool
	summary  bool
}

func (c *config) check() error {
	switch {
	case c.inflight < 1:
		return fmt.Errorf("-inflight %d is less than 1", c.inflight)
	case c.inflight > maxInflight:
		return fmt.Errorf("-inflight %d is more than %d", c.inflight, maxInflight)
	case c.store != "none" && storeurl.Check(c.store) != nil:
		return fmt.Errorf("-store %q is none of none, %s", storeurl.Describe(c.store), strings.Join(storeurl.Forms(), ", "))
	case c.resume && (c.store == "none" || c.store == "memory:"):
		return fmt.Errorf("-resume needs -store sqlite:FILE or another that lasts, for %s keeps nothing", c.store)
	}
	return nil
}

const maxInflight = 1 << 20

// An engine executes commands.
type engine interface {
	// do executes the command in the line of input just read. Its results reach
	// the output in order, but perhaps later.
	do(r *request) error
	// book writes the book as it is behind the line of input just read, after
	// the results of all commands so far.
	book(depth int) error
	// final is book at the end of the input.
	final() error
	// idle is called when there is no input at the moment.
	idle() error
	// finish waits for all that is under way and flushes the output.
	finish() error
	// close ends the engine.
	close() error
}

// A run is one execution of the command.
type run struct {
	config
	in    *input
	names *names
	out   *output
	bar   *progress

	reported  uint64 // the last line whose faults an earlier run has reported
	malformed int
}

func (c config) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (malformed int, err error) {
	start := time.Now()
	r := &run{config: c, names: newNames()}
	// The mode of self-trade prevention belongs to what a resumed run must have
	// in common with the one it continues.
	r.in = newInput(ctx, stdin, "stp "+c.stp.String()+"\n")
	defer r.in.close()
	r.out = &output{w: stdout, names: r.names, quiet: c.summary}
	r.bar = newProgress(stderr, isTerminal(stderr), sizeOf(stdin), r.in.size.Load)
	defer r.bar.close()

	var eng engine = &direct{run: r}
	if c.store != "none" {
		if eng, err = openDurable(r); err != nil {
			return 0, err
		}
	}
	defer func() {
		if also := eng.close(); err == nil {
			err = also
		}
	}()
	if err = r.lines(ctx, eng); err != nil {
		if also := eng.finish(); also != nil && !errors.Is(err, also) {
			err = errors.Join(err, also)
		}
		return r.malformed, err
	}
	if err = eng.final(); err == nil {
		err = eng.finish()
	}
	if err == nil && c.summary {
		err = r.out.summary(time.Since(start))
	}
	return r.malformed, err
}

// lines executes the lines of the input.
func (r *run) lines(ctx context.Context, eng engine) error {
	for {
		line, err := r.in.next(eng.idle)
		switch {
		case err == io.EOF:
			return nil
		case err == errTooLong:
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("interrupted after line %d", r.in.line)
		case err != nil:
			return err
		}
		r.bar.done.Store(r.in.line)
		var q request
		if err == nil {
			if blank(line) {
				continue
			}
			q, err = parseLine(line)
		}
		switch {
		case err != nil:
			r.malformed++
			if r.in.line > r.reported {
				r.bar.printf("line %d: %v", r.in.line, err)
			}
			continue
		case q.show:
			err = eng.book(q.depth)
		default:
			err = eng.do(&q)
		}
		if err != nil {
			return err
		}
	}
}

// command completes the command of a request. It also returns the spelling of
// the order's id, if that is not a plain number.
func (r *run) command(q *request) (c book.Command, ref string) {
	c = q.command
	c.ID, ref = r.names.id(q.id)
	if q.owner != nil {
		c.Owner = r.names.owner(q.owner)
	}
	if c.Op == book.Place {
		c.STP = r.stp
	}
	return c, ref
}

func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

// sizeOf returns the size of a file, or 0 of anything else.
func sizeOf(r io.Reader) int64 {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return 0
}

// direct is the engine that keeps nothing: the book alone.
type direct struct {
	*run
	bk book.Book
	e  book.Event
}

func (d *direct) do(q *request) error {
	c, _ := d.command(q)
	d.bk.Do(c, &d.e)
	return d.out.event(d.in.line, &d.e)
}

func (d *direct) book(depth int) error { return d.out.book(d.in.line, &d.bk, depth) }
func (d *direct) final() error         { return d.book(0) }
func (d *direct) idle() error          { return d.out.flush() }
func (d *direct) finish() error        { return d.out.flush() }
func (d *direct) close() error         { return nil }
