package kurrentstore

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/esdbdev"
)

// watched has the subscription of d run until the test ends.
func watched(t testing.TB, d *store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	waiting := make(chan error, 1)
	go func() { waiting <- d.Wait(ctx, impossible) }()
	t.Cleanup(func() {
		cancel()
		<-waiting
	})
	require.Eventually(t, func() bool {
		d.watch.mu.Lock()
		defer d.watch.mu.Unlock()
		return d.watch.live
	}, 20*time.Second, time.Millisecond)
}

func TestAnAppendTakesARoundTripLessWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d, traffic := counted(t, server.URL())
	ctx := t.Context()
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Err)
	append := func(expected int64) driver.Result {
		r := d.Append(ctx, driver.Append{Stream: "s", Expected: expected, Events: events(2)})
		require.NoError(t, r.Err)
		last, err := d.ReadStream(ctx, "s", 0, driver.Backward, 1)
		require.NoError(t, err)
		require.Equal(t, driver.Result{Version: last[0].Version, Last: last[0].Position, Time: last[0].Time}, r, "what readers see")
		return r
	}
	calls, _ := traffic.during(func() { append(driver.Any) })
	require.Equal(t, int64(3+1), calls, "where it stands, the write, when it was recorded; and the read of the test")
	watched(t, d)
	spared := 0
	for range 50 {
		calls, _ = traffic.during(func() { append(driver.Any) })
		require.LessOrEqual(t, calls, int64(3+1))
		if calls == 2+1 {
			spared++
		} else { // the machine was busy: it asks for a while
			d.watch.mu.Lock()
			d.watch.slow = time.Time{}
			d.watch.mu.Unlock()
		}
	}
	require.NotZero(t, spared)
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	require.Empty(t, d.watch.wanted)
}

func TestAnAppendDoesNotWaitForASubscriptionThatIsLate(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d, traffic := counted(t, server.URL())
	watched(t, d)
	ctx := t.Context()
	answer := make(chan struct{})
	defer close(answer)
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Err)
	server.Inject(esdbdev.Fault{Method: esdbdev.MethodSubscribe, Until: answer, Events: 2}) // the second event is the last one for long
	for i := range 4 {
		var r driver.Result
		calls, _ := traffic.during(func() {
			r = d.Append(ctx, driver.Append{Stream: "s", Expected: int64(i + 1), Events: events(1)})
		})
		require.NoError(t, r.Err)
		require.False(t, r.Time.IsZero())
		if i > 1 {
			require.Equal(t, int64(3), calls, "it is asked, and not expected for a while")
		}
	}
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	require.Empty(t, d.watch.wanted)
}

// A distant connection delivers what is written a while later.
type distant struct {
	net.Conn
	by     time.Duration
	out    chan parcel
	closed chan struct{}
	once   sync.Once
}

type parcel struct {
	data []byte
	at   time.Time
}

func dialDistant(ctx context.Context, addr string, by time.Duration) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d := &distant{Conn: c, by: by, out: make(chan parcel), closed: make(chan struct{})}
	go d.carry()
	return d, nil
}

func (d *distant) carry() {
	var way []parcel // under way
	arrival := time.NewTimer(0)
	for {
		select {
		case p := <-d.out:
			if way = append(way, p); len(way) == 1 {
				arrival.Reset(time.Until(p.at))
			}
		case <-arrival.C:
			for len(way) > 0 && time.Until(way[0].at) <= 0 {
				if _, err := d.Conn.Write(way[0].data); err != nil {
					return
				}
				way = way[1:]
			}
			if len(way) > 0 {
				arrival.Reset(time.Until(way[0].at))
			}
		case <-d.closed:
			return
		}
	}
}

func (d *distant) Write(data []byte) (int, error) {
	select {
	case d.out <- parcel{slices.Clone(data), time.Now().Add(d.by)}:
		return len(data), nil
	case <-d.closed:
		return 0, net.ErrClosed
	}
}

func (d *distant) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// BenchmarkAppendTold compares appends with and without the subscription's help, one after
// the other on one server, at hand and over a network that takes a while. Its result is the ratio of their times.
func BenchmarkAppendTold(b *testing.B) {
	for _, by := range []time.Duration{0, 200 * time.Microsecond, time.Millisecond} {
		b.Run(by.String(), func(b *testing.B) {
			server := serve(b, nil)
			var took [2]time.Duration
			var stores [2]*store
			for i := range stores {
				d, _ := counted(b, server.URL(), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
					return dialDistant(ctx, addr, by)
				}))
				watched(b, d)
				if i == 0 {
					d.watch.slow = time.Now().Add(24 * time.Hour)
				}
				stores[i] = d
			}
			for b.Loop() {
				for i, d := range stores {
					began := time.Now()
					require.NoError(b, d.Append(b.Context(), driver.Append{Stream: "s", Events: benchEvents(1)}).Err)
					took[i] += time.Since(began)
				}
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "told/asked")
		})
	}
}
