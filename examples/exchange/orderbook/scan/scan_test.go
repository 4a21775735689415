package scan

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestScannerReadsTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		read     func(*Scanner) (any, error)
		want     any
		err      error
	}{
		{"string", ` "a\"\u00e9é" `, str, `"a\"\u00e9é"`, nil},
		{"no string", `a`, str, nil, ErrString},
		{"open string", `"a`, str, nil, ErrQuote},
		{"open escape", `"a\`, str, nil, ErrEscape},
		{"wrong escape", `"\x"`, str, nil, ErrEscape},
		{"short escape", `"\u12"`, str, nil, ErrEscape},
		{"cut escape", `"\u12`, str, nil, ErrEscape},
		{"escape of no digits", `"\u12P0"`, str, nil, ErrEscape},
		{"control character", "\"\n\"", str, nil, ErrControl},
		{"bad UTF-8", "\"\xff\"", str, nil, ErrUTF8},
		{"number", `-1.50e+7`, number, `-1.50e+7`, nil},
		{"leading zero", `01`, number, nil, ErrNumber},
		{"sign alone", `-`, number, nil, ErrNumber},
		{"no fraction", `1.`, number, nil, ErrNumber},
		{"no exponent", `1e`, number, nil, ErrNumber},
		{"least int", `-9223372036854775808`, integer, int64(-9223372036854775808), nil},
		{"below it", `-9223372036854775809`, integer, nil, ErrRange},
		{"greatest int", `9223372036854775807`, integer, int64(9223372036854775807), nil},
		{"above it", `9223372036854775808`, integer, nil, ErrRange},
		{"far above it", `99999999999999999999`, integer, nil, ErrRange},
		{"fraction", `1.0`, integer, nil, ErrInteger},
		{"exponent", `1e2`, integer, nil, ErrInteger},
		{"no integer", `x`, integer, nil, ErrInteger},
		{"greatest uint", `18446744073709551615`, unsigned, uint64(18446744073709551615), nil},
		{"above that", `18446744073709551616`, unsigned, nil, ErrRange},
		{"negative uint", `-1`, unsigned, nil, ErrRange},
		{"true", `true`, boolean, true, nil},
		{"false", ` false`, boolean, false, nil},
		{"no bool", `tru`, boolean, nil, ErrBool},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := Scanner{In: []byte(c.in)}
			got, err := c.read(&s)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.True(t, s.End())
		})
	}
}

func str(s *Scanner) (any, error)      { b, err := s.String(); return string(b), err }
func number(s *Scanner) (any, error)   { b, err := s.Number(); return string(b), err }
func integer(s *Scanner) (any, error)  { return s.Int() }
func unsigned(s *Scanner) (any, error) { return s.Uint() }
func boolean(s *Scanner) (any, error)  { return s.Bool() }

// A token that the scanner takes for the whole input is what encoding/json
// takes for it, and the other way round.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{`"a"`, `"\ud800"`, `-0`, `1e5`, `01`, `true`, `"é`, "\"\xc3\"", `1.5`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		valid := json.Valid(in)
		whole := func(read func(*Scanner) (any, error)) (any, bool) {
			s := Scanner{In: in}
			v, err := read(&s)
			return v, err == nil && s.End()
		}
		switch s := (Scanner{In: in}); s.Peek() {
		case '"':
			_, ok := whole(str)
			require.Equal(t, valid && utf8.Valid(in), ok)
		case 't', 'f':
			_, ok := whole(boolean)
			require.Equal(t, valid, ok)
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			_, ok := whole(number)
			require.Equal(t, valid, ok)
			if v, ok := whole(integer); ok {
				var n int64
				require.NoError(t, json.Unmarshal(in, &n))
				require.Equal(t, n, v)
			}
		}
	})
}
