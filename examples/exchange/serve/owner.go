package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
)

// ownerCookie names the cookie that says whose orders are whose. Its value is a
// random secret that never leaves the browser and this server: whoever has it is
// the owner. There are no accounts.
const ownerCookie = "exchange_owner"

const (
	tokenBytes   = 24
	cookieMaxAge = 365 * 24 * 60 * 60 // seconds
)

// Owners below this are the demonstration's own.
const firstOwner = 1 << 16

// ownerOf returns the owner that a request's cookie names. If there is none, or
// one that this server cannot have set, it makes a new one, and the cookie that
// is to be set; otherwise the cookie is nil.
func ownerOf(r *http.Request) (owner uint64, set *http.Cookie) {
	if c, err := r.Cookie(ownerCookie); err == nil {
		if t, err := base64.RawURLEncoding.DecodeString(c.Value); err == nil && len(t) == tokenBytes {
			return ownerNumber(t), nil
		}
	}
	t := make([]byte, tokenBytes)
	rand.Read(t) // never fails
	return ownerNumber(t), &http.Cookie{
		Name: ownerCookie, Value: base64.RawURLEncoding.EncodeToString(t), Path: "/", MaxAge: cookieMaxAge,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

type ownerKey struct{}

// owned makes whoever asks an owner, and tells next who it is.
func owned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner, cookie := ownerOf(r)
		if cookie != nil {
			http.SetCookie(w, cookie)
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ownerKey{}, owner)))
	})
}

// ownerFrom returns the owner of a request that has come through owned.
func ownerFrom(r *http.Request) uint64 { return r.Context().Value(ownerKey{}).(uint64) }

// ownerNumber is what the engine and the log know of an owner. It gives nothing
// away: the secret cannot be had from it.
func ownerNumber(token []byte) uint64 {
	sum := sha256.Sum256(append([]byte("exchange owner\n"), token...))
	return max(binary.BigEndian.Uint64(sum[:]), firstOwner)
}
