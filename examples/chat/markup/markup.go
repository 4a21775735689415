// Package markup shows what people write: a little of Markdown, and nothing else.
//
//	**bold**  __bold__  *italic*  _italic_  `code`  ```code, of several lines```  https://example.com  [text](https://example.com)
//
// # Why it is safe
//
// HTML goes through a writer that has three methods: one escapes text, one opens or closes a tag out of a
// list of constants, one opens a link to a URL that was parsed and written anew. There is no way
// through it for anything else, whatever the parser makes of a text. Links are http or https, name no user, and say
// where they lead: behind the text of a link stands its host.
package markup

import (
	"html/template"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// HTML returns text as HTML, for an element that keeps white space (white-space: pre-wrap). The elements in
// it are strong, em, code, pre and a; the attributes are those of links: href, rel and target. It takes time in proportion to the
// length of the text.
func HTML(text string) template.HTML {
	var p parser
	p.text(text)
	return template.HTML(p.out.b.String())
}

// Plain returns what a reader of [HTML] sees: text without its marks, for where there is no room for more than a line.
func Plain(text string) string {
	p := parser{out: writer{plain: true}}
	p.text(text)
	return p.out.b.String()
}

// maxURL is what a URL is shorter than, in bytes; what is longer is text.
const maxURL = 1000

// tag is an element without attributes.
type tag string

const (
	strong tag = "strong"
	em     tag = "em"
	code   tag = "code"
	pre    tag = "pre"
)

// writer is the only way to HTML, or writes the text alone.
type writer struct {
	b     strings.Builder
	plain bool
}

func (w *writer) open(t tag)  { w.tag("<" + string(t) + ">") }
func (w *writer) close(t tag) { w.tag("</" + string(t) + ">") }

func (w *writer) tag(s string) {
	if !w.plain {
		w.b.WriteString(s)
	}
}

func (w *writer) text(s string) {
	if !w.plain {
		s = template.HTMLEscapeString(s)
	}
	w.b.WriteString(s)
}

func (w *writer) link(u *url.URL, text string) {
	if w.plain {
		w.text(text)
		return
	}
	w.b.WriteString(`<a href="` + template.HTMLEscapeString(u.String()) + `" rel="noopener noreferrer nofollow ugc" target="_blank">`)
	w.text(text)
	w.b.WriteString(`</a>`)
}

// parser reads a text once from its beginning to its end. What looked like the beginning of something and has no
// end is text.
type parser struct {
	out    writer
	inBold bool
	inItal bool
}

func (p *parser) text(s string) {
	done := 0 // s[:done] is written
	flush := func(to int) {
		p.out.text(s[done:to])
		done = to
	}
	ends := ends{s: s}
	for i := 0; i < len(s); {
		n := 0
		switch c := s[i]; {
		case c == '`':
			n = p.code(s, i, &ends, flush)
		case c == '*' || c == '_':
			n = p.emphasis(s, i, &ends, flush)
		case c == '[':
			n = p.labelled(s, i, &ends, flush)
		case (c == 'h' || c == 'H') && !wordBefore(s, i):
			n = p.bare(s, i, flush)
		}
		if n == 0 {
			i++
			continue
		}
		i += n
		done = i
	}
	flush(len(s))
}

// ends remembers for which delimiters there is no end any more, so that no part of a text is searched
// again and again.
type ends struct {
	s    string
	none map[string]int // from where on
}

// find returns where the delimiter d next stands at or after from, or -1.
func (e *ends) find(d string, from int) int {
	if at, ok := e.none[d]; ok && from >= at {
		return -1
	}
	if i := strings.Index(e.s[from:], d); i >= 0 {
		return from + i
	}
	if e.none == nil {
		e.none = map[string]int{}
	}
	e.none[d] = from
	return -1
}

// code reads `code` or ```code``` at i and returns its length, 0 if it is none.
func (p *parser) code(s string, i int, ends *ends, flush func(int)) int {
	if strings.HasPrefix(s[i:], "```") {
		if end := ends.find("```", i+3); end > i+3 {
			flush(i)
			p.out.open(pre)
			p.out.open(code)
			p.out.text(strings.Trim(s[i+3:end], "\n"))
			p.out.close(code)
			p.out.close(pre)
			end += 3
			if strings.HasPrefix(s[end:], "\n") { // a block ends its line itself
				end++
			}
			return end - i
		}
	}
	end := ends.find("`", i+1)
	if end <= i+1 || strings.Contains(s[i+1:end], "\n") {
		return 0
	}
	flush(i)
	p.out.open(code)
	p.out.text(s[i+1 : end])
	p.out.close(code)
	return end + 1 - i
}

// emphasis reads *italic* or **bold** at i and returns its length, 0 if it is none. Bold may hold italic, and italic
// bold, each once.
func (p *parser) emphasis(s string, i int, ends *ends, flush func(int)) int {
	d, t, in := s[i:i+1], em, &p.inItal
	if strings.HasPrefix(s[i:], d+d) {
		d, t, in = d+d, strong, &p.inBold
	}
	from := i + len(d)
	if *in || from >= len(s) || isSpace(s[from:]) || d[0] == '_' && wordBefore(s, i) {
		return 0
	}
	end := ends.find(d, from+1)
	if end < 0 {
		return 0
	}
	inner := s[from:end]
	if strings.Contains(inner, "\n\n") || endsInSpace(inner) || d[0] == '_' && wordAt(s, end+len(d)) {
		return 0
	}
	if d == "*" && strings.Contains(inner, "`") || len(inner) == strings.Count(inner, d[:1]) {
		return 0 // code comes first; a row of stars is a row of stars
	}
	flush(i)
	p.out.open(t)
	*in = true
	p.text(inner)
	*in = false
	p.out.close(t)
	return end + len(d) - i
}

// labelled reads [text](url) at i.
func (p *parser) labelled(s string, i int, ends *ends, flush func(int)) int {
	mid := ends.find("](", i+1)
	if mid <= i+1 {
		return 0
	}
	label := s[i+1 : mid]
	end := ends.find(")", mid+2)
	if end < 0 || end-mid > maxURL || strings.ContainsAny(label, "[]\n`") || strings.TrimSpace(label) == "" {
		return 0
	}
	u := address(s[mid+2 : end])
	if u == nil {
		return 0
	}
	flush(i)
	p.out.link(u, label)
	p.out.text(" (" + u.Host + ")")
	return end + 1 - i
}

// bare reads a URL that stands in the text.
func (p *parser) bare(s string, i int, flush func(int)) int {
	head := strings.ToLower(s[i:min(len(s), i+8)])
	if !strings.HasPrefix(head, "http://") && head != "https://" {
		return 0
	}
	raw := s[i:min(len(s), i+maxURL)]
	if end := strings.IndexFunc(raw, func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsGraphic(c) || strings.ContainsRune("<>\"`", c)
	}); end >= 0 {
		raw = raw[:end]
	} else if len(raw) == maxURL {
		return 0
	}
	for { // what ends a sentence is not of the URL, nor a bracket that was opened before it
		cut := strings.TrimRight(raw, ".,:;!?'*_")
		if strings.HasSuffix(cut, ")") && strings.Count(cut, "(") < strings.Count(cut, ")") {
			cut = cut[:len(cut)-1]
		}
		if len(cut) == len(raw) {
			break
		}
		raw = cut
	}
	u := address(raw)
	if u == nil {
		return 0
	}
	flush(i)
	p.out.link(u, raw)
	return len(raw)
}

// address returns the URL that raw is, if it may be linked to.
func address(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return nil
	}
	for _, c := range raw {
		if unicode.IsSpace(c) || !unicode.IsGraphic(c) {
			return nil
		}
	}
	return u
}

func isSpace(s string) bool {
	c, _ := utf8.DecodeRuneInString(s)
	return unicode.IsSpace(c)
}

func endsInSpace(s string) bool {
	c, _ := utf8.DecodeLastRuneInString(s)
	return unicode.IsSpace(c)
}

func wordBefore(s string, i int) bool {
	c, _ := utf8.DecodeLastRuneInString(s[:i])
	return unicode.IsLetter(c) || unicode.IsDigit(c)
}

func wordAt(s string, i int) bool {
	c, _ := utf8.DecodeRuneInString(s[i:])
	return unicode.IsLetter(c) || unicode.IsDigit(c)
}
