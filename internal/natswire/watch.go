package natswire

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Watch calls f, from one goroutine, with false when the connection has been lost
// for as long as patience, and with true when it is there again, which may
// be another server. The true comes also when the loss was shorter. stop ends that,
// and does not wait for a call under way.
func Watch(nc *nats.Conn, patience time.Duration, f func(up bool)) (stop func()) {
	changes := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	go func() {
		lost := time.NewTimer(patience)
		if nc.IsConnected() {
			lost.Stop()
		}
		down := !nc.IsConnected()
		for {
			select {
			case _, open := <-changes:
				if !open {
					lost.Stop()
					return
				}
				// A listener that lags misses changes, so the state counts. Both may have been
				// in between: a change that leaves the connection up is a new one.
				up := nc.IsConnected()
				switch {
				case up:
					lost.Stop()
					f(true)
				case !down:
					lost.Reset(patience)
				}
				down = !up
			case <-lost.C:
				f(false)
			}
		}
	}()
	return func() { nc.RemoveStatusListener(changes) }
}
