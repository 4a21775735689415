package serve

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/examples/exchange/book"
)

func TestDecimalsAreReadExactlyOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := &Symbol{PriceDecimals: 2, QtyDecimals: 4}
	for text, want := range map[string]int64{
		"0.01": 1, "1": 100, "1.5": 150, "97250.25": 9725025, "007": 700, "2.500": 250, "21474836.47": book.MaxPrice,
	} {
		got, err := s.ParsePrice(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, why := range map[string]string{
		"":                 "plain decimal",
		".":                "plain decimal",
		".5":               "plain decimal",
		"5.":               "plain decimal",
		"1.2.3":            "plain decimal",
		"-1":               "plain decimal",
		"+1":               "plain decimal",
		"1e3":              "plain decimal",
		"1,000":            "plain decimal",
		" 1":               "plain decimal",
		"0x10":             "plain decimal",
		"NaN":              "plain decimal",
		"Infinity":         "plain decimal",
		"１":                "plain decimal",
		"0":                "not positive",
		"0.00":             "not positive",
		"0.001":            "more exact than the step of 0.01",
		"21474836.48":      "above 21474836.47",
		"9999999999999999": "above",
		"00000000000000000000000000000000000000001": "plain decimal",
	} {
		_, err := s.ParsePrice(text)
		require.ErrorContains(t, err, why, "%q", text)
	}
	got, err := s.ParseQty("429496.7295")
	require.NoError(t, err)
	require.EqualValues(t, book.MaxQty, got)
}

func TestDecimalsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		decimals := rapid.IntRange(0, 8).Draw(t, "decimals")
		v := rapid.Int64Range(1, book.MaxQty).Draw(t, "v")
		got, err := parseDecimal(decimal(v, decimals), decimals, book.MaxQty)
		if err != nil || got != v {
			t.Fatalf("%d is written %s and read %d, %v", v, decimal(v, decimals), got, err)
		}
	})
	require.Equal(t, "-0.05", decimal(-5, 2))
	require.Equal(t, "12", decimal(12, 0))
}
