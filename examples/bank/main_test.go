package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/internal/engines"
	"github.com/levada-go/levada/examples/internal/program"
)

const story = `Ann pays Bob: 30.00
  held at account-ann
  received at account-bob
  completed
Ann has not got so much: 5000.00
  failed: bank: not enough money
Zoe has no account: 10.00
  held at account-ann
  released at account-ann
  failed: bank: there is no such account, or it is closed
Bob asks Ann to accept, and she does: 20.00
  held at account-bob
  received at account-ann
  completed
Bob asks Ann again, and she does nothing: 5.00
  held at account-bob

`

func TestMain(m *testing.M) { os.Exit(engines.Main(m)) }

func told(t *testing.T, store string) string {
	t.Helper()
	place, err := program.ParsePlace("", store, nil)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, place))
	return late.ReplaceAllString(out.String(), "2m0s")
}

// late is what two minutes are on a machine with much to do: a timer is set a little after what it is about has happened.
var late = regexp.MustCompile(`1m[3-5][0-9]s`)

func TestTheStoryIsTold(t *testing.T) {
	t.Parallel()
	const first = story + `ann         90.00   held 0.00
bob         105.00  held 5.00
transfer 5  waits   transfer.expire comes in 2m0s
`
	require.Equal(t, first, told(t, "memory:"))
	engines.Each(t, func(t *testing.T, store string) {
		if strings.HasPrefix(store, "esdb:") {
			t.Skip("it has no list of streams, which the last table is made of")
		}
		require.Equal(t, first, told(t, store))
		again := told(t, store)
		rest, ok := strings.CutPrefix(again, story)
		require.True(t, ok, again)
		require.Equal(t, `ann          80.00   held 0.00
bob          110.00  held 10.00
transfer 10  waits   transfer.expire comes in 2m0s
transfer 5   waits   transfer.expire comes in 2m0s
`, rest, "it goes on where it was")
	})
}
