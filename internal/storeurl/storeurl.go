// Package storeurl opens the event store that a URL names, for commands and
// examples that take it from a flag. It links every engine, which is why it is
// not part of the library.
package storeurl

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/kurrentstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/natsstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// ErrURL reports a URL that names no store: no known scheme, or nothing after it.
var ErrURL = errors.New("storeurl: bad store URL")

// A scheme is a kind of URL and how to open it.
type scheme struct {
	name string // without the colon
	form string // what a URL of it looks like, for people
	open func(ctx context.Context, url, rest string, opt eventstore.Options) (*eventstore.Store, error)
}

var schemes = []scheme{
	{"memory", "memory:", openMemory},
	{"sqlite", "sqlite:FILE", openSQLite},
	{"postgres", "postgres://USER:PASSWORD@HOST/DATABASE", openPostgres},
	{"postgresql", "postgresql://USER:PASSWORD@HOST/DATABASE", openPostgres},
	{"esdb", "esdb://HOST:2113?tls=false", openKurrent},
	{"esdb+discover", "esdb+discover://DOMAIN", openKurrent},
	{"kurrentdb", "kurrentdb://HOST:2113?tls=false", openKurrent},
	{"kurrentdb+discover", "kurrentdb+discover://DOMAIN", openKurrent},
	{"nats", "nats://HOST:4222", openNATS},
	{"nats+embedded", "nats+embedded:DIR", openEmbedded},
}

// local are the schemes of files and folders of this machine; others are followed by
// two slashes and a host.
var local = []string{"sqlite", "nats+embedded"}

// Forms returns what URLs may look like, as "sqlite:FILE", in the order in which
// to show them.
func Forms() []string {
	forms := make([]string, len(schemes))
	for i := range schemes {
		forms[i] = schemes[i].form
	}
	return forms
}

// Open opens the store at url. A nil opt means the defaults. Whoever opens a store
// closes it. A URL of an unknown form is an ErrURL; whatever else fails is the
// engine's error. No error holds a password.
func Open(ctx context.Context, url string, opt *eventstore.Options) (*eventstore.Store, error) {
	s, rest, err := parse(url)
	if err != nil {
		return nil, err
	}
	if opt == nil {
		opt = &eventstore.Options{}
	}
	store, err := s.open(ctx, url, rest, *opt)
	if err != nil {
		return nil, fmt.Errorf("storeurl: open %s: %w", Describe(url), err)
	}
	return store, nil
}

// Check returns the ErrURL that Open would return, without opening anything.
func Check(url string) error {
	_, _, err := parse(url)
	return err
}

func parse(url string) (*scheme, string, error) {
	name, rest, ok := strings.Cut(url, ":")
	if !ok {
		return nil, "", fmt.Errorf("%w %q: want one of %s", ErrURL, Describe(url), strings.Join(Forms(), ", "))
	}
	i := slices.IndexFunc(schemes, func(s scheme) bool { return s.name == name })
	if i < 0 {
		return nil, "", fmt.Errorf("%w %q: there is no %q: want one of %s", ErrURL, Describe(url), name+":", strings.Join(Forms(), ", "))
	}
	s := &schemes[i]
	switch {
	case s.name == "memory" && rest != "":
		return nil, "", fmt.Errorf("%w %q: memory: stands alone", ErrURL, Describe(url))
	case s.name == "memory":
	case strings.Trim(rest, "/") == "":
		return nil, "", fmt.Errorf("%w %q: nothing after %s: want %s", ErrURL, Describe(url), name+":", s.form)
	case !slices.Contains(local, s.name) && !strings.HasPrefix(rest, "//"):
		return nil, "", fmt.Errorf("%w %q: no // after %s: want %s", ErrURL, Describe(url), name+":", s.form)
	}
	return s, rest, nil
}

// Describe returns url for people to see: with *** for a password, in the user
// part or in a parameter. It takes what Open refuses, too.
func Describe(raw string) string {
	// NATS takes several URLs in one, as in nats://a,nats://b, and EventStoreDB
	// several hosts, so net/url cannot parse them as a whole.
	var urls []string
	for _, part := range strings.Split(raw, ",") {
		if n := len(urls); n > 0 && !strings.Contains(part, "://") {
			urls[n-1] += "," + part
		} else {
			urls = append(urls, part)
		}
	}
	for i, u := range urls {
		urls[i] = describe(u)
	}
	return strings.Join(urls, ",")
}

func describe(raw string) string {
	name, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw // a word, a file, or memory:
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, _, has := strings.Cut(authority[:i], ":")
		if has {
			user += ":***"
		}
		authority = user + authority[i:]
	}
	return name + "://" + authority + describeQuery(tail)
}

func describeQuery(tail string) string {
	path, query, ok := strings.Cut(tail, "?")
	if !ok {
		return tail
	}
	pairs := strings.Split(query, "&")
	for i, p := range pairs {
		key, _, has := strings.Cut(p, "=")
		plain, err := url.QueryUnescape(key)
		if has && (err != nil || secret(plain)) {
			pairs[i] = key + "=***"
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

// secret reports whether a parameter holds what nobody may see.
func secret(key string) bool {
	key = strings.ToLower(key)
	return strings.Contains(key, "password") || strings.Contains(key, "passwd") || strings.Contains(key, "token") ||
		strings.Contains(key, "secret") || strings.Contains(key, "creds") || key == "pass"
}

func openMemory(_ context.Context, _, _ string, opt eventstore.Options) (*eventstore.Store, error) {
	return memstore.Open(&memstore.Options{Store: opt}), nil
}

func openSQLite(_ context.Context, _, file string, opt eventstore.Options) (*eventstore.Store, error) {
	return sqlitestore.Open(file, &sqlitestore.Options{Store: opt})
}

func openPostgres(ctx context.Context, url, _ string, opt eventstore.Options) (*eventstore.Store, error) {
	return pgstore.OpenURL(ctx, url, &pgstore.Options{Store: opt})
}

func openKurrent(ctx context.Context, url, _ string, opt eventstore.Options) (*eventstore.Store, error) {
	return kurrentstore.Open(ctx, url, &kurrentstore.Options{Store: opt})
}

func openNATS(ctx context.Context, url, _ string, opt eventstore.Options) (*eventstore.Store, error) {
	return natsstore.OpenURL(ctx, url, &natsstore.Options{Store: opt})
}

func openEmbedded(ctx context.Context, _, dir string, opt eventstore.Options) (*eventstore.Store, error) {
	return natsstore.OpenEmbedded(ctx, dir, &natsstore.Options{Store: opt})
}
