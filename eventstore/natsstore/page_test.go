package natsstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

// isPage reports whether a request is for a page.
func isPage(m *nats.Msg) bool {
	return strings.HasPrefix(m.Subject, "$JS.API.DIRECT.GET.") && strings.Contains(string(m.Data), `"batch"`)
}

// isDirect reports whether a request goes to any replica.
func isDirect(m *nats.Msg) bool { return strings.HasPrefix(m.Subject, "$JS.API.DIRECT.GET.") }

// readAll reads the log to its end.
func readAll(t *testing.T, s *store, f driver.Filter, dir driver.Direction, limit int) (list []driver.Recorded) {
	t.Helper()
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	for from := uint64(0); ; {
		page, scanned, err := s.ReadAll(t.Context(), f, from, dir, limit)
		require.NoError(t, err)
		list = append(list, page...)
		if dir == driver.Backward && scanned == 0 || dir == driver.Forward && scanned >= head {
			return list
		}
		require.NotEqual(t, from, scanned)
		from = scanned
	}
}

func TestAPageThatIsCutOffIsNeverTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(time.Second)
	for range 4 {
		must(t, s, "a-1", driver.Any, 10)
		must(t, s, "$b-1", driver.Any, 1)
	}
	for _, passes := range []int{0, 7, 40} {
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			seen := 0
			r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
				if isPage(request) {
					if seen++; seen > passes || m.Header.Get("Status") != "" {
						return nil
					}
				}
				return []*nats.Msg{m}
			}})
			list, scanned, err := s.ReadAll(t.Context(), driver.Filter{}, 0, dir, 1000)
			require.ErrorIs(t, err, errCut, "after %d messages", passes)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, list)
			require.Zero(t, scanned)
		}
	}
	// What was cut off once is read again.
	s.opt.Timeout = time.Minute
	cut := only(1)
	r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if isPage(request) && m.Header.Get("Status") == "204" && cut() {
			return nil
		}
		return []*nats.Msg{m}
	}})
	require.Len(t, readAll(t, s, driver.Filter{}, driver.Forward, 1000), 40)
}

func TestAServerThatAnswersNonsenseIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(3 * time.Second)
	must(t, s, "a-1", driver.Any, 10)
	for name, spoil := range map[string]func(h nats.Header){
		"a sequence that is none": func(h nats.Header) { h.Set("Nats-Sequence", "x") },
		"sequences that go back":  func(h nats.Header) { h.Set("Nats-Sequence", "1") },
		"no time":                 func(h nats.Header) { h.Del("Nats-Time-Stamp") },
		"another subject":         func(h nats.Header) { h.Set("Nats-Subject", "other.u.a.-1") },
		"no version":              func(h nats.Header) { h.Set(headerVersion, "") },
		"a malformed id":          func(h nats.Header) { h.Set(headerID, "zz") },
		"a malformed part":        func(h nats.Header) { h.Set(headerPart, "3/2") },
		"malformed metadata":      func(h nats.Header) { h.Set(headerMetadata, "%zz") },
		"malformed tags":          func(h nats.Header) { h.Set(headerTags, "%zz") },
		"a malformed type":        func(h nats.Header) { h.Set(headerType, "%zz") },
		"too much aside":          func(h nats.Header) { h.Set(headerAside, "99") },
	} {
		seen := 0
		r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
			if isPage(request) && m.Header.Get("Status") == "" {
				if seen++; seen == 3 {
					spoil(m.Header)
				}
			}
			return []*nats.Msg{m}
		}})
		_, _, err := s.ReadAll(t.Context(), driver.Filter{}, 0, driver.Forward, 100)
		require.Error(t, err, name)
	}
	r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if isPage(request) {
			return []*nats.Msg{{Header: nats.Header{"Status": {"408"}, "Description": {"Bad Request"}}}}
		}
		return []*nats.Msg{m}
	}})
	_, _, err := s.ReadAll(t.Context(), driver.Filter{}, 0, driver.Forward, 100)
	require.ErrorContains(t, err, "408 Bad Request")
}

// behind makes a script of a replica that has nothing above a sequence.
func behind(seq uint64) script {
	return script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if !isDirect(request) {
			return []*nats.Msg{m}
		}
		switch n, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64); {
		case n > seq && isPage(request):
			return nil
		case n > seq:
			return []*nats.Msg{{Header: nats.Header{"Status": {"404"}}}}
		}
		if m.Header.Get("Status") == "204" {
			m.Header.Set("Nats-Num-Pending", "0")
		}
		return []*nats.Msg{m}
	}}
}

func TestAReplicaThatIsBehindHidesNothing(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	for i := range 8 {
		must(t, s, fmt.Sprintf("a-%d", i%3), driver.Any, 1+i%2)
		must(t, s, "b-1", driver.Any, 1)
	}
	filters := []driver.Filter{{}, {Streams: []string{"a-1"}}, {Categories: []string{"b"}}, {Types: []string{"t"}, System: true},
		{Categories: []string{"a", "b"}}, {Streams: []string{"a-2", "b-1", "none"}}}
	want := make([][]driver.Recorded, len(filters))
	for i, f := range filters {
		want[i] = readAll(t, s, f, driver.Forward, 100)
	}
	require.Len(t, want[0], 20)
	for _, seq := range []uint64{0, 1, 13, 19} {
		r.play(behind(seq))
		for i, f := range filters {
			require.Equal(t, want[i], readAll(t, s, f, driver.Forward, 7), "%+v behind at %d", f, seq)
			back := readAll(t, s, f, driver.Backward, 7)
			slices.Reverse(back)
			require.Equal(t, want[i], back, "%+v behind at %d", f, seq)
		}
		stands(t, s, "b-1", 8)
	}
	r.play(behind(5))
	require.Equal(t, uint64(9), must(t, s, "b-1", 8, 1).Version)
	require.NoError(t, s.Truncate(t.Context(), "b-1", 5))
	list, err := s.ReadStream(t.Context(), "b-1", 0, driver.Forward, 100)
	require.NoError(t, err)
	require.Len(t, list, 5)
}

func TestAReplicaThatHasNotPurgedYetShowsNothingThatWasRemoved(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	s.replicas = 3 // as far as it knows
	for range 5 {
		must(t, s, "cut-1", driver.Any, 2)
		must(t, s, "gone-1", driver.Any, 2)
		must(t, s, "kept-1", driver.Any, 1)
		must(t, s, "deleted-1", driver.Any, 1)
	}
	// No purge is heard: what it should remove stays.
	r.play(script{request: func(m *nats.Msg) []*nats.Msg {
		if strings.HasPrefix(m.Subject, "$JS.API.STREAM.PURGE."+s.opt.Name) {
			_ = r.near.PublishMsg(&nats.Msg{Subject: m.Reply, Data: []byte(`{"success":true,"purged":1}`)})
			return nil
		}
		return []*nats.Msg{m}
	}})
	require.NoError(t, s.Truncate(t.Context(), "cut-1", 5))
	require.NoError(t, s.Truncate(t.Context(), "cut-1", 9))
	require.NoError(t, s.Delete(t.Context(), "deleted-1", 5))
	require.NoError(t, s.Purge(t.Context(), "gone-1"))
	require.Len(t, scan(t, s), 30, "the server has them all")
	other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer other.Close()
	other.replicas = 3
	for _, s := range []*store{s, other} {
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			var names []string
			for _, e := range readAll(t, s, driver.Filter{}, dir, 3) {
				names = append(names, e.Stream)
			}
			require.ElementsMatch(t, []string{"cut-1", "cut-1", "kept-1", "kept-1", "kept-1", "kept-1", "kept-1"}, names)
		}
		list, err := s.ReadStream(t.Context(), "cut-1", 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Len(t, list, 2)
	}
}

func TestAnEventThatSomebodyHasRemovedIsMissed(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	res := must(t, s, "a-1", driver.NoStream, 5)
	var x answer
	require.NoError(t, s.log.api(t.Context(), "MSG.DELETE", map[string]uint64{"seq": res.Positions[2]}, &x))
	_, err := s.ReadStream(t.Context(), "a-1", 0, driver.Forward, 10)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "version 3")
	list, err := s.ReadStream(t.Context(), "a-1", 3, driver.Forward, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
}

// TestAFilterOfSeveralPatternsReadsWhatOneOfAllWould reads logs of many streams from
// everywhere, by filters that the server applies one by one.
func TestAFilterOfSeveralPatternsReadsWhatOneOfAllWould(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	begin, _, err := s.lastSeq(t.Context())
	require.NoError(t, err)
	categories := []string{"a", "b", "c", "$d", "e"}
	var streams []string
	for _, c := range categories {
		streams = append(streams, c, c+"-1", c+"-2")
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 12).Draw(rt, "appends") {
			name := rapid.SampledFrom(streams).Draw(rt, "stream")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				require.NoError(rt, s.Delete(t.Context(), name, driver.Any))
			case 1:
				mustAll(t, s, to("a-1", driver.Any, 2), to("b", driver.Any, 1), to("$d-1", driver.Any, 2))
			default:
				must(t, s, name, driver.Any, rapid.IntRange(1, 40).Draw(rt, "events"))
			}
		}
		head, _, err := s.lastSeq(t.Context())
		require.NoError(rt, err)
		var f driver.Filter
		if rapid.Bool().Draw(rt, "by stream") {
			f.Streams = rapid.SliceOfN(rapid.SampledFrom(append(streams, "none-1")), 1, 5).Draw(rt, "streams")
		}
		if len(f.Streams) == 0 || rapid.Bool().Draw(rt, "by category") {
			f.Categories = rapid.SliceOfN(rapid.SampledFrom(append(categories, "none")), 1, 5).Draw(rt, "categories")
		}
		if rapid.IntRange(0, 3).Draw(rt, "by type") == 0 {
			f.Types = []string{rapid.SampledFrom([]string{"t", "u"}).Draw(rt, "type")}
		}
		var want []uint64
		from := rapid.Uint64Range(begin, head).Draw(rt, "from")
		for _, m := range scan(t, s) {
			stream, ok := s.space.stream(m.subject)
			require.True(rt, ok)
			if m.seq > from && f.Match(stream, m.header.Get(headerType)) {
				want = append(want, m.seq)
			}
		}
		limit := rapid.IntRange(1, 60).Draw(rt, "limit")
		at, have := from, []uint64(nil)
		for at < head {
			list, scanned, err := s.ReadAll(t.Context(), f, at, driver.Forward, limit)
			require.NoError(rt, err)
			require.Greater(rt, scanned, at)
			for _, e := range list {
				require.Greater(rt, e.Position, at)
				require.LessOrEqual(rt, e.Position, scanned)
				at = e.Position
				have = append(have, e.Position)
			}
			at = scanned
		}
		require.Equal(rt, want, have)
		have = nil
		for at = head + 1; at > from+1; {
			list, scanned, err := s.ReadAll(t.Context(), f, at, driver.Backward, limit)
			require.NoError(rt, err)
			require.Less(rt, scanned, at)
			for _, e := range list {
				if e.Position > from {
					have = append(have, e.Position)
				}
			}
			at = scanned
		}
		slices.Reverse(have)
		require.Equal(rt, want, have)
	})
}

// TestAFilterThatSelectsMostIsReadAsTheWholeLogIs has the store notice that a page
// for each category is more work than one for all.
func TestAFilterThatSelectsMostIsReadAsTheWholeLogIs(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for range 4 {
		must(t, s, "many-1", driver.Any, 200)
		must(t, s, "few-1", driver.Any, 5)
		must(t, s, "some-1", driver.Any, 20)
	}
	for _, c := range []struct {
		categories []string
		crowded    bool
	}{{[]string{"many", "few"}, true}, {[]string{"some", "few"}, false}, {[]string{"none", "few"}, false}} {
		patterns, _ := s.space.patterns(&driver.Filter{Categories: c.categories})
		for range 2 {
			list := readAll(t, s, driver.Filter{Categories: c.categories}, driver.Forward, 50)
			want := 0
			for _, m := range scan(t, s) {
				if stream, _ := s.space.stream(m.subject); slices.Contains(c.categories, driver.Category(stream)) {
					require.Equal(t, m.seq, list[want].Position)
					want++
				}
			}
			require.Len(t, list, want)
			require.Equal(t, c.crowded, s.crowds.has(patterns), "%v", c.categories)
		}
	}
	require.Equal(t, s.space.ofUsers(), s.space.cover([]string{s.space.category("a"), s.space.of("b-1")}))
	require.Equal(t, s.space.all(), s.space.cover([]string{s.space.category("a"), s.space.of("$b-1")}))
	require.Len(t, s.cursors([]string{s.space.category("few"), s.space.category("many")}, 0), 1)
	require.Len(t, s.cursors([]string{s.space.category("few"), s.space.category("some")}, 0), 2)
}
