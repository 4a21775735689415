package kurrentstore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/esdbdev"
)

// A traffic counts what goes over a connection.
type traffic struct{ calls, messages atomic.Int64 }

func (*traffic) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*traffic) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*traffic) HandleConn(context.Context, stats.ConnStats)                       {}
func (c *traffic) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s.(type) {
	case *stats.Begin:
		c.calls.Add(1)
	case *stats.InPayload:
		c.messages.Add(1)
	}
}

// during returns what goes over the connection while do runs.
func (c *traffic) during(do func()) (calls, messages int64) {
	calls, messages = c.calls.Load(), c.messages.Load()
	do()
	return c.calls.Load() - calls, c.messages.Load() - messages
}

// counted opens a driver whose traffic is counted.
func counted(t testing.TB, url string, opts ...grpc.DialOption) (*store, *traffic) {
	t.Helper()
	conf, err := parse(url, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	g, err := newGuard(conf, defaultPatience, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	c := &traffic{}
	g.dial = append(append(g.dial, grpc.WithStatsHandler(c)), opts...)
	d := newStore(g, 0)
	t.Cleanup(func() { d.Close() })
	require.NoError(t, d.reach(t.Context()))
	return d, c
}

// listed returns all names of a category, in pages.
func (d *store) listed(t require.TestingT, ctx context.Context, category string, limit int) []string {
	names := []string{}
	for after := ""; ; {
		page, err := d.Streams(ctx, category, after, limit)
		require.NoError(t, err)
		for _, info := range page {
			require.Greater(t, info.Name, after)
			after = info.Name
			names = append(names, after)
		}
		if len(page) < limit {
			return names
		}
	}
}

func TestAListIsRightHoweverFewNamesAreKept(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	write, read := openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)
	ctx := t.Context()
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		category := fmt.Sprint("c", round) // each history has a category of its own
		read.lists.most = rapid.IntRange(1, 6).Draw(t, "names kept")
		there, gone := map[string]bool{}, map[string]bool{}
		name := rapid.Custom(func(t *rapid.T) string {
			if rapid.IntRange(0, 9).Draw(t, "the category's own") == 0 {
				return category
			}
			return fmt.Sprintf("%s-%d", category, rapid.IntRange(0, 20).Draw(t, "n"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				if name := name.Draw(t, "stream"); !gone[name] {
					require.NoError(t, write.Append(ctx, driver.Append{Stream: name, Events: events(1)}).Err)
					there[name] = true
				}
			},
			"delete": func(t *rapid.T) {
				if name := name.Draw(t, "stream"); there[name] {
					require.NoError(t, write.Delete(ctx, name, driver.Any))
				}
			},
			"purge": func(t *rapid.T) {
				name := name.Draw(t, "stream")
				require.NoError(t, write.Purge(ctx, name))
				delete(there, name)
				gone[name] = true
			},
			"list": func(t *rapid.T) {
				want := make([]string, 0, len(there))
				for name := range there {
					want = append(want, name)
				}
				slices.Sort(want)
				require.Equal(t, want, read.listed(t, ctx, category, rapid.IntRange(1, 8).Draw(t, "limit")))
				kept := read.lists.of(category).names
				require.LessOrEqual(t, len(kept), max(read.lists.most, 1))
				for _, name := range kept {
					require.True(t, name == category || !gone[name], "%s was purged", name)
				}
			},
			"category": func(t *rapid.T) {
				list, err := read.Categories(ctx)
				require.NoError(t, err)
				require.Equal(t, len(there) > 0, slices.Contains(list, category))
			},
		})
	})
}

// What a name has in it means nothing to the filter.
func TestCategoriesThatAreAlikeAreListedApart(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	ctx := t.Context()
	names := []string{"a.b-1", "axb-1", "a*-1", "aa-1", "^a-1", "[a]-1", "a|b-1", "(a-1", `a\-1`, "a-1", "a", "a-", "a--", "$a-1", "$a", "$sys.a-1", "A-1", "levada.sys-1", "levada-1"}
	for _, name := range names {
		require.NoError(t, d.Append(ctx, driver.Append{Stream: name, Events: events(1)}).Err)
	}
	categories := map[string][]string{}
	for _, name := range names {
		c := driver.Category(name)
		categories[c] = append(categories[c], name)
	}
	for category, want := range categories {
		slices.Sort(want)
		require.Equal(t, want, d.listed(t, ctx, category, 100), "category %q", category)
	}
	for _, category := range []string{"a-b", "$$a", "levada.sys.a", "levada.sys.", "\xff", strings.Repeat("x", 300), "$checkpoint"} {
		require.Empty(t, d.listed(t, ctx, category, 100), "category %q", category)
	}
}

func TestAListReadsWhatIsNew(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	write := openDriver(t, server.URL(), nil)
	d, traffic := counted(t, server.URL())
	ctx := t.Context()
	const streams, others = 5, 200
	for i := range streams {
		require.NoError(t, write.Append(ctx, driver.Append{Stream: fmt.Sprint("room-", i), Events: events(4)}).Err)
	}
	require.NoError(t, write.Append(ctx, driver.Append{Stream: "other-1", Events: events(others)}).Err)
	list := func() { require.Len(t, d.listed(t, ctx, "room", 100), streams) }
	_, first := traffic.during(list)
	require.Less(t, first, int64(others), "the server leaves out what is not of the category")
	calls, next := traffic.during(list)
	require.LessOrEqual(t, next, first-4*streams, "what was read is not read again")
	require.NoError(t, write.Append(ctx, driver.Append{Stream: "room-1", Events: events(1)}).Err)
	more, again := traffic.during(list)
	require.LessOrEqual(t, more, calls+1, "one read for what is new")
	require.LessOrEqual(t, again, next+2)
	for i := range keptLists + 3 {
		_, err := d.Streams(ctx, fmt.Sprint("none", i), "", 10)
		require.NoError(t, err)
	}
	require.Len(t, d.lists.known, keptLists, "lists of categories that nobody asks for are forgotten")
	list()
}

func TestAServerThatDoesNotFilterIsReadWhole(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(context.Context) error{
		"an old one":           func(context.Context) error { return status.Error(codes.InvalidArgument, "no such combination") },
		"one without":          func(context.Context) error { return status.Error(codes.Unimplemented, "filters") },
		"one that finds none":  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"one that fails first": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var plain, filtered atomic.Int64
			f, err := startFake(&fake{read: func(req *streams.ReadReq, s streams.Streams_ReadServer) error {
				o := req.GetOptions()
				stream := string(o.GetStream().GetStreamIdentifier().GetStreamName())
				if o.GetFilter() != nil && filtered.Add(1) > 0 && refuse != nil {
					return refuse(s.Context())
				} else if o.GetFilter() != nil && filtered.Load() == 1 {
					return status.Error(codes.Unavailable, "in a moment")
				} else if o.GetFilter() == nil && stream == "" {
					plain.Add(1)
				}
				names := []string{"room-1", "other-1", "room-2", "room-1", "room-3"}
				if o.GetReadDirection() == streams.ReadReq_Options_Backwards {
					slices.Reverse(names)
				}
				for i, name := range names {
					e := onServer(t, &driver.Event{Type: "t"})
					e.StreamIdentifier, e.CommitPosition, e.PreparePosition = identifier(name), 100+uint64(i), 100+uint64(i)
					if o.GetFilter() != nil && name == "other-1" || stream != "" && stream != name {
						continue
					}
					if err := s.Send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{Event: e}}}); err != nil {
						return err
					}
				}
				return nil
			}})
			require.NoError(t, err)
			t.Cleanup(f.stop)
			d := openDriver(t, f.url(), nil)
			d.g.attempt = 50 * time.Millisecond
			require.Equal(t, []string{"room-1", "room-2", "room-3"}, d.listed(t, t.Context(), "room", 10))
			want := int64(1)
			if refuse == nil {
				want = 2
			}
			require.Equal(t, want, filtered.Load())
		})
	}
}

func TestAListIsGivenUpWithItsContext(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	require.NoError(t, d.Append(t.Context(), driver.Append{Stream: "room-1", Events: events(1)}).Err)
	answer := make(chan struct{})
	remove := server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Stream: "$all", Until: answer})
	for name, call := range map[string]func(context.Context) error{
		"streams":    func(ctx context.Context) error { _, err := d.Streams(ctx, "room", "", 1); return err },
		"categories": func(ctx context.Context) error { _, err := d.Categories(ctx); return err },
		"a date":     func(ctx context.Context) error { _, err := d.PositionAt(ctx, time.Now()); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for range 2 { // one that reads, and one that waits for it
			go func() { errs <- call(ctx) }()
		}
		cancel()
		require.ErrorIs(t, <-errs, context.Canceled, name)
		require.ErrorIs(t, <-errs, context.Canceled, name)
	}
	remove()
	close(answer)
	require.Equal(t, []string{"room-1"}, d.listed(t, t.Context(), "room", 1))
	categories, err := d.Categories(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"room"}, categories)
}

// Streams that another program deleted or purged, or whose metadata it wrote, are as the driver's own.
func TestStreamsOfOtherProgramsAreListed(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	c := bare(t, server.URL(), nil)
	defer c.Close()
	ctx := t.Context()
	for _, name := range []string{"room-1", "room-2", "room-3", "$ce-room", "hall-1"} {
		_, err := c.AppendToStream(ctx, name, esdb.AppendToStreamOptions{}, esdb.EventData{EventType: "t", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"room-1", "room-2", "room-3"}, d.listed(t, ctx, "room", 2))
	_, err := c.DeleteStream(ctx, "room-1", esdb.DeleteStreamOptions{})
	require.NoError(t, err)
	_, err = c.TombstoneStream(ctx, "room-2", esdb.TombstoneStreamOptions{})
	require.NoError(t, err)
	page, err := d.Streams(ctx, "room", "", 10)
	require.NoError(t, err)
	require.Equal(t, []driver.StreamInfo{{Name: "room-1", Version: 1, First: 2, Deleted: true, Origin: 1}, {Name: "room-3", Version: 1, First: 1}}, page)
	categories, err := d.Categories(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"hall", "room"}, categories)
	_, err = c.TombstoneStream(ctx, "hall-1", esdb.TombstoneStreamOptions{})
	require.NoError(t, err)
	categories, err = d.Categories(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"room"}, categories)
}
