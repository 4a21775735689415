package live

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"html/template"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestSite(t testing.TB, o Options) *Site {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	site, err := NewSite(&o)
	require.NoError(t, err)
	return site
}

// withSession returns a request with the cookie of a session.
func withSession(session string, secure bool) *http.Request {
	r := httptest.NewRequest("GET", "http://site.test/", nil)
	r.AddCookie(&http.Cookie{Name: cookieName(sessionCookie, secure), Value: session})
	return r
}

const (
	alice = "ALICEALICEALICEALICEALICEA"
	bob   = "BOBBOBBOBBOBBOBBOBBOBBOBBO"
)

func TestATokenIsForOneSession(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	flash := map[string]string{"info": "Welcome"}
	for _, secure := range []bool{false, true} {
		session, got, err := site.verify(site.token(alice, flash), withSession(alice, secure))
		require.NoError(t, err)
		require.Equal(t, alice, session)
		require.Equal(t, flash, got)
	}
	session, got, err := site.verify(site.token(alice, nil), withSession(alice, false))
	require.NoError(t, err)
	require.Equal(t, alice, session)
	require.Nil(t, got)
}

func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("s"), 32)
	site := newTestSite(t, Options{Secret: secret, TokenAge: time.Hour})
	valid := site.token(alice, nil)
	raw, err := base64.RawURLEncoding.DecodeString(valid)
	require.NoError(t, err)
	changed := func(at int) string {
		b := bytes.Clone(raw)
		b[at] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now()
	for _, row := range []struct {
		name, token, session string
	}{
		{"empty", "", alice},
		{"no base64", "!" + valid[1:], alice},
		{"cut off", valid[:len(valid)-4], alice},
		{"longer", valid + "AAAA", alice},
		{"with spare bits", valid[:len(valid)-1] + string(valid[len(valid)-1]+1), alice},
		{"much too long", valid + strings.Repeat("A", maxToken), alice},
		{"another version", changed(0), alice},
		{"another time", changed(8), alice},
		{"another signature", changed(9), alice},
		{"the last bit of the signature", changed(len(raw) - 1), alice},
		{"of another session", valid, bob},
		{"without a session", valid, ""},
		{"a session that a site does not make", site.token("short", nil), "short"},
		{"a session in other letters", site.token(strings.ToLower(alice), nil), strings.ToLower(alice)},
		{"expired", site.keys.join.seal(alice, now.Add(-2*time.Hour), nil), alice},
		{"from the future", site.keys.join.seal(alice, now.Add(time.Hour), nil), alice},
		{"for another purpose", site.keys.flash.seal(alice, now, nil), alice},
		{"by another secret", newTestSite(t, Options{}).token(alice, nil), alice},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := site.verify(row.token, withSession(row.session, false))
			require.ErrorIs(t, err, errStale)
		})
	}
	t.Run("but not by another process with the same secret", func(t *testing.T) {
		t.Parallel()
		_, _, err := newTestSite(t, Options{Secret: secret}).verify(valid, withSession(alice, true))
		require.NoError(t, err)
	})
}

func TestATokenIsValidForItsAge(t *testing.T) {
	t.Parallel()
	k := newKeys(nil).join
	issued := time.Unix(1_800_000_000, 0)
	token := k.seal(alice, issued, nil)
	for after, valid := range map[time.Duration]bool{
		0: true, time.Hour: true, time.Hour + 1: false, -clockSkew: true, -clockSkew - 1: false,
		200 * 365 * 24 * time.Hour: false,
	} {
		_, err := k.open(alice, token, issued.Add(after), time.Hour)
		require.Equal(t, valid, err == nil, after)
	}
}

func TestTheSessionAndTheTextCannotBeMovedIntoEachOther(t *testing.T) {
	t.Parallel()
	k := newKeys(nil).join
	now := time.Now()
	token := k.seal("AB", now, []byte("C"))
	_, err := k.open("A", token, now, time.Hour)
	require.ErrorIs(t, err, errStale)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	_, err = k.open("A", base64.RawURLEncoding.EncodeToString(append(raw[:tokenHead], "BC"...)), now, time.Hour)
	require.ErrorIs(t, err, errStale)
}

func FuzzToken(f *testing.F) {
	k := newKeys(bytes.Repeat([]byte("k"), 32)).join
	now := time.Unix(1_800_000_000, 0)
	good := k.seal(alice, now, []byte("text"))
	f.Add(good)
	f.Add("")
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, token string) {
		text, err := k.open(alice, token, now, time.Hour)
		if token == good {
			require.NoError(t, err)
			require.Equal(t, "text", string(text))
			return
		}
		require.ErrorIs(t, err, errStale)
	})
}

func TestTheCookiesAreKeptFromScriptsAndOtherSites(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		prepare func(r *http.Request)
		prefix  string
		secure  bool
	}{
		{"without TLS", func(*http.Request) {}, "", false},
		{"over TLS", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, "__Host-", true},
		{"behind a proxy", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, "__Host-", true},
		{"behind two proxies", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "HTTPS , http") }, "__Host-", true},
		{"behind a proxy without TLS", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "http,https") }, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			site := newTestSite(t, Options{})
			r := httptest.NewRequest("GET", "http://site.test/", nil)
			row.prepare(r)
			w := httptest.NewRecorder()
			session := site.session(w, r)
			site.setFlash(w, r, session, map[string]string{"info": "Saved"})
			cookies := w.Result().Cookies()
			require.Len(t, cookies, 2)
			for _, c := range cookies {
				require.True(t, c.HttpOnly)
				require.Equal(t, http.SameSiteLaxMode, c.SameSite)
				require.Equal(t, "/", c.Path)
				require.Empty(t, c.Domain)
				require.Equal(t, row.secure, c.Secure)
			}
			require.Equal(t, row.prefix+"live", cookies[0].Name)
			require.Equal(t, session, cookies[0].Value)
			require.Zero(t, cookies[0].MaxAge, "it ends with the browser")
			require.Equal(t, row.prefix+"live-flash", cookies[1].Name)
			require.Equal(t, 60, cookies[1].MaxAge)

			// The next request brings them back.
			next := httptest.NewRequest("GET", "http://site.test/", nil)
			row.prepare(next)
			for _, c := range cookies {
				next.AddCookie(c)
			}
			w = httptest.NewRecorder()
			require.Equal(t, session, site.session(w, next))
			require.Empty(t, w.Result().Cookies(), "it has one already")
			w = httptest.NewRecorder()
			require.Equal(t, map[string]string{"info": "Saved"}, site.takeFlash(w, next, session))
			gone := w.Result().Cookies()
			require.Len(t, gone, 1)
			require.Equal(t, row.prefix+"live-flash", gone[0].Name)
			require.Negative(t, gone[0].MaxAge)
		})
	}
}

func TestSessionsDiffer(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	seen := make(map[string]bool)
	for range 1000 {
		session := site.session(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		require.False(t, seen[session])
		require.Equal(t, session, readSession(withSession(session, false), false))
		seen[session] = true
	}
}

func TestAFlashIsShownToItsSessionWithinAMinuteOnly(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	take := func(value, session string) map[string]string {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: flashCookie, Value: value})
		w := httptest.NewRecorder()
		flash := site.takeFlash(w, r, session)
		require.Len(t, w.Result().Cookies(), 1, "it is taken away all the same")
		return flash
	}
	text := []byte(`{"info":"Saved"}`)
	require.Equal(t, map[string]string{"info": "Saved"}, take(site.keys.flash.seal(alice, time.Now(), text), alice))
	require.Nil(t, take(site.keys.flash.seal(alice, time.Now(), text), bob))
	require.Nil(t, take(site.keys.flash.seal(alice, time.Now().Add(-2*hopAge), text), alice))
	require.Nil(t, take("nonsense", alice))
}

func TestAFlashThatIsTooLongIsLeftOutAndLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	site := newTestSite(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	flash := map[string]string{"error": "short", "info": strings.Repeat("x", maxFlash)}
	require.Equal(t, map[string]string{"error": "short"}, decodeFlash(site.encodeFlash(flash)))
	require.Len(t, flash, 2, "what the page shows stays")
	require.Contains(t, log.String(), "kind=info")
	require.Nil(t, site.encodeFlash(map[string]string{"info": strings.Repeat("x", maxFlash)}))
	require.Less(t, len(site.token(alice, map[string]string{"info": strings.Repeat("x", maxFlash-20)})), maxToken)
}

func TestAConnectedPageLeavesWithItsFlashByWayOfTheSite(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	flash := map[string]string{"info": "Bye & thanks"}
	require.Equal(t, "/next?a=b", site.leaveURL(alice, "/next?a=b", nil))

	go1 := func(to, session string) *httptest.ResponseRecorder {
		r := withSession(session, false)
		u, err := url.Parse(to)
		require.NoError(t, err)
		r.URL = u
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		return w
	}
	for _, to := range []string{"/next?a=b", "https://other.test/x?y=1&z=2"} {
		by := site.leaveURL(alice, to, flash)
		require.True(t, strings.HasPrefix(by, "/_live/leave?"), by)
		w := go1(by, alice)
		require.Equal(t, http.StatusSeeOther, w.Code)
		require.Equal(t, to, w.Header().Get("Location"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		r := withSession(alice, false)
		r.AddCookie(w.Result().Cookies()[0])
		require.Equal(t, flash, site.takeFlash(httptest.NewRecorder(), r, alice))
	}
	// It leads nowhere for anybody else.
	for _, w := range []*httptest.ResponseRecorder{
		go1(site.leaveURL(alice, "https://other.test", flash), bob),
		go1("/_live/leave?to=https://evil.test", alice),
		go1("/_live/leave", alice),
		go1("/_live/leave?to="+site.keys.flash.seal(alice, time.Now(), []byte(`{"u":"https://evil.test"}`)), alice),
		go1("/_live/leave?to="+site.keys.leave.seal(alice, time.Now().Add(-2*hopAge), []byte(`{"u":"/"}`)), alice),
	} {
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Empty(t, w.Header().Get("Location"))
		require.Empty(t, w.Result().Cookies())
	}
}

func TestASessionLastsAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]int{0: 0, time.Hour: 3600} {
		site, err := NewSite(&Options{SessionAge: age})
		require.NoError(t, err)
		Handle(site, "/", &View[struct{}]{Template: template.Must(template.New("page").Parse("x"))})
		get := func(c *http.Cookie) []*http.Cookie {
			r := httptest.NewRequest("GET", "/", nil)
			if c != nil {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			site.ServeHTTP(w, r)
			return w.Result().Cookies()
		}
		first := get(nil)
		require.Len(t, first, 1)
		require.Equal(t, want, first[0].MaxAge)
		again := get(first[0])
		if age == 0 {
			require.Empty(t, again)
			continue
		}
		require.Len(t, again, 1, "every page prolongs it")
		require.Equal(t, first[0].Value, again[0].Value)
		require.Equal(t, want, again[0].MaxAge)
	}
}
