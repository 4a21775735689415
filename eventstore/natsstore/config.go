package natsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// formatKey is the metadata of the JetStream stream that tells the version of
	// this package's subjects and headers.
	formatKey = "levada-format"
	format    = 1
	// duplicates is the window in which the server remembers message ids. None are
	// sent: expectations do what they would, and cost the server no memory.
	duplicates = 10 * time.Second
)

// logConfig is the configuration of the log.
func logConfig(name string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               name,
		Description:        "events of a levada store",
		Subjects:           []string{space(name).all()},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		Storage:            jetstream.FileStorage,
		Replicas:           replicas,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		MaxConsumers:       -1,
		Duplicates:         duplicates,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{formatKey: strconv.Itoa(format)},
	}
}

// prepare finds the log, or creates it, and returns its replicas and the size
// limit of its messages, 0 if it has none of its own.
func (l *link) prepare(ctx context.Context, replicas int) (int, int, error) {
	js, err := jetstream.New(l.nc)
	if err != nil {
		return 0, 0, err
	}
	if err := l.recent(); err != nil {
		return 0, 0, err
	}
	info, err := l.find(ctx, js)
	if err != nil {
		return 0, 0, err
	}
	if info == nil {
		n := replicas
		if n == 0 {
			n = defaultReplicas(l.nc)
		}
		if info, err = create(ctx, js, logConfig(l.stream, n)); err != nil {
			return 0, 0, err
		}
	}
	if err := checkLog(info.Config, replicas); err != nil {
		return 0, 0, err
	}
	if err := l.probe(ctx); err != nil {
		return 0, 0, err
	}
	return info.Config.Replicas, max(int(info.Config.MaxMsgSize), 0), nil
}

// recent refuses a server of a version that has no atomic batches. It would make a
// stream without them.
func (l *link) recent() error {
	version := l.nc.ConnectedServerVersion()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err == nil && (major < 2 || major == 2 && minor < leastMinor) {
		return fmt.Errorf("%w: the server is of version %s, want 2.%d or later", ErrConfig, version, leastMinor)
	}
	return nil
}

// leastMinor is the minor version of the servers, 2.12, that brought atomic batches.
const leastMinor = 12

// find looks the log up; nil if there is none. Where there is no JetStream nobody
// answers, which a cluster that has only begun does, too; a single server does not.
func (l *link) find(ctx context.Context, js jetstream.JetStream) (info *jetstream.StreamInfo, err error) {
	began := time.Now()
	info, err = persist(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		info, err := lookUp(ctx, js, l.stream)
		if err != nil && denied(l.nc, l.stream) != nil {
			return nil, denied(l.nc, l.stream)
		}
		if errors.Is(err, nats.ErrNoResponders) && l.nc.ConnectedClusterName() == "" && time.Since(began) > attempt {
			return nil, errNoJetStream
		}
		return info, err
	})
	if errors.Is(err, nats.ErrNoResponders) {
		err = fmt.Errorf("%w: %w", errNoJetStream, err)
	}
	return info, err
}

var errNoJetStream = errors.New("no JetStream answers: the servers must run with it (nats-server -js), for this account")

// probe finds out whether this connection may write to the log: it sends a message
// with an expectation that never holds. A server drops what is not permitted
// without an answer.
func (l *link) probe(ctx context.Context) error {
	m := nats.NewMsg(space(l.stream).of("probe"))
	m.Header.Set(headerExpected, strconv.FormatUint(math.MaxInt64, 10))
	_, err := persist(ctx, func(ctx context.Context) (uint64, error) {
		seq, err := l.publish(ctx, m)
		if err != nil && denied(l.nc, l.stream) != nil {
			err = denied(l.nc, l.stream)
		}
		return seq, err
	})
	if code(err) != 0 {
		return nil // it was heard; a full log refuses otherwise
	}
	return err
}

// denied returns what the server has said of a request that the connection has no
// permission for. It does so apart from the request, which is never answered.
func denied(nc *nats.Conn, stream string) error {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	// An older one may be of something else that the connection is used for.
	for _, text := range []string{`"` + stream + ".", "." + stream + `"`, cmp.Or(nc.Opts.InboxPrefix, strings.TrimSuffix(nats.InboxPrefix, "."))} {
		if strings.Contains(err.Error(), text) {
			return err
		}
	}
	return nil
}

// lookUp returns nil if there is no stream of the name.
func lookUp(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// create creates a stream, unless another has just created it. A cluster that
// has only begun answers for a while that it has no suitable peers.
func create(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	for {
		info, err := persist(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) {
			s, err := js.CreateStream(ctx, config)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				return lookUp(ctx, js, config.Name)
			}
			if err != nil && denied(js.Conn(), config.Name) != nil {
				return nil, denied(js.Conn(), config.Name)
			}
			if code(err) == codeSubjectsTaken {
				return nil, fmt.Errorf("%w: another JetStream stream has subjects of %s: %w", ErrConfig, config.Subjects[0], err)
			}
			if err != nil {
				return nil, err
			}
			return s.CachedInfo(), nil
		})
		if err == nil && info != nil {
			return info, nil
		}
		if err != nil && code(err) != codeNoPeers {
			return nil, err
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return nil, ended(ctx, err)
		}
	}
}

// defaultReplicas is 3 where the connection knows of a cluster of three servers.
func defaultReplicas(nc *nats.Conn) int {
	if nc.ConnectedClusterName() != "" && len(nc.Servers()) >= 3 {
		return 3
	}
	return 1
}

// checkLog returns what keeps a stream from being a store.
func checkLog(c jetstream.StreamConfig, replicas int) error {
	text, ours := c.Metadata[formatKey]
	if !ours {
		return fmt.Errorf("%w: the JetStream stream %s has no metadata %s", ErrNotStore, c.Name, formatKey)
	}
	if n, err := strconv.Atoi(text); err != nil || n > format {
		return fmt.Errorf("%w: %s, while this program knows %d", ErrNewerFormat, text, format)
	}
	var faults []string
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	want := space(c.Name).all()
	fault(!slices.Equal(c.Subjects, []string{want}), "subjects are %v, want [%s]", c.Subjects, want)
	fault(c.Storage != jetstream.FileStorage, "storage is %s, want File", c.Storage)
	fault(c.Retention != jetstream.LimitsPolicy, "retention is %s, want Limits", c.Retention)
	fault(c.Discard != jetstream.DiscardNew, "discard is %s, want New: the old are the events", c.Discard)
	fault(c.MaxAge > 0, "max_age is %v, want none", c.MaxAge)
	fault(c.MaxMsgs > 0, "max_msgs is %d, want none", c.MaxMsgs)
	fault(c.MaxMsgsPerSubject > 0, "max_msgs_per_subject is %d, want none: it is the length of a stream", c.MaxMsgsPerSubject)
	fault(c.PersistMode == jetstream.AsyncPersistMode, "persist_mode is async, want the default")
	fault(!c.AllowAtomicPublish, "allow_atomic is off, want on (the servers must be of version 2.12 or later)")
	fault(!c.AllowDirect, "allow_direct is off, want on")
	fault(c.DenyPurge, "deny_purge is on, want off: truncating and deleting purge")
	fault(c.Sealed, "the stream is sealed")
	fault(c.NoAck, "no_ack is on, want off")
	fault(c.AllowMsgCounter, "allow_msg_counter is on, want off")
	fault(c.Mirror != nil, "the stream is a mirror")
	fault(len(c.Sources) > 0, "the stream has sources")
	fault(c.SubjectTransform != nil, "the stream has a subject transform")
	fault(replicas > 0 && c.Replicas != replicas, "replicas are %d, want %d", c.Replicas, replicas)
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrConfig, strings.Join(faults, "; "))
	}
	return nil
}
