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
)

// options are what the command line says.
type options struct {
	addr  string
	place *Place
}

// parse reads the command line. Without options the status is that to end with.
func (p *Program) parse(args []string, out, errs io.Writer) (*options, int) {
	o := &options{}
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.addr, "addr", p.Addr, "where to listen, as `HOST:PORT`; port 0 is a free one.\nWithout a host, as :8080, other machines can join")
	db := flags.String("db", "", fmt.Sprintf("the `FILE` that keeps %s; by default levada/%s.db\nin your folder for data. It is made, with its folder, if it is not there", p.Keeps, p.Name))
	store := flags.String("store", "", StoreHelp()+".\nsqlite:FILE is the same as -db FILE, memory: forgets everything at the end")
	wrong := func(err error) (*options, int) {
		fmt.Fprintf(errs, "%s: %v\nRun %s -h for help.\n", p.Name, err, p.Name)
		return nil, 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, "%s It prints the address to open in a browser.\n\n\t%s [-addr HOST:PORT] [-db FILE | -store STORE]\n\n", p.About, p.Name)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil, 0
	case err != nil:
		return wrong(err)
	case !isAddress(o.addr):
		return wrong(fmt.Errorf("-addr %q is not HOST:PORT, such as %s", o.addr, p.Addr))
	case flags.NArg() > 0:
		return wrong(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	var err error
	if o.place, err = ParsePlace(*db, *store, p.file); err != nil {
		return wrong(err)
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

// file is where events are kept unless the command line says so.
func (p *Program) file() (string, error) {
	dir, err := dataDir()
	return filepath.Join(dir, "levada", p.Name+".db"), err
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
