package quote

import "github.com/levada-go/levada/aggregate"

// A Remark is what somebody says about a quote.
type Remark struct {
	Quote, By, Text string
	Made            bool
}

// Remarks keeps each remark in a stream of its own.
var Remarks = &aggregate.Type[Remark]{
	Name:   "remark",
	Events: aggregate.Events[Remark]{"remark.made": Made{}},
}

// Made says that a remark was made.
type Made struct{ Quote, By, Text string }

func (e Made) Apply(r *Remark) { *r = Remark{e.Quote, e.By, e.Text, true} }

// Say makes a remark on a quote.
type Say struct{ ID, Quote, By, Text string }

func (c Say) AggregateID() string { return c.ID }

func (c Say) Execute(r Remark) ([]aggregate.Event[Remark], error) {
	if r.Made {
		return nil, ErrTaken
	}
	if c.Quote == "" {
		return nil, ErrNoQuote
	}
	said, err := text("text", c.Text, 1, MaxRemark)
	if err != nil {
		return nil, err
	}
	return []aggregate.Event[Remark]{Made{c.Quote, c.By, said}}, nil
}
