package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

type options struct {
	addr string
	file string // "" for memory
}

const usage = `Chat serves a chat with live pages. It prints the address to open in a browser.

	chat [-addr HOST:PORT] [-db FILE | -store memory:]

`

// parse reads the command line. Without options the status is that to end with.
func parse(args []string, out, errs io.Writer) (*options, int) {
	o := &options{}
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.addr, "addr", "localhost:8081", "where to listen, as `HOST:PORT`; port 0 is a free one.\nWithout a host, as :8081, other machines can join")
	flags.StringVar(&o.file, "db", "", "the `FILE` that keeps all that was ever said; by default\nlevada/chat.db in your folder for data. It is made when there is none")
	store := flags.String("store", "", "another `KIND` of store: memory: forgets everything at the end,\nsqlite:FILE is the same as -db FILE")
	explain := func(w io.Writer) {
		fmt.Fprint(w, usage)
		flags.SetOutput(w)
		flags.PrintDefaults()
	}
	wrong := func(err error) (*options, int) {
		fmt.Fprintf(errs, "chat: %v\nRun chat -h for help.\n", err)
		return nil, 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		explain(out)
		return nil, 0
	case err != nil:
		return wrong(err)
	case !isAddress(o.addr):
		return wrong(fmt.Errorf("-addr %q is not HOST:PORT, such as localhost:8081", o.addr))
	case flags.NArg() > 0:
		return wrong(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case o.file != "" && *store != "":
		return wrong(errors.New("-db and -store say the same; give one of them"))
	}
	switch kind, file, _ := strings.Cut(*store, ":"); {
	case *store == "memory:":
	case kind == "sqlite" && file != "":
		o.file = file
	case *store != "":
		return wrong(fmt.Errorf("-store %q is neither memory: nor sqlite:FILE", *store))
	case o.file == "":
		dir, err := dataDir()
		if err != nil {
			return wrong(fmt.Errorf("there is no folder for data (%w); name a file with -db", err))
		}
		o.file = filepath.Join(dir, "levada", "chat.db")
	}
	return o, 0
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err == nil
}

// open opens the store.
func (o *options) open() (*eventstore.Store, error) {
	if o.file == "" {
		return memstore.Open(nil), nil
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of %s: %w; -db names another file", o.file, err)
	}
	store, err := sqlitestore.Open(o.file, nil)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return nil, fmt.Errorf("another chat uses %s; -db names another file: %w", o.file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", o.file, err)
	}
	return store, nil
}

// place is where the chat is kept, in words.
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
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return os.UserConfigDir()
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "share"), err
}
