package serve

import (
	"encoding/json"
	"strconv"
	"sync"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// The channels of market data.
const (
	channelBook    = "book"
	channelTrades  = "trades"
	channelCandles = "candles"
	channelOrders  = "orders" // the asker's own
)

// A channelKey is what a client may be subscribed to once.
type channelKey struct {
	channel, symbol string
	interval        int // of candles
}

// A dataFrame is a snapshot or an update of one channel. The first frame of a
// subscription is a snapshot; every update continues the frame whose Seq is its Prev.
type dataFrame struct {
	Type     string              `json:"type"` // "snapshot" or "update"
	Channel  string              `json:"channel"`
	Symbol   string              `json:"symbol"`
	Interval string              `json:"interval,omitempty"`
	Prev     *eventstore.Version `json:"prev,omitempty"`
	Seq      eventstore.Version  `json:"seq"`
	Position eventstore.Position `json:"position"`

	Bids    *[][2]string  `json:"bids,omitempty"`
	Asks    *[][2]string  `json:"asks,omitempty"`
	Trades  *[]tradeJSON  `json:"trades,omitempty"`
	Candles *[]candleJSON `json:"candles,omitempty"`
	Orders  *[]orderJSON  `json:"orders,omitempty"`
	Fills   []ownFillJSON `json:"fills,omitempty"`
}

type tradeJSON struct {
	ID       string `json:"id"`
	Side     string `json:"side"`
	Price    string `json:"price"`
	Quantity string `json:"quantity"`
	Time     int64  `json:"time"`
}

// A candleJSON is [start, open, high, low, close, volume].
type candleJSON [6]any

type orderJSON struct {
	Order    string `json:"order"`
	Status   string `json:"status,omitempty"`
	Side     string `json:"side,omitempty"`
	Type     string `json:"type,omitempty"`
	TIF      string `json:"tif,omitempty"`
	PostOnly bool   `json:"post_only,omitempty"`
	Price    string `json:"price,omitempty"`
	Stop     string `json:"stop_price,omitempty"`
	Open     string `json:"open"`
	Filled   string `json:"filled,omitempty"`
	Time     int64  `json:"time,omitempty"`
}

type ownFillJSON struct {
	Order    string `json:"order"`
	Role     string `json:"role"` // "maker" or "taker"
	Side     string `json:"side"`
	Price    string `json:"price"`
	Quantity string `json:"quantity"`
	Time     int64  `json:"time"`
}

// A frames cache keeps the latest rendered frames of a symbol. What a frame says
// follows from its key alone, so subscribers who stand at the same event share one
// rendering.
type frames struct {
	mu     sync.Mutex
	by     map[frameKey][]byte
	recent []frameKey
}

type frameKey struct {
	channel   string
	interval  int
	prev, seq eventstore.Version
	snapshot  bool
}

// maxFrames bounds what a frames cache keeps.
const maxFrames = 64

// get returns the frame for k, rendered by render if it is not kept.
func (f *frames) get(k frameKey, render func() dataFrame) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, ok := f.by[k]; ok {
		return b
	}
	b := encode(render())
	if f.by == nil {
		f.by = map[frameKey][]byte{}
	}
	if len(f.recent) == maxFrames {
		delete(f.by, f.recent[0])
		f.recent = append(f.recent[:0], f.recent[1:]...)
	}
	f.by[k], f.recent = b, append(f.recent, k)
	return b
}

// encode marshals what cannot fail to be marshalled.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *Symbol) levels(f *dataFrame, levels []levelChange) {
	bids, asks := [][2]string{}, [][2]string{}
	for _, l := range levels {
		row := [2]string{s.Price(l.price), s.Qty(l.qty)}
		if l.side == book.Buy {
			bids = append(bids, row)
		} else {
			asks = append(asks, row)
		}
	}
	f.Bids, f.Asks = &bids, &asks
}

func (s *Symbol) trades(f *dataFrame, trades []trade) {
	rows := make([]tradeJSON, 0, len(trades))
	for _, t := range trades {
		rows = append(rows, tradeJSON{t.id(), t.side.String(), s.Price(t.price), s.Qty(t.qty), t.ms})
	}
	f.Trades = &rows
}

// id names a trade among those of its symbol: the sequence of its event, and
// which of that event's trades it is.
func (t *trade) id() string {
	return strconv.FormatUint(uint64(t.version), 10) + "." + strconv.Itoa(t.index)
}

func (s *Symbol) candles(f *dataFrame, candles []candle) {
	rows := make([]candleJSON, 0, len(candles))
	for _, c := range candles {
		rows = append(rows, candleJSON{c.start, s.Price(c.open), s.Price(c.high), s.Price(c.low), s.Price(c.close), s.Qty(c.volume)})
	}
	f.Candles = &rows
}

func (s *Symbol) liveOrders(f *dataFrame, orders []liveOrder) {
	rows := make([]orderJSON, 0, len(orders))
	for i := range orders {
		rows = append(rows, s.liveOrder(&orders[i]))
	}
	f.Orders = &rows
}

func (s *Symbol) liveOrder(o *liveOrder) orderJSON {
	status := statusWaiting
	if o.resting {
		status = statusOpen
	}
	return orderJSON{Order: orderID(o.id), Status: status, Side: o.side.String(), Type: o.typ.String(), TIF: o.tif.String(),
		PostOnly: o.post, Price: s.optionalPrice(o.price), Stop: s.optionalPrice(o.stop),
		Open: s.Qty(o.open), Filled: s.Qty(o.filled), Time: o.ms}
}

func (s *Symbol) optionalPrice(ticks int64) string {
	if ticks == 0 {
		return ""
	}
	return s.Price(ticks)
}

func orderID(id uint64) string { return strconv.FormatUint(id, 10) }
