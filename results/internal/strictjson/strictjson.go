// Package strictjson decodes the files that mailbench wrote itself, and may hold nothing else.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Decode decodes a JSON object with a field "schema", which must be schema, and with no
// fields but those of into. Errors say where the mistake is.
func Decode(text []byte, schema string, into any) error {
	var head struct{ Schema string }
	if err := json.Unmarshal(text, &head); err != nil {
		return errors.New(where(text, err))
	}
	if head.Schema != schema {
		return fmt.Errorf("its schema is %q, this program reads %q", head.Schema, schema)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New(where(text, err))
	}
	return nil
}

// where adds line and column to a mistake in JSON.
func where(text []byte, err error) string {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
		offset int64
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return err.Error()
	}
	before := text[:min(offset, int64(len(text)))]
	line, column := bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d: %v", line, column, err)
}
