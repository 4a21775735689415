package serve

import "time"

// An interval is how long one candle lasts.
type interval struct {
	name     string
	duration time.Duration
}

var intervals = [...]interval{
	{"1s", time.Second},
	{"5s", 5 * time.Second},
	{"1m", time.Minute},
	{"5m", 5 * time.Minute},
	{"15m", 15 * time.Minute},
	{"1h", time.Hour},
	{"1d", 24 * time.Hour},
}

func intervalNamed(name string) (int, bool) {
	for i, v := range intervals {
		if v.name == name {
			return i, true
		}
	}
	return 0, false
}

// A candle sums up the trades of one interval. Intervals without a trade have none.
type candle struct {
	start                  int64 // Unix milliseconds, a multiple of the interval
	open, high, low, close int64 // ticks
	volume                 int64 // lots
}

// maxCandles is how many candles of each interval are kept.
const maxCandles = 720

// A series holds the latest candles of one interval, the oldest first.
type series struct {
	every   int64 // milliseconds
	candles []candle
}

// add counts a trade. A clock that went backward adds to the latest candle: the
// order of trades is the log's, and candles are never reopened.
func (s *series) add(ms, price, qty int64) {
	start := ms - ms%s.every
	if n := len(s.candles); n > 0 && s.candles[n-1].start >= start {
		c := &s.candles[n-1]
		c.high, c.low, c.close = max(c.high, price), min(c.low, price), price
		c.volume += qty
		return
	}
	s.candles = appendBounded(s.candles, candle{start, price, price, price, price, qty}, maxCandles)
}

func (s *series) latest() candle { return s.candles[len(s.candles)-1] }

// appendBounded appends v and drops the oldest beyond the bound. It moves what it
// keeps once in bound appends, not every time.
func appendBounded[T any](s []T, v T, bound int) []T {
	if len(s) >= 2*bound {
		s = append(s[:0], s[len(s)-bound+1:]...)
	}
	return append(s, v)
}

// lastOf returns the last n values of s, or all if there are fewer.
func lastOf[T any](s []T, n int) []T { return s[max(0, len(s)-n):] }
