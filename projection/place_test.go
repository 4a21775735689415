package projection

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
)

func TestAPlaceTellsPositionLifeAndMarks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		life := rapid.Uint64Range(1, lives-1).Draw(t, "life")
		p := eventstore.Position(rapid.Uint64Range(0, 1<<lifeBit-1).Draw(t, "position"))
		marks := rapid.SampledFrom([]place{0, parking, replaced}).Draw(t, "marks")
		at := placeOf(life, p) | marks
		require.Equal(t, p, positionOf(at))
		require.Equal(t, life, lifeOf(at))
		require.NoError(t, single(at))
		require.Less(t, at, place(1)<<63)

		plain := eventstore.Position(rapid.Uint64Range(0, 1<<60-1).Draw(t, "plain"))
		require.Equal(t, plain, placeOf(0, plain), "where nothing was parked it is kept as it is")
		require.Equal(t, plain, positionOf(plain|replaced))
		require.Zero(t, lifeOf(plain))
	})
	require.ErrorIs(t, single(parking|3), ErrPartitions)
}

func TestALetterKeepsTheBeginningOfALongError(t *testing.T) {
	t.Parallel()
	var l letter
	l.because(errors.New("bad \xff"+strings.Repeat("é", errorBytes)), 7)
	require.True(t, utf8.ValidString(l.Error))
	require.LessOrEqual(t, len(l.Error), errorBytes+len("…"))
	require.Equal(t, 7, l.Attempts)
}

func TestStreamsOfDeadLettersAreApart(t *testing.T) {
	t.Parallel()
	seen := map[eventstore.StreamName]string{}
	for _, name := range []string{"a", "a-b", "a%2Db", "a_b", strings.Repeat("-", nameBytes), strings.Repeat("-", nameBytes-1) + "x"} {
		box := newStoreLetters(nil, name)
		require.NotContains(t, box.category, "-")
		for _, key := range []string{"", "k", "k-l", "$k", "a\nb", strings.Repeat("k", 300), digest("k"), "$" + digest("k")} {
			stream := box.stream(key)
			require.NoError(t, stream.Validate())
			require.Equal(t, box.category, stream.Category())
			require.NotContains(t, seen, stream, "%q %q", name, key)
			seen[stream] = key
		}
	}
}

func TestWhatWasParkedInAnEarlierLifeIsNotParkedInThisOne(t *testing.T) {
	t.Parallel()
	const life, first = 3, 5
	tests := []struct {
		name string
		cell place
		live bool
	}{
		{"the model knows nothing of the key", 0, false},
		{"none of its events was handled", placeOf(life, first) | parking, true},
		{"the first was", placeOf(life, first), true},
		{"later ones were", placeOf(life, first+4), true},
		{"it was parked anew, at another event, of which the letter is not written", placeOf(life, first+4) | parking, false},
		{"it was parked anew, at the same event, in another life", placeOf(life+1, first) | parking, false},
		{"it was handled in another life", placeOf(life+1, first+4), false},
		{"it was parked before, and the letter was not written", placeOf(life, first-1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var box memoryLetters
			begin := letter{kind: letterParked, Key: "k", Position: first, Begin: true, Life: life}
			require.NoError(t, box.send(t.Context(), "k", 0, begin, letter{kind: letterParked, Key: "k", Position: first + 4}))
			d := &desk{box: &box, load: func(context.Context, string) (place, error) { return tt.cell, nil }}
			require.NoError(t, d.refresh(t.Context(), 0))
			require.Equal(t, tt.live, d.keys["k"].live)
		})
	}
}

// FuzzLetters reads whatever lies in a stream of dead letters.
func FuzzLetters(f *testing.F) {
	f.Add(letterParked, []byte(`{"key":"k","begin":true,"position":3,"stream":"a-1","version":1}`))
	f.Add(letterReleased, []byte(`{"key":"k","position":3}`))
	f.Add(letterRetried, []byte(`{"key":"k","position":3,"error":"no"}`))
	f.Add("other", []byte(`[]`))
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		s := memstore.Open(nil)
		defer s.Close()
		box := newStoreLetters(s, "p")
		e := eventstore.Event{Type: kind, Raw: raw, ContentType: "application/json"}
		if _, err := s.Append(system.Context(t.Context()), box.stream("k"), eventstore.Any, e, e); err != nil && !errors.Is(err, eventstore.ErrDuplicate) {
			return
		}
		d := &desk{box: box, keep: true, load: func(context.Context, string) (place, error) { return placeOf(1, 2) | parking, nil }}
		if err := d.refresh(t.Context(), 1); err != nil {
			return
		}
		d.parkedKeys()
		for _, k := range d.keys {
			k.left()
		}
	})
}
