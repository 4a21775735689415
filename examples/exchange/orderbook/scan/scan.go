// Package scan reads JSON tokens one by one, strictly and without allocating. It
// serves the formats that the exchange reads so often that encoding/json would
// be most of the work.
package scan

import (
	"errors"
	"math"
	"unicode/utf8"
)

// Errors of a [Scanner]. They read on from the name of what was being read.
var (
	ErrString  = errors.New("is not a string")
	ErrNumber  = errors.New("is not a number")
	ErrInteger = errors.New("is not a whole number")
	ErrRange   = errors.New("is out of range")
	ErrBool    = errors.New("is neither true nor false")
	ErrEscape  = errors.New("has a wrong escape sequence")
	ErrControl = errors.New("has a control character")
	ErrUTF8    = errors.New("is not valid UTF-8")
	ErrQuote   = errors.New("has no closing quote")
)

// A Scanner reads tokens from In, at At. Its methods skip white space first. The
// tokens they return are parts of In. After an error the position is somewhere
// in the offending token.
type Scanner struct {
	In []byte
	At int
}

// Next skips c if it comes next, and reports whether it did.
func (s *Scanner) Next(c byte) bool {
	if s.Peek() != c {
		return false
	}
	s.At++
	return true
}

// Peek returns the first byte of the next token, or 0 at the end.
func (s *Scanner) Peek() byte {
	for s.At < len(s.In) {
		switch c := s.In[s.At]; c {
		case ' ', '\t', '\r', '\n':
			s.At++
		default:
			return c
		}
	}
	return 0
}

// End reports whether nothing follows.
func (s *Scanner) End() bool {
	s.Peek()
	return s.At == len(s.In)
}

// String reads a string and returns it as it is spelled, with its quotes.
func (s *Scanner) String() ([]byte, error) {
	if !s.Next('"') {
		return nil, ErrString
	}
	start := s.At - 1
	ascii := true
	for s.At < len(s.In) {
		c := s.In[s.At]
		s.At++
		switch {
		case c == '"':
			tok := s.In[start:s.At]
			if !ascii && !utf8.Valid(tok) {
				return nil, ErrUTF8
			}
			return tok, nil
		case c == '\\':
			if !s.escape() {
				return nil, ErrEscape
			}
		case c < ' ':
			return nil, ErrControl
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, ErrQuote
}

// escape reads what follows a backslash.
func (s *Scanner) escape() bool {
	if s.At == len(s.In) {
		return false
	}
	c := s.In[s.At]
	s.At++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if s.At == len(s.In) {
				return false
			}
			c := s.In[s.At]
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
			s.At++
		}
		return true
	}
	return false
}

// Number reads a number and returns it as it is spelled.
func (s *Scanner) Number() ([]byte, error) {
	s.Peek()
	start := s.At
	if s.At < len(s.In) && s.In[s.At] == '-' {
		s.At++
	}
	lead := s.At
	if n := s.digits(); n == 0 || n > 1 && s.In[lead] == '0' {
		return nil, ErrNumber
	}
	if s.At < len(s.In) && s.In[s.At] == '.' {
		s.At++
		if s.digits() == 0 {
			return nil, ErrNumber
		}
	}
	if s.At < len(s.In) && s.In[s.At]|0x20 == 'e' {
		s.At++
		if s.At < len(s.In) && (s.In[s.At] == '+' || s.In[s.At] == '-') {
			s.At++
		}
		if s.digits() == 0 {
			return nil, ErrNumber
		}
	}
	return s.In[start:s.At], nil
}

func (s *Scanner) digits() int {
	start := s.At
	for s.At < len(s.In) && '0' <= s.In[s.At] && s.In[s.At] <= '9' {
		s.At++
	}
	return s.At - start
}

// Int reads a number that is an int64 and has neither fraction nor exponent.
func (s *Scanner) Int() (int64, error) {
	n, negative, err := s.integer()
	switch {
	case err != nil:
		return 0, err
	case negative && n <= -math.MinInt64:
		return -int64(n), nil
	case negative || n > math.MaxInt64:
		return 0, ErrRange
	}
	return int64(n), nil
}

// Uint is Int for a uint64.
func (s *Scanner) Uint() (uint64, error) {
	n, negative, err := s.integer()
	if err == nil && negative {
		err = ErrRange
	}
	return n, err
}

func (s *Scanner) integer() (n uint64, negative bool, err error) {
	tok, err := s.Number()
	if err != nil {
		return 0, false, ErrInteger
	}
	if tok[0] == '-' {
		negative, tok = true, tok[1:]
	}
	for _, c := range tok {
		if c < '0' || c > '9' {
			return 0, false, ErrInteger
		}
		d := uint64(c - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false, ErrRange
		}
		n = n*10 + d
	}
	return n, negative, nil
}

// Bool reads true or false.
func (s *Scanner) Bool() (bool, error) {
	s.Peek()
	rest := s.In[s.At:]
	switch {
	case len(rest) >= 4 && string(rest[:4]) == "true":
		s.At += 4
		return true, nil
	case len(rest) >= 5 && string(rest[:5]) == "false":
		s.At += 5
		return false, nil
	}
	return false, ErrBool
}
