package live

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// Post runs fn as a func of the view, soon, and renders after it. It may be called by any goroutine. It waits while
// the page has too much to do, except when a func of the view calls it. It returns false, and fn is not run, when
// the page is gone; after true fn is run unless the page goes before its turn. Over HTTP there is nobody to run it.
func (c *Ctx) Post(fn func()) bool {
	if c.session == nil || c.Err() != nil {
		return false
	}
	return c.session.post(job{c, fn})
}

// After runs fn as a func of the view once, after d; stop, which is for funcs of the view, prevents that. Over HTTP
// it does nothing.
func (c *Ctx) After(d time.Duration, fn func()) (stop func()) { return c.startTimer(d, 0, fn) }

// Every runs fn as a func of the view after each d, which must be positive; stop, which is for funcs of the view,
// ends that. When the page was too busy, turns are left out. Over HTTP it does nothing.
func (c *Ctx) Every(d time.Duration, fn func()) (stop func()) {
	if d <= 0 {
		panic("live: Every needs a positive duration")
	}
	return c.startTimer(d, d, fn)
}

// timer runs a func of the view later.
type timer struct {
	timer *time.Timer
	next  time.Time
}

func (c *Ctx) startTimer(d, every time.Duration, fn func()) (stop func()) {
	if c.session == nil || c.Err() != nil {
		return func() {}
	}
	if c.timers == nil {
		c.timers = make(map[*timer]struct{})
	}
	t := &timer{next: time.Now().Add(d)}
	c.timers[t] = struct{}{}
	run := func() {
		if _, ok := c.timers[t]; !ok {
			return // stopped while it waited for its turn
		}
		if every == 0 {
			delete(c.timers, t)
		} else {
			now := time.Now()
			t.next = t.next.Add(every)
			if late := now.Sub(t.next); late >= 0 {
				t.next = t.next.Add((late/every + 1) * every)
			}
			t.timer.Reset(t.next.Sub(now))
		}
		fn()
	}
	// The first turn must not come before t.timer is set, which the func of the view that runs now prevents.
	t.timer = time.AfterFunc(d, func() { c.Post(run) })
	return func() {
		t.timer.Stop()
		delete(c.timers, t)
	}
}

// Receive runs fn as a func of the view for each value from ch, until ch is closed or the page is gone. The next
// value is received only after fn has returned, so that a page that is busy does not receive. Over HTTP it does
// nothing.
func Receive[T any](ctx *Ctx, ch <-chan T, fn func(T)) {
	if ctx.session == nil {
		return
	}
	go func() {
		var value T
		done := make(chan struct{}, 1)
		run := func() {
			defer func() { done <- struct{}{} }()
			fn(value)
		}
		for {
			var ok bool
			select {
			case value, ok = <-ch:
			case <-ctx.Done():
				return
			}
			if !ok || !ctx.Post(run) {
				return
			}
			select {
			case <-done:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// Async runs work in a goroutine of its own and then done, as a func of the view, with what it returned. Its
// ctx ends with the page, by [Ctx.Cancel], and when another Async of the same key begins; then done is not
// called. A panic in work is logged and an error for done. Over HTTP it does nothing.
func Async[T any](ctx *Ctx, key string, work func(context.Context) (T, error), done func(T, error)) {
	if ctx.session == nil {
		return
	}
	ctx.Cancel(key)
	if ctx.tasks == nil {
		ctx.tasks = make(map[string]*task)
	}
	run, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel}
	ctx.tasks[key] = t
	go func() {
		defer cancel()
		var v T
		err := errGoexit
		defer func() { // also when work calls runtime.Goexit
			ctx.Post(func() {
				if ctx.tasks[key] == t {
					delete(ctx.tasks, key)
					done(v, err)
				}
			})
		}()
		v, err = attempt(ctx, run, work)
	}()
}

// attempt calls work and makes an error of a panic.
func attempt[T any](ctx *Ctx, run context.Context, work func(context.Context) (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = ctx.panicked(p, debug.Stack())
		}
	}()
	return work(run)
}

var errGoexit = errors.New("live: the work called runtime.Goexit")

// Cancel ends the work of a key: its ctx ends, and what it returns is dropped.
func (c *Ctx) Cancel(key string) {
	if t, ok := c.tasks[key]; ok {
		delete(c.tasks, key)
		t.cancel()
	}
}

// task is work in the background.
type task struct{ cancel context.CancelFunc }
