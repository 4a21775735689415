//go:build unix

package loopback

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/levada-go/levada/live"
)

const (
	pages  = 5000
	rate   = 10 // updates a second
	levels = 20 // rows of the region
	client = "LEVADA_LOOPBACK_CLIENT"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(client); addr != "" {
		if err := browse(addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Book is what everybody looks at: an order book, and when it was made.
type Book struct {
	Nanos int64
	Rows  []Row
}

type Row struct{ ID, Price, Quantity int }

var book = template.Must(template.New("book").Parse(
	`<time id="made">{{.Nanos}}</time><table><tbody id="rows">{{range .Rows}}<tr id="level-{{.ID}}"><td>{{.Price}}</td><td>{{.Quantity}}</td></tr>{{end}}</tbody></table>`))

type state struct {
	live.Page
	Symbol string
	Book   live.Shown
}

// BenchmarkRegion sends each update of a region to 5,000 pages over loopback, ten updates a second, and reports how long it takes
// from the moment the update is made until a page has its frame, and what a page costs the server: heap and
// stacks, without the buffers of the operating system.
//
//	go test -run xxx -bench Region -benchtime 100x ./live/internal/loopback
func BenchmarkRegion(b *testing.B) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < pages+100 {
		b.Skipf("at most %d files may be open", limit.Cur)
	}
	site, err := live.NewSite(nil)
	if err != nil {
		b.Fatal(err)
	}
	shown := template.Must(book.Clone())
	region, err := live.NewRegion[Book]("book", shown, -1)
	if err != nil {
		b.Fatal(err)
	}
	view := &live.View[state]{
		Template: template.Must(template.New("page").Parse(`<h1>{{.Symbol}}</h1>{{.Book.HTML}}`)),
		Mount: func(ctx *live.Ctx, s *state) error {
			s.Symbol, s.Book = "BTC-USD", region.Show(ctx)
			return nil
		},
	}
	live.Handle(site, "/", view)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: site}
	go server.Serve(listener)
	defer server.Close()

	before := used()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), client+"="+listener.Addr().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "joined" {
		b.Fatalf("the clients did not join: %q", lines.Text())
	}
	bytes, goroutines := float64(used()-before)/pages, float64(runtime.NumGoroutine())/pages

	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		data := Book{Nanos: time.Now().UnixNano()}
		for level := range levels {
			data.Rows = append(data.Rows, Row{level, 100 + level, (i*7 + level*3) % 50})
		}
		region.Set(uint64(i+1), data)
	}
	<-tick.C
	b.StopTimer()
	fmt.Fprintln(stdin, "done")
	var r result
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &r) != nil {
		b.Fatalf("no result: %q", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	if r.Frames == 0 || r.Frames > b.N*pages {
		b.Fatalf("%d frames of %d updates", r.Frames, b.N)
	}
	b.ReportMetric(bytes, "B/page")
	b.ReportMetric(goroutines, "goroutines/page")
	b.ReportMetric(r.P50, "ms/p50")
	b.ReportMetric(r.P99, "ms/p99")
	b.ReportMetric(r.Max, "ms/max")
	b.ReportMetric(float64(r.Bytes)/float64(r.Frames), "B/frame")
	b.ReportMetric(float64(r.Frames)/float64(b.N*pages), "frames/update/page")
}

// used returns the bytes of the heap and the stacks.
func used() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

type result struct {
	Frames, Bytes int
	P50, P99, Max float64 // milliseconds
}

var made = regexp.MustCompile(`[^0-9](1[0-9]{18})[^0-9]`)

// browse is 5,000 pages of one browser.
func browse(addr string) error {
	answer, err := http.Get("http://" + addr + "/")
	if err != nil {
		return err
	}
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	token := regexp.MustCompile(`data-token="(.*?)"`).FindSubmatch(page)
	if token == nil || len(answer.Cookies()) == 0 {
		return fmt.Errorf("no token in %s", page)
	}
	join := fmt.Sprintf(`[1,"j",{"t":%s,"u":"/","p":{},"n":0}]`, strconv.Quote(string(token[1])))
	header := http.Header{"Cookie": {answer.Cookies()[0].String()}}

	var mu sync.Mutex
	var took []float64
	var r result
	failed := make(chan error, 1)
	joined := make(chan struct{}, pages)
	dialer := websocket.Dialer{ReadBufferSize: 1 << 10, WriteBufferSize: 256}
	slots := make(chan struct{}, 64)
	for range pages {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			conn, _, err := dialer.Dial("ws://"+addr+"/_live/socket", header)
			if err == nil {
				err = conn.WriteMessage(websocket.TextMessage, []byte(join))
			}
			if err != nil {
				failed <- err
				return
			}
			go func() {
				for {
					_, frame, err := conn.ReadMessage()
					now := time.Now().UnixNano()
					switch {
					case err != nil:
						return
					case bytes.HasPrefix(frame, []byte(`["j"`)):
						joined <- struct{}{}
					case bytes.HasPrefix(frame, []byte(`["g"`)):
						at := made.FindSubmatch(frame)
						if at == nil {
							continue // the region as it was before the first update
						}
						nanos, _ := strconv.ParseInt(string(at[1]), 10, 64)
						mu.Lock()
						took = append(took, float64(now-nanos)/1e6)
						r.Frames++
						r.Bytes += len(frame)
						mu.Unlock()
					}
				}
			}()
		}()
	}
	for range pages {
		select {
		case <-joined:
		case err := <-failed:
			return err
		case <-time.After(time.Minute):
			return fmt.Errorf("the pages did not join")
		}
	}
	fmt.Println("joined")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(took)
	if n := len(took); n > 0 {
		r.P50, r.P99, r.Max = took[n/2], took[n*99/100], took[n-1]
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
