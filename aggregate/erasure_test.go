package aggregate_test

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// A guestbook holds what guests wrote.
type guestbook struct{ Entries []string }

type entered struct {
	Guest string
	Text  string `shred:"Guest"`
}

func (e entered) Apply(g *guestbook) { g.Entries = append(g.Entries, e.Guest+": "+e.Text) }

type enter struct{ Book, Guest, Text string }

func (c enter) AggregateID() string { return c.Book }

func (c enter) Execute(guestbook) ([]aggregate.Event[guestbook], error) {
	return []aggregate.Event[guestbook]{entered{c.Guest, c.Text}}, nil
}

func guestbooks() *aggregate.Type[guestbook] {
	return &aggregate.Type[guestbook]{Name: "book", Events: aggregate.Events[guestbook]{"entered": entered{}}, SnapshotEvery: 2}
}

func opened[S any](t *testing.T, s *eventstore.Store, typ *aggregate.Type[S]) *aggregate.Repository[S] {
	t.Helper()
	r, err := aggregate.New(s, typ)
	require.NoError(t, err)
	return r
}

func entries(t *testing.T, r *aggregate.Repository[guestbook]) (list []string) {
	t.Helper()
	require.NoError(t, r.View(t.Context(), "1", func(g *guestbook, _ eventstore.Version) { list = append(list, g.Entries...) }))
	return list
}

func TestASnapshotIsErasedWithThoseWhoseDataItHolds(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]func(*testing.T) (driver.Store, shred.Keys){
		"memory": func(*testing.T) (driver.Store, shred.Keys) { return memstore.NewDriver(), &shred.Memory{} },
		"sqlite": func(t *testing.T) (driver.Store, shred.Keys) {
			dir := t.TempDir()
			d, err := sqlitestore.OpenDriver(filepath.Join(dir, "log.db"), nil)
			require.NoError(t, err)
			keys, err := sqlitestore.OpenKeys(filepath.Join(dir, "keys.db"))
			require.NoError(t, err)
			t.Cleanup(func() { _ = keys.Close() })
			return d, keys
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			d, keys := engine(t)
			sealer := shred.New(keys, &shred.Options{Remember: -1})
			s := eventstore.New(d, &eventstore.Options{Seal: sealer})
			t.Cleanup(func() { _ = s.Close() })
			var log bytes.Buffer
			typ := guestbooks()
			typ.Logger = slog.New(slog.NewTextHandler(&log, nil))
			r := opened(t, s, typ)
			write := func(r *aggregate.Repository[guestbook], guest, text string) {
				_, err := r.Execute(ctx, enter{"1", guest, text})
				require.NoError(t, err)
			}
			write(r, "ann", "hi")
			write(r, "bob", "hello")
			snap := awaitSnapshot(t, s, "book-1", 2)
			for _, secret := range []string{"hi", "hello"} {
				require.NotContains(t, strings.ToLower(string(snap.Data)), `: `+secret)
			}
			before := reads(t, s, typ)
			require.Equal(t, []string{"ann: hi", "bob: hello"}, entries(t, opened(t, s, typ)))
			require.True(t, before, "it is used")

			require.NoError(t, sealer.Shred(ctx, "ann"))
			require.Equal(t, []string{"ann: ", "bob: hello"}, entries(t, opened(t, s, typ)))
			require.False(t, reads(t, s, typ), "it is as good as none")

			// Whoever reads it from now on writes one without her.
			r = opened(t, s, typ)
			write(r, "cid", "hey")
			write(r, "cid", "ho")
			awaitSnapshot(t, s, "book-1", 4)
			require.True(t, reads(t, s, typ))
			require.Equal(t, []string{"ann: ", "bob: hello", "cid: hey", "cid: ho"}, entries(t, opened(t, s, typ)))
			require.Empty(t, log.String(), "nothing of this is a fault")
		})
	}
}

// reads reports whether the snapshot of the book is one that can be opened.
func reads(t *testing.T, s *eventstore.Store, typ *aggregate.Type[guestbook]) bool {
	t.Helper()
	used := false
	probe := *typ
	probe.Snapshot = &aggregate.SnapshotCodec[guestbook]{
		Encode: func(*guestbook) ([]byte, error) { return nil, errors.New("it is for reading") },
		Decode: func(data []byte, g *guestbook) error { used = true; return errors.New("it was only looked for") },
	}
	probe.Logger = slog.New(slog.DiscardHandler)
	entries(t, opened(t, s, &probe))
	return used
}

// An aggregate that is in memory writes snapshots of what it remembers; they are erased before they are written.
func TestASnapshotOfSomebodyErasedIsNotRead(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sealer := shred.New(&shred.Memory{}, nil)
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	t.Cleanup(func() { _ = s.Close() })
	typ := guestbooks()
	r := opened(t, s, typ)
	for _, guest := range []string{"ann", "bob"} {
		_, err := r.Execute(ctx, enter{"1", guest, "hi"})
		require.NoError(t, err)
	}
	awaitSnapshot(t, s, "book-1", 2)
	require.NoError(t, sealer.Shred(ctx, "ann"))
	for range 2 {
		_, err := r.Execute(ctx, enter{"1", "bob", "again"})
		require.NoError(t, err)
	}
	snap := awaitSnapshot(t, s, "book-1", 4)
	require.NotContains(t, string(snap.Data), "again")
	require.False(t, reads(t, s, typ))
	require.Equal(t, []string{"ann: ", "bob: hi", "bob: again", "bob: again"}, entries(t, opened(t, s, typ)))
}

func TestWhereTheEventsAreGoneAnErasedSnapshotLeavesNothingToReadFrom(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sealer := shred.New(&shred.Memory{}, nil)
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	t.Cleanup(func() { _ = s.Close() })
	typ := guestbooks()
	for _, guest := range []string{"ann", "bob"} {
		_, err := opened(t, s, typ).Execute(ctx, enter{"1", guest, "hi"})
		require.NoError(t, err)
	}
	awaitSnapshot(t, s, "book-1", 2)
	require.NoError(t, s.Truncate(ctx, "book-1", 2))
	require.NoError(t, sealer.Shred(ctx, "ann"))
	err := opened(t, s, typ).View(ctx, "1", func(*guestbook, eventstore.Version) {})
	require.ErrorIs(t, err, aggregate.ErrTruncated, "never a partial fold")
}

// A badge knows by its tags what of it is whose.
type badge struct {
	User   string
	Name   string `shred:"User"`
	Access int
}

type named struct {
	User string
	Name string `shred:"User"`
}

func (e named) Apply(b *badge) { b.User, b.Name = e.User, e.Name }

type granted struct{}

func (granted) Apply(b *badge) { b.Access++ }

type give struct{ User, Name string }

func (c give) AggregateID() string { return "1" }

func (c give) Execute(badge) ([]aggregate.Event[badge], error) {
	return []aggregate.Event[badge]{named(c), granted{}}, nil
}

// What is left of a snapshot with tags is enough, also where the events are gone.
func TestOfASnapshotWithTagsOnlyTheFieldsAreErased(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	sealer := shred.New(&shred.Memory{}, nil)
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	t.Cleanup(func() { _ = s.Close() })
	typ := &aggregate.Type[badge]{Name: "badge", Events: aggregate.Events[badge]{"named": named{}, "granted": granted{}}, SnapshotEvery: 2}
	_, err := opened(t, s, typ).Execute(ctx, give{"ann", "Ann Lee"})
	require.NoError(t, err)
	snap := awaitSnapshot(t, s, "badge-1", 2)
	require.NotContains(t, string(snap.Data), "Ann")
	require.NoError(t, s.Truncate(ctx, "badge-1", 2))
	view := func() (b badge) {
		require.NoError(t, opened(t, s, typ).View(ctx, "1", func(s *badge, _ eventstore.Version) { b = *s }))
		return b
	}
	require.Equal(t, badge{"ann", "Ann Lee", 1}, view())
	require.NoError(t, sealer.Shred(ctx, "ann"))
	require.Equal(t, badge{"ann", "", 1}, view())
}
