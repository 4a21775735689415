//go:build !race

package examples_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// A page of one process goes on with another that has the same LEVADA_SECRET, as behind a proxy that spreads
// connections, and with no other.
func TestPagesOfProcessesWithOneSecretGoOnWithAnother(t *testing.T) {
	t.Parallel()
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := "LEVADA_SECRET=" + strings.Repeat("0123456789", 4)
			here, there, stranger := start(t, name, secret), start(t, name, secret), start(t, name)
			jar, err := cookiejar.New(nil)
			require.NoError(t, err)
			browser := &http.Client{Jar: jar}
			res, err := browser.Get(here)
			require.NoError(t, err)
			defer res.Body.Close()
			page, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			token := regexp.MustCompile(`data-token="([^"]+)"`).FindSubmatch(page)
			require.NotNil(t, token, "%s", page)
			for address, kind := range map[string]string{here: "j", there: "j", stranger: "s"} {
				require.Equal(t, kind, join(t, jar, address, string(token[1])), "at %s, with a page of %s", address, here)
			}
		})
	}
}

// join connects a page to a process with the cookies of a browser, and returns the kind of the answer.
func join(t *testing.T, jar http.CookieJar, address, token string) string {
	u, err := url.Parse(address)
	require.NoError(t, err)
	dialer := websocket.Dialer{Jar: jar} // cookies know no ports
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(address, "http")+"/_live/socket", http.Header{"Origin": {address}})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.WriteJSON([]any{1, "j", map[string]any{"t": token, "u": u.String() + "/", "p": map[string]string{}, "n": 0}}))
	var answer []json.RawMessage
	require.NoError(t, conn.ReadJSON(&answer))
	var kind string
	require.NoError(t, json.Unmarshal(answer[0], &kind))
	return kind
}

func TestASecretThatIsTooShortIsAnErrorAndIsNotPrinted(t *testing.T) {
	t.Parallel()
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(built(t, name), "-store", "memory:", "-addr", "localhost:0")
			cmd.Env = append(cmd.Environ(), "LEVADA_SECRET=hush")
			out, err := cmd.CombinedOutput()
			require.ErrorContains(t, err, "exit status 1")
			require.Equal(t, name+": LEVADA_SECRET has 4 bytes; it takes 32 random ones at least\n", string(out))
		})
	}
}
