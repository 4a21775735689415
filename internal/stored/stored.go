// Package stored keeps commands as bytes, under names that outlive their Go types.
package stored

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// ErrUnnamed reports a command that cannot be kept: its type has no stored name.
var ErrUnnamed = errors.New("the command's type has no stored name")

// Commands maps stored names to types of commands. The zero Commands is empty.
type Commands struct {
	byName map[string]reflect.Type
	byType map[reflect.Type]string
}

// New returns Commands with the names of named, which are given by example. It
// reports every name that cannot be one, every type that has two, and every type of
// which JSON would lose a part.
func New(named map[string]command.Command) (*Commands, error) {
	c := &Commands{map[string]reflect.Type{}, map[reflect.Type]string{}}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(named)) {
		rt := reflect.TypeOf(named[name])
		if rt == nil {
			faults = append(faults, fmt.Errorf("command %q: %w: nil", name, eventstore.ErrInvalid))
			continue
		}
		value := rt
		if rt.Kind() == reflect.Pointer {
			value = rt.Elem()
		}
		// The rules for the names and fields of events hold for commands as well.
		var types eventstore.Types
		if err := types.Register(name, reflect.Zero(value).Interface()); err != nil {
			faults = append(faults, fmt.Errorf("command %T: %w", named[name], err))
			continue
		}
		if other, ok := c.byType[rt]; ok {
			faults = append(faults, fmt.Errorf("command %v: %w: it is named both %q and %q", rt, eventstore.ErrInvalid, other, name))
		}
		c.byName[name], c.byType[rt] = rt, name
	}
	return c, errors.Join(faults...)
}

// Type returns the Go type of the commands of a name, as it is printed; the name itself if there is none.
func (c *Commands) Type(name string) string {
	if rt, ok := c.byName[name]; ok {
		return rt.String()
	}
	return name
}

// Encode returns the name and the JSON of a command, or an ErrUnnamed.
func (c *Commands) Encode(cmd command.Command) (name string, data json.RawMessage, err error) {
	name, ok := c.byType[reflect.TypeOf(cmd)]
	if !ok {
		return "", nil, fmt.Errorf("%w: %w: %T", eventstore.ErrInvalid, ErrUnnamed, cmd)
	}
	data, err = json.Marshal(cmd)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %T: %w", eventstore.ErrCodec, cmd, err)
	}
	return name, data, nil
}

// Decode returns the command that Encode was given. Fields that the type does not
// have any more are left out, as with events.
func (c *Commands) Decode(name string, data json.RawMessage) (command.Command, error) {
	rt, ok := c.byName[name]
	if !ok {
		return nil, fmt.Errorf("%w: no command is named %.80q", ErrUnnamed, name)
	}
	value := rt
	if rt.Kind() == reflect.Pointer {
		value = rt.Elem()
	}
	p := reflect.New(value)
	if err := json.Unmarshal(data, p.Interface()); err != nil {
		return nil, fmt.Errorf("%w: command %s: %w", eventstore.ErrCodec, name, err)
	}
	if rt.Kind() == reflect.Pointer {
		return p.Interface().(command.Command), nil
	}
	return p.Elem().Interface().(command.Command), nil
}
