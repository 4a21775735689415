package web

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"

	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/live"
)

// visitorCookie names the cookie that says who somebody is. Its value is a random secret that never leaves the browser and this
// server. It outlives the browser's session, as a name and what was read should.
const visitorCookie = "chat_visitor"

const (
	secretBytes  = 24
	cookieMaxAge = 365 * 24 * 60 * 60 // seconds
)

type visitorKey struct{}

// identify tells the pages who asks for them, and browsers that are new here who they are.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret := ""
		if c, err := r.Cookie(visitorCookie); err == nil {
			if b, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil && len(b) == secretBytes {
				secret = c.Value
			}
		}
		if secret == "" {
			b := make([]byte, secretBytes)
			rand.Read(b) // never fails
			secret = base64.RawURLEncoding.EncodeToString(b)
			http.SetCookie(w, &http.Cookie{
				Name: visitorCookie, Value: secret, Path: "/", MaxAge: cookieMaxAge,
				HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
			})
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, person.ID(secret))))
	})
}

// visitor returns the id of the person who looks at a page.
func visitor(ctx *live.Ctx) string {
	id, _ := ctx.Request().Context().Value(visitorKey{}).(string)
	return id
}
