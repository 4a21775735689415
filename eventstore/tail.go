package eventstore

import "github.com/levada-go/levada/eventstore/driver"

type tail struct{ s *Store }

func (t *tail) init(s *Store)                            { t.s = s }
func (t *tail) close()                                   {}
func (t *tail) poke()                                    {}
func (t *tail) appended(a *prepared, res *driver.Result) {}
