package boundary_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Registered struct{ User, Name string }

type Renamed struct{ User, Old, New string }

var ErrTaken = errors.New("the name is taken")

// nameTag folds case, so that Ann and ann are one name.
func nameTag(name string) string { return "name:" + strings.ToLower(name) }

// owner is who has the name.
func owner(name string) boundary.Model[string] {
	return boundary.Model[string]{
		Query: eventstore.Query{{Types: []string{"user.registered", "user.renamed"}, Tags: []string{nameTag(name)}}},
		Apply: func(s *string, r *eventstore.Recorded) {
			switch e := r.Data.(type) {
			case Registered:
				*s = e.User
			case Renamed:
				if *s = ""; nameTag(e.New) == nameTag(name) {
					*s = e.User
				}
			}
		},
	}
}

// A name belongs to one user at a time, and is free again when its owner takes another.
func ExampleDecide_name() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("user.registered", Registered{})
	store.Types.Register("user.renamed", Renamed{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	take := func(name string, e any, about ...string) {
		_, err := boundary.Decide(ctx, tags, owner(name), func(user string) ([]eventstore.To, error) {
			if user != "" {
				return nil, ErrTaken
			}
			event := eventstore.Event{Data: e, Tags: append(about, nameTag(name))}
			return []eventstore.To{{Stream: "users", Event: event}}, nil
		})
		fmt.Println(e, err)
	}
	take("Ann", Registered{"1", "Ann"})
	take("ann", Registered{"2", "ann"})
	take("Anna", Renamed{"1", "Ann", "Anna"}, nameTag("Ann"))
	take("ann", Registered{"2", "ann"})
	user, _, err := boundary.Load(ctx, tags, owner("ANNA"))
	fmt.Println("anna is", user, err)
	// Output:
	// {1 Ann} <nil>
	// {2 ann} the name is taken
	// {1 Ann Anna} <nil>
	// {2 ann} <nil>
	// anna is 1 <nil>
}
