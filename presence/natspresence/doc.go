// Package natspresence carries the frames of a [presence.Presence] between nodes over
// core NATS. There is one type, [Transport].
//
//	       node a                                  node b
//	Conn.Track("room 1", "ann")                  List("room 1"): ann, bob
//	          │                                             ▲
//	      Presence                                      Presence
//	          │ Broadcast ─► pr.NAMESPACE.all ──────────────┤
//	          │ Send(b) ───► pr.NAMESPACE.to.b ─────────────┘
//	      Transport ── nats.Conn ── NATS servers ── nats.Conn ── Transport
//
// Frames may be lost, and presence asks for what is missing. A frame that is larger
// than the server's max_payload goes in parts.
//
// # The link
//
// A connection that is lost is made again by package nats. When that takes longer than
// Options.Patience the Presence is told that its link is down, and shows the users of its
// own node alone, until the connection is back. A server that lives but is cut off from
// the others of its cluster keeps the link up: then the nodes beyond it are silent, and
// their users leave after presence's Options.Down.
//
// # Subjects
//
// A node is reached at pr.NAMESPACE.to.NAME, where the name is one token: letters, digits, "_"
// and "-" as they are, any other byte as "=" and two hex digits; above 160 bytes "==" and
// the SHA-256 of the name. A user of NATS needs permission to publish and to subscribe to
// pr.NAMESPACE.>. No stream of JetStream should have these subjects.
package natspresence
