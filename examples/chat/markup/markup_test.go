package markup

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

const attrs = `" rel="noopener noreferrer nofollow ugc" target="_blank">`

func TestMarkup(t *testing.T) {
	t.Parallel()
	link := func(u, text string) string { return `<a href="` + u + attrs + text + `</a>` }
	for name, c := range map[string]struct{ text, want string }{
		"text":                       {"hello", "hello"},
		"lines stay":                 {"a\n\n  b", "a\n\n  b"},
		"bold":                       {"a **b c** d", "a <strong>b c</strong> d"},
		"bold by underscores":        {"__b__", "<strong>b</strong>"},
		"italic":                     {"*a* _b_", "<em>a</em> <em>b</em>"},
		"italic in bold":             {"**a *b* c**", "<strong>a <em>b</em> c</strong>"},
		"names are not italic":       {"snake_case_name", "snake_case_name"},
		"sums are not italic":        {"2 * 3 * 4", "2 * 3 * 4"},
		"a row of stars":             {"*****", "*****"},
		"no end":                     {"**a *b", "**a *b"},
		"not over paragraphs":        {"*a\n\nb*", "*a\n\nb*"},
		"code":                       {"`a *b* <c>`", "<code>a *b* &lt;c&gt;</code>"},
		"code is not over lines":     {"`a\nb`", "`a\nb`"},
		"a block of code":            {"x\n```\nif a < b {\n}\n```\ny", "x\n<pre><code>if a &lt; b {\n}</code></pre>y"},
		"a link":                     {"see https://go.dev/x?a=1&b=2.", "see " + link("https://go.dev/x?a=1&amp;b=2", "https://go.dev/x?a=1&amp;b=2") + "."},
		"a link in brackets":         {"(http://a.b/c_(d))", "(" + link("http://a.b/c_(d)", "http://a.b/c_(d)") + ")"},
		"a link in bold":             {"**https://a.b**", "<strong>" + link("https://a.b", "https://a.b") + "</strong>"},
		"a link with a text":         {"[the **docs**](https://a.b/c)", link("https://a.b/c", "the **docs**") + " (a.b)"},
		"a link says where it leads": {"[https://bank.example](https://evil.example)", link("https://evil.example", "https://bank.example") + " (evil.example)"},
		"scripts are no links":       {"[x](javascript:alert(1))", "[x](javascript:alert(1))"},
		"data is no link":            {"[x](data:text/html,x)", "[x](data:text/html,x)"},
		"users are no links":         {"https://bank.example@evil.example", "https://bank.example@evil.example"},
		"nothing after the scheme":   {"https:// http:", "https:// http:"},
		"quotes cannot leave":        {`[x](https://a.b/"onclick="x)`, link("https://a.b/%22onclick=%22x", "x") + " (a.b)"},
		"tags are text":              {"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"},
		"attributes are text":        {`"><img src=x onerror=y>`, "&#34;&gt;&lt;img src=x onerror=y&gt;"},
		"entities are text":          {"&lt;", "&amp;lt;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, string(HTML(c.text)))
		})
	}
}

// check requires that an HTML parser finds nothing in the result that must not be there.
func check(t *testing.T, text string) {
	allowed := map[string]bool{"strong": true, "em": true, "code": true, "pre": true, "a": true}
	z := html.NewTokenizer(strings.NewReader(string(HTML(text))))
	var open []string
	for {
		switch z.Next() {
		case html.ErrorToken:
			require.Empty(t, open, "left open by %q", text)
			return
		case html.StartTagToken:
			tag := z.Token()
			require.True(t, allowed[tag.Data], "%q makes a <%s>", text, tag.Data)
			open = append(open, tag.Data)
			if tag.Data != "a" {
				require.Empty(t, tag.Attr, "%q", text)
				continue
			}
			require.Len(t, tag.Attr, 3, "%q", text)
			require.Equal(t, html.Attribute{Key: "rel", Val: "noopener noreferrer nofollow ugc"}, tag.Attr[1])
			require.Equal(t, html.Attribute{Key: "target", Val: "_blank"}, tag.Attr[2])
			require.Equal(t, "href", tag.Attr[0].Key)
			u, err := url.Parse(tag.Attr[0].Val)
			require.NoError(t, err)
			require.Contains(t, []string{"http", "https"}, u.Scheme, "%q", text)
			require.NotEmpty(t, u.Hostname(), "%q", text)
			require.Nil(t, u.User, "%q", text)
		case html.EndTagToken:
			tag := z.Token()
			require.NotEmpty(t, open, "%q", text)
			require.Equal(t, open[len(open)-1], tag.Data, "%q", text)
			open = open[:len(open)-1]
		case html.TextToken:
		default:
			t.Fatalf("%q makes %v", text, z.Token())
		}
	}
}

func FuzzOnlyWhatIsAllowedComesOut(f *testing.F) {
	for _, s := range []string{
		"a **b *c* d** `e` ```f\n``` https://a.b/c?d#e [g](http://h)", "<a href=x>**</a>**", "*[*a*](https://b)*", "``` ` ```",
		"[x](https://a.b/\"'<>)", "https://a.b/*c*", "**https://a.b/**", "\x00\xff<", "_a*b_c*", "____", "[](https://a.b)", "[[a](https://b)](https://c)",
		"https://[::1]/ http://a:b https://a%zz", "hTTps://x\u202ey", "<!--", "<![CDATA[", "&#x3c;script&#x3e;",
	} {
		f.Add(s)
	}
	f.Fuzz(check)
}

func TestAHostileTextIsQuick(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"*", "_", "**a ", "`", "```", "[", "[a](", "[a](https://b", "*a_b", "https://", "](", "*`", "(https://a)", "* *a "} {
		text := strings.Repeat(s, 20_000/len(s)) // ten times what a room takes
		began := time.Now()
		check(t, text)
		require.Less(t, time.Since(began), 2*time.Second, "%q", s)
	}
}

func TestPlainIsWhatReadersSee(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"**Welcome** to `levada` & *more*!":  "Welcome to levada & more!",
		"a < b, [here](https://example.com)": "a < b, here (example.com)",
		"2 * 3 * 4":                          "2 * 3 * 4",
		"<b>no</b>":                          "<b>no</b>",
	} {
		require.Equal(t, want, Plain(text))
	}
}
