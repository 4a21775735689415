package live_test

import (
	"fmt"
	"html/template"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/levada-go/levada/live"
)

// Counter is the state of one page.
type Counter struct {
	Count int
}

func newCounter() *live.View[Counter] {
	v := &live.View[Counter]{
		Template: template.Must(template.New("counter").Parse(
			`<output>{{.Count}}</output><button live-click="add" live-value-by="5">Add 5</button>`)),
		Mount: func(ctx *live.Ctx, s *Counter) error {
			ctx.Title("Counter")
			return nil
		},
	}
	live.On(v, "add", func(_ *live.Ctx, s *Counter, in struct{ By int }) error {
		s.Count += in.By
		return nil
	})
	return v
}

// A page is served over HTTP, and then over a WebSocket that brings what a click changes.
func Example() {
	site, err := live.NewSite(nil)
	if err != nil {
		log.Fatal(err)
	}
	live.Handle(site, "/", newCounter())
	server := httptest.NewServer(site) // or http.ListenAndServe(":8080", site)
	defer server.Close()

	// From here on this is what a browser does.
	answer, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	page, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	fmt.Println(regexp.MustCompile(`<output>\d+</output>`).FindString(string(page)))

	socket := "ws" + strings.TrimPrefix(server.URL, "http") + "/_live/socket"
	conn, _, err := websocket.DefaultDialer.Dial(socket, http.Header{"Cookie": {answer.Cookies()[0].String()}})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	token := regexp.MustCompile(`data-token="(.*?)"`).FindStringSubmatch(string(page))[1]
	conn.WriteJSON([]any{1, "j", map[string]any{"t": token, "u": "/", "p": map[string]string{}, "n": 0}})
	_, frame, _ := conn.ReadMessage()
	fmt.Println("joined:", strings.HasPrefix(string(frame), `["j",1,`))

	for ref := range 2 {
		conn.WriteJSON([]any{ref + 2, "e", "add", "click", map[string]string{"by": "5"}})
		_, frame, _ = conn.ReadMessage()
		fmt.Println(string(frame))
	}
	// Output:
	// <output>0</output>
	// joined: true
	// [2,{"d":[0,"5"]}]
	// [3,{"d":[0,"10"]}]
}
