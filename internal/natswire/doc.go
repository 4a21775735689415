// Package natswire is what the transports over core NATS have in common: names as
// tokens of subjects, messages larger than the server takes, and what a slow
// receiver loses.
//
//	name ── Token ──► one token of a subject: "round 1" is round=201
//
//	message ──┬─ fits max_payload ──────────► as it is, without headers
//	          └─ else ── cut ── Levada-Part ─► Receiver joins the parts again
package natswire
