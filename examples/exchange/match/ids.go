package match

import (
	"strconv"
	"sync"
)

// names gives numbers to the ids and owners of the input, and their spelling
// back. Ids that are plain whole numbers stand for themselves; the others are
// numbered in order of appearance, so the same input gives the same numbers.
// These are never forgotten: dead ids may come back.
//
// One goroutine may call number and owner while others call append.
type names struct {
	ids    map[string]uint64
	owners map[string]uint64

	mu   sync.RWMutex
	refs []string // spelling by number
}

// spelled marks the numbers of ids that are not whole numbers themselves.
const spelled = 1 << 63

func newNames() *names {
	return &names{ids: map[string]uint64{}, owners: map[string]uint64{`""`: 0}}
}

// id returns the number of an id and, if it does not stand for itself, its
// spelling. tok is a valid JSON number or string.
func (n *names) id(tok []byte) (number uint64, ref string) {
	if len(tok) <= 18 && tok[0] != '"' && tok[0] != '-' {
		for _, c := range tok {
			if c < '0' || c > '9' {
				goto spell
			}
			number = number*10 + uint64(c-'0')
		}
		return number, ""
	}
spell:
	if number, ok := n.ids[string(tok)]; ok {
		return number, n.refs[number&^spelled]
	}
	ref = string(tok)
	number = uint64(len(n.refs)) | spelled
	n.ids[ref] = number
	n.mu.Lock()
	n.refs = append(n.refs, ref)
	n.mu.Unlock()
	return number, ref
}

// owner returns the number of an owner, 0 for the owner "". tok is a valid JSON
// string.
func (n *names) owner(tok []byte) uint64 {
	if number, ok := n.owners[string(tok)]; ok {
		return number
	}
	number := uint64(len(n.owners))
	n.owners[string(tok)] = number
	return number
}

// append appends the spelling of an id.
func (n *names) append(dst []byte, number uint64) []byte {
	if number&spelled == 0 {
		return strconv.AppendUint(dst, number, 10)
	}
	n.mu.RLock()
	ref := n.refs[number&^spelled]
	n.mu.RUnlock()
	return append(dst, ref...)
}
