package natsstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A bucket is a key-value bucket of NATS: a JetStream stream that keeps one
// message for each subject. It is made when something is first put into it. It is
// read from its leader only, not by the client's Get, which asks any replica. The
// tools of NATS show it like any bucket.
type bucket struct {
	link     link
	replicas int
	payload  int

	mu    sync.Mutex
	ready bool
}

// An item is what a bucket has under a key. One that was deleted has a revision
// and no value.
type item struct {
	key      string
	revision uint64 // of the key's last change, 0 if there never was one
	found    bool
	header   nats.Header
	value    []byte
	time     time.Time // the server's, of the change
}

const (
	headerOperation = "KV-Operation"
	operationDelete = "DEL"
	headerNonce     = "Levada-Write"
)

func (b *bucket) subject(key string) string {
	return "$KV." + strings.TrimPrefix(b.link.stream, "KV_") + "." + key
}

// config is that of a bucket as the client makes it, with atomic batches besides.
func (b *bucket) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               b.link.stream,
		Description:        "kept by a levada store",
		Subjects:           []string{b.subject(">")},
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		Storage:            jetstream.FileStorage,
		Replicas:           b.replicas,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgSize:         -1,
		MaxConsumers:       -1,
		Duplicates:         duplicates,
		AllowDirect:        true,
		AllowRollup:        true,
		DenyDelete:         true,
		AllowAtomicPublish: true,
	}
}

// prepare makes the bucket if there is none.
func (b *bucket) prepare(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ready {
		return nil
	}
	js, err := jetstream.New(b.link.nc)
	if err != nil {
		return err
	}
	info, err := persist(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		return lookUp(ctx, js, b.link.stream)
	})
	if err == nil && info == nil {
		info, err = create(ctx, js, b.config())
	}
	if err != nil {
		return err
	}
	c := info.Config
	if c.Storage != jetstream.FileStorage || c.MaxAge > 0 || c.MaxMsgsPerSubject != 1 || !c.AllowAtomicPublish || c.DenyPurge ||
		len(c.Subjects) != 1 || c.Subjects[0] != b.subject(">") {
		return fmt.Errorf("%w: the bucket %s: want file storage, no max_age, a history of 1, allow_atomic and no deny_purge, on %s",
			ErrConfig, b.link.stream, b.subject(">"))
	}
	b.ready = true
	return nil
}

// get returns what there is under a key, as the leader says.
func (b *bucket) get(ctx context.Context, key string) (item, error) {
	m, err := b.link.last(ctx, b.subject(key))
	if code(err) == codeNoStream {
		return item{key: key}, nil
	}
	if err != nil || m == nil {
		return item{key: key}, err
	}
	return item{
		key: key, revision: m.seq, found: m.header.Get(headerOperation) == "",
		header: m.header, value: m.data, time: m.time,
	}, nil
}

// put puts values under keys in one step, if the last key is at a revision, and
// returns its new one; those of the others are the ones before. ok is false if it
// is not: nothing was written. The nonce of the last says what became of a put
// that was not answered.
func (b *bucket) put(ctx context.Context, revision uint64, list ...*nats.Msg) (now uint64, ok bool, err error) {
	if err := b.prepare(ctx); err != nil {
		return 0, false, err
	}
	nonce := newNonce()
	last := list[len(list)-1]
	last.Header.Set(headerExpected, strconv.FormatUint(revision, 10))
	last.Header.Set(headerNonce, nonce)
	for unknown := false; ; {
		once, cancel := context.WithTimeout(ctx, b.link.sending)
		var seq uint64
		if len(list) == 1 {
			seq, err = b.link.publish(once, last)
		} else {
			seq, err = b.link.publishBatch(once, list)
		}
		cancel()
		if err == nil {
			return seq, true, nil
		}
		v := judge(err)
		if v == refused || v == lost || ctx.Err() != nil {
			return 0, false, outcome(unknown || v == lost || v == doubtful, ended(ctx, err))
		}
		unknown = unknown || v == doubtful
		m, e := b.link.last(ctx, last.Subject)
		switch {
		case e != nil:
			return 0, false, outcome(unknown, e)
		case m != nil && m.header.Get(headerNonce) == nonce:
			return m.seq, true, nil
		case m != nil && m.seq != revision, m == nil && revision > 0:
			return 0, false, nil // if one of the tries was written, it was overwritten since
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return 0, false, outcome(unknown, ended(ctx, err))
		}
	}
}

// value is the message that puts a value under a key.
func (b *bucket) value(key string, header nats.Header, value []byte) *nats.Msg {
	if header == nil {
		header = nats.Header{}
	}
	return &nats.Msg{Subject: b.subject(key), Header: header, Data: value}
}

// remove forgets what is under a key, whatever it is.
func (b *bucket) remove(ctx context.Context, key string) error {
	for {
		it, err := b.get(ctx, key)
		if err != nil || !it.found {
			return err
		}
		_, ok, err := b.put(ctx, it.revision, b.value(key, nats.Header{headerOperation: {operationDelete}}, nil))
		if err != nil || ok {
			return err
		}
	}
}

// list returns what there is under the keys that match, by key, and the time by
// the server's clock before it looked.
func (b *bucket) list(ctx context.Context, match func(key string) bool) (items []item, now time.Time, err error) {
	info, err := b.link.info(ctx, "", 0)
	if code(err) == codeNoStream {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	subjects, err := b.link.subjects(ctx, b.subject(">"))
	if err != nil {
		return nil, time.Time{}, err
	}
	var keys []string
	prefix := b.subject("")
	for _, subject := range subjects {
		if key := strings.TrimPrefix(subject, prefix); match(key) {
			keys = append(keys, key)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), together)
		part := make([]item, n)
		errs := make([]error, n)
		var all sync.WaitGroup
		for i, key := range keys[:n] {
			all.Go(func() { part[i], errs[i] = b.get(ctx, key) })
		}
		all.Wait()
		for i := range part {
			if errs[i] != nil {
				return nil, time.Time{}, errs[i]
			}
			if part[i].found {
				items = append(items, part[i])
			}
		}
		keys = keys[n:]
	}
	return items, info.TimeStamp, nil
}
