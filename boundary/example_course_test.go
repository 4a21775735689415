package boundary_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type CourseDefined struct {
	Course   string
	Capacity int
}

type Subscribed struct{ Course, Student string }

var (
	ErrFull    = errors.New("the course is full")
	ErrTooMany = errors.New("the student has two courses already")
)

// enrolment is all that matters when a student wants to join a course: the course, its students, and the
// courses of this student.
type enrolment struct {
	capacity, taken, courses int
	joined                   bool
}

func subscribe(ctx context.Context, tags *eventstore.TagStore, course, student string) error {
	_, err := boundary.Decide(ctx, tags, boundary.Model[enrolment]{
		Query: eventstore.Query{
			{Types: []string{"course.defined", "course.subscribed"}, Tags: []string{"course:" + course}},
			{Types: []string{"course.subscribed"}, Tags: []string{"student:" + student}},
		},
		Apply: func(s *enrolment, r *eventstore.Recorded) {
			switch e := r.Data.(type) {
			case CourseDefined:
				s.capacity = e.Capacity
			case Subscribed:
				if e.Course == course {
					s.taken++
				}
				if e.Student == student {
					s.courses++
				}
				s.joined = s.joined || e == Subscribed{course, student}
			}
		},
	}, func(s enrolment) ([]eventstore.To, error) {
		switch {
		case s.joined:
			return nil, nil
		case s.taken >= s.capacity:
			return nil, ErrFull
		case s.courses >= 2:
			return nil, ErrTooMany
		}
		return []eventstore.To{{
			Stream: eventstore.Stream("subscription", course+"/"+student),
			Event:  eventstore.Event{Data: Subscribed{course, student}, Tags: []string{"course:" + course, "student:" + student}},
		}}, nil
	})
	return err
}

// Two rules that span a course and a student: a course has so many places, and a student takes at most two.
func ExampleDecide_course() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("course.defined", CourseDefined{})
	store.Types.Register("course.subscribed", Subscribed{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, course := range []string{"go", "sql", "css"} {
		event := eventstore.Event{Data: CourseDefined{course, 2}, Tags: []string{"course:" + course}}
		if _, err := store.Append(ctx, eventstore.Stream("course", course), eventstore.NoStream, event); err != nil {
			fmt.Println(err)
		}
	}
	for _, s := range [][2]string{{"go", "ann"}, {"go", "ann"}, {"go", "bob"}, {"go", "cid"}, {"sql", "ann"}, {"css", "ann"}} {
		fmt.Println(s, subscribe(ctx, tags, s[0], s[1]))
	}
	// Output:
	// [go ann] <nil>
	// [go ann] <nil>
	// [go bob] <nil>
	// [go cid] the course is full
	// [sql ann] <nil>
	// [css ann] the student has two courses already
}
