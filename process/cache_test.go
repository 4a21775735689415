package process_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/process"
)

// An instance that is not in memory is read again, and what ended is over whether it was in memory or not.
func TestInstancesAreUnloadedAndReadAgain(t *testing.T) {
	t.Parallel()
	for _, cached := range []int{-1, 1} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			typ := jobs()
			typ.Cached = cached
			l := job(t, typ, w)
			for _, what := range []string{"x", "y"} {
				for _, id := range []string{"1", "2", "3"} {
					if what == "x" {
						l.happen(Began{id, nil})
					}
					l.happen(Went{id, what + id})
				}
			}
			for _, id := range []string{"1", "2", "3"} {
				require.JSONEq(t, `{"Log":["began","went x`+id+`","went y`+id+`"]}`, string(l.read(id).State))
			}
			l.happen(Ended{"1"}, Went{"2", "z"}, Went{"1", "too late"})
			require.Equal(t, process.Ended, l.read("1").Status)
			require.NotContains(t, w.did(), "too late")
			l.happen(Began{"1", nil})
			require.JSONEq(t, `{"Log":["began"]}`, string(l.read("1").State), "it begins with nothing")
		})
	}
}
