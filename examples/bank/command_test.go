package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheCommandLine(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"-h":                   {0, "bank [-db FILE | -store STORE]"},
		"lobby":                {2, "bank: unexpected argument \"lobby\"\nRun bank -h for help.\n"},
		"-unheard":             {2, "bank: flag provided but not defined: -unheard\nRun bank -h for help.\n"},
		"-store nowhere":       {2, `bank: -store "nowhere" is not one of memory:`},
		"-store memory: -db x": {2, "bank: -db and -store say the same; give one of them\n"},
		"-db FOLDER":           {1, "bank: cannot open"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			line := strings.Fields(strings.ReplaceAll(args, "FOLDER", t.TempDir()))
			require.Equal(t, want.status, execute(t.Context(), line, &out, &errs))
			require.Contains(t, out.String()+errs.String(), want.says)
			if want.status == 0 {
				require.Empty(t, errs.String())
			} else {
				require.Empty(t, out.String())
				require.LessOrEqual(t, strings.Count(errs.String(), "\n"), want.status, "a line, and where there is help")
			}
		})
	}
}

func TestABankThatIsToldToEndGoesOnLater(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bank.db")
	ctx, cancel := context.WithCancel(t.Context())
	out := &cutter{after: "received at account-bob", cut: cancel}
	var errs bytes.Buffer
	require.Equal(t, 1, execute(ctx, []string{"-db", file}, out, &errs))
	require.Equal(t, "bank: it was told to end; run it again with the same store, and it goes on\n", errs.String())

	var again bytes.Buffer
	errs.Reset()
	require.Zero(t, execute(t.Context(), []string{"-db", file}, &again, &errs), errs.String())
	require.Regexp(t, `(?m)^ann +60\.00 `, again.String(), "30 were paid in each run, and 20 came back in one")
}

// cutter ends a run when it has printed a text.
type cutter struct {
	bytes.Buffer
	after string
	cut   func()
}

func (c *cutter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.after) {
		c.cut()
	}
	return c.Buffer.Write(b)
}
