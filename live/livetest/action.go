package livetest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Click clicks an element. As in a browser, that sends the live-click of the element or of the nearest around it, and the
// live-click-away of all that it is not in; then a link is followed, the form of a button sent, a box checked or not.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.begin()
	n := p.usable(selector)
	bound := p.bound(n, "live-click")
	box := p.boxOf(n)
	link := up(n, func(n *html.Node) bool { return is(n, atom.A) && has(n, "href") })
	button := up(n, isSubmitter)
	away := p.awayFrom(n)
	if p.browser.plain && (link != nil || button != nil) {
		bound = nil // without JavaScript they are what they are
	}
	if bound == nil && box == nil && link == nil && (button == nil || formOf(p.dom.root, button) == nil) && len(away) == 0 {
		p.fail("a click on %s does nothing: neither it nor what is around it has live-click, is a link, a button of a form or a box", tag(n))
	}

	if box != nil {
		p.toggle(box)
	}
	refs := p.clickAway(away)
	if bound != nil {
		refs = append(refs, p.event(bound, "live-click", "click", nil))
	}
	if box != nil {
		refs = append(refs, p.change(formOf(p.dom.root, box), box)...)
	}
	p.done("a click on "+selector, refs...)
	switch {
	case link != nil && (bound == nil || bound.DataAtom != atom.A):
		p.follow(link)
	case button != nil && formOf(p.dom.root, button) != nil:
		p.submit(formOf(p.dom.root, button), button)
	}
	p.settle()
}

// ClickAway clicks where nothing is: it sends the live-click-away of an element, and that of all others.
func (p *Page) ClickAway(selector string) {
	p.t.Helper()
	p.begin()
	n := p.usable(selector)
	if !has(n, "live-click-away") {
		p.fail("%s has no live-click-away", tag(n))
	}
	p.done("a click away from "+selector, p.clickAway(p.awayFrom(nil))...)
	p.settle()
}

// Fill enters values into the fields of a form, one after the other, given as names and values:
//
//	page.Fill("#order", "side", "buy", "price", "7")
//
// A checkbox is checked by its value and emptied by "". A name that comes more than once sets that many boxes,
// options or fields. If the form or the field has live-change, each change is sent. Selector is that of the form
// or of a field in it. A field that is hidden, disabled or readonly, and a choice that a field does not offer,
// fail the test.
func (p *Page) Fill(selector string, namesAndValues ...string) {
	p.t.Helper()
	if len(namesAndValues) == 0 {
		p.fail("Fill needs names and values")
	}
	for _, e := range p.pairs(namesAndValues) {
		p.begin()
		form, at := p.formAt(selector)
		if why := concealed(at); why != "" {
			p.fail("nobody can use %s: it %s", tag(at), why)
		}
		fields := p.fill(form, at, e)
		p.done("a change of "+e.name, p.change(form, fields[0])...)
		p.settle()
	}
}

// Submit sends a form, after entering values as [Page.Fill] does, but without telling of each change. Selector is
// that of the form, of a field in it, or of the button to send it with; if it is no button, that is the form's
// first, as with the Enter key. A form without live-submit goes over HTTP. What the browser itself would refuse,
// such as an empty field that is required, is sent, so that the refusal of the server can be tested.
func (p *Page) Submit(selector string, namesAndValues ...string) {
	p.t.Helper()
	p.begin()
	form, at := p.formAt(selector)
	if form == nil {
		p.fail("%s is in no form", tag(at))
	}
	if why := concealed(at); why != "" {
		p.fail("nobody can use %s: it %s", tag(at), why)
	}
	for _, e := range p.pairs(namesAndValues) {
		p.fill(form, at, e)
	}
	button := at
	if !isSubmitter(at) {
		button = find(p.dom.root, func(n *html.Node) bool { return isSubmitter(n) && formOf(p.dom.root, n) == form })
		if button != nil && isDisabled(button) {
			p.fail("the form cannot be sent: its button is disabled: %s", tag(button))
		}
	}
	p.submit(form, button)
	p.settle()
}

// Key presses a key in an element and lets it go, a key as browsers name it, such as "Enter", "ArrowUp" or "a". It
// sends the live-keydown and live-keyup of the element or the nearest around it, and the live-window-keydown and
// -keyup of all, that have no other live-key. Enter in a field of one line also sends its form. No field changes
// by it: see [Page.Fill].
func (p *Page) Key(selector, key string) {
	p.t.Helper()
	p.begin()
	n := p.usable(selector)
	refs := p.press(n, key)
	form := formOf(p.dom.root, n)
	enter := key == "Enter" && is(n, atom.Input) && isField(n) && form != nil
	if len(refs) == 0 && !enter {
		p.fail("the key %q does nothing in %s", key, tag(n))
	}
	p.done("the key "+key, refs...)
	if enter {
		p.submit(form, find(p.dom.root, func(n *html.Node) bool { return isSubmitter(n) && formOf(p.dom.root, n) == form }))
	}
	p.settle()
}

// WindowKey presses a key while nothing has the focus.
func (p *Page) WindowKey(key string) {
	p.t.Helper()
	p.begin()
	refs := p.press(nil, key)
	if len(refs) == 0 {
		p.fail("nothing waits for the key %q: no element has live-window-keydown or live-window-keyup for it", key)
	}
	p.done("the key "+key, refs...)
	p.settle()
}

// Focus and Blur move the focus into an element and out of it: they send its live-focus and live-blur.
func (p *Page) Focus(selector string) { p.t.Helper(); p.focusing(selector, "focus") }
func (p *Page) Blur(selector string)  { p.t.Helper(); p.focusing(selector, "blur") }

// Hook pushes an event as the hook of an element does, with any payload that JSON can hold, and returns the reply,
// nil without one.
func (p *Page) Hook(selector, event string, payload any) json.RawMessage {
	p.t.Helper()
	p.begin()
	n := p.one(selector)
	if !has(n, "live-hook") {
		p.fail("%s has no live-hook", tag(n))
	}
	ref := p.say("e", event, "hook", payload)
	p.done("the event "+event, ref)
	p.settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replies[ref]
}

// Forge sends a click that the page does not offer, as somebody can who writes to the server by hand: what a view
// refuses must not be left to what it shows. Values are given as names and values.
func (p *Page) Forge(event string, namesAndValues ...string) {
	p.t.Helper()
	p.begin()
	values := map[string]string{}
	for _, e := range p.pairs(namesAndValues) {
		values[e.name] = e.values[0]
	}
	p.done("a forged click", p.say("e", event, "click", values))
	p.settle()
}

// bound returns the nearest element around n that has an attribute and is in the view, n included.
func (p *Page) bound(n *html.Node, name string) *html.Node {
	el := up(n, func(n *html.Node) bool { return has(n, name) })
	if el == nil || !p.inView(el) {
		return nil
	}
	return el
}

func (p *Page) inView(n *html.Node) bool {
	return p.dom.live != nil && up(n, func(n *html.Node) bool { return n == p.dom.live }) != nil
}

// event sends the event that an attribute of an element names, with the values of the element and others.
func (p *Page) event(n *html.Node, attribute, kind string, more map[string]string) int {
	p.t.Helper()
	name := get(n, attribute)
	if name == "" {
		p.fail("%s names no event in %s", tag(n), attribute)
	}
	values := map[string]string{}
	for k, v := range more {
		values[k] = v
	}
	if is(n, atom.Input, atom.Button, atom.Select, atom.Textarea, atom.Option, atom.Data) {
		if v := p.value(n); v != "" {
			values["value"] = v
		}
	}
	for _, a := range n.Attr {
		if name, ok := strings.CutPrefix(a.Key, "live-value-"); ok {
			values[name] = a.Val
		}
	}
	return p.say("e", name, kind, values)
}

// value returns what a script finds as the value of an element, "" for a box that is not checked.
func (p *Page) value(n *html.Node) string {
	if !isField(n) {
		return get(n, "value")
	}
	if vs := values(n); len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// awayFrom returns the elements with live-click-away that n is not in and that can be seen.
func (p *Page) awayFrom(n *html.Node) []*html.Node {
	var list []*html.Node
	if p.dom.live == nil || p.browser.plain {
		return nil
	}
	all(p.dom.live, func(el *html.Node) bool {
		if has(el, "live-click-away") && concealed(el) == "" && (n == nil || up(n, func(n *html.Node) bool { return n == el }) == nil) {
			list = append(list, el)
		}
		return true
	})
	return list
}

func (p *Page) clickAway(from []*html.Node) (refs []int) {
	p.t.Helper()
	for _, el := range from {
		refs = append(refs, p.event(el, "live-click-away", "click", nil))
	}
	return refs
}

// press sends the events of a key that is pressed in n, nil for nowhere, and let go.
func (p *Page) press(n *html.Node, key string) (refs []int) {
	p.t.Helper()
	if p.dom.live == nil || p.browser.plain {
		return nil
	}
	send := func(el *html.Node, attribute, kind string) {
		if only := get(el, "live-key"); only == "" || strings.EqualFold(only, key) {
			refs = append(refs, p.event(el, attribute, kind, map[string]string{"key": key}))
		}
	}
	for _, kind := range []string{"keydown", "keyup"} {
		if n != nil {
			if el := p.bound(n, "live-"+kind); el != nil {
				send(el, "live-"+kind, kind)
			}
		}
		all(p.dom.live, func(el *html.Node) bool {
			if has(el, "live-window-"+kind) {
				send(el, "live-window-"+kind, kind)
			}
			return true
		})
	}
	return refs
}

func (p *Page) focusing(selector, kind string) {
	p.t.Helper()
	p.begin()
	n := p.usable(selector)
	if !has(n, "live-"+kind) {
		p.fail("%s has no live-%s", tag(n), kind)
	}
	if p.focus = ""; kind == "focus" {
		p.focus = p.keys[n]
	}
	p.done("the "+kind+" of "+selector, p.event(n, "live-"+kind, kind, nil))
	p.settle()
}

// follow follows a link.
func (p *Page) follow(a *html.Node) {
	p.t.Helper()
	u := p.resolve(get(a, "href"))
	if target := get(a, "target"); target != "" && target != "_self" {
		p.fail("%s opens another tab", tag(a))
	}
	if !isHere(u) {
		p.redirected = u.String()
		p.drop()
		p.arrive(u)
		p.record(u)
		return
	}
	patch, navigate := has(a, "live-patch"), has(a, "live-navigate")
	if (patch || navigate) && p.inView(a) && p.Connected() {
		kind := "n"
		if patch {
			kind = "p"
		} else {
			p.another()
		}
		p.move(u, false)
		p.went(kind, "following "+tag(a))
		return
	}
	if u.Fragment != "" && u.RequestURI() == p.url.RequestURI() {
		p.move(u, false)
		return
	}
	p.load(http.MethodGet, u, nil)
	p.record(p.url)
}

// named are the values of one name.
type named struct {
	name   string
	values []string
}

// pairs puts names and values together.
func (p *Page) pairs(namesAndValues []string) []named {
	p.t.Helper()
	if len(namesAndValues)%2 != 0 {
		p.fail("names and values must come in pairs, not as %q", namesAndValues)
	}
	var list []named
	for i := 0; i < len(namesAndValues); i += 2 {
		name, value := namesAndValues[i], namesAndValues[i+1]
		at := slices.IndexFunc(list, func(e named) bool { return e.name == name })
		if at < 0 {
			at = len(list)
			list = append(list, named{name: name})
		}
		list[at].values = append(list[at].values, value)
	}
	return list
}

// formAt returns the element that matches and its form: itself or the one it belongs to, nil for a field that is in none.
func (p *Page) formAt(selector string) (form, at *html.Node) {
	p.t.Helper()
	at = p.one(selector)
	if is(at, atom.Form) {
		return at, at
	}
	if !is(at, atom.Input, atom.Select, atom.Textarea, atom.Button) {
		p.fail("%s is no form, no field and no button", tag(at))
	}
	return formOf(p.dom.root, at), at
}

// fill enters values into the fields of one name. Without a form it is the field itself.
func (p *Page) fill(form, at *html.Node, e named) []*html.Node {
	p.t.Helper()
	candidates := []*html.Node{at}
	if form != nil {
		candidates = controls(p.dom.root, form)
	}
	before := p.states(candidates)
	fields, err := enter(candidates, e.name, e.values)
	if err != nil {
		p.fail("%v", err)
	}
	p.entered(form, fields, before)
	return fields
}

// states returns what fields show.
func (p *Page) states(fields []*html.Node) map[*html.Node]string {
	shown := map[*html.Node]string{}
	for _, n := range fields {
		if isField(n) {
			shown[n] = state(n)
		}
	}
	return shown
}

// entered remembers what the user has put into fields that showed something else before.
func (p *Page) entered(form *html.Node, fields []*html.Node, before map[*html.Node]string) {
	for _, n := range fields {
		key := p.keys[n]
		rendered := before[n]
		if was, ok := p.typed[key]; ok {
			rendered = was.rendered
		}
		p.typed[key] = typed{shown: state(n), rendered: rendered}
		p.touched[touch(form, get(n, "name"))] = true
	}
	p.focus = p.keys[fields[0]]
}

// touch names a field that was touched.
func touch(form *html.Node, name string) string {
	if form == nil {
		return "\x00" + name
	}
	return get(form, "id") + "\x00" + name
}

// boxOf returns the checkbox or radio button that a click on n is for: itself, or that of the label it is in.
func (p *Page) boxOf(n *html.Node) *html.Node {
	isBox := func(n *html.Node) bool {
		return is(n, atom.Input) && (kind(n) == "checkbox" || kind(n) == "radio")
	}
	if isBox(n) {
		return n
	}
	label := up(n, func(n *html.Node) bool { return is(n, atom.Label) })
	if label == nil {
		return nil
	}
	box := find(label, func(n *html.Node) bool { return is(n, atom.Input, atom.Select, atom.Textarea, atom.Button) })
	if id, ok := attr(label, "for"); ok {
		box = find(p.dom.root, func(n *html.Node) bool { return get(n, "id") == id })
	}
	if box == nil || !isBox(box) || isDisabled(box) {
		return nil
	}
	return box
}

// toggle changes a box as a click does.
func (p *Page) toggle(box *html.Node) {
	form := formOf(p.dom.root, box)
	fields := []*html.Node{box}
	if kind(box) == "radio" {
		for _, n := range controls(p.dom.root, form) {
			if n != box && is(n, atom.Input) && kind(n) == "radio" && get(n, "name") == get(box, "name") {
				fields = append(fields, n)
			}
		}
	}
	before := p.states(fields)
	checked := has(box, "checked") && kind(box) != "radio"
	for _, n := range fields {
		delAttr(n, "checked")
	}
	if !checked {
		setAttr(box, "checked", "")
	}
	p.entered(form, fields, before)
}

// change sends that a field has changed, if its live-change or that of its form wants it.
func (p *Page) change(form, field *html.Node) (refs []int) {
	p.t.Helper()
	if p.browser.plain || !p.inView(field) {
		return nil
	}
	name := get(field, "live-change")
	if name == "" && form != nil {
		name = get(form, "live-change")
	}
	if name == "" {
		return nil
	}
	if form != nil {
		return []int{p.say("e", name, "change", p.changes(form, get(field, "name")))}
	}
	list := []entry{{"_target", get(field, "name")}}
	if k := kind(field); k != "checkbox" && k != "radio" || has(field, "checked") {
		list = append(list, entry{get(field, "name"), p.value(field)})
	}
	return []int{p.say("e", name, "change", encode(list))}
}

// changes returns what the change of a field sends.
func (p *Page) changes(form *html.Node, target string) string {
	list := append(entries(p.dom.root, form, nil), entry{"_target", target})
	seen := map[string]bool{}
	for _, n := range controls(p.dom.root, form) {
		name := get(n, "name")
		if isField(n) && name != "" && kind(n) != "hidden" && !p.touched[touch(form, name)] && !seen[name] {
			seen[name] = true
			list = append(list, entry{"_unused_" + name, ""})
		}
	}
	return encode(list)
}

// submit sends a form with a button, nil without: as an event, or over HTTP.
func (p *Page) submit(form, button *html.Node) {
	p.t.Helper()
	if !has(form, "live-submit") || p.browser.plain || !p.inView(form) {
		p.post(form, button)
		return
	}
	list := entries(p.dom.root, form, button)
	event := get(form, "live-submit")
	for _, e := range list {
		if e.name == "_event" && get(form, "live-submit") == "" {
			event = e.value
		}
	}
	if event == "" {
		p.fail("%s names no event in live-submit, and no button does", tag(form))
	}
	fields := controls(p.dom.root, form)
	for _, n := range fields {
		p.touched[touch(form, get(n, "name"))] = true
	}
	p.focus = "" // the fields of a form that was sent may change though the user is in one
	ref := p.say("e", event, "submit", encode(list))
	p.done("sending "+tag(form), ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	if string(p.replies[ref]) != "1" || has(form, "live-keep") {
		return
	}
	// The server has dealt with it: what was typed gives way to what is rendered.
	for _, n := range fields {
		delete(p.typed, p.keys[n])
		delete(p.touched, touch(form, get(n, "name")))
	}
}

// post sends a form over HTTP.
func (p *Page) post(form, button *html.Node) {
	p.t.Helper()
	list := entries(p.dom.root, form, button)
	setting := func(name string) string {
		if button != nil {
			if v, ok := attr(button, "form"+name); ok {
				return v
			}
		}
		return get(form, name)
	}
	u := *p.resolve(setting("action"))
	u.Fragment = ""
	if !isHere(&u) {
		p.fail("%s leads to another site", tag(form))
	}
	values := url.Values{}
	for _, e := range list {
		values.Add(e.name, strings.ReplaceAll(strings.ReplaceAll(e.value, "\r\n", "\n"), "\n", "\r\n"))
	}
	if strings.EqualFold(setting("method"), "post") {
		p.load(http.MethodPost, &u, values)
	} else {
		u.RawQuery = values.Encode()
		p.load(http.MethodGet, &u, nil)
	}
	p.record(p.url)
}
