package live

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

// probe is a view whose events run what a test wants.
type probe struct {
	Page
	N    int
	Text string
}

type probeFuncs map[string]func(ctx *Ctx, s *probe) error

func probeView(mount func(ctx *Ctx, s *probe) error, events probeFuncs) *View[probe] {
	v := &View[probe]{Template: parse(`{{.N}} {{.Text}}`), Mount: mount}
	for name, fn := range events {
		On(v, name, func(ctx *Ctx, s *probe, _ url.Values) error { return fn(ctx, s) })
	}
	return v
}

// connected is Mount for connected pages only.
func connected(mount func(ctx *Ctx, s *probe)) func(ctx *Ctx, s *probe) error {
	return func(ctx *Ctx, s *probe) error {
		if ctx.Connected() {
			mount(ctx, s)
		}
		return nil
	}
}

// slow joins over a connection that takes a frame only when the tab does.
func slow(t testing.TB, site *Site) *tab {
	t.Helper()
	p := open(t, site, "/", 0)
	p.join(0)
	p.drain()
	return p
}

// Speed

func TestASlowClientGetsTheNewestAndNotAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var conflated []int
		site := quietSite(t, &Options{Trace: &Trace{Conflated: func(_ string, funcs int) { conflated = append(conflated, funcs) }}})
		var page *Ctx
		var state *probe
		Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) { page, state = ctx, s }), probeFuncs{
			"add": func(_ *Ctx, s *probe) error { s.N++; return nil },
		}))
		p := slow(t, site)
		frames := 0
		time.Sleep(time.Second)
		for range 1000 {
			require.True(t, page.Post(func() { state.N++ }))
		}
		synctest.Wait()
		for range 5 {
			p.click("add") // a page that waits for a slow client still handles what comes
			synctest.Wait()
		}
		require.Equal(t, 1005, state.N)
		require.Len(t, p.acks, 1, "an ack does not overtake the frame that shows what the event did")
		for {
			synctest.Wait()
			frame := p.conn.TryReceive()
			if frame == nil {
				break
			}
			frames++
			p.take(frame)
		}
		require.Equal(t, 2, frames)
		require.Equal(t, "1005 ", p.html())
		require.Len(t, p.acks, 6)
		require.Contains(t, p.last, `[[2,3,4,5,6],{"d":[0,"1005"]}]`)
		require.Equal(t, 1005, conflated[len(conflated)-1]+conflated[len(conflated)-2])
		p.close()
	})
}

func TestFramesThatNobodyAskedForAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) {
			ctx.Every(time.Millisecond, func() { s.N++ })
		}), probeFuncs{"set": func(_ *Ctx, s *probe) error { s.Text = "x"; return nil }}))
		p := open(t, site, "/", 1000)
		p.join(0)
		frames := 0
		for range 1000 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			for frame := p.conn.TryReceive(); frame != nil; frame = p.conn.TryReceive() {
				frames++
				p.take(frame)
			}
		}
		require.InDelta(t, time.Second/pace, frames, 2)
		p.click("set")
		synctest.Wait()
		p.take(p.conn.TryReceive())
		require.Contains(t, p.html(), "x", "what the user does is answered at once")
		p.close()
	})
}

func TestAPageThatIsBusySlowsItsClientDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		release := make(chan struct{})
		Handle(site, "/", probeView(nil, probeFuncs{"wait": func(*Ctx, *probe) error { <-release; return nil }}))
		p := join(t, site, "/")
		sent := 0
		go func() {
			for range 20 {
				p.click("wait")
				sent++
			}
		}()
		synctest.Wait()
		require.LessOrEqual(t, sent, 5, "the reader does not read on")
		close(release)
		synctest.Wait()
		require.Equal(t, 20, sent)
		p.drain()
		require.Len(t, p.acks, 21)
		p.close()
	})
}

func TestHeartbeatsAreAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rendered := 0
		site := quietSite(t, &Options{Trace: &Trace{Rendered: func(string, time.Duration, int) { rendered++ }}})
		Handle(site, "/", probeView(nil, nil))
		p := join(t, site, "/")
		before := rendered
		p.say(`"h"`)
		p.drain()
		require.Equal(t, `[2]`, p.last)
		require.Equal(t, before, rendered, "and nothing is rendered for it")
		p.close()
	})
}

// Panics

func TestAFuncThatPanicsMountsThePageAgain(t *testing.T) {
	t.Parallel()
	boom := func(*Ctx, *probe) error { panic("boom") }
	for name, cause := range map[string]func(ctx *Ctx){
		"an event":      nil,
		"a posted func": func(ctx *Ctx) { go ctx.Post(func() { panic("boom") }) },
		"a timer":       func(ctx *Ctx) { ctx.After(time.Second, func() { panic("boom") }) },
		"an interval":   func(ctx *Ctx) { ctx.Every(time.Second, func() { panic("boom") }) },
		"Receive": func(ctx *Ctx) {
			ch := make(chan int, 1)
			ch <- 1
			Receive(ctx, ch, func(int) { panic("boom") })
		},
		"done of Async": func(ctx *Ctx) {
			Async(ctx, "", func(context.Context) (int, error) { return 0, nil }, func(int, error) { panic("boom") })
		},
		"Hold": func(ctx *Ctx) { ctx.Hold(func() bool { panic("boom") }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				var stacks []string
				site := quietSite(t, &Options{Logger: textLogger(&log), Trace: &Trace{Panicked: func(_ string, v any, stack []byte) {
					stacks = append(stacks, fmt.Sprint(v, " ", string(stack)))
				}}})
				left := 0
				var ctxs []*Ctx
				v := probeView(connected(func(ctx *Ctx, s *probe) { s.N = len(ctxs); ctxs = append(ctxs, ctx) }), probeFuncs{
					"boom": boom,
					"cause": func(ctx *Ctx, s *probe) error {
						s.Text = "before"
						cause(ctx)
						return nil
					},
				})
				v.Leave = func(*probe) { left++; panic("in Leave, too") }
				Handle(site, "/", v)
				p := join(t, site, "/?q=1")
				left = 0
				stacks = nil
				if cause == nil {
					p.click("boom")
				} else {
					p.click("cause")
				}
				time.Sleep(1500 * time.Millisecond)
				p.drain()
				require.Equal(t, 2, p.mounts)
				require.Equal(t, "1 ", p.html())
				require.Contains(t, p.acks, uint64(2))
				require.Equal(t, "/?q=1", ctxs[1].URL().String())
				require.Error(t, ctxs[0].Err())
				require.Equal(t, 1, left)
				require.Len(t, stacks, 2)
				require.Contains(t, stacks[0], "boom")
				require.Contains(t, stacks[0], "runtime_test.go")
				require.Contains(t, log.String(), "runtime_test.go", "the stack is in the log")
				p.close()
				require.Equal(t, 2, left)
			})
		})
	}
}

func TestAMountAfterAPanicComesBeforeTheAcknowledgement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(nil, probeFuncs{"boom": func(*Ctx, *probe) error { panic("boom") }}))
		p := join(t, site, "/")
		p.click("boom")
		synctest.Wait()
		first, err := wiretest.Parse(p.conn.TryReceive())
		require.NoError(t, err)
		require.Equal(t, "j", first.Kind)
		require.Zero(t, first.Ref)
		require.Equal(t, `[2]`, string(p.conn.TryReceive()))
		p.close()
	})
}

func TestAPageThatKeepsPanickingIsSentAway(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]*View[probe]{
		"Mount":  probeView(connected(func(*Ctx, *probe) { panic("boom") }), nil),
		"Params": {Template: parse("x"), Params: connected(func(*Ctx, *probe) { panic("boom") })},
		"event": probeView(connected(func(ctx *Ctx, _ *probe) { ctx.After(time.Second, func() { panic("boom") }) }),
			nil),
		"template": {Template: parse(`{{if .N}}{{template "x" .}}{{end}}{{define "x"}}{{index .Text 7}}{{end}}`),
			Mount: connected(func(_ *Ctx, s *probe) { s.N = 1 })},
		"component": {Render: func(s *probe) Component {
			if s.N == 1 {
				panic("boom")
			}
			return markup("x")
		}, Mount: connected(func(_ *Ctx, s *probe) { s.N = 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := quietSite(t, nil)
				mounts := 0
				site.options.Trace = &Trace{Mounted: func(string, bool, time.Duration, error) { mounts++ }}
				Handle(site, "/", v)
				p := open(t, site, "/", 99)
				mounts = 0
				p.join(0)
				<-p.done
				p.drain()
				require.Equal(t, maxPanics+1, mounts)
				f, err := wiretest.Parse([]byte(p.last))
				require.NoError(t, err)
				require.Equal(t, "b", f.Kind)
				require.InDelta(t, awayFor.Milliseconds(), f.After, float64(awayFor.Milliseconds())/2)
				code, _ := p.conn.Code()
				require.Equal(t, closeBroken, code)
			})
		})
	}
}

func TestPanicsThatAreRareDoNotAddUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(nil, probeFuncs{"boom": func(*Ctx, *probe) error { panic(errors.New("boom")) }}))
		p := join(t, site, "/")
		for i := range 20 {
			p.click("boom")
			p.drain()
			require.Equal(t, i+2, p.mounts)
			time.Sleep(panicWindow/maxPanics + time.Second)
		}
		p.close()
	})
}

func TestAPageThatIsMountedAgainRemembersWhatTheBrowserKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var last *Ctx
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { last = ctx }), probeFuncs{
			"boom": func(ctx *Ctx, _ *probe) error {
				ctx.Position(12)
				ctx.Position(11)
				panic("boom")
			},
			"again": func(*Ctx, *probe) error { panic("boom") },
		}))
		p := open(t, site, "/", 9)
		p.say(`"j",{"t":%q,"u":"/","p":{"a":"b"},"v":"7","n":2}`, p.token)
		p.drain()
		p.click("boom")
		p.drain()
		require.Equal(t, uint64(12), last.LastPosition())
		p.click("again")
		p.drain()
		require.Equal(t, uint64(12), last.LastPosition())
		require.Equal(t, 3, p.mounts)
		require.Equal(t, 2, last.Joins())
		require.Equal(t, "b", last.Param("a"))
		p.close()
	})
}

func TestGoexitInAFuncEndsThePageOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		left := false
		v := probeView(nil, probeFuncs{"exit": func(*Ctx, *probe) error { runtime.Goexit(); return nil }})
		v.Leave = func(*probe) { left = true }
		Handle(site, "/", v)
		p := open(t, site, "/", 9)
		p.join(0)
		p.drain()
		left = false
		p.click("exit")
		<-p.done
		require.True(t, left)
		<-p.conn.Closed()
	})
}

// Hold and positions

func TestHoldKeepsBackTheFrameAndTheAcknowledgement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, &Options{HoldTimeout: time.Hour})
		var page *Ctx
		var state *probe
		Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) { page, state = ctx, s }), probeFuncs{
			"save": func(ctx *Ctx, s *probe) error {
				s.Text = "saving"
				ctx.Push("saved", 1)
				ctx.Hold(func() bool { return s.N >= 7 })
				return nil
			},
			"other": func(*Ctx, *probe) error { return nil },
		}))
		p := join(t, site, "/")
		p.click("save")
		p.click("other")
		beat := p.say(`"h"`)
		page.Post(func() { state.N = 6 })
		time.Sleep(time.Minute)
		p.drain()
		require.Equal(t, []uint64{1, beat}, p.acks, "a heartbeat shows nothing, so it waits for nothing")
		require.Equal(t, "0 ", p.html())
		require.Empty(t, p.pushed)
		page.Post(func() { state.N = 7 })
		p.drain()
		require.ElementsMatch(t, []uint64{1, 2, 3, beat}, p.acks)
		require.Equal(t, "7 saving", p.html())
		require.Equal(t, []string{"saved 1"}, p.pushed)
		p.close()
	})
}

func TestHoldEndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, &Options{HoldTimeout: 3 * time.Second})
		Handle(site, "/", probeView(nil, probeFuncs{"save": func(ctx *Ctx, s *probe) error {
			s.N++
			ctx.Hold(func() bool { return false })
			ctx.Hold(func() bool { return true })
			return nil
		}}))
		p := join(t, site, "/")
		p.click("save")
		time.Sleep(3*time.Second - time.Nanosecond)
		p.drain()
		require.Len(t, p.acks, 1)
		time.Sleep(time.Nanosecond)
		p.drain()
		require.Len(t, p.acks, 2)
		require.Equal(t, "1 ", p.html())
		p.close()
	})
}

func TestMountMayHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) {
			ctx.After(time.Second, func() { s.N = int(ctx.LastPosition()) })
			ctx.Hold(func() bool { return s.N > 0 })
		}), nil))
		p := open(t, site, "/", 9)
		p.say(`"j",{"t":%q,"u":"/","v":"7"}`, p.token)
		p.drain()
		require.Zero(t, p.mounts)
		time.Sleep(time.Second)
		p.drain()
		require.Equal(t, "7 ", p.html(), "the page does not go back in time")
		p.close()
	})
}

func TestPositionsGoWithTheFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var page *Ctx
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { page = ctx; ctx.Position(5) }), probeFuncs{
			"look": func(*Ctx, *probe) error { return nil },
		}))
		p := join(t, site, "/")
		require.Equal(t, uint64(5), p.at)
		before := p.last
		page.Post(func() { page.Position(math.MaxUint64) })
		time.Sleep(time.Second)
		p.drain()
		require.Equal(t, before, p.last, "a position alone is worth no frame")
		p.click("look")
		p.drain()
		require.Equal(t, `[2,{"v":"18446744073709551615"}]`, p.last)
		p.click("look")
		p.drain()
		require.Equal(t, `[3]`, p.last)
		p.close()
	})
}

// Events for the page

func TestPushedEventsComeInOrderWithTheFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		site := quietSite(t, &Options{Logger: textLogger(&log)})
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { ctx.Push("mounted", nil) }), probeFuncs{
			"push": func(ctx *Ctx, s *probe) error {
				s.N++
				value := []int{1}
				ctx.Push("a", value)
				value[0] = 2
				ctx.Push("b", map[string]string{"x": "</script>"}, Before())
				ctx.Push("c", math.NaN())
				ctx.Push("d", 1, Keep())
				ctx.Push("p", 1, Latest("x"))
				ctx.Push("e", 1, Drop(), Before())
				ctx.Push("p", 2, Latest("y"))
				ctx.Push("q", 3, Latest("x"))
				ctx.Push("p", 4, Latest("x"))
				return nil
			},
		}))
		p := join(t, site, "/")
		require.Equal(t, []string{"mounted null"}, p.pushed)
		p.pushed = nil
		p.click("push")
		p.drain()
		require.Equal(t, []string{`before b {"x":"\u003c/script\u003e"}`, "before e 1", "a [1]", "d 1", "p 4", "p 2", "q 3"}, p.pushed)
		require.Equal(t, "1 ", p.html())
		require.Contains(t, log.String(), "NaN")
		p.close()
	})
}

func TestASlowClientKeepsGettingTheLatestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slowed := 0
		site := quietSite(t, &Options{MaxPushes: 3, Trace: &Trace{TooSlow: func(string) { slowed++ }}})
		var page *Ctx
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { page = ctx }), nil))
		p := slow(t, site)
		time.Sleep(time.Second)
		page.Post(func() { page.Push("first", 0) }) // on its way from now on
		synctest.Wait()
		page.Post(func() {
			for i := range 100 {
				page.Push("tick", i, Latest("BTC"))
				page.Push("tick", i, Latest("ETH"))
				page.Push("noise", i, Drop())
			}
			page.Push("kept", 1)
		})
		p.drain()
		time.Sleep(time.Second)
		p.drain()
		require.Equal(t, []string{"first 0", "tick 99", "tick 99", "kept 1"}, p.pushed)
		require.Zero(t, slowed)

		page.Post(func() { page.Push("first", 0) })
		synctest.Wait()
		page.Post(func() {
			for i := range 4 {
				page.Push("kept", i)
			}
		})
		<-p.done
		code, _ := p.conn.Code()
		require.Equal(t, closeSlow, code)
		require.Equal(t, 1, slowed)
	})
}

func TestEventsToDropNeverOverflow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, &Options{MaxPushes: 2})
		Handle(site, "/", probeView(nil, probeFuncs{"push": func(ctx *Ctx, _ *probe) error {
			for i := range 5 {
				ctx.Push("x", i, Drop())
			}
			return nil
		}}))
		p := join(t, site, "/")
		p.click("push")
		p.drain()
		require.Equal(t, []string{"x 0", "x 1"}, p.pushed)
		p.close()
	})
}

func TestEventsThatWereToldBeforeLeavingStillCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(nil, probeFuncs{"go": func(ctx *Ctx, _ *probe) error {
			ctx.Push("leaving", 1)
			ctx.Navigate("/?next")
			return nil
		}}))
		p := join(t, site, "/")
		p.click("go")
		p.drain()
		require.Equal(t, 2, p.mounts)
		require.Equal(t, []string{"leaving 1"}, p.pushed)
		p.close()
	})
}

func TestReplyAnswersTheEventOfAHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		v := probeView(nil, nil)
		var page *Ctx
		On(v, "sum", func(ctx *Ctx, s *probe, in []int) error {
			page = ctx
			for _, n := range in {
				s.N += n
			}
			ctx.Reply(s.N)
			ctx.Reply("again")
			return nil
		})
		On(v, "bad", func(ctx *Ctx, _ *probe, _ struct{}) error { ctx.Reply(make(chan int)); return nil })
		Handle(site, "/", v)
		p := join(t, site, "/")
		p.say(`"e","sum","hook",[1,2,3]`)
		p.drain()
		require.Equal(t, []string{"2 6"}, p.replies)
		p.say(`"e","bad","hook",{}`)
		p.click("bad")
		page.Post(func() { page.Reply("late") })
		p.drain()
		require.Equal(t, []string{"2 6", "3 null"}, p.replies)
		require.Len(t, p.acks, 4)
		p.close()
	})
}

// Work

func TestPostedFuncsRunInOrderAndAreRendered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var got []int
		Handle(site, "/", probeView(nil, probeFuncs{"post": func(ctx *Ctx, s *probe) error {
			// More than the mailbox holds: a func of the view must not wait for itself.
			for i := range 5 * mailboxSize {
				require.True(t, ctx.Post(func() { got = append(got, i); s.N = len(got) }))
			}
			return nil
		}}))
		p := join(t, site, "/")
		p.click("post")
		time.Sleep(time.Second)
		p.drain()
		require.Len(t, got, 5*mailboxSize)
		require.IsIncreasing(t, got)
		require.Equal(t, fmt.Sprint(5*mailboxSize, " "), p.html())
		p.close()
	})
}

func TestPostWaitsWhileThePageHasTooMuchToDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var page *Ctx
		release := make(chan struct{})
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { page = ctx }), probeFuncs{
			"wait": func(*Ctx, *probe) error { <-release; return nil },
		}))
		p := join(t, site, "/")
		p.click("wait")
		synctest.Wait()
		var posted, refused atomic.Int32
		ran := 0
		for range 3 * mailboxSize {
			go func() {
				if page.Post(func() { ran++ }) {
					posted.Add(1)
				} else {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		require.Equal(t, int32(mailboxSize), posted.Load())
		close(release)
		synctest.Wait()
		require.Equal(t, int32(3*mailboxSize), posted.Load())
		require.Equal(t, 3*mailboxSize, ran)
		p.drain()

		release = make(chan struct{})
		p.click("wait")
		synctest.Wait()
		for range 2 * mailboxSize {
			go func() {
				if !page.Post(func() { ran++ }) {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		p.conn.Close(1000, "")
		synctest.Wait()
		require.Equal(t, int32(mailboxSize), refused.Load(), "who waits for a page that goes is told so")
		close(release)
		<-p.done
		require.Equal(t, 3*mailboxSize, ran, "what waits for a page that is gone does not run")
	})
}

func TestTimersRunUntilTheyAreStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var afters, ticks atomic.Int32
		var stop, stopAfter func()
		var page *Ctx
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) {
			page = ctx
			ctx.After(time.Second, func() { afters.Add(1) })
			stopAfter = ctx.After(time.Minute, func() { afters.Add(1) })
			stop = ctx.Every(time.Second, func() {
				if ticks.Add(1) == 7 {
					time.Sleep(3500 * time.Millisecond)
				}
			})
			require.Panics(t, func() { ctx.Every(0, func() {}) })
		}), nil))
		p := join(t, site, "/")
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, int32(1), afters.Load())
		require.Equal(t, int32(5), ticks.Load())
		time.Sleep(6 * time.Second) // 6 s, 7 s until 10.5 s, the one that has waited since 8 s, and 11 s
		synctest.Wait()
		require.Equal(t, int32(9), ticks.Load(), "turns that the page was too busy for are left out")
		page.Post(func() { stop(); stopAfter(); stop() })
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, int32(9), ticks.Load())
		require.Equal(t, int32(1), afters.Load())
		p.drain()
		p.close()
	})
}

func TestATimerThatIsStoppedWhileItWaitsForItsTurnDoesNotRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", probeView(nil, probeFuncs{"stop": func(ctx *Ctx, _ *probe) error {
			stops := []func(){
				ctx.After(time.Second, func() { t.Error("it runs") }),
				ctx.Every(time.Second, func() { t.Error("it runs") }),
			}
			time.Sleep(2 * time.Second) // both are due, and wait for this func
			for _, stop := range stops {
				stop()
			}
			return nil
		}}))
		p := join(t, site, "/")
		p.click("stop")
		time.Sleep(time.Minute)
		p.drain()
		require.Len(t, p.acks, 2)
		p.close()
	})
}

func TestTimersEndWithThePage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		ran := 0
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) {
			ctx.Every(time.Second, func() { ran++ })
			ctx.After(time.Second, func() { ran++ })
		}), nil))
		p := join(t, site, "/")
		p.close()
		time.Sleep(time.Minute)
		require.Zero(t, ran)
	})
}

func TestReceiveTakesValuesOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		ch := make(chan int)
		Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) {
			Receive(ctx, ch, func(n int) {
				s.N += n
				time.Sleep(time.Second)
			})
		}), nil))
		p := join(t, site, "/")
		ch <- 1
		ch <- 2 // is received when the first is done
		select {
		case ch <- 4:
			t.Fatal("a page that is busy must not receive")
		case <-time.After(500 * time.Millisecond):
		}
		ch <- 8
		time.Sleep(3 * time.Second)
		p.drain()
		require.Equal(t, "11 ", p.html())
		close(ch)
		p.drain()
		p.close()
	})
}

func TestAsyncHandsOverWhatTheWorkReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		site := quietSite(t, &Options{Logger: textLogger(&log)})
		work := func(ctx *Ctx, s *probe, key string, d time.Duration, fn func(context.Context) (int, error)) {
			Async(ctx, key, func(ctx context.Context) (int, error) {
				select {
				case <-time.After(d):
					return fn(ctx)
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}, func(n int, err error) {
				s.N += n
				if err != nil {
					s.Text += err.Error() + ";"
				}
			})
		}
		number := func(n int) func(context.Context) (int, error) {
			return func(context.Context) (int, error) { return n, nil }
		}
		Handle(site, "/", probeView(nil, probeFuncs{
			"one": func(ctx *Ctx, s *probe) error { work(ctx, s, "a", time.Second, number(1)); return nil },
			"superseded": func(ctx *Ctx, s *probe) error {
				work(ctx, s, "a", time.Second, number(100))
				work(ctx, s, "b", time.Second, number(10))
				work(ctx, s, "a", time.Second, number(1))
				return nil
			},
			"deaf": func(ctx *Ctx, s *probe) error { // work that does not look at its context
				Async(ctx, "a", func(context.Context) (int, error) { time.Sleep(time.Second); return 100, nil }, func(n int, _ error) { s.N += n })
				work(ctx, s, "a", time.Second, number(1))
				return nil
			},
			"cancelled": func(ctx *Ctx, s *probe) error {
				work(ctx, s, "a", time.Second, number(100))
				ctx.Cancel("a")
				ctx.Cancel("nothing")
				return nil
			},
			"panics": func(ctx *Ctx, s *probe) error {
				work(ctx, s, "a", 0, func(context.Context) (int, error) { panic("boom") })
				return nil
			},
			"exits": func(ctx *Ctx, s *probe) error {
				work(ctx, s, "a", 0, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
				return nil
			},
			"returned": func(ctx *Ctx, s *probe) error { // the error of a panic elsewhere is no panic of the event
				Async(ctx, "a", func(context.Context) (int, error) { panic("boom") }, func(_ int, err error) {
					s.Text = fmt.Sprint(isPanic(err))
				})
				return nil
			},
		}))
		for event, want := range map[string]string{
			"one": "1 ", "superseded": "11 ", "deaf": "1 ", "cancelled": "0 ", "panics": "0 live: panic: boom;",
			"exits": "0 live: the work called runtime.Goexit;", "returned": "0 false",
		} {
			p := join(t, site, "/")
			p.click(event)
			time.Sleep(3 * time.Second)
			p.drain()
			require.Equal(t, want, p.html(), event)
			require.Equal(t, 1, p.mounts)
			p.close()
		}
		require.Contains(t, log.String(), "runtime_test.go", "the stack is in the log")
	})
}

func TestWorkThatIsSupersededIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		ended := 0
		Handle(site, "/", probeView(nil, probeFuncs{"work": func(ctx *Ctx, _ *probe) error {
			Async(ctx, "a", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				ended++
				return 0, ctx.Err()
			}, func(int, error) { t.Error("done of work that was superseded") })
			return nil
		}, "cancel": func(ctx *Ctx, _ *probe) error { ctx.Cancel("a"); return nil }}))
		p := join(t, site, "/")
		for i := range 3 {
			p.click("work")
			p.drain()
			require.Equal(t, i, ended)
		}
		p.click("cancel")
		p.drain()
		require.Equal(t, 3, ended)
		p.close()
	})
}

func TestNothingStaysBehindWhenThePageIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		ended := make(chan error, 1)
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) {
			Receive(ctx, make(chan int), func(int) {})
			ctx.Every(time.Hour, func() {})
			Async(ctx, "", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				ended <- ctx.Err()
				return 0, nil
			}, func(int, error) { t.Error("done of a page that is gone") })
			var wait sync.WaitGroup
			wait.Go(func() { <-ctx.Done() })
		}), nil))
		p := slow(t, site)
		p.close()
		require.ErrorIs(t, <-ended, context.Canceled)
		// The bubble does not end while a goroutine is left.
	})
}

// The end

func TestAPageIsToldWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options Options
		least   time.Duration
		most    time.Duration
		back    time.Duration
	}{
		"idle":    {Options{Idle: time.Hour}, 90 * time.Minute, 90 * time.Minute, time.Hour},
		"max age": {Options{MaxAge: 100 * time.Minute}, 90 * time.Minute, 100 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := quietSite(t, &test.options)
				Handle(site, "/", probeView(connected(func(ctx *Ctx, s *probe) { ctx.Every(time.Minute, func() { s.N++ }) }),
					probeFuncs{"x": func(*Ctx, *probe) error { return nil }}))
				start := time.Now()
				p := open(t, site, "/", 999)
				p.join(0)
				time.Sleep(30 * time.Minute)
				p.click("x")
				for range 5 {
					time.Sleep(10 * time.Minute)
					p.say(`"h"`)
				}
				<-p.done
				require.GreaterOrEqual(t, time.Since(start), test.least)
				require.LessOrEqual(t, time.Since(start), test.most)
				p.drain()
				require.Equal(t, fmt.Sprintf(`["b",%d]`, test.back.Milliseconds()), p.last)
				code, _ := p.conn.Code()
				require.Equal(t, closeShutdown, code)
			})
		})
	}
}

func TestShutdownSendsPagesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, &Options{WriteWait: 7 * time.Second})
		left := 0
		v := probeView(nil, nil)
		v.Leave = func(*probe) { left++ }
		Handle(site, "/", v)
		a, b := join(t, site, "/"), slow(t, site)
		c := slow(t, site)
		left = 0
		c.say(`"h"`) // the answer is on its way for ever
		synctest.Wait()
		start := time.Now()
		go func() {
			for range 2 {
				time.Sleep(time.Second)
				if frame := b.conn.TryReceive(); frame != nil {
					b.take(frame)
				}
			}
		}()
		require.NoError(t, site.Shutdown(t.Context(), time.Minute))
		require.Equal(t, 7*time.Second, time.Since(start), "who takes nothing does not hold up the others")
		require.Equal(t, 3, left)
		a.drain()
		for _, p := range []*tab{a, b} {
			require.Contains(t, p.last, `["b",`)
			code, _ := p.conn.Code()
			require.Equal(t, closeShutdown, code)
		}
		<-c.done
	})
}

func TestDisconnectEndsThePagesOfASession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var session string
		Handle(site, "/", probeView(connected(func(ctx *Ctx, _ *probe) { session = ctx.Session() }), nil))
		p := join(t, site, "/")
		site.Disconnect(session)
		<-p.done
		code, _ := p.conn.Code()
		require.Equal(t, closeSession, code)
	})
}

func TestTraceIsToldWhatHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		tell := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
		site := quietSite(t, &Options{Trace: &Trace{
			Mounted: func(pattern string, connected bool, took time.Duration, err error) {
				tell("mounted %s %v %v %v", pattern, connected, took, err)
			},
			Handled: func(pattern, event string, took time.Duration, err error) {
				tell("handled %s %s %v %v", pattern, event, took, err)
			},
			Rendered: func(pattern string, _ time.Duration, bytes int) { tell("rendered %s %v", pattern, bytes > 0) },
		}})
		Handle(site, "/{x...}", probeView(nil, probeFuncs{
			"work": func(_ *Ctx, s *probe) error { time.Sleep(time.Second); s.N++; return errors.New("no") },
			"noop": func(*Ctx, *probe) error { return nil },
		}))
		p := open(t, site, "/y", 9)
		told = nil
		p.join(0)
		p.drain()
		p.click("work")
		time.Sleep(2 * time.Second)
		p.drain()
		p.click("noop")
		p.drain()
		p.close()
		require.Equal(t, []string{
			"mounted /{x...} true 0s <nil>", "rendered /{x...} true",
			"handled /{x...} work 1s no", "rendered /{x...} true", "handled /{x...} noop 0s <nil>", "rendered /{x...} false",
		}, told)
	})
}
