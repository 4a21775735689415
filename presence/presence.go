package presence

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits that hold for every node, whatever its Options say.
const (
	MaxNameBytes  = 256      // of a topic, a key, or the name of a node
	MaxMetaBytes  = 64 << 10 // of the JSON of one meta
	MaxFrameBytes = 1 << 20  // of one frame
)

var (
	// ErrInvalid reports a topic, key, meta or option outside its limits.
	ErrInvalid = errors.New("presence: invalid")
	// ErrTracked reports that the connection already tracks the key in the topic.
	ErrTracked = errors.New("presence: already tracked")
	// ErrNotTracked reports that the connection does not track the key in the topic.
	ErrNotTracked = errors.New("presence: not tracked")
	// ErrClosed reports that the Presence, the Conn or the Diffs was closed.
	ErrClosed = errors.New("presence: closed")
)

// Ref names one tracked entry among all entries of all nodes. It stays the same when
// the entry is updated. Refs made on one node sort in the order they were made.
type Ref uuid.UUID

// String returns the ref in the form of a UUID.
func (r Ref) String() string { return uuid.UUID(r).String() }

// Meta is what one connection says about its key. Two Metas are == if and only if
// they are the same version of the same entry, or versions that say the same.
type Meta struct {
	Ref  Ref
	Node string // the node that holds the connection
	JSON string // what was given to Track or Update, encoded
}

// Decode unmarshals the JSON of the meta into v.
func (m Meta) Decode(v any) error {
	if err := json.Unmarshal([]byte(m.JSON), v); err != nil {
		return fmt.Errorf("presence: decode meta: %w", err)
	}
	return nil
}

// Present is a key with its metas, one for each connection that tracks it: a user
// with three tabs open is one Present with three metas. Metas are sorted by Ref.
type Present struct {
	Key   string
	Metas []Meta
}

// Options configures a Presence. The zero value of a field means its default.
type Options struct {
	// Node names this node among those of the Transport. A node that restarts under its
	// old name replaces its old self at once; under another name, the old one is shown
	// until Down has passed. Two live nodes must not share a name. Default: a random UUID.
	Node string
	// Transport connects this node to others. Default: none, this node is alone.
	Transport Transport
	// Logger is told of bad frames and of nodes that come and go. Default: slog.Default().
	Logger *slog.Logger

	// Grace is for how long the entries of a closed Conn are kept for its successor
	// before they leave. Default 2 s; negative: they leave at once.
	Grace time.Duration
	// Flush is for how long a change waits for others to share its frame. Default 50 ms.
	Flush time.Duration
	// Heartbeat is the time, ±25 %, between looks at whether others must be told where
	// this node stands: they are after changes, so that a lost frame shows. Default 1 s.
	Heartbeat time.Duration
	// Idle is the longest silence of a node to which nothing happens, within one
	// Heartbeat. Default 3 s.
	Idle time.Duration
	// Down is after which silence the users of another node are taken for gone. They
	// come back if it is heard again. At least twice Idle + Heartbeat. Default 10 s.
	Down time.Duration
	// PermDown is after which silence another node is forgotten. More than Down. Default 5 min.
	PermDown time.Duration

	// MetaBytes bounds the JSON of one meta, up to MaxMetaBytes. Default 4 KiB.
	MetaBytes int
	// FrameBytes is what a frame is cut at, from MetaBytes + 2 KiB to MaxFrameBytes. Default 512 KiB.
	FrameBytes int
	// Log is how many changes are kept for those who missed some; who missed more is
	// sent everything. Default 1,000.
	Log int
	// Linger makes Close say nothing to the others: they show the users of this node until
	// Down has passed, which bridges a rolling restart under the same name.
	Linger bool
}

// Presence knows who is where. It is safe for concurrent use. It starts no
// goroutine: a timer does what is due.
type Presence struct {
	opts Options
	self string
	inc  uint64
	log  *slog.Logger
	rand func() uint64 // for jitter

	mu       sync.Mutex
	idle     sync.Cond // signalled when nothing is being sent
	closed   bool
	degraded bool
	topics   map[string]*topic  // what List answers from
	rows     map[string]*row    // by node, this one included
	fences   map[string]fence   // nodes that said bye
	tracked  map[Ref]*local     // the entries of own connections
	orphans  map[place][]*local // those whose connection is gone, in their time of grace
	queue    []leaving          // the same, by time
	changes  []change           // the last of the own row, ending with its seq
	work     work
	sending  bool
	flushAt  time.Time
	beatAt   time.Time
	spoke    time.Time // when others were last told the own seq
	sent     uint64    // the own seq up to which changes were broadcast
	beaten   uint64    // the own seq at the last heartbeat
	next     time.Time // when timer fires; zero: it does not
	timer    *time.Timer
}

// New returns a Presence and, if there is a Transport, starts it. It fails with
// ErrInvalid if the options contradict each other or their limits, and with the
// error of the Transport. A nil o means the defaults.
func New(o *Options) (*Presence, error) {
	return open(o, rand.Uint64)
}

func open(given *Options, random func() uint64) (*Presence, error) {
	var o Options
	if given != nil {
		o = *given
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	now := time.Now()
	p := &Presence{
		opts: o, self: o.Node, log: o.Logger.With("node", o.Node), rand: random,
		// Time makes a restart greater than what it replaces, chance tells two
		// starts within the same 65 µs apart.
		inc:     uint64(now.UnixNano())&^0xffff | random()&0xffff,
		topics:  map[string]*topic{},
		rows:    map[string]*row{},
		fences:  map[string]fence{},
		tracked: map[Ref]*local{},
		orphans: map[place][]*local{},
	}
	p.idle.L = &p.mu
	p.work.clear()
	p.rows[p.self] = &row{node: p.self, inc: p.inc, up: true, entries: map[Ref]entry{}}
	p.timer = time.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	if o.Transport == nil {
		return p, nil
	}
	if err := o.Transport.Start(p.self, p.receive, p.link); err != nil {
		return nil, fmt.Errorf("presence: start transport: %w", err)
	}
	p.mu.Lock()
	p.work.head = true
	p.beatAt = now.Add(p.jitter())
	p.wake(p.beatAt)
	p.mu.Unlock()
	p.send()
	return p, nil
}

// List returns who is present in the topic, sorted by key. The slices are the caller's.
func (p *Presence) List(topic string) []Present {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[topic]
	if t == nil {
		return nil
	}
	list := make([]Present, 0, len(t.keys))
	for key, metas := range t.keys {
		list = append(list, present(key, metas))
	}
	slices.SortFunc(list, func(a, b Present) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// GetByKey returns the key with its metas, and whether it is present in the topic.
func (p *Presence) GetByKey(topic, key string) (Present, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.topics[topic]; t != nil && len(t.keys[key]) > 0 {
		return present(key, t.keys[key]), true
	}
	return Present{}, false
}

// Degraded reports whether the transport is lost, so that List tells of the users of
// this node only. Every Diffs tells when this changes.
func (p *Presence) Degraded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.degraded
}

// Close tells the other nodes that the users of this one are gone (unless
// Options.Linger is set), stops the transport and ends all Diffs. List keeps
// answering with what was known. Close must not be called from within the transport.
// Closing again is a no-op.
func (p *Presence) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.timer.Stop()
	for _, t := range p.topics {
		for d := range t.diffs {
			d.end()
		}
	}
	p.work.clear()
	p.work.bye = p.opts.Transport != nil && !p.opts.Linger && !p.degraded
	p.mu.Unlock()
	p.send()

	p.mu.Lock()
	for p.sending {
		p.idle.Wait()
	}
	p.mu.Unlock()
	if p.opts.Transport == nil {
		return nil
	}
	if err := p.opts.Transport.Stop(); err != nil {
		return fmt.Errorf("presence: stop transport: %w", err)
	}
	return nil
}

// complete fills in the defaults and checks what was given.
func (o *Options) complete() error {
	o.Node = cmp.Or(o.Node, uuid.NewString())
	o.Grace = cmp.Or(o.Grace, 2*time.Second)
	o.Flush = cmp.Or(o.Flush, 50*time.Millisecond)
	o.Heartbeat = cmp.Or(o.Heartbeat, time.Second)
	o.Idle = cmp.Or(o.Idle, 3*time.Second)
	o.Down = cmp.Or(o.Down, 10*time.Second)
	o.PermDown = cmp.Or(o.PermDown, 5*time.Minute)
	o.MetaBytes = cmp.Or(o.MetaBytes, 4<<10)
	o.FrameBytes = cmp.Or(o.FrameBytes, 512<<10)
	o.Log = cmp.Or(o.Log, 1000)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := checkName("name of the node", o.Node); err != nil {
		return err
	}
	switch {
	case o.Flush < 0 || o.Heartbeat < 0 || o.Idle < 0:
		return fmt.Errorf("%w: Flush, Heartbeat and Idle must not be negative", ErrInvalid)
	case o.Down < 2*(o.Idle+o.Heartbeat):
		return fmt.Errorf("%w: Down %v is less than twice Idle + Heartbeat, %v: one lost frame would hide a node", ErrInvalid, o.Down, 2*(o.Idle+o.Heartbeat))
	case o.PermDown <= o.Down:
		return fmt.Errorf("%w: PermDown %v is not more than Down %v", ErrInvalid, o.PermDown, o.Down)
	case o.MetaBytes < 0 || o.MetaBytes > MaxMetaBytes:
		return fmt.Errorf("%w: MetaBytes %d is not within 1 and %d", ErrInvalid, o.MetaBytes, MaxMetaBytes)
	case o.FrameBytes < o.MetaBytes+2<<10 || o.FrameBytes > MaxFrameBytes:
		return fmt.Errorf("%w: FrameBytes %d is not within %d and %d", ErrInvalid, o.FrameBytes, o.MetaBytes+2<<10, MaxFrameBytes)
	case o.Log < 1:
		return fmt.Errorf("%w: Log %d is less than 1", ErrInvalid, o.Log)
	}
	return nil
}

func checkName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty %s", ErrInvalid, what)
	case len(s) > MaxNameBytes:
		return fmt.Errorf("%w: %s of %d bytes, limit %d", ErrInvalid, what, len(s), MaxNameBytes)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not UTF-8: %q", ErrInvalid, what, s)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: control character in %s %q", ErrInvalid, what, s)
		}
	}
	return nil
}

func present(key string, metas map[id]Meta) Present {
	return Present{Key: key, Metas: slices.SortedFunc(maps.Values(metas), func(a, b Meta) int {
		return cmp.Or(slices.Compare(a.Ref[:], b.Ref[:]), cmp.Compare(a.Node, b.Node))
	})}
}
