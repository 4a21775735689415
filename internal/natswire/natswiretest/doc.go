// Package natswiretest has NATS servers without JetStream, and two whose route a test can slow down, cut
// and mend.
//
//	client ── server A ◄── Link ── server B ── client
package natswiretest
