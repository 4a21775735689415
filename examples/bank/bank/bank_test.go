package bank_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
)

// open returns a running bank with the accounts ann and bob, of whom ann has 100.
func open(t *testing.T) *levada.App {
	store := memstore.Open(nil)
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{bank.Accounts, bank.Transfers},
		Processes:  []process.Opener{bank.Transferrals},
		Logger:     slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, store.Close())
	})
	for _, c := range []command.Command{bank.Open{"ann"}, bank.Open{"bob"}, bank.Deposit{"ann", 100}} {
		_, err := app.Dispatch(t.Context(), c)
		require.NoError(t, err)
	}
	return app
}

func transfer(t *testing.T, app *levada.App, id string) []any {
	return eventstoretest.Stream(t, app.Store, eventstore.Stream("transfer", id))
}

func TestMoneyIsTransferred(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := open(t)
		_, err := app.Dispatch(t.Context(), bank.Send{Transfer: "1", From: "ann", To: "bob", Amount: 70}, command.Wait("transfer"))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []any{
			bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 70}, bank.Completed{"1"},
		}, transfer(t, app, "1"))
		require.Equal(t, []any{bank.Opened{"ann"}, bank.Deposited{100}, bank.Held{"1", 70}, bank.Captured{"1"}}, eventstoretest.Stream(t, app.Store, "account-ann"))
		require.Equal(t, []any{bank.Opened{"bob"}, bank.Received{"1", 70}}, eventstoretest.Stream(t, app.Store, "account-bob"))
	})
}

func TestATransferWithoutCoverFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := open(t)
		_, err := app.Dispatch(t.Context(), bank.Send{Transfer: "1", From: "ann", To: "bob", Amount: 101})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, bank.Failed{"1", bank.ErrFunds.Error()}, transfer(t, app, "1")[1])
	})
}

func TestMoneyComesBackFromAClosedAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := open(t)
		_, err := app.Dispatch(t.Context(), bank.Close{"bob"})
		require.NoError(t, err)
		_, err = app.Dispatch(t.Context(), bank.Send{Transfer: "1", From: "ann", To: "bob", Amount: 70})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, bank.Failed{"1", bank.ErrNoAccount.Error()}, transfer(t, app, "1")[1])
		require.Equal(t, []any{bank.Held{"1", 70}, bank.Released{"1"}}, eventstoretest.Stream(t, app.Store, "account-ann")[2:])
	})
}

func TestATransferThatIsNotAcceptedExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := open(t)
		for _, id := range []string{"1", "2"} {
			_, err := app.Dispatch(t.Context(), bank.Send{Transfer: id, From: "ann", To: "bob", Amount: 40, Ask: true})
			require.NoError(t, err)
		}
		time.Sleep(bank.TimeToAccept / 2)
		_, err := app.Dispatch(t.Context(), bank.Accept{"2"})
		require.NoError(t, err)
		time.Sleep(bank.TimeToAccept/2 + time.Second)
		synctest.Wait()
		require.Equal(t, []any{bank.Sent{"1", "ann", "bob", 40, true}, bank.Expired{"1"}}, transfer(t, app, "1"))
		require.Equal(t, []any{bank.Sent{"2", "ann", "bob", 40, true}, bank.Accepted{"2"}, bank.Completed{"2"}}, transfer(t, app, "2"))
		for in, err := range process.Instances(t.Context(), app.Store, "transfer", process.All) {
			require.NoError(t, err)
			require.Equal(t, process.Ended, in.Status)
		}
	})
}
