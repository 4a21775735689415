// Package natstest runs NATS servers with JetStream for tests.
//
//	Run        one server in this process
//	Cluster    n servers in this process, one JetStream cluster
//	Shared     the same, started once for all tests of the binary
//	Processes  n servers in processes of their own, which can be killed
//
// Every server keeps its files in a temporary directory and listens on ports of
// 127.0.0.1 that were free. What it logs is shown with the test that failed. A
// server can be stopped, or, in a process of its own, killed, and started again
// on the same ports and directory.
//
// [Shared] and [Processes] need the test binary to begin with [Main]: processes
// are the test binary itself, started again, and what is shared must be stopped
// at the end.
//
//	func TestMain(m *testing.M) { os.Exit(natstest.Main(m)) }
package natstest
