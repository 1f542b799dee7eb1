// Package strictyaml reads settings from YAML as a person should be told about
// them: each value is tied to a field with its range, what is unknown, written
// twice or out of its range is a mistake with file, line and column, and all
// mistakes of a file are reported together. It writes the same values back.
package strictyaml
