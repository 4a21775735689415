package boundary_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A Room decides by itself how many it seats; who has booked it is decided with the guest's other bookings.
type Room struct{ Seats, Taken int }

type RoomSet struct{ Seats int }

type RoomBooked struct{ Room, Guest string }

func (e RoomSet) Apply(r *Room)    { r.Seats = e.Seats }
func (e RoomBooked) Apply(r *Room) { r.Taken++ }

type SetRoom struct {
	Room  string
	Seats int
}

func (c SetRoom) AggregateID() string { return c.Room }

func (c SetRoom) Execute(r Room) ([]aggregate.Event[Room], error) {
	if c.Seats < r.Taken {
		return nil, errors.New("more have booked")
	}
	return []aggregate.Event[Room]{RoomSet{c.Seats}}, nil
}

var Rooms = &aggregate.Type[Room]{
	Name:   "room",
	Events: aggregate.Events[Room]{"room.set": RoomSet{}, "room.booked": RoomBooked{}},
	Tags: func(room string, _ aggregate.Event[Room]) []string {
		return []string{"room:" + room}
	},
}

// booking is what must be known to give a guest a seat: the room's events, whoever appended them, and the guest's.
type booking struct {
	seats, taken int
	elsewhere    bool
}

func book(ctx context.Context, tags *eventstore.TagStore, room, guest string) error {
	_, err := boundary.Decide(ctx, tags, boundary.Model[booking]{
		Query: eventstore.Query{{Tags: []string{"room:" + room}}, {Tags: []string{"guest:" + guest}}},
		Apply: func(s *booking, r *eventstore.Recorded) {
			switch e := r.Data.(type) {
			case RoomSet:
				s.seats = e.Seats
			case RoomBooked:
				if e.Room == room {
					s.taken++
				}
				s.elsewhere = s.elsewhere || e.Guest == guest
			}
		},
	}, func(s booking) ([]eventstore.To, error) {
		if s.taken >= s.seats || s.elsewhere {
			return nil, errors.New("no")
		}
		event := eventstore.Event{Data: RoomBooked{room, guest}, Tags: []string{"room:" + room, "guest:" + guest}}
		return []eventstore.To{{Stream: eventstore.Stream("room", room), Event: event}}, nil
	})
	return err
}

// An aggregate and decisions about boundaries share a stream, and see what the other did.
func ExampleDecide_aggregate() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	rooms, err := aggregate.New(store, Rooms)
	if err != nil {
		fmt.Println(err)
		return
	}
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	set := func(seats int) {
		_, err := rooms.Execute(ctx, SetRoom{"blue", seats})
		fmt.Println(seats, "seats:", err)
	}
	set(1)
	fmt.Println("ann:", book(ctx, tags, "blue", "ann"))
	fmt.Println("bob:", book(ctx, tags, "blue", "bob"))
	set(2)
	fmt.Println("bob:", book(ctx, tags, "blue", "bob"))
	set(1)

	// Output:
	// 1 seats: <nil>
	// ann: <nil>
	// bob: no
	// 2 seats: <nil>
	// bob: <nil>
	// 1 seats: more have booked
}
