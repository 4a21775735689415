// Package kurrentstore keeps events in an EventStoreDB or KurrentDB server.
package kurrentstore
