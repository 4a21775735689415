package natsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/filelock"
)

// OpenEmbedded opens a store on a NATS server of its own, one node in this
// process that keeps its files in dir: for development, and for programs of one
// process that shall move to a cluster later. The directory is made if it is not
// there. The server listens on no port: the store's connection is in the process,
// and As gives it. It ends with the store.
//
// One process can have a directory open: a second one, or a second OpenEmbedded
// of this one, gets ErrLocked. With Fsync every append is flushed to disk before
// it is acknowledged; with Quorum, the default, within two minutes: what was
// acknowledged survives the end of the process, however it ends, but the last of
// it may be lost with the power.
//
// An append of several events is slow on one node, some 7 ms: the server makes
// files for each batch. Options.Replicas must be 0 or 1.
func OpenEmbedded(ctx context.Context, dir string, opt *Options) (*eventstore.Store, error) {
	return portable(opt)(openEmbedded(ctx, dir, opt))
}

// serverStart is how long the server may take to be ready. After a crash it reads
// what it cannot trust its indexes about.
const serverStart = 5 * time.Minute

func openEmbedded(ctx context.Context, dir string, opt *Options) (_ driver.Store, err error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.Replicas > 1 {
		return nil, fmt.Errorf("natsstore: open %s: %d replicas on one node", dir, o.Replicas)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n, err := startNode(ctx, dir, o.Durability, cmp.Or(o.Store.Logger, slog.Default()))
	if err != nil {
		return nil, fmt.Errorf("natsstore: open %s: %w", dir, err)
	}
	s, err := open(ctx, n.nc, &o)
	if err != nil {
		return nil, errors.Join(err, n.stop())
	}
	s.closers = append(s.closers, n.stop)
	return s, nil
}

// A node is an embedded server and the connection to it.
type node struct {
	lock   *filelock.Lock
	server *server.Server
	nc     *nats.Conn
}

func startNode(ctx context.Context, dir string, d Durability, log *slog.Logger) (_ *node, err error) {
	if dir == "" {
		return nil, errors.New("no directory")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	n := &node{}
	n.lock, err = filelock.Acquire(filepath.Join(dir, "levada.lock"))
	switch {
	case errors.Is(err, filelock.ErrHeld):
		return nil, fmt.Errorf("%w: %w", ErrLocked, err)
	case err != nil:
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	n.server, err = server.NewServer(&server.Options{
		ServerName: "levada",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: d == Fsync,
		// Reservations, not use: what the disk has is the limit.
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  1 << 50,
		// All batches are this process's.
		JetStreamLimits: server.JSLimitOpts{MaxBatchInflightPerStream: 2 * openBatches, MaxBatchInflightTotal: 8 * openBatches},
	})
	if err != nil {
		n.server = nil
		return nil, err
	}
	n.server.SetLoggerV2(serverLog{log}, false, false, false)
	n.server.Start()
	ready := make(chan bool, 1)
	go func() { ready <- n.server.ReadyForConnections(serverStart) }()
	select {
	case ok := <-ready:
		if !ok || !n.server.JetStreamEnabled() {
			return nil, errors.New("the server did not start")
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.nc, err = nats.Connect("", nats.InProcessServer(n.server), nats.Name("levada"), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	return n, err
}

// stop stops what of n was started. The server writes its indexes.
func (n *node) stop() error {
	if n.nc != nil {
		n.nc.Close()
	}
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
	}
	return n.lock.Release()
}

// A serverLog passes what a server warns of to a logger.
type serverLog struct{ *slog.Logger }

func (l serverLog) Warnf(format string, v ...any) {
	l.Warn("natsstore: server: " + fmt.Sprintf(format, v...))
}

func (l serverLog) Errorf(format string, v ...any) {
	l.Error("natsstore: server: " + fmt.Sprintf(format, v...))
}

// Fatalf is told when the server cannot go on: it has ended then, and startNode or
// the next call finds out. Its own logger would end the process.
func (l serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

func (serverLog) Noticef(string, ...any) {}
func (serverLog) Debugf(string, ...any)  {}
func (serverLog) Tracef(string, ...any)  {}
