package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestTheStoryIsTold(t *testing.T) {
	t.Parallel()
	for _, db := range []string{"", filepath.Join(t.TempDir(), "bank.db")} {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), &out, db))
		require.Equal(t, story+`ann         90.00   held 0.00
bob         105.00  held 5.00
transfer 5  waits   transfer.expire comes in 2m0s
`, out.String())
		if db == "" {
			continue
		}
		out.Reset()
		require.NoError(t, run(t.Context(), &out, db))
		rest, ok := strings.CutPrefix(out.String(), story)
		require.True(t, ok, out.String())
		require.Equal(t, `ann          80.00   held 0.00
bob          110.00  held 10.00
transfer 10  waits   transfer.expire comes in 2m0s
transfer 5   waits   transfer.expire comes in 2m0s
`, rest, "it goes on where it was")
	}
}
