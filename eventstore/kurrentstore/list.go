package kurrentstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/levada-go/levada/eventstore/driver"
)

// A server without its projections has no list of streams. So the names are read off the log:
//
//	log ── the server's filter by name ──► trawl ──► list: sorted names ──► where each stands
//
// The first list of a category reads all its events over the network, and the server looks at its
// whole log for them: it takes time in proportion to these. What was found is kept,
// and the next one reads what is new. Of a category with more names than are kept a part of the
// sorted list is, and the log is read once more for the next part.
const (
	keptLists = 4
	keptNames = 50_000 // of each list

	trawlPage = 2000 // events of one read
)

// Streams implements [driver.Lister]. What it costs is told above; then two or three
// round trips for each stream that is listed, several at once.
func (d *store) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	l := d.lists.of(category)
	if l == nil || limit <= 0 {
		return nil, nil
	}
	return d.streams(ctx, l, after, limit)
}

func (d *store) streams(ctx context.Context, l *list, after string, limit int) ([]driver.StreamInfo, error) {
	var infos []driver.StreamInfo
	for {
		names, more, err := d.names(ctx, l, after)
		if err != nil {
			return nil, err
		}
		for len(names) > 0 {
			n := min(len(names), limit-len(infos), 16*atOnce)
			list, err := d.infos(ctx, names[:n])
			if err != nil {
				return nil, err
			}
			if infos = append(infos, list...); len(infos) == limit {
				return infos, nil
			}
			after, names = names[n-1], names[n:]
		}
		if !more {
			return infos, nil
		}
	}
}

// infos tells where streams stand, without those that were purged, or that there are not.
func (d *store) infos(ctx context.Context, names []string) ([]driver.StreamInfo, error) {
	list := make([]driver.StreamInfo, len(names))
	err := each(ctx, len(names), func(ctx context.Context, i int) (err error) {
		list[i], err = d.info(ctx, names[i])
		if errors.Is(err, driver.ErrStreamDeleted) {
			list[i], err = driver.StreamInfo{}, nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(i driver.StreamInfo) bool { return i.Version == 0 }), nil
}

// lists are those that were asked for last.
type lists struct {
	mu    sync.Mutex
	most  int     // names of each
	known []*list // the one that was used last is the last
}

func (ls *lists) init() { ls.most = keptNames }

// of returns the list of a category, nil if there can be no stream of it.
func (ls *lists) of(category string) *list {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := newList(category, ls.most)
	if l == nil {
		return nil
	}
	if i := slices.IndexFunc(ls.known, func(l *list) bool { return l.category == category }); i >= 0 {
		l = ls.known[i]
		ls.known = slices.Delete(ls.known, i, i+1)
	} else if len(ls.known) == keptLists {
		ls.known = slices.Delete(ls.known, 0, 1)
	}
	ls.known = append(ls.known, l)
	return l
}

// A list has the sorted names of a category's streams, purged ones not among them: all that lie
// above low and, if there are more, up to high. Empty, the category is that of all names which do not start with "$".
type list struct {
	category string
	most     int
	turn     turn
	log      trawl
	names    []string // never modified: replaced
	low      string
	high     string
	more     bool
}

func newList(category string, most int) *list {
	l := &list{category: category, most: most, turn: newTurn()}
	if category != "" {
		name, err := serverName(category)
		if err != nil || strings.Contains(category, "-") {
			return nil
		}
		l.log.prefix = name + "-"
	}
	l.begin("")
	return l
}

// begin makes it the list of what lies above low. The filter does not select the stream
// whose name is the category; it is taken to be there.
func (l *list) begin(low string) {
	l.low, l.high, l.more, l.names = low, "", false, nil
	l.log.at = 0
	if l.category > low {
		l.names = []string{l.category}
	}
}

// names returns names above after, sorted, and whether there are others above these.
func (d *store) names(ctx context.Context, l *list, after string) (names []string, more bool, err error) {
	if err := l.turn.take(ctx); err != nil {
		return nil, false, err
	}
	defer l.turn.leave()
	for {
		if after < l.low || l.more && after >= l.high {
			l.begin(after)
		}
		found := map[string]bool{}
		err := d.trawl(ctx, &l.log, func(stream string, purged bool) {
			if stream > l.low && (!l.more || stream <= l.high) {
				found[stream] = !purged
			}
		}, func() {
			l.merge(found)
			clear(found)
		})
		if err != nil {
			return nil, false, err
		}
		i, ok := slices.BinarySearch(l.names, after)
		if ok {
			i++
		}
		if i < len(l.names) || !l.more {
			return l.names[i:], l.more, nil
		}
		after = l.high // all between were purged
	}
}

// merge takes up what was found, and takes out what was purged.
func (l *list) merge(found map[string]bool) {
	names := make([]string, 0, len(l.names)+len(found))
	for _, name := range l.names {
		if there, known := found[name]; there || !known {
			names = append(names, name)
			delete(found, name)
		}
	}
	had := len(names)
	for name, there := range found {
		if there {
			names = append(names, name)
		}
	}
	if len(names) == had && had == len(l.names) {
		return
	}
	slices.Sort(names)
	if len(names) > l.most {
		names = slices.Clone(names[:l.most])
		l.more, l.high = true, names[l.most-1]
	}
	l.names = names
}

// Categories implements [driver.Lister]. The first call reads all events of the log over
// the network, but for the server's own; the next one those that are new. Of each category one stream is kept in memory.
func (d *store) Categories(ctx context.Context) ([]string, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c := &d.categories
	if err := c.turn.take(ctx); err != nil {
		return nil, err
	}
	defer c.turn.leave()
	err = d.trawl(ctx, &c.log, c.look, func() {})
	if err != nil {
		return nil, err
	}
	var names []string
	for category, stream := range c.streams {
		if stream == "" { // is there another one?
			infos, err := d.streams(ctx, newList(category, keptNames), "", 1)
			if err != nil {
				return nil, err
			}
			if len(infos) == 0 {
				delete(c.streams, category)
				continue
			}
			c.streams[category] = infos[0].Name
		}
		names = append(names, category)
	}
	slices.Sort(names)
	return names, nil
}

// categories has a stream of each category that was not purged, as far as it
// knows; or "", if the one that it knew was.
type categories struct {
	turn    turn
	log     trawl
	streams map[string]string
}

func (c *categories) init() { c.turn, c.streams = newTurn(), map[string]string{} }

func (c *categories) look(stream string, purged bool) {
	category := driver.Category(stream)
	known, ok := c.streams[category]
	switch {
	case !ok && purged, purged && known == stream:
		c.streams[category] = ""
	case known == "" && !purged:
		c.streams[category] = stream
	}
}

// A trawl reads the log for the names of streams.
type trawl struct {
	prefix string // of the names on the server; empty, it looks for all that do not start with "$"
	at     uint64 // the log was read up to here
	plain  bool   // the server does not filter, or not in time
}

// errNoFilter reports a server that does not filter a read, or finds nothing for too long.
var errNoFilter = errors.New("no filter")

// trawl reads what is new in the log, as the leader has it. It calls look for each event
// with the name of its stream, or that this was purged, and kept when these calls count: those
// after the last time do not, and are made again.
func (d *store) trawl(ctx context.Context, s *trawl, look func(stream string, purged bool), kept func()) error {
	last, err := d.g.one(ctx, readAll(0, 1, true))
	if err != nil || last == nil {
		return err
	}
	end := last.GetCommitPosition()
	for s.at < end {
		opt := readNamed(s.prefix, s.at, trawlPage)
		if s.plain {
			opt = readAll(s.at, trawlPage, false)
		}
		var seen, bytes int
		at, cut := s.at, false
		_, err := d.g.do(ctx, func(ctx context.Context, n *node) error {
			seen, bytes, at, cut = 0, 0, s.at, false
			err := d.g.lively(ctx, n, opt, func(e *recorded) error {
				if err := placed(e); err != nil {
					return err
				}
				name := string(e.GetStreamIdentifier().GetStreamName())
				stream, ok := streamName(name)
				if ok && strings.HasPrefix(name, s.prefix) && (s.prefix != "" || stream[0] != '$') {
					look(stream, e.GetMetadata()[wireType] == typeTombstone)
				}
				seen, at = seen+1, e.GetCommitPosition()
				if bytes += len(e.GetData()) + len(e.GetCustomMetadata()); seen == trawlPage || bytes >= examineBytes && seen > 1 {
					cut = true
					return errEnough
				}
				return nil
			})
			switch status.Code(err) {
			case codes.DeadlineExceeded, codes.InvalidArgument, codes.Unimplemented:
				if !s.plain && ctx.Err() == nil {
					return errNoFilter
				}
			}
			return err
		})
		if errors.Is(err, errNoFilter) {
			s.plain = true
			continue
		}
		if err != nil {
			return err
		}
		if !cut {
			at = max(at, end)
		}
		s.at = at
		kept()
	}
	return nil
}
