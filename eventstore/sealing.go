package eventstore

import "context"

// A SubjectSealer is a Sealer that knows whose data it seals: that of its subjects, whose keys can be
// destroyed. It is for what keeps copies of the data of events and commands elsewhere, as processes, timers,
// dead letters and snapshots do: they seal them for the subjects of what was copied. shred.Sealer is one.
// Copies are sealed by a Sealer that is none, too, as a whole.
type SubjectSealer interface {
	Sealer

	// Subjects returns whose data e holds: for whom its Raw is sealed, and for whom its Data would be.
	Subjects(e *Event) []string

	// SealFor seals data that was copied from the data of subjects. What Seal would seal of e is sealed like that; if there is
	// nothing, all of it is sealed, so that Open returns an ErrErased as soon as any one of the
	// subjects is erased. Without subjects, too, data is returned as it is. For an e without Data, only the subjects count.
	//
	// Other than Seal it does not fail for subjects that are erased: it leaves out what is theirs, as if they were erased
	// a moment later.
	SealFor(ctx context.Context, e *Event, data []byte, subjects []string) ([]byte, error)

	// Readable reports whether what was sealed for a subject can be opened. Once it cannot, it never can again.
	Readable(ctx context.Context, subject string) (bool, error)
}

// Sealer returns the Options' Seal, nil if there is none.
func (s *Store) Sealer() Sealer { return s.opt.Seal }
