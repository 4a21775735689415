package pubsub

import "context"

// A Transport carries messages between the buses of a network, one of which it
// connects. Package pubsubtest proves these sentences of an implementation:
//
//   - A message is delivered to every subscription to its topic by every other
//     connection of the network. Delivering it to the publisher's own connection
//     is allowed; its bus drops it.
//   - It is delivered to no subscription to another topic. A topic is 1 to 255
//     bytes of UTF-8 without control characters; all of them are different,
//     whatever the network gives a meaning to.
//   - Messages that one connection publishes to one topic one after the other are
//     delivered in that order. Loss is allowed but should be rare. Messages that
//     arrive twice or out of order do no harm: the bus drops them.
//   - The bytes are delivered as they were published, up to 1 MiB.
//
// All methods must be safe for concurrent use.
type Transport interface {
	// Publish hands message over to the network. It must not wait for receivers,
	// and must not keep message. It must return an error when ctx has ended.
	Publish(ctx context.Context, topic string, message []byte) error

	// Subscribe has deliver called for each message to topic from now on: a message
	// whose Publish is called after Subscribe returned, on any connection, must be
	// delivered. The calls must be one at a time; deliver returns soon and does not keep
	// message. ctx bounds Subscribe alone, not the subscription; Subscribe must return
	// an error, and leave no subscription, when ctx has ended.
	//
	// The bus subscribes once to a topic, however many subscriptions it has, and
	// calls unsubscribe once, when the last has ended. No call of deliver may begin after
	// unsubscribe has returned. It must not wait for a call under way: it may be called
	// from within deliver.
	Subscribe(ctx context.Context, topic string, deliver func(message []byte)) (unsubscribe func(), err error)
}
