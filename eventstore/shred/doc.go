// Package shred makes events forgettable: what belongs to a person is stored encrypted with a key of that person,
// and forgetting the person is destroying the key ("crypto-shredding"). The events stay where they are, so that
// nothing else changes: versions, positions, other people's data, backups.
//
//	append ──► JSON ──► Sealer ──► {"User":"ann","$sealed":{"Email":{"s":"ann","d":"…"}}} ──► store
//	                      │ key of ann
//	                    Keys                 Shred("ann")
//	                      │ key of ann, or none
//	read   ◄── JSON ◄── Sealer ◄─────────────────────────────────────────────────────────── store
//
// A [Sealer] stands in [eventstore.Options].Seal. It encrypts either single fields, those with a tag that names
// the field that holds the subject,
//
//	type Registered struct {
//		User  string
//		Email string `shred:"User"`
//	}
//
// or whole events, as [Options].Subject says. [Keys] hold the keys: [Memory], or those of sqlitestore and pgstore, in a file
// or a schema of their own, which must not be in the same backups as the events.
//
// # What readers see
//
// After [Keys].Shred a field reads as its zero value, and an event that was sealed as a whole has
// [eventstore.Erased] as Data; no reader fails. This takes effect at once for the Sealer through which
// [Sealer.Shred] was called, and after [Options].Remember at the latest for all others.
// Read models know nothing of it: they must handle the erasure as they handle any event.
//
// # Copies
//
// What processes, timers, dead letters and snapshots keep of events and commands is sealed for the same subjects, see
// [eventstore.SubjectSealer]: by the tags of the state or command, or else as a whole, with a key derived (HKDF, RFC 5869) from
// those of all subjects, so that it is erased with the first of them.
//
// # How it is done
//
// AES-256-GCM (NIST SP 800-38D) with random nonces of 96 bits; the id of the event and the name of the field are
// authenticated with it, so that what is sealed cannot be moved elsewhere. One key must not seal more than 2³²
// values. The name of the subject is stored in the clear: use ids that say nothing. So are an event's tags
// and metadata, and the name of its stream: its data alone is sealed.
package shred
