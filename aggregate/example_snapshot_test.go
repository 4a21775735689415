package aggregate_test

import (
	"context"
	"fmt"
	"log"
	"maps"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A Meter remembers what every sensor has shown.
type Meter struct{ Readings map[string]int }

// Clone makes it cheap to take back a command whose append failed.
func (m Meter) Clone() Meter { return Meter{maps.Clone(m.Readings)} }

// Read is what happens to it.
type Read struct {
	Sensor string
	Value  int
}

func (e Read) Apply(m *Meter) {
	if m.Readings == nil {
		m.Readings = map[string]int{}
	}
	m.Readings[e.Sensor] = e.Value
}

// Record records what a sensor shows.
type Record struct {
	Meter, Sensor string
	Value         int
}

func (c Record) AggregateID() string { return c.Meter }

func (c Record) Execute(m Meter) ([]aggregate.Event[Meter], error) {
	if have, ok := m.Readings[c.Sensor]; ok && have == c.Value {
		return nil, nil
	}
	return []aggregate.Event[Meter]{Read{c.Sensor, c.Value}}, nil
}

// A meter with a long life is not folded from its first event every time. The
// snapshot is written in the background, here after every hundred events; raising
// SnapshotSchema makes old ones count for nothing.
func Example_snapshot() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	meters := &aggregate.Type[Meter]{
		Name:           "meter",
		Events:         aggregate.Events[Meter]{"meter.read": Read{}},
		SnapshotEvery:  100,
		SnapshotSchema: 1,
		Idle:           time.Hour,
	}
	r, err := aggregate.New(store, meters)
	if err != nil {
		log.Fatal(err)
	}
	for i := range 250 {
		if _, err := r.Execute(ctx, Record{"m1", "boiler", i}); err != nil {
			log.Fatal(err)
		}
	}
	var snap eventstore.Snapshot
	for snap.Version < 200 {
		if snap, err = store.LoadSnapshot(ctx, "meter-m1"); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("version %d: %s\n", snap.Version, snap.Data)
	// Output:
	// version 200: {"Readings":{"boiler":199}}
}
