// Package pubsubtest proves implementations of [pubsub.Transport], with [Run], and
// lets a test run several nodes in one process, with a [Network].
//
//	var network pubsubtest.Network
//	a := pubsub.New(network.Connect(), nil)
//	b := pubsub.New(network.Connect(), nil)
//
// A network delivers before Publish returns, so that nothing need be waited for. It
// can be told to lose and to duplicate messages.
package pubsubtest
