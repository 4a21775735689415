// Package natspubsub carries the messages of a [pubsub.Bus] between processes over
// core NATS. There is one type, [Transport].
//
//	      node a                                                    node b
//	Topic.Publish("round 1") ─► Transport                 Transport ─► mailboxes
//	                               │                          ▲
//	                    nats.Conn  ▼                          │  nats.Conn
//	                         NATS server 1 ◄── routes ──► NATS server 2
//	                                 subject ps.NAMESPACE.round=201
//
// A bus has one NATS subscription for each topic that it has subscriptions to,
// however many those are.
//
// # Guarantees
//
// Those of package pubsub: at most once, in order, nobody waits. Messages are lost
// while a connection or a server is down, and when more than Options.PendingMessages
// or Options.PendingBytes of one topic wait in this process; [Transport.Dropped]
// counts the latter. A connection that was lost is made again by package nats, and its
// subscriptions with it; what is published meanwhile waits in the connection
// (nats.ReconnectBufSize) and is sent late.
//
// # Subscribing in a cluster
//
// A server that is subscribed to tells the servers of its cluster, and does not
// wait until they know. A message published on another server right after that
// would be lost. So Subscribe asks, after it has subscribed, each server that other
// transports are connected to:
//
//	node b          server 2                server 1            node a
//	  ├─ SUB topic ───►├─── topic is wanted ───►│                 │
//	  ├─ request ─────►├─── request ───────────►├──── request ───►│
//	  │                │                        │                 │ whatever node a publishes from now
//	  │◄── answer ─────┤◄─────── answer ────────┤◄──── answer ────┤ on finds server 1 in the know
//
// What two servers tell each other for one account keeps its order, so the answer
// proves that the subscription came before. One transport on each server answers.
// Transports know of each other because each says where it is when it begins, when it
// has connected to another server, and every 10 seconds. A server that does not
// answer within a second, or has no transport any more, is not waited for until it
// is heard of again. Where that is not enough, a transport that began in the last
// moment or a cluster that is split, a message can be lost, which is what
// [pubsub.SubscribeRead] and positions are for.
//
// # Subjects
//
// A topic is one token of the subject ps.NAMESPACE.TOPIC: letters, digits, "_" and "-" as
// they are, any other byte as "=" and two hex digits; above 160 bytes "==" and the
// SHA-256 of the topic, which the message then carries in a header, to be checked.
// A user of NATS needs permission to publish and to subscribe to ps.NAMESPACE.> and
// _INBOX.>. No stream of JetStream should have these subjects: it would keep messages
// that nobody reads again.
//
// Messages are sent as they are. One that is larger than the server's max_payload
// is sent in parts, in order, and made whole again.
package natspubsub
