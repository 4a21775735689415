package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A link speaks to one JetStream stream.
//
//	last, at, next, info   ask the stream's leader: never stale
//	direct, page           ask any server that has a replica: quick, maybe behind
//	publish, publishBatch  go to the leader
//
// A call that gets no answer, or hears that there is no leader at the moment, is
// made again until ctx is done, but for those that write.
type link struct {
	nc      *nats.Conn
	stream  string
	sending time.Duration // how long a write may take before its outcome is looked for
}

const (
	// attempt is how long one request may take. A leader that was killed is
	// replaced within 9 s; until then requests are lost.
	attempt = 2 * time.Second
	// sending is how long the server may take to acknowledge a write before the
	// leader is asked what became of it.
	sending = 5 * time.Second

	headerExpected       = jetstream.ExpectedLastSubjSeqHeader
	headerExpectedStream = jetstream.ExpectedStreamHeader
)

// Codes of the server.
const (
	codeNoLeader       = 10008 // the cluster has no leader, or is not ready
	codeNotLeader      = 10009
	codeNoMessage      = 10037
	codeNoStream       = 10059
	codeWrongSequence  = 10071 // the expectation does not hold; the message says what is
	codeNotReady       = 10163 // the expectation cannot be checked yet
	codeInProcess      = 10164 // another write of the subject is, or seems to be, in process
	codeTooMany        = 10167 // the server's queue is full
	codeBatchLarge     = 10199
	codeBatchPartial   = 10176 // some of the batch was not received, or it was never begun
	codeBatchDuplicate = 10201
	codeTooManyBatches = 10210
	codeNoPeers        = 10005
	codeSubjectsTaken  = 10065
)

// code returns the code of an error that the server has sent, else 0.
func code(err error) int {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return int(e.ErrorCode)
	}
	return 0
}

// unanswered reports whether a request may be answered if it is made again. It
// says nothing of whether the first was heard.
func unanswered(err error) bool {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode == codeNoLeader || e.ErrorCode == codeNotLeader
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, nats.ErrStaleConnection) || errors.Is(err, errCut)
}

// persist calls f, with a time for one attempt, until it is answered.
func persist[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	return persistently(ctx, func(ctx context.Context) (T, error) {
		once, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		return f(once)
	})
}

// persistently is persist for an f that bounds each attempt by itself.
func persistently[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	var told error // what was said last; that time is up says nothing
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		v, err := f(ctx)
		if err == nil || ctx.Err() == nil && !unanswered(err) {
			return v, err
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			told = err
		} else if told != nil {
			err = told
		}
		if ctx.Err() != nil {
			return v, ended(ctx, err)
		}
		if pause(ctx, wait) != nil {
			return v, ended(ctx, err)
		}
	}
}

// ended is the error of a call that was still unanswered when ctx was done.
func ended(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return ctx.Err()
	case ctx.Err() == nil || errors.Is(err, ctx.Err()):
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// pause waits for about d, a random part of it.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// api asks the leader once.
func (l *link) api(ctx context.Context, call string, request any, r response) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM."+call+"."+l.stream, data)
	if err != nil {
		return err
	}
	return decode(m.Data, r)
}

// An answer is the part that all answers of the API have in common: what holds
// one embeds it.
type answer struct {
	Error *jetstream.APIError `json:"error"`
}

func (a *answer) err() error {
	if a.Error != nil {
		return a.Error
	}
	return nil
}

type response interface{ err() error }

// decode decodes the answer to an API request, and returns the error in it.
func decode(data []byte, r response) error {
	if err := json.Unmarshal(data, r); err != nil {
		return fmt.Errorf("natsstore: an answer that is not understood: %w", err)
	}
	return r.err()
}

// A getRequest is the request of MSG.GET and DIRECT.GET.
type getRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	LastBy    string     `json:"last_by_subj,omitempty"`
	NextBy    string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// get asks the leader for a message; nil if there is none.
func (l *link) get(ctx context.Context, r getRequest) (*message, error) {
	return persist(ctx, func(ctx context.Context) (*message, error) {
		var x struct {
			answer
			Message struct {
				Subject string    `json:"subject"`
				Seq     uint64    `json:"seq"`
				Headers []byte    `json:"hdrs"`
				Data    []byte    `json:"data"`
				Time    time.Time `json:"time"`
			} `json:"message"`
		}
		err := l.api(ctx, "MSG.GET", r, &x)
		if code(err) == codeNoMessage {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		m := &message{subject: x.Message.Subject, seq: x.Message.Seq, time: x.Message.Time.UTC(), data: x.Message.Data}
		if len(x.Message.Headers) > 0 {
			if m.header, err = nats.DecodeHeadersMsg(x.Message.Headers); err != nil {
				return nil, fmt.Errorf("natsstore: headers of message %d: %w", m.seq, err)
			}
		}
		return m, nil
	})
}

// last returns the last message on a subject.
func (l *link) last(ctx context.Context, subject string) (*message, error) {
	return l.get(ctx, getRequest{LastBy: subject})
}

// at returns the message at a sequence.
func (l *link) at(ctx context.Context, seq uint64) (*message, error) {
	return l.get(ctx, getRequest{Seq: seq})
}

// next returns the first message on a subject, which may be a pattern, at or
// above a sequence.
func (l *link) next(ctx context.Context, seq uint64, subject string) (*message, error) {
	return l.get(ctx, getRequest{Seq: max(seq, 1), NextBy: subject})
}

// since returns the first message stored at or after t.
func (l *link) since(ctx context.Context, t time.Time) (*message, error) {
	t = t.UTC()
	return l.get(ctx, getRequest{StartTime: &t})
}

// info returns what the leader says of the stream. With a pattern it names the
// subjects that match, by pages from offset.
func (l *link) info(ctx context.Context, pattern string, offset int) (*streamInfo, error) {
	request := struct {
		Subjects string `json:"subjects_filter,omitempty"`
		Offset   int    `json:"offset,omitempty"`
	}{pattern, offset}
	return persist(ctx, func(ctx context.Context) (*streamInfo, error) {
		x := &streamInfo{}
		if err := l.api(ctx, "INFO", request, x); err != nil {
			return nil, err
		}
		return x, nil
	})
}

// A streamInfo is an answer to STREAM.INFO.
type streamInfo struct {
	answer
	jetstream.StreamInfo
	Total int `json:"total"` // subjects that match
}

// purge removes the messages on a subject below a sequence, which 0 means all.
func (l *link) purge(ctx context.Context, subject string, below uint64) error {
	request := struct {
		Subject string `json:"filter"`
		Seq     uint64 `json:"seq,omitempty"`
	}{subject, below}
	_, err := persist(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, l.api(ctx, "PURGE", request, &answer{})
	})
	return err
}

// direct asks any replica for the messages at some sequences, at once, and the
// leader for those that the replica does not have. What is gone is nil.
func (l *link) direct(ctx context.Context, seqs []uint64) ([]*message, error) {
	list := make([]*message, len(seqs))
	if len(seqs) == 1 {
		m, err := l.directOne(ctx, seqs[0])
		list[0] = m
		return list, err
	}
	errs := make(chan error, len(seqs))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, seq := range seqs {
		go func() {
			m, err := l.directOne(ctx, seq)
			list[i] = m
			errs <- err
		}()
	}
	var failed error
	for range seqs {
		if err := <-errs; err != nil && failed == nil {
			failed = err
			cancel()
		}
	}
	return list, failed
}

func (l *link) directOne(ctx context.Context, seq uint64) (*message, error) {
	once, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	data, err := json.Marshal(getRequest{Seq: seq})
	if err != nil {
		return nil, err
	}
	if r, err := l.nc.RequestWithContext(once, "$JS.API.DIRECT.GET."+l.stream, data); err == nil && r.Header.Get("Status") == "" {
		if m, err := fromDirect(r); err == nil && m.seq == seq {
			return m, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return l.at(ctx, seq)
}

// publish writes one message and returns its sequence.
func (l *link) publish(ctx context.Context, m *nats.Msg) (uint64, error) {
	m.Header.Set(headerExpectedStream, l.stream)
	var ack struct {
		answer
		Stream    string `json:"stream"`
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
	}
	r, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, err
	}
	if err := decode(r.Data, &ack); err != nil {
		return 0, err
	}
	if ack.Stream != l.stream || ack.Seq == 0 || ack.Duplicate {
		return 0, fmt.Errorf("natsstore: %w: %.200q", errAck, r.Data)
	}
	return ack.Seq, nil
}

var errAck = errors.New("an acknowledgement that makes no sense")
