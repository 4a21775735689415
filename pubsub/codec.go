package pubsub

import "encoding/json"

// A Codec turns values into bytes for other processes, and back. It must be safe
// for concurrent use. A panic is recovered: of Marshal it becomes the error of
// publishing, of Unmarshal it costs one message.
type Codec[T any] interface {
	// Marshal encodes v. The result must not be changed afterwards.
	Marshal(v T) ([]byte, error)
	// Unmarshal decodes data, which it must neither change nor keep.
	Unmarshal(data []byte) (T, error)
}

// JSON is the codec of topics that name none: encoding/json.
type JSON[T any] struct{}

// Marshal is json.Marshal.
func (JSON[T]) Marshal(v T) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is json.Unmarshal into a new T.
func (JSON[T]) Unmarshal(data []byte) (T, error) {
	var v T
	err := json.Unmarshal(data, &v)
	return v, err
}

func marshal[T any](c Codec[T], v T) (data []byte, err error) {
	defer guard(&err)
	return c.Marshal(v)
}

func unmarshal[T any](c Codec[T], data []byte) (v T, err error) {
	defer guard(&err)
	return c.Unmarshal(data)
}
