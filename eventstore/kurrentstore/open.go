package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// Options configures a store. A nil *Options means the defaults.
type Options struct {
	// Store configures the portable store that Open returns.
	Store eventstore.Options
	// AppendBytes is what the server takes in one append, its MaxAppendSize, and
	// must not be more than that; it is at least 64 KiB. The default is 1 MiB,
	// which is that of servers before 25.1. The store's limits are seven eighths of it: the
	// rest is for what JSON adds to metadata and tags. An append that is more all
	// the same is eventstore.ErrTooLarge; like every other it is not sent.
	AppendBytes int
	// Patience is how long a call goes on, through as many attempts as it takes,
	// while no leader answers. Then reads return the last error, and appends ErrOutcomeUnknown if one of
	// the attempts may have been written. The default is 20 s: electing a leader takes a few.
	Patience time.Duration
}

// DefaultAppendBytes is the default of Options.AppendBytes.
const DefaultAppendBytes = 1 << 20

const minAppendBytes = 64 << 10

// Open returns a store on the server or cluster that a connection string names:
//
//	esdb://admin:changeit@localhost:2113?tls=false
//	kurrentdb://node1:2113,node2:2113,node3:2113?tlsCaFile=ca.crt
//	kurrentdb+discover://cluster.example.com
//
// The string is as the makers of the server document it, in the old scheme or
// the new one. Of its settings nodePreference is not heeded: everything is asked of the
// leader, since what others know may be old. maxDiscoverAttempts is not either: see
// Options.Patience. The user and the password are sent over TLS only, and appear in no error and no log.
//
// Open waits until a leader has answered, and returns the reason if none does
// while ctx, or Options.Patience, lasts.
func Open(ctx context.Context, url string, opt *Options) (*eventstore.Store, error) {
	d, err := OpenDriver(ctx, url, opt)
	if err != nil {
		return nil, err
	}
	var o eventstore.Options
	if opt != nil {
		o = opt.Store
	}
	return eventstore.New(d, &o), nil
}

// OpenDriver is Open without the portable store, for tests and measurements.
func OpenDriver(ctx context.Context, url string, opt *Options) (driver.Store, error) {
	if opt == nil {
		opt = &Options{}
	}
	d, err := open(ctx, url, opt)
	if err != nil {
		return nil, fmt.Errorf("kurrentstore: open: %w", err)
	}
	return d, nil
}

func open(ctx context.Context, url string, opt *Options) (*store, error) {
	log := opt.Store.Logger
	if log == nil {
		log = slog.Default()
	}
	conf, err := parse(url, log)
	if err != nil {
		return nil, err
	}
	patience := opt.Patience
	if patience <= 0 {
		patience = defaultPatience
	}
	g, err := newGuard(conf, patience, log)
	if err != nil {
		return nil, err
	}
	d := newStore(g, opt.AppendBytes)
	if err := d.reach(ctx); err != nil {
		g.close()
		return nil, err
	}
	return d, nil
}

// known are the settings that esdb.ParseConnectionString knows.
var known = []string{
	"discoveryinterval", "gossiptimeout", "maxdiscoverattempts", "nodepreference", "keepaliveinterval", "keepalivetimeout",
	"tls", "tlscafile", "tlsverifycert", "usercertfile", "userkeyfile", "defaultdeadline",
}

// parse reads a connection string. The errors of esdb.ParseConnectionString, and
// of net/url, quote what they were given, so the password is taken out first.
func parse(s string, log *slog.Logger) (*esdb.Configuration, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	var discover bool
	switch strings.ToLower(scheme) {
	case "esdb", "kurrentdb", "kurrent", "kdb":
	case "esdb+discover", "kurrentdb+discover", "kurrent+discover", "kdb+discover":
		discover = true
	default:
		ok = false
	}
	if !ok {
		return nil, errors.New("want a connection string that begins with esdb://, esdb+discover://, kurrentdb:// or kurrentdb+discover://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	var user, password string
	if i := strings.LastIndexByte(rest[:end], '@'); i >= 0 {
		var err error
		name, secret, _ := strings.Cut(rest[:i], ":")
		if user, err = url.PathUnescape(name); err == nil {
			password, err = url.PathUnescape(secret)
		}
		if err != nil {
			return nil, errors.New("the user or the password is not percent-encoded")
		}
		if user == "" {
			return nil, errors.New("a password without a user")
		}
		rest, end = rest[i+1:], end-i-1
	}
	if strings.Contains(rest, "@") {
		return nil, errors.New("an @ after the host: the user or the password is not percent-encoded")
	}
	hosts, query := rest[:end], ""
	if path, q, ok := strings.Cut(rest[end:], "?"); ok || path != "" {
		if strings.Trim(path, "/") != "" {
			return nil, fmt.Errorf("a path, %q, in a connection string", path)
		}
		query = q
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("settings that are not percent-encoded")
	}
	for k := range values {
		found := false
		for _, name := range known {
			found = found || strings.EqualFold(k, name)
		}
		if !found {
			log.Warn("kurrentstore: a setting of the connection string is not known", "setting", k)
			values.Del(k)
		}
		if strings.EqualFold(k, "nodePreference") && !strings.EqualFold(values.Get(k), "leader") {
			log.Warn("kurrentstore: everything is asked of the leader, whatever nodePreference says", "nodePreference", values.Get(k))
		}
	}
	plain := "esdb://" + hosts + "?" + values.Encode()
	if discover {
		plain = "esdb+discover://" + hosts + "?" + values.Encode()
	}
	conf, err := esdb.ParseConnectionString(plain)
	if err != nil {
		return nil, fmt.Errorf("connection string: %w", err)
	}
	if conf.DefaultDeadline != nil && *conf.DefaultDeadline <= 0 {
		return nil, errors.New("connection string: defaultDeadline must be a positive number of milliseconds")
	}
	if conf.GossipTimeout <= 0 {
		return nil, errors.New("connection string: gossipTimeout must be a positive number of seconds")
	}
	conf.Username, conf.Password = user, password
	conf.NodePreference = esdb.NodePreferenceLeader
	conf.Logger = esdb.NoopLogging()
	return conf, nil
}
