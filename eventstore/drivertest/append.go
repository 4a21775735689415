package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testAppend(g *group) {
	for _, c := range []struct {
		name     string
		have     int // events that the stream has
		expected int64
		conflict bool
	}{
		{"a new stream takes Any", 0, driver.Any, false},
		{"a new stream takes NoStream", 0, driver.NoStream, false},
		{"a new stream refuses StreamExists", 0, driver.StreamExists, true},
		{"a new stream refuses version 1", 0, 1, true},
		{"a new stream refuses the greatest version", 0, 1<<63 - 1, true},
		{"a stream at 3 takes Any", 3, driver.Any, false},
		{"a stream at 3 takes version 3", 3, 3, false},
		{"a stream at 3 takes StreamExists", 3, driver.StreamExists, false},
		{"a stream at 3 refuses NoStream", 3, driver.NoStream, true},
		{"a stream at 3 refuses version 2", 3, 2, true},
		{"a stream at 3 refuses version 1", 3, 1, true},
		{"a stream at 3 refuses version 4", 3, 4, true},
	} {
		g.test(c.name, func(f *fixture) {
			f.fill("other-1", 5)
			f.fill("s-1", c.have)
			if c.conflict {
				f.unchanged([]string{"s-1", "other-1"}, func() {
					r := f.try("s-1", c.expected, events(2)...)
					f.conflict(r.Err, uint64(c.have))
				})
				require.Equal(f, upTo(c.have), versions(f.stream("s-1")))
				return
			}
			r := f.append("s-1", c.expected, events(2)...)
			require.Equal(f, uint64(c.have+2), r.Version, "the version after the last event")
			require.Equal(f, upTo(c.have+2), versions(f.stream("s-1")))
		})
	}

	g.test("a conflict can be appended at the version it tells", func(f *fixture) {
		f.fill("s-1", 7)
		at := f.conflicts(f.try("s-1", 3, events(1)...).Err).Actual
		require.Equal(f, uint64(8), f.append("s-1", int64(at), events(1)...).Version)
	})

	g.test("the result says what readers will see", func(f *fixture) {
		f.fill("s-1", 2)
		list := events(3)
		r := f.append("s-1", 2, list...)
		require.Equal(f, uint64(5), r.Version)
		read := f.stream("s-1")[2:]
		for i, e := range list {
			same(f, e, read[i])
			require.True(f, r.Time.Equal(read[i].Time), "time: result %v, read %v", r.Time, read[i].Time)
		}
		if r.Positions != nil {
			require.Equal(f, r.Positions, positions(read))
		}
		require.Equal(f, r.Last, read[2].Position)
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		require.Equal(f, r.Last, head)
	})

	g.test("positions increase from append to append and from stream to stream", func(f *fixture) {
		var last uint64
		for i := range 30 {
			r := f.append(fmt.Sprintf("s-%d", i%3), driver.Any, events(1+i%4)...)
			first := r.Last
			if r.Positions != nil {
				first = r.Positions[0]
			}
			require.Greater(f, first, last)
			last = r.Last
		}
	})

	g.test("a conflict uses up no version", func(f *fixture) {
		f.fill("s-1", 1)
		for range 5 {
			f.conflicts(f.try("s-1", 9, events(3)...).Err)
		}
		require.Equal(f, uint64(2), f.append("s-1", 1, events(1)...).Version)
	})

	g.test("every part of an event reads as it was written", testRoundTrip)
	g.test("data of a megabyte reads as it was written", func(f *fixture) {
		big := event("t", "")
		big.Data = bytes.Repeat([]byte("0123456789abcde\x00"), 1<<16)
		if l := f.d.Limits().EventBytes; l > 0 {
			big.Data = big.Data[:min(len(big.Data), l-200)]
		}
		f.append("s-1", driver.Any, big)
		same(f, big, f.stream("s-1")[0])
	})

	g.test("names that are alike are different streams", func(f *fixture) {
		names := []string{
			"a-1", "A-1", "a-1 ", " a-1", "a-10", "a-", "a", "a_1", "a%1", "a-é", "a-e\u0301", "a-1'", "a-\"1\"", "a.1", "a*1", "a>1", "a/1", "a--1",
			".", "..", "a.", ".a", "*", ">", "a.>", "a.*", "a.b.c", " ", "_", "%", "=", "=2D", "a=2D1", "%2D", "a%2D1", "a\\1", "a#1", "a?1", "a:1", "a;1", "a,1", "a|1", "a@1",
			"a+1", "a&1", "a~1", "(a)-1", "[a]-1", "{a}-1", "日本-語", "🎈-🎈", "\u00a0", "A", "$sys-1", "sys-1", "$sys", "$a.1", "ǆ-1", "ß-1", "ss-1", "İ-1", "i-1",
		}
		for i, name := range names {
			require.Equal(f, uint64(1), f.append(name, driver.NoStream, event("t", fmt.Sprint(i))).Version, "%q", name)
		}
		for i, name := range names {
			require.Equal(f, []string{fmt.Sprint(i)}, data(f.stream(name)), "%q", name)
			require.Equal(f, []string{fmt.Sprint(i)}, data(f.all(driver.Filter{Streams: []string{name}})), "%q", name)
		}
	})

	g.test("a name may be as long as is allowed", func(f *fixture) {
		n := f.d.Limits().NameBytes
		if n == 0 {
			n = 255
		}
		long := "n-" + strings.Repeat("x", n-2)
		f.append(long, driver.NoStream, events(1)...)
		require.Len(f, f.stream(long), 1)
		f.append(long[:n-1], driver.NoStream, events(2)...)
		require.Len(f, f.stream(long), 1, "a prefix is another stream")
		// An engine that has to escape characters needs more room for them.
		for _, c := range []string{".", " ", "*", "%", "é", "世", "🎈"} {
			long := "n-" + strings.Repeat(c, (n-2)/len(c))
			f.append(long, driver.NoStream, events(1)...)
			f.append(long[:len(long)-len(c)], driver.NoStream, events(2)...)
			require.Len(f, f.stream(long), 1, "%q", c)
			require.Len(f, f.all(driver.Filter{Streams: []string{long}}), 1, "%q", c)
		}
	})

	g.test("a name over the limit is too large", func(f *fixture) {
		n := f.d.Limits().NameBytes
		if n == 0 {
			f.Skip("names have no limit of the driver's own")
		}
		f.fill("s-1", 1)
		f.unchanged([]string{"s-1"}, func() {
			r := f.try("n-"+strings.Repeat("x", n-1), driver.Any, events(1)...)
			require.ErrorIs(f, r.Err, driver.ErrTooLarge)
		})
	})

	g.test("as many events as are allowed are one append in order", func(f *fixture) {
		n, limited := appendEvents(f)
		for _, have := range []int{0, 2} {
			name := fmt.Sprintf("s-%d", have)
			f.fill(name, have)
			list := events(n)
			r := f.append(name, driver.Any, list...)
			require.Equal(f, uint64(have+n), r.Version)
			read := f.stream(name)
			require.Len(f, read, have+n)
			for i, e := range list {
				require.Equal(f, e.ID, read[have+i].ID, "event %d", i)
				require.Equal(f, uint64(have+i+1), read[have+i].Version)
			}
			if limited {
				f.unchanged([]string{name}, func() {
					r := f.try(name, driver.Any, events(n+1)...)
					require.ErrorIs(f, r.Err, driver.ErrTooLarge)
				})
			}
		}
	})

	g.test("one event over the limit is too large and nothing is written", func(f *fixture) {
		n := f.d.Limits().EventBytes
		if n == 0 || n > 64<<20 {
			f.Skip("an event has no limit of the driver's own that could be tried")
		}
		f.fill("s-1", 1)
		fits := event("t", "")
		fits.Data = make([]byte, n-fits.Size()-len("s-1"))
		over := event("t", "")
		over.Data = make([]byte, n-over.Size()+1)
		f.append("s-1", driver.Any, fits)
		f.unchanged([]string{"s-1"}, func() {
			list := append(events(2), over)
			require.ErrorIs(f, f.try("s-1", driver.Any, list...).Err, driver.ErrTooLarge)
		})
	})

	g.test("an event may be as large as is allowed, whatever it consists of", func(f *fixture) {
		n := f.d.Limits().EventBytes
		if n == 0 || n > 1<<20 {
			n = 1 << 20
		}
		for name, fill := range map[string]func(e *driver.Event, room int){
			"data":               func(e *driver.Event, room int) { e.Data = bytes.Repeat([]byte("\x00é<"), room/4) },
			"one piece metadata": func(e *driver.Event, room int) { e.Metadata = map[string]string{"k": strings.Repeat("é", (room-1)/2)} },
			"much metadata": func(e *driver.Event, room int) {
				e.Metadata = map[string]string{}
				for i := range room / 100 {
					e.Metadata[fmt.Sprintf("key %06d", i)] = strings.Repeat("v", 90)
				}
			},
			"tags": func(e *driver.Event, room int) {
				for i := range min(room/200, 1000) {
					e.Tags = append(e.Tags, fmt.Sprintf("%06d:%s", i, strings.Repeat("t", 193)))
				}
			},
			"a type": func(e *driver.Event, room int) { e.Type = strings.Repeat("t", min(room, 255)) },
			"a bit of everything": func(e *driver.Event, room int) {
				e.Data = bytes.Repeat([]byte("d"), room/4)
				e.Metadata = map[string]string{"k": strings.Repeat("v", room/4)}
				for i := range min(room/4/100, 1000) {
					e.Tags = append(e.Tags, fmt.Sprintf("%06d:%s", i, strings.Repeat("t", 93)))
				}
			},
		} {
			e := event("t", "")
			fill(&e, n-e.Size()-len("s-1"))
			require.LessOrEqual(f, e.Size(), n)
			f.append("s-1", driver.Any, e)
			list := f.stream("s-1")
			same(f, e, list[len(list)-1], name)
		}
	})

	g.test("as many bytes as are allowed are one append", func(f *fixture) {
		l := f.d.Limits()
		if l.AppendBytes == 0 || l.AppendBytes > 16<<20 {
			f.Skip("an append has no limit of the driver's own that could be tried")
		}
		n := 5
		if l.EventBytes > 0 {
			n = max(n, l.AppendBytes/l.EventBytes+1)
		}
		if l.AppendEvents > 0 && n > l.AppendEvents {
			f.Skip("the limit on events is reached first")
		}
		list, left := events(n), l.AppendBytes
		for i := range list {
			list[i].Data = nil
			list[i].Data = bytes.Repeat([]byte{byte(i)}, left/(n-i)-list[i].Size())
			left -= list[i].Size()
		}
		require.Zero(f, left)
		f.append("s-1", driver.NoStream, list...)
		read := f.stream("s-1")
		require.Len(f, read, n)
		for i := range list {
			same(f, list[i], read[i])
		}
	})

	g.test("more bytes than an append may have are too large and nothing is written", func(f *fixture) {
		l := f.d.Limits()
		if l.AppendBytes == 0 || l.AppendBytes > 128<<20 {
			f.Skip("an append has no limit of the driver's own that could be tried")
		}
		size := 64 << 10
		if l.EventBytes > 0 {
			size = min(size, l.EventBytes/2)
		}
		n := l.AppendBytes/size + 1
		if l.AppendEvents > 0 && n > l.AppendEvents {
			f.Skip("the limit on events is reached first")
		}
		list := events(n)
		for i := range list {
			list[i].Data = make([]byte, size)
		}
		f.fill("s-1", 1)
		f.unchanged([]string{"s-1"}, func() {
			require.ErrorIs(f, f.try("s-1", driver.Any, list...).Err, driver.ErrTooLarge)
		})
	})

	g.test("the limits never change", func(f *fixture) {
		limits := f.d.Limits()
		f.fill("s-1", 10)
		require.Equal(f, limits, f.d.Limits())
		require.GreaterOrEqual(f, limits.Writers, 0)
	})

	g.test("what is passed in is neither modified nor kept", func(f *fixture) {
		mine := event("t", "data", "tag:1", "tag:2")
		mine.Metadata = map[string]string{"k": "v"}
		was := mine
		was.Data, was.Tags, was.Metadata = bytes.Clone(mine.Data), slices.Clone(mine.Tags), maps.Clone(mine.Metadata)
		list := []driver.Event{mine}
		f.append("s-1", driver.Any, list...)
		require.Equal(f, was, list[0], "the append modified its argument")
		scribble := func() {
			copy(list[0].Data, "????")
			list[0].Tags[0] = "?"
			list[0].Metadata["k"] = "?"
			list[0] = driver.Event{}
		}
		scribble()
		same(f, was, f.stream("s-1")[0], "the append kept its argument")
	})

	g.test("what was returned is not modified later", func(f *fixture) {
		e := event("t", "data", "tag:1")
		e.Metadata = map[string]string{"k": "v"}
		f.append("s-1", driver.Any, e)
		f.fill("s-1", 3)
		page, err := f.d.ReadStream(f.ctx, "s-1", 0, driver.Forward, 10)
		require.NoError(f, err)
		log, _, err := f.d.ReadAll(f.ctx, driver.Filter{}, 0, driver.Forward, 10)
		require.NoError(f, err)
		f.fill("s-1", 100)
		if d, ok := as[driver.Deleter](f.d); ok {
			require.NoError(f, d.Purge(f.ctx, "s-1"))
		}
		f.fill("s-2", 100)
		same(f, e, page[0])
		same(f, e, log[0])
		require.Equal(f, upTo(4), versions(page))
		require.Equal(f, upTo(len(log)), versions(log))
	})

	g.test("times are UTC, to the microsecond at least, and about now", func(f *fixture) {
		start := time.Now()
		fine := false
		f.eventually("a time that is not a whole millisecond", func() bool {
			r := f.append("s-1", driver.Any, events(1)...)
			fine = fine || r.Time.Nanosecond()%int(time.Millisecond) != 0
			return fine
		})
		for _, r := range f.stream("s-1") {
			require.Equal(f, time.UTC, r.Time.Location())
			// The clock is the store's, which may be another machine's.
			require.WithinDuration(f, start, r.Time, time.Hour)
		}
	})

	g.test("an append whose ctx has ended writes nothing", func(f *fixture) {
		f.fill("s-1", 1)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		f.unchanged([]string{"s-1"}, func() {
			r := f.d.Append(ctx, driver.Append{Stream: "s-1", Events: events(1)})
			require.ErrorIs(f, r.Err, context.Canceled)
		})
	})
}

// appendEvents returns how many events to try in one append, and whether one
// more is refused.
func appendEvents(f *fixture) (n int, limited bool) {
	l := f.d.Limits()
	n = l.AppendEvents
	if n == 0 || n > 20_000 {
		n = 2500
		if testing.Short() {
			n = 1001
		}
	}
	e := event("t", "00000")
	if most := l.AppendBytes / (e.Size() + 16); l.AppendBytes > 0 && n > most {
		return most, false
	}
	return n, n == l.AppendEvents
}

func testRoundTrip(f *fixture) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	strange := "héllo, 世界 🎈 e\u0301 'quoted' \"twice\" \\ % _ ; -- \u200b <&>"
	var list []driver.Event
	add := func(change func(*driver.Event)) {
		e := event("t", "data")
		change(&e)
		list = append(list, e)
	}
	add(func(e *driver.Event) {})
	add(func(e *driver.Event) { e.Data = every })
	add(func(e *driver.Event) { e.Data = nil })
	add(func(e *driver.Event) { e.Data = []byte{} })
	add(func(e *driver.Event) { e.Data = []byte{0} })
	add(func(e *driver.Event) { e.Data = []byte("a\x00b\x00\x00") })
	add(func(e *driver.Event) { e.Data = []byte(`{"json": [1, 2.50, "\u0000", null]}`) })
	add(func(e *driver.Event) { e.Data = []byte(strange) })
	add(func(e *driver.Event) { e.ContentType = "" })
	add(func(e *driver.Event) { e.ContentType = "application/json"; e.Data = []byte(`{ "b": 1, "a": 1 }`) })
	add(func(e *driver.Event) { e.ContentType = "application/octet-stream"; e.Data = every })
	add(func(e *driver.Event) { e.Type = strange })
	add(func(e *driver.Event) { e.Type = "account.opened" })
	add(func(e *driver.Event) { e.Metadata = map[string]string{} })
	add(func(e *driver.Event) { e.Metadata = map[string]string{"": "empty key", "empty value": "", "$key": "k"} })
	add(func(e *driver.Event) {
		e.Metadata = map[string]string{strange: strange, "number": "1e400", "null": "null"}
	})
	add(func(e *driver.Event) { e.Tags = []string{} })
	add(func(e *driver.Event) { e.Tags = []string{"one"} })
	add(func(e *driver.Event) { e.Tags = []string{"z", "a", "m:1", strange, "a,b", "[\"x\"]"} })
	add(func(e *driver.Event) { e.ID = [16]byte{} })
	add(func(e *driver.Event) { e.ID = [16]byte(every[200:216]) })
	add(func(e *driver.Event) {
		e.Correlation = [16]byte(every[240:])
		e.Causation = [16]byte(every[:16])
	})
	add(func(e *driver.Event) { e.Correlation = [16]byte{15: 1} })
	add(func(e *driver.Event) { e.Causation = [16]byte{1} })

	name := "s-" + strings.ReplaceAll(strange, "\u200b", "")
	f.appendAll(name, list...)
	for i, e := range list {
		expected := int64(i)
		if i == 0 {
			expected = driver.NoStream
		}
		f.append("single-1", expected, e)
	}
	for _, reads := range [][]driver.Recorded{
		f.stream(name),
		f.stream("single-1"),
		f.all(driver.Filter{Streams: []string{name}}),
		f.all(driver.Filter{})[len(list):],
	} {
		require.Len(f, reads, len(list))
		for i, e := range list {
			same(f, e, reads[i], "event %d", i)
			require.Equal(f, uint64(i)+1, reads[i].Version)
		}
	}
	require.Equal(f, name, f.stream(name)[0].Stream)
}
