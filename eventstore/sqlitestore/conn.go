package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A conn is a connection with the statements of this package. It is used by one
// goroutine at a time.
type conn struct {
	*sqlite.Conn
	stmts   [numStatements]*sqlite.Stmt
	strings map[string]string // types, streams and content types seen lately
	scratch []byte
}

// maxStrings bounds conn.strings; past it the table starts again empty.
const maxStrings = 8192

func openConn(path string, flags sqlite.OpenFlags, pragmas ...string) (*conn, error) {
	sc, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	sc.SetBusyTimeout(busyTimeout)
	c := &conn{Conn: sc, strings: make(map[string]string), scratch: make([]byte, 512)}
	if err := c.pragmas(pragmas...); err != nil {
		return nil, errors.Join(err, sc.Close())
	}
	return c, nil
}

func (c *conn) pragmas(list ...string) error {
	for _, p := range list {
		if err := sqlitex.ExecuteTransient(c.Conn, "PRAGMA "+p, nil); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// busyTimeout is how long a statement waits for a lock that a tool beside us,
// such as the sqlite3 shell, may hold.
const busyTimeout = 10 * time.Second

// stmt returns a statement, ready to be bound.
func (c *conn) stmt(s statement) (*sqlite.Stmt, error) {
	if st := c.stmts[s]; st != nil {
		return st, nil
	}
	st, err := c.Prepare(statements[s])
	if err != nil {
		return nil, err
	}
	c.stmts[s] = st
	return st, nil
}

// exec runs a statement that gives no rows, with integer arguments.
func (c *conn) exec(s statement, args ...int64) error {
	st, err := c.stmt(s)
	if err != nil {
		return err
	}
	for i, a := range args {
		st.BindInt64(i+1, a)
	}
	return finish(st)
}

// row runs a statement with integer arguments that gives at most one row, and
// calls fn with it, if there is one.
func (c *conn) row(s statement, fn func(*sqlite.Stmt), args ...int64) error {
	st, err := c.stmt(s)
	if err != nil {
		return err
	}
	for i, a := range args {
		st.BindInt64(i+1, a)
	}
	return one(st, fn)
}

// one runs a bound statement and calls fn with its first row, if there is one.
func one(st *sqlite.Stmt, fn func(*sqlite.Stmt)) error {
	ok, err := st.Step()
	if err != nil {
		return err
	}
	if ok {
		fn(st)
	}
	return st.Reset()
}

// finish runs a bound statement that gives no rows.
func finish(st *sqlite.Stmt) error {
	if _, err := st.Step(); err != nil {
		return err
	}
	return st.Reset()
}

// text returns a text column as a string that is shared with earlier rows.
func (c *conn) text(st *sqlite.Stmt, col int) string {
	n := st.ColumnBytes(col, c.scratch)
	if n == len(c.scratch) {
		c.scratch = make([]byte, st.ColumnLen(col)+1)
		n = st.ColumnBytes(col, c.scratch)
	}
	if n == 0 {
		return ""
	}
	b := c.scratch[:n]
	if s, ok := c.strings[string(b)]; ok {
		return s
	}
	if len(c.strings) >= maxStrings {
		clear(c.strings)
	}
	s := string(b)
	c.strings[s] = s
	return s
}

// A pool lends connections for reading. It opens them as they are needed, up to
// its size, and keeps them.
type pool struct {
	open func() (*conn, error)
	slot chan struct{}
	mu   sync.Mutex
	free []*conn
}

func newPool(size int, open func() (*conn, error)) *pool {
	if size <= 0 {
		size = max(4, 2*runtime.GOMAXPROCS(0))
	}
	return &pool{open: open, slot: make(chan struct{}, size)}
}

func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case p.slot <- struct{}{}:
	default:
		select {
		case p.slot <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := p.open()
	if err != nil {
		<-p.slot
		return nil, err
	}
	return c, nil
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
	<-p.slot
}

// drop closes a connection that must not be used again.
func (p *pool) drop(c *conn) {
	_ = c.Close()
	<-p.slot
}

// close closes the connections. All of them must have been put back.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, c := range p.free {
		errs = append(errs, c.Close())
	}
	p.free = nil
	return errors.Join(errs...)
}

// A gate lets calls in until it is shut, and lets whoever shuts it wait for
// those inside. Calls may nest.
type gate struct {
	mu   sync.Mutex
	shut bool
	in   sync.WaitGroup
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return driver.ErrClosed
	}
	g.in.Add(1)
	return nil
}

func (g *gate) leave() { g.in.Done() }

// close shuts the gate; it reports false if that had been done before.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := !g.shut
	g.shut = true
	return first
}
