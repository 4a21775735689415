package program

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

// options are what the command line says.
type options struct {
	addr string
	file string // "" for memory
}

// parse reads the command line. Without options the status is that to end with.
func (p *Program) parse(args []string, out, errs io.Writer) (*options, int) {
	o := &options{}
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.addr, "addr", p.Addr, "where to listen, as `HOST:PORT`; port 0 is a free one.\nWithout a host, as :8080, other machines can join")
	flags.StringVar(&o.file, "db", "", fmt.Sprintf("the `FILE` that keeps %s; by default levada/%s.db\nin your folder for data. It is made, with its folder, if it is not there", p.Keeps, p.Name))
	store := flags.String("store", "", "the `STORE`: sqlite:FILE is the same as -db FILE, memory: forgets everything at the end")
	wrong := func(err error) (*options, int) {
		fmt.Fprintf(errs, "%s: %v\nRun %s -h for help.\n", p.Name, err, p.Name)
		return nil, 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, "%s It prints the address to open in a browser.\n\n\t%s [-addr HOST:PORT] [-db FILE | -store memory:]\n\n", p.About, p.Name)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil, 0
	case err != nil:
		return wrong(err)
	case !isAddress(o.addr):
		return wrong(fmt.Errorf("-addr %q is not HOST:PORT, such as %s", o.addr, p.Addr))
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
		o.file = filepath.Join(dir, "levada", p.Name+".db")
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
func (o *options) open(name string) (*eventstore.Store, error) {
	if o.file == "" {
		return memstore.Open(nil), nil
	}
	if err := os.MkdirAll(filepath.Dir(o.file), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of %s: %w; -db names another file", o.file, err)
	}
	store, err := sqlitestore.Open(o.file, nil)
	if errors.Is(err, sqlitestore.ErrLocked) {
		return nil, fmt.Errorf("another %s uses %s; -db names another file: %w", name, o.file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", o.file, err)
	}
	return store, nil
}

// place is where things are kept, in words.
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
