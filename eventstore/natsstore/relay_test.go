package natsstore

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/natstest"
)

// A relay stands between a store and JetStream and does what networks and servers
// sometimes do: it loses, repeats and holds back requests and answers.
//
//	store ──► a plain server ──► relay ──► JetStream
type relay struct {
	t    testing.TB
	real *nats.Conn
	near *nats.Conn // the relay's own, to the plain server
	far  *nats.Conn // for stores

	mu      sync.Mutex
	pending map[string]*nats.Msg // requests by the subject that their answers come to
	inbox   string
	script  script
}

// A script says what becomes of a message. Nil functions let it pass.
type script struct {
	// request returns what is forwarded of a request, once or more often.
	request func(m *nats.Msg) []*nats.Msg
	// answer returns what is passed on of an answer.
	answer func(request, m *nats.Msg) []*nats.Msg
}

func newRelay(t testing.TB) *relay {
	t.Helper()
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	plain.Start()
	t.Cleanup(plain.Shutdown)
	require.True(t, plain.ReadyForConnections(30*time.Second))
	connect := func() *nats.Conn {
		nc, err := nats.Connect(plain.ClientURL())
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	r := &relay{t: t, real: natstest.Shared(t, 1).Connect(t), near: connect(), far: connect(), pending: map[string]*nats.Msg{}}
	r.inbox = nats.NewInbox()
	_, err = r.real.Subscribe(r.inbox+".*", r.back)
	require.NoError(t, err)
	_, err = r.near.Subscribe(">", r.forth)
	require.NoError(t, err)
	require.NoError(t, r.near.Flush())
	require.NoError(t, r.real.Flush())
	return r
}

// play sets what becomes of messages from now on.
func (r *relay) play(s script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = s
}

func (r *relay) forth(m *nats.Msg) {
	if strings.HasPrefix(m.Subject, nats.InboxPrefix) || strings.HasPrefix(m.Subject, "levada.appended.") {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []*nats.Msg{m}
	if r.script.request != nil {
		list = r.script.request(m)
	}
	for _, m := range list {
		out := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
		if m.Reply != "" {
			out.Reply = r.inbox + "." + newNonce()
			r.pending[out.Reply] = m
		}
		_ = r.real.PublishMsg(out)
	}
}

func (r *relay) back(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	request := r.pending[m.Subject]
	if request == nil {
		return
	}
	list := []*nats.Msg{m}
	if r.script.answer != nil {
		list = r.script.answer(request, m)
	}
	for _, m := range list {
		_ = r.near.PublishMsg(&nats.Msg{Subject: request.Reply, Header: m.Header, Data: m.Data})
	}
}

// open opens a store behind the relay.
func (r *relay) open(timeout time.Duration) *store {
	r.t.Helper()
	s, err := open(r.t.Context(), r.far, &Options{Name: fresh(), Timeout: timeout, sending: 300 * time.Millisecond})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, s.Close()) })
	return s
}

// isWrite reports whether a request writes to the log of s, and a batch only if
// it commits.
func isWrite(s *store, m *nats.Msg) bool {
	return strings.HasPrefix(m.Subject, s.opt.Name+".") && m.Reply != "" &&
		(m.Header.Get(headerBatchID) == "" || m.Header.Get(headerBatchCommit) != "")
}

// refusal is an answer with an error of JetStream.
func refusal(code string) *nats.Msg {
	return &nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":` + code + `,"description":"scripted"},"stream":"x","seq":0}`)}
}

// only returns a function that is true the first n times.
func only(n int) func() bool {
	return func() bool { n--; return n >= 0 }
}

// losing loses the next answer to a write to subjects that begin with a prefix.
func losing(prefix string) script {
	once := only(1)
	return script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if strings.HasPrefix(request.Subject, prefix) && once() {
			return nil
		}
		return []*nats.Msg{m}
	}}
}

// skewed makes the clock of a server go wrong where it tells the time.
func skewed(by time.Duration) script {
	return script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if strings.HasPrefix(request.Subject, "$JS.API.STREAM.INFO.") {
			var x map[string]any
			if json.Unmarshal(m.Data, &x) == nil {
				if text, ok := x["ts"].(string); ok {
					now, _ := time.Parse(time.RFC3339Nano, text)
					x["ts"] = now.Add(by)
					m.Data, _ = json.Marshal(x)
				}
			}
		}
		return []*nats.Msg{m}
	}}
}
