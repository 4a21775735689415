package match

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
)

// The test binary is also the command, for tests that need a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("MATCH_CHILD") != "" {
		os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func child(t testing.TB, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "MATCH_CHILD=1")
	return cmd
}

func TestEveryStoreGivesTheSameOutput(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			input := random(rand.New(rand.NewPCG(seed, 1)), 1500/scale)
			stp := book.STP(seed + 1).String()
			want := match(t, input, "-stp", stp)
			require.Equal(t, exitMalformed, want.status)
			for _, n := range []string{"1", "2", "7", "1024"} {
				require.Equal(t, want, match(t, input, "-stp", stp, "-store", "memory:", "-inflight", n))
				if n != "2" {
					db := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
					require.Equal(t, want, match(t, input, "-stp", stp, "-store", db, "-inflight", n))
				}
			}
		})
	}
}

func TestReplayOfTheStoreIsTheRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	input := random(rand.New(rand.NewPCG(5, 5)), 2000/scale)
	run := match(t, input, "-stp", "decrement", "-store", "sqlite:"+file)

	store, err := sqlitestore.Open(file, nil)
	require.NoError(t, err)
	defer store.Close()
	for name, example := range orderbook.Books.Events {
		require.NoError(t, store.Types.Register(name, example))
	}
	var out bytes.Buffer
	o := &output{w: &out, names: newNames()}
	var b orderbook.Book
	for rec, err := range store.ReadStream(t.Context(), stream, 0) {
		require.NoError(t, err)
		d := rec.Data.(orderbook.Decided)
		if d.Ref != "" { // what is not a plain number was numbered by appearance
			n, _ := o.names.id([]byte(d.Ref))
			require.Equal(t, d.Command.ID, n)
		}
		d.Apply(&b)
		require.NoError(t, o.decided(d))
	}
	require.NoError(t, o.book(0, b.Live(), 0))
	require.NoError(t, o.flush())
	require.Equal(t, withoutBooks(run.out), withoutBooks(out.String()))
	require.Equal(t, lastLine(run.out), lastLine(out.String()))
}

func withoutBooks(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, `{"book"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func lastLine(out string) string {
	out = strings.TrimSuffix(out, "\n")
	return out[strings.LastIndexByte(out, '\n')+1:]
}

func TestInterruptedRunIsContinuedWithoutGapOrRepetition(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 9))
			input := random(r, 1200/scale)
			db := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
			want := match(t, input, "-stp", "cancel_oldest")

			var all strings.Builder
			for cut := 0; ; {
				// Each run is interrupted when it has read a little more.
				cut += r.IntN(len(input) / 3)
				if cut >= len(input) {
					got := match(t, input, "-stp", "cancel_oldest", "-store", db, "-resume")
					require.Equal(t, want.status, got.status, got.errors)
					all.WriteString(got.out)
					break
				}
				ctx, cancel := context.WithCancel(t.Context())
				var out, errs bytes.Buffer
				in := io.MultiReader(strings.NewReader(input[:cut]), onRead(cancel), forever{})
				status := Main(ctx, []string{"-stp", "cancel_oldest", "-store", db, "-resume", "-inflight", "5"}, in, &out, &errs)
				require.Equal(t, exitFailed, status)
				require.Contains(t, errs.String(), "interrupted after line")
				all.WriteString(out.String())
			}
			require.Equal(t, want.out, all.String())

			again := match(t, input, "-stp", "cancel_oldest", "-store", db, "-resume")
			require.Equal(t, lastLine(want.out)+"\n", again.out, "a finished run has nothing left but its book")
		})
	}
}

type onRead func()

func (fn onRead) Read([]byte) (int, error) { fn(); return 0, io.EOF }

type forever struct{}

func (forever) Read([]byte) (int, error) { select {} }

func TestResultsThatWereNotWrittenAreWrittenByTheNextRun(t *testing.T) {
	t.Parallel()
	input := random(rand.New(rand.NewPCG(8, 9)), 1000/scale)
	want := match(t, input)
	// The output fails after so many bytes, at the end of a command or within;
	// the commands behind it are durable nevertheless.
	for _, limit := range []int{0, 5000, 20_000 / scale, len(want.out) - 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "x.db")
			first := &limited{left: limit}
			var errs bytes.Buffer
			in := &slow{[]byte(input), 3000}
			require.Equal(t, exitFailed, Main(t.Context(), []string{"-store", "sqlite:" + file, "-inflight", "64"}, in, first, &errs))
			require.Contains(t, errs.String(), "output: full")

			second := match(t, input, "-store", "sqlite:"+file, "-resume")
			require.Equal(t, want.status, second.status, second.errors)
			require.Equal(t, want.out, first.String()+second.out)

			// Without the note, everything is written again.
			require.NoError(t, os.Remove(file+".out"))
			third := match(t, input, "-store", "sqlite:"+file, "-resume")
			require.Equal(t, want.out, third.out)
		})
	}
}

// limited takes whole writes as long as they fit.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("full")
	}
	return l.Buffer.Write(p)
}

func TestKilledRunIsContinuedWithoutLoss(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 4))
	input := random(r, 30_000/scale)
	dir := t.TempDir()
	file := filepath.Join(dir, "orders")
	require.NoError(t, os.WriteFile(file, []byte(input), 0o600))
	db := "sqlite:" + filepath.Join(dir, "x.db")
	want := match(t, input)

	position := 0 // in want.out, up to which there is no gap
	for kill := 1; ; kill++ {
		cmd := child(t, "-store", db, "-resume", file)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var out bytes.Buffer
		if kill <= 3 {
			_, err = io.CopyN(&out, stdout, int64(len(want.out)/6+r.IntN(len(want.out)/10)))
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Kill())
		}
		_, err = out.ReadFrom(stdout)
		require.NoError(t, err)
		err = cmd.Wait()
		if kill <= 3 {
			require.Error(t, err)
		} else {
			require.Equal(t, exitMalformed, cmd.ProcessState.ExitCode())
		}
		// Output goes on where the last one ended. A kill between a write and
		// its note, or in a write, repeats what that write was about.
		got := out.String()
		at := position
		for at >= 0 && !strings.HasPrefix(want.out[at:], got) {
			at = strings.LastIndexByte(want.out[:max(at-1, 0)], '\n') + 1
			require.Less(t, position-at, 4*outputSize, "gap or wrong output after kill %d", kill)
		}
		t.Logf("run %d: %d bytes, of which %d repeated", kill, len(got), position-at)
		position = at + len(got)
		if kill > 3 {
			require.Equal(t, len(want.out), position)
			return
		}
	}
}

func TestResumeRefusesAnotherRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	store := []string{"-store", "sqlite:" + file}
	input := lines("nonsense") + random(rand.New(rand.NewPCG(6, 6)), 100) + lines(`{"op":"cancel","id":77}`, `{"op":"book"}`)
	first := match(t, input, store...)
	require.Equal(t, exitMalformed, first.status)
	notes, err := os.ReadFile(file + ".out")
	require.NoError(t, err)

	resume := append(store, "-resume")
	half := len(input) / 2
	for name, c := range map[string]struct {
		input string
		args  []string
		want  string
	}{
		"no -resume":                            {input, store, "already holds a run: continue it with -resume"},
		"another byte":                          {strings.Replace(input, "5", "6", 1), resume, "not that of the run"},
		"a byte of a skipped line":              {strings.Replace(input, "nonsense", "nonsensf", 1), resume, "not that of the run"},
		"another line in front":                 {"\n" + input, resume, "not that of the run"},
		"a line less":                           {input[strings.IndexByte(input, '\n')+1:], resume, "not that of the run"},
		"half of it":                            {input[:half], resume, "it ends before line 102"},
		"nothing":                               {"", resume, "it ends before line 102"},
		"a question where the last command was": {strings.Replace(input, `{"op":"cancel","id":77}`, `{"op":"book"}`, 1), resume, "not that of the run"},
		"another mode":                          {input, append(resume, "-stp", "decrement"), "not that of the run"},
	} {
		// One after the other: only one run can have the store.
		got := match(t, c.input, c.args...)
		require.Equal(t, exitFailed, got.status, name)
		require.Contains(t, got.errors, c.want, name)
		require.Empty(t, got.out, name)
		require.NoError(t, os.WriteFile(file+".out", make([]byte, 8), 0o600))
		got = match(t, c.input, c.args...)
		require.Equal(t, exitFailed, got.status, name+", with everything to be written again")
		require.NoError(t, os.WriteFile(file+".out", notes, 0o600))
	}
	require.Equal(t, exitMalformed, match(t, input, resume...).status)
	require.Equal(t, exitMalformed, match(t, input+lines(`{"op":"cancel","id":1}`), resume...).status, "the input may have grown")

	other := filepath.Join(t.TempDir(), "y.db")
	s, err := sqlitestore.Open(other, nil)
	require.NoError(t, err)
	require.NoError(t, s.Types.Register("x", struct{ A int }{}))
	_, err = s.Append(t.Context(), "other-1", eventstore.NoStream, eventstore.Event{Data: struct{ A int }{1}})
	require.NoError(t, err)
	locked := match(t, input, "-store", "sqlite:"+other)
	require.Equal(t, exitFailed, locked.status)
	require.Contains(t, locked.errors, "locked")
	require.NoError(t, s.Close())
	got := match(t, input, "-store", "sqlite:"+other, "-resume")
	require.Equal(t, exitFailed, got.status)
	require.Contains(t, got.errors, "holds something else")
}

func TestOneOrderMayTakeAWholeSide(t *testing.T) {
	t.Parallel()
	// Its event is larger than a store takes by default (not when scaled down).
	var in strings.Builder
	const n = 30_000 / scale
	for id := range n {
		fmt.Fprintf(&in, `{"op":"new","id":%d,"side":"sell","qty":1,"price":%d}`+"\n", id, 1_000_000+id/3)
	}
	fmt.Fprintf(&in, `{"op":"new","id":%d,"side":"buy","type":"market","qty":%d}`+"\n", n, n)
	want := match(t, in.String())
	require.Equal(t, exitOK, want.status)
	for _, store := range []string{"memory:", "sqlite:" + filepath.Join(t.TempDir(), "x.db")} {
		got := match(t, in.String(), "-store", store)
		require.Equal(t, want.errors, got.errors)
		require.True(t, want == got)
	}
}

// BenchmarkMatch measures commands from bytes in to bytes out, durable where
// there is a store: b.N is the number of commands.
func BenchmarkMatch(b *testing.B) {
	for _, kind := range []string{"none", "memory:", "sqlite:"} {
		b.Run(strings.TrimSuffix(kind, ":"), func(b *testing.B) {
			input := busy(b.N)
			store := kind
			if store == "sqlite:" {
				store += filepath.Join(b.TempDir(), "x.db")
			}
			b.SetBytes(int64(len(input) / b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var errs bytes.Buffer
			status := Main(b.Context(), []string{"-store", store, "-inflight", "1024"}, bytes.NewReader(input), io.Discard, &errs)
			require.Equal(b, exitOK, status, errs.String())
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// busy returns n commands: 60 % limit orders near a price that walks at random,
// 25 % cancels, 15 % market orders.
func busy(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var out []byte
	var live []int
	mid := 100_000
	for id := 1; id <= n; id++ {
		if r.IntN(8) == 0 {
			mid += r.IntN(3) - 1
		}
		side, sign := "buy", -1
		if r.IntN(2) == 0 {
			side, sign = "sell", 1
		}
		switch k := r.IntN(100); {
		case k < 60 || len(live) == 0:
			away := 1 + int(r.ExpFloat64()*30)
			if r.IntN(10) == 0 {
				away = -away / 4
			}
			out = fmt.Appendf(out, `{"op":"new","id":%d,"side":"%s","type":"limit","tif":"gtc","qty":%d,"price":%d}`+"\n", id, side, 1+r.IntN(100), mid+sign*away)
			live = append(live, id)
		case k < 85:
			i := len(live) - 1 - r.IntN(min(len(live), 4000))
			out = fmt.Appendf(out, `{"op":"cancel","id":%d}`+"\n", live[i])
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
		default:
			out = fmt.Appendf(out, `{"op":"new","id":%d,"side":"%s","type":"market","qty":%d}`+"\n", id, side, 1+r.IntN(100))
		}
	}
	return out
}
