package esdbdev

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/levada-go/levada/eventstore"
)

// groupSettings are how a persistent subscription works.
type groupSettings struct {
	From          groupStart   `json:"from"`
	Filter        *groupFilter `json:"filter,omitempty"`
	ResolveLinks  bool         `json:"resolveLinks,omitempty"`
	Statistics    bool         `json:"extraStatistics,omitempty"`
	Timeout       int32        `json:"messageTimeoutMs"`  // 0 is none
	MaxRetries    int32        `json:"maxRetryCount"`     // after which a message is parked
	CheckpointMs  int32        `json:"checkpointAfterMs"` // between checkpoints
	MinCheckpoint int32        `json:"minCheckpointCount"`
	MaxCheckpoint int32        `json:"maxCheckpointCount"`
	MaxConsumers  int32        `json:"maxSubscriberCount"` // 0 is any
	LiveBuffer    int32        `json:"liveBufferSize"`
	ReadBatch     int32        `json:"readBatchSize"`
	HistoryBuffer int32        `json:"historyBufferSize"`
	Strategy      string       `json:"consumerStrategy"`
}

// A groupStart is where a group begins. Text is what the client asked for; a group
// from the end begins where the end was when it was created, which After says: a
// version for a stream, else a position, all up to which is left out.
type groupStart struct {
	Text  string `json:"text"`
	After uint64 `json:"after"`
}

// A groupFilter is a filter as the client sent it.
type groupFilter struct {
	ByType   bool     `json:"byType,omitempty"`
	Regex    string   `json:"regex,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
}

func (f *groupFilter) GetRegex() string    { return f.Regex }
func (f *groupFilter) GetPrefix() []string { return f.Prefixes }

// compile returns the filter, nil for none.
func (f *groupFilter) compile() (*filter, error) {
	if f == nil {
		return nil, nil
	}
	return newFilter(f.ByType, f, 0, 0)
}

// key is the same for the same settings.
func (s *groupSettings) key() string {
	b, err := json.Marshal(s)
	if err != nil {
		return "" // it has nothing that cannot be marshalled
	}
	return string(b)
}

// Names of strategies.
const (
	roundRobin          = "RoundRobin"
	dispatchToSingle    = "DispatchToSingle"
	pinned              = "Pinned"
	pinnedByCorrelation = "PinnedByCorrelation"
)

// wireSettings is part of the requests of two calls, which have a type for it each.
type wireSettings interface {
	GetResolveLinks() bool
	GetExtraStatistics() bool
	GetMaxRetryCount() int32
	GetMinCheckpointCount() int32
	GetMaxCheckpointCount() int32
	GetMaxSubscriberCount() int32
	GetLiveBufferSize() int32
	GetReadBatchSize() int32
	GetHistoryBufferSize() int32
	GetMessageTimeoutMs() int32
	GetMessageTimeoutTicks() int64
	GetCheckpointAfterMs() int32
	GetCheckpointAfterTicks() int64
}

func commonSettings(w wireSettings) (groupSettings, error) {
	s := groupSettings{
		ResolveLinks: w.GetResolveLinks(), Statistics: w.GetExtraStatistics(),
		Timeout: w.GetMessageTimeoutMs(), MaxRetries: w.GetMaxRetryCount(), CheckpointMs: w.GetCheckpointAfterMs(),
		MinCheckpoint: w.GetMinCheckpointCount(), MaxCheckpoint: w.GetMaxCheckpointCount(), MaxConsumers: w.GetMaxSubscriberCount(),
		LiveBuffer: w.GetLiveBufferSize(), ReadBatch: w.GetReadBatchSize(), HistoryBuffer: w.GetHistoryBufferSize(),
	}
	if t := w.GetMessageTimeoutTicks(); t != 0 {
		s.Timeout = milliseconds(t)
	}
	if t := w.GetCheckpointAfterTicks(); t != 0 {
		s.CheckpointMs = milliseconds(t)
	}
	for _, n := range []int32{s.Timeout, s.MaxRetries, s.CheckpointMs, s.MinCheckpoint, s.MaxCheckpoint, s.MaxConsumers, s.LiveBuffer, s.ReadBatch, s.HistoryBuffer} {
		if n < 0 {
			return s, invalidArgument("a setting of a persistent subscription is negative: %d", n)
		}
	}
	return s, nil
}

// milliseconds converts ticks of 100 ns.
func milliseconds(ticks int64) int32 {
	return int32(min(max(ticks/int64(time.Millisecond/100), -1), 1<<31-1))
}

func createSettings(o *persistent.CreateReq_Options) (groupSettings, error) {
	w := o.GetSettings()
	s, err := commonSettings(w)
	if err != nil {
		return s, err
	}
	switch name := w.GetConsumerStrategy(); name {
	case roundRobin, dispatchToSingle, pinned, pinnedByCorrelation:
		s.Strategy = name
	case "":
		//lint:ignore SA1019 it is what most clients send
		s.Strategy = w.GetNamedConsumerStrategy().String()
	default:
		return s, invalidArgument("there is no consumer strategy %q", name)
	}
	if all := o.GetAll(); all != nil {
		switch x := all.GetAllOption().(type) {
		case *persistent.CreateReq_AllOptions_Position:
			s.From, err = groupPosition(x.Position.GetCommitPosition(), x.Position.GetPreparePosition())
		case *persistent.CreateReq_AllOptions_End:
			s.From = groupStart{Text: endText(true)}
		default:
			s.From = groupStart{Text: "C:0/P:0"}
		}
		if f := all.GetFilter(); f != nil && err == nil {
			s.Filter = &groupFilter{}
			if x := f.GetEventType(); x != nil {
				*s.Filter = groupFilter{true, x.GetRegex(), x.GetPrefix()}
			} else if x := f.GetStreamIdentifier(); x != nil {
				*s.Filter = groupFilter{false, x.GetRegex(), x.GetPrefix()}
			}
			_, err = s.Filter.compile()
		}
		return s, err
	}
	switch x := o.GetStream().GetRevisionOption().(type) {
	case *persistent.CreateReq_StreamOptions_Revision:
		s.From = groupRevision(x.Revision)
	case *persistent.CreateReq_StreamOptions_End:
		s.From = groupStart{Text: endText(false)}
	case *persistent.CreateReq_StreamOptions_Start:
		s.From = groupStart{Text: "0"}
	default:
		//lint:ignore SA1019 older clients send it alone
		s.From = groupRevision(w.GetRevision())
	}
	return s, nil
}

func updateSettings(o *persistent.UpdateReq_Options) (groupSettings, error) {
	w := o.GetSettings()
	s, err := commonSettings(w)
	if err != nil {
		return s, err
	}
	s.Strategy = w.GetNamedConsumerStrategy().String()
	if all := o.GetAll(); all != nil {
		switch x := all.GetAllOption().(type) {
		case *persistent.UpdateReq_AllOptions_Position:
			s.From, err = groupPosition(x.Position.GetCommitPosition(), x.Position.GetPreparePosition())
		case *persistent.UpdateReq_AllOptions_End:
			s.From = groupStart{Text: endText(true)}
		default:
			s.From = groupStart{Text: "C:0/P:0"}
		}
		return s, err
	}
	switch x := o.GetStream().GetRevisionOption().(type) {
	case *persistent.UpdateReq_StreamOptions_Revision:
		s.From = groupRevision(x.Revision)
	case *persistent.UpdateReq_StreamOptions_End:
		s.From = groupStart{Text: endText(false)}
	case *persistent.UpdateReq_StreamOptions_Start:
		s.From = groupStart{Text: "0"}
	default:
		//lint:ignore SA1019 older clients send it alone
		s.From = groupRevision(w.GetRevision())
	}
	return s, nil
}

func endText(all bool) string {
	if all {
		return "C:-1/P:-1"
	}
	return "-1"
}

// groupRevision begins at a revision, that included.
func groupRevision(n uint64) groupStart {
	if n >= tombstoneRevision {
		return groupStart{Text: endText(false)}
	}
	return groupStart{strconv.FormatUint(n, 10), n}
}

// groupPosition begins at a position, that included.
func groupPosition(commit, prepare uint64) (groupStart, error) {
	from, err := positionStart(commit, prepare)
	switch {
	case err != nil:
		return groupStart{}, err
	case from.kind == fromEnd:
		return groupStart{Text: endText(true)}, nil
	case from.kind == fromStart:
		return groupStart{Text: "C:0/P:0"}, nil
	}
	return groupStart{positionText(eventstore.Position(from.at)), from.at - 1}, nil
}

func positionText(p eventstore.Position) string {
	n := strconv.FormatUint(wirePosition(p), 10)
	return "C:" + n + "/P:" + n
}

// resolveStart finds the end for a group that begins there.
func (s *Server) resolveStart(ctx context.Context, k groupKey, settings *groupSettings) error {
	switch settings.From.Text {
	case endText(true):
		head, err := s.store.Head(ctx)
		settings.From.After = uint64(head)
		return storeError(k.stream, err)
	case endText(false):
		st, err := s.stream(ctx, k.stream, everything)
		if err != nil {
			return err
		}
		settings.From.After = uint64(st.version)
	}
	return nil
}
