package results

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ReplaceFile writes a file beside path and renames it when it is whole and on
// the disk: a reader sees the old one or the new one, and so does who comes
// after a crash.
func ReplaceFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	err = cmp.Or(write(buffered), buffered.Flush(), f.Chmod(0o644))
	err = cmp.Or(err, syncClose(f))
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // nothing more can be done about it
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
