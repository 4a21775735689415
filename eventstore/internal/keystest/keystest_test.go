package keystest_test

import (
	"testing"

	"github.com/levada-go/levada/eventstore/internal/keystest"
	"github.com/levada-go/levada/eventstore/shred"
)

func TestKeysInMemory(t *testing.T) {
	t.Parallel()
	keystest.Run(t, &shred.Memory{})
}
