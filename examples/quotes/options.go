package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

const usage = `Quotes shows a favourite quote that all who look at it see change at once. It prints
the address to open in a browser.

	quotes [-addr HOST:PORT] [-db FILE | -store memory:]

`

type options struct {
	addr string
	file string // "" for memory
}

// parse reads the command line. Without options the status is that to end with.
func parse(args []string, out, errs io.Writer) (o *options, status int) {
	o = &options{}
	flags := flag.NewFlagSet("quotes", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.addr, "addr", "localhost:8082", "where to listen, as `HOST:PORT`; port 0 picks a free one.\nWithout a host, as :8082, other machines can join")
	flags.StringVar(&o.file, "db", "", "the `FILE` that keeps the events; by default levada/quotes.db in\nyour folder for data. It is made, with its folder, if it is not there")
	store := flags.String("store", "", "the `STORE` that keeps the events: sqlite:FILE, or memory: to\nforget them at the end")
	wrong := func(err error) (*options, int) {
		fmt.Fprintf(errs, "quotes: %v\nRun quotes -h for help.\n", err)
		return nil, 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil, 0
	case err != nil:
		return wrong(err)
	case flags.NArg() > 0:
		return wrong(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case o.file != "" && *store != "":
		return wrong(errors.New("-db and -store say the same thing; give one of them"))
	}
	kind, file, _ := strings.Cut(*store, ":")
	switch {
	case *store == "memory:" || o.file != "":
	case kind == "sqlite" && file != "":
		o.file = file
	case *store != "":
		return wrong(fmt.Errorf("-store %q is neither sqlite:FILE nor memory:", *store))
	default:
		dir, err := dataDir()
		if err != nil {
			return wrong(fmt.Errorf("there is no folder for data of this user (%w); say where with -db", err))
		}
		o.file = filepath.Join(dir, "levada", "quotes.db")
	}
	return o, 0
}

// open opens the store.
func (o *options) open() (*eventstore.Store, error) {
	if o.file == "" {
		return memstore.Open(nil), nil
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of %s: %w; choose another file with -db", o.file, err)
	}
	store, err := sqlitestore.Open(o.file, nil)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return nil, fmt.Errorf("these quotes are being shown already, from %s (%w); stop that, or choose another file with -db", o.file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", o.file, err)
	}
	return store, nil
}

// place says where the events are kept.
func (o *options) place() string {
	if o.file == "" {
		return "memory, and forgotten at the end"
	}
	return o.file
}

// dataDir is the folder of the user for what programs keep.
func dataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	switch runtime.GOOS {
	case "windows":
		if dir := os.Getenv("LocalAppData"); dir != "" {
			return dir, nil
		}
		return "", errors.New("%LocalAppData% is not set")
	case "darwin":
		return filepath.Join(home, "Library", "Application Support"), nil
	}
	return filepath.Join(home, ".local", "share"), nil
}
