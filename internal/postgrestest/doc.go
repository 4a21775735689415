// Package postgrestest runs private PostgreSQL servers for tests.
//
//	URL(t) ─────────► one server of the test binary      a fresh database a call, dropped with the test
//	Start(t) ───────► a server of the test's own         Kill, Stop, Restart, DropConnections
//	StartBouncer(t) ► a pgbouncer in front of one        a connection is lent for a transaction
//
// A server is a postgres process with its data in a temporary directory and, but on
// Windows, no network: it listens on a Unix socket in that directory, so that any
// number of them run beside each other. Where the tests run as root, it runs as
// postgres or nobody. Its binaries are found on PATH, or among those of the newest
// version where Debian, Red Hat and Homebrew put them; where there are none the test
// is skipped, and fails with CI=true. The data is in memory where there is room, which is
// several times as fast and loses nothing when processes are killed; that of a server which a benchmark
// starts is on disk. Either is synced as in production.
//
// Nothing stays behind. [Main] stops the servers and removes their directories, and
// if the test binary is killed before, a watcher does, which waits for the end of a
// pipe that the binary holds.
//
// With LEVADA_POSTGRES_URL set, of a role that may create databases, [URL] makes its
// databases there and starts nothing.
package postgrestest
