package livetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/levada-go/levada/live/internal/render"
)

// told is all that the server has told a page. It is guarded by Page.mu, since frames come by the goroutine of the server.
type told struct {
	sent     int                     // the last ref
	followed int                     // the ref of the last link or step through the history
	open     []int                   // refs that are not acknowledged yet
	replies  map[int]json.RawMessage // by ref
	mounted  int                     // how many views
	gone     int                     // to how many other views the page has gone
	view     *render.Client          // nil before the first mount
	regions  map[string]*region
	title    *string
	urls     []moved // not yet in the history
	position string
	pushed   []push
	leave    *string // the URL to load over HTTP
	stale    bool    // the token was refused
	bye      bool
	anew     bool // the user has followed a link to another view
	renewed  bool // a view was mounted that may know nothing of what was typed

	fresh []byte // the page of which the next frame is, nil when none was announced

	traffic Traffic
	frames  int   // how many have come, to see whether any came since
	fault   error // the first thing that was wrong
}

type region struct {
	version uint64
	client  render.Client
}

type push struct {
	event   string
	payload json.RawMessage
}

type moved struct {
	url     string
	replace bool
	other   bool // it is that of another view
}

// body is what an update or a mount holds.
type body struct {
	Frame    json.RawMessage `json:"d"`
	After    []pair[string]  `json:"e"`
	Before   []pair[string]  `json:"f"`
	Replies  []pair[int]     `json:"r"`
	Title    *string         `json:"t"`
	URL      *pair[string]   `json:"u"`
	Position *string         `json:"v"`
}

// pair is a JSON array of a K and any value.
type pair[K any] struct {
	key   K
	value json.RawMessage
}

func (p *pair[K]) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 2 {
		return fmt.Errorf("%d elements where 2 must be", len(parts))
	}
	p.value = parts[1]
	return json.Unmarshal(parts[0], &p.key)
}

// receive takes a frame of the server.
func (p *Page) receive(c *conn, frame []byte) {
	if change := p.browser.tamper; change != nil {
		frame = change(frame)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c != p.conn {
		return // the page has gone on without this connection
	}
	p.traffic.Frames++
	p.traffic.Bytes += len(frame)
	p.frames++
	if err := p.take(frame); err != nil && p.fault == nil {
		p.fault = fmt.Errorf("a frame that a browser could not use: %w\n%s", err, cut(string(frame)))
	}
	p.wakeLocked()
}

// rendered remembers the page that the next frame brings.
func (p *Page) rendered(c *conn, html []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.conn {
		p.fresh = append([]byte{}, html...)
	}
}

// unknown remembers that the view does not know an event.
func (p *Page) unknown(c *conn, event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.conn && p.fault == nil {
		p.fault = fmt.Errorf("the view has no event %q", event)
		p.wakeLocked()
	}
}

// broken remembers that a func of the view panicked.
func (p *Page) broken(c *conn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.conn && p.fault == nil && !p.browser.panics {
		p.fault = fmt.Errorf("a func of the view has panicked: %w", err)
		p.wakeLocked()
	}
}

func (p *Page) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeLocked()
}

func (p *Page) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Page) take(frame []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(frame, &parts); err != nil {
		return err
	}
	if len(parts) == 0 {
		return errors.New("an empty array")
	}
	var kind string
	if json.Unmarshal(parts[0], &kind) != nil {
		return p.takeUpdate(parts)
	}
	args := map[string]int{"j": 2, "g": 4, "l": 1, "s": 0, "b": 1}
	if n, ok := args[kind]; !ok || len(parts) != 1+n {
		return fmt.Errorf("no frame is called %q and has %d elements", kind, len(parts))
	}
	switch parts = parts[1:]; kind {
	case "j":
		return p.takeMount(parts)
	case "g":
		return p.takeRegion(parts)
	case "l":
		return json.Unmarshal(parts[0], &p.leave)
	case "s":
		p.stale = true
	case "b":
		p.bye = true
	}
	return nil
}

func (p *Page) takeUpdate(parts []json.RawMessage) error {
	var refs []int
	if json.Unmarshal(parts[0], &refs) != nil {
		var ref int
		if err := json.Unmarshal(parts[0], &ref); err != nil {
			return err
		}
		if ref != 0 {
			refs = []int{ref}
		}
	}
	if len(parts) > 2 {
		return fmt.Errorf("an update of %d elements", len(parts))
	}
	if len(parts) == 2 {
		if err := p.takeBody(parts[1], false, slices.Contains(refs, p.followed)); err != nil {
			return err
		}
	} else if err := p.compare(); err != nil {
		return err
	}
	for _, ref := range refs {
		if err := p.ack(ref); err != nil {
			return err
		}
	}
	return nil
}

func (p *Page) ack(ref int) error {
	i := slices.Index(p.open, ref)
	if i < 0 {
		return fmt.Errorf("the ref %d is acknowledged, but nothing waits for it", ref)
	}
	p.open = slices.Delete(p.open, i, i+1)
	return nil
}

func (p *Page) takeMount(parts []json.RawMessage) error {
	var ref int
	if err := json.Unmarshal(parts[0], &ref); err != nil {
		return err
	}
	p.view, p.regions = &render.Client{}, map[string]*region{}
	p.mounted++
	before := len(p.urls)
	if err := p.takeBody(parts[1], true, p.mounted == 1 || ref == p.followed); err != nil {
		return err
	}
	if ref == 0 && len(p.urls) > before {
		p.urls[before].other = true
	}
	// Only who goes to another view leaves behind what was typed: by a link, or because the server says so.
	if p.mounted == 1 || ref == 0 && len(p.urls) == before {
		p.renewed = true
	} else {
		p.anew, p.renewed = true, false
		p.gone++
	}
	if ref != 0 {
		return p.ack(ref)
	}
	return nil
}

// takeBody takes the body of an update or a mount. Where the user has gone there is an entry of the history
// already, in place of which its URL is put.
func (p *Page) takeBody(raw json.RawMessage, mount, gone bool) error {
	var b body
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return err
	}
	if mount && b.Frame == nil {
		return errors.New("a view was mounted without a frame")
	}
	for _, e := range b.Before {
		p.pushed = append(p.pushed, push{e.key, e.value})
	}
	if b.Frame != nil {
		if p.view == nil {
			return errors.New("a frame for a page that has no view")
		}
		if err := p.view.Apply(b.Frame); err != nil {
			return err
		}
	}
	if err := p.compare(); err != nil {
		return err
	}
	for _, e := range b.After {
		p.pushed = append(p.pushed, push{e.key, e.value})
	}
	for _, r := range b.Replies {
		p.replies[r.key] = r.value
	}
	if b.Title != nil {
		p.title = b.Title
	}
	if b.URL != nil {
		replace := string(b.URL.value)
		if replace != "0" && replace != "1" {
			return fmt.Errorf("a URL that replaces %s", replace)
		}
		p.urls = append(p.urls, moved{url: b.URL.key, replace: replace == "1" || gone})
	}
	if b.Position != nil {
		p.position = *b.Position
	}
	return nil
}

// compare holds the page against the fresh rendering that was announced for this frame.
func (p *Page) compare() error {
	if p.fresh == nil || p.view == nil {
		return nil
	}
	want := string(p.fresh)
	p.fresh = nil
	if !utf8.ValidString(want) {
		want = string([]rune(want)) // U+FFFD for each bad byte, as JSON has it
	}
	got := p.view.HTML()
	if got == want {
		return nil
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-40)
	return fmt.Errorf("the page is not what a fresh rendering is\npage:  …%s\nfresh: …%s",
		cutTo(got[from:], 120), cutTo(want[from:], 120))
}

func (p *Page) takeRegion(parts []json.RawMessage) error {
	var name string
	var from, to uint64
	for i, into := range []any{&name, &from, &to} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	if name == "" || to <= from {
		return fmt.Errorf("the region %q from version %d to %d", name, from, to)
	}
	r := p.regions[name]
	if r == nil {
		r = &region{}
		p.regions[name] = r
	}
	if from == 0 {
		r.client = render.Client{}
	} else if from != r.version {
		// A browser would ask for the whole region; in memory no frame is ever lost.
		return fmt.Errorf("the region %q from version %d, but the page has %d", name, from, r.version)
	}
	r.version = to
	return r.client.Apply(parts[3])
}

const excerpt = 2000 // bytes of a page in a message

func cut(s string) string { return cutTo(s, excerpt) }

func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
