package natsstore

import (
	"fmt"
	"maps"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

func TestAHistoryPointsToTheLastSixteenAndToPowersOfTwo(t *testing.T) {
	t.Parallel()
	var h history
	for v := uint64(1); v <= 5000; v++ {
		h = h.push(10 * v)
		require.Equal(t, v, h.top)
		want := map[uint64]uint64{}
		for i := uint64(0); i < min(v, nearPointers); i++ {
			want[v-i] = 10 * (v - i)
		}
		for n := uint64(farEvery); n <= v; n *= 2 {
			want[v/n*n] = 10 * (v / n * n)
		}
		have := map[uint64]uint64{}
		h.each(func(p pointer) { have[p.version] = p.seq })
		require.Equal(t, want, have, "after version %d", v)
		require.LessOrEqual(t, len(h.far), bits.Len64(v))
	}
}

func TestHistoriesDoNotDependOnHowEventsWereAppended(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var one, many history
		seq := uint64(0)
		for range rapid.IntRange(1, 12).Draw(t, "appends") {
			seq += rapid.Uint64Range(1, 1000).Draw(t, "others between")
			n := rapid.IntRange(1, 200).Draw(t, "events")
			for i := range n {
				one = one.push(seq + uint64(i))
			}
			many = many.pushAll(seq, n)
			seq += uint64(n) - 1
			require.Equal(t, one.top, many.top)
			require.Equal(t, one.near, many.near)
			require.ElementsMatch(t, one.far, many.far)
			back, err := parseHistory(many.top, many.text())
			require.NoError(t, err)
			require.Equal(t, many.text(), back.text())
			first := rapid.Uint64Range(1, many.top+1).Draw(t, "truncated before")
			many.from(first).each(func(p pointer) { require.GreaterOrEqual(t, p.version, first) })
		}
	})
}

func FuzzBackPointersAreRefusedOrUnderstood(f *testing.F) {
	f.Add(uint64(40), "100 1 1;32.50")
	f.Add(uint64(3), "3 1 1;")
	f.Add(uint64(0), ";")
	f.Fuzz(func(t *testing.T, top uint64, text string) {
		h, err := parseHistory(top, text)
		if err != nil {
			require.ErrorIs(t, err, errPointers)
			return
		}
		h.each(func(p pointer) {
			require.NotZero(t, p.seq)
			require.LessOrEqual(t, p.version, top)
		})
		again, err := parseHistory(top, h.text())
		require.NoError(t, err)
		require.Equal(t, h.text(), again.text())
	})
}

// TestWhatBackPointersFindIsWhatAFullScanFinds drives a store by random appends
// to one stream and to several, truncations, deletions and purges, and loads its streams both ways.
func TestWhatBackPointersFindIsWhatAFullScanFinds(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		first := map[string]uint64{}
		purged := map[string]bool{}
		version := map[string]uint64{}
		start, _, err := s.lastSeq(t.Context())
		require.NoError(rt, err)
		names := []string{fmt.Sprintf("a-%d", round), fmt.Sprintf("b-%d", round), fmt.Sprintf("$c-%d", round)}
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "stream")
			if rapid.IntRange(0, 3).Draw(rt, "several streams") == 0 {
				var as []driver.Append
				for _, name := range rapid.Permutation(names).Draw(rt, "order") {
					if !purged[name] {
						as = append(as, to(name, driver.Any, rapid.IntRange(1, 60).Draw(rt, "events of it")))
					}
				}
				if len(as) > 0 {
					for i, r := range mustAll(t, s, as...) {
						version[as[i].Stream] = r.Version
					}
				}
				continue
			}
			if purged[name] {
				continue
			}
			switch action := rapid.IntRange(0, 9).Draw(rt, "action"); {
			case action < 3:
				n := rapid.IntRange(1, 20).Draw(rt, "events, one by one")
				for range n {
					must(t, s, name, driver.Any, 1)
				}
				version[name] += uint64(n)
			case action < 7:
				n := rapid.IntRange(2, 150).Draw(rt, "events at once")
				version[name] = must(t, s, name, driver.Any, n).Version
			case action == 7 && version[name] > 0:
				before := rapid.Uint64Range(1, version[name]+1).Draw(rt, "before")
				require.NoError(rt, s.Truncate(t.Context(), name, before))
				first[name] = max(first[name], before)
			case action == 8:
				require.NoError(rt, s.Delete(t.Context(), name, driver.Any))
				first[name] = version[name] + 1
			case action == 9 && rapid.IntRange(0, 3).Draw(rt, "really") == 0:
				require.NoError(rt, s.Purge(t.Context(), name))
				purged[name] = true
			}
			if rapid.Bool().Draw(rt, "forget what is known") {
				s.tails.drop(name)
			}
		}
		scanned := map[string]map[uint64]uint64{}
		for _, m := range scan(t, s) {
			if m.seq <= start {
				continue
			}
			stream, ok := s.space.stream(m.subject)
			require.True(rt, ok)
			v, err := m.number(headerVersion, 0)
			require.NoError(rt, err)
			if scanned[stream] == nil {
				scanned[stream] = map[uint64]uint64{}
			}
			scanned[stream][v] = m.seq
		}
		for _, name := range names {
			if purged[name] {
				require.Empty(rt, scanned[name])
				continue
			}
			from := rapid.Uint64Range(0, version[name]).Draw(rt, "from")
			for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
				for _, limit := range []int{10_000, rapid.IntRange(1, 200).Draw(rt, "limit")} {
					list, err := s.ReadStream(t.Context(), name, from, dir, limit)
					require.NoError(rt, err)
					want := maps.Clone(scanned[name])
					maps.DeleteFunc(want, func(v, _ uint64) bool {
						return dir == driver.Forward && v <= from || dir == driver.Backward && from > 0 && v >= from
					})
					require.Len(rt, list, min(limit, len(want)), "%s from %d, %d", name, from, dir)
					for i, r := range list {
						require.Equal(rt, want[r.Version], r.Position)
						if i > 0 && dir == driver.Forward {
							require.Equal(rt, list[i-1].Version+1, r.Version)
						}
					}
				}
			}
			require.Len(rt, scanned[name], int(version[name]+1-max(first[name], 1)))
		}
	})
	chained(t, s)
}

func TestALongStreamIsLoadedInFewRoundTrips(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for range 20 {
		must(t, s, "long-1", driver.Any, 500)
		must(t, s, "other-1", driver.Any, 3)
	}
	for _, c := range []struct {
		from  uint64
		limit int
		most  uint64 // requests
	}{
		{0, 16, 60}, {9990, 10, 12}, {5000, 100, 150}, {0, 500, 560},
	} {
		before := s.log.nc.Stats().OutMsgs
		list, err := s.ReadStream(t.Context(), "long-1", c.from, driver.Forward, c.limit)
		require.NoError(t, err)
		require.Len(t, list, c.limit)
		require.Equal(t, c.from+1, list[0].Version)
		require.LessOrEqual(t, s.log.nc.Stats().OutMsgs-before, c.most, "from %d", c.from)
	}
}
