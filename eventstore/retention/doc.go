// Package retention takes events out of a store when nobody needs them any more, and keeps them in a file if they
// are still wanted.
//
//	          ┌─ Store.Consumers          ┌──► Truncate, Delete, Purge
//	Keeper ───┤                   behind? ┤
//	          └─ Readers: projections     └──► *BehindError
//
//	stream ──ArchiveFile──► FILE ──Restore──► stream
//
// A [Keeper] removes events of a stream only after every consumer of the store, and every reader that it was told
// of, has passed them. [ArchiveFile] writes a stream to a file first; [Read] and [Restore] bring it back.
package retention
