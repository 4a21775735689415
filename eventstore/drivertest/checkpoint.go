package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testCheckpoint(g *group) {
	at := func(position, fence uint64) *driver.Checkpoint {
		return &driver.Checkpoint{Position: position, Fence: fence, Data: []byte(fmt.Sprintf("%d under %d", position, fence))}
	}
	has := func(f *fixture, name string, want *driver.Checkpoint) {
		f.Helper()
		c, ok, err := can[driver.Checkpointer](f).LoadCheckpoint(f.ctx, name)
		require.NoError(f, err)
		require.Equal(f, want != nil, ok)
		if ok {
			require.Equal(f, want.Position, c.Position)
			require.Equal(f, want.Fence, c.Fence)
			require.True(f, bytes.Equal(want.Data, c.Data), "data: want %q, have %q", want.Data, c.Data)
		}
	}

	for _, c := range []struct {
		name         string
		stored, from *driver.Checkpoint
		to           *driver.Checkpoint
		moved        bool
	}{
		{"none, from none", nil, nil, at(5, 1), false},
		{"none, from none, at position 0", nil, nil, at(0, 0), false},
		{"none, from one", nil, at(5, 1), at(6, 1), true},
		{"none, from one at position 0", nil, at(0, 0), at(6, 0), true},
		{"from where it is", at(5, 1), at(5, 1), at(6, 1), false},
		{"from position 0, where it is", at(0, 0), at(0, 0), at(6, 0), false},
		{"backward, from where it is", at(5, 1), at(5, 1), at(2, 1), false},
		{"to the same place", at(5, 1), at(5, 1), at(5, 1), false},
		{"one, from none", at(5, 1), nil, at(6, 1), true},
		{"one at position 0, from none", at(0, 0), nil, at(6, 0), true},
		{"from a lower position", at(5, 1), at(4, 1), at(6, 1), true},
		{"from a higher position", at(5, 1), at(6, 1), at(7, 1), true},
		{"from another fence, the lower", at(5, 2), at(5, 1), at(6, 2), true},
		{"from another fence, the higher", at(5, 1), at(5, 2), at(6, 2), true},
		{"to a higher fence", at(5, 1), at(5, 1), at(6, 2), false},
		{"to a higher fence at the same position", at(5, 1), at(5, 1), at(5, 9), false},
		{"to a lower fence", at(5, 2), at(5, 2), at(6, 1), true},
		{"to fence 0", at(5, 2), at(5, 2), at(6, 0), true},
	} {
		g.test("saved: "+c.name, func(f *fixture) {
			d := can[driver.Checkpointer](f)
			if c.stored != nil {
				require.NoError(f, d.SaveCheckpoint(f.ctx, "name", nil, *c.stored))
			}
			require.NoError(f, d.SaveCheckpoint(f.ctx, "name2", nil, *at(1, 1)))
			err := d.SaveCheckpoint(f.ctx, "name", c.from, *c.to)
			if c.moved {
				require.ErrorIs(f, err, driver.ErrMoved)
				has(f, "name", c.stored)
			} else {
				require.NoError(f, err)
				has(f, "name", c.to)
			}
			has(f, "name2", at(1, 1))
		})
	}

	g.test("what from's data was does not matter", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(5, 1)))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", &driver.Checkpoint{Position: 5, Fence: 1, Data: []byte("other")}, *at(6, 1)))
		has(f, "c", at(6, 1))
	})

	g.test("there is none until one is saved, which is not the same as one at position 0", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		has(f, "c", nil)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, driver.Checkpoint{}))
		has(f, "c", &driver.Checkpoint{})
	})

	g.test("one reads as it was saved", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		for i, data := range [][]byte{nil, {}, []byte("text"), []byte("a\x00b\xff"), bytes.Repeat([]byte("x"), 100_000)} {
			c := driver.Checkpoint{Position: 1<<63 - 1, Fence: uint64(i), Data: data}
			name := fmt.Sprintf("name é %% %d", i)
			require.NoError(f, d.SaveCheckpoint(f.ctx, name, nil, c))
			has(f, name, &c)
		}
	})

	g.test("names that are alike are different checkpoints", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		for i, name := range oddNames {
			require.NoError(f, d.SaveCheckpoint(f.ctx, name, nil, *at(uint64(i), 1)), "%q", name)
		}
		for i, name := range oddNames {
			has(f, name, at(uint64(i), 1))
		}
		all, err := d.Checkpoints(f.ctx, "")
		require.NoError(f, err)
		require.Len(f, all, len(oddNames))
		for i, name := range oddNames {
			require.Equal(f, *at(uint64(i), 1), all[name], "%q", name)
		}
	})

	g.test("one that was deleted is gone, and another may begin", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(5, 9)))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c2", nil, *at(5, 9)))
		require.NoError(f, d.DeleteCheckpoint(f.ctx, "c"))
		require.NoError(f, d.DeleteCheckpoint(f.ctx, "c"), "there is none to forget")
		has(f, "c", nil)
		has(f, "c2", at(5, 9))
		require.ErrorIs(f, d.SaveCheckpoint(f.ctx, "c", at(5, 9), *at(6, 9)), driver.ErrMoved)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(1, 1)))
		has(f, "c", at(1, 1))
	})

	g.test("those whose names start with a prefix are listed", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		names := []string{"p/a", "p/b", "p", "P/a", "q/a", "p%/a", "p_/a", "px/a", "é/a"}
		for i, name := range names {
			require.NoError(f, d.SaveCheckpoint(f.ctx, name, nil, *at(uint64(i), 1)))
		}
		for prefix, want := range map[string][]int{
			"":     {0, 1, 2, 3, 4, 5, 6, 7, 8},
			"p/":   {0, 1},
			"p":    {0, 1, 2, 5, 6, 7},
			"p%":   {5},
			"p_":   {6},
			"P":    {3},
			"é":    {8},
			"none": {},
		} {
			have, err := d.Checkpoints(f.ctx, prefix)
			require.NoError(f, err)
			require.Len(f, have, len(want), "prefix %q: %v", prefix, have)
			for _, i := range want {
				require.Equal(f, *at(uint64(i), 1), have[names[i]], "%q with prefix %q", names[i], prefix)
			}
		}
	})

	g.test("of many who save from the same place one wins", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		var from *driver.Checkpoint
		for round := range 5 {
			var mu sync.Mutex
			var won []driver.Checkpoint
			together(8, func(i int) {
				to := *at(uint64(10*round+i+1), 1)
				err := d.SaveCheckpoint(f.ctx, "c", from, to)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, to)
				} else if !errors.Is(err, driver.ErrMoved) {
					f.Error(err)
				}
			})
			require.Len(f, won, 1)
			has(f, "c", &won[0])
			from = &won[0]
		}
	})

	g.test("what is passed in is not kept", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		c := driver.Checkpoint{Position: 1, Data: []byte("mine")}
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, c))
		copy(c.Data, "????")
		has(f, "c", &driver.Checkpoint{Position: 1, Data: []byte("mine")})
	})
}
