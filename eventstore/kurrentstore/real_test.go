package kurrentstore

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
)

// A real server holds what others have written, and the suite wants empty
// stores. So each store of the suite is a scope: names of its own, and of the log
// what lies after its beginning and has such names. What that leaves untested is
// the beginning of a log, a log that is empty, and names of full length. Each scope reads what
// is written to the server meanwhile, so one test after the other is quicker:
//
//	LEVADA_KURRENTDB_URL='esdb://admin:changeit@localhost:2113?tls=false' go test -parallel 1 -run RealServer ./eventstore/kurrentstore
func TestConformanceOnARealServer(t *testing.T) {
	url := os.Getenv(realEnv)
	if url == "" {
		t.Skip(realEnv + " names no server")
	}
	runScoped(t, url)
}

const realEnv = "LEVADA_KURRENTDB_URL"

// That the scope is right is tested on the development server, which all stores of the suite share then.
func TestConformanceOnASharedServer(t *testing.T) {
	if !soak() {
		t.Skip("the suite runs on servers of its own; LEVADA_SOAK=1 runs it on one that is shared, too")
	}
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	require.NoError(t, d.Append(t.Context(), driver.Append{Stream: "other-1", Events: events(100)}).Err)
	before, err := d.Head(t.Context())
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestConformanceOnARealServer$", "-test.parallel=1", "-test.timeout=20m", "-rapid.checks=10")
	cmd.Env = append(os.Environ(), realEnv+"="+server.URL())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	after, err := d.Head(t.Context())
	require.NoError(t, err)
	require.Greater(t, after, before, "it has run, on this server")
}

func runScoped(t *testing.T, url string) {
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store {
			d := openDriver(t, url, nil)
			base, err := d.Head(context.Background())
			require.NoError(t, err)
			return &scope{store: d, mark: "." + uuid.NewString()[:8], base: base}
		},
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			s := d.(*scope)
			require.NoError(t, s.Close())
			return &scope{store: openDriver(t, url, nil), mark: s.mark, base: s.base}
		},
	})
}

// A scope is a part of a log as a log.
type scope struct {
	*store
	mark string // in every name, at the end of the category
	base uint64 // where it begins
}

func (s *scope) in(stream string) string {
	category := driver.Category(stream)
	return category + s.mark + stream[len(category):]
}

func (s *scope) out(stream string) (string, bool) {
	category := driver.Category(stream)
	own, ok := strings.CutSuffix(category, s.mark)
	return own + stream[len(category):], ok
}

func (s *scope) Limits() driver.Limits {
	l := s.store.Limits()
	l.NameBytes -= len(s.mark)
	return l
}

func (s *scope) Append(ctx context.Context, a driver.Append) driver.Result {
	a.Stream = s.in(a.Stream)
	return s.store.Append(ctx, a)
}

func (s *scope) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	list, err := s.store.ReadStream(ctx, s.in(stream), from, dir, limit)
	for i := range list {
		list[i].Stream = stream
	}
	return list, err
}

func (s *scope) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	own := f
	own.Streams, own.Categories = nil, nil
	for _, name := range f.Streams {
		own.Streams = append(own.Streams, s.in(name))
	}
	for _, name := range f.Categories {
		own.Categories = append(own.Categories, name+s.mark)
	}
	if dir == driver.Forward {
		from = max(from, s.base)
	}
	list, scanned, err := s.store.ReadAll(ctx, own, from, dir, max(limit, 500)) // most are others'
	if err != nil {
		return nil, from, err
	}
	var kept []driver.Recorded
	for _, r := range list {
		name, ok := s.out(r.Stream)
		if !ok || r.Position <= s.base || !f.Match(name, r.Type) {
			continue
		}
		r.Stream = name
		if kept = append(kept, r); len(kept) == limit {
			scanned = r.Position
			break
		}
	}
	if scanned <= s.base {
		scanned = 0
	}
	return kept, scanned, nil
}

func (s *scope) Head(ctx context.Context) (uint64, error) {
	if _, err := s.store.Head(ctx); err != nil {
		return 0, err
	}
	for from := uint64(0); ; {
		list, scanned, err := s.ReadAll(ctx, driver.Filter{System: true}, from, driver.Backward, 100)
		if err != nil {
			return 0, err
		}
		if len(list) > 0 {
			return list[0].Position, nil
		}
		if scanned == 0 {
			return 0, nil
		}
		from = scanned
	}
}

func (s *scope) Wait(ctx context.Context, after uint64) error {
	for seen := max(after, s.base); ; {
		if err := s.store.Wait(ctx, seen); err != nil {
			return err
		}
		all, err := s.store.Head(ctx)
		if err != nil {
			return err
		}
		own, err := s.Head(ctx)
		if err != nil || own > after {
			return err
		}
		seen = max(seen, all)
	}
}

func (s *scope) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	info, err := s.store.Stream(ctx, s.in(stream))
	info.Name = stream
	return info, err
}

func (s *scope) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	if category != "" {
		category += s.mark
	}
	if after != "" {
		after = s.in(after)
	}
	var own []driver.StreamInfo
	for {
		const page = 500
		list, err := s.store.Streams(ctx, category, after, page)
		if err != nil {
			return nil, err
		}
		for _, info := range list {
			after = info.Name
			name, ok := s.out(info.Name)
			if !ok {
				continue
			}
			info.Name = name
			if own = append(own, info); len(own) == limit {
				return own, nil
			}
		}
		if len(list) < page {
			return own, nil
		}
	}
}

func (s *scope) Categories(ctx context.Context) ([]string, error) {
	all, err := s.store.Categories(ctx)
	var own []string
	for _, category := range all {
		if name, ok := strings.CutSuffix(category, s.mark); ok {
			own = append(own, name)
		}
	}
	return own, err
}

func (s *scope) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	p, err := s.store.PositionAt(ctx, t)
	for from := uint64(0); err == nil && p > s.base; {
		var list []driver.Recorded
		list, from, err = s.ReadAll(ctx, driver.Filter{System: true}, from, driver.Backward, 100)
		for _, r := range list {
			if r.Position <= p {
				return r.Position, nil
			}
		}
		if from == 0 {
			break
		}
	}
	return 0, err
}

func (s *scope) Truncate(ctx context.Context, stream string, before uint64) error {
	return s.store.Truncate(ctx, s.in(stream), before)
}

func (s *scope) Delete(ctx context.Context, stream string, expected int64) error {
	return s.store.Delete(ctx, s.in(stream), expected)
}

func (s *scope) Purge(ctx context.Context, stream string) error {
	return s.store.Purge(ctx, s.in(stream))
}

func (s *scope) LoadCheckpoint(ctx context.Context, name string) (driver.Checkpoint, bool, error) {
	return s.store.LoadCheckpoint(ctx, s.mark+name)
}

func (s *scope) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	return s.store.SaveCheckpoint(ctx, s.mark+name, from, to)
}

func (s *scope) DeleteCheckpoint(ctx context.Context, name string) error {
	return s.store.DeleteCheckpoint(ctx, s.mark+name)
}

func (s *scope) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	list, err := s.store.Checkpoints(ctx, s.mark+prefix)
	out := map[string]driver.Checkpoint{}
	for name, c := range list {
		out[strings.TrimPrefix(name, s.mark)] = c
	}
	return out, err
}

func (s *scope) Release(ctx context.Context, name, owner string, fence uint64) error {
	return s.store.Release(ctx, s.mark+name, owner, fence)
}

func (s *scope) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	list, err := s.store.Leases(ctx, s.mark+prefix)
	for i := range list {
		list[i].Name = strings.TrimPrefix(list[i].Name, s.mark)
	}
	return list, err
}

func (s *scope) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	return s.store.Acquire(ctx, s.mark+name, owner, ttl)
}
