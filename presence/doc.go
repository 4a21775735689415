// Package presence knows who is where: which users are in a topic, on which
// connections, on all nodes.
//
//	 browser ──► Conn ─ Track, Update, Untrack ─┐
//	                                            ▼
//	                           ┌─────── Presence, node a ───────┐
//	 List, GetByKey, Diffs ◄───┤ row a: seq 17, ann, bob   ◄────┼─ only a changes it
//	                           │ row b: seq 42, ann, cid        │
//	                           └───────────────┬────────────────┘
//	                                       Transport: deltas, heartbeats, snapshots
//	                           ┌───────────────┴────────────────┐
//	                           │ row a: seq 17, ann, bob        │
//	only b changes it ─────────┼─►row b: seq 42, ann, cid       │
//	                           └─────── Presence, node b ───────┘
//
// A [Presence] lists the keys of a topic with a [Meta] for each connection that tracks
// the key. A [Conn] is a connection and holds what it tracks. [Diffs] is a
// subscription that tells what changed as [Diff] values. A [Transport] ties nodes
// together; without one a Presence is all there is, and nothing else changes. Package
// natspresence has one over NATS, package presencetest proves any other.
//
// # Presence is not domain state
//
// Presence is a hint for people. It is wrong for some seconds whenever a node or a
// network fails, and two nodes may see different users for that time. Show it; decide
// nothing by it. That everyone has voted follows from the events of the round
// and its participants, not from who happens to be connected.
//
// # Guarantees
//
//   - When changes and faults have ended and nodes can reach each other, all list the
//     union of what their connections track.
//   - The fold of the diffs a subscriber took is what List said when it took the last one.
//   - A diff never adds what is there nor takes away what is not. An update is one
//     diff with both sides. A key is among Joined only when its first meta comes and among
//     Left only when its last one goes.
//   - What a node holds of another is exactly what that one said at some moment, and
//     never goes back to an earlier one.
//   - Nodes that are gone are forgotten.
//
// # What happens when
//
//   - A connection is closed: its entries leave after Options.Grace, unless another
//     connection of the same node tracks the same key by then. Then nobody sees
//     a leave. Conn.UntrackAll does not wait.
//   - A connection moves to another node: for a short time the key has two metas, so
//     it does not vanish in between.
//   - A node is closed: the others drop its users at once, or with Options.Linger after
//     Options.Down.
//   - A node dies: the others show its users until Options.Down has passed. If it is
//     restarted under its name, its new self replaces the old one at once.
//   - The network splits: each side shows its own users after Options.Down. When it
//     heals, the others come back with their metas of that time.
//   - The transport is lost: Presence.Degraded says so, and only users of this node
//     are shown until it is back.
//
// Clocks need not agree. Only the time at which a node starts matters, and only against
// the last start under the same name: if the clock was set back in between, others
// ignore the node until they have forgotten its old self, after Options.PermDown.
//
// # Bounds
//
// Topics, keys and names of nodes are at most MaxNameBytes of UTF-8 without control
// characters. Metas are bounded by Options.MetaBytes, frames by Options.FrameBytes.
// A subscriber who takes nothing costs no more than the list it has and the list it
// would have. Nodes trust each other: the number of their entries is not bounded.
package presence
