package process_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// What happens to orders. Whoever orders gives an address; a Whispered is about Who as a whole.
type (
	Booked struct {
		Order, User string
		Address     string `shred:"User"`
	}
	Noticed struct {
		Order, User string
		Remark      string `shred:"User"`
	}
	Whispered struct{ Order, Who, Words string }
	Unbooked  struct{ Order string }
)

// What is done about them. A Label's text is sealed with its own tag, a Mail is for whom the order is.
type (
	Mail  struct{ Order, To string }
	Label struct {
		Order, User string
		Text        string `shred:"User"`
	}
)

func (c Mail) AggregateID() string  { return c.Order }
func (c Label) AggregateID() string { return c.Order }

// A Folder remembers everything that it is told.
type Folder struct{ Told []string }

const shortly = 10 * time.Second

func (o *Folder) ordered(e Booked) []command.Command {
	o.Told = append(o.Told, "ordered to "+e.Address)
	return []command.Command{
		Mail{e.Order, e.Address}, process.After(shortly, Mail{e.Order, "again to " + e.Address}),
		process.After(2*shortly, Label{e.Order, "printer", "for everybody"}),
	}
}

func (o *Folder) noticed(e Noticed) []command.Command {
	o.Told = append(o.Told, "noticed "+e.Remark)
	return []command.Command{Mail{e.Order, e.Remark}}
}

func (o *Folder) whispered(e Whispered) []command.Command {
	o.Told = append(o.Told, "heard "+e.Words)
	return nil
}

func (o *Folder) refused(c Mail, err error) []command.Command {
	text := err.Error()
	if errors.Is(err, eventstore.ErrErased) {
		text = "erased"
	}
	o.Told = append(o.Told, "not to "+c.To+": "+text)
	return []command.Command{Label{c.Order, "printer", "sorry"}}
}

func orders() *process.Type[Folder] {
	return &process.Type[Folder]{
		Name: "order",
		Routes: []process.Route[Folder]{
			process.Start(func(e Booked) string { return e.Order }, (*Folder).ordered),
			process.On(func(e Noticed) string { return e.Order }, (*Folder).noticed),
			process.On(func(e Whispered) string { return e.Order }, (*Folder).whispered),
			process.End(func(e Unbooked) string { return e.Order }, func(*Folder, Unbooked) []command.Command { return nil }),
			process.Refused((*Folder).refused),
		},
		Commands: map[string]command.Command{"mail": Mail{}, "label": Label{}},
	}
}

// A post executes what it is sent.
type post struct {
	mu   sync.Mutex
	done []command.Command
	fail func(c command.Command) (refused bool, err error)
}

func (p *post) HandleCommand(_ context.Context, e *command.Envelope) (command.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		if refused, err := p.fail(e.Command); err != nil {
			return command.Result{Refused: refused}, err
		}
	}
	p.done = append(p.done, e.Command)
	return command.Result{Stream: "post-1", Version: 1, Position: 1}, nil
}

func (p *post) take() []command.Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := p.done
	p.done = nil
	return done
}

// An office runs orders on a store that seals.
type office struct {
	*lab
	post   *post
	sealer *shred.Sealer
	log    *lines
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func openOffice(t testing.TB, d driver.Store, keys shred.Keys, p *post, runners ...projection.Runner) *office {
	o := &office{post: p, log: &lines{}}
	o.sealer = shred.New(keys, &shred.Options{Remember: time.Second, Subject: func(e *eventstore.Event) string {
		if w, ok := e.Data.(Whispered); ok {
			return w.Who
		}
		return ""
	}})
	o.lab = &lab{store: eventstore.New(d, &eventstore.Options{Logger: quiet, Seal: o.sealer})}
	for name, e := range map[string]any{"ordered": Booked{}, "noticed": Noticed{}, "whispered": Whispered{}, "order.ended": Unbooked{}} {
		require.NoError(t, o.store.Types.Register(name, e))
	}
	o.group = &projection.Group{Store: o.store, Logger: slog.New(slog.NewTextHandler(o.log, nil))}
	if len(runners) == 0 {
		runners = []projection.Runner{orders().Open(p)}
	}
	require.NoError(t, o.group.Add(append(runners, &schedule.Timers{})...))
	return o
}

func newOffice(t *testing.T, p *post, runners ...projection.Runner) *office {
	t.Helper()
	o := openOffice(t, memstore.NewDriver(), &shred.Memory{}, p, runners...)
	o.t = t
	o.run()
	return o
}

func (o *office) order(t *testing.T, id string) process.Instance {
	t.Helper()
	in, err := process.Read(t.Context(), o.store, "order", id)
	require.NoError(t, err)
	return in
}

// stored returns everything that the store has but the events themselves.
func stored(t testing.TB, s *eventstore.Store) string {
	var all strings.Builder
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{System: true}, 0) {
		require.NoError(t, err)
		all.Write(r.Raw)
		all.WriteByte('\n')
	}
	return all.String()
}

var annsOrder = Booked{"1", "ann", "Elm St 5"}

func TestNothingThatAProcessKeepsIsInTheClear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &post{fail: func(c command.Command) (bool, error) {
			if s, ok := c.(Mail); ok && s.To == "Oak St 7" {
				return true, errors.New("there is no " + s.To)
			}
			return false, nil
		}}
		o := newOffice(t, p)
		o.happen(annsOrder, Noticed{"1", "bob", "Oak St 7"}, Whispered{"1", "cid", "Ash St 9"})
		in := o.order(t, "1")
		require.Equal(t, `{"Told":["ordered to Elm St 5","noticed Oak St 7","not to Oak St 7: there is no Oak St 7","heard Ash St 9"]}`, string(in.State))
		require.JSONEq(t, `{"Order":"1","To":"again to Elm St 5"}`, string(in.Timers[0].Data))
		all := stored(t, o.store)
		for _, secret := range []string{"Elm", "Oak", "Ash"} {
			require.NotContains(t, all, secret)
		}
		require.Contains(t, all, "$process", "what is there was looked at")
	})
}

func TestAnInstanceWhoseStateIsErasedGoesOnFromWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &post{}
			d, keys := memstore.NewDriver().(everything), &shred.Memory{}
			o := openOffice(t, shared{d}, keys, p)
			o.t = t
			o.run()
			o.happen(annsOrder, Noticed{"1", "bob", "ring twice"}, Whispered{"1", "ann", "and softly"}, Booked{"2", "bob", "Oak St 7"})
			p.take()
			require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
			if restart {
				require.NoError(t, o.stop())
				o = openOffice(t, shared{d}, keys, p)
				o.t = t
				o.run()
			}
			in := o.order(t, "1")
			require.True(t, in.Erased)
			require.Nil(t, in.State)
			require.Equal(t, process.Running, in.Status)
			other := o.order(t, "2")
			require.False(t, other.Erased)
			require.Equal(t, `{"Told":["ordered to Oak St 7"]}`, string(other.State), "nobody else is concerned")

			o.happen(Noticed{"1", "bob", "or thrice"})
			require.Equal(t, []command.Command{Mail{"1", "or thrice"}}, p.take(), "what was sent is not sent again")
			in = o.order(t, "1")
			require.False(t, in.Erased)
			require.Equal(t, `{"Told":["ordered to ","noticed ring twice","noticed or thrice"]}`, string(in.State))
			require.Contains(t, o.log.String(), "made anew")

			o.happen(Noticed{"1", "bob", "or not"})
			require.Equal(t, 1, strings.Count(o.log.String(), "made anew"), "once is enough")
			require.NoError(t, o.sealer.Shred(t.Context(), "bob"))
			require.True(t, o.order(t, "1").Erased)
			o.happen(Noticed{"1", "cid", "hello"})
			require.Equal(t, `{"Told":["ordered to ","noticed ","noticed ","noticed ","noticed hello"]}`, string(o.order(t, "1").State))
			o.happen(Unbooked{"1"})
			require.Equal(t, process.Ended, o.order(t, "1").Status)
			require.Zero(t, o.status("order").Stuck)
		})
	}
}

func TestHistoryTellsWhatWasErased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, &post{})
		o.happen(annsOrder, Noticed{"1", "bob", "ring twice"})
		require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
		var erased []bool
		for e, err := range process.History(t.Context(), o.store, "order", "1") {
			require.NoError(t, err)
			require.True(t, e.Erased)
			require.Nil(t, e.State)
			for _, s := range e.Sent {
				require.Equal(t, process.Done, s.Outcome)
				require.Nil(t, s.Command)
				require.Equal(t, "1", s.Aggregate)
				erased = append(erased, s.Erased)
			}
			require.True(t, e.Timers[0].Erased)
			require.Nil(t, e.Timers[0].Data)
			require.False(t, e.Timers[1].Erased, "which says by itself whose it is")
		}
		require.Equal(t, []bool{true, true}, erased, "the second is of a state that had hers")
		for in, err := range process.Instances(t.Context(), o.store, "order", process.Running) {
			require.NoError(t, err)
			require.True(t, in.Erased)
			require.True(t, in.Timers[0].Erased)
		}
	})
}

func TestATimerWhoseCommandIsErasedIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, &post{})
		o.happen(annsOrder)
		o.post.take()
		require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
		time.Sleep(shortly)
		synctest.Wait()
		require.Empty(t, o.post.take())
		require.Contains(t, o.log.String(), "was erased, and is left out")
		in := o.order(t, "1")
		require.Equal(t, process.Running, in.Status)
		require.Len(t, in.Timers, 1)
		var last process.Entry
		for e, err := range process.History(t.Context(), o.store, "order", "1") {
			require.NoError(t, err)
			last = e
		}
		require.NotEmpty(t, last.Event.Timer)
		require.Equal(t, []process.Sent{{Path: "0", Type: "process_test.Mail", Outcome: process.Skipped, Erased: true, Error: eventstore.ErrErased.Error()}}, last.Sent)
		time.Sleep(shortly)
		synctest.Wait()
		require.Equal(t, []command.Command{Label{"1", "printer", "for everybody"}}, o.post.take(), "the other one is nobody's but the printer's")
		require.Zero(t, o.status("order").Stuck)
	})
}

func TestATimerOfTheErasedCanBeTakenBackByTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, &post{})
		o.happen(annsOrder)
		require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
		o.happen(Unbooked{"1"})
		o.post.take()
		time.Sleep(3 * shortly)
		synctest.Wait()
		require.Empty(t, o.post.take())
		require.Equal(t, []string{"$process.handled", "$process.ended"}, whats(t, o, "1"))
	})
}

func whats(t *testing.T, o *office, id string) (list []string) {
	for e, err := range process.History(t.Context(), o.store, "order", id) {
		require.NoError(t, err)
		list = append(list, e.What)
	}
	return list
}

// The refusal is recorded, the compensation fails, the person is erased, and then the compensation goes well.
func TestCompensationGoesOnAfterAnErasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &post{}
		down := true
		p.fail = func(c command.Command) (bool, error) {
			switch c.(type) {
			case Mail:
				return true, errors.New("nobody lives at Elm St 5")
			default:
				if down {
					return false, errBroken
				}
			}
			return false, nil
		}
		o := newOffice(t, p)
		o.happen(annsOrder)
		require.Equal(t, []string{"$process.refused"}, whats(t, o, "1"))
		require.NotContains(t, stored(t, o.store), "Elm")
		require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
		for e, err := range process.History(t.Context(), o.store, "order", "1") {
			require.NoError(t, err)
			require.Equal(t, eventstore.ErrErased.Error(), e.Sent[0].Error)
			require.True(t, e.Sent[0].Erased)
		}
		p.mu.Lock()
		down = false
		p.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []command.Command{Label{"1", "printer", "sorry"}}, p.take())
		in := o.order(t, "1")
		require.Equal(t, process.Running, in.Status)
		require.Equal(t, `{"Told":["ordered to ","not to : erased"]}`, string(in.State), "the event is what is left of it")

		// And what was refused is known to have been when the state is made anew.
		o.happen(Noticed{"1", "bob", "x"})
		require.NoError(t, o.sealer.Shred(t.Context(), "bob"))
		p.take()
		o.happen(Whispered{"1", "cid", "y"})
		require.Equal(t, `{"Told":["ordered to ","not to : erased","noticed ","not to : erased","heard y"]}`, string(o.order(t, "1").State))
		require.Empty(t, p.take())
	})
}

func TestAStuckInstanceGoesOnAfterAnErasure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		event any // that it is stuck at
		sent  []command.Command
		state string
	}{
		{"at an event of which something is left", Noticed{"1", "ann", "Elm St 5"}, []command.Command{Mail{"1", ""}}, `{"Told":["ordered to Oak St 7","noticed ","noticed later"]}`},
		{"at an event that is erased", Whispered{"1", "ann", "Elm St 5"}, nil, `{"Told":["ordered to Oak St 7","noticed later"]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &post{}
				typ := orders()
				typ.Routes = typ.Routes[:len(typ.Routes)-1] // no Refused
				hear := true
				typ.Routes[2] = process.On(func(e Whispered) string { return e.Order }, func(o *Folder, e Whispered) []command.Command {
					if hear {
						panic("I do not want to hear of " + e.Words)
					}
					return o.whispered(e)
				})
				typ.OnError = func(f process.Failure) process.Action { return process.Park() }
				p.fail = func(c command.Command) (bool, error) {
					if s, ok := c.(Mail); ok && s.To == "Elm St 5" {
						return true, errors.New("no way to " + s.To)
					}
					return false, nil
				}
				o := newOffice(t, p, typ.Open(p))
				o.happen(Booked{"1", "bob", "Oak St 7"}, tt.event, Noticed{"1", "bob", "later"})
				p.take()
				in := o.order(t, "1")
				require.Equal(t, process.Stuck, in.Status)
				require.Contains(t, in.Error, "Elm St 5")
				require.Equal(t, 1, in.Waiting)
				require.NotContains(t, stored(t, o.store), "Elm")

				require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
				in = o.order(t, "1")
				require.Equal(t, process.Stuck, in.Status)
				require.Equal(t, eventstore.ErrErased.Error(), in.Error)
				require.Equal(t, 1, o.status("order").Stuck)
				_, err := process.RetryStuck(t.Context(), o.store, "order", "1")
				require.NoError(t, err)
				synctest.Wait()
				require.Equal(t, append(tt.sent, Mail{"1", "later"}), p.take())
				in = o.order(t, "1")
				require.Equal(t, process.Running, in.Status)
				require.Equal(t, tt.state, string(in.State))
			})
		})
	}
}

func TestAStuckInstanceWithAnErasedStateCanBeSkippedAndCancelled(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(context.Context, *eventstore.Store, string, string) (eventstore.Position, error){
		"skip": process.SkipStuck, "cancel": process.CancelStuck, "retry": process.RetryStuck,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &post{}
				typ := orders()
				typ.OnError = func(f process.Failure) process.Action { return process.Park() }
				broken := true
				p.fail = func(c command.Command) (bool, error) {
					if s, ok := c.(Mail); ok && s.To == "x" && broken {
						return false, errBroken
					}
					return false, nil
				}
				o := newOffice(t, p, typ.Open(p))
				o.happen(annsOrder, Noticed{"1", "bob", "x"})
				require.Equal(t, process.Stuck, o.order(t, "1").Status)
				require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
				require.True(t, o.order(t, "1").Erased)
				p.mu.Lock()
				broken = false
				p.mu.Unlock()
				_, err := decide(t.Context(), o.store, "order", "1")
				require.NoError(t, err)
				synctest.Wait()
				o.happen(Noticed{"1", "cid", "z"})
				in := o.order(t, "1")
				switch name {
				case "cancel":
					require.Equal(t, process.Ended, in.Status)
				case "skip":
					require.Equal(t, `{"Told":["ordered to ","noticed z"]}`, string(in.State))
				case "retry":
					require.Equal(t, `{"Told":["ordered to ","noticed x","noticed z"]}`, string(in.State))
				}
			})
		})
	}
}

func TestACommandAboutSomebodyErasedIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &post{fail: func(c command.Command) (bool, error) {
			if s, ok := c.(Mail); ok && s.To == "" {
				return false, errors.Join(eventstore.ErrCodec, eventstore.ErrErased) // as an append of hers fails
			}
			return false, nil
		}}
		o := newOffice(t, p)
		require.NoError(t, o.sealer.Shred(t.Context(), "dan"))
		o.happen(Noticed{"1", "bob", "passes over"}, Booked{"1", "eve", ""})
		in := o.order(t, "1")
		require.Equal(t, process.Running, in.Status)
		require.Len(t, in.Timers, 2, "what comes after it is done")
		require.Contains(t, o.log.String(), "somebody who was erased")
		for e, err := range process.History(t.Context(), o.store, "order", "1") {
			require.NoError(t, err)
			require.Equal(t, process.Skipped, e.Sent[0].Outcome)
		}
	})
}

// A Card knows by its tags what of it is whose.
type Card struct {
	User    string
	Address string `shred:"User"`
	Count   int
}

func cards() *process.Type[Card] {
	return &process.Type[Card]{
		Name: "order",
		Routes: []process.Route[Card]{
			process.Start(func(e Booked) string { return e.Order }, func(c *Card, e Booked) []command.Command {
				c.User, c.Address = e.User, e.Address
				return nil
			}),
			process.On(func(e Noticed) string { return e.Order }, func(c *Card, e Noticed) []command.Command {
				c.Count++
				return []command.Command{Label{e.Order, c.User, c.Address}}
			}),
		},
	}
}

func TestOfAStateWithTagsOnlyTheFieldsAreErased(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &post{}
		o := newOffice(t, p, cards().Open(p))
		o.happen(annsOrder, Noticed{"1", "bob", "x"})
		require.Equal(t, `{"Address":"Elm St 5","Count":1,"User":"ann"}`, string(o.order(t, "1").State))
		require.NotContains(t, stored(t, o.store), "Elm")
		require.NoError(t, o.sealer.Shred(t.Context(), "bob"))
		require.False(t, o.order(t, "1").Erased, "it has nothing of his")
		require.NoError(t, o.sealer.Shred(t.Context(), "ann"))
		p.take()
		o.happen(Noticed{"1", "cid", "y"})
		in := o.order(t, "1")
		require.False(t, in.Erased)
		require.JSONEq(t, `{"User":"ann","Count":2}`, string(in.State), "kept without her address")
		require.Equal(t, []command.Command{Label{"1", "ann", ""}}, p.take())
		require.NotContains(t, o.log.String(), "made anew")
	})
}

func TestTagsOfAStateAreCheckedWhenItIsAdded(t *testing.T) {
	t.Parallel()
	type wrong struct {
		Address string `shred:"Nobody"`
	}
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: shred.New(&shred.Memory{}, nil)}})
	t.Cleanup(func() { _ = store.Close() })
	require.NoError(t, store.Types.Register("ordered", Booked{}))
	g := &projection.Group{Store: store, Logger: quiet}
	typ := &process.Type[wrong]{Name: "w", Routes: []process.Route[wrong]{
		process.Start(func(e Booked) string { return e.Order }, func(*wrong, Booked) []command.Command { return nil }),
	}}
	require.ErrorContains(t, g.Add(typ.Open(&post{}), &schedule.Timers{}), "Nobody")
}

// Keys and events in SQLite, over a restart.
func TestErasureInSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := t.Context()
	p := &post{}
	open := func() (*office, *sqlitestore.Keys) {
		keys, err := sqlitestore.OpenKeys(filepath.Join(dir, "keys.db"))
		require.NoError(t, err)
		d, err := sqlitestore.OpenDriver(filepath.Join(dir, "log.db"), nil)
		require.NoError(t, err)
		o := openOffice(t, d, keys, p)
		o.t = t
		o.run()
		return o, keys
	}
	end := func(o *office, keys *sqlitestore.Keys) {
		require.NoError(t, o.stop())
		require.NoError(t, o.store.Close())
		require.NoError(t, keys.Close())
	}
	tell := func(o *office, e any) {
		at, err := o.store.Append(ctx, "source-1", eventstore.Any, eventstore.Event{Data: e})
		require.NoError(t, err)
		require.NoError(t, o.group.Wait(ctx, at.Position, "order"))
	}
	o, keys := open()
	tell(o, annsOrder)
	tell(o, Noticed{"1", "bob", "ring twice"})
	require.NotContains(t, stored(t, o.store), "Elm")
	require.NoError(t, o.sealer.Shred(ctx, "ann"))
	end(o, keys)
	o, keys = open()
	require.True(t, o.order(t, "1").Erased)
	tell(o, Noticed{"1", "bob", "or thrice"})
	require.Equal(t, `{"Told":["ordered to ","noticed ring twice","noticed or thrice"]}`, string(o.order(t, "1").State))
	end(o, keys)
}

// Whoever is erased whenever, no instance is ever held up, nothing of the erased can be read, and everything of all others can.
func TestOnlyTheErasedIsMissing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		users := []string{"ann", "bob", "cid", "dan"}
		who, order := rapid.SampledFrom(users), rapid.SampledFrom([]string{"1", "2"})
		type act struct {
			kind      int
			who, id   string
			throughMe bool
		}
		acts := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) act {
			return act{rapid.IntRange(0, 5).Draw(r, "kind"), who.Draw(r, "who"), order.Draw(r, "order"), rapid.Bool().Draw(r, "through me")}
		}), 1, 20).Draw(r, "acts")
		synctest.Test(t, func(t *testing.T) {
			keys := &shred.Memory{}
			p := &post{fail: func(c command.Command) (bool, error) {
				s, ok := c.(Mail)
				return ok && strings.Contains(s.To, "0"), map[bool]error{true: errRefused}[ok && strings.Contains(s.To, "0")]
			}}
			o := openOffice(t, memstore.NewDriver(), keys, p)
			o.t = t
			o.run()
			gone := map[string]bool{}
			told := map[string][]string{} // by order, in the words of the state; the user first
			begun := map[string]bool{}
			for n, a := range acts {
				secret := a.who + strings.Repeat("0", n%2) + "secret" + string(rune('a'+n))
				switch {
				case a.kind == 0:
					if a.throughMe {
						require.NoError(t, o.sealer.Shred(t.Context(), a.who))
					} else { // another process does, and this one remembers the key for a while
						require.NoError(t, keys.Shred(t.Context(), a.who))
						time.Sleep(time.Second)
						synctest.Wait()
					}
					gone[a.who] = true
				case gone[a.who]:
				case a.kind == 1:
					o.happen(Booked{a.id, a.who, secret})
					begun[a.id] = true
					told[a.id] = append(told[a.id], secret)
				case a.kind == 2:
					o.happen(Whispered{a.id, a.who, secret})
				case a.kind == 3:
					o.happen(Unbooked{a.id})
					begun[a.id], told[a.id] = false, nil
				default:
					o.happen(Noticed{a.id, a.who, secret})
				}
				if a.kind == 2 || a.kind > 3 {
					if begun[a.id] && !gone[a.who] {
						told[a.id] = append(told[a.id], secret)
					}
				}
			}
			o.happen(Booked{"1", "eve", "Z"}, Booked{"2", "eve", "Z"}) // after which every state is a new one
			for _, id := range []string{"1", "2"} {
				in := o.order(t, id)
				require.Equal(t, process.Running, in.Status)
				require.False(t, in.Erased)
				for user := range gone {
					require.NotContains(t, string(in.State), user+"secret")
					require.NotContains(t, string(in.State), user+"0secret")
				}
				for _, secret := range told[id] {
					user := strings.TrimRight(strings.SplitN(secret, "secret", 2)[0], "0")
					require.Equal(t, !gone[user], strings.Contains(string(in.State), secret), "%s in %s", secret, in.State)
				}
			}
			require.Zero(t, o.status("order").Stuck)
			require.NoError(t, o.stop())
		})
	})
}
