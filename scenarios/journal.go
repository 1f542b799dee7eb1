package scenarios

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mailbench/mailbench/reference/cluster"
)

// clusterJournal is the path of the journal of faults that are made by hand on a
// cluster of that name. It must outlive the working directory and a reboot, as
// the cluster may.
func clusterJournal(name string) (string, error) {
	folder := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(folder) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for the cluster's journal: %w; set XDG_STATE_HOME", err)
		}
		folder = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(folder, "mailbench", "clusters", name+".jsonl"), nil
}

// dropJournal removes the journal of a cluster by hand that is no more, so that
// the next of its name begins afresh. That of a run is the run's.
func dropJournal(name string) error {
	path, err := clusterJournal(name)
	if err != nil {
		return nil // there never was one
	}
	if err := errors.Join(removeIfThere(path), removeIfThere(path+lockSuffix)); err != nil {
		return fmt.Errorf("remove the journal of the cluster: %w", err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

const lockSuffix = ".lock"

// lockJournal makes this process the one that breaks or heals a cluster, until
// release, or its own end. A cluster without a journal is anybody's.
func lockJournal(info cluster.Info) (release func(), err error) {
	if info.Journal == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(info.Journal+lockSuffix, os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil // the run's directory is gone, and its journal with it
	}
	if err != nil {
		return nil, fmt.Errorf("lock the journal of cluster %s: %w", info.RunID, err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(&BusyError{Name: info.RunID}, f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
