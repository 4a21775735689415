package aggregate

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
)

// A snapshot holds what its events hold, so it is sealed for the subjects of all of them, or by the tags of S. When one of them is
// erased the snapshot is as good as none: the state is folded from the events, of which that is left out, and
// further snapshots are without it.

// sealedSnapshot is what a snapshot's data is then.
type sealedSnapshot struct {
	Sealed json.RawMessage `json:"$sealed_snapshot"`
}

const typeOfSnapshot = "$snapshot"

// owners is whose data a state holds.
type owners struct {
	have map[string]bool
	gone map[string]bool // those of whom it cannot hold anything any more
}

// add notes the subjects of an event that is folded, and reports whether there is one that was not known.
func (o *owners) add(subjects []string) (fresh bool) {
	for _, subject := range subjects {
		if !o.gone[subject] && !o.have[subject] {
			if o.have == nil {
				o.have = map[string]bool{}
			}
			o.have[subject], fresh = true, true
		}
	}
	return fresh
}

func (o *owners) list() []string {
	list := make([]string, 0, len(o.have))
	for subject := range o.have {
		list = append(list, subject)
	}
	return list
}

// lost reports whether somebody whose data in may hold can be read no more. From then on it counts as gone: the state has to be
// folded anew, of what is left.
func (r *Repository[S]) lost(ctx context.Context, in *instance[S]) (lost bool, err error) {
	for subject := range in.owners.have {
		yes, err := r.copies.Readable(ctx, subject)
		if err != nil {
			return false, err
		}
		if !yes {
			if in.owners.gone == nil {
				in.owners.gone = map[string]bool{}
			}
			in.owners.gone[subject], lost = true, true
		}
	}
	return lost, nil
}

// seals reports whether snapshots are to be sealed.
func (r *Repository[S]) seals() bool { return r.t.SnapshotEvery > 0 && r.copies.Sealed() }

func snapshotPlace(in eventstore.StreamName) eventstore.ID {
	return sealing.Place("snapshot", string(in))
}

// sealed returns the data of a snapshot as it is to be stored.
func (r *Repository[S]) sealed(ctx context.Context, stream eventstore.StreamName, data []byte, subjects []string) ([]byte, error) {
	if !r.seals() {
		return data, nil
	}
	// The tags are asked about a state of its own: that of the aggregate goes on changing.
	var state S
	if err := guard(func() error { return r.t.Snapshot.Decode(data, &state) }); err != nil {
		return nil, err
	}
	seal := r.copies.SealWhole
	if r.t.plainJSON {
		seal = r.copies.Seal
	}
	box, err := seal(ctx, snapshotPlace(stream), typeOfSnapshot, state, data, subjects)
	if err != nil || box == nil {
		return data, err
	}
	return json.Marshal(sealedSnapshot{box})
}

// opened returns the data of a snapshot, and whose it is; an eventstore.ErrErased if that is gone.
func (r *Repository[S]) opened(ctx context.Context, stream eventstore.StreamName, data []byte) ([]byte, []string, error) {
	var s sealedSnapshot
	if json.Unmarshal(data, &s) != nil || s.Sealed == nil {
		return data, nil, nil
	}
	out, err := r.copies.Open(ctx, snapshotPlace(stream), typeOfSnapshot, s.Sealed)
	if err != nil && !errors.Is(err, eventstore.ErrErased) {
		return nil, nil, err
	}
	return out, r.copies.Kept(s.Sealed), err
}
