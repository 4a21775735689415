package natspubsub

import (
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// Knows reports whether t knows of other's server.
func (t *Transport) Knows(other *Transport) bool {
	server := other.nc.ConnectedServerId()
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.others[server]
	return server != "" && (ok || server == t.home)
}

// Subject returns the subject of a topic.
func Subject(t *Transport, topic string) string {
	subject, _ := t.subject(topic)
	return subject
}

// CountQuestions returns how often t's server is asked from now on.
func CountQuestions(t *Transport) func() int32 {
	var n atomic.Int32
	sub, err := t.nc.Subscribe(t.prefix+serverSubject+t.nc.ConnectedServerId(), func(*nats.Msg) { n.Add(1) })
	if err != nil {
		panic(err)
	}
	t.ends = append(t.ends, func() { _ = sub.Unsubscribe() })
	return n.Load
}
