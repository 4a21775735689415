// Package presencetest proves implementations of [presence.Transport], with [Run]:
// that frames go where they should, and that nodes over the transport agree on who
// is where.
package presencetest
