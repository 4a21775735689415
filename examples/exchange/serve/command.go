package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/orderbook"
	"github.com/levada-go/levada/examples/internal/program"
)

// The exit status of Main.
const (
	exitOK     = 0
	exitFailed = 1 // it could not start, or had to stop
	exitUsage  = 2 // the flags are wrong
)

// drain is how long a closing exchange waits for those it serves.
const drain = 5 * time.Second

// maxConnections bounds the connections of all kinds.
const maxConnections = 2000

// Main runs "exchange serve" with the arguments behind its name until ctx ends,
// and returns its exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	if err := c.run(ctx, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "exchange:", err)
		return exitFailed
	}
	return exitOK
}

type config struct {
	addr  string
	place *program.Place
	hosts []string
	demo  bool
	seed  uint64
}

// parse reads the flags. What is wrong with them, or the help that was asked for, has been printed when it returns.
func parse(args []string, stdout, stderr io.Writer) (config, error) {
	c := config{}
	fs := flag.NewFlagSet("exchange", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told below
	fs.Usage = func() {}
	fs.StringVar(&c.addr, "addr", "localhost:8080", "`host:port` to listen on; port 0 picks a free one")
	file := fs.String("db", "", "`file` that keeps the events; it is made, with its folder, if it is not there\n(default "+shown(defaultFile())+")")
	store := fs.String("store", "", program.StoreHelp()+".\nsqlite:FILE is the same as -db FILE, memory: forgets them at the end")
	hosts := fs.String("host", "", "`names`, separated by commas, that browsers may call this server by, beside that of -addr;\nneeded behind a proxy. On an address that is not of this machine alone any name is served\nunless some are given")
	fs.BoolVar(&c.demo, "demo", true, "let bots trade; -demo=0 leaves the market to people")
	fs.Uint64Var(&c.seed, "seed", 0, "`number` that the bots' dice start from; 0 is another one each time")
	wrong := func(format string, a ...any) (config, error) {
		err := fmt.Errorf(format, a...)
		fmt.Fprintf(stderr, "exchange: %v\nRun exchange -h for help.\n", err)
		return c, err
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stdout)
		usage(fs)
		return c, err
	case err != nil:
		return wrong("%w", err)
	case fs.NArg() > 0:
		return wrong("unexpected argument %q", fs.Arg(0))
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return wrong("-addr %q is not host:port, such as localhost:8080", c.addr)
	}
	if c.place, err = program.ParsePlace(*file, *store, defaultFile); err != nil {
		return wrong("%w", err)
	}
	for name := range strings.SplitSeq(*hosts, ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			c.hosts = append(c.hosts, name)
		}
	}
	if local(host) {
		c.hosts = append(c.hosts, "localhost", "127.0.0.1", "::1", strings.ToLower(host))
	}
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	return c, nil
}

// local reports whether only this machine can reach a host to listen on.
func local(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func usage(fs *flag.FlagSet) {
	fmt.Fprint(fs.Output(), `Usage: exchange [serve] [flags]
       exchange match [flags] [FILE]

serve, which is what happens without a command, runs an exchange with a live page
and a public market data API. Every order and what became of it is an event in one
store; start it again and charts, books and open orders are as they were. Several may
run on one store, if it is not a file; one of them lets the bots trade.
match runs a file of orders through the order book; see exchange match -h.

Flags of serve:

`)
	fs.PrintDefaults()
}

// defaultFile returns where events are kept: in the folder for data of the user.
func defaultFile() (string, error) {
	dir := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(dir) {
		switch runtime.GOOS {
		case "windows":
			if dir = os.Getenv("LocalAppData"); dir == "" {
				return "", errors.New("%LocalAppData% is not set")
			}
		case "darwin", "ios":
			home, err := os.UserHomeDir()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(home, "Library", "Application Support")
		default:
			home, err := os.UserHomeDir()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(home, ".local", "share")
		}
	}
	return filepath.Join(dir, "levada", "exchange.db"), nil
}

func shown(path string, err error) string {
	if err != nil {
		return "none, as there is no folder for data of this user"
	}
	return path
}

// storeOptions has the codec that writes the books' events faster.
var storeOptions = eventstore.Options{Codecs: []eventstore.Codec{orderbook.Codec}}

// run serves until ctx ends.
func (c *config) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	secret, err := program.Secret()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	store, err := c.place.Open(ctx, "exchange", &storeOptions)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to end before there was anything to lose
	}
	if err != nil {
		return err
	}
	defer func() {
		// What was being written is finished, whatever ended the run.
		closing, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		err = errors.Join(err, store.Shutdown(closing))
	}()
	x, err := Open(store, Symbols(), log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another program; choose another port with -addr, such as -addr localhost:8081, or -addr localhost:0 for any", c.addr)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with -addr", c.addr, err)
	}
	defer l.Close()

	// The model runs until everything that shows it has ended.
	model, endModel := context.WithCancel(context.WithoutCancel(ctx))
	defer endModel()
	ctx, cancel := context.WithCancel(ctx) // the rest
	defer cancel()
	faults := make(chan error, 3)
	var running, modelling sync.WaitGroup
	defer modelling.Wait()
	defer endModel()
	modelling.Go(func() {
		if err := x.Run(model); err != nil {
			faults <- err
		}
		cancel()
	})
	if err := x.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			err = nil // it was told to stop while it was reading
		}
		return errors.Join(err, fault(faults))
	}

	server, err := NewServer(x, c.hosts, secret, log)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler: server, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	running.Go(func() {
		if err := web.Serve(newLimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			faults <- err
			cancel()
		}
	})
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			faults <- err
			cancel()
		}
	})
	if c.demo {
		running.Go(func() {
			err := inTurn(ctx, store, "exchange-bots", turnTime, func(ctx context.Context) {
				newBots(x, c.seed, log).run(ctx, func() bool { return server.Watched() > 0 })
			})
			if err != nil {
				log.Warn("exchange: no bots", "err", err)
			}
		})
	}
	fmt.Fprintf(stdout, "Events are kept in %s.\nThe exchange is open at %s\nCtrl-C closes it.\n", c.place, pageURL(c.addr, l.Addr()))

	<-ctx.Done()
	fmt.Fprintln(stdout, "Closing. Ctrl-C again ends it at once.")
	closing, stop := context.WithTimeout(context.Background(), drain)
	defer stop()
	var ending sync.WaitGroup
	ending.Go(func() { server.Shutdown(closing) })
	if web.Shutdown(closing) != nil {
		web.Close()
	}
	ending.Wait()
	running.Wait()
	return fault(faults)
}

// fault returns why the run had to end, nil if it was told to.
func fault(faults <-chan error) error {
	select {
	case err := <-faults:
		return err
	default:
		return nil
	}
}

// pageURL is where a browser of this machine finds the exchange.
func pageURL(addr string, listening net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(listening.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}
