// Package loopback measures a site with thousands of connected pages over real sockets. It holds benchmarks only: the pages are
// in a process of their own, so that what a page costs the server can be told from what it costs its client.
package loopback
