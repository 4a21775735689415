package presence

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func sampleFrames() []frame {
	e := entry{place: place{"lobby", "ann"}, meta: `{"tab":1}`}
	kept := e
	kept.seq = 6
	return []frame{
		{kind: kindDelta, node: "a", inc: 7, lo: 3, hi: 3},
		{kind: kindDelta, node: "a", inc: 7, lo: 3, hi: 5, changes: []change{{ref: Ref{1}, set: true, entry: e}, {ref: Ref{2}}}},
		{kind: kindSnapshot, node: "a", inc: 7, hi: 9, part: 1, parts: 2, changes: []change{{ref: Ref{1}, set: true, entry: kept}}},
		{kind: kindRequest, node: "a", inc: 7, wantInc: 1 << 63, have: 300},
		{kind: kindBye, node: "a", inc: 7},
	}
}

func TestFramesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, f := range sampleFrames() {
		got, err := decode(f.encode())
		require.NoError(t, err)
		require.Equal(t, &f, got)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	t.Parallel()
	spoilt := func(i int, spoil func(f *frame)) []byte {
		f := sampleFrames()[i]
		spoil(&f)
		return f.encode()
	}
	for name, b := range map[string][]byte{
		"empty":                   {},
		"other version":           append([]byte{2}, spoilt(4, func(*frame) {})[1:]...),
		"unknown kind":            spoilt(4, func(f *frame) { f.kind = 9 }),
		"bytes too many":          append(spoilt(4, func(*frame) {}), 0),
		"no node":                 spoilt(4, func(f *frame) { f.node = "" }),
		"control character":       spoilt(1, func(f *frame) { f.changes[0].entry.key = "a\x00" }),
		"not UTF-8":               spoilt(1, func(f *frame) { f.changes[0].entry.topic = "\xff" }),
		"overlong key":            spoilt(1, func(f *frame) { f.changes[0].entry.key = strings.Repeat("k", MaxNameBytes+1) }),
		"overlong meta":           spoilt(1, func(f *frame) { f.changes[0].entry.meta = `"` + strings.Repeat("m", MaxMetaBytes) + `"` }),
		"meta that is no JSON":    spoilt(1, func(f *frame) { f.changes[0].entry.meta = "{" }),
		"backward delta":          spoilt(0, func(f *frame) { f.lo = 4 }),
		"fewer changes than said": spoilt(1, func(f *frame) { f.hi = 1 << 60 }),
		"part beyond the last":    spoilt(2, func(f *frame) { f.part = 2 }),
		"too many parts":          spoilt(2, func(f *frame) { f.parts = maxParts + 1 }),
		"the same ref twice":      spoilt(2, func(f *frame) { f.changes = append(f.changes, f.changes[0]) }),
		"entry of the future":     spoilt(2, func(f *frame) { f.changes[0].entry.seq = 10 }),
		"longer than allowed":     make([]byte, MaxFrameBytes+1),
	} {
		_, err := decode(b)
		require.ErrorIs(t, err, errFrame, name)
	}
	for _, f := range sampleFrames() {
		whole := f.encode()
		for n := range whole {
			_, err := decode(whole[:n])
			require.ErrorIs(t, err, errFrame, "the first %d bytes of kind %d", n, f.kind)
		}
	}
}

func TestNoFrameIsLongerThanTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 64 + 2<<10
	var changes []change
	for i := range 200 {
		name := strings.Repeat("n", 1+i)
		changes = append(changes, change{ref: Ref{byte(i)}, set: true, entry: entry{place: place{name, name}, meta: `""`, seq: 1}})
	}
	for _, kind := range []byte{kindDelta, kindSnapshot} {
		var got int
		at := uint64(5)
		frames := frame{kind: kind, node: strings.Repeat("n", MaxNameBytes), inc: 1 << 63, lo: at, hi: at + 200}.cut(changes, limit)
		for i, b := range frames {
			require.LessOrEqual(t, len(b), limit)
			f, err := decode(b)
			require.NoError(t, err)
			got += len(f.changes)
			if kind == kindDelta {
				require.Equal(t, at, f.lo)
				at = f.hi
			} else {
				require.Equal(t, []int{i, len(frames)}, []int{f.part, f.parts})
			}
		}
		require.Equal(t, 200, got)
		require.Greater(t, len(frames), 2)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range sampleFrames() {
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := decode(b)
		if err != nil {
			require.ErrorIs(t, err, errFrame)
			return
		}
		again, err := decode(first.encode())
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}
