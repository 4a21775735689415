package live_test

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"

	"github.com/levada-go/levada/live"
)

// Ticket is the state of a page with a form. With a Page in it, the template has the errors, what was typed, and
// messages.
type Ticket struct {
	live.Page
	Orders []PlaceOrder
}

// PlaceOrder is what the form sends, and may check itself.
type PlaceOrder struct {
	Symbol   string
	Quantity int
}

func (o PlaceOrder) Validate() error {
	wrong := live.Errors{}
	if o.Symbol == "" {
		wrong["symbol"] = "is missing"
	}
	if o.Quantity < 1 {
		wrong["quantity"] = "must be at least 1"
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

var errClosed = errors.New("market closed")

// A form works with and without JavaScript: with it, live-submit sends the event over the connection; without it, the
// button says which event the form is, and the answer is a redirect, or the page with what is wrong.
func ExampleOn() {
	ticket := &live.View[Ticket]{
		Template: template.Must(template.New("ticket").Parse(`
<form method="post" live-submit="place_order">
<label>Symbol <input name="symbol" value="{{.Value "symbol"}}"></label> {{.Error "symbol"}}
<label>Quantity <input name="quantity" value="{{.Value "quantity"}}"></label> {{.Error "quantity"}}
<button name="_event" value="place_order">Buy</button>
</form>
<p role="status">{{.Flash "info"}}{{.Flash "error"}}</p>`)),
	}
	live.On(ticket, "place_order", func(ctx *live.Ctx, s *Ticket, in PlaceOrder) error {
		if in.Symbol == "XLM" {
			return errClosed
		}
		s.Orders = append(s.Orders, in)
		ctx.Flash("info", fmt.Sprintf("Bought %d %s", in.Quantity, in.Symbol))
		return nil
	})

	site, err := live.NewSite(&live.Options{
		Explain: func(err error) string {
			if errors.Is(err, errClosed) {
				return "This market is closed now."
			}
			return ""
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	live.Handle(site, "/ticket", ticket)
	server := httptest.NewServer(site)
	defer server.Close()

	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar} // without JavaScript
	for _, form := range []url.Values{
		{"symbol": {"BTC"}, "quantity": {"many"}},
		{"symbol": {""}, "quantity": {"0"}},
		{"symbol": {"XLM"}, "quantity": {"1"}},
		{"symbol": {"BTC"}, "quantity": {"2"}},
	} {
		form.Set("_event", "place_order")
		answer, err := browser.PostForm(server.URL+"/ticket", form)
		if err != nil {
			log.Fatal(err)
		}
		page, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		fmt.Println(answer.StatusCode, answer.Request.Method)
		for _, said := range regexp.MustCompile(`(?m)</label> (.+)$|"status">(.+)</p>`).FindAllStringSubmatch(string(page), -1) {
			fmt.Println(" ", said[1]+said[2])
		}
	}
	// Output:
	// 422 POST
	//   must be a whole number
	// 422 POST
	//   is missing
	//   must be at least 1
	// 422 POST
	//   This market is closed now.
	// 200 GET
	//   Bought 2 BTC
}
