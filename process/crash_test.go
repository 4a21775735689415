package process_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// A node dies at each of its writes in turn, before or after the write is made; another goes on.
func TestACrashAtAnyWriteHasNoSecondEffect(t *testing.T) {
	t.Parallel()
	send := bank.Send{Transfer: "t", From: "ann", To: "bob", Amount: 70}
	asking := send
	asking.Ask = true
	tests := []struct {
		name  string
		do    []command.Command
		wait  time.Duration
		after []command.Command // after the death
	}{
		{"completed", []command.Command{bank.Deposit{Account: "ann", Amount: 100}, send}, 0, nil},
		{"refused, and then there would be money", []command.Command{send}, 0, []command.Command{bank.Deposit{Account: "ann", Amount: 100}}},
		{"not received, and then it could be", []command.Command{bank.Deposit{Account: "ann", Amount: 100}, bank.Close{Account: "bob"}, send}, 0, []command.Command{bank.Open{Account: "bob"}}},
		{"expired", []command.Command{bank.Deposit{Account: "ann", Amount: 100}, asking}, bank.TimeToAccept + time.Second, nil},
		{"accepted", []command.Command{bank.Deposit{Account: "ann", Amount: 100}, asking, bank.Accept{Transfer: "t"}}, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, silent := range []bool{true, false} {
				if race && !silent {
					continue
				}
				for writes := int64(1); ; writes++ {
					died := false
					synctest.Test(t, func(t *testing.T) {
						w := &town{t: t, d: memstore.NewDriver().(everything), rand: rand.New(rand.NewPCG(0, 0)), kind: true}
						spare := w.join()
						for _, c := range []command.Command{bank.Open{Account: "ann"}, bank.Open{Account: "bob"}} {
							_, err := spare.app.Dispatch(t.Context(), c)
							require.NoError(t, err)
						}
						spare.stop()
						n := w.join()
						synctest.Wait()
						for _, c := range tt.do[:len(tt.do)-1] {
							_, err := n.app.Dispatch(t.Context(), c)
							require.NoError(t, err)
						}
						synctest.Wait()
						n.way.silent = silent
						n.way.writes.Store(writes)
						_, _ = n.app.Dispatch(t.Context(), tt.do[len(tt.do)-1])
						synctest.Wait()
						time.Sleep(tt.wait)
						synctest.Wait()
						died = n.way.dead.Load()
						n.way.dead.Store(true)
						go n.stop()
						synctest.Wait()
						last := w.join()
						for _, c := range tt.after {
							_, err := last.app.Dispatch(t.Context(), c)
							require.NoError(t, err)
						}
						time.Sleep(time.Minute) // for the leases of the dead
						if tt.do[len(tt.do)-1] != send {
							time.Sleep(bank.TimeToAccept)
						}
						synctest.Wait()
						w.check(last.store)
						last.stop()
						n.stop()
						require.Empty(t, w.faults, fmt.Sprintf("at write %d, which %v", writes, map[bool]string{true: "is made", false: "is not"}[silent]))
					})
					if !died || t.Failed() {
						require.Greater(t, writes, int64(6), "it dies at something")
						break
					}
				}
			}
		})
	}
}

func TestACrashWhileAStuckInstanceGoesOn(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{true, false} {
		for writes := int64(1); ; writes++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				typ := jobs()
				typ.Routes = append(typ.Routes, process.Refused(func(j *Job, c Do, _ error) []command.Command {
					j.Log = append(j.Log, "not "+c.What)
					return []command.Command{Do{c.ID, "x"}}
				}))
				typ.OnError = func(f process.Failure) process.Action { return process.Park() }
				node := func(way driver.Store) *lab {
					return begin(t, way, func(*eventstore.Store) []projection.Runner {
						return []projection.Runner{typ.Open(w), &schedule.Timers{}}
					})
				}
				d := memstore.NewDriver().(everything)
				way := &mortal{shared: shared{d}, silent: silent}
				way.writes.Store(-1)
				l := node(way)
				w.fail("b", false, errBroken)
				w.fail("b", true, errRefused)
				l.happen(Began{"1", nil}, Went{"1", "b"}, Went{"1", "c"}, Went{"1", "d"})
				require.Equal(t, process.Stuck, l.read("1").Status)
				require.Equal(t, 2, l.read("1").Waiting)
				// Before the instance may go on, or some of what it writes is not counted.
				way.writes.Store(writes)
				_, err := process.RetryStuck(t.Context(), eventstore.New(shared{d}, nil), "job", "1")
				require.NoError(t, err)
				time.Sleep(time.Second)
				synctest.Wait()
				died = way.dead.Load()
				way.dead.Store(true)
				require.NoError(t, l.stop())
				l = node(shared{d})
				time.Sleep(time.Minute)
				l.happen(Went{"1", "e"})
				at := fmt.Sprintf("at write %d, which is made: %v", writes, silent)
				// Where nobody knows of the refusal any more, nothing can have followed from it.
				first, not := "x", `"not b",`
				if writes == 1 && !silent {
					first, not = "b", ""
				}
				require.Equal(t, []string{first, "c", "d", "e"}, w.did(), at)
				in := l.read("1")
				require.Equal(t, process.Running, in.Status, at)
				require.Zero(t, in.Waiting, at)
				require.JSONEq(t, `{"Log":["began","went b",`+not+`"went c","went d","went e"]}`, string(in.State), at)
				require.NoError(t, l.stop())
			})
			if !died || t.Failed() {
				require.Greater(t, writes, int64(4), "it dies at something")
				break
			}
		}
	}
}
