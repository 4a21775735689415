package form

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// setter sets a field from the values of its name, of which there is one at least. It returns what is wrong with
// them, "" for nothing.
type setter func(v reflect.Value, values []string) (problem string)

// parser sets a value from one that is not empty, but for strings.
type parser func(v reflect.Value, value string) (problem string)

const notValid = "is not valid"

// setterOf returns the setter of a type, nil for types that values cannot be decoded into.
func setterOf(t reflect.Type) setter {
	if parse := parserOf(t); parse != nil {
		keepsEmpty := t.Kind() == reflect.String && !reflect.PointerTo(t).Implements(textType)
		return func(v reflect.Value, values []string) string {
			value := values[len(values)-1]
			if value == "" && !keepsEmpty {
				return ""
			}
			return parse(v, value)
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		set := setterOf(t.Elem())
		if set == nil || t.Elem().Kind() == reflect.Pointer || t.Elem().Kind() == reflect.Slice {
			return nil
		}
		return func(v reflect.Value, values []string) string {
			if values[len(values)-1] == "" {
				return ""
			}
			target := reflect.New(t.Elem())
			problem := set(target.Elem(), values)
			if problem == "" {
				v.Set(target)
			}
			return problem
		}
	case reflect.Slice:
		elem := t.Elem()
		parse := parserOf(elem)
		if parse == nil {
			return nil
		}
		keepsEmpty := elem.Kind() == reflect.String
		return func(v reflect.Value, values []string) string {
			list := reflect.MakeSlice(t, 0, len(values))
			for _, value := range values {
				if value == "" && !keepsEmpty {
					continue
				}
				item := reflect.New(elem).Elem()
				if problem := parse(item, value); problem != "" {
					return problem
				}
				list = reflect.Append(list, item)
			}
			v.Set(list)
			return ""
		}
	}
	return nil
}

// parserOf returns the parser of a type, nil for types that hold no single value.
func parserOf(t reflect.Type) parser {
	switch {
	case t == timeType:
		return parseTime
	case t == durationType:
		return parseDuration
	case reflect.PointerTo(t).Implements(textType):
		return parseText
	}
	switch t.Kind() {
	case reflect.String:
		return parseString
	case reflect.Bool:
		return parseBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return parseInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return parseUint
	case reflect.Float32, reflect.Float64:
		return parseFloat
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return func(v reflect.Value, value string) string {
				v.SetBytes([]byte(value))
				return ""
			}
		}
	}
	return nil
}

// expected says in words what a type takes.
func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "must be text"
	case reflect.Bool:
		return "must be yes or no"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "must be a whole number"
	case reflect.Float32, reflect.Float64:
		return "must be a number"
	case reflect.Slice, reflect.Array:
		return "must be a list"
	}
	return notValid
}

func parseString(v reflect.Value, value string) string {
	if !utf8.ValidString(value) {
		return expected(v.Type())
	}
	v.SetString(value)
	return ""
}

func parseBool(v reflect.Value, value string) string {
	switch strings.ToLower(value) {
	case "on", "true", "yes", "1":
		v.SetBool(true)
	case "off", "false", "no", "0":
		v.SetBool(false)
	default:
		return expected(v.Type())
	}
	return ""
}

func parseInt(v reflect.Value, value string) string {
	bits := v.Type().Bits()
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, bits)
	switch {
	case errors.Is(err, strconv.ErrRange) && n < 0:
		return fmt.Sprintf("must be at least %d", n)
	case errors.Is(err, strconv.ErrRange):
		return fmt.Sprintf("must be at most %d", n)
	case err != nil:
		return expected(v.Type())
	}
	v.SetInt(n)
	return ""
}

func parseUint(v reflect.Value, value string) string {
	value = strings.TrimPrefix(strings.TrimSpace(value), "+")
	if rest, negative := strings.CutPrefix(value, "-"); negative && rest != "" && strings.Trim(rest, "0123456789") == "" {
		if strings.Trim(rest, "0") != "" {
			return "must not be negative"
		}
		value = "0"
	}
	n, err := strconv.ParseUint(value, 10, v.Type().Bits())
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Sprintf("must be at most %d", n)
	case err != nil:
		return expected(v.Type())
	}
	v.SetUint(n)
	return ""
}

// parseFloat takes decimal numbers only: not the hexadecimal ones, infinities and NaN that strconv knows.
func parseFloat(v reflect.Value, value string) string {
	value = strings.TrimSpace(value)
	if strings.Trim(value, "0123456789+-.eE") != "" {
		return expected(v.Type())
	}
	f, err := strconv.ParseFloat(value, v.Type().Bits())
	switch {
	case errors.Is(err, strconv.ErrRange) && math.Signbit(f):
		return "is too small"
	case errors.Is(err, strconv.ErrRange):
		return "is too large"
	case err != nil:
		return expected(v.Type())
	}
	v.SetFloat(f)
	return ""
}

// timeLayouts are those of inputs of the types datetime-local, with and without seconds, and date.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02 15:04:05", time.DateOnly}

func parseTime(v reflect.Value, value string) string {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, strings.TrimSpace(value)); err == nil {
			v.Set(reflect.ValueOf(t))
			return ""
		}
	}
	return "must be a date and time"
}

func parseDuration(v reflect.Value, value string) string {
	d, err := time.ParseDuration(strings.TrimSpace(value))
	if err != nil {
		return "must be a duration, such as 90s or 1h30m"
	}
	v.SetInt(int64(d))
	return ""
}

func parseText(v reflect.Value, value string) string {
	if !utf8.ValidString(value) || v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value)) != nil {
		return notValid
	}
	return ""
}
