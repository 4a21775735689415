package natsstore

import (
	"os"
	"testing"

	"github.com/levada-go/levada/internal/natstest"
)

func TestMain(m *testing.M) { os.Exit(natstest.Main(m)) }
