package book

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// testdata returns the path of a file of shared test data, and skips the test
// where there is none.
func testdata(t *testing.T, name string) string {
	dir := os.Getenv("LEVADA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "data") // beside the module's root
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no test data: %v (set LEVADA_TESTDATA)", err)
	}
	return path
}

type caseLevel struct {
	Price, Qty int64
	Orders     []struct {
		ID  uint64
		Qty int64
	}
}

func TestOrderBookCases(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(testdata(t, "orderbook_cases.json"))
	require.NoError(t, err)
	var file struct {
		Cases []struct {
			Name, Text, STP string
			Orders          []struct {
				Op, Side, Type, TIF, Owner string
				ID                         uint64
				Qty, Price                 *int64
				Stop                       int64
				PostOnly                   bool `json:"post_only"`
			}
			Expected struct {
				Trades     []struct{ Maker, Taker, Price, Qty int64 }
				Bids, Asks []caseLevel
				Outcomes   map[string]string
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Cases, 43)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var b Book
			var e Event
			stp := STPNone
			if c.STP != "" {
				var ok bool
				stp, ok = ParseSTP(c.STP)
				require.True(t, ok)
			}
			owners := map[string]uint64{"": 0}
			outcomes := map[string]string{}
			var trades []struct{ Maker, Taker, Price, Qty int64 }
			for i, o := range c.Orders {
				cmd := Command{ID: o.ID, STP: stp, PostOnly: o.PostOnly, Stop: o.Stop}
				var ok bool
				cmd.Op, ok = ParseOp(o.Op)
				require.True(t, ok)
				if _, seen := owners[o.Owner]; !seen {
					owners[o.Owner] = uint64(len(owners))
				}
				cmd.Owner = owners[o.Owner]
				if o.Qty != nil {
					cmd.Qty = *o.Qty
					cmd.Fields |= FieldQty
				}
				if o.Price != nil {
					cmd.Price = *o.Price
					cmd.Fields |= FieldPrice
				}
				if cmd.Op == Place {
					cmd.Side, ok = ParseSide(o.Side)
					require.True(t, ok)
					cmd.Type, ok = ParseType(o.Type)
					require.True(t, ok)
					if o.TIF != "" {
						cmd.TIF, ok = ParseTIF(o.TIF)
						require.True(t, ok)
					}
				}
				b.Do(cmd, &e)
				id := fmt.Sprint(o.ID)
				if e.Reason != 0 {
					outcomes[fmt.Sprint("#", i+1)] = "rejected"
					if _, live := b.Order(o.ID); cmd.Op == Place && !live {
						outcomes[id] = "rejected"
					}
				}
				for _, f := range e.Effects {
					id := fmt.Sprint(f.ID)
					switch f.Kind {
					case Trade:
						trades = append(trades, struct{ Maker, Taker, Price, Qty int64 }{int64(f.Maker), int64(f.ID), f.Price, f.Qty})
						if f.Left == 0 {
							outcomes[fmt.Sprint(f.Maker)] = "filled"
						}
					case Decrement:
						if f.Left == 0 {
							outcomes[fmt.Sprint(f.Maker)] = "cancelled"
						}
					case Rest, Wait:
						outcomes[id] = "open"
					case Fill:
						outcomes[id] = "filled"
					case Drop:
						outcomes[id] = "cancelled"
					}
				}
				require.Empty(t, flaw(&b))
			}
			if len(c.Expected.Trades) == 0 {
				c.Expected.Trades = nil
			}
			require.Equal(t, c.Expected.Trades, trades, c.Text)
			for key, want := range c.Expected.Outcomes {
				require.Equal(t, want, outcomes[key], "outcome of %s: %s", key, c.Text)
			}
			require.Equal(t, fmt.Sprint(c.Expected.Bids), fmt.Sprint(caseLevels(&b, Buy)), c.Text)
			require.Equal(t, fmt.Sprint(c.Expected.Asks), fmt.Sprint(caseLevels(&b, Sell)), c.Text)
		})
	}
}

func caseLevels(b *Book, s Side) []caseLevel {
	var out []caseLevel
	for l := range b.Levels(s) {
		level := caseLevel{Price: l.Price, Qty: l.Qty}
		for o := range b.Queue(s, l.Price) {
			level.Orders = append(level.Orders, struct {
				ID  uint64
				Qty int64
			}{o.ID, o.Qty})
		}
		out = append(out, level)
	}
	return out
}
