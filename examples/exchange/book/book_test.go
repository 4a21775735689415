package book

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func buy(id uint64, qty, price int64) Command {
	return Command{Op: Place, ID: id, Side: Buy, Qty: qty, Price: price}
}

func sell(id uint64, qty, price int64) Command {
	return Command{Op: Place, ID: id, Side: Sell, Qty: qty, Price: price}
}

// with returns a changed copy of a command.
func (c Command) with(change func(*Command)) Command {
	change(&c)
	return c
}

func owned(owner uint64, stp STP) func(*Command) {
	return func(c *Command) { c.Owner, c.STP = owner, stp }
}

func ofType(typ Type, stop int64) func(*Command) {
	return func(c *Command) {
		c.Type, c.Stop = typ, stop
		if !typ.limited() {
			c.Price = 0
		}
	}
}

func inForce(tif TIF) func(*Command) { return func(c *Command) { c.TIF = tif } }

// play does all commands and returns the reports of the last one.
func play(t *testing.T, b *Book, cs ...Command) []string {
	t.Helper()
	var e Event
	for i, c := range cs {
		b.Do(c, &e)
		require.Empty(t, flaw(b))
		if i < len(cs)-1 {
			require.NoError(t, e.Err(), "command %d", i)
		}
	}
	return reports(&e)
}

func TestEveryTypeInEveryTimeInForce(t *testing.T) {
	t.Parallel()
	// Ten lots are offered at 101 and ten at 103; the last trade was at 100. The
	// order buys 15 lots with a limit of 102 where it has one. Stops stand at 100,
	// which the last trade meets, so they trade as they enter.
	full := "trade 1 9 101 10"
	for _, c := range []struct {
		name string
		typ  Type
		want map[TIF][]string
	}{
		{"limited to ten lots", Limit, map[TIF][]string{
			GTC: {full, "1 filled", "9 open"},
			IOC: {full, "1 filled", "9 cancelled"},
			FOK: {"9 cancelled"},
		}},
		{"unlimited", Market, map[TIF][]string{
			GTC: {full, "1 filled", "trade 2 9 103 5", "9 filled"},
			IOC: {full, "1 filled", "trade 2 9 103 5", "9 filled"},
			FOK: {full, "1 filled", "trade 2 9 103 5", "9 filled"},
		}},
	} {
		for tif, want := range c.want {
			types := []Type{Limit, StopLimit, TakeProfitLimit}
			if c.typ == Market {
				types = []Type{Market, Stop, TakeProfit}
			}
			for _, typ := range types {
				t.Run(c.name+" "+typ.String()+" "+tif.String(), func(t *testing.T) {
					t.Parallel()
					var b Book
					stop := int64(0)
					if typ.stops() {
						stop = 100
					}
					require.Equal(t, want, play(t, &b, buy(7, 1, 100), sell(8, 1, 100), sell(1, 10, 101), sell(2, 10, 103),
						buy(9, 15, 102).with(ofType(typ, stop)).with(inForce(tif))))
				})
			}
		}
	}
	t.Run("unlimited market fok beyond the book", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"9 cancelled"}, play(t, &b, sell(1, 10, 101),
			buy(9, 11, 0).with(ofType(Market, 0)).with(inForce(FOK))))
	})
}

func TestStopsWaitAndTriggerOnEitherSide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ         Type
		side        Side
		untouched   int64 // a trade that does not trigger the stop price 100
		through, at int64
	}{
		{Stop, Buy, 99, 101, 100}, {StopLimit, Buy, 99, 101, 100},
		{Stop, Sell, 101, 99, 100}, {StopLimit, Sell, 101, 99, 100},
		{TakeProfit, Buy, 101, 99, 100}, {TakeProfitLimit, Buy, 101, 99, 100},
		{TakeProfit, Sell, 99, 101, 100}, {TakeProfitLimit, Sell, 99, 101, 100},
	} {
		order := Command{Op: Place, ID: 9, Side: c.side, Type: c.typ, Qty: 5, Stop: 100}
		left := "9 cancelled"
		if c.typ.limited() {
			order.Price, left = 100, "9 open"
		}
		print := func(price int64) []Command { return []Command{buy(1, 1, price), sell(2, 1, price)} }
		for name, price := range map[string]int64{"at": c.at, "through": c.through} {
			t.Run(c.side.String()+" "+c.typ.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				var b Book
				require.Equal(t, []string{"9 open"}, play(t, &b, order), "no trade yet: it waits")
				play(t, &b, print(c.untouched)...)
				o, ok := b.Order(9)
				require.True(t, ok)
				require.True(t, o.Waiting)
				out := play(t, &b, print(price)...)
				require.Equal(t, []string{"1 filled", "2 filled", left}, out[1:])

				var entered Book
				play(t, &entered, print(price)...)
				require.Equal(t, []string{left}, play(t, &entered, order), "met at entry: triggers at once")
			})
		}
	}
}

func TestTriggeredOrdersRunInDocumentedOrder(t *testing.T) {
	t.Parallel()
	stop := func(id uint64, side Side, typ Type, at int64) Command {
		return Command{Op: Place, ID: id, Side: side, Type: typ, Qty: 1, Stop: at}
	}
	ran := func(out []string) (ids []string) {
		for _, line := range out {
			if len(line) > 10 && line[len(line)-9:] == "cancelled" {
				ids = append(ids, line[:2])
			}
		}
		return ids
	}
	t.Run("nearest stop price first, then arrival", func(t *testing.T) {
		t.Parallel()
		var b Book
		out := play(t, &b, buy(1, 1, 100), sell(2, 1, 100),
			stop(10, Buy, Stop, 103), stop(11, Buy, Stop, 102), stop(12, Sell, TakeProfit, 102), stop(13, Buy, Stop, 101),
			stop(14, Buy, Stop, 110), buy(3, 1, 105), sell(4, 1, 104))
		require.Equal(t, []string{"13", "11", "12", "10"}, ran(out))
	})
	t.Run("by trades, and what they trigger last", func(t *testing.T) {
		t.Parallel()
		var b Book
		// The sweep prints 98 and 102. 98 triggers the sell stop, whose own
		// trade at 90 triggers another, behind those that 102 triggers.
		out := play(t, &b, buy(1, 1, 100), sell(2, 1, 100), buy(5, 1, 90),
			stop(10, Buy, Stop, 101), stop(11, Sell, Stop, 99), stop(12, Buy, Stop, 102), stop(13, Sell, Stop, 95),
			sell(6, 1, 98), sell(7, 1, 102), buy(8, 2, 102))
		require.Equal(t, []string{"trade 6 8 98 1", "6 filled", "trade 7 8 102 1", "7 filled", "8 filled",
			"trade 5 11 90 1", "5 filled", "11 filled", "10 cancelled", "12 cancelled", "13 cancelled"}, out)
	})
	t.Run("the first trade triggers rises before falls", func(t *testing.T) {
		t.Parallel()
		var b Book
		out := play(t, &b, stop(10, Sell, Stop, 110), stop(11, Buy, Stop, 90), buy(1, 1, 100), sell(2, 1, 100))
		require.Equal(t, []string{"11", "10"}, ran(out))
	})
	t.Run("a triggered limit rests where the next one finds it", func(t *testing.T) {
		t.Parallel()
		var b Book
		out := play(t, &b, buy(1, 1, 100), sell(2, 1, 100), sell(3, 1, 105),
			stop(10, Buy, StopLimit, 101).with(func(c *Command) { c.Price, c.Qty = 103, 4 }),
			stop(11, Buy, StopLimit, 101).with(func(c *Command) { c.Price = 103 }),
			stop(12, Sell, TakeProfit, 102).with(func(c *Command) { c.Qty = 5 }),
			sell(4, 1, 102), buy(5, 1, 102))
		require.Equal(t, []string{"trade 4 5 102 1", "4 filled", "5 filled", "10 open", "11 open",
			"trade 10 12 103 4", "10 filled", "trade 11 12 103 1", "11 filled", "12 filled"}, out)
	})
	t.Run("a triggered post-only order that would trade is cancelled", func(t *testing.T) {
		t.Parallel()
		var b Book
		out := play(t, &b, stop(10, Buy, StopLimit, 100).with(func(c *Command) { c.Price, c.PostOnly = 105, true }),
			sell(3, 2, 100), buy(1, 1, 100))
		require.Equal(t, []string{"trade 3 1 100 1", "1 filled", "10 cancelled"}, out)
	})
}

func TestEverySelfTradePreventionModeInEveryTimeInForce(t *testing.T) {
	t.Parallel()
	// The path of a buy of 6 at 100: 2 lots of a stranger at 99, 3 of its own
	// at 100, 4 of a stranger at 100.
	for _, c := range []struct {
		stp           STP
		gtc, ioc, fok []string
		bid, ask      int64 // lots left after gtc
	}{
		{STPNone,
			[]string{"trade 1 4 99 2", "1 filled", "trade 2 4 100 3", "2 filled", "trade 3 4 100 1", "4 filled"}, nil, nil, 0, 3},
		{STPCancelNewest,
			[]string{"trade 1 4 99 2", "1 filled", "4 cancelled"}, nil, []string{"4 cancelled"}, 0, 7},
		{STPCancelOldest,
			[]string{"trade 1 4 99 2", "1 filled", "2 cancelled", "trade 3 4 100 4", "3 filled", "4 filled"}, nil, nil, 0, 0},
		{STPCancelBoth,
			[]string{"trade 1 4 99 2", "1 filled", "2 cancelled", "4 cancelled"}, nil, []string{"4 cancelled"}, 0, 4},
		{STPDecrement,
			[]string{"trade 1 4 99 2", "1 filled", "2 cancelled", "trade 3 4 100 1", "4 filled"}, nil, []string{"4 cancelled"}, 0, 3},
	} {
		for tif, want := range map[TIF][]string{GTC: c.gtc, IOC: c.ioc, FOK: c.fok} {
			if want == nil {
				want = c.gtc
			}
			t.Run(c.stp.String()+" "+tif.String(), func(t *testing.T) {
				t.Parallel()
				var b Book
				out := play(t, &b, sell(1, 2, 99).with(owned(8, 0)), sell(2, 3, 100).with(owned(9, 0)), sell(3, 4, 100).with(owned(7, 0)),
					buy(4, 6, 100).with(owned(9, c.stp)).with(inForce(tif)))
				require.Equal(t, want, out)
				if tif == GTC {
					bid, _ := b.Best(Buy)
					ask, _ := b.Best(Sell)
					require.Equal(t, [2]int64{c.bid, c.ask}, [2]int64{bid.Qty, ask.Qty})
				}
			})
		}
	}
	t.Run("the taker's mode decides", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 2 100 1", "1 filled", "2 filled"},
			play(t, &b, sell(1, 1, 100).with(owned(9, STPCancelBoth)), buy(2, 1, 100).with(owned(9, STPNone))))
	})
	t.Run("nobody is not an owner", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 2 100 1", "1 filled", "2 filled"},
			play(t, &b, sell(1, 1, 100), buy(2, 1, 100).with(owned(0, STPCancelBoth))))
	})
	t.Run("a modified order keeps its mode", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"2 cancelled"}, play(t, &b, sell(1, 1, 100).with(owned(9, 0)), buy(2, 1, 99).with(owned(9, STPCancelNewest)),
			Command{Op: Modify, ID: 2, Fields: FieldPrice, Price: 100}))
	})
}

func TestCommandsAreRefusedForAReason(t *testing.T) {
	t.Parallel()
	set := func(change func(*Command)) Command { return buy(9, 5, 100).with(change) }
	modify := func(id uint64, f Fields, change func(*Command)) Command {
		return Command{Op: Modify, ID: id, Fields: f}.with(change)
	}
	for _, c := range []struct {
		name string
		cmd  Command
		want Reason
	}{
		{"no operation", Command{ID: 9}, ErrUnknownOp},
		{"unknown operation", Command{Op: Modify + 1, ID: 1}, ErrUnknownOp},
		{"no side", set(func(c *Command) { c.Side = 0 }), ErrUnknownSide},
		{"unknown side", set(func(c *Command) { c.Side = Sell + 1 }), ErrUnknownSide},
		{"unknown type", set(func(c *Command) { c.Type = TakeProfitLimit + 1 }), ErrUnknownType},
		{"unknown time in force", set(func(c *Command) { c.TIF = FOK + 1 }), ErrUnknownTIF},
		{"unknown self-trade prevention", set(func(c *Command) { c.STP = STPDecrement + 1 }), ErrUnknownSTP},
		{"zero quantity", set(func(c *Command) { c.Qty = 0 }), ErrQty},
		{"negative quantity", set(func(c *Command) { c.Qty = -1 }), ErrQty},
		{"least quantity", set(func(c *Command) { c.Qty = math.MinInt64 }), ErrQty},
		{"largest quantity", set(func(c *Command) { c.Qty = MaxQty }), 0},
		{"larger quantity", set(func(c *Command) { c.Qty = MaxQty + 1 }), ErrQtyTooLarge},
		{"zero price", set(func(c *Command) { c.Price = 0 }), ErrPrice},
		{"negative price", set(func(c *Command) { c.Price = -100 }), ErrPrice},
		{"highest price", set(func(c *Command) { c.Price = MaxPrice }), 0},
		{"higher price", set(func(c *Command) { c.Price = MaxPrice + 1 }), ErrPriceTooLarge},
		{"price beyond 32 bits", set(func(c *Command) { c.Price = 1<<32 + 100 }), ErrPriceTooLarge},
		{"market with a price", set(func(c *Command) { c.Type = Market }), ErrPriceGiven},
		{"stop with a price", set(func(c *Command) { c.Type, c.Stop = Stop, 5 }), ErrPriceGiven},
		{"take-profit with a price", set(func(c *Command) { c.Type, c.Stop = TakeProfit, 5 }), ErrPriceGiven},
		{"stop without stop price", set(func(c *Command) { c.Type, c.Price = Stop, 0 }), ErrStop},
		{"stop-limit without stop price", set(func(c *Command) { c.Type = StopLimit }), ErrStop},
		{"take-profit without stop price", set(func(c *Command) { c.Type, c.Price = TakeProfit, 0 }), ErrStop},
		{"negative stop price", set(func(c *Command) { c.Type, c.Stop = StopLimit, -1 }), ErrStop},
		{"higher stop price", set(func(c *Command) { c.Type, c.Stop = StopLimit, MaxPrice+1 }), ErrStopTooLarge},
		{"stop-limit without price", set(func(c *Command) { c.Type, c.Stop, c.Price = StopLimit, 5, 0 }), ErrPrice},
		{"limit with a stop price", set(func(c *Command) { c.Stop = 5 }), ErrStopGiven},
		{"market with a stop price", set(func(c *Command) { c.Type, c.Price, c.Stop = Market, 0, 5 }), ErrStopGiven},
		{"post-only market", set(func(c *Command) { c.Type, c.Price, c.PostOnly = Market, 0, true }), ErrPostOnlyType},
		{"post-only stop", set(func(c *Command) { c.Type, c.Price, c.Stop, c.PostOnly = Stop, 0, 5, true }), ErrPostOnlyType},
		{"post-only ioc", set(func(c *Command) { c.TIF, c.PostOnly = IOC, true }), ErrPostOnlyTIF},
		{"post-only fok", set(func(c *Command) { c.TIF, c.PostOnly = FOK, true }), ErrPostOnlyTIF},
		{"post-only at the other side's best", set(func(c *Command) { c.Price, c.PostOnly = 110, true }), ErrPostOnlyTrades},
		{"post-only through the other side's best", set(func(c *Command) { c.Price, c.PostOnly = 111, true }), ErrPostOnlyTrades},
		{"post-only below it", set(func(c *Command) { c.Price, c.PostOnly = 109, true }), 0},
		{"live id", set(func(c *Command) { c.ID = 1 }), ErrDuplicate},
		{"id of a waiting order", set(func(c *Command) { c.ID = 3 }), ErrDuplicate},
		{"id of a dead order", set(func(c *Command) { c.ID = 4 }), 0},
		{"cancel an unknown order", Command{Op: Cancel, ID: 9}, ErrUnknownOrder},
		{"cancel a dead order", Command{Op: Cancel, ID: 4}, ErrUnknownOrder},
		{"cancel somebody else's order", Command{Op: Cancel, ID: 1, Owner: 2}, ErrUnknownOrder},
		{"cancel nobody's order as somebody", Command{Op: Cancel, ID: 2, Owner: 2}, ErrUnknownOrder},
		{"cancel one's own", Command{Op: Cancel, ID: 1, Owner: 1}, 0},
		{"cancel on everybody's behalf", Command{Op: Cancel, ID: 1}, 0},
		{"modify an unknown order", modify(9, FieldQty, func(c *Command) { c.Qty = 1 }), ErrUnknownOrder},
		{"modify somebody else's order", modify(1, FieldQty, func(c *Command) { c.Qty, c.Owner = 1, 2 }), ErrUnknownOrder},
		{"modify nothing", modify(1, 0, func(c *Command) { c.Qty = 1 }), ErrNothingToModify},
		{"modify to no quantity", modify(1, FieldQty, func(c *Command) { c.Qty = 0 }), ErrQty},
		{"modify to too much", modify(1, FieldQty, func(c *Command) { c.Qty = MaxQty + 1 }), ErrQtyTooLarge},
		{"modify to no price", modify(1, FieldPrice, func(c *Command) { c.Price = 0 }), ErrPrice},
		{"modify to too high a price", modify(1, FieldPrice, func(c *Command) { c.Price = MaxPrice + 1 }), ErrPriceTooLarge},
		{"modify the stop price of a resting order", modify(1, FieldStop, func(c *Command) { c.Stop = 5 }), ErrStopGiven},
		{"modify the price of a stop", modify(3, FieldPrice, func(c *Command) { c.Price = 5 }), ErrPriceGiven},
		{"modify to no stop price", modify(3, FieldStop, func(c *Command) { c.Stop = 0 }), ErrStop},
		{"modify to too high a stop price", modify(3, FieldStop, func(c *Command) { c.Stop = MaxPrice + 1 }), ErrStopTooLarge},
		{"modify the stop price", modify(3, FieldStop, func(c *Command) { c.Stop = 130 }), 0},
		{"modify a post-only order so that it would trade", modify(5, FieldPrice, func(c *Command) { c.Price = 110 }), ErrPostOnlyTrades},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b Book
			play(t, &b, buy(1, 5, 90).with(owned(1, 0)), sell(2, 5, 110),
				buy(3, 5, 0).with(ofType(Stop, 120)), buy(4, 1, 80), Command{Op: Cancel, ID: 4},
				buy(5, 2, 70).with(func(c *Command) { c.PostOnly = true }))
			before := show(&b)
			var e Event
			b.Do(c.cmd, &e)
			require.Equal(t, c.want, e.Reason, e.Reason.Error())
			if c.want == 0 {
				require.NoError(t, e.Err())
				require.NotEmpty(t, e.Effects)
				return
			}
			require.ErrorIs(t, e.Err(), c.want)
			require.Empty(t, e.Effects)
			require.Equal(t, before, show(&b))
		})
	}
}

// Each of these is a fault that some order book has or had.
func TestFaultsOfOtherBooks(t *testing.T) {
	t.Parallel()
	t.Run("one price is one level", func(t *testing.T) {
		t.Parallel()
		var b Book
		play(t, &b, buy(1, 1, 100), buy(2, 2, 99), buy(3, 3, 100), Command{Op: Modify, ID: 2, Fields: FieldPrice, Price: 100})
		require.Equal(t, []Level{{100, 6, 3}}, slices.Collect(b.Levels(Buy)))
	})
	t.Run("a market order over several levels does not fill more than its quantity", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 9 100 4", "1 filled", "trade 2 9 101 1", "9 filled"},
			play(t, &b, sell(1, 4, 100), sell(2, 4, 101), buy(9, 5, 0).with(ofType(Market, 0))))
	})
	t.Run("a sweep goes on after the first maker is gone", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Len(t, play(t, &b, sell(1, 1, 100), sell(2, 1, 100), sell(3, 1, 101), sell(4, 1, 102), buy(9, 4, 102)), 9)
		require.Zero(t, b.Len())
	})
	t.Run("a crossing buy and a crossing sell print the maker's price", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, "trade 1 2 100 1", play(t, &b, sell(1, 1, 100), buy(2, 1, 110))[0])
		require.Equal(t, "trade 3 4 110 1", play(t, &b, buy(3, 1, 110), sell(4, 1, 100))[0])
	})
	t.Run("a cancelled order is gone at once", func(t *testing.T) {
		t.Parallel()
		var b Book
		play(t, &b, sell(1, 1, 100), Command{Op: Cancel, ID: 1})
		require.Zero(t, b.Len())
		_, ok := b.Best(Sell)
		require.False(t, ok)
	})
	t.Run("one lot is a quantity", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"1 open"}, play(t, &b, sell(1, 1, 1)))
	})
	t.Run("an unfilled market order does not rest", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"1 cancelled"}, play(t, &b, buy(1, 1, 0).with(ofType(Market, 0))))
		require.Zero(t, b.Len())
	})
	t.Run("the first order with several fills ends", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 3 100 1", "1 filled", "trade 2 3 100 1", "2 filled", "3 open"},
			play(t, &b, sell(1, 1, 100), sell(2, 1, 100), buy(3, 3, 100)))
	})
	t.Run("time priority survives many orders of one price", func(t *testing.T) {
		t.Parallel()
		var b Book
		var e Event
		for id := range uint64(1000) {
			b.Do(sell(id*7919%1000, 1, 100), &e)
		}
		b.Do(buy(5000, 1000, 100), &e)
		for i := range uint64(1000) {
			require.Equal(t, i*7919%1000, e.Effects[i].Maker)
		}
	})
	t.Run("a modification of a filled order is answered", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"refused: unknown order"}, play(t, &b, sell(1, 1, 100), buy(2, 1, 100),
			Command{Op: Modify, ID: 1, Fields: FieldQty, Qty: 5}))
	})
	t.Run("a partial fill leaves the level's total right", func(t *testing.T) {
		t.Parallel()
		var b Book
		play(t, &b, sell(1, 10, 100), sell(2, 5, 100), buy(3, 4, 100), Command{Op: Modify, ID: 1, Fields: FieldQty, Qty: 2})
		require.Equal(t, []Level{{100, 7, 2}}, slices.Collect(b.Levels(Sell)))
	})
	t.Run("the rest of an immediate order does not rest", func(t *testing.T) {
		t.Parallel()
		var b Book
		play(t, &b, sell(1, 1, 100), buy(2, 3, 100).with(inForce(IOC)))
		require.Zero(t, b.Len())
	})
	t.Run("a marketable limit does not pay more than its limit", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 3 100 1", "1 filled", "3 open"},
			play(t, &b, sell(1, 1, 100), sell(2, 1, 102), buy(3, 2, 101)))
	})
	t.Run("cancelling in the middle of a queue keeps its order", func(t *testing.T) {
		t.Parallel()
		var b Book
		require.Equal(t, []string{"trade 1 9 100 1", "1 filled", "trade 3 9 100 1", "3 filled", "9 filled"},
			play(t, &b, sell(1, 1, 100), sell(2, 1, 100), sell(3, 1, 100), Command{Op: Cancel, ID: 2}, buy(9, 2, 100)))
	})
	t.Run("sums of the largest orders do not overflow", func(t *testing.T) {
		t.Parallel()
		var b Book
		var e Event
		for id := range uint64(1000) {
			b.Do(sell(id, MaxQty, MaxPrice), &e)
		}
		l, _ := b.Best(Sell)
		require.Equal(t, Level{MaxPrice, 1000 * MaxQty, 1000}, l)
		require.Positive(t, int64(MaxPrice)*int64(MaxQty))
		require.Positive(t, int64(MaxOrders)*int64(MaxQty))
	})
}

func TestBookShowsItsOrders(t *testing.T) {
	t.Parallel()
	var b Book
	_, ok := b.Last()
	require.False(t, ok)
	play(t, &b, buy(1, 5, 90).with(owned(1, STPDecrement)), buy(2, 5, 91), sell(3, 5, 110),
		buy(4, 5, 0).with(ofType(Stop, 120)), buy(5, 5, 99).with(ofType(TakeProfitLimit, 80)), sell(6, 1, 91))
	last, ok := b.Last()
	require.True(t, ok)
	require.Equal(t, int64(91), last)
	o, ok := b.Order(1)
	require.True(t, ok)
	require.Equal(t, Order{ID: 1, Owner: 1, Side: Buy, STP: STPDecrement, Qty: 5, Price: 90}, o)
	o, ok = b.Order(4)
	require.True(t, ok)
	require.Equal(t, Order{ID: 4, Side: Buy, Type: Stop, Waiting: true, Qty: 5, Stop: 120}, o)
	_, ok = b.Order(6)
	require.False(t, ok)
	require.Equal(t, 5, b.Len())
	require.Equal(t, []Level{{91, 4, 1}, {90, 5, 1}}, slices.Collect(b.Levels(Buy)))
	for _, price := range []int64{-1, 0, 89, MaxPrice + 91} {
		require.Empty(t, slices.Collect(b.Queue(Buy, price)))
	}
	for range b.Queue(Buy, 90) {
		break // sequences may be left early
	}
	for range b.Resting(Buy) {
		break
	}
	for range b.Waiting() {
		break
	}
	b.Reset()
	require.Zero(t, b.Len())
	require.Equal(t, shown{}, show(&b))
}

func TestRestoreRefusesWhatNoBookHolds(t *testing.T) {
	t.Parallel()
	rest := Order{ID: 1, Side: Buy, Qty: 5, Price: 90}
	ask := Order{ID: 2, Side: Sell, Qty: 5, Price: 91}
	wait := Order{ID: 3, Side: Buy, Type: Stop, Waiting: true, Qty: 5, Stop: 120}
	set := func(o Order, change func(*Order)) Order { change(&o); return o }
	for _, c := range []struct {
		name   string
		last   int64
		orders []Order
		want   error
	}{
		{"negative last price", -1, nil, ErrRestore},
		{"too high a last price", MaxPrice + 1, nil, ErrRestore},
		{"bad quantity", 0, []Order{set(rest, func(o *Order) { o.Qty = 0 })}, ErrQty},
		{"bad price", 0, []Order{set(rest, func(o *Order) { o.Price = MaxPrice + 1 })}, ErrPriceTooLarge},
		{"twice the same id", 0, []Order{rest, rest}, ErrDuplicate},
		{"a waiting limit", 0, []Order{set(rest, func(o *Order) { o.Waiting = true })}, ErrStop},
		{"a resting market order", 0, []Order{{ID: 1, Side: Buy, Type: Market, Qty: 1}}, ErrRestore},
		{"a resting immediate order", 0, []Order{set(rest, func(o *Order) { o.TIF = IOC })}, ErrRestore},
		{"a stop that should have triggered", 120, []Order{wait}, ErrRestore},
		{"crossed sides", 0, []Order{rest, set(ask, func(o *Order) { o.Price = 90 })}, ErrRestore},
		{"a sound book", 100, []Order{rest, ask, wait}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b Book
			play(t, &b, buy(8, 1, 1))
			err := b.Restore(c.last, slices.Values(c.orders))
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, len(c.orders), b.Len())
				return
			}
			require.ErrorIs(t, err, ErrRestore)
			require.ErrorIs(t, err, c.want)
			require.Zero(t, b.Len())
		})
	}
}

func TestApplyPanicsOnWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	taker := buy(9, 1, 100)
	for name, e := range map[string]Event{
		"trade with an empty side":        {Command: sell(9, 1, 90), Effects: []Effect{{Kind: Trade, ID: 9, Maker: 1, Qty: 1}}},
		"trade with one behind the front": {Command: taker, Effects: []Effect{{Kind: Trade, ID: 9, Maker: 2, Price: 100, Qty: 1}}},
		"trade of more than there is":     {Command: taker, Effects: []Effect{{Kind: Trade, ID: 9, Maker: 1, Price: 100, Qty: 9}}},
		"cancel of an unknown order":      {Command: Command{Op: Cancel, ID: 7}, Effects: []Effect{{Kind: Drop, ID: 7, Qty: 1}}},
		"amendment of an unknown order":   {Command: Command{Op: Modify, ID: 7}, Effects: []Effect{{Kind: Amend, ID: 7, Qty: 1}}},
		"unknown kind":                    {Command: taker, Effects: []Effect{{Kind: kinds}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b Book
			play(t, &b, sell(1, 1, 100), sell(2, 1, 100))
			require.Panics(t, func() { b.Apply(&e) })
		})
	}
}

func TestNamesAreInvertible(t *testing.T) {
	t.Parallel()
	for r := range reasons {
		got, ok := ParseReason(r.Error())
		require.Equal(t, r != 0, ok, "%v", r)
		require.Equal(t, r, got)
	}
	for o := Place; o <= Modify; o++ {
		got, ok := ParseOp(o.String())
		require.True(t, ok)
		require.Equal(t, o, got)
	}
	for s := Buy; s <= Sell; s++ {
		got, ok := ParseSide(s.String())
		require.True(t, ok)
		require.Equal(t, s, got)
		require.NotEqual(t, s, s.Opposite())
	}
	for v := Limit; v <= TakeProfitLimit; v++ {
		got, ok := ParseType(v.String())
		require.True(t, ok)
		require.Equal(t, v, got)
	}
	for v := GTC; v <= FOK; v++ {
		got, ok := ParseTIF(v.String())
		require.True(t, ok)
		require.Equal(t, v, got)
	}
	for v := STPNone; v <= STPDecrement; v++ {
		got, ok := ParseSTP(v.String())
		require.True(t, ok)
		require.Equal(t, v, got)
	}
	for v := Rest; v < kinds; v++ {
		got, ok := ParseKind(v.String())
		require.True(t, ok)
		require.Equal(t, v, got)
	}
	for _, name := range []string{"", "Buy", "op(0)"} {
		_, ok := ParseSide(name)
		require.False(t, ok)
		_, ok = ParseOp(name)
		require.False(t, ok)
	}
	require.Equal(t, "side(7)", Side(7).String())
	require.Equal(t, "reason(99)", Reason(99).Error())
	require.True(t, errors.Is(ErrQty, ErrQty))
}
