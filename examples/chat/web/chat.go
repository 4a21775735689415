package web

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/examples/internal/asset"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/pubsub"
)

// Chat is the chat on a store. It is an [http.Handler].
type Chat struct {
	app      *levada.App
	store    *eventstore.Store
	model    projection.Memory[Model]
	bus      *pubsub.Bus
	presence *presence.Presence
	site     *live.Site
	handler  http.Handler
}

// Lobby is the room that is always there.
const Lobby = "lobby"

// The host says welcome.
const (
	hostID   = "host"
	hostName = "levada"
	welcome  = "Welcome to the **lobby**!\n\n" +
		"Your name is made up: press it to change it. *Shift-Enter* begins a new line, and " +
		"`code`, **bold**, *italic* and links such as https://go.dev look as they should.\n\n" +
		"Every address is a room: go to /anything and it is there. Open this page in a second browser to have company."
)

// Options change how a Chat works. The zero Options are the defaults.
type Options struct {
	// Presence connects it to the chats of other processes on the same store, so that all see who is in a room. Nil:
	// it sees its own people.
	Presence presence.Transport
	// Secret signs the pages; those processes have the same. See [live.Options].
	Secret []byte
	Logger *slog.Logger // nil means [slog.Default]
}

// Open returns a chat on a store, with a lobby in it. It shows what is in the store once Run runs and [Chat.Ready] has
// returned. Other processes may have a chat on the same store, if it lets them. The store stays the caller's to close.
func Open(ctx context.Context, store *eventstore.Store, opt *Options) (_ *Chat, err error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	// What wakes the pages need not leave the process: each follows the store itself.
	c := &Chat{store: store, bus: pubsub.Local()}
	c.app, err = levada.New(store, levada.Config{
		Aggregates:  []aggregate.Opener{room.Type, person.Type},
		Projections: []projection.Runner{c.projection()},
		Logger:      log,
	})
	if err != nil {
		return nil, err
	}
	if c.presence, err = presence.New(&presence.Options{Transport: o.Presence, Logger: log}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.presence.Close()
		}
	}()
	if c.site, err = live.NewSite(&live.Options{Layout: layout, Error: lost, Secret: o.Secret, Logger: log, Explain: refusal}); err != nil {
		return nil, err
	}
	live.Handle(c.site, "/{$}", c.homeView())
	live.Handle(c.site, "/{room}", c.roomView())
	live.Handle(c.site, "/dm/{pair}", c.roomView())
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", asset.New(files))
	mux.Handle("GET /favicon.ico", http.RedirectHandler("/assets/icon.svg", http.StatusFound))
	mux.HandleFunc("GET /healthz", c.health)
	mux.Handle("/", identify(c.site))
	c.handler = guard(mux)
	_, err = c.app.Dispatch(ctx, room.Open{Room: Lobby, By: hostID, Name: hostName, Welcome: welcome, At: time.Now()})
	if err != nil {
		return nil, fmt.Errorf("chat: the lobby cannot be opened: %w", err)
	}
	return c, nil
}

// Run keeps the read model until ctx ends.
func (c *Chat) Run(ctx context.Context) error { return c.app.Run(ctx) }

// Ready returns when the read model shows all that is in the store now.
func (c *Chat) Ready(ctx context.Context) error {
	head, err := c.store.Head(ctx)
	if err != nil {
		return err
	}
	return c.app.Group.Wait(ctx, head)
}

// ServeHTTP implements [http.Handler].
func (c *Chat) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

// Shutdown ends all pages, which come back when there is a server again, and returns when they have ended or ctx has.
func (c *Chat) Shutdown(ctx context.Context) error {
	err := c.site.Shutdown(ctx, 0)
	return errors.Join(err, c.presence.Close(), c.bus.Close())
}

func (c *Chat) health(w http.ResponseWriter, r *http.Request) {
	if err := c.app.Healthy(r.Context()); err != nil {
		http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// policy is what pages may do: load what this server has, and talk to it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard tells browsers what the pages do not need to be able to do.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// refusals are the errors that are told to the user as they are.
var refusals = []error{
	room.ErrNoRoom, room.ErrNotMember, room.ErrBadID, room.ErrNoPerson, room.ErrNoMessage, room.ErrTooOld, room.ErrNotYours,
	room.ErrDeleted, room.ErrNoReaction, room.ErrEmpty, room.ErrTooLong, room.ErrLines, room.ErrNotText,
	person.ErrNoName, person.ErrTooSoon,
}

// refusal returns what a user is told of an error, or "" for one that is not the user's business.
func refusal(err error) string {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return sentence(r.Error())
		}
	}
	var fast *room.TooFastError
	if errors.As(err, &fast) {
		return sentence(fast.Error())
	}
	return ""
}

// sentence makes an error a sentence.
func sentence(s string) string {
	c, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(c)) + s[n:] + "."
}

// atField shows a refusal at a field of a form. Other errors stay as they are.
func atField(field string, err error) error {
	if text := refusal(err); text != "" {
		return live.Errors{field: text}
	}
	return err
}

// patience bounds how long an event of a page waits for the store and the model.
const patience = 10 * time.Second

// do executes a command and waits until the model shows what came of it. That it shows it late is no error: what
// is stored will be shown.
func (c *Chat) do(ctx context.Context, cmd command.Command) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := c.app.Dispatch(ctx, cmd, command.Wait(modelName))
	if errors.Is(err, command.ErrNotAwaited) {
		return nil
	}
	return err
}

// later executes a command that nobody waits for.
func (c *Chat) later(cmd command.Command) { c.app.Submit(context.Background(), cmd) }

// newID returns a new id for a message, as browsers make them.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
