package aggregatetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// Shared checks that aggregates of two processes that share a store are as those
// of one: whichever is asked, it answers from what happened at either, though each
// keeps aggregates in memory. It is for tests of drivers whose Limits are not
// Exclusive. open returns two stores on one new log, as two processes have them,
// and closes them with t.Cleanup.
//
// Most of all, a refusal is a fact: if money was deposited at the other process,
// a withdrawal must not be refused for want of it.
func Shared(t *testing.T, open func(t testing.TB) (a, b *eventstore.Store)) {
	s := newProcesses(t, open)
	for _, test := range sharedTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s)
		})
	}
}

// The aggregate of these tests: an account that is never overdrawn.
type account struct{ Balance int }

type (
	deposited struct{ Amount int }
	withdrawn struct{ Amount int }
)

func (e deposited) Apply(a *account) { a.Balance += e.Amount }
func (e withdrawn) Apply(a *account) { a.Balance -= e.Amount }

var errPoor = errors.New("not enough money")

type deposit struct {
	Account string
	Amount  int
}

func (c deposit) AggregateID() string { return c.Account }

func (c deposit) Execute(account) ([]aggregate.Event[account], error) {
	return []aggregate.Event[account]{deposited{c.Amount}}, nil
}

type withdraw struct {
	Account string
	Amount  int
}

func (c withdraw) AggregateID() string { return c.Account }

func (c withdraw) Execute(a account) ([]aggregate.Event[account], error) {
	if a.Balance < c.Amount {
		return nil, errPoor
	}
	return []aggregate.Event[account]{withdrawn{c.Amount}}, nil
}

// A drain withdraws what there is, which may be nothing.
type drain struct{ Account string }

func (c drain) AggregateID() string { return c.Account }

func (c drain) Execute(a account) ([]aggregate.Event[account], error) {
	if a.Balance == 0 {
		return nil, nil
	}
	return []aggregate.Event[account]{withdrawn{a.Balance}}, nil
}

// processes are two that share a log.
type processes [2]*aggregate.Repository[account]

func newProcesses(t testing.TB, open func(t testing.TB) (a, b *eventstore.Store)) (p processes) {
	t.Helper()
	a, b := open(t)
	for i, s := range []*eventstore.Store{a, b} {
		var err error
		p[i], err = aggregate.New(s, &aggregate.Type[account]{
			Name:          "account",
			Events:        aggregate.Events[account]{"deposited": deposited{}, "withdrawn": withdrawn{}},
			SnapshotEvery: 7,
		})
		require.NoError(t, err)
	}
	return p
}

// done executes a command at a process, which must accept it.
func (p processes) done(t require.TestingT, at int, c aggregate.Command[account], opts ...command.Option) command.Result {
	res, err := p[at].Execute(context.Background(), c, opts...)
	require.NoError(t, err, "process %d: %+v", at, c)
	return res
}

// sees checks what a process shows of an account.
func (p processes) sees(t require.TestingT, at int, id string, balance int, version eventstore.Version) {
	require.NoError(t, p[at].View(context.Background(), id, func(a *account, v eventstore.Version) {
		require.Equal(t, balance, a.Balance, "process %d", at)
		require.Equal(t, version, v, "process %d", at)
	}))
}

// random names the test that makes histories up, and simplifies one that fails.
const random = "whichever is asked, the answer is that of one"

var sharedTests = []struct {
	name string
	run  func(t testing.TB, p processes)
}{
	{"a withdrawal is not refused after a deposit elsewhere", func(t testing.TB, p processes) {
		p.done(t, 0, deposit{"refused", 10})
		for i := range 20 { // each in turn is the one that has an old state in memory
			here, there := i%2, 1-i%2
			_, err := p[here].Execute(t.Context(), withdraw{"refused", 11})
			require.ErrorIs(t, err, errPoor)
			p.done(t, there, deposit{"refused", 1})
			p.done(t, here, withdraw{"refused", 11})
			p.done(t, here, deposit{"refused", 10})
		}
		p.sees(t, 1, "refused", 10, 61)
	}},
	{"a withdrawal is refused after another elsewhere", func(t testing.TB, p processes) {
		p.done(t, 0, deposit{"spent", 1})
		p.sees(t, 1, "spent", 1, 1)
		p.done(t, 0, withdraw{"spent", 1})
		res, err := p[1].Execute(t.Context(), withdraw{"spent", 1})
		require.ErrorIs(t, err, errPoor)
		require.True(t, res.Refused, "by the account, not by a conflict")
	}},
	{"nothing to do is not said of an old state", func(t testing.TB, p processes) {
		p.done(t, 0, deposit{"drained", 5})
		for i := range 10 {
			here, there := i%2, 1-i%2
			p.done(t, here, drain{"drained"})
			require.Empty(t, p.done(t, here, drain{"drained"}).Events)
			p.done(t, there, deposit{"drained", 3})
			require.Equal(t, []any{withdrawn{3}}, p.done(t, here, drain{"drained"}).Events)
			p.done(t, there, deposit{"drained", 1})
		}
	}},
	{"a view shows what was done elsewhere", func(t testing.TB, p processes) {
		for i := range 20 {
			p.done(t, i%2, deposit{"viewed", 1})
			p.sees(t, 1-i%2, "viewed", i+1, eventstore.Version(i+1))
		}
	}},
	{"a version is compared with what was done elsewhere", func(t testing.TB, p processes) {
		p.done(t, 0, deposit{"versioned", 1})
		p.sees(t, 1, "versioned", 1, 1)
		p.done(t, 0, deposit{"versioned", 1})
		var conflict *eventstore.ConflictError
		_, err := p[1].Execute(t.Context(), deposit{"versioned", 1}, command.At(1))
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, eventstore.Version(2), conflict.Actual)
		p.done(t, 0, deposit{"versioned", 1})
		p.done(t, 1, deposit{"versioned", 1}, command.At(3))
	}},
	{"a key that was used elsewhere is remembered", func(t testing.TB, p processes) {
		p.done(t, 0, deposit{"keyed", 1})
		for i := range 10 {
			here, there := i%2, 1-i%2
			p.sees(t, here, "keyed", i+1, eventstore.Version(i+1))
			key := fmt.Sprint("key ", i)
			first := p.done(t, there, deposit{"keyed", 1}, command.Once(key))
			again := p.done(t, here, deposit{"keyed", 1}, command.Once(key))
			require.True(t, again.Repeated)
			require.Equal(t, first.Version, again.Version)
		}
		p.sees(t, 0, "keyed", 11, 11)
	}},
	{"commands to both at once are each done once or not at all", func(t testing.TB, p processes) {
		const callers, each = 6, 12
		var all sync.WaitGroup
		var mu sync.Mutex
		done, balance := 0, 0
		for i := range callers {
			all.Go(func() {
				for n := range each {
					var c aggregate.Command[account] = deposit{"crowded", 2}
					change := 2
					if (i+n)%3 == 0 {
						c, change = withdraw{"crowded", 3}, -3
					}
					_, err := p[(i+n)%2].Execute(t.Context(), c)
					mu.Lock()
					switch {
					case err == nil:
						done, balance = done+1, balance+change
					case !errors.Is(err, errPoor) && !errors.As(err, new(*eventstore.ConflictError)):
						t.Errorf("%+v: %v", c, err)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		require.GreaterOrEqual(t, balance, 0)
		for at := range p {
			p.sees(t, at, "crowded", balance, eventstore.Version(done))
		}
	}},
	{random, func(t testing.TB, p processes) {
		run := 0
		rapid.Check(t, func(t *rapid.T) {
			run++
			id := fmt.Sprint("random ", run)
			balance, version := 0, eventstore.Version(0)
			keys := map[string]eventstore.Version{}
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				at := rapid.IntRange(0, 1).Draw(t, "process")
				amount := rapid.IntRange(1, 5).Draw(t, "amount")
				switch rapid.IntRange(0, 5).Draw(t, "command") {
				case 0, 1:
					key := rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(t, "key")
					var opts []command.Option
					if key != "" {
						opts = append(opts, command.Once(key))
					}
					res := p.done(t, at, deposit{id, amount}, opts...)
					if used, ok := keys[key]; ok && key != "" {
						require.True(t, res.Repeated)
						require.Equal(t, used, res.Version)
						continue
					}
					balance, version = balance+amount, version+1
					require.False(t, res.Repeated)
					require.Equal(t, version, res.Version)
					keys[key] = version
				case 2:
					_, err := p[at].Execute(context.Background(), withdraw{id, amount})
					if balance < amount {
						require.ErrorIs(t, err, errPoor)
						continue
					}
					require.NoError(t, err)
					balance, version = balance-amount, version+1
				case 3:
					res := p.done(t, at, drain{id})
					if balance > 0 {
						version++
					}
					balance = 0
					require.Equal(t, version, res.Version)
				case 4:
					x := eventstore.Version(rapid.IntRange(0, int(version)+1).Draw(t, "at"))
					_, err := p[at].Execute(context.Background(), deposit{id, amount}, command.At(eventstore.Exactly(x)))
					var conflict *eventstore.ConflictError
					if x != version {
						require.ErrorAs(t, err, &conflict)
						require.Equal(t, version, conflict.Actual)
						continue
					}
					require.NoError(t, err)
					balance, version = balance+amount, version+1
				default:
					p.sees(t, at, id, balance, version)
				}
			}
			for at := range p {
				p.sees(t, at, id, balance, version)
			}
		})
	}},
}
