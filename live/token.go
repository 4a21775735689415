package live

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A token is a signed message for one session and one purpose:
//
//	base64url( version 1 byte │ issued, Unix seconds, 8 bytes │ HMAC-SHA-256, 32 bytes │ text )
//
// The signature is over version, issued, session and text, by a key of the purpose alone, so that no token serves where
// another is asked for. The session is not in it: it comes with the cookie, so that a token is of no use to
// who has only seen the page.
const (
	tokenVersion = 1
	tokenHead    = 1 + 8 + sha256.Size
	// maxToken is the length of the longest token that is looked at, in bytes. Flashes are kept below it.
	maxToken = 4 << 10
	// maxFlash is the length of the flashes in a token, as JSON: what a cookie can hold.
	maxFlash = 2 << 10
	// clockSkew is how far the clock of another process of the site may be ahead.
	clockSkew = time.Minute
	// hopAge is for how long a flash waits for the page it is shown on.
	hopAge = time.Minute
)

// errStale says that a token has expired, or was made for another session, or by another secret, or by nobody.
var errStale = errors.New("live: the token is not valid any more")

// keys are the keys of the purposes of tokens.
type keys struct{ join, flash, leave key }

type key []byte

// newKeys derives the keys from a secret, a random one if it is nil.
func newKeys(secret []byte) keys {
	if secret == nil {
		secret = make([]byte, 32)
		rand.Read(secret) // never fails
	}
	derive := func(purpose string) key {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("levada live " + purpose))
		return mac.Sum(nil)
	}
	return keys{join: derive("join"), flash: derive("flash"), leave: derive("leave")}
}

// seal makes a token of a text.
func (k key) seal(session string, issued time.Time, text []byte) string {
	token := make([]byte, tokenHead, tokenHead+len(text))
	token[0] = tokenVersion
	binary.BigEndian.PutUint64(token[1:], uint64(issued.Unix()))
	copy(token[9:], k.sign(token[:9], session, text))
	return base64.RawURLEncoding.EncodeToString(append(token, text...))
}

// open returns the text of a token that is not older than age.
func (k key) open(session, token string, now time.Time, age time.Duration) ([]byte, error) {
	if len(token) > maxToken || session == "" {
		return nil, errStale
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tokenHead || raw[0] != tokenVersion {
		return nil, errStale
	}
	text := raw[tokenHead:]
	if !hmac.Equal(raw[9:tokenHead], k.sign(raw[:9], session, text)) {
		return nil, errStale
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(raw[1:])), 0)
	if now.Sub(issued) > age || issued.Sub(now) > clockSkew {
		return nil, errStale
	}
	return text, nil
}

func (k key) sign(head []byte, session string, text []byte) []byte {
	mac := hmac.New(sha256.New, k)
	mac.Write(head) // 9 bytes
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(session)))
	mac.Write(n[:])
	mac.Write([]byte(session))
	mac.Write(text)
	return mac.Sum(nil)
}

// token makes what a page joins with. The flash goes with it, since the connected page is mounted anew and shall
// show what the page over HTTP showed.
func (s *Site) token(session string, flash map[string]string) string {
	return s.keys.join.seal(session, time.Now(), s.encodeFlash(flash))
}

// verify returns the session that the token was made for, which is that of the request's cookie, and
// the flash that its page showed, mostly nil.
func (s *Site) verify(token string, r *http.Request) (session string, flash map[string]string, err error) {
	// A proxy may tell the site of TLS for pages and not for the WebSocket, so that either cookie may hold the session.
	for _, secure := range []bool{true, false} {
		session := readSession(r, secure)
		if text, err := s.keys.join.open(session, token, time.Now(), s.options.TokenAge); err == nil {
			return session, decodeFlash(text), nil
		}
	}
	return "", nil, errStale
}

// overTLS reports whether the browser's connection is encrypted, as far as one can know. A browser cannot be made to
// send X-Forwarded-Proto to a site that is not its own, and who sends it of his own accord gets a cookie that
// is more closely kept.
func overTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(proto), "https")
}

// The names of the cookies. With the prefix __Host- a browser takes them from this very host over TLS only, so that no other
// host of the domain can plant one.
const (
	sessionCookie = "live"
	flashCookie   = "live-flash"
	hostPrefix    = "__Host-"
)

func cookieName(name string, secure bool) string {
	if secure {
		return hostPrefix + name
	}
	return name
}

// cookie returns a cookie for this request with the attributes that all cookies of a site have.
func cookie(r *http.Request, name, value string) *http.Cookie {
	secure := overTLS(r)
	return &http.Cookie{
		Name: cookieName(name, secure), Value: value, Path: "/",
		Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// session returns the session of the browser, and gives it one if it has none. The cookie ends with the browser's
// own session, or is prolonged with every page.
func (s *Site) session(w http.ResponseWriter, r *http.Request) string {
	session := readSession(r, overTLS(r))
	known := session != ""
	if !known {
		session = rand.Text()
	}
	c := cookie(r, sessionCookie, session)
	if c.MaxAge = int(s.options.SessionAge / time.Second); c.MaxAge > 0 || !known {
		http.SetCookie(w, c)
	}
	return session
}

// readSession returns the session in the cookie of a request, "" if there is none that a site could have made.
func readSession(r *http.Request, secure bool) string {
	c, err := r.Cookie(cookieName(sessionCookie, secure))
	if err != nil || len(c.Value) != sessionLen {
		return ""
	}
	for _, b := range []byte(c.Value) {
		if (b < 'A' || b > 'Z') && (b < '2' || b > '7') {
			return ""
		}
	}
	return c.Value
}

// sessionLen is the length of what rand.Text returns: base32, at least 128 random bits.
var sessionLen = len(rand.Text())

// setFlash keeps a flash for the next page. An empty one is no flash.
func (s *Site) setFlash(w http.ResponseWriter, r *http.Request, session string, flash map[string]string) {
	if text := s.encodeFlash(flash); text != nil {
		c := cookie(r, flashCookie, s.keys.flash.seal(session, time.Now(), text))
		c.MaxAge = int(hopAge / time.Second)
		http.SetCookie(w, c)
	}
}

// takeFlash returns the flash that setFlash has kept, and takes it out of the browser.
func (s *Site) takeFlash(w http.ResponseWriter, r *http.Request, session string) map[string]string {
	c, err := r.Cookie(cookieName(flashCookie, overTLS(r)))
	if err != nil {
		return nil
	}
	gone := cookie(r, flashCookie, "")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	text, err := s.keys.flash.open(session, c.Value, time.Now(), hopAge)
	if err != nil {
		return nil
	}
	return decodeFlash(text)
}

// encodeFlash returns a flash as JSON of at most maxFlash bytes, nil for none. What does not fit is left out, the
// last kind first.
func (s *Site) encodeFlash(flash map[string]string) []byte {
	for len(flash) > 0 {
		text, err := json.Marshal(flash)
		if err == nil && len(text) <= maxFlash {
			return text
		}
		kinds := slices.Sorted(maps.Keys(flash))
		last := kinds[len(kinds)-1]
		s.log.Warn("live: a flash is too long for the next page and is left out", "kind", last, "bytes", len(flash[last]), "limit", maxFlash)
		flash = maps.Clone(flash)
		delete(flash, last)
	}
	return nil
}

func decodeFlash(text []byte) map[string]string {
	var flash map[string]string
	if len(text) == 0 || json.Unmarshal(text, &flash) != nil {
		return nil
	}
	return flash
}

// A leave is what a connected page goes through when it leaves with a flash: scripts cannot set the cookie that holds it.
type leave struct {
	URL   string `json:"u"`
	Flash []byte `json:"f"`
}

// leaveURL returns where a connected page goes when it leaves for a URL: to the URL, by way of the site if there is a
// flash to be shown on arrival.
func (s *Site) leaveURL(session, to string, flash map[string]string) string {
	text := s.encodeFlash(flash)
	if text == nil {
		return to
	}
	payload, err := json.Marshal(leave{URL: to, Flash: text})
	if err != nil {
		return to
	}
	token := s.keys.leave.seal(session, time.Now(), payload)
	if len(token) > maxToken {
		return to // the URL is more important
	}
	return leavePath + "?" + url.Values{"to": {token}}.Encode()
}

// serveLeave keeps the flash in its cookie and goes on to the URL.
func (s *Site) serveLeave(w http.ResponseWriter, r *http.Request) {
	session := readSession(r, overTLS(r))
	var to leave
	payload, err := s.keys.leave.open(session, r.URL.Query().Get("to"), time.Now(), hopAge)
	if err != nil || json.Unmarshal(payload, &to) != nil {
		plain(w, http.StatusBadRequest, "This link is no longer valid.")
		return
	}
	s.setFlash(w, r, session, decodeFlash(to.Flash))
	redirect(w, to.URL)
}
