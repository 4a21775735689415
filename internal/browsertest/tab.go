package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	patience = 20 * time.Second      // the deadline of a wait; the machine may be busy
	interval = 10 * time.Millisecond // between two looks at the page
)

// Tab is a page in a [Window]. Its methods fail the test when they cannot do what they say within 20 seconds.
type Tab struct {
	t   testing.TB
	ctx context.Context

	close   context.CancelFunc
	console sync.WaitGroup

	mu        sync.Mutex
	faults    []string
	tolerated []string
}

// Open opens a tab and loads url, "" for a blank page.
func (w *Window) Open(url string) *Tab {
	w.t.Helper()
	ctx, cancel := chromedp.NewContext(w.ctx)
	tab := &Tab{t: w.t, ctx: ctx, close: cancel}
	messages := chromedp.Console(ctx)
	tab.console.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			tab.heard(m)
		}
	})
	// Cleanups run last first: a tab before its window.
	w.t.Cleanup(tab.end)
	if url != "" {
		tab.Visit(url)
	}
	return tab
}

func (tab *Tab) heard(m chromedp.ConsoleMessage) {
	if m.Type != chromedp.ConsoleError && m.Type != chromedp.ConsoleException {
		return
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	text := m.String()
	if m.URL != "" {
		text += " (" + m.URL + ")"
	}
	tab.faults = append(tab.faults, text)
}

// end closes the tab and fails the test for what the page complained of.
func (tab *Tab) end() {
	tab.close()
	tab.console.Wait()
	for _, f := range tab.Faults() {
		tab.t.Errorf("browsertest: the page complained: %s", f)
	}
}

// Close closes the tab, as a person does.
func (tab *Tab) Close() { tab.close() }

// Tolerate takes console errors and exceptions that contain text for granted, before and after the call.
func (tab *Tab) Tolerate(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.tolerated = append(tab.tolerated, text)
}

// Faults returns the console errors and exceptions that are not tolerated.
func (tab *Tab) Faults() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(tab.faults), func(f string) bool {
		return slices.ContainsFunc(tab.tolerated, func(text string) bool { return strings.Contains(f, text) })
	})
}

// do runs steps with a deadline.
func (tab *Tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tab.t.Fatalf("browsertest: %s: %v", what, err)
	}
}

// call runs one command of the DevTools protocol.
func call[P, R any](tab *Tab, cmd cdp.Command[P, R], params P) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, cmd, params); err != nil {
		tab.t.Fatalf("browsertest: %s: %v", cmd.Method, err)
	}
}

// Visit loads a URL, waits until it has loaded, and fails the test when the server cannot be reached.
func (tab *Tab) Visit(url string) {
	tab.t.Helper()
	tab.do("visit "+url, chromedp.Navigate(url))
}

// Reload loads the page again.
func (tab *Tab) Reload() { tab.t.Helper(); tab.do("reload", chromedp.Reload()) }

// Back and Forward go through the history. They do not wait for the page that comes.
func (tab *Tab) Back()    { tab.t.Helper(); tab.Run("history.back()") }
func (tab *Tab) Forward() { tab.t.Helper(); tab.Run("history.forward()") }

// Eval returns the value of a JavaScript expression; a promise is awaited.
func Eval[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("browsertest: %s: %v", expression, err)
	}
	return v
}

// Run runs JavaScript for what it does. A promise is awaited.
func (tab *Tab) Run(script string) { tab.t.Helper(); Eval[chromedp.Void](tab, script) }

// Wait waits until a JavaScript expression is truthy, over the loading of pages too.
func (tab *Tab) Wait(expression string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			tab.t.Fatalf("browsertest: waited in vain for %s (%v) in\n%s", expression, err, tab.excerpt())
		case <-tick.C:
		}
	}
}

// excerpt returns the beginning of the page's text, for messages.
func (tab *Tab) excerpt() string {
	ctx, cancel := context.WithTimeout(tab.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerHTML : ""`))
	if err != nil {
		return err.Error()
	}
	if len(text) > 2000 {
		text = text[:2000] + "…"
	}
	return text
}

// quote returns a string as JavaScript.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be encoded
	}
	return string(b)
}

// WaitFor waits for an element that matches a CSS selector.
func (tab *Tab) WaitFor(selector string) {
	tab.t.Helper()
	tab.Wait("document.querySelector(" + quote(selector) + ")")
}

// WaitText waits until the first element that matches has a text that contains text.
func (tab *Tab) WaitText(selector, text string) {
	tab.t.Helper()
	tab.Wait(fmt.Sprintf("document.querySelector(%s)?.textContent.includes(%s)", quote(selector), quote(text)))
}

// Text returns the text of the first element that matches, once there is one.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	tab.WaitFor(selector)
	return Eval[string](tab, "document.querySelector("+quote(selector)+").textContent.trim()")
}

// Count returns how many elements match.
func (tab *Tab) Count(selector string) int {
	tab.t.Helper()
	return Eval[int](tab, "document.querySelectorAll("+quote(selector)+").length")
}

// Value returns what stands in a field.
func (tab *Tab) Value(selector string) string {
	tab.t.Helper()
	tab.WaitFor(selector)
	return Eval[string](tab, "document.querySelector("+quote(selector)+").value")
}

// Click clicks the middle of the first element that matches, with the mouse, once it is visible.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// Type puts the focus into a field and types text at its end; "\r" is Enter, "\t" Tab.
func (tab *Tab) Type(selector, text string) {
	tab.t.Helper()
	tab.WaitFor(selector)
	tab.Run(fmt.Sprintf("(e => { e.focus(); if (e.setSelectionRange && /text|search|url|tel|password/.test(e.type)) e.setSelectionRange(e.value.length, e.value.length) })(document.querySelector(%s))", quote(selector)))
	tab.Press(text)
}

// Press presses keys where the focus is, as [Tab.Type] does.
func (tab *Tab) Press(keys string) {
	tab.t.Helper()
	for _, r := range keys {
		events := kb.Encode(r)
		down := *events[0]
		if len(events) == 3 {
			// The text comes with the key, and not in an event of its own, which would put it into the field
			// even if the page has prevented that.
			down.Text, down.UnmodifiedText = events[1].Text, events[1].UnmodifiedText
		}
		call(tab, input.DispatchKeyEvent, down)
		call(tab, input.DispatchKeyEvent, *events[len(events)-1])
	}
}

// Screenshot writes what is to be seen to a PNG file.
func (tab *Tab) Screenshot(path string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(path, png, 0o600)
	}
	if err != nil {
		tab.t.Fatalf("browsertest: screenshot: %v", err)
	}
}

// Resize sets the size of the viewport in CSS pixels.
func (tab *Tab) Resize(width, height int) {
	tab.t.Helper()
	tab.do("resize", chromedp.EmulateViewport(int64(width), int64(height)))
}

// Prefer makes the page prefer a colour scheme, "dark" or "light".
func (tab *Tab) Prefer(scheme string) {
	tab.t.Helper()
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// Offline cuts the tab off from the network, or connects it again. WebSockets that are open stay open.
func (tab *Tab) Offline(offline bool) {
	tab.t.Helper()
	call(tab, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}},
	})
}

// NoScript turns off JavaScript in the pages that are loaded from now on. Eval and what is made of it still work.
func (tab *Tab) NoScript() {
	tab.t.Helper()
	call(tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}
