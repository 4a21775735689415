// Package pubsub tells those who are interested that something happened, in this
// process and in others. PubSub is a wake-up, never the truth: a message may be
// lost, so whoever is told reads what is true where it is kept.
//
// There are few types: [Bus], [Topic], [Subscription], [Mailbox] and [Transport].
// Package natspubsub has a transport over NATS, package pubsubtest proves any other.
//
//	Topic.Publish(v) ──┬── v itself ──► mailboxes ──► Subscription.C
//	                   │
//	                   └── encoded once ──► Transport ──► other nodes:
//	                                                        decoded once ──► mailboxes ──► Subscription.C
//
// # Guarantees
//
// At most once: a subscription receives a value once or not at all, even if the
// transport duplicates messages. Values are lost when a mailbox is full, when
// the network loses them, and when they were published before the subscription.
//
// In order: what one publisher publishes to one topic, one call after the other,
// is received in that order, with gaps where something was lost. A message that
// the network lets others overtake is lost. Nothing is said about the order between
// publishers or topics.
//
// Nobody waits: a publisher never waits for a subscriber. A subscriber that is
// slow finds the newest values in its [Mailbox], or the oldest, or the newest of
// each key, or ends, as it chose; [Subscription.Dropped] counts what it lost.
//
// Nothing in between: [SubscribeRead] subscribes first and reads then, in one
// call, so that a change is in what was read, or arrives, or both.
//
// # Sharing
//
// Within a process a value is not copied: the publisher and all subscribers have
// the same. What a published value refers to must not be changed any more.
//
// # Cost
//
// Publishing to a topic without subscriptions is a look-up, and with a transport
// also an encoding, since other nodes may listen. No goroutine belongs to a bus, a
// topic or a subscription. A mailbox needs memory only for what waits in it.
package pubsub
