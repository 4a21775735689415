package process_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
)

// A counter of what ended, and how long it took from each event to the event of the command that it led to.
type counter struct {
	ended atomic.Int64
	mu    sync.Mutex
	sent  map[string]time.Time
	took  []time.Duration
}

func (c *counter) follow(ctx context.Context, s *eventstore.Store) {
	types := []string{"transfer.sent", "account.held", "transfer.completed", "transfer.failed"}
	for b, err := range s.Follow(ctx, eventstore.Filter{Types: types}, 0) {
		if err != nil {
			return
		}
		c.mu.Lock()
		for _, r := range b.Events {
			switch e := r.Data.(type) {
			case bank.Sent:
				c.sent[e.Transfer] = r.Time
			case bank.Held:
				c.took = append(c.took, r.Time.Sub(c.sent[e.Transfer]))
				delete(c.sent, e.Transfer)
			default:
				c.ended.Add(1)
			}
		}
		c.mu.Unlock()
	}
}

// Each transfer is five commands by the process, with as many events that it handles. The latency is that from the
// event Sent to the event Held.
func BenchmarkTransfers(b *testing.B) {
	stores := map[string]func(b *testing.B) *eventstore.Store{
		"memory": func(b *testing.B) *eventstore.Store { return memstore.Open(nil) },
		"sqlite": func(b *testing.B) *eventstore.Store {
			s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "bank.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
	}
	for _, name := range []string{"memory", "sqlite"} {
		for _, under := range []int64{1, 256} {
			b.Run(fmt.Sprintf("%s/%d at once", name, under), func(b *testing.B) {
				s := stores[name](b)
				app, err := levada.New(s, levada.Config{
					Aggregates: []aggregate.Opener{bank.Accounts, bank.Transfers},
					Processes:  []process.Opener{bank.Transferrals},
				})
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- app.Run(ctx) }()
				const people = 1000
				for i := range people {
					id := fmt.Sprint("p", i)
					for _, c := range []command.Command{bank.Open{Account: id}, bank.Deposit{Account: id, Amount: 1 << 40}} {
						if _, err := app.Dispatch(ctx, c); err != nil {
							b.Fatal(err)
						}
					}
				}
				c := &counter{sent: map[string]time.Time{}}
				go c.follow(ctx, s)
				i := int64(0)
				for b.Loop() {
					for i-c.ended.Load() >= under {
						time.Sleep(20 * time.Microsecond)
					}
					send := bank.Send{Transfer: fmt.Sprint(i), From: fmt.Sprint("p", i%people), To: fmt.Sprint("p", (i*7+1)%people), Amount: 1}
					if send.From == send.To {
						send.To = "p0"
						send.From = "p1"
					}
					app.Submit(ctx, send)
					i++
				}
				for c.ended.Load() < i {
					time.Sleep(20 * time.Microsecond)
				}
				b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "transfers/s")
				c.mu.Lock()
				slices.Sort(c.took)
				b.ReportMetric(float64(c.took[len(c.took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(c.took[len(c.took)*99/100].Microseconds()), "p99-µs")
				c.mu.Unlock()
				cancel()
				if err := <-ended; err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
