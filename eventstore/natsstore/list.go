package natsstore

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A names keeps the names of all streams for a while, since the server has no
// order and no pages by name: it is asked for all of them. A subject never goes
// away, as a marker stays where events were, so that the list is right for as
// long as the server has the same number of subjects.
type names struct {
	mu    sync.Mutex
	count int // subjects
	until time.Time
	list  []string // sorted
}

const keepNames = time.Minute

// allNames returns the names of all streams, sorted bytewise.
func (s *store) allNames(ctx context.Context) ([]string, error) {
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	info, err := s.log.info(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	n := int(info.State.NumSubjects)
	if s.names.list != nil && s.names.count == n && time.Now().Before(s.names.until) {
		return s.names.list, nil
	}
	subjects, err := s.log.subjects(ctx, s.space.all())
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(subjects))
	for _, subject := range subjects {
		if name, ok := s.space.stream(subject); ok {
			list = append(list, name)
		}
	}
	sort.Strings(list)
	s.names.list, s.names.count, s.names.until = list, len(subjects), time.Now().Add(keepNames)
	return list, nil
}

// subjects returns the subjects that match a pattern, in no order. The server
// tells 100,000 at a time.
func (l *link) subjects(ctx context.Context, pattern string) ([]string, error) {
	var list []string
	for {
		info, err := l.info(ctx, pattern, len(list))
		if err != nil {
			return nil, err
		}
		for subject := range info.State.Subjects {
			list = append(list, subject)
		}
		if len(info.State.Subjects) == 0 || len(list) >= info.Total {
			return list, nil
		}
	}
}

// Streams implements [driver.Lister].
func (s *store) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	all, err := s.allNames(ctx)
	if err != nil {
		return nil, err
	}
	var infos []driver.StreamInfo
	var some []string
	look := func() error {
		list, err := s.states(ctx, some)
		if err != nil {
			return err
		}
		for i, t := range list {
			if t.version > 0 && !t.purged && len(infos) < limit {
				infos = append(infos, t.info(some[i]))
			}
		}
		some = some[:0]
		return nil
	}
	for _, name := range all[sort.SearchStrings(all, after):] {
		in := driver.Category(name) == category || category == "" && !strings.HasPrefix(name, "$")
		if name <= after || !in {
			continue
		}
		if some = append(some, name); len(some) == min(together, limit-len(infos)) {
			if err := look(); err != nil {
				return nil, err
			}
			if len(infos) >= limit {
				return infos, nil
			}
		}
	}
	if err := look(); err != nil {
		return nil, err
	}
	return infos, nil
}

// Categories implements [driver.Lister].
func (s *store) Categories(ctx context.Context) ([]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	all, err := s.allNames(ctx)
	if err != nil {
		return nil, err
	}
	open := map[string][]string{} // streams of categories that are not known to have one
	for _, name := range all {
		if category := driver.Category(name); !strings.HasPrefix(name, "$") {
			open[category] = append(open[category], name)
		}
	}
	var list []string
	for len(open) > 0 {
		// One stream of each tells of most categories.
		var some []string
		for category, names := range open {
			if len(names) == 0 {
				delete(open, category)
				continue
			}
			some, open[category] = append(some, names[0]), names[1:]
			if len(some) == together {
				break
			}
		}
		states, err := s.states(ctx, some)
		if err != nil {
			return nil, err
		}
		for i, t := range states {
			if category := driver.Category(some[i]); t.version > 0 && !t.purged {
				list = append(list, category)
				delete(open, category)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// states returns how streams stand, as the leader says.
func (s *store) states(ctx context.Context, streams []string) ([]state, error) {
	list := make([]state, len(streams))
	errs := make([]error, len(streams))
	var all sync.WaitGroup
	for i, name := range streams {
		all.Go(func() { list[i], errs[i] = s.leader(ctx, name) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
