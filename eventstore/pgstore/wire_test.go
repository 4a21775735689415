package pgstore

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestArraysAreDecodedAsTheyAreEncodedAndAsTheServerHasThem(t *testing.T) {
	t.Parallel()
	s := newBench(t, 2).open(t, Options{NoListen: true})
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(rapid.Int64(), 0, 20).Draw(rt, "ints")
		a := newArray(pgtype.Int8OID, len(want))
		for _, v := range want {
			a.int8(v)
		}
		encoded := a.done()
		have, err := readInts(encoded)
		require.NoError(rt, err)
		require.ElementsMatch(rt, want, have)
		st := newStatement("SELECT $1::bigint[]").add(pgtype.Int8ArrayOID, encoded)
		require.NoError(rt, s.run(t.Context(), st, func(row [][]byte) error {
			require.Equal(rt, encoded, row[0])
			return nil
		}))
	})
}

func TestTimesAreThoseOfTheServer(t *testing.T) {
	t.Parallel()
	s := newBench(t, 2).open(t, Options{NoListen: true})
	for _, want := range []time.Time{
		time.Unix(0, 0).UTC(), time.Date(2026, 11, 21, 20, 29, 46, 123456000, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
	} {
		require.NoError(t, s.run(t.Context(), newStatement("SELECT $1, floor(extract(epoch FROM $1))::bigint").time(want), func(row [][]byte) error {
			require.Equal(t, want, readTime(row[0]))
			require.Equal(t, want.Unix(), readInt(row[1]), want)
			return nil
		}))
	}
	// What is beyond the server's times is before or after all of them.
	for year, want := range map[int]int64{-1_000_000: math.MinInt64, 1_000_000: math.MaxInt64} {
		require.Equal(t, want, microseconds(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)))
	}
	require.True(t, ceil(time.Unix(1, 1)).Equal(time.Unix(1, 1000)))
	require.True(t, ceil(time.Unix(1, 1000)).Equal(time.Unix(1, 1000)))
}

func FuzzReadInts(f *testing.F) {
	a := newArray(pgtype.Int8OID, 2)
	a.int8(1)
	a.int8(-1)
	f.Add(a.done())
	f.Add(newArray(pgtype.Int8OID, 0).done())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readInts(b)
		if err != nil || len(list) == 0 {
			return
		}
		again := newArray(pgtype.Int8OID, len(list))
		for _, v := range list {
			again.int8(v)
		}
		// All but the flags and the lower bound, which do not matter.
		want := again.done()
		require.Equal(t, want[arrayHeader:], b[arrayHeader:])
		require.Equal(t, uint32(len(list)), binary.BigEndian.Uint32(b[12:]))
	})
}
