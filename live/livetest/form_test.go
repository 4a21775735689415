package livetest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"
)

const everyField = `<!doctype html><form id="f">
<input name="text" value="a b">
<input name="empty">
<input name="off" value="x" disabled>
<input value="no name">
<input type="hidden" name="agree" value="no"><input type="checkbox" name="agree" value="yes">
<input type="checkbox" name="on" checked>
<input type="checkbox" name="tag" value="1" checked><input type="checkbox" name="tag" value="2"><input type="checkbox" name="tag" value="3" checked>
<input type="radio" name="side" value="buy" checked><input type="radio" name="side" value="sell">
<select name="first"><option disabled>none<option>one<option value="2">two</select>
<select name="late"><option value="1"><option value="2" selected><option value="3" selected></select>
<select name="many" multiple><option>a<option selected>b<option selected>c<optgroup disabled><option selected>d</optgroup></select>
<textarea name="area">
line 1
line 2</textarea>
<fieldset disabled><legend><input name="legend" value="in"></legend><input name="set" value="out"></fieldset>
<datalist><input name="data" value="no"></datalist>
<input type="reset" name="reset" value="no"><button type="button" name="button" value="no">
<button name="go" value="1">Go</button><input type="submit" name="stop" value="2">
</form><input form="f" name="outside" value="too"><input name="alone" value="no">`

func formIn(page string) (root, form *html.Node) {
	d := parse(page)
	for n := range keysOf(d.root) {
		if kind(n) == "select" {
			choose(n)
		}
	}
	return d.root, find(d.root, func(n *html.Node) bool { return is(n, atom.Form) })
}

func TestAFormSendsWhatABrowserSends(t *testing.T) {
	t.Parallel()
	root, form := formIn(everyField)
	button := find(root, func(n *html.Node) bool { return get(n, "name") == "stop" })
	require.Equal(t, []entry{
		{"text", "a b"}, {"empty", ""}, {"agree", "no"}, {"on", "on"}, {"tag", "1"}, {"tag", "3"}, {"side", "buy"},
		{"first", "one"}, {"late", "3"}, {"many", "b"}, {"many", "c"}, {"area", "line 1\nline 2"}, {"legend", "in"},
		{"stop", "2"}, {"outside", "too"},
	}, entries(root, form, button))
}

func TestValuesAreEnteredAsByHand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, field, values string
		want                string // "name=value" of what is sent, or the error
	}{
		{"text", "text", "new", "text=new"},
		{"a checkbox with a hidden field", "agree", "yes", "agree=no agree=yes"},
		{"a checkbox without a value is emptied", "on", "", ""},
		{"boxes", "tag", "2,3", "tag=2 tag=3"},
		{"no boxes", "tag", "", ""},
		{"radio", "side", "sell", "side=sell"},
		{"select", "first", "2", "first=2"},
		{"several", "many", "a,b", "many=a many=b"},
		{"none of several", "many", "", ""},
		{"lines", "area", "x\ny", "area=x\ny"},
		{"a line", "text", "x\ny", `the field "text" takes one line`},
		{"no such box", "agree", "maybe", `the field "agree" cannot be "maybe", only "yes"`},
		{"no such radio", "side", "hold", `the field "side" cannot be "hold", only "buy", "sell"`},
		{"no such option", "first", "3", `the field "first" cannot be "3", only "one", "2"`},
		{"a disabled option", "first", "none", `the field "first" cannot be "none"`},
		{"a disabled option of several", "many", "d", `the field "many" cannot be "d"`},
		{"two options of a select for one", "first", "one,2", `2 values for the field "first"`},
		{"two values of one field", "text", "1,2", `2 values for 1 fields "text"`},
		{"disabled", "off", "y", `nobody can change the field "off": it is disabled`},
		{"disabled by its fieldset", "set", "y", `nobody can change the field "set": it is disabled`},
		{"unknown", "nothing", "y", `there is no field "nothing", only text, empty, off, agree, on`},
		{"a button", "go", "y", `there is no field "go"`},
		{"of no form", "alone", "y", `there is no field "alone"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root, form := formIn(everyField)
			_, err := enter(controls(root, form), c.field, strings.Split(c.values, ","))
			if err != nil {
				require.Contains(t, err.Error(), c.want)
				return
			}
			var got []string
			for _, e := range entries(root, form, nil) {
				if e.name == c.field {
					got = append(got, e.name+"="+e.value)
				}
			}
			require.Equal(t, c.want, strings.Join(got, " "))
		})
	}
}

func TestFieldsThatNobodyCanChange(t *testing.T) {
	t.Parallel()
	for field, why := range map[string]string{
		`<input type="hidden" name="x">`:                            "is a hidden field",
		`<input name="x" readonly>`:                                 "is readonly",
		`<input name="x" hidden>`:                                   "is hidden",
		`<div style="color:red; display : none"><input name="x">`:   "is hidden by its style",
		`<input name="x" style="visibility: hidden !important">`:    "is hidden by its style",
		`<div inert><input name="x">`:                               "is inert",
		`<dialog><input name="x">`:                                  "is in a dialog that is not open",
		`<input type="file" name="x">`:                              "is for files",
		`<fieldset disabled><legend></legend><select name="x">`:     "is disabled",
		`<fieldset disabled><div><legend><input name="x"></legend>`: "is disabled",
	} {
		root, form := formIn("<form>" + field)
		_, err := enter(controls(root, form), "x", []string{"y"})
		require.ErrorContains(t, err, why, field)
	}
	root, form := formIn(`<form><dialog open><fieldset disabled><legend><input name="x"></legend></fieldset></dialog>`)
	_, err := enter(controls(root, form), "x", []string{"y"})
	require.NoError(t, err)
}

// What a field shows can be put into a fresh rendering of it.
func TestStatesAreRestored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"", "a", `"`, `a","b`, ",", `\`}), rapid.ID).Draw(t, "values")
		var b strings.Builder
		b.WriteString(`<form><select multiple name="s">`)
		for _, v := range values {
			b.WriteString(`<option value="` + html.EscapeString(v) + `">`)
		}
		b.WriteString(`</select><textarea name="t"></textarea><input name="i"><input type="checkbox" name="c">`)
		root, form := formIn(b.String())
		fields := controls(root, form)
		for _, o := range options(fields[0]) {
			if rapid.Bool().Draw(t, "selected") {
				setAttr(o, "selected", "")
			}
		}
		text := rapid.StringMatching(`[a-z"\\\n]*`).Draw(t, "text")
		restore(fields[1], text)
		restore(fields[2], text)
		if rapid.Bool().Draw(t, "checked") {
			setAttr(fields[3], "checked", "")
		}
		again, form2 := formIn(b.String())
		for i, n := range controls(again, form2) {
			restore(n, state(fields[i]))
			require.Equal(t, state(fields[i]), state(n))
		}
		require.Equal(t, entries(root, form, nil), entries(again, form2, nil))
	})
}

func TestTextOfAnElement(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<p> a \n b </p>":                               "a b",
		"<p>a<b>b</b>c</p>":                             "abc",
		"<table><tr><td>1<td>2<tr><td>3</table>":        "1 2 3",
		"a<br>b<script>x</script><style>y</style>&lt;c": "a b<c",
	} {
		require.Equal(t, want, text(parse("<!doctype html><div>"+in+"</div>").root), in)
	}
}

func TestWhatAPageMustNotHave(t *testing.T) {
	t.Parallel()
	for page, want := range map[string]string{
		`<p id="a"><i id="a">`:                  `two elements have the id "a": <p id="a"> and <i id="a">`,
		`<p live-hook="x">`:                     "an element with live-hook must have an id",
		`<p live-update="stream">`:              "an element with live-update must have an id",
		`<form live-change="x">`:                "a form with live-change must have an id",
		`<form id="b" live-change="x"><p id=c>`: "",
	} {
		err := parse(page).check()
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}
