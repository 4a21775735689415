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
	filters := []driver.Filter{{}, {Streams: []string{"a-1"}}, {Categories: []string{"b"}}, {Types: []string{"t"}, System: true}}
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
