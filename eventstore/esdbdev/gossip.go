package esdbdev

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
)

type gossipService struct {
	gossip.UnimplementedGossipServer
	s *Server
}

// Read tells of the nodes of the cluster: this one, and those of its Role.
func (v *gossipService) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	c := v.s.call(ctx, MethodGossip, "")
	if err := c.begin(early | late); err != nil {
		return nil, answer(ctx, err)
	}
	p := v.s.part.Load()
	self := gossip.MemberInfo_Leader
	info := &gossip.ClusterInfo{}
	if p.Leader != "" {
		self = gossip.MemberInfo_Follower
		info.Members = append(info.Members, member(nodeID(p.Leader), p.Leader, gossip.MemberInfo_Leader))
	}
	info.Members = append(info.Members, member(v.s.instance, v.s.public(), self))
	for _, addr := range p.Followers {
		info.Members = append(info.Members, member(nodeID(addr), addr, gossip.MemberInfo_Follower))
	}
	if err := c.end(); err != nil {
		return nil, answer(ctx, err)
	}
	return info, nil
}

// nodeID makes up the id of another node.
func nodeID(addr string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("esdb://"+addr)) }

func member(id uuid.UUID, addr string, state gossip.MemberInfo_VNodeState) *gossip.MemberInfo {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	port, _ := strconv.ParseUint(portText, 10, 16)
	return &gossip.MemberInfo{
		InstanceId: wireID(id, false), TimeStamp: time.Now().UnixNano() / 100, State: state, IsAlive: true,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(port)},
	}
}

type featuresService struct {
	serverfeatures.UnimplementedServerFeaturesServer
	s *Server
}

const persistentName = "event_store.client.persistent_subscriptions.persistentsubscriptions"

// methods are the calls that the server has, named in lower case as clients look
// them up. Clients use older interfaces, over HTTP, for what is not named.
var methods = []*serverfeatures.SupportedMethod{
	{ServiceName: "event_store.client.streams.streams", MethodName: "append"},
	{ServiceName: "event_store.client.streams.streams", MethodName: "batchappend", Features: []string{"deadline_duration"}},
	{ServiceName: "event_store.client.streams.streams", MethodName: "delete"},
	{ServiceName: "event_store.client.streams.streams", MethodName: "read", Features: []string{"position", "events"}},
	{ServiceName: "event_store.client.streams.streams", MethodName: "tombstone"},
	{ServiceName: persistentName, MethodName: "create", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "update", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "delete", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "read", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "getinfo", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "list", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "replayparked", Features: []string{"stream", "all"}},
	{ServiceName: persistentName, MethodName: "restartsubsystem"},
	{ServiceName: "event_store.client.gossip.gossip", MethodName: "read"},
	{ServiceName: "event_store.client.server_features.serverfeatures", MethodName: "getsupportedmethods"},
}

// GetSupportedMethods tells what the server can do.
func (v *featuresService) GetSupportedMethods(ctx context.Context, _ *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	c := v.s.call(ctx, MethodFeatures, "")
	if err := c.begin(early | late); err != nil {
		return nil, answer(ctx, err)
	}
	if err := c.end(); err != nil {
		return nil, answer(ctx, err)
	}
	return &serverfeatures.SupportedMethods{Methods: methods, EventStoreServerVersion: v.s.opt.Version}, nil
}
