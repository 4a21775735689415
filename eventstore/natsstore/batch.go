package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// Headers of an atomic batch.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

const (
	maxBatch = 1000 // messages in one batch: the server's limit
	// openBatches is how many batches of this store may be under way. The server
	// takes 50 for a stream, from all.
	openBatches = 32
	// batchAck is how many messages of a batch are sent without hearing of the
	// server that it has them.
	batchAck = 128
)

// errBeforeCommit marks a batch of which it is certain that nothing was written:
// its last message was not sent.
var errBeforeCommit = errors.New("the batch was not committed")

// publishBatch writes messages in one atomic batch, all or none, and returns the
// sequence of the last; those before have the sequences before. It sends the
// first message and most others without waiting, so that a short batch takes one
// round trip. If the server refuses the first, because too many batches are
// open, it answers the last with codeBatchPartial.
func (l *link) publishBatch(ctx context.Context, list []*nats.Msg) (uint64, error) {
	id := uuid.NewString()
	for i, m := range list {
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		m.Header.Set(headerExpectedStream, l.stream)
		if i == len(list)-1 {
			break
		}
		if (i+1)%batchAck != 0 {
			if err := l.nc.PublishMsg(m); err != nil {
				return 0, fmt.Errorf("%w: %w", errBeforeCommit, err)
			}
			continue
		}
		r, err := l.nc.RequestMsgWithContext(ctx, m)
		if err == nil && len(r.Data) > 0 {
			err = decode(r.Data, &answer{})
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errBeforeCommit, err)
		}
	}
	m := list[len(list)-1]
	m.Header.Set(headerBatchCommit, "1")
	r, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, err
	}
	var ack struct {
		answer
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Batch  string `json:"batch"`
		Count  int    `json:"count"`
	}
	if err := decode(r.Data, &ack); err != nil {
		return 0, err
	}
	if ack.Stream != l.stream || ack.Batch != id || ack.Count != len(list) || ack.Seq < uint64(len(list)) {
		return 0, fmt.Errorf("natsstore: %w: %.200q", errAck, r.Data)
	}
	return ack.Seq, nil
}
