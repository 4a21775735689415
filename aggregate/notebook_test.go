package aggregate_test

import (
	"math"
	"strings"

	"github.com/levada-go/levada/aggregate"
)

// A notebook is an aggregate whose state has references, and whose events can be
// large, or impossible to encode.
type notebook struct {
	Sizes []int
	Last  map[string]int
}

type written struct {
	Text string
	N    float64
}

func (e written) Apply(n *notebook) {
	n.Sizes = append(n.Sizes, len(e.Text))
	if n.Last == nil {
		n.Last = map[string]int{}
	}
	n.Last["size"] = len(e.Text)
}

// write writes Size letters; a negative size cannot be encoded.
type write struct {
	ID   string
	Size int
}

func (c write) AggregateID() string { return c.ID }

func (c write) Execute(notebook) ([]aggregate.Event[notebook], error) {
	if c.Size < 0 {
		return []aggregate.Event[notebook]{written{N: math.NaN()}}, nil
	}
	return []aggregate.Event[notebook]{written{Text: strings.Repeat("x", c.Size)}}, nil
}

func notes() *aggregate.Type[notebook] {
	return &aggregate.Type[notebook]{Name: "notebook", Events: aggregate.Events[notebook]{"written": written{}}}
}
