package retention_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/retention"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/projection"
)

type Noted struct{ Text string }

func open(t testing.TB) *eventstore.Store {
	s := memstore.Open(nil)
	t.Cleanup(func() { _ = s.Close() })
	require.NoError(t, s.Types.Register("noted", Noted{}))
	return s
}

func note(t testing.TB, s *eventstore.Store, stream eventstore.StreamName, texts ...string) eventstore.Position {
	var last eventstore.Position
	for _, text := range texts {
		at, err := s.Append(t.Context(), stream, eventstore.Any, eventstore.Event{Data: Noted{text}})
		require.NoError(t, err)
		last = at.Position
	}
	return last
}

type at map[string]eventstore.Position

func (a at) Positions(context.Context) (map[string]eventstore.Position, error) { return a, nil }

type broken struct{}

func (broken) Positions(context.Context) (map[string]eventstore.Position, error) {
	return nil, io.ErrNoProgress
}

func TestNothingIsRemovedBeforeEverybodyHasSeenIt(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	note(t, s, "a-1", "1", "2", "3") // positions 1 to 3
	note(t, s, "b-1", "4")
	readers := at{"slow": 2, "fast": 9}
	k := &retention.Keeper{Store: s, Readers: []retention.Reader{at{"other": 7}, readers}}
	for name, remove := range map[string]func() error{
		"truncate": func() error { return k.Truncate(ctx, "a-1", 4) },
		"delete":   func() error { return k.Delete(ctx, "a-1", eventstore.Any) },
		"purge":    func() error { return k.Purge(ctx, "a-1") },
	} {
		behind, ok := errors.AsType[*retention.BehindError](remove())
		require.True(t, ok, name)
		require.Equal(t, &retention.BehindError{Stream: "a-1", Reader: "slow", Position: 2, Needs: 3}, behind, name)
		require.ErrorContains(t, behind, "slow is at position 2")
	}
	require.NoError(t, k.Truncate(ctx, "a-1", 3), "it has seen what goes")
	info, err := s.Stream(ctx, "a-1")
	require.NoError(t, err)
	require.EqualValues(t, 3, info.First)
	readers["slow"] = 3
	require.NoError(t, k.Delete(ctx, "a-1", eventstore.Exactly(3)))
	require.NoError(t, k.Delete(ctx, "a-1", eventstore.Any), "again")
	require.NoError(t, k.Purge(ctx, "a-1"))
	require.NoError(t, k.Purge(ctx, "a-1"), "again")
	require.NoError(t, k.Purge(ctx, "none-1"))

	k.Readers = append(k.Readers, broken{})
	require.ErrorIs(t, k.Purge(ctx, "b-1"), io.ErrNoProgress, "who does not answer may be behind")
	k.Readers = nil
	for d, err := range s.Consume(ctx, eventstore.Consumer{Name: "mailer", From: eventstore.After(3), Partitions: 1}) {
		require.NoError(t, err)
		require.Error(t, k.Purge(ctx, "b-1"), "consumers are asked by themselves")
		require.NoError(t, d.Ack(ctx))
		break
	}
	require.NoError(t, k.Purge(ctx, "b-1"))
}

func TestAStoreWithoutConsumersHasNobodyToWaitFor(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	s := eventstore.New(struct {
		driver.Store
		driver.Deleter
	}{d, d.(driver.Deleter)}, nil)
	defer s.Close()
	require.NoError(t, s.Types.Register("noted", Noted{}))
	note(t, s, "a-1", "1")
	require.NoError(t, (&retention.Keeper{Store: s}).Purge(t.Context(), "a-1"))
}

// A projection is a reader, while it runs and while it does not.
func TestProjectionsAreReaders(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	var seen projection.Memory[int]
	g := &projection.Group{Store: s}
	require.NoError(t, g.Add(&projection.Projection[*int]{Name: "seen", Target: &seen, Handlers: []projection.Handler[*int]{
		projection.On(func(_ context.Context, n *int, _ Noted, _ *eventstore.Recorded) error { *n++; return nil }),
	}}))
	last := note(t, s, "a-1", "1", "2")
	k := &retention.Keeper{Store: s, Readers: []retention.Reader{g}}
	require.Error(t, k.Purge(ctx, "a-1"))
	run, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- g.Run(run) }()
	require.NoError(t, g.Wait(ctx, last))
	require.NoError(t, k.Purge(ctx, "a-1"))
	stop()
	require.NoError(t, <-done)
}

func TestWhatIsParkedIsNotRemoved(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), t.Context()
	var seen projection.Memory[int]
	bad := true
	g := &projection.Group{Store: s, Logger: slog.New(slog.DiscardHandler)}
	require.NoError(t, g.Add(&projection.Projection[*int]{
		Name: "seen", Target: &seen, OnError: projection.ParkAfter(1),
		Handlers: []projection.Handler[*int]{projection.On(func(_ context.Context, n *int, e Noted, _ *eventstore.Recorded) error {
			if e.Text == "bad" && bad {
				return errors.New("no")
			}
			*n++
			return nil
		})},
	}))
	run, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- g.Run(run) }()
	note(t, s, "a-1", "good", "bad", "good")
	last := note(t, s, "b-1", "good")
	require.NoError(t, g.Wait(ctx, last))
	k := &retention.Keeper{Store: s, Readers: []retention.Reader{g}}
	require.NoError(t, k.Truncate(ctx, "a-1", 2))
	for _, err := range []error{k.Truncate(ctx, "a-1", 3), k.Purge(ctx, "a-1"), k.Purge(ctx, "b-1")} {
		var behind *retention.BehindError
		require.ErrorAs(t, err, &behind)
		require.Equal(t, "seen", behind.Reader)
		require.EqualValues(t, 1, behind.Position)
	}
	require.NoError(t, g.Pause(ctx, "seen"))
	bad = false
	require.NoError(t, g.Resume("seen"))
	require.NoError(t, g.Retry(ctx, "seen", "a-1"))
	require.NoError(t, k.Purge(ctx, "a-1"))
	stop()
	require.NoError(t, <-done)
}

func read(t require.TestingT, b []byte) (list []*eventstore.Recorded, err error) {
	for r, err := range retention.Read(bytes.NewReader(b)) {
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
	return list, nil
}

func TestAnArchiveHoldsWhatWasStored(t *testing.T) {
	t.Parallel()
	s, ctx := open(t), system.Context(t.Context())
	require.NoError(t, s.Types.Add(eventstore.UpcastSplit("gone", func(struct{ X int }) []any { return nil })))
	raw := func(typ, contentType, data string) eventstore.Event {
		return eventstore.Event{Type: typ, ContentType: contentType, Raw: []byte(data)}
	}
	full := raw("noted", "application/json", `{"Text":"<&>\u2028 "}`)
	full.Metadata = map[string]string{"by": "ann", "$key": "k"}
	full.Tags = []string{"a:1", "b"}
	full.Correlation, full.Causation = eventstore.NewID(), eventstore.NewID()
	events := []eventstore.Event{
		full,
		raw("unknown", "application/octet-stream", "\x00\xff\n"),
		raw("noted", "application/json", `{ "Text": "spaces" }`),
		raw("noted", "application/json", ``),
		raw("gone", "application/json", `{"X":1}`),
	}
	_, err := s.Append(ctx, "a-1", eventstore.Any, events...)
	require.NoError(t, err)
	var b bytes.Buffer
	n, err := retention.Archive(t.Context(), s, "a-1", &b)
	require.NoError(t, err)
	require.Equal(t, len(events), n, "also what readers see nothing of")
	list, err := read(t, b.Bytes())
	require.NoError(t, err)
	require.Len(t, list, len(events))
	for i, r := range list {
		require.Equal(t, string(events[i].Raw), string(r.Raw))
		require.Equal(t, events[i].Type, r.Type)
		require.Equal(t, events[i].ContentType, r.ContentType)
		require.Equal(t, events[i].Metadata, r.Metadata)
		require.Equal(t, events[i].Tags, r.Tags)
		require.EqualValues(t, i+1, r.Version)
		require.EqualValues(t, i+1, r.Position)
		require.False(t, r.Time.IsZero())
		require.Equal(t, eventstore.StreamName("a-1"), r.Stream)
	}

	other := open(t)
	at, err := retention.Restore(t.Context(), other, "a-2", bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.EqualValues(t, len(events), at.Version)
	var again bytes.Buffer
	_, err = retention.Archive(t.Context(), other, "a-2", &again)
	require.NoError(t, err)
	back, err := read(t, again.Bytes())
	require.NoError(t, err)
	for i, r := range back {
		want := *list[i]
		want.Stream, want.Time = "a-2", r.Time
		require.Equal(t, &want, r)
	}
	_, err = retention.Restore(t.Context(), other, "a-2", bytes.NewReader(b.Bytes()))
	require.NoError(t, err, "the very same events at the same place")
	note(t, other, "b-1", "1")
	_, err = retention.Restore(t.Context(), other, "b-1", bytes.NewReader(b.Bytes()))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	_, err = retention.Restore(t.Context(), other, "$mine-1", bytes.NewReader(b.Bytes()))
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

func TestADamagedArchiveIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	s := open(t)
	note(t, s, "a-1", "one", "two", "three")
	var b bytes.Buffer
	_, err := retention.Archive(t.Context(), s, "a-1", &b)
	require.NoError(t, err)
	whole := b.String()
	lines := strings.SplitAfter(whole, "\n")
	for name, damaged := range map[string]string{
		"empty":         "",
		"other":         "hello\n",
		"JSON":          "{}\n",
		"format":        strings.Replace(whole, `"levada_archive":1`, `"levada_archive":2`, 1),
		"changed":       strings.Replace(whole, "two", "TWO", 1),
		"line lost":     lines[0] + lines[1] + strings.Join(lines[3:], ""),
		"lines swapped": lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""),
		"no end":        strings.Join(lines[:4], ""),
		"cut":           whole[:len(whole)-20],
		"header":        strings.Replace(whole, "a-1", "a-2", 1),
		"more":          whole + "{}\n",
		"line":          lines[0] + "{\n" + strings.Join(lines[1:], ""),
		"count":         strings.Replace(whole, `"events":3`, `"events":4`, 1),
	} {
		_, err := read(t, []byte(damaged))
		require.ErrorIs(t, err, retention.ErrArchive, name)
		_, err = retention.Restore(t.Context(), s, "b-1", strings.NewReader(damaged))
		require.ErrorIs(t, err, retention.ErrArchive, name)
	}
	info, err := s.Stream(t.Context(), "b-1")
	require.NoError(t, err)
	require.Zero(t, info.Version)
}

func TestAnArchiveFileIsThereAsAWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s, dir := open(t), t.TempDir()
	note(t, s, "a-1", "one")
	path := filepath.Join(dir, "a-1.jsonl")
	n, err := retention.ArchiveFile(t.Context(), s, "a-1", path)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = retention.ArchiveFile(t.Context(), s, "a-1", path)
	require.ErrorIs(t, err, os.ErrExist, "no archive is replaced")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = retention.ArchiveFile(ctx, s, "a-1", filepath.Join(dir, "b"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = retention.ArchiveFile(t.Context(), s, "a-1", filepath.Join(dir, "none", "b"))
	require.ErrorIs(t, err, os.ErrNotExist)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, b)
}

func TestAnyStreamSurvivesItsArchive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := open(t)
		var want []string
		for range rapid.IntRange(1, 6).Draw(r, "events") {
			data := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(r, "data")
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Type: "x", Raw: []byte(data), ContentType: "text/plain"})
			require.NoError(r, err)
			want = append(want, data)
		}
		var b bytes.Buffer
		_, err := retention.Archive(t.Context(), s, "a-1", &b)
		require.NoError(r, err)
		list, err := read(r, b.Bytes())
		require.NoError(r, err)
		var got []string
		for _, e := range list {
			got = append(got, string(e.Raw))
		}
		require.Equal(r, want, got)
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"levada_archive":1,"stream":"a-1"}` + "\n" + `{"version":1,"type":"x"}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := read(t, b); err != nil && !errors.Is(err, retention.ErrArchive) {
			t.Fatal(err)
		}
	})
}
