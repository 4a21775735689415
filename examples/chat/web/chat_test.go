package web

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/memstore"
)

func get(t *testing.T, h http.Handler, path string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestWhatComesBesidesThePages(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	c, stop := start(t, store)
	for path, kind := range map[string]string{"/assets/chat.css": "text/css", "/assets/chat.js": "text/javascript", "/assets/icon.svg": "image/svg"} {
		res := get(t, c, path)
		require.Equal(t, 200, res.StatusCode)
		require.Contains(t, res.Header.Get("Content-Type"), kind)
		require.Equal(t, http.StatusNotModified, get(t, c, path, "If-None-Match", res.Header.Get("ETag")).StatusCode)
	}
	require.Equal(t, 404, get(t, c, "/assets/").StatusCode)
	require.Equal(t, 404, get(t, c, "/assets/none.js").StatusCode)
	require.Equal(t, "/assets/icon.svg", get(t, c, "/favicon.ico").Header.Get("Location"))
	require.Equal(t, 200, get(t, c, "/healthz").StatusCode)
	require.Contains(t, get(t, c, "/lobby").Header.Get("Content-Security-Policy"), "default-src 'none'")
	stop()
	require.NoError(t, store.Close())
	require.Equal(t, 503, get(t, c, "/healthz").StatusCode)
}

func TestABrowserIsToldOnceWhoItIs(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	c, _ := start(t, store)
	visitorOf := func(res *http.Response) *http.Cookie {
		for _, k := range res.Cookies() {
			if k.Name == visitorCookie {
				return k
			}
		}
		return nil
	}
	first := visitorOf(get(t, c, "/lobby"))
	require.True(t, first.HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, first.SameSite)
	require.Greater(t, first.MaxAge, 0)
	require.Nil(t, visitorOf(get(t, c, "/lobby", "Cookie", first.Name+"="+first.Value)))
	for _, wrong := range []string{"", "x", strings.Repeat("a", 100), first.Value[1:]} {
		other := visitorOf(get(t, c, "/lobby", "Cookie", first.Name+"="+wrong))
		require.NotNil(t, other, wrong)
		require.NotEqual(t, first.Value, other.Value)
	}
	require.Nil(t, visitorOf(get(t, c, "/assets/chat.css")))
}

// Letters have a contrast of 4.5 to 1 with what is behind them, as WCAG asks for (level AA), in light and in dark.
func TestLettersCanBeRead(t *testing.T) {
	t.Parallel()
	css, err := files.ReadFile("assets/chat.css")
	require.NoError(t, err)
	hues := regexp.MustCompile(`--hue: (\d+)`).FindAllStringSubmatch(string(css), -1)
	require.Len(t, hues, 12)
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), -1)
	require.Len(t, blocks, 2)
	for i, scheme := range []string{"light", "dark"} {
		value := func(name string) string {
			m := regexp.MustCompile(`--` + name + `: ([^;]+);`).FindStringSubmatch(blocks[i][1])
			require.NotNil(t, m, name)
			return m[1]
		}
		readable := func(what string, letters, behind [3]float64) {
			a, b := luminance(letters), luminance(behind)
			ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05)
			require.GreaterOrEqual(t, ratio, 4.5, "%s: %s", scheme, what)
		}
		for letters, behind := range map[string]string{
			"text": "bg panel sunk tint", "soft": "bg panel sunk", "accent": "panel sunk tint", "on-accent": "accent", "wrong": "panel wrong-tint",
		} {
			for _, b := range strings.Fields(behind) {
				readable(letters+" on "+b, rgb(t, value(letters)), rgb(t, value(b)))
			}
		}
		percent := func(name string) float64 {
			f, err := strconv.ParseFloat(strings.TrimSuffix(value(name), "%"), 64)
			require.NoError(t, err)
			return f / 100
		}
		for _, h := range hues {
			hue, _ := strconv.ParseFloat(h[1], 64)
			readable("a person of hue "+h[1], hsl(hue, 0.55, percent("ink")), hsl(hue, 0.45, percent("wash")))
		}
	}
}

func rgb(t *testing.T, s string) (c [3]float64) {
	var r, g, b int
	_, err := fmt.Sscanf(s, "#%02x%02x%02x", &r, &g, &b)
	require.NoError(t, err, s)
	return [3]float64{float64(r) / 255, float64(g) / 255, float64(b) / 255}
}

func hsl(h, s, l float64) (c [3]float64) {
	for i, n := range []float64{0, 8, 4} {
		k := math.Mod(n+h/30, 12)
		c[i] = l - s*min(l, 1-l)*max(-1, min(k-3, 9-k, 1))
	}
	return c
}

// luminance is the relative luminance of WCAG 2.
func luminance(c [3]float64) float64 {
	for i, v := range c {
		if v <= 0.04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
}
