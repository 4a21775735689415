package esdbdev

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"google.golang.org/grpc/codes"
)

// allStream is what a group of everything has for a stream.
const allStream = "$all"

// Streams of persistent subscriptions, which clients can read. configStream has all
// groups in each event, of which the last counts.
const (
	configStream     = "$persistentSubscriptionConfig"
	configType       = "$PersistentConfig"
	checkpointType   = "$SubscriptionCheckpoint"
	groupPrefix      = "$persistentsubscription-"
	checkpointSuffix = "-checkpoint"
	parkedSuffix     = "-parked"
)

// groups are the persistent subscriptions. What they are is kept in configStream, so
// that another server of the store has them too.
type groups struct {
	s       *Server
	mu      sync.Mutex
	version eventstore.Version // of configStream, as far as it was read
	byKey   map[groupKey]*group
}

type groupKey struct{ stream, name string }

func (k groupKey) String() string { return k.stream + "::" + k.name }

// A config is an event of configStream.
type config struct {
	Entries []configEntry `json:"entries"`
}

// A configEntry is a group as it is stored. Names are escaped, since they may be no
// text.
type configEntry struct {
	Stream   string        `json:"stream"`
	Group    string        `json:"group"`
	Settings groupSettings `json:"settings"`
}

// load reads what there is, unless it is known. It is called with mu held.
func (gs *groups) load(ctx context.Context) error {
	stored, _ := storedStream(configStream, gs.s.nameBytes)
	info, err := gs.s.store.Stream(ctx, stored)
	if err != nil {
		return storeError(configStream, err)
	}
	if info.Version == gs.version && gs.byKey != nil {
		return nil
	}
	var c config
	version := eventstore.Version(0)
	for r, err := range gs.s.store.ReadStreamBackward(raw(ctx), stored, 0) {
		if err != nil {
			return storeError(configStream, err)
		}
		if err := json.Unmarshal(r.Raw, &c); err != nil {
			return &exception{code: codes.Internal, message: "the configuration of persistent subscriptions cannot be read: " + err.Error()}
		}
		version = r.Version
		break
	}
	byKey := map[groupKey]*group{}
	for _, e := range c.Entries {
		stream, ok := unescape(e.Stream)
		name, ok2 := unescape(e.Group)
		if !ok || !ok2 {
			continue
		}
		k := groupKey{stream, name}
		g := gs.byKey[k]
		if g == nil || g.settings != e.Settings.key() {
			g = newGroup(gs.s, k, e.Settings)
		}
		byKey[k] = g
	}
	for k, g := range gs.byKey {
		if byKey[k] != g { // another server has deleted or changed it
			g.end(ctx, dropped(k))
		}
	}
	gs.version, gs.byKey = version, byKey
	return nil
}

// change changes the groups and stores them. fn returns the group that this puts an
// end to, if it does; it is called again if another server was quicker.
func (gs *groups) change(ctx context.Context, fn func(byKey map[groupKey]*group) (old *group, err error)) error {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	ctx = raw(context.WithoutCancel(ctx))
	for {
		if err := gs.load(ctx); err != nil {
			return err
		}
		next := make(map[groupKey]*group, len(gs.byKey))
		var c config
		for k, g := range gs.byKey {
			next[k] = g
		}
		old, err := fn(next)
		if err != nil {
			return err
		}
		for k, g := range next {
			c.Entries = append(c.Entries, configEntry{escape(k.stream), escape(k.name), g.config})
		}
		slices.SortFunc(c.Entries, func(a, b configEntry) int { return strings.Compare(a.Stream+"\x00"+a.Group, b.Stream+"\x00"+b.Group) })
		data, err := json.Marshal(c)
		if err != nil {
			return &exception{code: codes.Internal, message: err.Error()}
		}
		stored, _ := storedStream(configStream, gs.s.nameBytes)
		at, err := gs.s.store.Append(ctx, stored, eventstore.Exactly(gs.version),
			eventstore.Event{ID: uuid.New(), Type: configType, Raw: data, ContentType: typeJSON})
		if errors.Is(err, eventstore.ErrConflict) {
			continue
		}
		if err != nil {
			return storeError(configStream, err)
		}
		gs.version, gs.byKey = at.Version, next
		if old != nil {
			old.end(ctx, dropped(old.key)) // before a new one can be found
		}
		return nil
	}
}

// get returns a group.
func (gs *groups) get(ctx context.Context, k groupKey) (*group, error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if err := gs.load(ctx); err != nil {
		return nil, err
	}
	if g := gs.byKey[k]; g != nil {
		return g, nil
	}
	return nil, noGroup(k)
}

// list returns the groups of a stream, or all if it is empty, in order.
func (gs *groups) list(ctx context.Context, stream string) ([]*group, error) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if err := gs.load(ctx); err != nil {
		return nil, err
	}
	var list []*group
	for k, g := range gs.byKey {
		if stream == "" || k.stream == stream {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *group) int { return strings.Compare(a.key.String(), b.key.String()) })
	return list, nil
}

// restart drops all consumers and reads everything anew.
func (gs *groups) restart(ctx context.Context) error {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for k, g := range gs.byKey {
		g.end(ctx, dropped(k))
	}
	gs.byKey = nil
	return gs.load(ctx)
}

func noGroup(k groupKey) error {
	return groupError(codes.NotFound, "persistent-subscription-does-not-exist", k, "does not exist")
}

func dropped(k groupKey) error {
	return groupError(codes.Canceled, "persistent-subscription-dropped", k, "was dropped")
}

func groupError(c codes.Code, name string, k groupKey, what string) error {
	return &exception{c, "Subscription group " + k.name + " on stream " + k.stream + " " + what + ".",
		[]string{"exception", name, "stream-name", k.stream, "group-name", k.name}}
}

type persistentService struct {
	persistent.UnimplementedPersistentSubscriptionsServer
	s *Server
}

// manage does what all calls but Read have in common.
func (v *persistentService) manage(ctx context.Context, stream string, fn func() error) error {
	c := v.s.call(ctx, MethodPersistentManage, stream)
	err := c.begin(early | late)
	if err == nil {
		err = v.s.leads(ctx, false)
	}
	if err == nil {
		err = fn()
	}
	if err == nil {
		err = c.end()
	}
	return answer(ctx, err)
}

// newKey names a group, of everything if all is set.
func newKey(all bool, id *shared.StreamIdentifier, group string) (groupKey, error) {
	k := groupKey{allStream, group}
	if !all {
		var err error
		if k.stream, err = nameOf(id); err != nil {
			return k, err
		}
	}
	if group == "" || len(group) > maxName {
		return k, invalidArgument("the name of a group must have 1 to %d bytes, not %d", maxName, len(group))
	}
	return k, nil
}

// Create is the call of that name.
func (v *persistentService) Create(ctx context.Context, req *persistent.CreateReq) (*persistent.CreateResp, error) {
	o := req.GetOptions()
	id := o.GetStream().GetStreamIdentifier()
	if id == nil {
		//lint:ignore SA1019 older clients send it alone
		id = o.GetStreamIdentifier()
	}
	k, err := newKey(o.GetAll() != nil, id, o.GetGroupName())
	if err != nil {
		return nil, answer(ctx, err)
	}
	err = v.manage(ctx, k.stream, func() error {
		if o.GetAll() == nil && k.stream == allStream {
			return invalidArgument("%s is not a stream: a group of everything says so", allStream)
		}
		settings, err := createSettings(o)
		if err != nil {
			return err
		}
		if err := v.s.resolveStart(ctx, k, &settings); err != nil {
			return err
		}
		return v.s.groups.change(ctx, func(byKey map[groupKey]*group) (*group, error) {
			if byKey[k] != nil {
				return nil, groupError(codes.AlreadyExists, "persistent-subscription-exists", k, "exists")
			}
			byKey[k] = newGroup(v.s, k, settings)
			return nil, nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &persistent.CreateResp{}, nil
}

// Update is the call of that name. Consumers are dropped; the group goes on from its
// checkpoint, if it has one.
func (v *persistentService) Update(ctx context.Context, req *persistent.UpdateReq) (*persistent.UpdateResp, error) {
	o := req.GetOptions()
	id := o.GetStream().GetStreamIdentifier()
	if id == nil {
		//lint:ignore SA1019 older clients send it alone
		id = o.GetStreamIdentifier()
	}
	k, err := newKey(o.GetAll() != nil, id, o.GetGroupName())
	if err != nil {
		return nil, answer(ctx, err)
	}
	err = v.manage(ctx, k.stream, func() error {
		settings, err := updateSettings(o)
		if err != nil {
			return err
		}
		if err := v.s.resolveStart(ctx, k, &settings); err != nil {
			return err
		}
		return v.s.groups.change(ctx, func(byKey map[groupKey]*group) (*group, error) {
			old := byKey[k]
			if old == nil {
				return nil, noGroup(k)
			}
			settings.Filter = old.config.Filter // which cannot be changed
			byKey[k] = newGroup(v.s, k, settings)
			return old, nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &persistent.UpdateResp{}, nil
}

// Delete is the call of that name. The group's checkpoint and parked messages go too.
func (v *persistentService) Delete(ctx context.Context, req *persistent.DeleteReq) (*persistent.DeleteResp, error) {
	o := req.GetOptions()
	k, err := newKey(o.GetAll() != nil, o.GetStreamIdentifier(), o.GetGroupName())
	if err != nil {
		return nil, answer(ctx, err)
	}
	err = v.manage(ctx, k.stream, func() error {
		var old *group
		err := v.s.groups.change(ctx, func(byKey map[groupKey]*group) (*group, error) {
			if old = byKey[k]; old == nil {
				return nil, noGroup(k)
			}
			delete(byKey, k)
			return old, nil
		})
		if err != nil {
			return err
		}
		for _, name := range []string{old.checkpointStream(), old.parkedStream()} {
			st, err := v.s.stream(ctx, name, everything)
			if err == nil && st.version > 0 && !st.deleted() {
				_, err = v.s.remove(ctx, name, expectation{kind: expectAny}, false)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &persistent.DeleteResp{}, nil
}

// GetInfo is the call of that name.
func (v *persistentService) GetInfo(ctx context.Context, req *persistent.GetInfoReq) (*persistent.GetInfoResp, error) {
	o := req.GetOptions()
	k, err := newKey(o.GetAll() != nil, o.GetStreamIdentifier(), o.GetGroupName())
	if err != nil {
		return nil, answer(ctx, err)
	}
	resp := &persistent.GetInfoResp{}
	err = v.manage(ctx, k.stream, func() error {
		g, err := v.s.groups.get(ctx, k)
		if err == nil {
			resp.SubscriptionInfo, err = g.info(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// List is the call of that name. A stream without groups is an error.
func (v *persistentService) List(ctx context.Context, req *persistent.ListReq) (*persistent.ListResp, error) {
	stream := ""
	if one := req.GetOptions().GetListForStream(); one.GetAll() != nil {
		stream = allStream
	} else if one != nil {
		var err error
		if stream, err = nameOf(one.GetStream()); err != nil {
			return nil, answer(ctx, err)
		}
	}
	resp := &persistent.ListResp{}
	err := v.manage(ctx, stream, func() error {
		list, err := v.s.groups.list(ctx, stream)
		if err != nil {
			return err
		}
		if len(list) == 0 && stream != "" {
			return noGroup(groupKey{stream: stream})
		}
		for _, g := range list {
			info, err := g.info(ctx)
			if err != nil {
				return err
			}
			resp.Subscriptions = append(resp.Subscriptions, info)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ReplayParked is the call of that name.
func (v *persistentService) ReplayParked(ctx context.Context, req *persistent.ReplayParkedReq) (*persistent.ReplayParkedResp, error) {
	o := req.GetOptions()
	k, err := newKey(o.GetAll() != nil, o.GetStreamIdentifier(), o.GetGroupName())
	if err != nil {
		return nil, answer(ctx, err)
	}
	err = v.manage(ctx, k.stream, func() error {
		limit := o.GetStopAt()
		if limit < 0 {
			return invalidArgument("cannot replay %d parked messages", limit)
		}
		g, err := v.s.groups.get(ctx, k)
		if err != nil {
			return err
		}
		return g.replay(ctx, limit)
	})
	if err != nil {
		return nil, err
	}
	return &persistent.ReplayParkedResp{}, nil
}

// RestartSubsystem is the call of that name.
func (v *persistentService) RestartSubsystem(ctx context.Context, _ *shared.Empty) (*shared.Empty, error) {
	if err := v.manage(ctx, "", func() error { return v.s.groups.restart(ctx) }); err != nil {
		return nil, err
	}
	return &shared.Empty{}, nil
}
