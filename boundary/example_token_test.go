package boundary_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type SignUpBegun struct {
	Email, Token string
	Until        time.Time
}

type SignUpConfirmed struct{ Email, Token string }

var (
	ErrNoToken = errors.New("no such sign-up")
	ErrUsed    = errors.New("the sign-up is confirmed already")
	ErrExpired = errors.New("the sign-up has expired")
)

type signUp struct {
	begun     SignUpBegun
	confirmed bool
}

// A token that was sent by mail confirms one sign-up, once, in time. There is no table of tokens.
func ExampleDecide_optIn() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("signup.begun", SignUpBegun{})
	store.Types.Register("signup.confirmed", SignUpConfirmed{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	begun := eventstore.Event{
		Data: SignUpBegun{"ann@example.com", "f3c1", noon.Add(time.Hour)},
		Tags: []string{"token:f3c1"},
	}
	if _, err := store.Append(ctx, eventstore.Stream("signup", "ann@example.com"), eventstore.NoStream, begun); err != nil {
		fmt.Println(err)
	}
	confirm := func(token string, now time.Time) error {
		_, err := boundary.Decide(ctx, tags, boundary.Model[signUp]{
			Query: eventstore.Query{{Tags: []string{"token:" + token}}},
			Apply: func(s *signUp, r *eventstore.Recorded) {
				switch e := r.Data.(type) {
				case SignUpBegun:
					s.begun = e
				case SignUpConfirmed:
					s.confirmed = true
				}
			},
		}, func(s signUp) ([]eventstore.To, error) {
			switch {
			case s.begun.Token == "":
				return nil, ErrNoToken
			case s.confirmed:
				return nil, ErrUsed
			case now.After(s.begun.Until):
				return nil, ErrExpired
			}
			return []eventstore.To{{
				Stream: eventstore.Stream("signup", s.begun.Email),
				Event:  eventstore.Event{Data: SignUpConfirmed{s.begun.Email, token}, Tags: []string{"token:" + token}},
			}}, nil
		})
		return err
	}
	fmt.Println(confirm("0000", noon))
	fmt.Println(confirm("f3c1", noon.Add(2*time.Hour)))
	fmt.Println(confirm("f3c1", noon.Add(time.Minute)))
	fmt.Println(confirm("f3c1", noon.Add(time.Minute)))
	// Output:
	// no such sign-up
	// the sign-up has expired
	// <nil>
	// the sign-up is confirmed already
}
